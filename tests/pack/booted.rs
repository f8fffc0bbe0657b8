//! A machine with systemd, booted for one test: this one's own file system under a copy in memory, in namespaces of
//! its own. What is installed or broken in it is gone with it.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::tool::tool;
use crate::tools::{BOUND, holds, run, text, until};

/// `$0` is an empty directory, `$@` what nspawn is told of the network. The mounts are in a namespace of this shell, so that they end with it. No unit of this
/// machine is wanted by the target that is booted.
const BOOT: &str = r#"
set -e
mount -t tmpfs tmpfs "$0"
mkdir "$0/up" "$0/work" "$0/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/up,workdir=$0/work" "$0/root"
rm -rf "$0"/root/etc/systemd/system/*.wants "$0"/root/run/*
printf '[Unit]\nDescription=Nothing by itself\n' >"$0/root/etc/systemd/system/nothing.target"
exec systemd-nspawn --quiet --directory="$0/root" "$@" --register=no --keep-unit --boot systemd.unit=nothing.target
"#;

pub struct Booted {
    dir: TempDir,
    nspawn: Child,
    init: u32,
}

impl Booted {
    /// With a network of its own, and nothing in it.
    pub fn up() -> Self {
        Self::boot(&["--private-network"])
    }

    /// As a host of this name in a network namespace that is there.
    pub fn up_in(namespace: &str, host: &str) -> Self {
        let path = format!("--network-namespace-path=/run/netns/{namespace}");
        // Of a namespace that it has not made, nspawn takes no care: what a host may do in its own, it is to be given.
        Self::boot(&[&path, &format!("--hostname={host}"), "--capability=CAP_NET_ADMIN"])
    }

    fn boot(network: &[&str]) -> Self {
        tool("systemd-nspawn");
        let dir = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(dir.path().with_extension("log")).unwrap();
        let nspawn = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", BOOT])
            .arg(dir.path())
            .args(network)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut booted = Self { dir, nspawn, init: 0 };
        booted.init = until("systemd boots", BOUND + BOUND, || {
            assert!(booted.nspawn.try_wait().unwrap().is_none(), "nspawn ended: {}", booted.console());
            init_below(booted.nspawn.id()).ok_or_else(|| booted.console())
        });
        until("systemd answers", BOUND + BOUND, || {
            let said = booted.run(&["systemctl", "is-active", "nothing.target"]);
            holds(text(&said.stdout).trim() == "active", || text(&said.stderr) + &booted.console())
        });
        booted
    }

    fn console(&self) -> String {
        std::fs::read_to_string(self.dir.path().with_extension("log")).unwrap_or_default()
    }

    fn enter(&self, command: &[&str]) -> Command {
        let mut enter = Command::new("nsenter");
        enter.args([
            "--target",
            &self.init.to_string(),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--root",
            "--wd",
        ]);
        enter.args(["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
        enter.arg("DEBIAN_FRONTEND=noninteractive").args(command);
        enter
    }

    pub fn run(&self, command: &[&str]) -> Output {
        run(&mut self.enter(command))
    }

    /// Standard output of a command that must succeed.
    pub fn ok(&self, command: &[&str]) -> String {
        let output = self.run(command);
        let said = || format!("{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}\n{}", said(), self.journal());
        text(&output.stdout)
    }

    /// Puts bytes into a file, the directory included.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let mut command = self.enter(&["sh", "-c", "mkdir -p \"$(dirname \"$0\")\" && cat >\"$0\"", path]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        assert!(child.wait().unwrap().success(), "{path}");
    }

    /// A property of a unit, as `systemctl show` prints it.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", property, unit]).trim().to_owned()
    }

    pub fn comes_to(&self, unit: &str, property: &str, value: &str, bound: Duration) {
        until(&format!("{property} of {unit} is {value}"), bound, || {
            let is = self.show(unit, property);
            holds(is == value, || format!("it is {is}; {}", self.journal()))
        });
    }

    /// The unit's main process, by its id out here.
    pub fn main_pid(&self, unit: &str) -> Option<u32> {
        let inside = self.show(unit, "MainPID");
        processes()
            .into_iter()
            .find(|p| p.ns_pid.len() == 2 && p.ns_pid[1] == inside && descends(p.pid, self.init))
            .map(|p| p.pid)
    }

    pub fn journal(&self) -> String {
        let said =
            self.run(&["journalctl", "--no-pager", "--lines", "60", "--unit", "vipd*", "--unit", "haproxy"]);
        text(&said.stdout)
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if let Some(init) = Pid::from_raw(self.init.cast_signed()) {
            let _ = kill_process(init, Signal::KILL);
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        let _ = std::fs::remove_file(self.dir.path().with_extension("log"));
    }
}

struct Process {
    pid: u32,
    parent: u32,
    /// The id in each namespace, the outermost first.
    ns_pid: Vec<String>,
}

fn processes() -> Vec<Process> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        Some(Process {
            pid,
            parent: field("PPid:")?.trim().parse().ok()?,
            ns_pid: field("NSpid:")?.split_whitespace().map(str::to_owned).collect(),
        })
    })
    .collect()
}

fn descends(pid: u32, ancestor: u32) -> bool {
    let all = processes();
    let mut at = pid;
    while at != ancestor {
        match all.iter().find(|p| p.pid == at) {
            Some(process) if process.parent != 0 => at = process.parent,
            Some(_) | None => return false,
        }
    }
    true
}

fn init_below(nspawn: u32) -> Option<u32> {
    let inits = processes().into_iter().filter(|p| p.ns_pid.len() == 2 && p.ns_pid[1] == "1");
    inits.map(|p| p.pid).find(|pid| descends(*pid, nspawn))
}
