//! What is measured: faults, and the settings under which each is made. One axis is varied at a time, from
//! balanced, an EC2 that adds no delay, and three route tables.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What happens to the owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Its daemon and its HAProxy, by SIGKILL.
    OwnerKilled,
    /// Its HAProxy alone, by SIGKILL.
    HaproxyKilled,
    /// Its HAProxy alone, by SIGSTOP: it takes connections and answers none.
    HaproxyFrozen,
    /// Its zone, from the other members, EC2 and the client.
    ZoneCut,
    /// Its daemon, by SIGSTOP; HAProxy lives.
    OwnerFrozen,
    /// None: an operator asks for the move.
    Transfer,
    /// Its daemon, by SIGTERM; HAProxy lives.
    Sigterm,
}

impl Fault {
    pub const ALL: [Self; 7] = [
        Self::OwnerKilled,
        Self::HaproxyKilled,
        Self::HaproxyFrozen,
        Self::ZoneCut,
        Self::OwnerFrozen,
        Self::Transfer,
        Self::Sigterm,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::OwnerKilled => "owner's daemon and HAProxy killed",
            Self::HaproxyKilled => "HAProxy killed",
            Self::HaproxyFrozen => "HAProxy frozen",
            Self::ZoneCut => "owner's zone cut off",
            Self::OwnerFrozen => "owner's daemon frozen",
            Self::Transfer => "planned move",
            Self::Sigterm => "owner's daemon stopped (SIGTERM)",
        }
    }

    /// What the median has to reach, in milliseconds; 0: no failed new connection. A frozen HAProxy has no goal: how
    /// long it may be silent is the health check's setting.
    pub fn goal_ms(self, system: System) -> Option<f64> {
        let System::Vipd(profile) = system else { return None };
        match self {
            Self::OwnerKilled | Self::HaproxyKilled => Some(60.0),
            // The lease, the longest election timeout, 25 ms.
            Self::ZoneCut => match profile {
                Profile::Steady => Some(625.0),
                Profile::Balanced | Profile::QuickCheck => Some(425.0),
                Profile::Fast => Some(265.0),
            },
            Self::OwnerFrozen | Self::Transfer | Self::Sigterm => Some(0.0),
            Self::HaproxyFrozen => None,
        }
    }
}

/// vipd's timings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    Steady,
    Balanced,
    Fast,
    /// Balanced, where HAProxy has 200 ms to answer its check in place of 500.
    QuickCheck,
}

impl Profile {
    /// `[raft] profile`.
    pub fn raft(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Balanced | Self::QuickCheck => "balanced",
            Self::Fast => "fast",
        }
    }
}

/// keepalived's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tuning {
    /// `advert_int 1`, VRRPv2, a check every second that has to fail twice.
    Default,
    /// `advert_int 0.1`, VRRPv3, a check every second (its smallest interval) that has to fail once.
    Tuned,
}

/// What keeps the VIP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System {
    Vipd(Profile),
    Keepalived(Tuning),
    /// No daemon: a leader's calls without the leader.
    Yardstick,
}

impl System {
    pub fn name(self) -> &'static str {
        match self {
            Self::Vipd(_) => "vipd",
            Self::Keepalived(_) => "keepalived",
            Self::Yardstick => "gRPC",
        }
    }

    pub fn setting(self) -> &'static str {
        match self {
            Self::Vipd(Profile::Steady) => "steady",
            Self::Vipd(Profile::Balanced) => "balanced",
            Self::Vipd(Profile::Fast) => "fast",
            Self::Vipd(Profile::QuickCheck) => "balanced, check tuned",
            Self::Keepalived(Tuning::Default) => "default",
            Self::Keepalived(Tuning::Tuned) => "tuned",
            Self::Yardstick => "alone, two calls each 30 ms",
        }
    }
}

/// One lab, and what is measured in it.
#[derive(Clone, Debug)]
pub struct Group {
    pub system: System,
    pub ec2_delay_ms: u64,
    pub tables: usize,
    pub faults: Vec<Fault>,
    /// Watched at rest, with vipd's defaults; then without faults.
    pub idle: bool,
}

impl Group {
    fn new(system: System, ec2_delay_ms: u64, tables: usize, faults: &[Fault]) -> Self {
        Self { system, ec2_delay_ms, tables, faults: faults.to_vec(), idle: false }
    }

    fn at_rest(system: System) -> Self {
        Self { idle: true, ..Self::new(system, 0, TABLES, &[]) }
    }

