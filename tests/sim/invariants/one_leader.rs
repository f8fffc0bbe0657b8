//! A term has one leader, and that leader one life: a restarted one does not resume its term.

use std::collections::BTreeMap;
use std::time::Duration;

use vipd::model::{Incarnation, Term};

use super::{Invariant, Seen};

#[derive(Default)]
pub struct OneLeader(BTreeMap<Term, (Incarnation, u64)>);

impl Invariant for OneLeader {
    const PROPERTY: &'static str = "one leader in a term";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::Leads { me, life, term, .. } = seen else { return None };
        let first = *self.0.entry(*term).or_insert((*me, *life));
        (first != (*me, *life)).then(|| {
            let (who, life_then) = first;
            format!("term {term}: {who} in its life {life_then}, then {me} in its life {life}")
        })
    }
}
