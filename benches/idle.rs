//! What an idle member costs: memory, processor time and bytes on the wire, of three members with
//! the balanced profile in the lab. Prints; asserts nothing but that the group is steady.
//!
//! `cargo bench --workspace --profile dev --bench idle`, as root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// How long the group is left alone before, and how long it is watched.
const SETTLE: Duration = Duration::from_secs(20);
const WATCH: Duration = Duration::from_secs(30);

const LAB: &str = "idle";

fn main() -> anyhow::Result<()> {
    let lab = Path::new(env!("CARGO_BIN_EXE_vipd")).with_file_name("vip-lab");
    ensure!(lab.exists(), "{} is missing: cargo build --workspace --all-targets", lab.display());
    let lab = Lab(lab);
    lab.run(&["up", "--profile", "balanced"])?;
    let measured = measure(&lab);
    lab.run(&["down"])?;
    measured
}

struct Lab(PathBuf);

impl Lab {
    fn run(&self, args: &[&str]) -> anyhow::Result<Value> {
        let out = Command::new(&self.0).args(["--name", LAB]).args(args).output()?;
        ensure!(out.status.success(), "vip-lab {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(serde_json::from_slice(&out.stdout).unwrap_or(Value::Null))
    }

    fn pids(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let status = self.run(&["status"])?;
        let processes = status.get("processes").and_then(Value::as_array).context("no processes")?;
        let text = |p: &Value, key: &str| p.get(key).and_then(Value::as_str).map(str::to_owned);
        let vipd = processes.iter().filter(|p| text(p, "process").as_deref() == Some("vipd"));
        Ok(vipd.filter_map(|p| Some((text(p, "member")?, p.get("pid")?.as_u64()?))).collect())
    }
}

/// What the kernel says of one process.
struct Reading {
    /// User and system time, in ticks of 10 ms (proc(5), USER_HZ).
    ticks: u64,
    rss_kib: u64,
    anonymous_kib: u64,
    /// Bytes through the zone's interface, both ways.
    wire: u64,
}

fn read(pid: u64) -> anyhow::Result<Reading> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let tick = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |key: &str| {
        let line = status.lines().find(|l| l.starts_with(key)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let devices = std::fs::read_to_string(format!("/proc/{pid}/net/dev"))?;
    let wire = devices.lines().skip(2).filter(|l| !l.trim_start().starts_with("lo:")).map(|line| {
        let numbers: Vec<u64> = line
            .split(':')
            .nth(1)
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        numbers.first().unwrap_or(&0) + numbers.get(8).unwrap_or(&0)
    });
    Ok(Reading {
        ticks: tick(11) + tick(12),
        rss_kib: kib("VmRSS:"),
        anonymous_kib: kib("RssAnon:"),
        wire: wire.sum(),
    })
}

fn measure(lab: &Lab) -> anyhow::Result<()> {
    eprintln!("settling for {} s, then watching for {} s", SETTLE.as_secs(), WATCH.as_secs());
    std::thread::sleep(SETTLE);
    let status = lab.run(&["vipctl", "az-a", "--", "-o", "json", "status"])?;
    let state = status.get("state").and_then(Value::as_str).unwrap_or("not known");
    ensure!(state == "steady", "the group is {state}, not steady: {status}");
    let leader = status.get("leader").and_then(Value::as_str).unwrap_or_default().to_owned();
    let pids = lab.pids()?;
    ensure!(pids.len() == 3, "{} daemons run, not 3", pids.len());
    let begin = Instant::now();
    let before: Vec<(String, u64, Reading)> =
        pids.into_iter().map(|(name, pid)| Ok((name, pid, read(pid)?))).collect::<anyhow::Result<_>>()?;
    std::thread::sleep(WATCH);
    println!("member  role      core %  RSS MiB  of it heap MiB  wire bytes/s");
    for (name, pid, old) in before {
        let new = read(pid)?;
        let seconds = begin.elapsed().as_secs_f64();
        let role = if name == leader { "leader" } else { "follower" };
        let share = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX)) / seconds;
        println!(
            "{name:6}  {role:8}  {:6.2}  {:7.1}  {:14.1}  {:12.0}",
            share(new.ticks - old.ticks),
            mib(new.rss_kib),
            mib(new.anonymous_kib),
            share(new.wire - old.wire),
        );
    }
    Ok(())
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}
