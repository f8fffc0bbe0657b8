//! How long a certificate still lasts, and when that is worth a word.
//!
//! ```text
//!   30 days left --> Ends{30} --7--> Ends{7} --1--> Ends{1} --0--> Over      each is told when it begins, and
//!   before its begin: NotYet      a list past its next update: ListOverdue   once a day as long as it lasts
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Credentials;
use crate::clock;
use crate::model::Time;

/// The days before its end at which a member warns in its log.
const WARNINGS_DAYS: [i64; 3] = [30, 7, 1];

/// How often it looks: a warning comes at most so late.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// The same is told again so often at most, whatever clocks and lists do meanwhile.
const TELL_EVERY: Duration = Duration::from_secs(86_400);

const NEXT: &str = "issue a new one (vipctl certs issue member NAME), put it in its place, reload";

const STALE: &str = "tls.crl should have been renewed: what it names is refused as before, and what was revoked since \
    is not known here; put the CA's new list there (vipctl certs revoke), reload";

/// Into which of the warnings' times so many seconds fall; `None`: there is time.
pub fn warning(seconds_left: i64) -> Option<i64> {
    WARNINGS_DAYS.into_iter().rev().find(|days| seconds_left < days * 86_400)
}

/// What an operator should know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Worry {
    /// It is not valid yet, or this clock is behind.
    NotYet,
    /// It ends within so many days.
    Ends {
        days: i64,
    },
    Over,
    /// The list of revoked ones is past its next update.
    ListOverdue,
}

/// What is to be known of a certificate with so many seconds to its beginning and to its end, less than 0 where they
/// are over, and of the list.
pub fn worries(seconds_to_begin: i64, seconds_left: i64, list_overdue: bool) -> Vec<Worry> {
    let of_certificate = match warning(seconds_left) {
        _ if seconds_to_begin > 0 => Some(Worry::NotYet),
        Some(_) if seconds_left < 0 => Some(Worry::Over),
        Some(days) => Some(Worry::Ends { days }),
        None => None,
    };
    of_certificate.into_iter().chain(list_overdue.then_some(Worry::ListOverdue)).collect()
}

/// What was told last, and when.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<Worry, Time>);

impl Told {
    /// Those that are to be told now: that were not within the last day.
    pub fn due(&mut self, worries: Vec<Worry>, now: Time) -> Vec<Worry> {
        self.0.retain(|_, at| now.since(*at) < TELL_EVERY);
        let new: Vec<Worry> = worries.into_iter().filter(|worry| !self.0.contains_key(worry)).collect();
        self.0.extend(new.iter().map(|worry| (*worry, now)));
        new
    }
}

impl Credentials {
    /// Seconds until the certificate ends, less than 0 where it is over.
    pub fn seconds_left(&self) -> i64 {
        seconds_until(self.validity().1)
    }

    /// Warns of what there is to know ([`Worry`]), until the process ends.
    pub async fn warn_as_it_ages(self: Arc<Self>) {
        let mut told = Told::default();
        loop {
            for worry in told.due(self.worries(), clock::now()) {
                match worry {
                    Worry::Over => tracing::error!("{}", self.words(worry)),
                    Worry::NotYet | Worry::Ends { .. } | Worry::ListOverdue => {
                        tracing::warn!("{}", self.words(worry));
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn worries(&self) -> Vec<Worry> {
        let overdue = self.next_list().is_some_and(|at| clock::wall() >= at);
        worries(seconds_until(self.validity().0), self.seconds_left(), overdue)
    }

    /// What an operator should know now of the certificate and of the list of revoked ones.
    pub fn warnings(&self) -> Vec<String> {
        self.worries().into_iter().map(|worry| self.words(worry)).collect()
    }

    fn words(&self, worry: Worry) -> String {
        let identity = self.identity();
        match worry {
            Worry::NotYet => format!(
                "the certificate of {identity} is not valid yet, or this clock is behind: others refuse it until it is"
            ),
            Worry::Over => format!("the certificate of {identity} is over: {NEXT}"),
            Worry::Ends { .. } => match self.seconds_left().div_euclid(86_400) {
                ..1 => format!("the certificate of {identity} ends within a day: {NEXT}"),
                1 => format!("the certificate of {identity} ends in 1 day: {NEXT}"),
                days => format!("the certificate of {identity} ends in {days} days: {NEXT}"),
            },
            Worry::ListOverdue => STALE.to_owned(),
        }
    }
}

fn seconds_until(at: crate::model::WallMs) -> i64 {
    let ms = |wall: crate::model::WallMs| i64::try_from(wall.0).unwrap_or(i64::MAX);
    ms(at).saturating_sub(ms(clock::wall())).div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn at(hour: i64) -> Time {
        Time::from_millis(u64::try_from(hour * HOUR * 1000).expect("not before the start"))
    }

    /// Hour by hour from `left` days before the end to two days after it: when each was told, in hours.
    fn told(left: i64) -> BTreeMap<Worry, Vec<i64>> {
        let (mut told, mut all) = (Told::default(), BTreeMap::<Worry, Vec<i64>>::new());
        for hour in 0..(left + 2) * 24 {
            let seconds_left = left * DAY - hour * HOUR;
            for worry in told.due(worries(-1, seconds_left, false), at(hour)) {
                all.entry(worry).or_default().push(hour);
            }
        }
        all
    }

    #[test]
    fn fault_63_each_time_is_told_when_it_begins_and_daily_from_then_on() {
        let all = told(40);
        let begin = |days: i64| (40 - days) * 24 + 1;
        let daily = |from: i64, times: i64| (0..times).map(|day| from + day * 24).collect::<Vec<_>>();
        let expected = [
            (Worry::Ends { days: 30 }, daily(begin(30), 23)),
            (Worry::Ends { days: 7 }, daily(begin(7), 6)),
            (Worry::Ends { days: 1 }, daily(begin(1), 1)),
            (Worry::Over, daily(begin(0), 2)),
        ];
        assert_eq!(all, expected.into());
    }

    #[test]
    fn a_clock_that_steps_over_the_line_and_back_tells_each_once_a_day() {
        let (mut told, mut count) = (Told::default(), 0);
        for hour in 0..48 {
            let left = if hour % 2 == 0 { 7 * DAY + 1 } else { 7 * DAY - 1 };
            count += told.due(worries(-1, left, false), at(hour)).len();
        }
        assert_eq!(count, 4, "two lines, two days");
    }

    #[test]
    fn a_list_is_told_of_beside_the_certificate() {
        let mut told = Told::default();
        assert_eq!(told.due(worries(-1, 40 * DAY, true), at(1)), [Worry::ListOverdue]);
        let both = worries(-1, 6 * DAY, true);
        assert_eq!(both, [Worry::Ends { days: 7 }, Worry::ListOverdue]);
        assert_eq!(told.due(both, at(2)), [Worry::Ends { days: 7 }], "the list was told of an hour ago");
        assert_eq!(worries(5, 40 * DAY, false), [Worry::NotYet]);
        assert_eq!(worries(-1, 40 * DAY, false), []);
    }
}
