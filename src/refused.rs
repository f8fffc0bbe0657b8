//! Refusals and orders in the log: whoever asks for what he may not have, or without end, shall not fill the disk.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::model::Time;

/// So many are told within a [`WINDOW`]: enough to see what is tried, and by whom.
const TOLD_MAX: u32 = 10;
/// So many orders: each by its own line, as far as somebody gives them by hand or by a script.
const ORDERS_MAX: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);

/// What one place refuses, and the orders that it takes.
#[derive(Default, Debug)]
pub struct Refusals {
    refused: Mutex<Told>,
    orders: Mutex<Told>,
}

#[derive(Default, Debug)]
struct Told {
    since: Time,
    count: u32,
    /// Since the last line.
    left_out: u64,
}

impl Refusals {
    /// Tells of one: as a warning, and those beyond the limit as a remark that nobody sees who did not ask for it. The
    /// next warning says how many these were: one who makes many hides what others try, and not that there was more.
    pub fn tell(&self, from: &dyn fmt::Display, what: fmt::Arguments<'_>) {
        match left_out(&self.refused, TOLD_MAX, clock::now()) {
            Some(0) => tracing::warn!(%from, "{what}"),
            Some(left_out) => tracing::warn!(%from, left_out, "{what}"),
            None => tracing::debug!(%from, "{what}"),
        }
    }

    /// An order is taken: how many had no line since the last one that had, if any; `None`: nor is this one to have any
    /// but a remark at the level debug.
    pub fn order(&self) -> Option<Option<NonZeroU64>> {
        left_out(&self.orders, ORDERS_MAX, clock::now()).map(NonZeroU64::new)
    }
}

/// How many were not told before this one; `None`: nor is this one.
fn left_out(told: &Mutex<Told>, most: u32, now: Time) -> Option<u64> {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    if now.since(told.since) >= WINDOW {
        (told.since, told.count) = (now, 0);
    }
    if told.count >= most {
        told.left_out += 1;
        return None;
    }
    told.count += 1;
    Some(std::mem::take(&mut told.left_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_counted_and_said_with_the_next_line() {
        let told = Mutex::default();
        let begun = Time::default() + 2 * WINDOW;
        let all = |at: Time, many: u32| (0..many).map(|_| left_out(&told, TOLD_MAX, at)).collect::<Vec<_>>();
        let of_it = usize::try_from(TOLD_MAX).unwrap();
        assert_eq!(all(begun, TOLD_MAX), vec![Some(0); of_it]);
        assert_eq!(all(begun + WINDOW / 2, 7), vec![None; 7]);
        assert_eq!(all(begun + WINDOW, 2), [Some(7), Some(0)]);
        assert_eq!(all(begun + WINDOW, TOLD_MAX).last(), Some(&None));
        assert_eq!(all(begun + 3 * WINDOW, 1), [Some(2)], "those of the window before");
    }
}
