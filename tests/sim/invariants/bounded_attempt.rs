//! An attempt ends at its timeout, or soon after its caller's gate was open for it for the last time. The
//! referee looks once a millisecond, so that it may miss a short renewal: it allows one lease more.

use std::time::Duration;

use super::{Invariant, Seen};

#[derive(Default)]
pub struct BoundedAttempt;

/// Clocks half a per cent off, and a look's distance.
const SLACK: Duration = Duration::from_millis(10);

impl Invariant for BoundedAttempt {
    const PROPERTY: &'static str = "no attempt outlives its time or its lease";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::InTheAir(call) = seen else { return None };
        let over = call.age > call.timeout + SLACK || call.shut_for > call.lease + SLACK;
        over.then(|| format!("{call:?}"))
    }
}
