//! Whoever has promised a leader to vote for nobody else votes for nobody else, itself included, before
//! the promise is over, across its restarts. A transfer sets the promises to that leader and to those of
//! earlier terms free: it was elected, so a majority was free of them or had shut its own gate, and no
//! majority is left for an earlier lease. So does the end of that leader's process: not that somebody thinks
//! so. A leader's promise to itself lasts as long as its gate is open.

use std::collections::BTreeMap;
use std::time::Duration;

use vipd::model::{Incarnation, Term};

use super::{Invariant, Seen};

#[derive(Default)]
pub struct PromiseKept {
    until: BTreeMap<(Incarnation, Incarnation), (Term, Duration)>,
    /// The newest term whose leader transfers.
    freed: Term,
    /// Up to which term each led in lives that are over.
    died: BTreeMap<Incarnation, Term>,
}

impl Invariant for PromiseKept {
    const PROPERTY: &'static str = "no vote while a promise stands";

    fn see(&mut self, at: Duration, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Promises { voter, leader, term, until } => {
                let kept = self.until.entry((*voter, *leader)).or_insert((*term, *until));
                if *term >= kept.0 {
                    *kept = (*term, kept.1.max(*until));
                }
                None
            }
            Seen::Transfers { term, .. } => {
                self.freed = self.freed.max(*term);
                None
            }
            Seen::Dies { leader, term } => {
                self.died.insert(*leader, *term);
                None
            }
            Seen::Votes { voter, term, open: Some(open), .. } if open.term() < *term => {
                Some(format!("{voter} votes in term {term} while its permit of term {} is open", open.term()))
            }
            Seen::Votes { voter, term, candidate, .. } => {
                let broken = self.until.iter().find(|((who, leader), (of, until))| {
                    let binds = who == voter && leader != candidate && of < term;
                    let dead = self.died.get(leader).is_some_and(|led| of <= led);
                    binds && at < *until && !dead && *of > self.freed
                });
                broken.map(|((_, leader), (of, until))| {
                    let left = *until - at;
                    format!("{voter} votes for {candidate} in term {term}, bound to {leader} of term {of} for another {left:?}")
                })
            }
            _ => None,
        }
    }
}
