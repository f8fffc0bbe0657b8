//! Whoever has promised a leader to vote for nobody else votes for nobody else, itself included, before
//! the promise is over, across its restarts. A transfer sets the promises to that leader free, and so does
//! the end of that leader's process: not that somebody thinks so. Whoever has promised a leader of a later term
//! is bound to that one, and to none before it; and a vote by way of a transfer breaks the promises to leaders of
//! terms before the one that hands over (FENCING.md, section 2, for both): the leader of the very term before that of
//! the vote, so that it must have handed over, and to the one that asks. A leader's promise to itself lasts as long as its gate is open.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vipd::model::{Incarnation, Term};

use super::{Invariant, Seen};

#[derive(Default)]
pub struct PromiseKept {
    /// To the leader of the newest term that each voter has promised anything.
    promises: BTreeMap<Incarnation, Promise>,
    /// The terms whose leaders handed over, and to whom.
    handed_over: BTreeSet<(Term, Incarnation)>,
    /// Up to which term each led in lives that are over.
    died: BTreeMap<Incarnation, Term>,
}

#[derive(Clone, Copy)]
struct Promise {
    leader: Incarnation,
    of: Term,
    until: Duration,
}

impl Invariant for PromiseKept {
    const PROPERTY: &'static str = "no vote while a promise stands";

    fn see(&mut self, at: Duration, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Promises { voter, leader, term, until } => {
                let newer = Promise { leader: *leader, of: *term, until: *until };
                let kept = self.promises.entry(*voter).or_insert(newer);
                if newer.of > kept.of {
                    *kept = newer;
                } else if newer.of == kept.of {
                    kept.until = kept.until.max(newer.until);
                }
                None
            }
            Seen::Transfers { term, to, .. } => {
                self.handed_over.insert((*term, *to));
                None
            }
            Seen::Dies { leader, term } => {
                self.died.insert(*leader, *term);
                None
            }
            Seen::Votes { voter, term, open: Some(open), .. } if open.term() < *term => {
                Some(format!("{voter} votes in term {term} while its permit of term {} is open", open.term()))
            }
            Seen::Votes { term, candidate, by_transfer: true, .. }
                if !self.handed_over.contains(&(Term(term.0 - 1), *candidate)) =>
            {
                Some(format!(
                    "{candidate} asks for term {term} as for a transfer, and nobody handed over to it"
                ))
            }
            Seen::Votes { voter, term, candidate, by_transfer, .. } => {
                let Promise { leader, of, until } = *self.promises.get(voter)?;
                let binds = leader != *candidate && of < *term && at < until;
                let dead = self.died.get(&leader).is_some_and(|led| of <= *led);
                let freed = *by_transfer || self.handed_over.iter().any(|(term, _)| *term == of);
                (binds && !dead && !freed).then(|| {
                    let left = until - at;
                    format!("{voter} votes for {candidate} in term {term}, bound to {leader} of term {of} for another {left:?}")
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(1_000);

    fn votes(voter: u64, term: u64, candidate: u64, by_transfer: bool) -> Seen<'static> {
        let (voter, candidate) = (Incarnation(voter), Incarnation(candidate));
        Seen::Votes { voter, term: Term(term), candidate, open: None, by_transfer }
    }

    fn bound() -> PromiseKept {
        let mut i = PromiseKept::default();
        let promise =
            Seen::Promises { voter: Incarnation(2), leader: Incarnation(1), term: Term(4), until: NEVER };
        assert_eq!(i.see(Duration::ZERO, &promise), None);
        i
    }

    #[test]
    fn a_vote_while_a_promise_stands_is_seen() {
        assert!(bound().see(Duration::ZERO, &votes(2, 5, 3, false)).is_some());
        assert_eq!(bound().see(NEVER, &votes(2, 5, 3, false)), None, "it is over");
        assert_eq!(bound().see(Duration::ZERO, &votes(2, 5, 1, false)), None, "to whom it promised");
    }

    #[test]
    fn a_vote_by_a_transfer_is_one_to_whom_the_leader_of_the_term_before_handed_over() {
        let handed = |term| {
            let mut i = bound();
            let seen = Seen::Transfers {
                leader: Incarnation(1),
                term: Term(term),
                to: Incarnation(3),
                in_the_air: 0,
            };
            assert_eq!(i.see(Duration::ZERO, &seen), None);
            i
        };
        assert_eq!(handed(4).see(Duration::ZERO, &votes(2, 5, 3, true)), None);
        assert!(bound().see(Duration::ZERO, &votes(2, 5, 3, true)).is_some(), "nobody did");
        assert!(handed(4).see(Duration::ZERO, &votes(2, 6, 3, true)).is_some(), "a term too late");
        assert!(handed(4).see(Duration::ZERO, &votes(2, 5, 2, true)).is_some(), "to another");
    }
}
