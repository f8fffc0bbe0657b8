//! keepalived with a notify script that calls the AWS CLI, set up as a careful operator would; docs/PERFORMANCE.md
//! says how and why.
//!
//! ```text
//!   az-a  keepalived <--- VRRP, unicast ---> keepalived  az-b, az-c
//!          |   ^  ^-- drain        (track_file: a planned move)
//!          |   '----- haproxy.down (track_file, written by `watcher` when HAProxy's process ends)
//!          |   '----- check.sh     (track_script: does HAProxy answer?)
//!          '--> notify.sh master --> aws ec2 replace-route, as many at a time as cores
//! ```

mod files;
mod watcher;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use vip_lab::control::Request;
use vip_lab::ns;

use crate::bed::{self, Bed, until};
use crate::daemons::Daemons;
use crate::plan::{Fault, Tuning};
use watcher::Watcher;

/// Startup is three adverts and the script's rise; a state that is not in order by then stays as it is.
const PATIENCE: Duration = Duration::from_secs(30);
/// Past any run of the notify script: fifty tables are half a minute of two cores.
const FIRST: Duration = Duration::from_secs(180);
/// The advert that ends a mastership is sent at once, the address removed; half a second is long for that.
const GONE: Duration = Duration::from_secs(5);

/// The CLI that `cluster/setup.sh awscli` installs.
pub fn aws() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let aws = cache.or_else(home).context("HOME is not set")?.join("vipd/awscli/bin/aws");
    ensure!(
        aws.exists(),
        "{} is missing: ./cluster/setup.sh keepalived curl python3-venv awscli",
        aws.display()
    );
    Ok(aws)
}

/// The group of three.
pub struct Keepalived {
    children: BTreeMap<String, Child>,
    _watchers: Vec<Watcher>,
    mended: usize,
}

impl Keepalived {
    pub fn start(bed: &Bed, tuning: Tuning) -> anyhow::Result<Self> {
        let aws = aws()?;
        let mut watchers = Vec::new();
        for zone in &bed.spec.zones {
            files::write(&bed.spec, zone, tuning, &aws)?;
            let dir = bed.spec.member_dir(zone);
            watchers.push(Watcher::start(dir.join("haproxy.sock"), dir.join(files::HAPROXY_DOWN)));
            // The VIP lies on every member all the time, so that whoever the routes name answers.
            let vip = bed.spec.vips.first().context("the lab has no VIP")?;
            ns::ip(Some(&zone.ns), &format!("address add {vip} dev lo\n"))?;
        }
        let mut this = Self { children: BTreeMap::new(), _watchers: watchers, mended: 0 };
        for member in bed.members() {
            this.spawn(bed, &member)?;
        }
        this.wait_in_order(bed, FIRST)?;
        Ok(this)
    }

