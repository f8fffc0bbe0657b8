//! What one member has applied is acknowledged. It stays, entry by entry, and whoever leads a later term
//! has it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Invariant, Seen};

#[derive(Default)]
pub struct NothingLost {
    /// Of each index the term of the entry that was applied there.
    applied: BTreeMap<u64, u64>,
    /// Of each term the last index of its own that was applied.
    last_of: BTreeMap<u64, u64>,
    /// How far each member has come.
    seen: BTreeMap<usize, u64>,
}

impl Invariant for NothingLost {
    const PROPERTY: &'static str = "nothing acknowledged is lost";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Begins { seat, .. } => {
                self.seen.remove(seat);
                None
            }
            Seen::Applied { seat, applied, disk } => {
                let before = self.seen.insert(*seat, applied.index).unwrap_or(0);
                if before >= applied.index {
                    return None;
                }
                let mut wrong = None;
                for entry in disk.entries(before + 1, applied.index) {
                    let (index, term) = (entry.log_id.index, entry.log_id.leader_id.term);
                    let first = *self.applied.entry(index).or_insert(term);
                    let last = self.last_of.entry(term).or_default();
                    *last = index.max(*last);
                    if first != term {
                        wrong = Some(format!("at index {index} term {first} was applied, then term {term}"));
                    }
                }
                wrong
            }
            Seen::Leads { me, term, disk, .. } => {
                let mut before = self.last_of.range(..term.0);
                let (of, last) = before.next_back()?;
                let lacks = !disk.holds(*last, *of);
                lacks.then(|| format!("{me} leads term {term} without entry {last} of term {of}"))
            }
            _ => None,
        }
    }
}
