//! How long a certificate still lasts, and when that is worth a word.

use std::sync::Arc;
use std::time::Duration;

use super::Credentials;
use crate::clock;

/// The days before its end at which a member warns in its log.
const WARNINGS_DAYS: [i64; 3] = [30, 7, 1];

/// How often it looks: a warning comes at most so late.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// Into which of the warnings' times so many seconds fall; `None`: there is time.
pub fn warning(seconds_left: i64) -> Option<i64> {
    WARNINGS_DAYS.into_iter().rev().find(|days| seconds_left < days * 86_400)
}

impl Credentials {
    /// Seconds until the certificate ends, less than 0 where it is over.
    pub fn seconds_left(&self) -> i64 {
        let ms = |wall: crate::model::WallMs| i64::try_from(wall.0).unwrap_or(i64::MAX);
        ms(self.validity().1).saturating_sub(ms(clock::wall())).div_euclid(1000)
    }

    /// Warns when the certificate has 30 days, 7 and 1 left, when it is not valid yet, and of a list that is
    /// overdue; until the process ends.
    pub async fn warn_as_it_ages(self: Arc<Self>) {
        let mut told = None;
        loop {
            let seconds = self.seconds_left();
            let now = (warning(seconds), seconds < 0, self.is_list_overdue());
            if told != Some(now) {
                told = Some(now);
                self.warn(seconds);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn warn(&self, seconds: i64) {
        match self.warning_in_words() {
            Some(words) if seconds < 0 => tracing::error!("{words}"),
            Some(words) => tracing::warn!("{words}"),
            None => {}
        }
    }

    fn is_list_overdue(&self) -> bool {
        self.next_list().is_some_and(|at| clock::wall() >= at)
    }

    /// What an operator should know of the certificate now, or of the list of revoked ones.
    pub fn warning_in_words(&self) -> Option<String> {
        const NEXT: &str = "issue a new one (vipctl certs issue member NAME), put it in its place, reload";
        let (identity, seconds) = (self.identity(), self.seconds_left());
        if clock::wall() < self.validity().0 {
            return Some(format!(
                "the certificate of {identity} is not valid yet, or this clock is behind: others refuse it until it is"
            ));
        }
        if warning(seconds).is_none() {
            const STALE: &str = "tls.crl should have been renewed: what it names is refused as before, and what was \
                revoked since is not known here; put the CA's new list there (vipctl certs revoke), reload";
            return self.is_list_overdue().then(|| STALE.to_owned());
        }
        Some(match seconds.div_euclid(86_400) {
            ..0 => format!("the certificate of {identity} is over: {NEXT}"),
            0 => format!("the certificate of {identity} ends within a day: {NEXT}"),
            days => format!("the certificate of {identity} ends in {days} days: {NEXT}"),
        })
    }
}
