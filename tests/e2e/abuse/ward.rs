//! What is watched while a member is attacked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::nice;

use super::attack::{APPEND, STATUS};
use super::wire::{Target, Way};
use super::{DESCRIPTORS_MAX, GROWTH_MAX_KIB};
use crate::anybody::{config, shown};
use crate::lab::{BOUND, Lab, MEMBERS, measured, until};
use crate::status::Status;

/// Between two looks at the lease: it says the least of the last 15 s at least (`src/driver/ebb.rs`).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two counts of the descriptors: a connection that says nothing is held for a second or longer.
const COUNT_EVERY: Duration = Duration::from_millis(50);

pub struct Ward<'a> {
    lab: &'a Lab,
    pub owner: String,
    before: Status,
    swaps: usize,
    /// So much of the owner's lease must be left at any time.
    least: Duration,
}

/// An attack is over, also by a panic.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Of one process, from /proc/PID/status.
fn kib(pid: &str, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How many a process has open.
fn descriptors(pid: &str) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn address(member: &str, port: u16) -> std::net::SocketAddr {
    let zone = MEMBERS.iter().position(|m| *m == member).unwrap() + 1;
    format!("10.0.{zone}.10:{port}").parse().unwrap()
}

impl<'a> Ward<'a> {
    pub fn of(lab: &'a Lab, least: Duration) -> Self {
        let owner = lab.steady();
        let before = lab.status(&owner).unwrap();
        let ward = Self { lab, owner, before, swaps: lab.swaps().len(), least };
        // Not what was left of the lease when the claim was new.
        until("the lease has been held for a while", 4 * BOUND, || {
            let lowest = ward.lowest()?;
            if lowest > ward.least { Ok(()) } else { Err(format!("{lowest:?}")) }
        });
        ward
    }

    /// Both ports, without TLS.
    pub fn in_the_clear(&self, member: &str) -> Vec<Target> {
        [(7400, APPEND, 64), (7401, STATUS, 16)]
            .map(|(port, path, at_once)| Target { way: Way::Tcp(address(member, port)), path, at_once })
            .to_vec()
    }

    /// The members' port with another member's certificate, the operators' with a viewer's.
    pub fn with_certificates(&self, member: &str, thief: &str) -> Vec<Target> {
        let way = |port: u16, who: String| {
            let file = |end: &str| self.lab.dir.join(format!("{who}.{end}"));
            let shown = shown(&file("pem"), &file("key"));
            Way::Tls(address(member, port), config(Some(shown), &rustls::version::TLS13))
        };
        vec![
            Target { way: way(7400, format!("{thief}/{thief}")), path: APPEND, at_once: 64 },
            Target { way: way(7401, "pki/viewer-lab".to_owned()), path: STATUS, at_once: 16 },
        ]
    }

    /// The owner's port for monitors.
    pub fn monitors(&self) -> Target {
        Target { way: Way::Tcp("127.0.0.1:9407".parse().unwrap()), path: "/metrics", at_once: 0 }
    }

    /// The owner's unix socket, to which the test, as root, is an operator.
    pub fn socket(&self) -> Target {
        let path = self.lab.dir.join(&self.owner).join("admin.sock");
        Target { way: Way::Unix(path), path: STATUS, at_once: 16 }
    }

    /// The least that was left of the owner's lease a moment ago.
    fn lowest(&self) -> Result<Duration, String> {
        let (_, metrics) = self.lab.get(&self.owner, "127.0.0.1:9407", "/metrics")?;
        let value = metrics.lines().find_map(|l| l.strip_prefix("vipd_lease_lowest_seconds "));
        let seconds = value.ok_or("no lease")?.parse().map_err(|e| format!("{e}"))?;
        Ok(Duration::from_secs_f64(seconds))
    }

    /// Attacks a member by all of these ways at once: what it grows to and what is left of the owner's lease
    /// are bounded, and nothing moves.
    pub fn under(
        &self,
        name: &str,
        member: &str,
        ways: &[Target],
        attack: impl Fn(&Target) -> String + Sync,
    ) {
        let pid = self.lab.pid(member).as_raw_nonzero().to_string();
        // The high-water mark starts anew (proc(5), clear_refs).
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
        let (before, open_before) = (kib(&pid, "VmRSS"), descriptors(&pid));
        let from = if ways.iter().any(|t| matches!(t.way, Way::Tcp(a) if a.ip().is_loopback())) {
            member
        } else {
            "client"
        };
        let over = AtomicBool::new(false);
        let (did, least, most_open) = std::thread::scope(|scope| {
            // Whatever comes of the attack: who watches is waited for.
            let ended = Ended(&over);
            // The monitors' port may be what is attacked: then a look fails, and the one afterwards counts.
            let watcher = scope.spawn(|| {
                let (mut least, mut most_open, mut looked) = (Duration::MAX, 0, None::<Instant>);
                while !over.load(Ordering::Relaxed) {
                    most_open = most_open.max(descriptors(&pid));
                    if looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
                        least = least.min(self.lowest().unwrap_or(Duration::MAX));
                        looked = Some(Instant::now());
                    }
                    std::thread::sleep(COUNT_EVERY);
                }
                (least, most_open)
            });
            let did = self.lab.within(from, || {
                std::thread::scope(|scope| {
                    // A thread starts in the namespace of the one that starts it.
                    let threads = ways.iter().map(|way| {
                        scope.spawn(|| {
                            // Of this thread: whoever attacks has a machine of his own.
                            nice(10).unwrap();
                            attack(way)
                        })
                    });
                    let threads: Vec<_> = threads.collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
                })
            });
            drop(ended);
            let (least, most_open) = watcher.join().unwrap();
            (did, least, most_open)
        });
        let more_open = most_open.saturating_sub(open_before);
        let growth = kib(&pid, "VmHWM").saturating_sub(before);
        let least = least.min(until("the monitors' port answers", BOUND, || self.lowest()));
        let did = did.join(", ");
        measured(&format!(
            "{name} on {member}: {did}; {before} KiB grew by {growth} KiB, {open_before} descriptors by {more_open}; lease {least:?}"
        ));
        assert!(growth <= GROWTH_MAX_KIB, "{name}: {growth} KiB");
        assert!(more_open <= DESCRIPTORS_MAX, "{name}: {more_open} descriptors");
        assert!(least >= self.least, "{name}: of the lease {least:?} was left");
        self.is_as_before(name);
    }

    fn is_as_before(&self, what: &str) {
        let now = self.lab.status(&self.owner).unwrap();
        let of = |s: &Status| (s.term, s.epoch, s.owner.clone());
        assert_eq!(of(&now), of(&self.before), "{what}: {now:?}");
    }

    pub fn nothing_moved(&self) {
        assert_eq!(self.lab.swaps().len(), self.swaps, "nothing moved");
        assert_eq!(self.lab.steady(), self.owner);
        self.lab.assert_fenced();
    }
}
