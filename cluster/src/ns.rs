//! Network namespaces: make them, enter them, find who lives in them.
//!
//! A thread enters a namespace, not a process; what that thread spawns starts there. So no `ip netns exec`, and a
//! child's pid is its own.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps a namespace.
pub fn path(ns: &str) -> PathBuf {
    Path::new("/run/netns").join(ns)
}

/// True once `ip netns add` has made it.
pub fn exists(ns: &str) -> bool {
    path(ns).exists()
}

/// Moves the calling thread, for good.
pub fn enter(ns: &str) -> anyhow::Result<()> {
    let file =
        File::open(path(ns)).with_context(|| format!("no network namespace {ns} (vip-lab up makes it)"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).with_context(|| {
        format!("cannot enter the network namespace {ns} (this needs root, or unshare -rnm)")
    })
}

/// Runs `work` on a thread of its own inside the namespace and waits for it.
pub fn within<T: Send>(ns: &str, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let run = || enter(ns).and_then(|()| work());
    match std::thread::scope(|scope| scope.spawn(run).join()) {
        Ok(result) => result,
        Err(_) => bail!("the thread in namespace {ns} panicked"),
    }
}

/// One `ip -batch` in this namespace, or in the current one.
pub fn ip(ns: Option<&str>, batch: &str) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    if let Some(ns) = ns {
        command.args(["-n", ns]);
    }
    feed(command.args(["-batch", "-"]), batch)
}

/// The same for IPv6: a batch's rules are of one family.
pub fn ip_v6(ns: &str, batch: &str) -> anyhow::Result<()> {
    feed(Command::new("ip").args(["-6", "-n", ns, "-batch", "-"]), batch)
}

/// One atomic `nft -f` in the current thread's namespace.
pub fn nft(ruleset: &str) -> anyhow::Result<()> {
    feed(Command::new("nft").args(["-f", "-"]), ruleset)
}

fn feed(command: &mut Command, input: &str) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program} (cluster/setup.sh installs it)"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("{program} closed its input"))?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{program}: {}\nin:\n{input}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Writes one `/proc/sys/net` value of the calling thread's namespace; an absent one is left out.
pub fn sysctl(key: &str, value: &str) -> anyhow::Result<()> {
    let path = Path::new("/proc/sys/net").join(key);
    if !path.exists() {
        return Ok(());
    }
    std::fs::write(&path, value).with_context(|| format!("cannot set {} to {value}", path.display()))
}

/// The processes whose main thread is in the namespace.
pub fn processes(ns: &str) -> Vec<i32> {
    let Ok(wanted) = std::fs::metadata(path(ns)).map(|m| (m.dev(), m.ino())) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| (m.dev(), m.ino()) == wanted)
        })
        .collect()
}
