//! A whole group and what is around it, from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::mpsc;

use vipd::model::{EniId, Health, Observed, RouteKey};
use vipd::proto::{self, TransferLeaderRequest};
use vipd::runtime::simulated::{all_is_seen, stirs, true_now};

use crate::chaos::{Act, Cut, Schedule, What};
use crate::disk::{DiskWeather, Unsaved};
use crate::ec2::{self, Ec2, Ec2Faults, Ec2Weather, Reach};
use crate::invariants::healed::Member;
use crate::members::Changes;
use crate::referee::{Referee, Transcript, Violation};
use crate::seat::{Around, Profile, Seat, TABLES, VIP, address, eni};
use crate::stories::{Failover, Story};
use crate::wires::{Mail, Weather, Wires};

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub violations: Vec<Violation>,
    /// Faults by kind, as they really happened.
    pub faults: BTreeMap<&'static str, u64>,
    pub mail: Mail,
    pub ec2: Ec2Faults,
    pub calls: u64,
    pub claims: u64,
    pub moves: u64,
    /// When the owner was lost in calm.
    pub failover: Option<Failover>,
    /// From the end of all faults to route = owner = address.
    pub healing: Option<Duration>,
    /// Taken over from another, and started from.
    pub snapshots: (u64, u64),
    pub slow_saves: u64,
    pub failed_saves: u64,
    /// Entries that the referee applied itself, and how often it went on from a member's ledger.
    pub replayed: (u64, u64),
    /// Calls that members count as dropped with the lease.
    pub dropped: u64,
    pub digest: u64,
    pub transcript: Vec<String>,
}

/// Draws the faults between two moments, for so many seats.
pub type Faults = fn(&mut SmallRng, usize, Duration, Duration) -> Schedule;

/// Two clocks' rates differ by at most one per cent (FAULTS 23).
const RATES_APART_PPM: i64 = 10_000;

/// How far the members' clock rates are off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clocks {
    /// By anything up to half a per cent either way.
    Off,
    /// By half a per cent, each one way or the other.
    Extreme,
}

/// How a run is made.
#[derive(Clone)]
pub struct Plan {
    /// Who found the group.
    pub seats: usize,
    /// Who may come later.
    pub newcomers: usize,
    pub faults: Faults,
    pub story: Story,
    pub safety: Duration,
    pub profile: Option<Profile>,
    pub clocks: Clocks,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seats: 3,
            newcomers: 0,
            faults: crate::chaos::everything,
            story: Story::Healing,
            safety: Duration::from_secs(12),
            profile: None,
            clocks: Clocks::Off,
        }
    }
}

impl Plan {
    /// The plan of one of many seeds: one in eight with five founders, one in five with members that come and go,
    /// and of the rarer stories a fixed share. What costs much is rare.
    pub fn of_seed(seed: u64) -> Self {
        let comes = seed % 5 == 3;
        Self {
            seats: if seed % 8 == 4 { 5 } else { 3 },
            newcomers: usize::from(comes),
            faults: if comes { crate::chaos::members } else { crate::chaos::everything },
            story: match seed {
                _ if seed % 600 == 102 => Story::HealingThenLate,
                _ if seed % 5 == 1 => Story::HealingThenByHand,
                _ => Story::Healing,
            },
            ..Self::default()
        }
    }
}

/// How long a member is down whose directory is emptied on the way.
const WIPED_FOR: Duration = Duration::from_millis(20);

/// How often the referee looks at everything.
pub const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The group and its surroundings.
pub struct World {
    pub around: Around,
    pub seats: Vec<Seat>,
    exits: mpsc::UnboundedReceiver<(usize, u64)>,
    pub rng: SmallRng,
    profile: Profile,
    pub schedule: Schedule,
    pub faults: BTreeMap<&'static str, u64>,
    pub healing: Option<Duration>,
    /// Changes of the membership that were made.
    pub changes: Changes,
    /// How long after a newcomer is there it and the leader are to be cut off.
    pub split: Option<Duration>,
}

