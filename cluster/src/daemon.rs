//! The lab's one long-lived process. It lives in the router's namespace, is EC2 and IMDS, and the parent of all that
//! runs in the zones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify};

use crate::clock::{boot_ns, unix_ms};
use crate::control::{Program, Reply, Request, Target};
use crate::ec2::calls::{Call, Calls};
use crate::ec2::http::Ec2;
use crate::ec2::state::netlink::Fib;
use crate::ec2::state::{Mode, State};
use crate::imds::Imds;
use crate::ns;
use crate::serve;
use crate::spec::{EC2_ADDRESS, EC2_PORT, IMDS_ADDRESS, Spec};
use crate::supervise::{Running, Supervisor};
use crate::topology::{Cuts, ruleset};

/// A verb is under a KiB.
const LONGEST_REQUEST: u64 = 64 * 1024;

struct Daemon {
    spec: Spec,
    ec2: Arc<Ec2>,
    imds: Arc<Imds>,
    supervisor: Mutex<Supervisor>,
    cuts: Mutex<Cuts>,
    over: Notify,
}

/// Serves until `shutdown`. The calling thread moves into the router's namespace for good.
pub fn run(spec: Spec) -> anyhow::Result<()> {
    ns::enter(&spec.namespace("router")?)?;
    // Two threads: the endpoint must answer while a verb starts a process.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(spec))
}

async fn serve(spec: Spec) -> anyhow::Result<()> {
    let state = State::new(spec.clone(), Fib::open()?, boot_ns()).await?;
    let ec2 = Ec2::new(state, Calls::new(Some(&spec.dir.join("calls.jsonl")))?);
    let imds = Imds::new(spec.clone());
    listen(SocketAddr::from((EC2_ADDRESS, EC2_PORT)), ec2.clone().router()).await?;
    listen(SocketAddr::from((IMDS_ADDRESS, 80)), imds.clone().router()).await?;
    let control = UnixListener::bind(spec.control_socket()).context("cannot bind the control socket")?;
    let daemon = Arc::new(Daemon {
        spec,
        ec2,
        imds,
        supervisor: Mutex::default(),
        cuts: Mutex::default(),
        over: Notify::new(),
    });
    daemon.filter().await?;
    tokio::spawn(follow_checks(daemon.clone()));
    loop {
        tokio::select! {
            () = daemon.over.notified() => return Ok(()),
            accepted = control.accept() => match accepted {
                Ok((stream, _)) => {
                    let daemon = daemon.clone();
                    tokio::spawn(async move {
                        if let Err(error) = daemon.converse(stream).await {
                            eprintln!("control: {error:#}");
                        }
                    });
                }
                Err(error) => eprintln!("control: {error}"),
            },
        }
    }
}

async fn listen(address: SocketAddr, router: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot bind {address}"))?;
    tokio::spawn(serve::http(listener, router));
    Ok(())
}

/// ModifyNetworkInterfaceAttribute changes what the router drops.
async fn follow_checks(daemon: Arc<Daemon>) {
    let mut checked = daemon.ec2.checked.subscribe();
    while checked.changed().await.is_ok() {
        if let Err(error) = daemon.filter().await {
            eprintln!("source/dest check: {error:#}");
        }
    }
}

