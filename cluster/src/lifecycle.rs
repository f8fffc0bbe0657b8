//! From nothing to a running lab, and back.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::control::{Program, Request, Target, ask};
use crate::spec::{Spec, VIP_PORT};
use crate::{conf, ns, topology};

/// Marks a directory as a lab's, so that nothing else is ever emptied.
const MARK: &str = ".vip-lab";
/// A daemon that has not bound its sockets, or an HAProxy that does not answer, after this long never will.
const READY: Duration = Duration::from_secs(10);

/// Takes down what is left of a lab of this name, and brings up a new one. `program`: this executable, as which the
/// daemon is started.
pub fn up(spec: &Spec, program: &Path) -> anyhow::Result<Value> {
    if spec.vipd.enabled && !spec.vipd.path.exists() {
        bail!(
            "{} is not there; build it (cargo build), name another by --vipd, or use --no-vipd",
            spec.vipd.path.display()
        );
    }
    let left: Vec<_> = down(&spec.name, &spec.dir).into_iter().map(|e| format!("{e:#}")).collect();
    if !left.is_empty() {
        bail!("an earlier lab {} cannot be taken down: {}", spec.name, left.join("; "));
    }
    let result = build(spec, program);
    if result.is_err() {
        // The first error is the one to show; what cannot be taken down now is shown by the next `down`.
        let log = std::fs::read_to_string(spec.dir.join("lab.log")).unwrap_or_default();
        down(&spec.name, &spec.dir);
        return result.context(if log.is_empty() {
            "the lab did not come up".into()
        } else {
            format!("lab.log says: {}", log.trim())
        });
    }
    result
}

fn build(spec: &Spec, program: &Path) -> anyhow::Result<Value> {
    empty(&spec.dir)?;
    for zone in &spec.zones {
        let dir = spec.member_dir(zone);
        std::fs::create_dir_all(&dir)?;
        // Read by `vipd-faults` alone (--vipd): what its fault points are to do.
        std::fs::create_dir_all(dir.join("faults"))?;
        std::fs::write(dir.join("haproxy.cfg"), conf::haproxy(spec, zone))?;
        std::fs::write(dir.join("vipd.toml"), conf::vipd(spec, zone)?)?;
    }
    // A lab without vipd may get one later (start); one that is built alone has no vipctl either.
    let may_come = spec.vipd.enabled || spec.vipd.path.with_file_name("vipctl").exists();
    if may_come && !spec.is_insecure() {
        issue(spec)?;
    }
    spec.save()?;
    topology::create(spec)?;
    start_daemon(spec, program)?;
    ask(&spec.dir, &Request::Start(Target { member: "all".into(), only: Some(Program::Haproxy) }))?;
    wait_for_haproxy(spec)?;
    if spec.vipd.enabled {
        ask(&spec.dir, &Request::Start(Target { member: "all".into(), only: Some(Program::Vipd) }))?;
    }
    ask(&spec.dir, &Request::Status)
}

