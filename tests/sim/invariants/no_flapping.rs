//! Once all faults are over and an owner stands, it goes on to stand: no new term.

use std::time::Duration;

use vipd::model::Term;

use super::{Invariant, Seen};

#[derive(Default)]
pub struct NoFlapping {
    /// The newest term when calm began.
    calm: Option<Term>,
    newest: Term,
}

impl Invariant for NoFlapping {
    const PROPERTY: &'static str = "in calm nothing moves";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Calm => {
                self.calm = Some(self.newest);
                None
            }
            Seen::Stir => {
                self.calm = None;
                None
            }
            Seen::Leads { term, .. } => {
                self.newest = self.newest.max(*term);
                let before = self.calm.filter(|calm| *term > *calm)?;
                Some(format!("term {term} after {before}"))
            }
            _ => None,
        }
    }
}
