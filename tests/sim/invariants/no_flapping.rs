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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vipd::ledger::{Command, Ledger};
    use vipd::model::{Incarnation, WallMs};
    use vipd::raft::store::Applied;

    use super::*;
    use crate::disk::Disk;

    fn leads(i: &mut NoFlapping, term: u64) -> bool {
        let seen = Seen::Leads { me: Incarnation(1), life: 0, term: Term(term), disk: &Disk::new(0) };
        i.see(Duration::ZERO, &seen).is_some()
    }

    /// A claim at that index, applied.
    fn claims(i: &mut NoFlapping, index: u64) -> bool {
        let mut ledger = Ledger::default();
        let member = "az-a".parse().expect("a name");
        ledger.apply(index, 1, &Command::Claim { member, term: Term(1), at: WallMs(0), routes: Vec::new() });
        let applied = Applied { ledger: Arc::new(ledger), index, term: 1 };
        i.see(Duration::ZERO, &Seen::Applied { seat: 0, applied: &applied, disk: &Disk::new(0) }).is_some()
    }

    #[test]
    fn a_new_term_or_a_new_claim_in_calm_is_seen_and_neither_before_nor_after() {
        let i = &mut NoFlapping::default();
        assert!(!leads(i, 3) && !claims(i, 7) && !leads(i, 4) && !claims(i, 9));
        assert_eq!(i.see(Duration::ZERO, &Seen::Calm), None);
        assert!(!leads(i, 4) && !claims(i, 9), "what there was goes on");
        assert!(leads(i, 5));
        assert!(claims(i, 12));
        assert_eq!(i.see(Duration::ZERO, &Seen::Stir), None);
        assert!(!leads(i, 6) && !claims(i, 15));
    }
}
