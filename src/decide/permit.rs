//! The fence: a permit, and the gate at which it is checked as the bytes leave
//! (FENCING.md, F-a).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::route::Fenced;
use crate::model::{Epoch, Term, Time};
use crate::mutant::{self, Mutant};

/// Proof that this member led `term`, that its claim `epoch` was applied and the newest, and that
/// its lease was valid when the permit was minted. Whoever takes something (a route, the address)
/// asks for one; letting go needs none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permit {
    term: Term,
    epoch: Epoch,
    deadline: Time,
}

impl Permit {
    /// Only `decide` mints, and only from its lease arithmetic.
    pub(super) fn mint(term: Term, epoch: Epoch, deadline: Time) -> Self {
        Self { term, epoch, deadline }
    }

    /// For tests of the adapters, which need a permit and have no group, and of the simulation's invariants. A release
    /// build has none of it, and a test checks that nothing that ships calls it.
    #[cfg(any(test, debug_assertions, feature = "sim"))]
    #[doc(hidden)]
    pub fn for_tests(term: Term, epoch: Epoch, deadline: Time) -> Self {
        Self::mint(term, epoch, deadline)
    }

    pub fn term(&self) -> Term {
        self.term
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The lease's end as it was known at minting.
    pub fn deadline(&self) -> Time {
        self.deadline
    }
}

/// What is open now. `decide` says so, the driver sets it, and whoever is about to hand a byte to a
/// socket reads it.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    margin: Duration,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Permit>,
    /// The highest term in which this member voted for another: nothing of an earlier one passes.
    voted: Term,
}

impl Gate {
    /// Closed. `margin` is kept free before each deadline.
    pub fn new(margin: Duration) -> Self {
        Self { state: Mutex::default(), margin }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what is open; `None` closes.
    pub fn set(&self, permit: Option<Permit>) {
        self.state().open = permit;
    }

    /// This member is about to vote for another in `term`: whatever is open of an earlier term is
    /// closed for good, before the vote is known to anybody.
    pub fn voted(&self, term: Term) {
        let mut state = self.state();
        if !mutant::on(Mutant::VoteShutsGate) {
            state.voted = state.voted.max(term);
        }
    }

    /// What is open now.
    pub fn current(&self) -> Option<Permit> {
        let state = self.state();
        state.open.filter(|p| p.term >= state.voted)
    }

    /// Whether a byte of a call under `permit` may leave at `now`: the gate is open for the same
    /// term and claim, and `now + margin` is before the lease's end as it is known now.
    pub fn check(&self, permit: &Permit, now: Time) -> Result<(), Fenced> {
        let open = self.current().ok_or(Fenced::Closed)?;
        if (open.term, open.epoch) != (permit.term, permit.epoch) && !mutant::on(Mutant::GateEpoch) {
            return Err(Fenced::Superseded);
        }
        let margin = if mutant::on(Mutant::Margin) { Duration::ZERO } else { self.margin };
        if now + margin >= open.deadline {
            return Err(Fenced::LeaseOver);
        }
        Ok(())
    }
}
