//! One member: what outlives its daemon (disk, interface, clock), and the daemon itself, wired as
//! `bin/vipd.rs` wires it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use vipd::clock;
use vipd::config::{Config, InForce};
use vipd::decide::{Decide, Event, Gate, Now};
use vipd::driver::{DROPPED, Driver, EVENTS_MAX, Hands, Inputs, QUERIES_MAX, settings};
use vipd::metrics::Metrics;
use vipd::model::route::Stamp;
use vipd::model::{EniId, Health};
use vipd::raft::Starting;
use vipd::raft::store::Stable as _;
use vipd::rpc::desk::Desk;
use vipd::rpc::http::Standing;
use vipd::rpc::picture::Myself;
use vipd::runtime;
use vipd::runtime::simulated::Host;
use vipd::service::Pulse;
use vipd::tls::{self, Speaker};

use crate::disk::{Disk, Unsaved};
use crate::ec2::Ec2;
use crate::interface::SimInterface;
use crate::referee::{Life, Referee};
use crate::wires::Wires;

/// Few enough that a run takes several.
const SNAPSHOT_EVERY: u64 = 8;

pub const VIP: &str = "192.168.77.10/32";
pub const TABLES: [&str; 3] = ["rtb-0a", "rtb-0b", "rtb-0c"];

/// One of the three profiles of DESIGN.md section 6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    Steady,
    Balanced,
    Fast,
}

impl Profile {
    pub const ALL: [Profile; 3] = [Profile::Steady, Profile::Balanced, Profile::Fast];

    fn name(self) -> &'static str {
        match self {
            Profile::Steady => "steady",
            Profile::Balanced => "balanced",
            Profile::Fast => "fast",
        }
    }
}

/// What all members share.
#[derive(Clone)]
pub struct Around {
    pub wires: Wires,
    pub ec2: Ec2,
    pub referee: Referee,
    /// Who has ended, and in which life.
    pub exits: mpsc::UnboundedSender<(usize, u64)>,
    /// Of all seats. The first of them found the group; the others come later, if at all.
    pub names: Vec<String>,
    pub founders: usize,
}

/// One member's place. Its daemon comes and goes.
pub struct Seat {
    pub index: usize,
    pub disk: Disk,
    pub interface: SimInterface,
    pub profile: Profile,
    pub fast_ppm: i64,
    pub base: Duration,
    pub health: Health,
    pub living: Option<Living>,
    pub lives: u64,
    /// Of the lives that are over.
    dropped_before: u64,
}

/// A running daemon, from outside.
pub struct Living {
    pub host: Host,
    pub desk: Desk,
    metrics: Metrics,
    health: watch::Sender<Health>,
    stop: watch::Sender<bool>,
}

pub fn address(seat: usize) -> String {
    format!("10.0.{seat}.10:7400")
}

pub fn eni(seat: usize) -> String {
    format!("eni-0{seat}")
}

/// Founders list each other when they found the group, and `listed` is that many; whoever comes later is in its own
/// file then, and by the next start in everybody's, as operators are told to see to.
fn config(names: &[String], listed: usize, seat: usize, profile: Profile) -> Config {
    let mut text = format!(
        "cluster = \"edge\"\nmember = \"{}\"\ndata_dir = \"/nowhere\"\n[peer]\nlisten = \"{}\"\n\
         [vip]\naddresses = [\"{VIP}\"]\n[aws]\nroute_tables = {TABLES:?}\neni = \"{}\"\n\
         [raft]\nprofile = \"{}\"\n[tls]\ninsecure = true\n",
        names[seat],
        address(seat),
        eni(seat),
        profile.name(),
    );
    for (index, name) in names.iter().enumerate().filter(|(index, _)| *index < listed || *index == seat) {
        text +=
            &format!("[[members]]\nname = \"{name}\"\npeer = \"{}\"\nzone = \"z{index}\"\n", address(index));
    }
    Config::parse(text.as_bytes(), "simulation", None).expect("a configuration")
}

impl Seat {
    pub fn new(index: usize, seed: u64, profile: Profile, fast_ppm: i64, base: Duration) -> Self {
        Self {
            index,
            disk: Disk::new(seed),
            interface: SimInterface::default(),
            profile,
            fast_ppm,
            base,
            health: Health::Healthy,
            living: None,
            lives: 0,
            dropped_before: 0,
        }
    }

    /// Starts its daemon.
    pub fn start(&mut self, around: &Around) {
        assert!(self.living.is_none(), "it runs");
        let host = Host::new(self.fast_ppm, self.base);
        let listed = if self.lives == 0 { around.founders } else { around.names.len() };
        let config = Arc::new(config(&around.names, listed, self.index, self.profile));
        let (queries_tx, queries) = mpsc::channel(QUERIES_MAX);
        let (group_tx, group_rx) = watch::channel(None);
        let (health_tx, health) = watch::channel(self.health.clone());
        let (stop_tx, stop) = watch::channel(false);
        let (index, life) = (self.index, self.lives);
        let (exits, host_of_disk) = (around.exits.clone(), host.clone());
        let store = self.disk.open(&host, move || {
            let _ = exits.send((index, life));
            host_of_disk.kill();
        });
        let desk = Desk::new(queries_tx, group_rx);
        let metrics = Metrics::new().expect("metrics of distinct names");
        let daemon = Daemon {
            around: around.clone(),
            index,
            life,
            config,
            host: host.clone(),
            desk: desk.clone(),
            metrics: metrics.clone(),
            group: group_tx,
            queries,
            health,
            stop,
            interface: self.interface.clone(),
            disk: self.disk.clone(),
        };
        let exits = around.exits.clone();
        drop(host.spawn(async move {
            daemon.run(store).await;
            let _ = exits.send((index, life));
        }));
        // Whoever is asked passes it on in the operator's name.
        let desk = desk.asked_by(Some(&Speaker::Local { role: tls::Role::Operator, uid: 0 }));
        self.living = Some(Living { host, desk, metrics, health: health_tx, stop: stop_tx });
        self.lives += 1;
    }

