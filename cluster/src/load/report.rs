//! From single requests to an outage.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Failure, Plan, Sample};

/// Single failures beyond this many are only counted.
const MOST_LISTED: usize = 1000;

/// What the client saw. Times are CLOCK_BOOTTIME; a request's time is when it started.
#[derive(Debug, Serialize)]
pub struct Report {
    vip: String,
    every_ms: u64,
    /// The first request's start.
    pub started_boot_ns: u64,
    /// From the first request's start to the last one's.
    pub seconds: f64,
    /// All.
    pub requests: usize,
    /// Those that a member answered.
    pub ok: usize,
    /// The others.
    pub failed: usize,
    /// By kind.
    pub failed_by_kind: BTreeMap<Failure, usize>,
    /// Failures of connections that stood already (reset, or no answer), and how many of these were answered on one
    /// immediate second try.
    pub open_connections_broken: usize,
    /// Of those.
    pub retried_ok: usize,
    /// The longest outage: from the start of the first failed request to the start of the first answered one after it.
    pub outage_ms: f64,
    /// The longest time between the starts of two answered requests, one after the other; the true outage is at
    /// most this.
    pub longest_gap_ms: f64,
    /// All outages in order.
    pub outages: Vec<Outage>,
    /// The answered request that took longest.
    pub slowest_ok_ms: f64,
    /// Who answered, in order.
    pub owners: Vec<Owner>,
    /// The first 1000.
    pub failures: Vec<Failed>,
}

/// A row of failed requests.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Outage {
    /// The first failed request's start.
    pub from_boot_ns: u64,
    /// The next answered request's start; null: none came.
    pub to_boot_ns: Option<u64>,
    /// Between them, or up to the last request.
    pub ms: f64,
    /// How many.
    pub failed: usize,
    /// Who answered last before it.
    pub before: Option<String>,
    /// Who answered first after it.
    pub after: Option<String>,
}

/// A row of answers from one member.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Owner {
    /// Who.
    pub member: String,
    /// The first one's start.
    pub first_boot_ns: u64,
    /// The last one's start.
    pub last_boot_ns: u64,
    /// How many.
    pub answers: usize,
}

/// One failed request.
#[derive(Clone, Debug, Serialize)]
pub struct Failed {
    /// Its start.
    pub start_boot_ns: u64,
    /// When it was known.
    pub end_boot_ns: u64,
    /// How.
    pub kind: Failure,
    /// Whether one immediate second try was answered; null: none was made.
    pub retry_ok: Option<bool>,
}

fn ms(ns: u64) -> f64 {
    // Microseconds fit a double exactly for centuries.
    #[expect(clippy::cast_precision_loss, reason = "a lab does not run for 285 years")]
    let us = (ns / 1_000) as f64;
    us / 1_000.0
}

impl Report {
    /// Of samples in the order in which they started.
    pub fn new(plan: &Plan, samples: &[Sample]) -> Self {
        let first = samples.first().map_or(0, |s| s.start_ns);
        let last = samples.last().map_or(0, |s| s.start_ns);
        let mut report = Self {
            vip: plan.target.to_string(),
            every_ms: u64::try_from(plan.every.as_millis()).unwrap_or(u64::MAX),
            started_boot_ns: first,
            seconds: ms(last - first) / 1_000.0,
            requests: samples.len(),
            ok: 0,
            failed: 0,
            failed_by_kind: BTreeMap::new(),
            open_connections_broken: 0,
            retried_ok: 0,
            outage_ms: 0.0,
            longest_gap_ms: 0.0,
            outages: Vec::new(),
            slowest_ok_ms: 0.0,
            owners: Vec::new(),
            failures: Vec::new(),
        };
        let mut open: Option<Outage> = None;
        let mut last_ok: Option<u64> = None;
        for sample in samples {
            match &sample.result {
                Ok(member) => {
                    report.answered(sample, member);
                    report.longest_gap_ms =
                        report.longest_gap_ms.max(last_ok.map_or(0.0, |at| ms(sample.start_ns - at)));
                    last_ok = Some(sample.start_ns);
                    if let Some(mut outage) = open.take() {
                        outage.to_boot_ns = Some(sample.start_ns);
                        outage.ms = ms(sample.start_ns - outage.from_boot_ns);
                        outage.after = Some(member.clone());
                        report.outages.push(outage);
                    }
                }
                Err(kind) => {
                    report.broken(sample, *kind);
                    let before = || report.owners.last().map(|o| o.member.clone());
                    let outage = open.get_or_insert_with(|| Outage {
                        from_boot_ns: sample.start_ns,
                        to_boot_ns: None,
                        ms: 0.0,
                        failed: 0,
                        before: before(),
                        after: None,
                    });
                    outage.failed += 1;
                }
            }
        }
        if let Some(mut outage) = open {
            outage.ms = ms(last - outage.from_boot_ns);
            report.outages.push(outage);
        }
        report.outage_ms = report.outages.iter().map(|o| o.ms).fold(0.0, f64::max);
        report
    }

