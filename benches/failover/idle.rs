//! What a member costs at rest: processor, memory, and bytes on the wire.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bed::Bed;
use crate::daemons::Daemons;
use crate::plan::{Group, System};

/// One member's.
#[derive(Debug, Serialize)]
pub struct Idle {
    pub system: &'static str,
    pub setting: &'static str,
    pub member: String,
    pub role: &'static str,
    /// Of one core, with the children that were waited for (keepalived's checks).
    pub core_percent: f64,
    /// The sum over its processes; pages that they share count in each.
    pub rss_mib: f64,
    /// Through the zone's interface, both ways.
    pub wire_bytes_s: f64,
}

/// What the kernel says of a member's processes.
struct Reading {
    /// In ticks of 10 ms (proc_pid_stat(5), USER_HZ).
    ticks: u64,
    rss_kib: u64,
    wire: u64,
}

/// Watches all members at once for a while, without any client.
pub fn watch(
    bed: &Bed,
    daemons: &mut dyn Daemons,
    group: &Group,
    settle: Duration,
    watch: Duration,
) -> anyhow::Result<Vec<Idle>> {
    let owner = daemons.ready(bed)?;
    std::thread::sleep(settle);
    let begun = Instant::now();
    let read = |member: &str| -> anyhow::Result<Reading> { read(&daemons.pids(bed, member)?) };
    let before: Vec<(String, Reading)> =
        bed.members().into_iter().map(|m| Ok((m.clone(), read(&m)?))).collect::<anyhow::Result<_>>()?;
    std::thread::sleep(watch);
    let mut all = Vec::new();
    for (member, old) in before {
        let new = read(&member)?;
        let seconds = begun.elapsed().as_secs_f64();
        all.push(Idle {
            system: group.system.name(),
            setting: group.system.setting(),
            role: role(group.system, member == owner),
            member,
            core_percent: number(new.ticks.saturating_sub(old.ticks)) / seconds,
            rss_mib: number(new.rss_kib) / 1024.0,
            wire_bytes_s: number(new.wire.saturating_sub(old.wire)) / seconds,
        });
    }
    Ok(all)
}

fn role(system: System, first: bool) -> &'static str {
    match (system, first) {
        (System::Yardstick, true) => "asks",
        (System::Yardstick, false) => "answers",
        (System::Vipd(_) | System::Keepalived(_), true) => "owner",
        (System::Vipd(_) | System::Keepalived(_), false) => "other",
    }
}

/// To compute with.
pub fn number(n: u64) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn read(pids: &[i32]) -> anyhow::Result<Reading> {
    let mut reading = Reading { ticks: 0, rss_kib: 0, wire: 0 };
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // utime, stime, cutime, cstime.
        reading.ticks += (11..15).filter_map(|i| fields.get(i)?.parse::<u64>().ok()).sum::<u64>();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        reading.rss_kib += rss.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        // The same for each: it is the namespace's.
        reading.wire = wire(&std::fs::read_to_string(format!("/proc/{pid}/net/dev"))?);
    }
    Ok(reading)
}

/// Received and sent bytes of every interface but lo.
fn wire(devices: &str) -> u64 {
    let others = devices.lines().skip(2).filter(|line| !line.trim_start().starts_with("lo:"));
    others
        .map(|line| {
            let counters = line.split(':').nth(1).unwrap_or_default();
            let numbers: Vec<u64> = counters.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            numbers.first().unwrap_or(&0) + numbers.get(8).unwrap_or(&0)
        })
        .sum()
}
