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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_vote_in_a_term_is_seen_and_the_same_vote_again_is_none() {
        let mut i = OneVote::default();
        let mut votes = |voter, term, candidate| {
            let (voter, candidate) = (Incarnation(voter), Incarnation(candidate));
            let seen = Seen::Votes { voter, term: Term(term), candidate, open: None, by_transfer: false };
            i.see(Duration::ZERO, &seen)
        };
        assert_eq!(votes(1, 4, 2), None);
        assert_eq!(votes(1, 4, 2), None, "asked twice");
        assert_eq!(votes(3, 4, 3), None);
        assert_eq!(votes(1, 5, 3), None);
        assert!(votes(1, 4, 3).is_some());
        assert!(votes(3, 4, 2).is_some(), "it asked for votes for itself");
    }
}
