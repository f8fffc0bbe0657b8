//! Guards that the simulation takes out, one at a time, to see that it notices. In every other build all
//! of them are in, and this is nothing.

/// A guard that can be taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// The lease counts whole, without drift and margin (F-a).
    LeaseMargin,
    /// An acknowledgement counts from when its answer came (hole 4).
    SendTime,
    /// Each promise counts as long as this member's own (hole 3).
    GrantedLength,
    /// A member votes as soon as it has started (hole 2).
    QuarantineVote,
    /// A member campaigns as soon as it has started (hole 2).
    QuarantineCampaign,
    /// The quarantine does not count what was granted before (hole 3).
    LongestLease,
    /// Bytes leave without a look at the gate (hole 5).
    BodyCheck,
    /// A call outlives its lease, and the gate lets pass what was permitted under an earlier claim: two
    /// guards, one behind the other.
    Superseded,
    /// A permit needs no applied claim.
    ClaimBeforeCall,
    /// A swap does not wait for its intent to be committed.
    Intent,
    /// The gate stays open through a transfer (hole 7).
    ClosedBeforeTransfer,
    /// After the trigger the term's permit opens again, if the lease still lasts (hole 7).
    SpentTerm,
    /// A leader with an open permit votes for others.
    VoteWhileLeading,
    /// A pre-vote is always granted (hole 6).
    PreVote,
    /// A restarted leader resumes its term (hole 1).
    LeaderRestore,
    /// A message for another incarnation is taken (hole 9).
    TargetIncarnation,
    /// What is acknowledged need not be saved (hole 8).
    AcknowledgedBeforeSaved,
    /// The routes are read once after a claim, and not again (F-c).
    ReadBack,
    /// Calls of an earlier claim with no known outcome are forgotten (F-c).
    Stray,
    /// A route is rewritten as often as a look shows it wrong.
    Pace,
    /// The address stays when another owns.
    ReleaseAddress,
    /// A drained member that leads claims, and its claim counts: two guards, one behind the other.
    Drained,
    /// One member's word that the leader has ended is enough for its vote.
    OneSawTheEnd,
    /// A lifeline's reset is taken for its end.
    ResetIsFin,
    /// A member goes on acknowledging a leader that has ended.
    DeafToTheDead,
    /// A promise binds by openraft's lease alone, which is off once the leader was thought to have ended.
    OwnPromise,
}

impl Mutant {
    pub const ALL: &[Mutant] = &[
        Mutant::LeaseMargin,
        Mutant::SendTime,
        Mutant::GrantedLength,
        Mutant::QuarantineVote,
        Mutant::QuarantineCampaign,
        Mutant::LongestLease,
        Mutant::BodyCheck,
        Mutant::Superseded,
        Mutant::ClaimBeforeCall,
        Mutant::Intent,
        Mutant::ClosedBeforeTransfer,
        Mutant::SpentTerm,
        Mutant::VoteWhileLeading,
        Mutant::PreVote,
        Mutant::LeaderRestore,
        Mutant::TargetIncarnation,
        Mutant::AcknowledgedBeforeSaved,
        Mutant::ReadBack,
        Mutant::Stray,
        Mutant::Pace,
        Mutant::ReleaseAddress,
        Mutant::Drained,
        Mutant::OneSawTheEnd,
        Mutant::ResetIsFin,
        Mutant::DeafToTheDead,
        Mutant::OwnPromise,
    ];
}

/// Whether that guard is out.
#[cfg(not(feature = "sim"))]
#[inline]
pub const fn on(_: Mutant) -> bool {
    false
}

#[cfg(feature = "sim")]
pub use switch::{on, set};

#[cfg(feature = "sim")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static OUT: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether that guard is out, on this thread.
    pub fn on(mutant: Mutant) -> bool {
        OUT.get() == Some(mutant)
    }

    /// Takes one guard out, or puts all in, on this thread.
    pub fn set(mutant: Option<Mutant>) {
        OUT.set(mutant);
    }
}
