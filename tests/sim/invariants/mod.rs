//! What must hold at every moment, one property a file.
//!
//! | property | source | file |
//! |---|---|---|
//! | one leader in a term, and in one life | Raft paper, section 5.2; FENCING.md, hole 1 | `one_leader` |
//! | one vote in a term | Raft paper, section 5.2 | `one_vote` |
//! | no vote while a promise stands | FENCING.md, holes 2 and 3 | `promise_kept` |
//! | a leader that has ended is not acknowledged | FENCING.md, section 2 | `deaf_to_the_dead` |
//! | never two open permits at one instant | FENCING.md, F-a | `one_permit` |
//! | no attempt outlives its time or its lease | FENCING.md, F-b | `bounded_attempt` |
//! | a call follows its caller's own applied claim and a committed intent | FENCING.md, F-a | `claimed_call` |
//! | a call leaves inside the lease, and before a later leader | FENCING.md, F-a | `leased_call` |
//! | epochs at EC2 do not fall by send time | FENCING.md, F-a | `rising_epochs` |
//! | no call after a transfer began | FENCING.md, hole 7 | `no_call_after_transfer` |
//! | a transfer waits for the calls in the air | FENCING.md, hole 7 | `quiet_transfer` |
//! | no call under a claim made while drained, nor in quarantine | DESIGN.md section 4; FENCING.md, hole 2 | `fit_caller` |
//! | what is acknowledged is saved | Raft paper, section 5; FENCING.md, hole 8 | `acknowledged_saved` |
//! | nothing acknowledged is lost: what is applied stays, and every later leader has it | Raft paper, section 5.4.3 | `nothing_lost` |
//! | equal applied index means equal ledger; a snapshot and its tail equal a replay | Raft paper, section 7 | `same_ledger` |
//! | a route is rewritten at most once a second | DESIGN.md section 5, budget | `no_storm` |
//! | in calm, nothing moves | FAULTS 28, 29 | `no_flapping` |
//!
//! What only the whole can show (route = owner = address, a wrong route right again within R) is in
//! `healed`.

mod acknowledged_saved;
mod bounded_attempt;
mod claimed_call;
mod deaf_to_the_dead;
mod fit_caller;
pub mod healed;
mod leased_call;
mod no_call_after_transfer;
mod no_flapping;
mod no_storm;
mod nothing_lost;
mod one_leader;
mod one_permit;
mod one_vote;
mod promise_kept;
mod quiet_transfer;
mod rising_epochs;
mod same_ledger;

use std::time::Duration;

use vipd::decide::{Fenced, Permit, RaftView};
use vipd::ledger::Ledger;
use vipd::model::route::Swap;
use vipd::model::{Incarnation, Name, Term, Time};
use vipd::raft::store::Applied;

use crate::disk::Disk;

/// What the referee sees.
pub enum Seen<'a> {
    Begins {
        seat: usize,
        /// On its own clock.
        quarantined_until: Time,
        me: Incarnation,
    },
    Leads {
        me: Incarnation,
        life: u64,
        term: Term,
        disk: &'a Disk,
    },
    /// Given to another, or to itself, which is known from its asking for others'.
    Votes {
        voter: Incarnation,
        term: Term,
        candidate: Incarnation,
        /// What was open at the voter's own gate when it was asked, or is as its answer leaves.
        open: Option<Permit>,
        /// The request says that a leader hands over to the candidate.
        by_transfer: bool,
    },
    /// No vote for another before `until`, in true time.
    Promises {
        voter: Incarnation,
        leader: Incarnation,
        term: Term,
        until: Duration,
    },
    /// The leader at `seat` learns of a promise: what left at `sent` was accepted.
    Acknowledged {
        seat: usize,
        voter: Incarnation,
        term: Term,
        sent: Time,
        granted: Duration,
    },
    /// An answer leaves: the log is the leader's up to that entry.
    Appended {
        me: Incarnation,
        index: u64,
        term: u64,
        disk: &'a Disk,
    },
    Transfers {
        leader: Incarnation,
        term: Term,
        to: Incarnation,
        /// Its own calls of that term that have left, and that it is still waiting for.
        in_the_air: usize,
    },
    /// An attempt that has not ended.
    InTheAir(&'a InTheAir),
    /// The process that led up to `term` is gone: no promise to it binds any more.
    Dies {
        leader: Incarnation,
        term: Term,
    },
    /// In a request for votes: the leader of `term` has ended. Term 0: none has.
    CallsDead {
        member: Incarnation,
        term: Term,
    },
    Open {
        permits: &'a [(usize, Permit)],
    },
    Applied {
        seat: usize,
        applied: &'a Applied,
        disk: &'a Disk,
    },
    Called(Call<'a>),
    /// All faults are over.
    Calm,
    /// They begin again.
    Stir,
}

/// A call that was handed out and has not ended. Times are true, without those for which its caller was frozen.
#[derive(Debug)]
pub struct InTheAir {
    pub seat: usize,
    pub permit: Permit,
    /// For how long it has lasted.
    pub age: Duration,
    /// For how long its caller's gate has not been open for it.
    pub shut_for: Duration,
    /// The bound of an attempt, by its caller's clock.
    pub timeout: Duration,
    /// The longest lease that any member, dead or alive, has granted so far.
    pub lease: Duration,
}

/// Bytes of a mutating call leave.
pub struct Call<'a> {
    pub seat: usize,
    pub me: Incarnation,
    pub name: &'a str,
    pub swap: &'a Swap,
    pub permit: Permit,
    /// When the judgement handed it out, and now, on the caller's clock.
    pub began: Time,
    pub now: Time,
    pub margin: Duration,
    pub view: &'a RaftView,
    /// What the caller has applied.
    pub ledger: &'a Ledger,
    /// What the gate says at this very moment.
    pub gate: Result<(), Fenced>,
}