    /// A run, with the wait until all is in order again; measured, and good enough to say how long it will take.
    pub fn run_takes(&self) -> Duration {
        // The CLI's start costs a core half a second for each table, on two cores.
        let tables = u64::try_from(self.tables).unwrap_or(u64::MAX);
        let ms = match self.system {
            System::Vipd(_) | System::Yardstick => 2_600 + 2 * self.ec2_delay_ms,
            System::Keepalived(Tuning::Default) => 4_500 + 250 * tables,
            System::Keepalived(Tuning::Tuned) => 3_000 + 250 * tables,
        };
        Duration::from_millis(ms)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, setting) = (self.system.name(), self.system.setting());
        let tables = if self.tables == 1 { "table" } else { "tables" };
        let rest = if self.idle { ", at rest" } else { "" };
        write!(f, "{name} {setting}, EC2 +{} ms, {} {tables}{rest}", self.ec2_delay_ms, self.tables)
    }
}

/// The number of route tables where that is not what is varied.
pub const TABLES: usize = 3;
/// As many as EC2's burst of changes, which all go out at once.
pub const MANY_TABLES: usize = 50;
/// Until a lab and its daemons are in order.
pub const LAB_UP: Duration = Duration::from_secs(5);
/// A round trip to a slow EC2 endpoint.
const SLOW_EC2_MS: u64 = 150;

/// The three that stand beside each other.
pub const LANES: [System; 3] =
    [System::Vipd(Profile::Balanced), System::Keepalived(Tuning::Tuned), System::Keepalived(Tuning::Default)];

/// Everything, or the part of it that shows within a quarter of an hour whether it works.
pub struct Plan {
    pub runs: usize,
    pub settle: Duration,
    pub watch: Duration,
    pub groups: Vec<Group>,
}

impl Plan {
    pub fn full() -> Self {
        use Fault::{HaproxyFrozen, OwnerKilled, Transfer};
        let [balanced, tuned, _] = LANES;
        let mut groups = Self::at_rest();
        groups.extend(LANES.map(|system| Group::new(system, 0, TABLES, &Fault::ALL)));
        for profile in [Profile::Steady, Profile::Fast] {
            groups.push(Group::new(System::Vipd(profile), 0, TABLES, &Fault::ALL));
        }
        groups.push(Group::new(System::Vipd(Profile::QuickCheck), 0, TABLES, &[HaproxyFrozen]));
        groups.push(Group::new(balanced, SLOW_EC2_MS, TABLES, &Fault::ALL));
        groups.push(Group::new(tuned, SLOW_EC2_MS, TABLES, &[OwnerKilled, Transfer]));
        for tables in [1, 20, MANY_TABLES] {
            groups.push(Group::new(balanced, 0, tables, &Fault::ALL));
            groups.push(Group::new(tuned, 0, tables, &[OwnerKilled]));
        }
        for system in [balanced, tuned] {
            groups.push(Group::new(system, SLOW_EC2_MS, MANY_TABLES, &[OwnerKilled]));
        }
        // Two of what a member does once a minute.
        Self { runs: 20, settle: Duration::from_secs(20), watch: Duration::from_secs(120), groups }
    }

    pub fn short() -> Self {
        use Fault::{HaproxyFrozen, OwnerKilled, Transfer, ZoneCut};
        let [balanced, tuned, _] = LANES;
        let mut groups = Self::at_rest();
        groups.extend(LANES.map(|system| Group::new(system, 0, TABLES, &Fault::ALL)));
        for profile in [Profile::Steady, Profile::Fast] {
            groups.push(Group::new(System::Vipd(profile), 0, TABLES, &[OwnerKilled, ZoneCut]));
        }
        groups.push(Group::new(System::Vipd(Profile::QuickCheck), 0, TABLES, &[HaproxyFrozen]));
        groups.push(Group::new(balanced, SLOW_EC2_MS, TABLES, &[OwnerKilled, Transfer]));
        groups.push(Group::new(balanced, 0, MANY_TABLES, &[OwnerKilled, Transfer]));
        groups.push(Group::new(tuned, 0, MANY_TABLES, &[OwnerKilled]));
        groups.push(Group::new(balanced, SLOW_EC2_MS, MANY_TABLES, &[OwnerKilled]));
        Self { runs: 3, settle: Duration::from_secs(10), watch: Duration::from_secs(20), groups }
    }

    /// Nothing but what the members cost at rest.
    pub fn idle() -> Self {
        Self { groups: Self::at_rest(), ..Self::full() }
    }

    fn at_rest() -> Vec<Group> {
        LANES.into_iter().chain([System::Yardstick]).map(Group::at_rest).collect()
    }

    pub fn takes(&self) -> Duration {
        self.groups.iter().map(|group| self.group_takes(group)).sum()
    }

    pub fn group_takes(&self, group: &Group) -> Duration {
        let runs = u32::try_from(self.runs * group.faults.len()).unwrap_or(u32::MAX);
        let idle = if group.idle { self.settle + self.watch } else { Duration::ZERO };
        LAB_UP + group.run_takes() * runs + idle
    }
}
