//! EC2 as it can be: it delays, loses, throttles, fails after the deed, executes late, and shows old
//! routes.
//!
//! ```text
//!   swap --connect--> door --bytes leave--> [network] --> execute, now or late --> answer, or none
//!   look --------------------------------> [network] --> the routes as they were `lag` ago
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use vipd::clock;
use vipd::decide::{Gate, Permit};
use vipd::model::route::{CloudError, Fenced, Outcome, Sight, Stamp, Swap};
use vipd::model::{EniId, Observed, RouteKey, RouteMap, RouteTableId};
use vipd::runtime;
use vipd::runtime::simulated::{Host, true_now};
use vipd::vpc::Cloud;
use vipd::vpc::door::Door;

use crate::referee::{Referee, Sent};

/// How EC2 fares, in parts of a thousand calls.
#[derive(Clone, Copy, Debug)]
pub struct Ec2Weather {
    /// One way, in microseconds: at least and at most.
    pub latency_us: (u64, u64),
    /// A connection takes so long to open before the bytes leave, at most.
    pub connect_us: u64,
    /// EC2 refuses and does nothing.
    pub refuses: u32,
    /// EC2 does it and says that it failed.
    pub fails_after: u32,
    /// EC2 does it and the answer is lost.
    pub loses_answer: u32,
    /// EC2 wants fewer calls, and does nothing.
    pub throttles: u32,
    /// EC2 does it only later, by so many milliseconds: at least and at most.
    pub late: u32,
    pub late_ms: (u64, u64),
    /// What a look shows is up to so many milliseconds old.
    pub lag_ms: u64,
}

impl Default for Ec2Weather {
    fn default() -> Self {
        Self {
            latency_us: (1_000, 5_000),
            connect_us: 0,
            refuses: 0,
            fails_after: 0,
            loses_answer: 0,
            throttles: 0,
            late: 0,
            late_ms: (0, 0),
            lag_ms: 0,
        }
    }
}

/// How often each thing happened.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ec2Faults {
    pub calls: u64,
    pub refused: u64,
    pub failed_after: u64,
    pub answers_lost: u64,
    pub late: u64,
    /// One that was executed late made a route wrong that was right.
    pub misled: u64,
    /// The answer took longer than 100 ms.
    pub slow: u64,
    pub throttled: u64,
    pub old_looks: u64,
    pub fenced: u64,
    /// Its lease ended before its bytes left.
    pub dropped: u64,
}

/// How many changes are remembered for those who look at old routes.
const PAST: usize = 64;

struct Account {
    routes: RouteMap,
    past: VecDeque<(Duration, RouteMap)>,
    tables: Vec<RouteTableId>,
    weather: Ec2Weather,
    rng: SmallRng,
    faults: Ec2Faults,
    /// Calls that have come and are not carried out yet.
    held: usize,
    /// Mutating calls that are left of the burst, and when one was added.
    bucket: (u32, Duration),
    /// Who cannot reach EC2.
    unreachable: BTreeSet<usize>,
}

/// The route tables of one region. Cheap to clone.
#[derive(Clone)]
pub struct Ec2 {
    account: Arc<Mutex<Account>>,
    referee: Referee,
}

/// EC2 API throttling page: mutating calls, 50 in a burst and 5 a second.
const BURST: u32 = 50;
const REFILL: Duration = Duration::from_millis(200);

