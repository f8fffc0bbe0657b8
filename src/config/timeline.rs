//! What the numbers mean in time: the report of `vipd --check`.

use std::fmt::Write;
use std::time::Duration;

use super::{Config, OnQuorumLoss};

/// How long EC2's read-backs go on without a repair while they are fast: R is this and one round
/// trip (FENCING.md, F-c).
const REPAIR: Duration = Duration::from_secs(2);

/// Between one candidate and the next (`decide/ended.rs`).
const STAGGER: Duration = Duration::from_millis(8);

enum Line {
    Heading(&'static str),
    /// What, how long, and what that is made of.
    Row(&'static str, String, String),
}
use Line::{Heading, Row};

impl Config {
    /// The derived timeline as aligned text, one length a line, ending in a newline. Round trips
    /// and fsyncs are counted, not guessed: they are the network's and the disk's.
    pub fn timeline(&self) -> String {
        let mut lines = self.raft_lines();
        lines.extend(self.failover_lines());
        lines.extend(self.health_lines());
        lines.extend(self.repair_lines());
        lines.extend(self.quorum_lines());
        let mut out = format!("timeline of {} in {}\n", self.member, self.cluster);
        for line in lines {
            // Writing to a String cannot fail.
            let _ = match line {
                Heading(text) => writeln!(out, "\n{text}"),
                Row(name, length, note) => {
                    writeln!(out, "{}", format!("  {name:<26}{length:>10}   {note}").trim_end())
                }
            };
        }
        out
    }

    fn raft_lines(&self) -> Vec<Line> {
        let t = &self.timing;
        vec![
            Heading("raft"),
            row("heartbeat", t.heartbeat, "from the leader to every member"),
            row("election timeout, least", t.election_min, "drawn anew for each election"),
            row("election timeout, most", t.election_max, ""),
            row("lease", t.lease(), "granted by this member: its longest election timeout"),
            row("margin", t.margin(), "a twentieth of the lease, at least 5 ms"),
            row("usable lease", t.usable_lease(), "lease - 1 % - margin: route calls start within it"),
            row(
                "quarantine after start",
                t.quarantine(),
                "lease + margin, or the longest lease ever granted: no vote, no campaign",
            ),
        ]
    }

    fn failover_lines(&self) -> Vec<Line> {
        let detect = self.timing.worst_detection();
        let attempt = self.aws.attempt_timeout;
        vec![
            Heading("failover from a daemon that died on a host that lives"),
            count("detect", "its lifelines end, seen by a majority: no lease is waited for"),
            row("next candidate", STAGGER, "after the best one, and so on: where that does not win"),
            count("then", "as below"),
            Heading("failover from a dead host or zone, at worst"),
            row("detect", detect, "lease + longest election timeout"),
            count("elect", "2 round trips + 2 fsyncs: the vote, the term's first entry"),
            count("claim", "1 round trip + 1 fsync"),
            row("route", attempt, "one attempt, every table in parallel: aws.attempt_timeout_ms"),
            row("worst failover", detect + attempt, "plus 3 round trips and 3 fsyncs"),
        ]
    }

    fn health_lines(&self) -> Vec<Line> {
        let h = &self.health;
        let mut lines = vec![Heading("health")];
        if h.haproxy_socket.is_some() {
            lines.push(Row(
                "HAProxy dead",
                "~15 ms".into(),
                "by its runtime socket's end, and no new one".into(),
            ));
        }
        if h.http.is_some() {
            let note = format!("health.interval_ms + health.timeout_ms x {}", h.fall);
            lines.push(row("HTTP check failing", h.interval + h.timeout * h.fall, &note));
        }
        if lines.len() == 1 {
            lines.push(count("no check", "this member always counts as healthy"));
        }
        lines
    }

    fn repair_lines(&self) -> Vec<Line> {
        vec![
            Heading("a wrong route is put right, while a majority lives"),
            row("R", REPAIR, "plus one EC2 round trip, once visible, after a claim"),
            row(
                "later",
                self.aws.reconcile + REPAIR,
                "aws.reconcile_s + R, plus one EC2 round trip, once visible",
            ),
        ]
    }

    fn quorum_lines(&self) -> Vec<Line> {
        let mut lines = vec![Heading("quorum lost")];
        lines.push(match self.policy.on_quorum_loss {
            OnQuorumLoss::Hold => count("address", "stays: policy.on_quorum_loss = hold"),
            OnQuorumLoss::Release => row(
                "address removed",
                self.timing.worst_detection(),
                "lease + longest election timeout; the routes stay",
            ),
        });
        if self.vip.lifetime_s > 0 {
            let most = Duration::from_secs(u64::from(self.vip.lifetime_s) + 1);
            let note = "at most, by the kernel: vip.lifetime_s + 1 s";
            lines.push(row("address gone, vipd frozen", most, note));
        }
        lines
    }
}

fn row(name: &'static str, length: Duration, note: &str) -> Line {
    Row(name, ms(length), note.to_owned())
}

/// For what has no length of its own.
fn count(name: &'static str, note: &str) -> Line {
    Row(name, "-".to_owned(), note.to_owned())
}

/// Milliseconds, with a fraction only where there is one.
fn ms(d: Duration) -> String {
    let whole = d.as_millis();
    match d.subsec_micros() % 1000 {
        0 => format!("{whole} ms"),
        micros => format!("{whole}.{} ms", format!("{micros:03}").trim_end_matches('0')),
    }
}