    fn spawn(&mut self, bed: &Bed, member: &str) -> anyhow::Result<()> {
        let zone = bed.spec.zone(member)?;
        let dir = bed.spec.member_dir(zone);
        for file in [files::STATE, "keepalived.pid", "vrrp.pid"] {
            let _ = fs::remove_file(dir.join(file));
        }
        let log = fs::File::options().create(true).append(true).open(dir.join("keepalived.log"))?;
        let mut command = Command::new("keepalived");
        command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(dir.join(files::CONFIG));
        command.arg("--pid").arg(dir.join("keepalived.pid")).arg("--vrrp_pid").arg(dir.join("vrrp.pid"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Nothing of the host's AWS settings or proxies reaches the CLI.
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let child = ns::within(&zone.ns, || {
            command.spawn().context("cannot start keepalived: ./cluster/setup.sh keepalived")
        })?;
        self.children.insert(member.to_owned(), child);
        Ok(())
    }

    /// Both of its processes, the child first: a parent that is left starts another, and a child that is left says
    /// goodbye.
    fn signal(&self, bed: &Bed, member: &str, signal: Signal) -> anyhow::Result<()> {
        let pids = self.pids(bed, member)?;
        ensure!(!pids.is_empty(), "no keepalived runs on {member}");
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    fn kill(&mut self, bed: &Bed, member: &str) -> anyhow::Result<()> {
        self.signal(bed, member, Signal::KILL)?;
        self.reap(member)
    }

    /// Its parent process ends the child.
    fn stop(&mut self, bed: &Bed, member: &str) -> anyhow::Result<()> {
        let child = self.children.get(member).context("keepalived was never started")?;
        kill_process(Pid::from_child(child), Signal::TERM)?;
        self.reap(member)?;
        until("keepalived to end", GONE, || Ok(self.pids(bed, member)?.is_empty()))
    }

    fn reap(&mut self, member: &str) -> anyhow::Result<()> {
        if let Some(mut child) = self.children.remove(member) {
            child.wait()?;
        }
        Ok(())
    }

    fn drain(&self, bed: &Bed, member: &str, value: &str) -> anyhow::Result<()> {
        let file = bed.spec.member_dir(bed.spec.zone(member)?).join(files::DRAIN);
        Ok(fs::write(file, value)?)
    }

    /// The one master, if the others are backups, the routes name it, and no script is at work.
    fn master(&self, bed: &Bed) -> anyhow::Result<Option<String>> {
        let mut masters = Vec::new();
        for zone in &bed.spec.zones {
            // One that still swaps routes would go on to do so when its keepalived is killed.
            if !bed::pids(bed, &zone.member, files::NOTIFY)?.is_empty() {
                return Ok(None);
            }
            let state = fs::read_to_string(bed.spec.member_dir(zone).join(files::STATE)).unwrap_or_default();
            match state.trim() {
                "master" => masters.push(zone.member.clone()),
                "backup" => {}
                _ => return Ok(None),
            }
        }
        let [master] = masters.as_slice() else { return Ok(None) };
        Ok(Some(master.clone()).filter(|m| bed.routed_to().is_ok_and(|r| r.as_ref() == Some(m))))
    }

    fn wait_in_order(&self, bed: &Bed, patience: Duration) -> anyhow::Result<String> {
        let mut master = None;
        until("one keepalived to be master, with the routes", patience, || {
            master = self.master(bed)?;
            Ok(master.is_some())
        })?;
        master.context("nobody is master")
    }
}

impl Daemons for Keepalived {
    /// Where routes and master disagree nothing in keepalived mends it: all of them are started anew.
    fn ready(&mut self, bed: &Bed) -> anyhow::Result<String> {
        if let Ok(master) = self.wait_in_order(bed, PATIENCE) {
            return Ok(master);
        }
        self.mended += 1;
        for member in bed.members() {
            self.stop(bed, &member)?;
        }
        for member in bed.members() {
            self.spawn(bed, &member)?;
        }
        self.wait_in_order(bed, FIRST)
    }

    fn inflict(&mut self, bed: &Bed, fault: Fault, owner: &str) -> anyhow::Result<()> {
        match fault {
            Fault::OwnerKilled => {
                self.signal(bed, owner, Signal::KILL)?;
                bed.haproxy(owner, Request::Kill)?;
                self.reap(owner)
            }
            Fault::HaproxyKilled => bed.haproxy(owner, Request::Kill),
            Fault::HaproxyFrozen => bed.haproxy(owner, Request::Freeze),
            Fault::ZoneCut => bed.cut(owner),
            Fault::OwnerFrozen => self.signal(bed, owner, Signal::STOP),
            Fault::Transfer => self.drain(bed, owner, "1"),
            Fault::Sigterm => self.stop(bed, owner),
        }
    }

    /// One that was frozen or cut off still takes itself for the master, with the higher priority as often as not: it
    /// is ended before it can speak.
    fn bring_back(&mut self, bed: &Bed, fault: Fault, owner: &str) -> anyhow::Result<()> {
        match fault {
            Fault::OwnerKilled | Fault::Sigterm => self.spawn(bed, owner),
            Fault::OwnerFrozen | Fault::ZoneCut => {
                self.kill(bed, owner)?;
                self.spawn(bed, owner)
            }
            Fault::Transfer => self.drain(bed, owner, "0"),
            Fault::HaproxyKilled | Fault::HaproxyFrozen => Ok(()),
        }
    }

    fn pids(&self, bed: &Bed, member: &str) -> anyhow::Result<Vec<i32>> {
        bed::pids(bed, member, "keepalived")
    }

    fn phases_ms(&self, _bed: &Bed, _from: &str, _to: &str) -> anyhow::Result<BTreeMap<String, f64>> {
        Ok(BTreeMap::new())
    }

    fn mended(&self) -> usize {
        self.mended
    }
}

impl Drop for Keepalived {
    /// The lab ends them with its namespaces; nothing is left unreaped here.
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
