//! What goes wrong, and when: drawn from the seed, counted by kind.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::SmallRng;

use crate::disk::{DiskWeather, Unsaved};
use crate::ec2::Ec2Weather;
use crate::seat::Profile;
use crate::wires::Weather;

mod directed;

pub use directed::*;

/// One thing that happens to the world.
#[derive(Clone, Debug)]
pub enum Act {
    Crash {
        seat: usize,
        unsaved: Unsaved,
        profile: Option<Profile>,
    },
    CrashOwner {
        unsaved: Unsaved,
    },
    /// The leader is cut off from all others: both ways, or so that it hears no answers.
    IsolateOwner(Cut),
    /// The leader is to hand over to a member that dies `after` so long.
    TransferAndCrash {
        after: Duration,
    },
    /// The leader is to hand over, and all others die `after` so long, for so long.
    TransferAndCrashOthers {
        after: Duration,
        down: Duration,
    },
    /// Of the members that are not `left` out the leader dies for so long, and the other's directory is
    /// emptied.
    CrashOwnerAndWipe {
        left: usize,
        down: Duration,
    },
    Start {
        seat: usize,
    },
    Wipe {
        seat: usize,
    },
    Freeze {
        seat: usize,
    },
    Thaw {
        seat: usize,
    },
    /// Cut off from all others, both ways.
    Isolate {
        seat: usize,
    },
    CutOneWay {
        from: usize,
        to: usize,
    },
    /// The lifeline of that seat is closed by somebody else than its leader.
    EndFalsely {
        seat: usize,
    },
    /// Each lifeline is reset.
    ResetLifelines,
    /// Both ways between that seat and the owner.
    CutFromOwner {
        seat: usize,
    },
    HealWires,
    Wires(Weather),
    Disk {
        seat: usize,
        weather: DiskWeather,
    },
    Ec2(Ec2Weather),
    LoseEc2 {
        seat: usize,
    },
    FindEc2 {
        seat: usize,
    },
    Sick {
        seat: usize,
    },
    Well {
        seat: usize,
    },
    Transfer {
        via: usize,
        to: Option<usize>,
    },
    /// An operator asks the member at `via`.
    Order {
        via: usize,
        what: What,
    },
    Terminate {
        seat: usize,
    },
    RouteByHand {
        table: usize,
        seat: usize,
    },
    StepWall {
        seat: usize,
        by_ms: i64,
    },
    DeleteAddress {
        seat: usize,
    },
    RestartAll {
        unsaved: Unsaved,
    },
    /// An operator asks the member at `via` to change the membership.
    Members {
        via: usize,
        roster: Roster,
    },
    /// As soon as there is a newcomer that does not vote yet, and `after` so long more, it and the leader are cut
    /// off from all others.
    SplitAtNewcomer {
        after: Duration,
    },
    SplitNow,
}

impl Act {
    /// Under which name it is counted; `None`: it ends another.
    pub fn kind(&self) -> Option<&'static str> {
        Some(match self {
            Act::Crash { profile: Some(_), .. } => "restart with other timings",
            Act::Crash { unsaved: Unsaved::Lost, .. } => "crash, unsaved lost",
            Act::Crash { unsaved: Unsaved::Kept, .. } => "crash, unsaved kept",
            Act::CrashOwner { .. } => "crash of the owner",
            Act::IsolateOwner(_) => "owner cut off, but not from EC2",
            Act::TransferAndCrash { .. } | Act::TransferAndCrashOthers { .. } => {
                "transfer to a member that dies"
            }
            Act::CrashOwnerAndWipe { .. } => "crash of the owner",
            Act::Wipe { .. } => "wipe",
            Act::Freeze { .. } => "freeze",
            Act::Isolate { .. } => "partition",
            Act::CutOneWay { .. } => "partition, one way",
            Act::CutFromOwner { .. } => "one cut off from the owner",
            Act::Wires(_) => "bad network",
            Act::Disk { weather: DiskWeather { fails: true, .. }, .. } => "fsync fails",
            Act::Disk { .. } => "slow fsync",
            Act::Ec2(_) => "bad EC2",
            Act::LoseEc2 { .. } => "EC2 out of reach",
            Act::Sick { .. } => "HAProxy unhealthy",
            Act::Transfer { .. } => "transfer",
            Act::Order { what: What::Drain(_), .. } => "drain",
            Act::Order { what: What::Pause, .. } => "pause",
            Act::Terminate { .. } => "SIGTERM",
            Act::RouteByHand { .. } => "route changed by hand",
            Act::StepWall { .. } => "wall clock stepped",
            Act::DeleteAddress { .. } => "address deleted",
            Act::RestartAll { .. } => "restart of all",
            Act::SplitNow => "leader and newcomer cut off",
            // Counted where they are done.
            Act::Members { .. } | Act::SplitAtNewcomer { .. } => return None,
            // Counted where they hit a lifeline.
            Act::EndFalsely { .. } | Act::ResetLifelines => return None,
            Act::Start { .. }
            | Act::Thaw { .. }
            | Act::HealWires
            | Act::FindEc2 { .. }
            | Act::Order { what: What::Undrain(_) | What::Resume, .. }
            | Act::Well { .. } => return None,
        })
    }
}

