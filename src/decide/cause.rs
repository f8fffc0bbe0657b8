//! Why the VIP moves on purpose. The ledger keeps it in words, for people; what counts moves reads it out of them again,
//! so that both are here.

use crate::ledger::{Kind, Move};
use crate::model::Name;

/// What began a switchover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// HAProxy on the owner is unhealthy.
    Health,
    /// The owner's daemon is stopped.
    Stop,
    Drain,
    Failback,
    /// The owner does not reach EC2.
    Ec2,
    /// The owner may not own: its interface, its source/dest check, a witness.
    NotEligible,
    /// EC2 does not let the owner change every route.
    Permission,
    /// The owner leaves the group.
    Membership,
    /// Somebody asked for it.
    Operator,
}

/// What the owner says of itself where it may not own (`Decide::not_eligible`), and what began that.
pub(super) const DRAINED: &str = "it is drained";
pub(super) const LEAVING: &str = "it leaves the group";

const FAILBACK: &str = "failback: ";

/// The reason of `vipctl transfer-leader`.
pub const ASKED: &str = "asked by an operator";

impl Cause {
    pub const ALL: [Cause; 9] = [
        Cause::Health,
        Cause::Stop,
        Cause::Drain,
        Cause::Failback,
        Cause::Ec2,
        Cause::NotEligible,
        Cause::Permission,
        Cause::Membership,
        Cause::Operator,
    ];

    /// As a label of metrics.
    pub fn label(self) -> &'static str {
        match self {
            Cause::Health => "health",
            Cause::Stop => "stop",
            Cause::Drain => "drain",
            Cause::Failback => "failback",
            Cause::Ec2 => "ec2",
            Cause::NotEligible => "not-eligible",
            Cause::Permission => "permission",
            Cause::Membership => "membership",
            Cause::Operator => "operator",
        }
    }

    /// The reason that the ledger keeps: `owner` gives the VIP away. `why`: more of it, where there is more.
    pub fn words(self, owner: &Name, why: &str) -> String {
        match self {
            Cause::Health => format!("HAProxy on {owner} is unhealthy: {why}"),
            Cause::Stop => format!("{owner} is stopping"),
            Cause::Drain => format!("{owner} is drained"),
            Cause::Failback => format!("{FAILBACK}{why}"),
            Cause::Ec2 => format!("{owner} does not reach EC2: {why}"),
            Cause::NotEligible => format!("{owner} may not own: {why}"),
            Cause::Permission => format!("{owner} may not change every route: {why}"),
            Cause::Membership => format!("{owner} leaves the group"),
            Cause::Operator => ASKED.to_owned(),
        }
    }

    /// What began the switchover by which `owner` gave the VIP away. Whatever is not one of this vipd's own reasons, an
    /// operator's.
    pub fn of(owner: &Name, reason: &str) -> Self {
        let starts = |cause: Cause| reason.starts_with(&cause.words(owner, ""));
        let is = |cause: Cause| reason == cause.words(owner, "");
        // Drained or removed while nobody else may own, it goes when somebody does.
        let late = |why: &str| reason == Cause::NotEligible.words(owner, why);
        match () {
            () if is(Cause::Stop) => Cause::Stop,
            () if is(Cause::Drain) || late(DRAINED) => Cause::Drain,
            () if is(Cause::Membership) || late(LEAVING) => Cause::Membership,
            () if starts(Cause::Health) => Cause::Health,
            () if starts(Cause::Failback) => Cause::Failback,
            () if starts(Cause::Ec2) => Cause::Ec2,
            () if starts(Cause::NotEligible) => Cause::NotEligible,
            () if starts(Cause::Permission) => Cause::Permission,
            () => Cause::Operator,
        }
    }
}

/// What a move is counted under: a handful of values, whatever people and HAProxy say.
pub fn label(moved: &Move) -> &'static str {
    match (moved.kind, &moved.from) {
        (Kind::First, _) => FIRST,
        (Kind::Failover, _) => LOST,
        (Kind::Renewal, _) => "renewal",
        (Kind::Switchover, Some(from)) => Cause::of(from, &moved.reason).label(),
        (Kind::Switchover, None) => Cause::Operator.label(),
    }
}

const FIRST: &str = "first-start";
const LOST: &str = "leader-lost";

/// Every kind of move that is counted, and its [`label`]. A renewal moves nothing.
pub fn counted() -> Vec<(&'static str, &'static str)> {
    let switchovers = Cause::ALL.map(|cause| (Kind::Switchover.label(), cause.label()));
    [(Kind::First.label(), FIRST), (Kind::Failover.label(), LOST)].into_iter().chain(switchovers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    #[test]
    fn each_cause_is_read_out_of_its_own_words() {
        let labels: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|c| c.label()).collect();
        assert_eq!(labels.len(), Cause::ALL.len());
        // What HAProxy, EC2 or a name says is not taken for the reason.
        for owner in ["a", "haproxy", "failback"].map(name) {
            let others: Vec<String> = Cause::ALL.iter().map(|c| c.words(&owner, "x")).collect();
            for cause in Cause::ALL {
                for why in others.iter().map(String::as_str).chain(["", DRAINED, "b has priority 200"]) {
                    let late = cause == Cause::NotEligible && why == DRAINED;
                    let expected = if late { Cause::Drain } else { cause };
                    assert_eq!(Cause::of(&owner, &cause.words(&owner, why)), expected, "{owner}: {why}");
                }
            }
        }
        assert_eq!(Cause::of(&name("a"), &Cause::NotEligible.words(&name("a"), LEAVING)), Cause::Membership);
        // Another member's stop is nobody's but somebody's own words.
        assert_eq!(Cause::of(&name("a"), "b is stopping"), Cause::Operator);
    }
}
