//! The processes of the zones: started in their namespace, watched, signalled, reaped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::os::unix::process::ExitStatusExt;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::clock::boot_ns;
use crate::control::Program;
use crate::ns;
use crate::spec::{Spec, Zone};

/// A killed process that the kernel does not take away in 5 s hangs in a system call.
const GONE_PATIENCE: Duration = Duration::from_secs(5);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Exit {
    /// Null when a signal ended it.
    pub code: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// When, by CLOCK_BOOTTIME.
    pub at_boot_ns: u64,
}

struct Process {
    pid: Pid,
    started_boot_ns: u64,
    exit: watch::Receiver<Option<Exit>>,
}

/// Every process that was started, the last one of each kind.
#[derive(Default)]
pub struct Supervisor {
    processes: BTreeMap<(String, Program), Process>,
}

/// What `status` says of one process.
#[derive(Debug, Serialize)]
pub struct View {
    member: String,
    process: Program,
    pid: Option<i32>,
    running: bool,
    frozen: bool,
    started_boot_ns: Option<u64>,
    exit: Option<Exit>,
}

/// A running process, to be signalled and waited for without holding the supervisor.
pub struct Running {
    /// Whose.
    pub member: String,
    /// Which.
    pub program: Program,
    /// vipd's or HAProxy's own.
    pub pid: Pid,
    exit: watch::Receiver<Option<Exit>>,
}

impl Supervisor {
    /// Starts a program unless it runs; its pid.
    pub fn start(&mut self, spec: &Spec, zone: &Zone, program: Program) -> anyhow::Result<i32> {
        if let Some(running) = self.running(&zone.member, program) {
            return Ok(running.pid.as_raw_nonzero().get());
        }
        let mut child = spawn(spec, zone, program)?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = id.with_context(|| format!("{program:?} of {} ended at once", zone.member))?;
        let raw = pid.as_raw_nonzero().get();
        std::fs::write(pid_file(spec, zone, program), format!("{raw}\n"))?;
        let (sender, exit) = watch::channel(None);
        let file = pid_file(spec, zone, program);
        tokio::spawn(async move {
            let status = child.wait().await;
            let _ = std::fs::remove_file(file);
            sender.send_replace(Some(end(status)));
        });
        let process = Process { pid, started_boot_ns: boot_ns(), exit };
        self.processes.insert((zone.member.clone(), program), process);
        Ok(raw)
    }

    /// The process, if it has not ended.
    pub fn running(&self, member: &str, program: Program) -> Option<Running> {
        let process = self.processes.get(&(member.to_owned(), program))?;
        if process.exit.borrow().is_some() {
            return None;
        }
        Some(Running { member: member.into(), program, pid: process.pid, exit: process.exit.clone() })
    }

    /// Every member's programs, whether started or not.
    pub fn view(&self, spec: &Spec) -> Vec<View> {
        let programs = [Program::Vipd, Program::Haproxy];
        let all = spec.zones.iter().flat_map(|zone| programs.map(|program| (zone.member.clone(), program)));
        all.map(|(member, program)| {
            let process = self.processes.get(&(member.clone(), program));
            let exit = process.and_then(|p| *p.exit.borrow());
            let running = process.is_some() && exit.is_none();
            let pid = process.map(|p| p.pid.as_raw_nonzero().get()).filter(|_| running);
            let frozen = pid.is_some_and(is_stopped);
            let started_boot_ns = process.map(|p| p.started_boot_ns);
            View { member, process: program, pid, running, frozen, started_boot_ns, exit }
        })
        .collect()
    }
}

impl Running {
    /// Sends a signal; one that has just ended is no error.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match kill_process(self.pid, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => other.with_context(|| format!("cannot signal {:?} of {}", self.program, self.member)),
        }
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self, patience: Duration) -> anyhow::Result<Exit> {
        let waited = tokio::time::timeout(patience, self.exit.wait_for(Option::is_some)).await;
        match waited.map(|result| result.map(|exit| *exit)) {
            Ok(Ok(Some(exit))) => Ok(exit),
            Ok(_) => bail!("nobody waits for {:?} of {} any more", self.program, self.member),
            Err(_) => {
                bail!("{:?} of {} still runs after {} ms", self.program, self.member, patience.as_millis())
            }
        }
    }

    /// SIGKILL, and gone.
    pub async fn kill(&mut self) -> anyhow::Result<Exit> {
        self.signal(Signal::KILL)?;
        self.ended(GONE_PATIENCE).await
    }

    /// SIGSTOP, and stopped.
    pub async fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        let start = Instant::now();
        while !is_stopped(self.pid.as_raw_nonzero().get()) {
            if start.elapsed() > GONE_PATIENCE {
                bail!("{:?} of {} does not stop", self.program, self.member);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

fn pid_file(spec: &Spec, zone: &Zone, program: Program) -> PathBuf {
    let name = match program {
        Program::Vipd => "vipd.pid",
        Program::Haproxy => "haproxy.pid",
    };
    spec.member_dir(zone).join(name)
}

fn end(status: std::io::Result<ExitStatus>) -> Exit {
    let at_boot_ns = boot_ns();
    match status {
        Ok(status) => Exit { code: status.code(), signal: status.signal(), at_boot_ns },
        Err(_) => Exit { code: None, signal: None, at_boot_ns },
    }
}

/// The state letter comes after the last `)` of `/proc/PID/stat` (proc_pid_stat(5)).
fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

fn spawn(spec: &Spec, zone: &Zone, program: Program) -> anyhow::Result<Child> {
    let dir = spec.member_dir(zone);
    let (path, arguments, log): (&Path, Vec<PathBuf>, _) = match program {
        Program::Vipd => {
            (&spec.vipd.path, vec!["--config".into(), dir.join("vipd.toml")], dir.join("vipd.log"))
        }
        Program::Haproxy => {
            (&spec.haproxy, vec!["-db".into(), "-f".into(), dir.join("haproxy.cfg")], dir.join("haproxy.log"))
        }
    };
    let log = std::fs::File::options().create(true).append(true).open(&log)?;
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&dir);
    isolate(&mut command, &dir);
    if program == Program::Vipd {
        command.env("VIPD_FAULTS", dir.join("faults"));
    }
    let runtime = tokio::runtime::Handle::current();
    ns::within(&zone.ns, || {
        let _guard = runtime.enter();
        command
            .spawn()
            .with_context(|| format!("cannot start {} (is it installed, is it built?)", path.display()))
    })
}

/// Nothing of the host's AWS settings or proxies reaches a member: it has what its instance would have.
/// What an `aws.config` in its folder says, a test has put there.
fn isolate(command: &mut Command, dir: &Path) {
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy().to_ascii_lowercase();
        if name.starts_with("aws_") || name.ends_with("_proxy") {
            command.env_remove(key);
        }
    }
    let own = dir.join("aws.config");
    let config = if own.exists() { own } else { "/dev/null".into() };
    command.env("AWS_CONFIG_FILE", config).env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
}
