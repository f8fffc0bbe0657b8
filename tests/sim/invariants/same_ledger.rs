//! The ledger at an index is what the entries up to it make of an empty one, applied one by one. It is
//! so for every member, whether it came there by entries, by a snapshot and its tail, or after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vipd::ledger::Ledger;
use vipd::raft::store::Applied;

use crate::disk::Disk;

use super::{Invariant, Seen};

#[derive(Default)]
pub struct SameLedger {
    /// The replay, and how far it has come.
    replay: Ledger,
    replayed: u64,
    /// At each index the term and the ledger: the replay's, or a member's that came before it.
    at: BTreeMap<u64, (u64, Arc<Ledger>)>,
    last: BTreeMap<usize, (u64, u64)>,
}

impl SameLedger {
    /// Replays what `disk` has of the entries up to `index`.
    fn replay(&mut self, disk: &Disk, index: u64) -> Option<String> {
        for (index, term, command) in disk.entries(self.replayed + 1, index) {
            if index != self.replayed + 1 {
                break;
            }
            if let Some(command) = command {
                self.replay.apply(index, term, &command);
            }
            self.replayed = index;
            let ledger = Arc::new(self.replay.clone());
            let wrong = self.differs(index, term, &ledger);
            self.at.insert(index, (term, ledger));
            if wrong.is_some() {
                return wrong;
            }
        }
        None
    }

    fn differs(&self, index: u64, term: u64, ledger: &Arc<Ledger>) -> Option<String> {
        let (first_term, first) = self.at.get(&index)?;
        let same = *first_term == term && (Arc::ptr_eq(first, ledger) || first == ledger);
        let words = || {
            let (a, b) = (&first.claim, &ledger.claim);
            format!("index {index}: term {first_term} {a:?}, and term {term} {b:?}")
        };
        (!same).then(words)
    }
}

impl Invariant for SameLedger {
    const PROPERTY: &'static str = "equal index, equal ledger";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::Applied { seat, applied, disk } = seen else { return None };
        let Applied { ledger, index, term } = applied;
        if *index == 0 || self.last.insert(*seat, (*index, *term)) == Some((*index, *term)) {
            return None;
        }
        let wrong = self.replay(disk, *index);
        let wrong = wrong.or_else(|| self.differs(*index, *term, ledger));
        self.at.entry(*index).or_insert_with(|| (*term, Arc::clone(ledger)));
        wrong
    }
}
