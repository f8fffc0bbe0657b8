//! Once a leader has sent a transfer, it calls no more in that term, whatever comes of it.

use std::collections::BTreeSet;
use std::time::Duration;

use vipd::model::{Incarnation, Term};

use super::{Invariant, Seen};

#[derive(Default)]
pub struct NoCallAfterTransfer(BTreeSet<(Incarnation, Term)>);

impl Invariant for NoCallAfterTransfer {
    const PROPERTY: &'static str = "no call after a transfer began";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Transfers { leader, term, .. } => {
                self.0.insert((*leader, *term));
                None
            }
            Seen::Called(call) if self.0.contains(&(call.me, call.permit.term())) => Some(call.words()),
            _ => None,
        }
    }
}
