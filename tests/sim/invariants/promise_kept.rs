//! Whoever has promised a leader to vote for nobody else votes for nobody else, itself included, before
//! the promise is over, across its restarts. A transfer sets the promises to that leader free, and so does
//! the end of that leader's process: not that somebody thinks so. A vote by way of a transfer breaks the
//! promises to leaders of terms before the one that hands over too, and those alone may be broken by no other
//! vote (FENCING.md, section 2). A leader's promise to itself lasts as long as its gate is open.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vipd::model::{Incarnation, Term};

use super::{Invariant, Seen};

#[derive(Default)]
pub struct PromiseKept {
    until: BTreeMap<(Incarnation, Incarnation), (Term, Duration)>,
    /// Leaders that hand over.
    freed: BTreeSet<(Incarnation, Term)>,
    /// The newest term of one.
    handed_over: Term,
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
            Seen::Transfers { leader, term, .. } => {
                self.freed.insert((*leader, *term));
                self.handed_over = self.handed_over.max(*term);
                None
            }
            Seen::Dies { leader, term } => {
                self.died.insert(*leader, *term);
                None
            }
            Seen::Votes { voter, term, open: Some(open), .. } if open.term() < *term => {
                Some(format!("{voter} votes in term {term} while its permit of term {} is open", open.term()))
            }
            Seen::Votes { voter, term, candidate, by_transfer, .. } => {
                let broken = self.until.iter().find(|((who, leader), (of, until))| {
                    let binds = who == voter && leader != candidate && of < term;
                    let dead = self.died.get(leader).is_some_and(|led| of <= led);
                    let freed =
                        self.freed.contains(&(*leader, *of)) || *by_transfer && *of < self.handed_over;
                    binds && at < *until && !dead && !freed
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
