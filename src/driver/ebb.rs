//! How near the lease came to its end. Looked at before each event, so just before what renews it is counted.

use std::time::Duration;

use crate::model::Time;

/// What was seen is kept for one to two of these: longer than Prometheus waits between two scrapes, mostly.
const WINDOW: Duration = Duration::from_secs(15);

/// The least that was left of the lease, in this window and in the one before.
#[derive(Debug, Default)]
pub(super) struct Ebb {
    since: Time,
    least: Option<Duration>,
    before: Option<Duration>,
}

impl Ebb {
    /// `deadline`: of the open permit; `None` where there is none, and nothing that could end.
    pub fn note(&mut self, now: Time, deadline: Option<Time>) {
        if now.since(self.since) >= WINDOW {
            *self = Self { since: now, least: None, before: self.least };
        }
        if let Some(left) = deadline.map(|deadline| deadline.since(now)) {
            self.least = Some(self.least.map_or(left, |least| least.min(left)));
        }
    }

    /// `None`: there was no lease.
    pub fn lowest(&self) -> Option<Duration> {
        self.least.into_iter().chain(self.before).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Time {
        Time::from_millis(n)
    }

    #[test]
    fn the_least_is_what_was_left_before_it_was_renewed() {
        let mut ebb = Ebb::default();
        ebb.note(ms(20_000), None);
        assert_eq!(ebb.lowest(), None);
        for (now, deadline) in [(20_000, 20_200), (20_170, 20_200), (20_171, 20_360)] {
            ebb.note(ms(now), Some(ms(deadline)));
        }
        assert_eq!(ebb.lowest(), Some(Duration::from_millis(30)));
        ebb.note(ms(20_400), Some(ms(20_360)));
        assert_eq!(ebb.lowest(), Some(Duration::ZERO), "it was over");
    }

    #[test]
    fn it_is_kept_for_a_window_at_least_and_for_two_at_most() {
        let mut ebb = Ebb::default();
        ebb.note(ms(20_000), Some(ms(20_001)));
        let mut last = 0;
        for now in (20_100..60_000).step_by(100) {
            ebb.note(ms(now), Some(ms(now + 500)));
            if ebb.lowest() == Some(Duration::from_millis(1)) {
                last = now;
            }
        }
        assert!((35_000..=50_000).contains(&last), "{last}");
    }
}
