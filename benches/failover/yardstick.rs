//! What the machine charges for the heartbeats' calls alone: a process in one zone asks one in each of the others as often
//! as a leader does, by gRPC as tonic has it, and does nothing else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::future::try_join_all;
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use vip_lab::ns;

use crate::bed::Bed;
use crate::daemons::Daemons;
use crate::plan::Fault;

/// vipd's own on the peer port.
const PORT: u16 = 7400;
/// A leader's heartbeats, with `balanced`.
const EVERY: Duration = Duration::from_millis(30);
/// Those that answer are there by then.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// One process a zone; the first one asks.
pub struct Yardstick(BTreeMap<String, Child>);

impl Yardstick {
    pub fn start(bed: &Bed) -> anyhow::Result<Self> {
        let mut this = Self(BTreeMap::new());
        let mut asked: Vec<String> = Vec::new();
        for (nth, zone) in bed.spec.zones.iter().enumerate().rev() {
            let mut command = Command::new(std::env::current_exe()?);
            if nth == 0 {
                command.arg("ask");
                for at in &asked {
                    command.args(["--at", at]);
                }
            } else {
                let at = SocketAddr::from((zone.ip, PORT)).to_string();
                command.args(["answer", "--at", &at]);
                asked.push(at);
            }
            command.stdin(Stdio::null());
            let child = ns::within(&zone.ns, || command.spawn().context("cannot start this program again"))?;
            this.0.insert(zone.member.clone(), child);
        }
        Ok(this)
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        for child in self.0.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Daemons for Yardstick {
    fn ready(&mut self, bed: &Bed) -> anyhow::Result<String> {
        for (member, child) in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                bail!("the process of {member} has ended: {status}");
            }
        }
        Ok(bed.spec.zones.first().context("the lab has no zone")?.member.clone())
    }

    fn pids(&self, _: &Bed, member: &str) -> anyhow::Result<Vec<i32>> {
        let child = self.0.get(member).with_context(|| format!("no process of {member}"))?;
        Ok(vec![child.id().try_into()?])
    }

    fn inflict(&mut self, _: &Bed, fault: Fault, _: &str) -> anyhow::Result<()> {
        bail!("it keeps no VIP: {} means nothing", fault.label())
    }

    fn bring_back(&mut self, _: &Bed, fault: Fault, _: &str) -> anyhow::Result<()> {
        bail!("it keeps no VIP: {} means nothing", fault.label())
    }

    fn phases_ms(&self, _: &Bed, _: &str, _: &str) -> anyhow::Result<BTreeMap<String, f64>> {
        Ok(BTreeMap::new())
    }

    fn mended(&self) -> usize {
        0
    }
}

/// One thread, as vipd has.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Until it is killed.
pub fn answer(at: &[SocketAddr]) -> anyhow::Result<()> {
    let at = *at.first().context("--at is missing")?;
    block_on(async {
        let (_reporter, health) = tonic_health::server::health_reporter();
        Ok(Server::builder().add_service(health).serve(at).await?)
    })
}

/// Until it is killed, or one of them answers no more.
pub fn ask(at: &[SocketAddr]) -> anyhow::Result<()> {
    block_on(async {
        let mut clients = try_join_all(at.iter().map(|at| connect(*at))).await?;
        let mut beat = tokio::time::interval(EVERY);
        loop {
            beat.tick().await;
            // The smallest there is: a heartbeat has a hundred bytes more.
            try_join_all(clients.iter_mut().map(|c| c.check(HealthCheckRequest::default()))).await?;
        }
    })
}

async fn connect(at: SocketAddr) -> anyhow::Result<HealthClient<tonic::transport::Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{at}"))?;
    let connected = async {
        loop {
            match endpoint.connect().await {
                Ok(channel) => return HealthClient::new(channel),
                Err(_) => tokio::time::sleep(EVERY).await,
            }
        }
    };
    tokio::time::timeout(CONNECT_WITHIN, connected).await.with_context(|| format!("nobody answers at {at}"))
}
