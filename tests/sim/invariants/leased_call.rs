//! A call leaves inside the lease as the referee reckons it: from when each append left the leader, and
//! what its voter granted. And no leader of a later term has been elected.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vipd::model::{Incarnation, Term, Time};

use super::{Call, Invariant, Seen};

#[derive(Default)]
pub struct LeasedCall {
    /// What the leader at a seat knows of its voters' promises in a term.
    promises: BTreeMap<(usize, Term), BTreeMap<Incarnation, Time>>,
    newest_term: Term,
}

impl LeasedCall {
    /// The end of the best quorum's promises in one set of voters. The caller itself counts without end.
    fn end(&self, call: &Call<'_>, voters: &BTreeSet<Incarnation>) -> Option<Time> {
        let known = self.promises.get(&(call.seat, call.permit.term()));
        let mut ends: Vec<Option<Time>> = Vec::new();
        for voter in voters {
            let own = (*voter == call.me).then_some(Time::MAX);
            ends.push(own.or_else(|| known.and_then(|k| k.get(voter).copied())));
        }
        // `None`, no promise at all, is less than any end.
        ends.sort_unstable();
        let majority = voters.len() / 2 + 1;
        ends.get(voters.len() - majority).copied().flatten()
    }
}

impl Invariant for LeasedCall {
    const PROPERTY: &'static str = "a call leaves inside the lease";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Begins { seat, .. } => self.promises.retain(|(of, _), _| of != seat),
            Seen::Acknowledged { seat, voter, term, sent, granted } => {
                let counted = granted.saturating_sub(*granted / 100);
                let best = self.promises.entry((*seat, *term)).or_default().entry(*voter).or_default();
                *best = (*sent + counted).max(*best);
            }
            Seen::Leads { term, .. } => self.newest_term = self.newest_term.max(*term),
            Seen::Called(call) => {
                if let Err(why) = &call.gate {
                    return Some(format!("{}: {why}", call.words()));
                }
                if self.newest_term > call.permit.term() {
                    return Some(format!("{}: term {} has a leader", call.words(), self.newest_term));
                }
                let ends = call.view.configs.iter().map(|voters| self.end(call, voters));
                let Some(end) = ends.min().flatten() else {
                    return Some(format!("{}: no quorum has promised anything", call.words()));
                };
                if call.now + call.margin >= end {
                    let over = (call.now + call.margin).since(end);
                    return Some(format!("{}: the lease less its margin ended {over:?} ago", call.words()));
                }
            }
            _ => {}
        }
        None
    }
}