impl Ec2 {
    pub fn new(seed: u64, routes: RouteMap, referee: Referee) -> Self {
        let tables: BTreeSet<_> = routes.keys().map(|r| r.table.clone()).collect();
        let account = Account {
            routes,
            past: VecDeque::new(),
            tables: tables.into_iter().collect(),
            weather: Ec2Weather::default(),
            rng: SmallRng::seed_from_u64(seed),
            faults: Ec2Faults::default(),
            held: 0,
            bucket: (BURST, Duration::ZERO),
            unreachable: BTreeSet::new(),
        };
        Self { account: Arc::new(Mutex::new(account)), referee }
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_weather(&self, weather: Ec2Weather) {
        self.lock().weather = weather;
    }

    pub fn faults(&self) -> Ec2Faults {
        self.lock().faults
    }

    /// Whether a call is still to be carried out.
    pub fn holds_back(&self) -> bool {
        self.lock().held > 0
    }

    pub fn routes(&self) -> RouteMap {
        self.lock().routes.clone()
    }

    /// Whether `seat` reaches EC2.
    pub fn reach(&self, seat: usize, reaches: Reach) {
        match reaches {
            Reach::Yes => self.lock().unreachable.remove(&seat),
            Reach::No => self.lock().unreachable.insert(seat),
        };
    }

    /// Changes one route: by a call, or by somebody's hand.
    pub fn set(&self, route: &RouteKey, eni: &EniId) {
        let mut a = self.lock();
        let before = a.routes.clone();
        a.past.push_back((true_now(), before));
        while a.past.len() > PAST {
            a.past.pop_front();
        }
        a.routes.insert(route.clone(), Observed::Active(Some(eni.clone())));
        drop(a);
        self.referee.route_is(route, eni);
    }

    /// EC2 as `seat` reaches it.
    pub fn client(&self, seat: usize, attempt_timeout: Duration) -> SimCloud {
        SimCloud { ec2: self.clone(), seat, attempt_timeout }
    }

    fn throttles(&self) -> bool {
        let mut a = self.lock();
        let now = true_now();
        while a.bucket.0 < BURST && now.saturating_sub(a.bucket.1) >= REFILL {
            a.bucket.0 += 1;
            a.bucket.1 += REFILL;
        }
        if a.bucket.0 == BURST {
            a.bucket.1 = now;
        }
        let share = a.weather.throttles;
        let busy = a.rng.random_range(0..1000) < share;
        let empty = a.bucket.0 == 0 || busy;
        a.bucket.0 = a.bucket.0.saturating_sub(1);
        a.faults.throttled += u64::from(empty);
        empty
    }

    fn fate(&self) -> Fate {
        let mut a = self.lock();
        a.faults.calls += 1;
        let w = a.weather;
        let mut dice = a.rng.random_range(0..1000_u32);
        let mut hit = |share: u32| {
            let is = dice < share;
            dice = dice.saturating_sub(share);
            is && share > 0
        };
        if hit(w.refuses) {
            a.faults.refused += 1;
            return Fate::Refused;
        }
        if hit(w.fails_after) {
            a.faults.failed_after += 1;
            return Fate::FailsAfter;
        }
        if hit(w.loses_answer) {
            a.faults.answers_lost += 1;
            return Fate::AnswerLost;
        }
        if hit(w.late) {
            a.faults.late += 1;
            let (least, most) = w.late_ms;
            let ms = a.rng.random_range(least..=most);
            return Fate::Late(Duration::from_millis(ms));
        }
        Fate::Done
    }

    fn one_way(&self) -> Duration {
        let mut a = self.lock();
        let (least, most) = a.weather.latency_us;
        Duration::from_micros(a.rng.random_range(least..=most))
    }

    fn connect_time(&self) -> Duration {
        let mut a = self.lock();
        let most = a.weather.connect_us;
        Duration::from_micros(a.rng.random_range(0..=most))
    }

    /// The routes as a read may show them.
    fn seen(&self) -> RouteMap {
        let mut a = self.lock();
        let most = a.weather.lag_ms;
        let lag = Duration::from_millis(a.rng.random_range(0..=most));
        let then = true_now().saturating_sub(lag);
        // The first change after `then` tells how it was before.
        let old = a.past.iter().find(|(at, _)| *at > then).map(|(_, routes)| routes.clone());
        a.faults.old_looks += u64::from(old.is_some());
        old.unwrap_or_else(|| a.routes.clone())
    }

    async fn execute(self, swap: Swap, after: Duration, sent: Sent) {
        self.lock().held += 1;
        SimRuntime::sleep(after).await;
        self.lock().held -= 1;
        self.referee.executed(&sent);
        let misleads = self.referee.misleads(&swap, self.lock().routes.get(&swap.route));
        self.lock().faults.misled += u64::from(misleads);
        self.set(&swap.route, &swap.eni);
    }
}

/// Whether a member reaches EC2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    Yes,
    No,
}

enum Fate {
    Done,
    Refused,
    FailsAfter,
    AnswerLost,
    Late(Duration),
}

/// One member's client.
pub struct SimCloud {
    ec2: Ec2,
    seat: usize,
    attempt_timeout: Duration,
}

/// Nobody would call an EC2 slow that answers within twice this.
const SLOW: Duration = Duration::from_millis(50);

const SWAP: &str = "ReplaceRoute";
const LOOK: &str = "DescribeRouteTables";

/// As the shipped client does: however the attempt ends, its door is shut.
struct ShutOnDrop {
    door: Arc<Door>,
    ec2: Ec2,
    caller: Host,
    number: u64,
    ended: bool,
}

impl Drop for ShutOnDrop {
    fn drop(&mut self) {
        let nothing_left = self.door.shut();
        self.ec2.referee.attempt_ends(self.number);
        if nothing_left && !self.ended && !self.caller.is_dead() {
            self.ec2.lock().faults.dropped += 1;
        }
    }
}

