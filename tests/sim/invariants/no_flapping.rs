//! Once all faults are over and an owner stands, it goes on to stand: no new term, no new claim.

use std::time::Duration;

use vipd::model::{Epoch, Term};

use super::{Invariant, Seen};

#[derive(Default)]
pub struct NoFlapping {
    /// The newest term and claim when calm began.
    calm: Option<(Term, Epoch)>,
    newest: Term,
    epoch: Epoch,
}

impl Invariant for NoFlapping {
    const PROPERTY: &'static str = "in calm nothing moves";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Calm => {
                self.calm = Some((self.newest, self.epoch));
                None
            }
            Seen::Stir => {
                self.calm = None;
                None
            }
            Seen::Leads { term, .. } => {
                self.newest = self.newest.max(*term);
                let (before, _) = self.calm.filter(|(calm, _)| *term > *calm)?;
                Some(format!("term {term} after {before}"))
            }
            Seen::Applied { applied, .. } => {
                let claim = applied.ledger.claim.as_ref()?;
                self.epoch = self.epoch.max(claim.epoch);
                let (_, before) = self.calm.filter(|(_, calm)| claim.epoch > *calm)?;
                Some(format!("{} claims epoch {} after {before}", claim.member, claim.epoch))
            }
            _ => None,
        }
    }
}
