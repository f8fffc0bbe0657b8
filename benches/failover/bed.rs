//! The lab under one group of runs: what is the same for vipd and keepalived.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use serde_json::Value;
use tokio::sync::watch;
use vip_lab::control::{Program, Request, Target, ask};
use vip_lab::ec2::calls::Call;
use vip_lab::ec2::faults::{Effect, Rule};
use vip_lab::load::{self, Plan as Load, Sample, Samples};
use vip_lab::spec::{Spec, Vipd};
use vip_lab::topology::{Part, Way};
use vip_lab::{lifecycle, ns};

use crate::plan::{Fault, Group, Profile, System};

/// A new connection every so often.
const EVERY: Duration = Duration::from_millis(5);
/// Longer than any run; the run ends it.
const LONGEST_RUN: Duration = Duration::from_secs(300);
/// The client is served when so many requests in a row were answered: a fifth of a second.
const IN_A_ROW: usize = 40;
/// Fifty route tables by the CLI take some twenty seconds on two cores; what has not moved by then is stuck.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A lab that is up; taken down when dropped.
pub struct Bed {
    pub spec: Spec,
}

impl Bed {
    pub fn up(name: &str, dir: &Path, group: &Group) -> anyhow::Result<Self> {
        let mut spec = Spec::new(name, dir, 3, group.tables)?;
        let (profile, enabled) = match group.system {
            System::Vipd(profile) => (Some(profile.raft().to_owned()), true),
            System::Keepalived(_) | System::Yardstick => (None, false),
        };
        spec.vipd = Vipd {
            enabled,
            path: env!("CARGO_BIN_EXE_vipd").into(),
            profile,
            sets: sets(group),
            ..Vipd::default()
        };
        // This program is the lab's daemon too: nothing else has to be built.
        lifecycle::up(&spec, &std::env::current_exe()?)?;
        let bed = Self { spec };
        if group.ec2_delay_ms > 0 {
            bed.ask(&Request::Fault(Rule::always(Effect::Delay { ms: group.ec2_delay_ms })))?;
        }
        Ok(bed)
    }

    pub fn ask(&self, request: &Request) -> anyhow::Result<Value> {
        ask(&self.spec.dir, request)
    }

    pub fn members(&self) -> Vec<String> {
        self.spec.zones.iter().map(|zone| zone.member.clone()).collect()
    }

    /// The member that every route table names.
    pub fn routed_to(&self) -> anyhow::Result<Option<String>> {
        let routes = self.ask(&Request::Routes)?;
        let members: Vec<Option<&str>> = routes
            .as_array()
            .into_iter()
            .flatten()
            .map(|route| route.get("member").and_then(Value::as_str))
            .collect();
        let first = members.first().copied().flatten();
        Ok(first.filter(|_| members.iter().all(|m| *m == first)).map(str::to_owned))
    }

    /// When the tables were first pointed at `member` since then.
    pub fn swaps(&self, member: &str, since_ns: u64) -> anyhow::Result<Option<Swaps>> {
        let calls: Vec<Call> = serde_json::from_value(self.ask(&Request::Calls { since_ns })?)?;
        let eni = &self.spec.zone(member)?.eni;
        let first = |table: &str| {
            let swaps = calls
                .iter()
                .filter(|c| !c.dry_run && c.table.as_deref() == Some(table) && c.eni.as_ref() == Some(eni));
            swaps.filter_map(|c| c.executed_boot_ns).min()
        };
        let all: Option<Vec<u64>> = self.spec.tables.iter().map(|table| first(&table.id)).collect();
        Ok(all.and_then(|all| Some(Swaps { client_ns: *all.first()?, last_ns: *all.iter().max()? })))
    }

    pub fn haproxy(&self, member: &str, verb: fn(Target) -> Request) -> anyhow::Result<()> {
        self.one(member, Program::Haproxy, verb)
    }

    pub fn one(&self, member: &str, only: Program, verb: fn(Target) -> Request) -> anyhow::Result<()> {
        self.ask(&verb(Target { member: member.into(), only: Some(only) })).map(drop)
    }

    pub fn cut(&self, member: &str) -> anyhow::Result<()> {
        self.ask(&Request::Cut {
            member: member.into(),
            parts: vec![Part::Members, Part::Ec2, Part::Imds, Part::Client],
            ways: vec![Way::In, Way::Out],
            percent: 100,
        })?;
        Ok(())
    }

