//! No two members hold an open permit at one instant of true time.

use std::time::Duration;

use super::{Invariant, Seen};

#[derive(Default)]
pub struct OnePermit;

impl Invariant for OnePermit {
    const PROPERTY: &'static str = "never two open permits";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::Open { permits } = seen else { return None };
        (permits.len() > 1).then(|| format!("{permits:?}"))
    }
}