/// Runs one seed.
pub fn run(seed: u64, plan: &Plan, transcript: Transcript) -> Report {
    let mut runtime = SimRuntime::with_seed(seed);
    let mut world = World::new(seed, plan, transcript);
    crate::panics::clear();
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(world.tell(plan))));
    let outcome = lived.unwrap_or(Err(("the simulation itself runs", "it panicked".to_owned())));
    let wires = world.around.wires.clone();
    let mut report = world.report(seed, outcome);
    // Whatever is left is dropped with every task's own clock in force.
    drop(runtime);
    wires.take_down();
    if let Some(words) = crate::panics::take() {
        report.violations.push(Violation { at: Duration::ZERO, property: "no panic", words });
    }
    report
}

impl World {
    fn new(seed: u64, plan: &Plan, transcript: Transcript) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x7670_6421);
        let names: Vec<String> =
            (0..plan.seats + plan.newcomers).map(|i| format!("az-{}", char::from(b'a' + i as u8))).collect();
        let referee = Referee::new(names.clone(), transcript);
        let wires = Wires::new(rng.random(), referee.clone(), &names);
        let first = ec2::routes(&TABLES, VIP, &eni(rng.random_range(0..plan.seats)));
        let ec2 = Ec2::new(rng.random(), first, referee.clone());
        let (exits_tx, exits) = mpsc::unbounded_channel();
        let profile = plan.profile.unwrap_or(Profile::ALL[rng.random_range(0..3)]);
        let ppm = RATES_APART_PPM / 2;
        let extreme = plan.clocks == Clocks::Extreme;
        let seats = (0..names.len())
            .map(|index| {
                let base = Duration::from_secs(rng.random_range(100..1_000_000));
                let fast_ppm = match rng.random_range(-ppm..=ppm) {
                    // One fast and one slow, whatever is drawn for the others.
                    _ if extreme && index < 2 => [ppm, -ppm][index],
                    drawn if extreme => drawn.signum().max(0) * 2 * ppm - ppm,
                    drawn => drawn,
                };
                Seat::new(index, rng.random(), profile, fast_ppm, base)
            })
            .collect();
        let around = Around { wires, ec2, referee, exits: exits_tx, names, founders: plan.seats };
        let seats: Vec<Seat> = seats;
        let off = seats.iter().filter(|s| s.fast_ppm != 0).count();
        let faults = BTreeMap::from([("clock of another rate", off as u64)]);
        Self {
            around,
            seats,
            exits,
            rng,
            profile,
            schedule: Schedule::default(),
            faults,
            healing: None,
            changes: Changes::default(),
            split: None,
        }
    }

    /// B: the lease, the longest election timeout for each election that it took, and what the claim and the calls take
    /// then.
    pub fn failover_bound(&self, elections: u32) -> Duration {
        let (lease, election) = self.timing();
        lease + election * elections + Duration::from_millis(150)
    }

    fn timing(&self) -> (Duration, Duration) {
        let ms = match self.profile {
            Profile::Steady => 300,
            Profile::Balanced => 200,
            Profile::Fast => 120,
        };
        (Duration::from_millis(ms), Duration::from_millis(ms))
    }

    /// Lets the world go on until `end`.
    pub async fn pass(&mut self, end: Duration) {
        while true_now() < end {
            self.until_next_look(end).await;
            self.around.referee.look();
            self.bury();
            self.split_at_newcomer();
            while let Some(act) = self.schedule.due(true_now()) {
                self.act(act);
            }
        }
    }

    /// Looks are a millisecond apart. Those are left out before which no member does anything, while no call is in
    /// the air and no fault is due: they would show nothing new.
    async fn until_next_look(&self, end: Duration) {
        let began = true_now();
        let until = self.schedule.next().map_or(end, |at| at.min(end));
        if !self.around.referee.counts_time() && until > began + LOOK_EVERY {
            let _ = SimRuntime::timeout(whole_looks(until - began), stirs()).await;
        }
        let passed = true_now() - began;
        SimRuntime::sleep(whole_looks(passed).max(LOOK_EVERY) - passed).await;
        all_is_seen();
    }

    /// A process that has ended is started again, as systemd would.
    fn bury(&mut self) {
        while let Ok((index, life)) = self.exits.try_recv() {
            let Some(seat) = self.seats.get_mut(index) else { continue };
            if seat.living.is_some() && seat.lives == life + 1 {
                self.around.referee.say(&format!("{} has ended", self.around.names[index]));
                self.around.wires.process_ends(index);
                seat.kill(&self.around, Unsaved::Lost);
                let at = true_now() + Duration::from_millis(self.rng.random_range(100..1_000));
                self.schedule.add(at, Act::Start { seat: index });
            }
        }
    }

    pub fn owner(&self) -> Option<usize> {
        self.members().iter().position(|m| m.leads).and_then(|place| {
            let name = &self.members()[place].name;
            self.around.names.iter().position(|n| n == name)
        })
    }

    pub fn act(&mut self, act: Act) {
        if let Some(kind) = act.kind().filter(|_| self.comes_to_something(&act)) {
            *self.faults.entry(kind).or_default() += 1;
        }
        self.around.referee.say(&format!("{act:?}"));
        let around = self.around.clone();
        match act {
            Act::Crash { seat, unsaved, profile } => {
                self.seats[seat].kill(&around, unsaved);
                self.seats[seat].profile = profile.unwrap_or(self.seats[seat].profile);
            }
            Act::CrashOwner { unsaved } => {
                if let Some(owner) = self.owner() {
                    self.seats[owner].kill(&around, unsaved);
                    let at = true_now() + Duration::from_millis(self.rng.random_range(1..2_000));
                    self.schedule.add(at, Act::Start { seat: owner });
                }
            }
            Act::IsolateOwner(cut) => self.isolate_owner(cut),
            Act::TransferAndCrash { after } => {
                if let Some(owner) = self.owner() {
                    let target = (owner + 1) % self.seats.len();
                    self.transfer(owner, Some(target));
                    let at = true_now() + after;
                    self.schedule.add(at, Act::Crash { seat: target, unsaved: Unsaved::Kept, profile: None });
                    self.schedule.add(at + Duration::from_millis(1_500), Act::Start { seat: target });
                }
            }
            Act::TransferAndCrashOthers { after, down } => {
                if let Some(owner) = self.owner() {
                    self.transfer(owner, None);
                    for seat in (0..self.seats.len()).filter(|s| *s != owner) {
                        let at = true_now() + after;
                        self.schedule.add(at, Act::Crash { seat, unsaved: Unsaved::Kept, profile: None });
                        self.schedule.add(at + down, Act::Start { seat });
                    }
                }
            }
            Act::CrashOwnerAndWipe { left, down } => {
                if let Some(owner) = self.owner().filter(|owner| *owner != left) {
                    for seat in (0..self.seats.len()).filter(|s| *s != left) {
                        let at = true_now() + if seat == owner { down } else { WIPED_FOR };
                        let wiped = Act::Wipe { seat };
                        self.schedule.add(at, Act::Start { seat });
                        if seat == owner {
                            self.seats[seat].kill(&around, Unsaved::Kept);
                        } else {
                            self.schedule.add(true_now(), wiped);
                        }
                    }
                }
            }
            Act::Start { seat } => {
                if self.seats[seat].living.is_none() {
                    self.seats[seat].start(&around);
                }
            }
            Act::Wipe { seat } => {
                self.seats[seat].kill(&around, Unsaved::Lost);
                self.seats[seat].disk.wipe();
            }
            Act::Freeze { seat } => self.each(seat, |living| living.host.freeze()),
            Act::Thaw { seat } => self.each(seat, |living| living.host.thaw()),
            Act::Isolate { seat } => {
                for other in (0..self.seats.len()).filter(|o| *o != seat) {
                    around.wires.cut(seat, other);
                    around.wires.cut(other, seat);
                }
            }
            Act::EndFalsely { seat } => around.wires.end_falsely(seat),
            Act::ResetLifelines => around.wires.reset_lifelines(),
            Act::CutFromOwner { seat } => {
                if let Some(owner) = self.owner().filter(|owner| *owner != seat) {
                    around.wires.cut(seat, owner);
                    around.wires.cut(owner, seat);
                }
            }
            Act::CutOneWay { from, to } => around.wires.cut(from, to),
            Act::HealWires => around.wires.heal(),
            Act::Wires(weather) => around.wires.set_weather(weather),
            Act::Disk { seat, weather } => self.seats[seat].disk.set_weather(weather),
            Act::Ec2(weather) => around.ec2.set_weather(weather),
            Act::LoseEc2 { seat } => around.ec2.reach(seat, Reach::No),
            Act::FindEc2 { seat } => around.ec2.reach(seat, Reach::Yes),
            Act::Sick { seat } => self.seats[seat].set_health(Health::Unhealthy("no answer".to_owned())),
            Act::Well { seat } => self.seats[seat].set_health(Health::Healthy),
            Act::Transfer { via, to } => self.transfer(via, to),
            Act::Order { via, what } => self.order(via, what),
            Act::Terminate { seat } => self.seats[seat].terminate(),
            Act::RouteByHand { table, seat } => {
                let (route, target) = (route(table), eni(seat).parse::<EniId>().expect("an ENI's id"));
                around.ec2.set(&route, &target);
            }
            Act::Members { via, roster } => self.change_members(via, roster),
            Act::SplitAtNewcomer { after } => self.split = Some(after),
            Act::SplitNow => self.split_now(),
            Act::StepWall { seat, by_ms } => self.each(seat, |living| living.host.step_wall(by_ms)),
            Act::DeleteAddress { seat } => {
                self.seats[seat].interface.delete(VIP.parse().expect("a VIP"));
            }
            Act::RestartAll { unsaved } => {
                for seat in 0..self.seats.len() {
                    self.seats[seat].kill(&around, unsaved);
                    let at = true_now() + Duration::from_millis(self.rng.random_range(1..300));
                    self.schedule.add(at, Act::Start { seat });
                }
            }
        }
    }

    /// Whether it is a fault as things stand: the dead are not frozen, and nobody is cut off from no owner.
    fn comes_to_something(&self, act: &Act) -> bool {
        match act {
            Act::Crash { seat, .. }
            | Act::Freeze { seat }
            | Act::StepWall { seat, .. }
            | Act::Transfer { via: seat, .. }
            | Act::Order { via: seat, .. }
            | Act::Terminate { seat } => self.seats[*seat].living.is_some(),
            Act::CrashOwner { .. }
            | Act::IsolateOwner(_)
            | Act::TransferAndCrash { .. }
            | Act::TransferAndCrashOthers { .. } => self.owner().is_some(),
            Act::CrashOwnerAndWipe { left: seat, .. } | Act::CutFromOwner { seat } => {
                self.owner().is_some_and(|owner| owner != *seat)
            }
            Act::RouteByHand { table, seat } => {
                let target = Observed::Active(Some(eni(*seat).parse().expect("an ENI's id")));
                self.around.ec2.routes().get(&route(*table)) != Some(&target)
            }
            Act::DeleteAddress { seat } => !self.seats[*seat].interface.present().is_empty(),
            Act::SplitNow => self.owner().is_some() && self.newcomer().is_some(),
            _ => true,
        }
    }

    pub fn isolate_owner(&self, cut: Cut) {
        let Some(owner) = self.owner() else { return };
        for other in (0..self.seats.len()).filter(|o| *o != owner) {
            self.around.wires.cut(other, owner);
            match cut {
                Cut::Both => self.around.wires.cut(owner, other),
                Cut::Towards => {}
            }
        }
    }

    pub fn each(&self, seat: usize, what: impl FnOnce(&crate::seat::Living)) {
        if let Some(living) = &self.seats[seat].living {
            what(living);
        }
    }

    fn transfer(&self, via: usize, to: Option<usize>) {
        let Some(living) = &self.seats[via].living else { return };
        let desk = living.desk.clone();
        let request = TransferLeaderRequest {
            to: to.map(|seat| self.around.names[seat].clone()),
            wait_ms: 3_000,
            ..TransferLeaderRequest::default()
        };
        drop(living.host.spawn(async move {
            // How it ends is the referee's to see.
            let _ = desk.transfer(request).await;
        }));
    }

    fn order(&self, via: usize, what: What) {
        let Some(living) = &self.seats[via].living else { return };
        let (order, member) = match what {
            What::Drain(seat) => (proto::order_request::Order::Drain, Some(seat)),
            What::Undrain(seat) => (proto::order_request::Order::Undrain, Some(seat)),
            What::Pause => (proto::order_request::Order::Pause, None),
            What::Resume => (proto::order_request::Order::Resume, None),
        };
        let request = proto::OrderRequest {
            order: order.into(),
            member: member.map_or_else(String::new, |seat| self.around.names[seat].clone()),
            force: false,
            wait_ms: 3_000,
        };
        let desk = living.desk.clone();
        drop(living.host.spawn(async move {
            let _ = desk.order(request).await;
        }));
    }

    /// Takes back whatever operators ordered that some member knows of, asked of the member at `via`.
    /// Whether there was nothing.
    pub fn take_orders_back(&self, via: usize) -> bool {
        let (mut drained, mut paused) = (BTreeSet::new(), false);
        for member in self.members() {
            drained.extend(member.applied.ledger.drained.iter().map(ToString::to_string));
            paused |= member.applied.ledger.paused.is_some();
        }
        for (seat, _) in self.around.names.iter().enumerate().filter(|(_, name)| drained.contains(*name)) {
            self.order(via, What::Undrain(seat));
        }
        if paused {
            self.order(via, What::Resume);
        }
        drained.is_empty() && !paused
    }

    /// Whether each living member's ledger has that member drained.
    pub fn all_know_drained(&self, seat: usize) -> bool {
        let name = &self.around.names[seat];
        let knows = |m: &Member| m.applied.ledger.drained.iter().any(|drained| drained.as_str() == name);
        self.members().iter().all(knows)
    }

    /// All faults end: what is dead is started, in the timings that all have.
    pub fn heal(&mut self) {
        self.around.referee.say("all is healed");
        self.schedule.clear();
        self.split = None;
        self.around.wires.heal();
        self.around.wires.set_weather(Weather::default());
        self.around.ec2.set_weather(Ec2Weather::default());
        for index in 0..self.seats.len() {
            self.around.ec2.reach(index, Reach::Yes);
            let seat = &mut self.seats[index];
            seat.disk.set_weather(DiskWeather::default());
            seat.set_health(Health::Healthy);
            if let Some(living) = &seat.living {
                living.host.thaw();
            }
            if seat.profile != self.profile {
                seat.kill(&self.around, Unsaved::Kept);
                seat.profile = self.profile;
            }
            // Whoever was never started is nobody's member.
            if seat.living.is_none() && (index < self.around.founders || seat.lives > 0) {
                seat.start(&self.around);
            }
        }
    }

    fn report(self, seed: u64, outcome: Result<Option<Failover>, (&'static str, String)>) -> Report {
        let referee = &self.around.referee;
        let failover = match outcome {
            Ok(failover) => failover,
            Err((property, words)) => {
                referee.violated(property, words);
                None
            }
        };
        for seat in &self.seats {
            self.around.wires.close(&address(seat.index));
        }
        let (digest, transcript) = referee.transcript();
        let each = self.seats.iter().map(|seat| seat.disk.snapshots());
        let snapshots = each.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        let mut faults = self.faults;
        faults.extend(self.changes.made());
        let (joint, died) = referee.joint();
        faults.extend([("two sets of voters", joint), ("death of a leader with both", died)]);
        Report {
            seed,
            violations: referee.violations(),
            faults,
            mail: self.around.wires.mail(),
            ec2: self.around.ec2.faults(),
            calls: referee.calls(),
            claims: referee.claims(),
            moves: referee.moves(),
            failover,
            healing: self.healing,
            snapshots,
            slow_saves: self.seats.iter().map(|seat| seat.disk.slow_saves()).sum(),
            failed_saves: self.seats.iter().map(|seat| seat.disk.failed_saves()).sum(),
            replayed: referee.replayed(),
            dropped: self.seats.iter().map(Seat::dropped).sum(),
            digest,
            transcript,
        }
    }
}

/// As many whole looks as are not shorter.
fn whole_looks(span: Duration) -> Duration {
    Duration::from_millis(span.as_nanos().div_ceil(LOOK_EVERY.as_nanos()) as u64)
}

fn route(table: usize) -> RouteKey {
    RouteKey { table: TABLES[table].parse().expect("a table's id"), vip: VIP.parse().expect("a VIP") }
}
