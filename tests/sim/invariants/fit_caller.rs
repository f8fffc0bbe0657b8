//! Nobody calls under a claim that it made while it was drained, nor in its quarantine after a start.
//! (An owner that is drained and finds nobody to hand over to goes on: the VIP is not dropped.)

use std::collections::BTreeMap;
use std::time::Duration;

use vipd::model::{Name, Time};

use super::{Invariant, Seen, is_name};

#[derive(Default)]
pub struct FitCaller {
    quarantined_until: BTreeMap<usize, Time>,
    /// Who is drained, and the newest index at which it was not known yet.
    drained: BTreeMap<Name, u64>,
    newest: u64,
}

impl Invariant for FitCaller {
    const PROPERTY: &'static str = "no call by a drained or quarantined member";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Begins { seat, quarantined_until, .. } => {
                self.quarantined_until.insert(*seat, *quarantined_until);
            }
            Seen::Applied { applied, .. } if applied.index > self.newest => {
                self.newest = applied.index;
                self.drained.retain(|name, _| applied.ledger.drained.contains(name));
                for name in &applied.ledger.drained {
                    self.drained.entry(name.clone()).or_insert(applied.index);
                }
            }
            Seen::Called(call) => {
                if let Some(until) = self.quarantined_until.get(&call.seat).filter(|until| call.now < **until)
                {
                    return Some(format!("{}: in quarantine for {:?}", call.words(), until.since(call.now)));
                }
                let mut drained = self.drained.iter().filter(|(name, _)| is_name(name, call.name));
                let (_, at) = drained.next().filter(|(_, at)| call.permit.epoch().0 > **at)?;
                return Some(format!("{}: drained at index {at}", call.words()));
            }
            _ => {}
        }
        None
    }
}
