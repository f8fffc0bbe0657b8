//! Until when a leader may believe that it still leads (FENCING.md, F-a, holes 3 and 4).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{Incarnation, Term, Time};
use crate::mutant::{self, Mutant};

/// The promises that voters made to the leader of one term. A voter that acknowledged an append
/// sent at `s` and grants `g` votes for nobody else before `s + g`, measured on its own clock from
/// a moment after `s`. One per cent of `g` is given up for clocks that run at different rates.
#[derive(Debug, Default)]
pub struct Lease {
    term: Term,
    until: BTreeMap<Incarnation, Time>,
}

impl Lease {
    /// No promise yet, for `term`.
    pub fn begin(term: Term) -> Self {
        Self { term, until: BTreeMap::new() }
    }

    /// `from` acknowledged an append of `term` that left here at `sent`, and grants `granted`. The
    /// send time is the one of the very request that was answered, never of a later one.
    pub fn acknowledge(&mut self, term: Term, from: Incarnation, sent: Time, granted: Duration) {
        if term != self.term {
            return;
        }
        let counted = if mutant::on(Mutant::Drift) { granted } else { granted.mul_f64(0.99) };
        let until = sent + counted;
        let best = self.until.entry(from).or_insert(until);
        *best = until.max(*best);
    }

    /// When the first moment comes at which a majority without a standing promise to this leader
    /// could exist: in each config, the best acknowledging quorum's earliest promise. `me` counts as
    /// a promise without end, since a leader with an open permit votes for nobody. `None`: no quorum
    /// has acknowledged.
    pub fn deadline(&self, me: Incarnation, configs: &[BTreeSet<Incarnation>]) -> Option<Time> {
        if mutant::on(Mutant::JointLease) {
            return configs.last().and_then(|voters| self.deadline_in(me, voters));
        }
        configs.iter().map(|voters| self.deadline_in(me, voters)).min().flatten()
    }

    fn deadline_in(&self, me: Incarnation, voters: &BTreeSet<Incarnation>) -> Option<Time> {
        let mut ends: Vec<Time> = voters
            .iter()
            .filter_map(|v| if *v == me { Some(Time::MAX) } else { self.until.get(v).copied() })
            .collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let quorum = voters.len() / 2 + 1;
        ends.get(quorum - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Incarnation = Incarnation(1);
    const B: Incarnation = Incarnation(2);
    const C: Incarnation = Incarnation(3);

    fn ms(n: u64) -> Time {
        Time::from_millis(n)
    }

    fn three() -> Vec<BTreeSet<Incarnation>> {
        vec![[ME, B, C].into()]
    }

    fn lease(acks: &[(Incarnation, u64, u64)]) -> Lease {
        let mut l = Lease::begin(Term(1));
        for (who, sent, granted) in acks {
            l.acknowledge(Term(1), *who, ms(*sent), Duration::from_millis(*granted));
        }
        l
    }

    #[test]
    fn no_quorum_no_deadline() {
        assert_eq!(lease(&[]).deadline(ME, &three()), None);
        assert_eq!(lease(&[]).deadline(ME, &[]), None, "no config is no quorum");
    }

    #[test]
    fn one_follower_of_two_is_enough_and_the_better_one_counts() {
        assert_eq!(lease(&[(B, 1000, 200)]).deadline(ME, &three()), Some(ms(1198)));
        assert_eq!(lease(&[(B, 1000, 200), (C, 1050, 200)]).deadline(ME, &three()), Some(ms(1248)));
    }

    #[test]
    fn hole_3_each_promise_has_its_own_length() {
        assert_eq!(lease(&[(B, 1000, 100), (C, 1000, 300)]).deadline(ME, &three()), Some(ms(1297)));
        let five = vec![[ME, B, C, Incarnation(4), Incarnation(5)].into()];
        let l = lease(&[(B, 1000, 100), (C, 1000, 300)]);
        assert_eq!(l.deadline(ME, &five), Some(ms(1099)), "the smallest of the quorum");
    }

    #[test]
    fn a_late_answer_to_an_old_append_takes_nothing_away() {
        assert_eq!(lease(&[(B, 1000, 200), (B, 900, 200)]).deadline(ME, &three()), Some(ms(1198)));
    }

    #[test]
    fn another_terms_answer_and_a_strangers_count_nothing() {
        let mut l = lease(&[]);
        l.acknowledge(Term(2), B, ms(1000), Duration::from_millis(200));
        l.acknowledge(Term(1), Incarnation(9), ms(1000), Duration::from_millis(200));
        assert_eq!(l.deadline(ME, &three()), None);
    }

    #[test]
    fn while_members_change_both_configs_must_hold() {
        let joint = vec![[ME, B, C].into(), [ME, C, Incarnation(4)].into()];
        assert_eq!(lease(&[(B, 1000, 200)]).deadline(ME, &joint), None);
        assert_eq!(lease(&[(C, 1000, 200)]).deadline(ME, &joint), Some(ms(1198)));
    }

    #[test]
    fn a_leader_that_is_no_voter_needs_the_others() {
        let without: Vec<BTreeSet<_>> = vec![[B, C].into()];
        assert_eq!(lease(&[(B, 1000, 200)]).deadline(ME, &without), None);
        assert_eq!(lease(&[(B, 1000, 200), (C, 1010, 200)]).deadline(ME, &without), Some(ms(1198)));
    }

    #[test]
    fn one_voter_alone_holds_without_end() {
        assert_eq!(lease(&[]).deadline(ME, &[[ME].into()]), Some(Time::MAX));
    }
}