    fn answered(&mut self, sample: &Sample, member: &str) {
        self.ok += 1;
        self.slowest_ok_ms = self.slowest_ok_ms.max(ms(sample.end_ns.saturating_sub(sample.start_ns)));
        match self.owners.last_mut() {
            Some(owner) if owner.member == member => {
                owner.last_boot_ns = sample.start_ns;
                owner.answers += 1;
            }
            _ => self.owners.push(Owner {
                member: member.into(),
                first_boot_ns: sample.start_ns,
                last_boot_ns: sample.start_ns,
                answers: 1,
            }),
        }
    }

    fn broken(&mut self, sample: &Sample, kind: Failure) {
        self.failed += 1;
        *self.failed_by_kind.entry(kind).or_default() += 1;
        let retry_ok = sample.retry.as_ref().map(Result::is_ok);
        self.open_connections_broken += usize::from(retry_ok.is_some());
        self.retried_ok += usize::from(retry_ok == Some(true));
        if self.failures.len() < MOST_LISTED {
            self.failures.push(Failed {
                start_boot_ns: sample.start_ns,
                end_boot_ns: sample.end_ns,
                kind,
                retry_ok,
            });
        }
    }

    /// `2 connect timeout, 1 reset`.
    pub fn kinds(&self) -> String {
        let name = |kind: &Failure| match kind {
            Failure::Refused => "refused",
            Failure::Unreachable => "unreachable",
            Failure::ConnectTimeout => "connect timed out",
            Failure::Reset => "reset",
            Failure::AnswerTimeout => "answer timed out",
            Failure::BadAnswer => "bad answer",
            Failure::NotSent => "not sent",
        };
        let all: Vec<_> =
            self.failed_by_kind.iter().map(|(kind, count)| format!("{count} {}", name(kind))).collect();
        all.join(", ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, vip, every_ms, seconds, failed, .. } = self;
        writeln!(f, "{requests} requests to {vip} in {seconds:.1} s, a new connection every {every_ms} ms")?;
        match failed {
            0 => writeln!(f, "none failed; the slowest answer took {:.1} ms", self.slowest_ok_ms)?,
            _ => writeln!(f, "{failed} failed: {}", self.kinds())?,
        }
        if self.open_connections_broken > 0 {
            let (broken, again) = (self.open_connections_broken, self.retried_ok);
            writeln!(
                f,
                "{broken} of these were open connections; {again} were answered on an immediate second try"
            )?;
        }
        if *failed > 0 {
            writeln!(
                f,
                "longest outage {:.1} ms (from the first failed request to the first answered one)",
                self.outage_ms
            )?;
        }
        for owner in &self.owners {
            let at = |ns: u64| ms(ns.saturating_sub(self.started_boot_ns)) / 1_000.0;
            let (member, answers) = (&owner.member, owner.answers);
            writeln!(
                f,
                "  {member}  {:8.3} s to {:8.3} s  {answers} answers",
                at(owner.first_boot_ns),
                at(owner.last_boot_ns)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::spec::Spec;

    fn sample(start_ms: u64, result: Result<&str, Failure>) -> Sample {
        let start_ns = start_ms * 1_000_000;
        let retry = matches!(result, Err(Failure::Reset)).then(|| Ok("az-b".into()));
        let (end_ns, result) = (start_ns + 400_000, result.map(str::to_owned));
        Sample { start_ns, end_ns, result, retry, over_ns: end_ns }
    }

    fn report(samples: &[Sample]) -> Report {
        let spec = Spec::new("vip", Path::new("/run/x"), 3, 3).unwrap();
        Report::new(&Plan::new(&spec, Duration::from_millis(5), Duration::from_secs(1)).unwrap(), samples)
    }

    #[test]
    fn the_outage_runs_from_the_first_failure_to_the_next_answer() {
        let refused = Err(Failure::Refused);
        let r = report(&[
            sample(100, Ok("az-a")),
            sample(105, Err(Failure::Reset)),
            sample(110, refused),
            sample(115, refused),
            sample(120, Ok("az-b")),
            sample(125, refused),
            sample(130, Ok("az-b")),
        ]);
        assert_eq!((r.requests, r.ok, r.failed, r.retried_ok), (7, 3, 4, 1));
        assert_eq!((r.outage_ms, r.longest_gap_ms), (15.0, 20.0));
        assert_eq!(r.outages.len(), 2);
        assert_eq!(
            (r.outages[0].before.as_deref(), r.outages[0].after.as_deref()),
            (Some("az-a"), Some("az-b"))
        );
        assert_eq!(r.owners.iter().map(|o| o.answers).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(r.kinds(), "3 refused, 1 reset");
    }

    #[test]
    fn an_outage_without_an_end() {
        let r = report(&[
            sample(0, Ok("az-a")),
            sample(5, Err(Failure::ConnectTimeout)),
            sample(45, Err(Failure::ConnectTimeout)),
        ]);
        assert_eq!((r.outage_ms, r.outages[0].to_boot_ns), (40.0, None));
        let quiet = report(&[sample(0, Ok("az-a")), sample(5, Ok("az-a"))]);
        assert_eq!((quiet.outage_ms, quiet.failed), (0.0, 0));
        assert_eq!(report(&[]).requests, 0);
    }
}
