//! Refusals in the log: whoever asks for what he may not have shall not fill the disk.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::model::Time;

/// So many are told within a [`WINDOW`]: enough to see what is tried, and by whom.
const TOLD_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// What one place refuses.
#[derive(Default, Debug)]
pub struct Refusals(Mutex<Told>);

#[derive(Default, Debug)]
struct Told {
    since: Time,
    count: u32,
}

impl Refusals {
    /// Tells of one: as a warning, and those beyond the limit as a remark that nobody sees who did not ask for it.
    pub fn tell(&self, from: &dyn fmt::Display, what: fmt::Arguments<'_>) {
        if self.is_told(clock::now()) {
            tracing::warn!(%from, "{what}");
        } else {
            tracing::debug!(%from, "{what}");
        }
    }

    fn is_told(&self, now: Time) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(told.since) >= WINDOW {
            *told = Told { since: now, count: 0 };
        }
        told.count = told.count.saturating_add(1);
        told.count <= TOLD_MAX
    }
}