impl SimCloud {
    fn timed_out(&self, action: &'static str) -> CloudError {
        let ms = u64::try_from(self.attempt_timeout.as_millis()).unwrap_or(u64::MAX);
        CloudError::Timeout { action, ms }
    }

    async fn reached(&self) {
        if self.ec2.lock().unreachable.contains(&self.seat) {
            let () = pending().await;
        }
    }

    async fn attempt(
        &self,
        number: u64,
        swap: &Swap,
        permit: Permit,
        gate: &Arc<Gate>,
        door: &Door,
    ) -> Outcome {
        let began = clock::now();
        runtime::sleep(self.ec2.connect_time()).await;
        self.reached().await;
        if let Err(error) = door.pass() {
            return match error.downcast::<Fenced>() {
                Ok(why) => {
                    self.ec2.lock().faults.fenced += 1;
                    Outcome::Fenced(*why)
                }
                Err(_) => Outcome::Refused(self.timed_out(SWAP)),
            };
        }
        let sent = self.ec2.referee.bytes_leave(self.seat, number, swap, permit, gate, began);
        let there = self.ec2.one_way();
        if there > SLOW {
            self.ec2.lock().faults.slow += 1;
        }
        let run = |after| drop(SimRuntime::spawn(self.ec2.clone().execute(swap.clone(), after, sent)));
        if self.ec2.throttles() {
            runtime::sleep(there * 2).await;
            return Outcome::Refused(CloudError::Throttled { action: SWAP });
        }
        let other =
            |code: &str| CloudError::Other { action: SWAP, code: code.into(), message: String::new() };
        let outcome = match self.ec2.fate() {
            Fate::Done => {
                run(there);
                Outcome::Done { request_id: Some(format!("req-{}", sent.serial)) }
            }
            Fate::Refused => Outcome::Refused(other("InvalidParameterValue")),
            Fate::FailsAfter => {
                run(there);
                Outcome::Unknown(other("InternalError"))
            }
            Fate::AnswerLost => {
                run(there);
                return pending().await;
            }
            Fate::Late(by) => {
                run(there + by);
                return pending().await;
            }
        };
        runtime::sleep(there + self.ec2.one_way()).await;
        outcome
    }
}

impl Cloud for SimCloud {
    async fn look(&self, _: Stamp) -> Result<Sight, CloudError> {
        let look = async {
            self.reached().await;
            runtime::sleep(self.ec2.one_way()).await;
            let routes = self.ec2.seen();
            runtime::sleep(self.ec2.one_way()).await;
            routes
        };
        let routes = runtime::timeout(self.attempt_timeout, look).await.map_err(|_| self.timed_out(LOOK))?;
        let tables = self.ec2.lock().tables.clone();
        Ok(Sight { routes, tables, absent: BTreeSet::new() })
    }

    async fn swap(&self, swap: Swap, permit: Permit, gate: Arc<Gate>) -> Outcome {
        let door = Arc::new(Door::new(permit, Arc::clone(&gate)));
        let caller = Host::current().expect("a member calls");
        let number = self.ec2.referee.attempt_begins(self.seat, permit, self.attempt_timeout);
        let ec2 = self.ec2.clone();
        let mut shut = ShutOnDrop { door: Arc::clone(&door), ec2, caller, number, ended: false };
        let attempt = self.attempt(number, &swap, permit, &gate, &door);
        let outcome = runtime::timeout(self.attempt_timeout, attempt).await;
        shut.ended = true;
        match outcome {
            Ok(outcome) => outcome,
            Err(_) if door.shut() => Outcome::Refused(self.timed_out(SWAP)),
            Err(_) => Outcome::Unknown(self.timed_out(SWAP)),
        }
    }

    async fn rehearse(&self, _: Swap, _: Stamp) -> Result<(), CloudError> {
        let ask = async {
            self.reached().await;
            runtime::sleep(self.ec2.one_way()).await;
            let throttled = self.ec2.throttles();
            runtime::sleep(self.ec2.one_way()).await;
            throttled
        };
        match runtime::timeout(self.attempt_timeout, ask).await {
            Ok(true) => Err(CloudError::Throttled { action: SWAP }),
            Ok(false) => Ok(()),
            Err(_) => Err(self.timed_out(SWAP)),
        }
    }
}

/// Every VIP in every table, pointing at `eni`.
pub fn routes(tables: &[&str], vip: &str, eni: &str) -> RouteMap {
    let key = |table: &str| RouteKey {
        table: table.parse().expect("a table's id"),
        vip: vip.parse().expect("a VIP"),
    };
    let target = || Observed::Active(Some(eni.parse().expect("an ENI's id")));
    tables.iter().map(|t| (key(t), target())).collect::<BTreeMap<_, _>>()
}
