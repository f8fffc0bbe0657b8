//! A leader that hands over by order waits first for what it has sent, one attempt at most: what EC2 has
//! answered cannot come after the next owner's calls.

use std::time::Duration;

use super::{Invariant, Seen};

#[derive(Default)]
pub struct QuietTransfer;

impl Invariant for QuietTransfer {
    const PROPERTY: &'static str = "a transfer waits for the calls in the air";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::Transfers { leader, term, in_the_air, .. } = seen else { return None };
        (*in_the_air > 0)
            .then(|| format!("{leader} hands term {term} over with {in_the_air} calls in the air"))
    }
}
