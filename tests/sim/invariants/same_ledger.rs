//! Members that have applied up to the same index have the same ledger, whether by entries, by a
//! snapshot and its tail, or after a restart; and what one has applied no other ever has differently.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vipd::ledger::Ledger;

use super::{Invariant, Seen};

#[derive(Default)]
pub struct SameLedger {
    at: BTreeMap<u64, (u64, Arc<Ledger>)>,
    last: BTreeMap<usize, (u64, u64)>,
}

impl Invariant for SameLedger {
    const PROPERTY: &'static str = "equal index, equal ledger";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::Applied { seat, applied } = seen else { return None };
        if applied.index == 0
            || self.last.insert(*seat, (applied.index, applied.term)) == Some((applied.index, applied.term))
        {
            return None;
        }
        let first =
            self.at.entry(applied.index).or_insert_with(|| (applied.term, Arc::clone(&applied.ledger)));
        let same =
            first.0 == applied.term && (Arc::ptr_eq(&first.1, &applied.ledger) || first.1 == applied.ledger);
        (!same).then(|| {
            format!(
                "index {}: term {} {:?}, and term {} {:?}",
                applied.index, first.0, first.1.claim, applied.term, applied.ledger.claim
            )
        })
    }
}
