//! Guards that the simulation takes out to see that it notices: one switch, one guard. In every other build
//! all of them are in, and this is nothing.

/// A guard that can be taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// A promise counts whole, as if all clocks ran at one rate (F-a).
    Drift,
    /// Bytes leave until the very end of the lease (F-a).
    Margin,
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
    /// A call goes on when its lease ends (F-b).
    DropInAir,
    /// The gate lets pass what was permitted under an earlier claim.
    GateEpoch,
    /// A new leader takes whatever claim it finds for its own.
    OwnClaim,
    /// A permit is minted for a claim that is not this leader's newest.
    NewestClaim,
    /// A swap does not wait for its intent to be committed.
    Intent,
    /// A swap is handed out though no intent covers its route any more.
    StillIntended,
    /// The gate stays open through a transfer (hole 7).
    ClosedBeforeTransfer,
    /// A transfer does not wait for the calls in the air (hole 7).
    CallsInTheAir,
    /// After the trigger the term's permit opens again, if the lease still lasts (hole 7).
    SpentTerm,
    /// A leader with an open permit is asked for its vote as anybody is.
    VoteWhileLeading,
    /// A vote leaves the gate of earlier terms as it is.
    VoteShutsGate,
    /// A pre-vote is always granted (hole 6).
    PreVote,
    /// A restarted leader resumes its term (hole 1).
    LeaderRestore,
    /// A message for another incarnation is taken (hole 9).
    TargetIncarnation,
    /// What is acknowledged need not be saved (hole 8).
    AcknowledgedBeforeSaved,
    /// A committed vote does not wait for the entries that are not saved yet (hole 8).
    VoteOvertakesEntries,
    /// The routes are read once after a claim, and not again (F-c).
    ReadBack,
    /// Calls of an earlier claim with no known outcome are forgotten (F-c).
    Stray,
    /// A route is rewritten as often as a look shows it wrong.
    Pace,
    /// The address stays when another owns.
    ReleaseAddress,
    /// A drained member that leads claims.
    DrainedLeader,
    /// A drained member's claim counts.
    DrainedClaim,
    /// One member's word that the leader has ended is enough for its vote.
    OneSawTheEnd,
    /// A lifeline's reset is taken for its end.
    ResetIsFin,
    /// A member goes on hearing a leader that has ended, and acknowledges it: one guard, asked in two places.
    DeafToTheDead,
    /// The second of these two places alone: what came of a leader before its end is acknowledged after it.
    NoAckToTheDead,
    /// A promise binds by openraft's lease alone, which is off once the leader was thought to have ended.
    OwnPromise,
    /// While members change, the lease rests on the newer set of voters alone (hole 9).
    JointLease,
    /// Who comes to vote need not have the entry that took it in (hole 9).
    VoterKnowsItIsIn,
}

impl Mutant {
    pub const ALL: &[Mutant] = &[
        Mutant::Drift,
        Mutant::Margin,
        Mutant::SendTime,
        Mutant::GrantedLength,
        Mutant::QuarantineVote,
        Mutant::QuarantineCampaign,
        Mutant::LongestLease,
        Mutant::BodyCheck,
        Mutant::DropInAir,
        Mutant::GateEpoch,
        Mutant::OwnClaim,
        Mutant::NewestClaim,
        Mutant::Intent,
        Mutant::StillIntended,
        Mutant::ClosedBeforeTransfer,
        Mutant::CallsInTheAir,
        Mutant::SpentTerm,
        Mutant::VoteWhileLeading,
        Mutant::VoteShutsGate,
        Mutant::PreVote,
        Mutant::LeaderRestore,
        Mutant::TargetIncarnation,
        Mutant::AcknowledgedBeforeSaved,
        Mutant::VoteOvertakesEntries,
        Mutant::ReadBack,
        Mutant::Stray,
        Mutant::Pace,
        Mutant::ReleaseAddress,
        Mutant::DrainedLeader,
        Mutant::DrainedClaim,
        Mutant::OneSawTheEnd,
        Mutant::ResetIsFin,
        Mutant::DeafToTheDead,
        Mutant::NoAckToTheDead,
        Mutant::OwnPromise,
        Mutant::JointLease,
        Mutant::VoterKnowsItIsIn,
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
        static OUT: Cell<u64> = const { Cell::new(0) };
    }

    const fn bit(mutant: Mutant) -> u64 {
        1 << mutant as u32
    }

    /// Whether that guard is out, on this thread.
    pub fn on(mutant: Mutant) -> bool {
        OUT.get() & bit(mutant) != 0
    }

    /// Takes these guards out, and puts all others in, on this thread.
    pub fn set(mutants: &[Mutant]) {
        OUT.set(mutants.iter().fold(0, |out, mutant| out | bit(*mutant)));
    }
}
