//! Whoever says that a leader has ended does not acknowledge it and say so again, in one life.

use std::collections::BTreeMap;
use std::time::Duration;

use vipd::model::{Incarnation, Term};

use super::{Invariant, Seen};

#[derive(Default)]
pub struct DeafToTheDead(BTreeMap<(Incarnation, Term), Heard>);

#[derive(PartialEq, Eq)]
enum Heard {
    No,
    Yes,
}

impl Invariant for DeafToTheDead {
    const PROPERTY: &'static str = "a leader that has ended is not acknowledged";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        match seen {
            // What a process saw goes with it.
            Seen::Begins { me, .. } => {
                self.0.retain(|(member, _), _| member != me);
                None
            }
            Seen::CallsDead { member, term } if *term > Term(0) => {
                let before = self.0.entry((*member, *term)).or_insert(Heard::No);
                (*before == Heard::Yes)
                    .then(|| format!("{member} hears the leader of term {term} and calls it dead"))
            }
            Seen::Promises { voter, term, .. } => {
                if let Some(heard) = self.0.get_mut(&(*voter, *term)) {
                    *heard = Heard::Yes;
                }
                None
            }
            _ => None,
        }
    }
}