    /// Its daemon is gone at once.
    pub fn kill(&mut self, around: &Around, unsaved: Unsaved) {
        if let Some(living) = self.living.take() {
            living.host.kill();
            around.wires.close(&address(self.index));
            match unsaved {
                // The process alone.
                Unsaved::Kept => around.wires.process_ends(self.index),
                // The whole host.
                Unsaved::Lost => around.wires.host_ends(self.index),
            }
            around.referee.ends(self.index);
            self.disk.crash(unsaved);
            self.dropped_before += living.dropped();
        }
    }

    /// Calls that its daemon counts as dropped with the lease, in all its lives.
    pub fn dropped(&self) -> u64 {
        self.dropped_before + self.living.as_ref().map_or(0, Living::dropped)
    }

    /// Its daemon is told to stop; it hands over first.
    pub fn terminate(&self) {
        if let Some(living) = &self.living {
            living.stop.send_replace(true);
        }
    }

    pub fn set_health(&mut self, health: Health) {
        if let Some(living) = &self.living {
            living.health.send_replace(health.clone());
        }
        self.health = health;
    }
}

impl Living {
    fn dropped(&self) -> u64 {
        self.metrics.fenced_calls(DROPPED)
    }
}

struct Daemon {
    around: Around,
    index: usize,
    life: u64,
    config: Arc<Config>,
    host: Host,
    desk: Desk,
    metrics: Metrics,
    group: watch::Sender<Option<vipd::raft::Group>>,
    queries: mpsc::Receiver<vipd::rpc::desk::Query>,
    health: watch::Receiver<Health>,
    stop: watch::Receiver<bool>,
    interface: SimInterface,
    disk: Disk,
}

impl Daemon {
    async fn run(self, store: crate::disk::SimStore) {
        let Self { around, index, config, .. } = self;
        let referee = &around.referee;
        let gate = Arc::new(Gate::new(config.timing.margin()));
        let me = store.incarnation();
        let longest = Duration::from_millis(store.longest_lease_ms()).max(config.timing.lease());
        let quarantine = if store.is_fresh() { Duration::ZERO } else { longest + config.timing.margin() };
        referee.begins(
            index,
            Life {
                host: self.host.clone(),
                gate: Arc::clone(&gate),
                me,
                timing: config.timing,
                disk: self.disk,
                quarantined_until: clock::now() + quarantine,
                applied: None,
                view: vipd::decide::RaftView::default(),
                number: self.life,
            },
        );
        let (seen_tx, seen) = mpsc::channel(EVENTS_MAX);
        let (events_tx, events) = mpsc::channel(EVENTS_MAX);
        runtime::spawn(pass_on(index, referee.clone(), seen, events_tx.clone()));
        let dial = around.wires.dialer(index);
        let starting = Starting::new(&config, store, dial, Arc::clone(&gate), seen_tx).expect("a ledger");
        let starting = starting.snapshot_every(SNAPSHOT_EVERY);
        around.wires.serve(
            &address(index),
            index,
            self.host.clone(),
            starting.service(),
            starting.lifelines(),
        );
        let Ok(group) = starting.start().await else { return };
        referee.applies_by(index, group.applied());
        // Weak: the desk holds the group, which would hold it for as long as the simulation runs.
        let desk = Arc::new(self.desk.clone());
        let forwarded = Arc::downgrade(&desk);
        group.set_desk(Box::new(move |passed| {
            let desk = forwarded.upgrade();
            Box::pin(async move {
                match desk {
                    Some(desk) => desk.answer(passed).await,
                    None => std::future::pending().await,
                }
            })
        }));
        self.group.send_replace(Some(group.clone()));
        let eni: EniId = eni(index).parse().expect("an ENI's id");
        let myself = Myself { zone: format!("z{index}"), eni: Some(eni) };
        let (stamp, _) = watch::channel(Stamp::default());
        let (standing, _) = watch::channel(Standing::default());
        let now = Now { time: clock::now(), wall: clock::wall() };
        let decide = Decide::new(settings(&config, group.incarnation(), &myself), now);
        let cloud = around.ec2.client(index, config.aws.attempt_timeout);
        let config = InForce::new(config);
        let hands = Hands {
            config: config.clone(),
            myself,
            group: group.clone(),
            gate,
            cloud: Arc::new(cloud),
            addresses: self.interface.clone(),
            metrics: self.metrics,
            pulse: Pulse::default(),
            credentials: None,
            stamp,
            events: events_tx,
        };
        let driver = Driver::new(hands, decide, standing);
        let inputs = Inputs {
            events,
            queries: self.queries,
            health: self.health,
            present: self.interface.watch(),
            interface: watch::channel(true).1,
            config: watch::channel(config).1,
            stop: self.stop,
        };
        tokio::select! {
            biased;
            () = driver.run(inputs) => {}
            _ = group.watch() => {}
        }
    }
}

/// Shows each event to the referee before the judgement gets it.
async fn pass_on(seat: usize, referee: Referee, mut from: mpsc::Receiver<Event>, to: mpsc::Sender<Event>) {
    while let Some(event) = from.recv().await {
        if let Event::Raft(view) = &event {
            referee.raft(seat, view);
        }
        if to.send(event).await.is_err() {
            return;
        }
    }
}
