//! Whoever has promised a leader to vote for nobody else votes for nobody else, itself included, before
//! the promise is over, across its restarts. A transfer sets the promises to that leader free, and so does
//! the end of that leader's process: not that somebody thinks so. Whoever has promised a leader of a later term
//! is bound to that one, and to none before it; and a vote by way of a transfer breaks the promises to leaders of
//! terms before the one that hands over (FENCING.md, section 2, for both): the leader of the very term before that of
//! the vote, so that there must have been one that did. A leader's promise to itself lasts as long as its gate is open.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vipd::model::{Incarnation, Term};

use super::{Invariant, Seen};

#[derive(Default)]
pub struct PromiseKept {
    /// To the leader of the newest term that each voter has promised anything.
    promises: BTreeMap<Incarnation, Promise>,
    /// Whose leaders hand over.
    handed_over: BTreeSet<Term>,
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
            Seen::Transfers { term, .. } => {
                self.handed_over.insert(*term);
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
                if !self.handed_over.contains(&Term(term.0 - 1)) =>
            {
                Some(format!("{candidate} asks for term {term} as for a transfer, and none was ordered"))
            }
            Seen::Votes { voter, term, candidate, by_transfer, .. } => {
                let Promise { leader, of, until } = *self.promises.get(voter)?;
                let binds = leader != *candidate && of < *term && at < until;
                let dead = self.died.get(&leader).is_some_and(|led| of <= *led);
                let freed = *by_transfer || self.handed_over.contains(&of);
                (binds && !dead && !freed).then(|| {
                    let left = until - at;
                    format!("{voter} votes for {candidate} in term {term}, bound to {leader} of term {of} for another {left:?}")
                })
            }
            _ => None,
        }
    }
}