impl Daemon {
    async fn converse(&self, stream: UnixStream) -> anyhow::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader.take(LONGEST_REQUEST)).lines();
        while let Some(line) = lines.next_line().await? {
            let request: Request = match serde_json::from_str(&line) {
                Ok(request) => request,
                Err(error) => {
                    writer.write_all(&print(&Reply::Error(format!("not a verb: {error}")))).await?;
                    continue;
                }
            };
            let last = matches!(request, Request::Shutdown);
            let reply = match self.obey(request).await {
                Ok(value) => Reply::Ok(value),
                Err(error) => Reply::Error(format!("{error:#}")),
            };
            writer.write_all(&print(&reply)).await?;
            if last {
                self.over.notify_one();
            }
        }
        Ok(())
    }

    async fn obey(&self, request: Request) -> anyhow::Result<Value> {
        match request {
            Request::Ping => Ok(json!("pong")),
            Request::Status => self.status().await,
            Request::Start(target) => self.start(&target).await,
            Request::Kill(target) => self.kill(&target).await,
            Request::Stop { target, wait_ms } => self.stop(&target, Duration::from_millis(wait_ms)).await,
            Request::Freeze(target) => {
                for running in self.running(&target).await? {
                    running.freeze().await?;
                }
                Ok(json!({"frozen": target.member, "at_boot_ns": boot_ns()}))
            }
            Request::Continue(target) => {
                for running in self.running(&target).await? {
                    running.signal(Signal::CONT)?;
                }
                Ok(json!({"continued": target.member, "at_boot_ns": boot_ns()}))
            }
            Request::Cut { member, parts, ways, percent } => {
                let member = self.spec.zone(&member)?.member.clone();
                let pairs: Vec<_> = parts
                    .into_iter()
                    .flat_map(|part| ways.clone().into_iter().map(move |way| (part, way, percent)))
                    .collect();
                self.cuts.lock().await.cut.entry(member).or_default().extend(pairs);
                self.filter().await
            }
            Request::Heal { member } if member == "all" => {
                self.cuts.lock().await.cut.clear();
                self.filter().await
            }
            Request::Heal { member } => {
                let member = &self.spec.zone(&member)?.member;
                self.cuts.lock().await.cut.remove(member);
                self.filter().await
            }
            Request::Routes => Ok(serde_json::to_value(self.ec2.state.lock().await.entries(u64::MAX))?),
            Request::Calls { since_ns } => {
                Ok(serde_json::to_value(self.ec2.calls.lock().await.since(since_ns))?)
            }
            Request::Fault(rule) => {
                let mut faults = self.ec2.faults.lock().await;
                faults.add(rule).map_err(anyhow::Error::msg)?;
                Ok(serde_json::to_value(faults.view())?)
            }
            Request::ClearFaults { kind } => {
                let mut faults = self.ec2.faults.lock().await;
                let before = serde_json::to_value(faults.view())?;
                faults.clear(kind.as_deref());
                Ok(before)
            }
            Request::Faults => Ok(serde_json::to_value(self.ec2.faults.lock().await.view())?),
            Request::Budget { on } => {
                let mut faults = self.ec2.faults.lock().await;
                faults.set_budget(on);
                Ok(serde_json::to_value(faults.view())?)
            }
            Request::SetRoute { table, destination, eni } => self.set_route(table, destination, eni).await,
            Request::Tag { table, key, value } => {
                self.ec2.state.lock().await.tag(&table, &key, value)?;
                Ok(json!({"table": table, "at_boot_ns": boot_ns()}))
            }
            Request::Eni { eni, gone, source_dest_check } => self.eni(&eni, gone, source_dest_check).await,
            Request::Imds { on, credentials } => {
                if let Some(on) = on {
                    self.imds.on.store(on, Ordering::Relaxed);
                }
                if let Some(credentials) = credentials {
                    self.imds.credentials.store(credentials, Ordering::Relaxed);
                }
                Ok(self.imds_view())
            }
            Request::Shutdown => self.kill(&Target { member: "all".into(), only: None }).await,
        }
    }

    fn imds_view(&self) -> Value {
        json!({"on": self.imds.on.load(Ordering::Relaxed), "credentials": self.imds.credentials.load(Ordering::Relaxed)})
    }

    async fn status(&self) -> anyhow::Result<Value> {
        let processes = self.supervisor.lock().await.view(&self.spec);
        let cuts = self.cuts.lock().await.clone();
        let (gone, checked) = {
            let state = self.ec2.state.lock().await;
            (state.gone.clone(), state.checked.clone())
        };
        Ok(json!({
            "name": self.spec.name, "dir": self.spec.dir, "daemon_pid": std::process::id(), "now_boot_ns": boot_ns(),
            "processes": processes, "cuts": cuts.cut, "imds": self.imds_view(),
            "enis_gone": gone, "enis_checked": checked,
        }))
    }

    fn members(&self, target: &Target) -> anyhow::Result<Vec<&crate::spec::Zone>> {
        match target.member.as_str() {
            "all" => Ok(self.spec.zones.iter().collect()),
            member => Ok(vec![self.spec.zone(member)?]),
        }
    }

    /// vipd before HAProxy: a stop hands over while HAProxy still serves.
    fn programs(target: &Target) -> Vec<Program> {
        target.only.map_or_else(|| vec![Program::Vipd, Program::Haproxy], |only| vec![only])
    }

    /// All that runs of the target; an error where nothing does, since a fault that hits nothing is a test's mistake.
    async fn running(&self, target: &Target) -> anyhow::Result<Vec<Running>> {
        let supervisor = self.supervisor.lock().await;
        let mut found = Vec::new();
        for zone in self.members(target)? {
            found.extend(
                Self::programs(target).into_iter().filter_map(|p| supervisor.running(&zone.member, p)),
            );
        }
        if found.is_empty() {
            bail!("nothing of {} runs", target.member);
        }
        Ok(found)
    }

    async fn start(&self, target: &Target) -> anyhow::Result<Value> {
        let mut supervisor = self.supervisor.lock().await;
        let mut pids = Vec::new();
        for zone in self.members(target)? {
            for program in Self::programs(target) {
                if program == Program::Vipd && target.only.is_none() && !self.spec.vipd.enabled {
                    continue;
                }
                let pid = supervisor.start(&self.spec, zone, program)?;
                pids.push(json!({"member": zone.member, "process": program, "pid": pid}));
            }
        }
        Ok(json!(pids))
    }

    /// All at once: the signals go out before the first wait.
    async fn kill(&self, target: &Target) -> anyhow::Result<Value> {
        let mut all = match self.running(target).await {
            Ok(all) => all,
            Err(_) if target.member == "all" => Vec::new(),
            Err(error) => return Err(error),
        };
        let at_boot_ns = boot_ns();
        for running in &all {
            running.signal(Signal::KILL)?;
        }
        let mut ends = Vec::new();
        for running in &mut all {
            let exit = running.kill().await?;
            ends.push(json!({"member": running.member, "process": running.program, "signal": exit.signal, "at_boot_ns": at_boot_ns}));
        }
        Ok(json!(ends))
    }

    async fn stop(&self, target: &Target, patience: Duration) -> anyhow::Result<Value> {
        let mut ends = Vec::new();
        for running in &mut self.running(target).await? {
            let began_ns = boot_ns();
            running.signal(Signal::TERM)?;
            let exit = running.ended(patience).await?;
            let ms = exit.at_boot_ns.saturating_sub(began_ns) / 1_000_000;
            ends.push(json!({"member": running.member, "process": running.program,
                "exit_code": exit.code, "signal": exit.signal, "ms": ms, "at_boot_ns": began_ns}));
        }
        Ok(json!(ends))
    }

    /// Makes the router drop what it should, and nothing else.
    async fn filter(&self) -> anyhow::Result<Value> {
        let mut cuts = self.cuts.lock().await;
        let enis = self.ec2.state.lock().await.checked.clone();
        cuts.checked =
            enis.iter().filter_map(|eni| self.spec.zone(eni).ok()).map(|z| z.member.clone()).collect();
        let rules = ruleset(&self.spec, &cuts);
        let applied = tokio::task::spawn_blocking(move || ns::nft(&rules)).await;
        applied.context("nft was interrupted")??;
        Ok(json!({"cuts": cuts.cut, "at_boot_ns": boot_ns()}))
    }

    async fn set_route(
        &self,
        table: String,
        destination: Option<String>,
        eni: Option<String>,
    ) -> anyhow::Result<Value> {
        let destination = destination.or_else(|| self.spec.vips.first().cloned()).unwrap_or_default();
        let eni = eni.map(|eni| self.eni_id(&eni)).transpose()?;
        let mut call = Call {
            received_boot_ns: boot_ns(),
            received_unix_ms: unix_ms(),
            source: "hand".into(),
            action: if eni.is_some() { "set-route" } else { "delete-route" }.into(),
            table: Some(table.clone()),
            destination: Some(destination.clone()),
            eni: eni.clone(),
            ..Call::default()
        };
        let result = {
            let mut state = self.ec2.state.lock().await;
            match &eni {
                Some(eni) => state.set(&table, &destination, eni, Mode::Put, boot_ns()).await,
                None => state.delete(&table, &destination, boot_ns()).await,
            }
        };
        call.executed_boot_ns = result.is_ok().then(boot_ns);
        call.outcome = result.as_ref().map_or_else(|refusal| refusal.code().to_owned(), |()| "ok".into());
        let at_boot_ns = call.executed_boot_ns;
        {
            let mut calls = self.ec2.calls.lock().await;
            let id = calls.begin(call);
            calls.settle(id);
        }
        result?;
        Ok(json!({"table": table, "destination": destination, "target": eni, "at_boot_ns": at_boot_ns}))
    }

    /// `eni-0a` of `eni-0a`, `az-a` or `a`; an unknown ENI is passed on, for EC2 to refuse.
    fn eni_id(&self, name: &str) -> anyhow::Result<String> {
        match self.spec.zone(name) {
            Ok(zone) => Ok(zone.eni.clone()),
            Err(_) if name.starts_with("eni-") => Ok(name.into()),
            Err(error) => Err(error),
        }
    }

    async fn eni(&self, name: &str, gone: Option<bool>, check: Option<bool>) -> anyhow::Result<Value> {
        let eni = self.eni_id(name)?;
        {
            let mut state = self.ec2.state.lock().await;
            if let Some(on) = check {
                state.set_checked(&eni, on)?;
            }
            if let Some(gone) = gone {
                state.set_gone(&eni, gone).await?;
            }
        }
        self.filter().await?;
        let state = self.ec2.state.lock().await;
        Ok(
            json!({"eni": eni, "gone": state.gone.contains(&eni), "source_dest_check": state.checked.contains(&eni)}),
        )
    }
}

fn print(reply: &Reply) -> Vec<u8> {
    let mut line =
        serde_json::to_vec(reply).unwrap_or_else(|_| br#"{"error":"the answer cannot be printed"}"#.to_vec());
    line.push(b'\n');
    line
}
