//! A voter votes once in a term, across its restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use vipd::model::{Incarnation, Term};

use super::{Invariant, Seen};

#[derive(Default)]
pub struct OneVote(BTreeMap<(Incarnation, Term), Incarnation>);

impl Invariant for OneVote {
    const PROPERTY: &'static str = "one vote in a term";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::Votes { voter, term, candidate, .. } = seen else { return None };
        let first = *self.0.entry((*voter, *term)).or_insert(*candidate);
        (first != *candidate).then(|| format!("{voter} voted for {first} and {candidate} in term {term}"))
    }
}
