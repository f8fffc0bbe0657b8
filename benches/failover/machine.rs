//! Where it was measured, and with what.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use serde::Serialize;

use crate::keepalived;

#[derive(Debug, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub processor: String,
    pub memory_gib: u64,
    pub kernel: String,
    pub system: String,
    /// Runnable processes over the minute before.
    pub load: String,
    /// nice(1)'s of everything that was measured: this process hands its own on.
    pub nice: i32,
    /// What the members keep their logs on: each sync of it counts.
    pub disk: String,
    pub vipd: String,
    pub build: String,
    pub haproxy: String,
    pub keepalived: String,
    pub aws_cli: String,
}

impl Machine {
    pub fn look(dir: &Path) -> anyhow::Result<Self> {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str, by: char| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(by).map_or("not known", |(_, v)| v).trim().trim_matches('"').to_owned()
        };
        let memory = value(&text("/proc/meminfo"), "MemTotal", ':');
        let memory_kib: u64 = memory.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let optimized = if cfg!(debug_assertions) { "dev profile (opt-level 1)" } else { "release profile" };
        let commit = commit()?;
        let aws = keepalived::aws()?;
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: value(&text("/proc/cpuinfo"), "model name", ':'),
            memory_gib: memory_kib.div_ceil(1 << 20),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: value(&text("/etc/os-release"), "PRETTY_NAME", '='),
            load: text("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            nice: rustix::process::getpriority_process(None)?,
            disk: filesystem(dir)?,
            vipd: format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
            build: optimized.into(),
            haproxy: word(&said("haproxy", &["-v"]), 2),
            keepalived: word(&said("keepalived", &["--version"]), 1),
            aws_cli: word(&said(&aws.display().to_string(), &["--version"]), 0).replace("aws-cli/", ""),
        })
    }
}

/// The type of the one that holds this folder, or will: of the mount whose path is the longest of those above it
/// (proc_pid_mounts(5)).
fn filesystem(dir: &Path) -> anyhow::Result<String> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    // Of two on one folder the last one is seen.
    let holds = fields.filter(|(at, _)| dir.starts_with(at)).max_by_key(|(at, _)| at.len());
    Ok(holds.map_or("not known", |(_, kind)| kind).to_owned())
}

/// Of all processors' time since the machine started, in ticks: all of it, and what the machine below took away
/// (proc_stat(5)).
pub fn ticks() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    (ticks.iter().sum(), ticks.get(7).copied().unwrap_or(0))
}

/// Of the folder that cargo runs this in, its package's: one that was noted at build time may be another checkout's.
fn commit() -> anyhow::Result<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output()?;
    let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(!commit.is_empty(), "git knows no commit here, and figures need one: {}", why.trim());
    Ok(commit)
}

/// The first line that the program prints, wherever.
fn said(program: &str, args: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(args).output() else { return String::new() };
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).lines().next().unwrap_or_default().to_owned()
}

fn word(line: &str, n: usize) -> String {
    line.split(' ').nth(n).unwrap_or("not known").trim_matches([',', 'v']).to_owned()
}