/// What operators order.
#[derive(Clone, Copy, Debug)]
pub enum What {
    Drain(usize),
    Undrain(usize),
    Pause,
    Resume,
}

/// What they want of the membership. Who comes is somebody who is in none, with the directory that it has or with an
/// empty one.
#[derive(Clone, Copy, Debug)]
pub enum Roster {
    /// As a learner.
    Add {
        emptied: bool,
    },
    /// Whoever is a learner.
    Promote,
    Remove {
        seat: usize,
    },
    Replace {
        seat: usize,
        emptied: bool,
    },
}

/// Which way nothing goes.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Both,
    Towards,
}

/// Every kind of fault that a run of many seeds must have seen.
pub const KINDS: &[&str] = &[
    "restart with other timings",
    "crash, unsaved lost",
    "crash, unsaved kept",
    "crash of the owner",
    "owner cut off, but not from EC2",
    "transfer to a member that dies",
    "wipe",
    "freeze",
    "partition",
    "partition, one way",
    "one cut off from the owner",
    "bad network",
    "fsync fails",
    "slow fsync",
    "bad EC2",
    "EC2 out of reach",
    "HAProxy unhealthy",
    "transfer",
    "drain",
    "pause",
    "SIGTERM",
    "route changed by hand",
    "address deleted",
    "wall clock stepped",
    "restart of all",
    "member added",
    "member promoted",
    "member removed",
    "member replaced",
    "two sets of voters",
    "death of a leader with both",
    "leader and newcomer cut off",
    "route changed by hand, read fast",
    "read fast for ten minutes",
];

/// When things happen.
#[derive(Default, Debug)]
pub struct Schedule {
    acts: BTreeMap<(Duration, u64), Act>,
    serial: u64,
}

impl Schedule {
    pub fn add(&mut self, at: Duration, act: Act) {
        self.serial += 1;
        self.acts.insert((at, self.serial), act);
    }

