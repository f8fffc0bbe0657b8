//! Many seeds, on every core.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use vipd::mutant::{self, Mutant};

use crate::chaos::KINDS;
use crate::referee::{Transcript, Violation};
use crate::stories::{Death, Failover};
use crate::world::{Plan, Report, run};

/// What many runs came to.
#[derive(Default)]
pub struct Tally {
    pub seeds: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub calls: u64,
    pub claims: u64,
    pub moves: u64,
    /// Messages that overtook another in bad weather.
    pub overtook: u64,
    /// Entries that the referee applied itself, and ledgers of members that it went on from where no disk that it saw
    /// had the entry any more.
    pub replayed: (u64, u64),
    /// Saves that failed, of those that were to.
    pub failed_saves: u64,
    /// Calls that members count as dropped with the lease.
    pub dropped: u64,
    /// From the owner's loss to the last route, by how it was lost.
    pub failovers: BTreeMap<Death, Vec<Duration>>,
    /// How many of these took so many elections.
    pub elections: BTreeMap<u32, u64>,
    pub healings: Vec<Duration>,
    /// The runs with a violation, by seed.
    pub failed: BTreeMap<u64, Report>,
}

/// Whether to go on after a violation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    GoOn,
    /// At one of these properties; at any, where there are none.
    StopAt(&'static [&'static str]),
}

impl After {
    fn stops(self, violations: &[Violation]) -> bool {
        match self {
            After::GoOn => false,
            After::StopAt(wanted) => {
                violations.iter().any(|v| wanted.is_empty() || wanted.contains(&v.property))
            }
        }
    }
}

/// Runs the seeds `from..from + count`, all by one plan, with these guards out.
pub fn many(from: u64, count: u64, plan: &Plan, guards_out: &[Mutant], after: After) -> Tally {
    many_by(from, count, &|_| plan.clone(), guards_out, after)
}

/// Runs the seeds `from..from + count`, each by its plan, with these guards out. Where one seed is asked for, prints its
/// transcript and runs no other: `cluster/sim.sh --seed N TEST`.
pub fn many_by(
    from: u64,
    count: u64,
    plan: &(dyn Fn(u64) -> Plan + Sync),
    guards_out: &[Mutant],
    after: After,
) -> Tally {
    if let Some(seed) = crate::setting("VIPD_SIM_SEED") {
        mutant::set(guards_out);
        let report = run(seed, &plan(seed), Transcript::Lines);
        report.transcript.iter().for_each(|line| println!("{line}"));
        let mut tally = Tally::default();
        tally.add(report);
        return tally;
    }
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let tally = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let progress = std::io::stderr().is_terminal() && count >= 500;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                mutant::set(guards_out);
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    let report = run(seed, &plan(seed), Transcript::Digest);
                    if after.stops(&report.violations) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    let mut tally = tally.lock().expect("no panic while it is held");
                    tally.add(report);
                    if progress && tally.seeds % 100 == 0 {
                        let (done, bad) = (tally.seeds, tally.failed.len());
                        let _ =
                            write!(std::io::stderr(), "\r{done} of {count} seeds, {bad} with a violation ");
                    }
                }
            });
        }
    });
    if progress {
        eprintln!();
    }
    tally.into_inner().expect("no panic while it is held")
}

impl Tally {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.calls += report.calls;
        self.claims += report.claims;
        self.moves += report.moves;
        self.overtook += report.mail.overtook;
        self.replayed.0 += report.replayed.0;
        self.replayed.1 += report.replayed.1;
        self.failed_saves += report.failed_saves;
        self.dropped += report.dropped;
        if let Some(Failover { death, took, elections }) = report.failover {
            self.failovers.entry(death).or_default().push(took);
            *self.elections.entry(elections).or_default() += 1;
        }
        self.healings.extend(report.healing);
        let (mail, ec2) = (report.mail, report.ec2);
        let counted = [
            ("message lost", mail.lost),
            ("message doubled", mail.doubled),
            ("message late, overtaken", mail.late),
            ("message into a cut", mail.cut),
            ("message of no member refused", mail.refused),
            ("snapshot taken over", report.snapshots.0),
            ("start from a snapshot", report.snapshots.1),
            ("save that took long", report.slow_saves),
            ("lifeline ends", mail.ended),
            ("lifeline ends falsely", mail.ended_falsely),
            ("lifeline reset", mail.reset),
            ("EC2 refuses", ec2.refused),
            ("EC2 fails after the deed", ec2.failed_after),
            ("EC2's answer lost", ec2.answers_lost),
            ("EC2 executes late", ec2.late),
            ("late write turns a route away", ec2.misled),
            ("EC2 is slow", ec2.slow),
            ("EC2 throttles", ec2.throttled),
            ("EC2 shows old routes", ec2.old_looks),
            ("call stopped by the fence", ec2.fenced),
            ("call dropped with its lease", ec2.dropped),
        ];
        for (kind, count) in counted.into_iter().chain(report.faults.iter().map(|(k, n)| (*k, *n))) {
            *self.faults.entry(kind).or_default() += count;
        }
        if !report.violations.is_empty() {
            self.failed.insert(report.seed, report);
        }
    }

    /// Kinds of fault that never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        let counted = self.faults.iter().filter(|(_, n)| **n == 0).map(|(kind, _)| *kind);
        counted.chain(KINDS.iter().copied().filter(|kind| !self.faults.contains_key(kind))).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let violations: usize = self.failed.values().map(|r| r.violations.len()).sum();
        writeln!(f, "seeds       {:>9}", self.seeds)?;
        writeln!(f, "violations  {violations:>9}")?;
        writeln!(f, "EC2 calls   {:>9}", self.calls)?;
        writeln!(f, "claims      {:>9}", self.claims)?;
        writeln!(f, "moves       {:>9}", self.moves)?;
        writeln!(f, "overtook    {:>9}", self.overtook)?;
        writeln!(f, "replayed    {:>9} entries, taken up again {}", self.replayed.0, self.replayed.1)?;
        writeln!(f, "failed      {:>9} saves", self.failed_saves)?;
        let healings = ("the end of all faults to route = owner = address", &self.healings);
        let failovers = self.failovers.iter().map(|(death, took)| (death.told(), took));
        for (what, took) in std::iter::once(healings).chain(failovers) {
            let mut took = took.clone();
            took.sort_unstable();
            let at = |part: usize| took.get(took.len() * part / 100).or(took.last());
            if let (Some(median), Some(most), Some(max)) = (at(50), at(99), took.last()) {
                writeln!(f, "{what}: median {median:.0?}, 99 of 100 within {most:.0?}, at most {max:.0?}")?;
            }
        }
        for (elections, count) in &self.elections {
            writeln!(f, "failovers that took {elections} elections: {count}")?;
        }
        writeln!(f, "faults")?;
        for (kind, count) in &self.faults {
            writeln!(f, "  {kind:<28}{count:>9}")?;
        }
        for (seed, report) in self.failed.iter().take(10) {
            for v in report.violations.iter().take(3) {
                writeln!(f, "seed {seed} at {:?}: {}: {}", v.at, v.property, v.words)?;
            }
        }
        if let Some(seed) = self.failed.keys().next() {
            writeln!(
                f,
                "replay: ./cluster/sim.sh --seed {seed}, and the test's name if it is not many_seeds_hold"
            )?;
        }
        Ok(())
    }
}