/// Certificates for the members and for those who ask them, by the program that operators use.
fn issue(spec: &Spec) -> anyhow::Result<()> {
    let vipctl = spec.vipd.path.with_file_name("vipctl");
    let certs = |arguments: &[&str], out: Option<&Path>| {
        let mut command = Command::new(&vipctl);
        command.arg("certs").args(arguments).arg("--dir").arg(spec.pki_dir());
        if let Some(out) = out {
            command.arg("--out").arg(out);
        }
        let output = command.output().with_context(|| format!("cannot run {}", vipctl.display()))?;
        if !output.status.success() {
            bail!("vipctl certs {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    };
    certs(&["init", "--cluster", &spec.cluster], None)?;
    for zone in &spec.zones {
        certs(&["issue", "member", &zone.member], Some(&spec.member_dir(zone)))?;
    }
    certs(&["issue", "operator", "lab"], None)?;
    // An empty list, to be named from the start.
    certs(&["revoke"], None)?;
    certs(&["issue", "viewer", "lab"], None)
}

/// Writes the members' configurations again, with other `--set`s; the processes are left alone.
pub fn reconfigure(spec: &Spec) -> anyhow::Result<()> {
    for zone in &spec.zones {
        std::fs::write(spec.member_dir(zone).join("vipd.toml"), conf::vipd(spec, zone)?)?;
    }
    spec.save()
}

fn empty(dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        let ours = dir.join(MARK).exists();
        if !ours && std::fs::read_dir(dir)?.next().is_some() {
            bail!("{} is not empty and no lab's directory; name another by --dir", dir.display());
        }
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() { std::fs::remove_dir_all(&path)? } else { std::fs::remove_file(&path)? }
        }
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(std::fs::write(dir.join(MARK), "")?)
}

fn start_daemon(spec: &Spec, program: &Path) -> anyhow::Result<()> {
    let log = std::fs::File::create(spec.dir.join("lab.log"))?;
    let mut command = Command::new(program);
    command.args(["--name", &spec.name, "--dir"]).arg(&spec.dir).arg("serve");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A group of its own: ^C at the terminal is for the verb, not for the lab.
    let mut child = command.process_group(0).spawn().context("cannot start the lab's daemon")?;
    std::fs::write(spec.dir.join("lab.pid"), format!("{}\n", child.id()))?;
    until("the lab's daemon", || {
        if let Some(status) = child.try_wait()? {
            bail!("the lab's daemon ended: {status}");
        }
        Ok(ask(&spec.dir, &Request::Ping).is_ok())
    })
}

fn wait_for_haproxy(spec: &Spec) -> anyhow::Result<()> {
    for zone in &spec.zones {
        let socket = spec.member_dir(zone).join("haproxy.sock");
        let address = std::net::SocketAddr::from((zone.ip, VIP_PORT));
        ns::within(&zone.ns, || {
            until(&format!("HAProxy of {} (see haproxy.log)", zone.member), || {
                Ok(TcpStream::connect(address).is_ok() && UnixStream::connect(&socket).is_ok())
            })
        })?;
    }
    Ok(())
}

/// Asks every few milliseconds, for at most `READY`.
fn until(what: &str, mut ready: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !ready()? {
        if start.elapsed() > READY {
            bail!("{what} is not ready after {} s", READY.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Ends the lab's processes and deletes its namespaces; logs stay. Goes on after errors and returns them all.
pub fn down(name: &str, dir: &Path) -> Vec<anyhow::Error> {
    let mut errors = Vec::new();
    // The daemon knows its children; where it is gone, the namespaces know their processes.
    let asked = dir.join("control.sock").exists() && ask(dir, &Request::Shutdown).is_ok();
    let namespaces = match namespaces(name) {
        Ok(list) => list,
        Err(error) => return vec![error],
    };
    let start = Instant::now();
    // Asked to, the daemon ends by itself; a second is long for that.
    while asked
        && start.elapsed() < Duration::from_secs(1)
        && namespaces.iter().any(|ns| !others(ns).is_empty())
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    for ns in &namespaces {
        if let Err(error) = clear(ns) {
            errors.push(error);
        }
    }
    for ns in &namespaces {
        if let Err(error) = ns::ip(None, &format!("netns del {ns}\n")) {
            errors.push(error);
        }
    }
    if dir.join(MARK).exists() {
        for file in ["lab.json", "lab.pid", "control.sock"] {
            let _ = std::fs::remove_file(dir.join(file));
        }
    }
    errors
}

/// By name, so that a lab whose state is lost can be taken down too.
fn namespaces(name: &str) -> anyhow::Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let ns = entry?.file_name().to_string_lossy().into_owned();
        let suffix = ns.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        if suffix
            .is_some_and(|s| s == "router" || s == "client" || (s.len() == 1 && ("a"..="h").contains(&s)))
        {
            found.push(ns);
        }
    }
    found.sort();
    Ok(found)
}

fn others(ns: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    ns::processes(ns).into_iter().filter(|pid| *pid != own).collect()
}

/// SIGKILL until nobody is left: a dying process may have just started another.
fn clear(ns: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let left = others(ns);
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(5) {
            bail!("processes {left:?} in {ns} do not die");
        }
        for pid in left.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