    /// The next act that is due.
    pub fn due(&mut self, now: Duration) -> Option<Act> {
        let (key, _) = self.acts.first_key_value()?;
        let key = *key;
        (key.0 <= now).then(|| self.acts.remove(&key))?
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Duration> {
        self.acts.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn clear(&mut self) {
        self.acts.clear();
    }
}

/// Faults of every kind between `from` and `to`.
pub fn everything(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    everything_but(rng, seats, from, to, false)
}

/// The same, while members come and go.
pub fn members(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    // Of three, one that is removed and one that is wiped would be a majority lost for good.
    let mut s = everything_but(rng, seats, from, to, seats < 6);
    let mut at = from;
    loop {
        at += ms(rng, 200, 2_500);
        if at >= to {
            return s;
        }
        let (via, seat) = (rng.random_range(0..seats), rng.random_range(0..seats));
        let emptied = rng.random_range(0..2) == 0;
        let roster = match rng.random_range(0..6) {
            0 => Roster::Add { emptied },
            1 => Roster::Promote,
            2 => Roster::Remove { seat },
            _ => Roster::Replace { seat, emptied },
        };
        s.add(at, Act::Members { via, roster });
        if rng.random_range(0..4) == 0 {
            s.add(at, Act::SplitAtNewcomer { after: ms(rng, 0, 60) });
            s.add(at + ms(rng, 1_000, 3_000), Act::HealWires);
        }
    }
}

fn everything_but(
    rng: &mut SmallRng,
    seats: usize,
    from: Duration,
    to: Duration,
    mut wiped: bool,
) -> Schedule {
    let mut schedule = Schedule::default();
    let mut at = from;
    // One at most: FENCING.md, section 2.
    let misled = rng.random_range(0..seats);
    loop {
        at += ms(rng, 20, 1_500);
        if at >= to {
            return schedule;
        }
        match rng.random_range(0..14) {
            0 => schedule.add(at, Act::EndFalsely { seat: misled }),
            1 => schedule.add(at, Act::ResetLifelines),
            _ => one(rng, seats, at, &mut wiped, &mut schedule),
        }
    }
}

fn ms(rng: &mut SmallRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.random_range(least..=most))
}

fn unsaved(rng: &mut SmallRng) -> Unsaved {
    if rng.random_range(0..2) == 0 { Unsaved::Lost } else { Unsaved::Kept }
}

/// One fault at `at`, and its end.
fn one(rng: &mut SmallRng, seats: usize, at: Duration, wiped: &mut bool, s: &mut Schedule) {
    let seat = rng.random_range(0..seats);
    let other = (seat + rng.random_range(1..seats)) % seats;
    match rng.random_range(0..31) {
        0..=3 => {
            let profile = (rng.random_range(0..3) == 0).then(|| Profile::ALL[rng.random_range(0..3)]);
            s.add(at, Act::Crash { seat, unsaved: unsaved(rng), profile });
            s.add(at + ms(rng, 1, 800), Act::Start { seat });
        }
        4 | 5 => s.add(at, Act::CrashOwner { unsaved: unsaved(rng) }),
        6 if !*wiped => {
            *wiped = true;
            s.add(at, Act::Wipe { seat });
            s.add(at + ms(rng, 10, 500), Act::Start { seat });
        }
        6 | 7 => {
            s.add(at, Act::Freeze { seat });
            s.add(at + [ms(rng, 10, 400), ms(rng, 400, 5_000)][rng.random_range(0..2)], Act::Thaw { seat });
        }
        8 | 9 => {
            s.add(at, Act::Isolate { seat });
            s.add(at + ms(rng, 50, 3_000), Act::HealWires);
        }
        10 | 11 => {
            s.add(at, Act::CutOneWay { from: seat, to: other });
            s.add(at + ms(rng, 50, 3_000), Act::HealWires);
        }
        12 => {
            let weather = Weather {
                latency_us: (200, rng.random_range(1_000..60_000)),
                lost: rng.random_range(0..300),
                doubled: rng.random_range(0..300),
                late: rng.random_range(0..200),
            };
            s.add(at, Act::Wires(weather));
            s.add(at + ms(rng, 200, 3_000), Act::Wires(Weather::default()));
        }
        13 => {
            let most = rng.random_range(5_000..2_000_000);
            s.add(at, Act::Disk { seat, weather: DiskWeather { fsync_us: (1_000, most), fails: false } });
            s.add(at + ms(rng, 200, 3_000), Act::Disk { seat, weather: DiskWeather::default() });
        }
        14 => s.add(at, Act::Disk { seat, weather: DiskWeather { fails: true, ..DiskWeather::default() } }),
        15 | 16 => {
            let weather = Ec2Weather {
                latency_us: (1_000, rng.random_range(5_000..400_000)),
                connect_us: rng.random_range(0..400_000),
                refuses: rng.random_range(0..200),
                fails_after: rng.random_range(0..200),
                loses_answer: rng.random_range(0..200),
                late: rng.random_range(0..300),
                throttles: rng.random_range(0..200),
                late_ms: (100, rng.random_range(500..8_000)),
                lag_ms: rng.random_range(0..10_000),
            };
            s.add(at, Act::Ec2(weather));
            s.add(at + ms(rng, 500, 5_000), Act::Ec2(Ec2Weather::default()));
        }
        17 => {
            s.add(at, Act::LoseEc2 { seat });
            s.add(at + ms(rng, 100, 4_000), Act::FindEc2 { seat });
        }
        18 => {
            s.add(at, Act::Sick { seat });
            s.add(at + ms(rng, 100, 4_000), Act::Well { seat });
        }
        19 | 20 => {
            let to = (rng.random_range(0..2) == 0).then_some(other);
            s.add(at, Act::Transfer { via: seat, to });
        }
        21 => {
            s.add(at, Act::Terminate { seat });
            s.add(at + ms(rng, 11_000, 12_000), Act::Start { seat });
        }
        22 => {
            s.add(at, Act::RouteByHand { table: rng.random_range(0..3), seat });
            s.add(at + ms(rng, 1, 500), Act::DeleteAddress { seat: other });
        }
        23 => {
            // While a call is on its way, more often than not.
            let connect_us = rng.random_range(50_000..900_000);
            s.add(at, Act::Ec2(Ec2Weather { connect_us, ..Ec2Weather::default() }));
            s.add(at, Act::RouteByHand { table: rng.random_range(0..3), seat });
            let cut = if rng.random_range(0..2) == 0 { Cut::Both } else { Cut::Towards };
            let then = at + ms(rng, 0, 1_200);
            s.add(then, Act::IsolateOwner(cut));
            s.add(then + ms(rng, 50, 3_000), Act::HealWires);
            s.add(then + ms(rng, 500, 3_000), Act::Ec2(Ec2Weather::default()));
        }
        24 => s.add(at, Act::TransferAndCrash { after: ms(rng, 0, 40) }),
        25 => s.add(at, Act::StepWall { seat, by_ms: rng.random_range(-3_600_000..=3_600_000) }),
        26 | 27 => {
            s.add(at, Act::Order { via: other, what: What::Drain(seat) });
            s.add(at + ms(rng, 200, 4_000), Act::Order { via: other, what: What::Undrain(seat) });
        }
        28 => {
            s.add(at, Act::Order { via: seat, what: What::Pause });
            s.add(at + ms(rng, 200, 4_000), Act::Order { via: other, what: What::Resume });
        }
        29 => {
            s.add(at, Act::CutFromOwner { seat });
            s.add(at + ms(rng, 50, 3_000), Act::HealWires);
        }
        _ if rng.random_range(0..3) == 0 => s.add(at, Act::RestartAll { unsaved: unsaved(rng) }),
        _ => s.add(at, Act::DeleteAddress { seat }),
    }
}