impl Call<'_> {
    pub fn words(&self) -> String {
        format!("{} under term {} epoch {}", self.name, self.permit.term(), self.permit.epoch())
    }
}

/// One property.
pub trait Invariant {
    const PROPERTY: &'static str;

    /// What is wrong, if something is.
    fn see(&mut self, at: Duration, seen: &Seen<'_>) -> Option<String>;
}

/// All of them.
#[derive(Default)]
pub struct Invariants {
    pub newest_epoch: u64,
    one_leader: one_leader::OneLeader,
    one_vote: one_vote::OneVote,
    promise_kept: promise_kept::PromiseKept,
    deaf_to_the_dead: deaf_to_the_dead::DeafToTheDead,
    one_permit: one_permit::OnePermit,
    bounded_attempt: bounded_attempt::BoundedAttempt,
    claimed_call: claimed_call::ClaimedCall,
    leased_call: leased_call::LeasedCall,
    rising_epochs: rising_epochs::RisingEpochs,
    no_call_after_transfer: no_call_after_transfer::NoCallAfterTransfer,
    quiet_transfer: quiet_transfer::QuietTransfer,
    fit_caller: fit_caller::FitCaller,
    acknowledged_saved: acknowledged_saved::AcknowledgedSaved,
    nothing_lost: nothing_lost::NothingLost,
    same_ledger: same_ledger::SameLedger,
    no_storm: no_storm::NoStorm,
    no_flapping: no_flapping::NoFlapping,
}

impl Invariants {
    /// Shows it to every one; what is wrong, with the property's name.
    pub fn see(&mut self, at: Duration, seen: &Seen<'_>) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        ask(&mut self.one_leader, at, seen, &mut wrong);
        ask(&mut self.one_vote, at, seen, &mut wrong);
        ask(&mut self.promise_kept, at, seen, &mut wrong);
        ask(&mut self.deaf_to_the_dead, at, seen, &mut wrong);
        ask(&mut self.one_permit, at, seen, &mut wrong);
        ask(&mut self.bounded_attempt, at, seen, &mut wrong);
        ask(&mut self.claimed_call, at, seen, &mut wrong);
        ask(&mut self.leased_call, at, seen, &mut wrong);
        ask(&mut self.rising_epochs, at, seen, &mut wrong);
        ask(&mut self.no_call_after_transfer, at, seen, &mut wrong);
        ask(&mut self.quiet_transfer, at, seen, &mut wrong);
        ask(&mut self.fit_caller, at, seen, &mut wrong);
        ask(&mut self.acknowledged_saved, at, seen, &mut wrong);
        ask(&mut self.nothing_lost, at, seen, &mut wrong);
        ask(&mut self.same_ledger, at, seen, &mut wrong);
        ask(&mut self.no_storm, at, seen, &mut wrong);
        ask(&mut self.no_flapping, at, seen, &mut wrong);
        wrong
    }

    /// Entries that `same_ledger` applied itself, and how often it had to go on from a member's ledger.
    pub fn replayed(&self) -> (u64, u64) {
        (self.same_ledger.replayed_in_all, self.same_ledger.taken_up)
    }
}

fn ask<I: Invariant>(i: &mut I, at: Duration, seen: &Seen<'_>, wrong: &mut Vec<(&'static str, String)>) {
    if let Some(words) = i.see(at, seen) {
        wrong.push((I::PROPERTY, words));
    }
}

/// A member's name as the ledger has it.
pub fn is_name(name: &Name, text: &str) -> bool {
    name.as_str() == text
}