    /// Takes the part of a fault back that has nothing to do with the daemon.
    pub fn mend(&self, member: &str, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::OwnerKilled | Fault::HaproxyKilled => self.haproxy(member, Request::Start),
            Fault::HaproxyFrozen => self.haproxy(member, Request::Continue),
            Fault::ZoneCut => self.ask(&Request::Heal { member: member.into() }).map(drop),
            Fault::OwnerFrozen | Fault::Transfer | Fault::Sigterm => Ok(()),
        }
    }

    /// Waits until all routes name another member than `old` and the client is served by it. `None`: that never came.
    pub fn wait_moved(&self, client: &Client, old: &str) -> anyhow::Result<Option<String>> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(new) = self.routed_to()?.filter(|member| member != old)
                && client.is_served(|by| by == new)
            {
                return Ok(Some(new));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(None)
    }
}

/// When EC2 executed them.
pub struct Swaps {
    /// The client's own table.
    pub client_ns: u64,
    pub last_ns: u64,
}

/// What is set beside the lab's own configuration; docs/PERFORMANCE.md says so.
fn sets(group: &Group) -> Vec<String> {
    // The default; the lab's own is 200.
    let mut sets = vec!["health.interval_ms=500".to_owned()];
    if group.idle {
        return sets;
    }
    // Runs follow each other within seconds: a member that lost the VIP in the last run is a target of this.
    sets.push("policy.min_hold_s=0".into());
    if group.system == System::Vipd(Profile::QuickCheck) {
        sets.push("health.timeout_ms=200".into());
    }
    sets
}

impl Drop for Bed {
    fn drop(&mut self) {
        for error in lifecycle::down(&self.spec.name, &self.spec.dir) {
            eprintln!("failover: {error:#}");
        }
    }
}

/// Asks again and again until it is so.
pub fn until(
    what: &str,
    patience: Duration,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        ensure!(begun.elapsed() < patience, "waited {} s for {what}", patience.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// The processes in a member's namespace whose name begins so; a child before its parent.
pub fn pids(bed: &Bed, member: &str, name: &str) -> anyhow::Result<Vec<i32>> {
    let stat = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_named = |pid: &i32| stat(*pid).split_once('(').is_some_and(|(_, rest)| rest.starts_with(name));
    let parent = |pid: i32| {
        let stat = stat(pid);
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').nth(1)).unwrap_or_default();
        fields.and_then(|field| field.parse::<i32>().ok())
    };
    let all = ns::processes(&bed.spec.namespace(member)?);
    let mut found: Vec<i32> = all.into_iter().filter(is_named).collect();
    let known = found.clone();
    found.sort_by_key(|pid| !parent(*pid).is_some_and(|parent| known.contains(&parent)));
    Ok(found)
}

/// The client, on a thread of its own in its namespace.
pub struct Client {
    samples: Samples,
    stop: watch::Sender<bool>,
    thread: JoinHandle<anyhow::Result<()>>,
    pub load: Load,
}

impl Client {
    /// Returns when `owner` has served it for a while.
    pub fn start(bed: &Bed, owner: &str) -> anyhow::Result<Self> {
        let load = Load::new(&bed.spec, EVERY, LONGEST_RUN)?;
        let (stop, stopped) = watch::channel(false);
        let samples = Samples::default();
        let (ns, plan, shared) = (bed.spec.namespace("client")?, load.clone(), samples.clone());
        let thread = std::thread::spawn(move || load::run(&ns, &plan, &shared, None, stopped));
        let client = Self { samples, stop, thread, load };
        until("the client's first answers", PATIENCE, || Ok(client.is_served(|by| by == owner)))?;
        Ok(client)
    }

    /// The last requests that ended were all answered by such a member.
    fn is_served(&self, by: impl Fn(&str) -> bool) -> bool {
        let all = self.samples.all();
        let last = all.iter().rev().take(IN_A_ROW);
        all.len() >= IN_A_ROW && last.into_iter().all(|s| s.result.as_ref().is_ok_and(|m| by(m)))
    }

    /// Every request, also those that take their time to fail.
    pub fn end(self) -> anyhow::Result<Vec<Sample>> {
        self.stop.send_replace(true);
        match self.thread.join() {
            Ok(ended) => ended?,
            Err(_) => bail!("the client's thread panicked"),
        }
        Ok(self.samples.all())
    }
}
