//! Faults that lead straight to one guard.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::{Act, Cut, Roster, Schedule, What, ms, unsaved};
use crate::disk::{DiskWeather, Unsaved};
use crate::ec2::Ec2Weather;
use crate::seat::Profile;
use crate::wires::Weather;

/// The owner hands over, and as it does is cut off from all others: it does not hear of its successor.
pub fn cut_transfers(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    let mut at = from;
    while at < to {
        s.add(at, Act::Transfer { via: rng.random_range(0..seats), to: None });
        s.add(at + Duration::from_micros(rng.random_range(500..12_000)), Act::IsolateOwner(Cut::Both));
        at += ms(rng, 400, 900);
        s.add(at, Act::HealWires);
        at += ms(rng, 500, 1_500);
    }
    s
}

/// Calls that take long, and an owner that loses its lease, its leadership or its life meanwhile.
pub fn calls_in_the_air(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    let mut at = from;
    while at < to {
        let connect_us = rng.random_range(50_000..900_000);
        let weather = Ec2Weather {
            connect_us,
            late: 100,
            late_ms: (100, 3_000),
            lag_ms: 3_000,
            ..Ec2Weather::default()
        };
        s.add(at, Act::Ec2(weather));
        let slow = Weather { latency_us: (200, rng.random_range(1_000..45_000)), ..Weather::default() };
        s.add(at, Act::Wires(slow));
        for table in 0..3 {
            s.add(at, Act::RouteByHand { table, seat: rng.random_range(0..seats) });
        }
        let then = at + ms(rng, 900, 1_400);
        let seat = rng.random_range(0..seats);
        match rng.random_range(0..6) {
            0 | 1 => s.add(then, Act::IsolateOwner(Cut::Both)),
            2 => s.add(then, Act::IsolateOwner(Cut::Towards)),
            3 => s.add(then, Act::Transfer { via: seat, to: None }),
            4 => s.add(then, Act::TransferAndCrash { after: ms(rng, 0, 40) }),
            _ => {
                s.add(then, Act::Freeze { seat });
                s.add(then + ms(rng, 100, 900), Act::Thaw { seat });
            }
        }
        at = then + ms(rng, 300, 1_500);
        s.add(at, Act::HealWires);
        at += ms(rng, 500, 1_500);
    }
    s
}

/// A call that takes long to leave, and an owner that loses the leadership and has it again meanwhile.
pub fn there_and_back(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    s.add(from, Act::Ec2(Ec2Weather { connect_us: 950_000, ..Ec2Weather::default() }));
    let mut at = from;
    while at < to {
        for table in 0..3 {
            s.add(at, Act::RouteByHand { table, seat: rng.random_range(0..seats) });
        }
        let then = at + ms(rng, 300, 1_100);
        s.add(then, Act::IsolateOwner(Cut::Both));
        s.add(then + ms(rng, 200, 350), Act::HealWires);
        s.add(then + ms(rng, 351, 500), Act::CrashOwner { unsaved: Unsaved::Kept });
        at = then + ms(rng, 1_500, 2_500);
    }
    s
}

/// Transfers, by an owner that has calls of unknown outcome, of which nobody else knows any more.
pub fn failed_transfers(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    s.add(from, Act::Ec2(Ec2Weather { loses_answer: 600, ..Ec2Weather::default() }));
    let mut at = from;
    while at < to {
        s.add(at, Act::CrashOwner { unsaved: unsaved(rng) });
        at += ms(rng, 2_500, 3_500);
        s.add(at, Act::TransferAndCrashOthers { after: ms(rng, 2, 8), down: ms(rng, 10, 60) });
        at += ms(rng, 400, 900);
        s.add(at, Act::RouteByHand { table: rng.random_range(0..3), seat: rng.random_range(0..seats) });
        at += ms(rng, 400, 900);
    }
    s
}

/// Everybody restarts, the first with the longest lease, the others with the shortest.
fn one_steady(rng: &mut SmallRng, seats: usize, from: Duration) -> Schedule {
    let mut s = Schedule::default();
    for seat in 0..seats {
        let profile = if seat == 0 { Profile::Steady } else { Profile::Fast };
        s.add(from, Act::Crash { seat, unsaved: Unsaved::Kept, profile: Some(profile) });
        s.add(from + ms(rng, 1, 100), Act::Start { seat });
    }
    s
}

/// The owner is cut off for longer than one follower's lease, which then asks the owner itself; the other's
/// longer promise holds its permit open. With equal leases openraft's own, which counts this member's length,
/// would hide that.
pub fn short_cuts(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = one_steady(rng, seats, from);
    let mut at = from + ms(rng, 1_000, 1_500);
    while at < to {
        s.add(at, Act::RouteByHand { table: rng.random_range(0..3), seat: rng.random_range(0..seats) });
        s.add(at, Act::IsolateOwner(Cut::Both));
        at += ms(rng, 150, 270);
        s.add(at, Act::HealWires);
        at += ms(rng, 300, 600);
    }
    s
}

/// A member restarts with a shorter lease than the one that it has granted; the leader is cut off meanwhile, so
/// that the third asks for its vote.
pub fn shortened(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    let restart = |s: &mut Schedule, at, down, seat, profile| {
        s.add(at, Act::Crash { seat, unsaved: Unsaved::Kept, profile: Some(profile) });
        s.add(at + down, Act::Start { seat });
    };
    for seat in 0..seats {
        restart(&mut s, from, ms(rng, 1, 20), seat, Profile::Fast);
    }
    let mut at = from + ms(rng, 1_000, 1_500);
    while at < to {
        let seat = rng.random_range(0..seats);
        restart(&mut s, at, ms(rng, 1, 20), seat, Profile::Steady);
        at += ms(rng, 900, 1_200);
        restart(&mut s, at, ms(rng, 1, 20), seat, Profile::Fast);
        s.add(at, Act::IsolateOwner(Cut::Both));
        at += ms(rng, 400, 600);
        s.add(at, Act::HealWires);
        at += ms(rng, 300, 500);
    }
    s
}

/// So much is lost that some hear their leader no more while others do. Their leases differ: with equal ones
/// openraft's own lease, which counts this member's length, would hide that a longer promise stands.
pub fn heavy_loss(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = one_steady(rng, seats, from);
    let mut at = from + ms(rng, 1_000, 1_500);
    while at < to {
        s.add(at, Act::Wires(Weather { lost: rng.random_range(400..700), ..Weather::default() }));
        s.add(at, Act::RouteByHand { table: rng.random_range(0..3), seat: rng.random_range(0..seats) });
        at += ms(rng, 500, 1_500);
    }
    s
}

/// One member lags, and the directory of the only other that has what was agreed is emptied.
pub fn wipes(rng: &mut SmallRng, seats: usize, from: Duration, _: Duration) -> Schedule {
    let mut s = Schedule::default();
    let left = rng.random_range(0..seats);
    let at = from + ms(rng, 100, 1_000);
    s.add(at, Act::Isolate { seat: left });
    for table in 0..3 {
        s.add(at + ms(rng, 200, 1_500), Act::RouteByHand { table, seat: left });
    }
    s.add(at + ms(rng, 2_500, 4_000), Act::CrashOwnerAndWipe { left, down: ms(rng, 2_000, 4_000) });
    s.add(at + ms(rng, 4_010, 4_500), Act::HealWires);
    s
}

/// Slow disks, and a power failure while something is on its way to them.
pub fn power_failures(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    let weather = DiskWeather { fsync_us: (20_000, 120_000), fails: false };
    for seat in 0..seats {
        s.add(from, Act::Disk { seat, weather });
    }
    let mut at = from;
    while at < to {
        at += ms(rng, 1_000, 2_500);
        s.add(at, Act::RouteByHand { table: rng.random_range(0..3), seat: rng.random_range(0..seats) });
        if rng.random_range(0..2) == 0 {
            s.add(at, Act::CrashOwner { unsaved: Unsaved::Lost });
        }
        s.add(at + ms(rng, 5, 1_200), Act::RestartAll { unsaved: Unsaved::Lost });
    }
    s
}

/// The leader hands over while one member's disk is slow; that one hears the next leader as well, and its power fails before the
/// old one's entries are saved.
pub fn two_leaders_in_one_save(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    let mut at = from;
    while at < to {
        let seat = rng.random_range(0..seats);
        let (old, new) = ((seat + 1) % seats, (seat + 2) % seats);
        s.add(at, Act::Disk { seat, weather: DiskWeather { fsync_us: (300_000, 600_000), fails: false } });
        // Where it is asked for its vote, all is saved by that.
        s.add(at, Act::CutOneWay { from: new, to: seat });
        let handed = at + ms(rng, 1, 20);
        s.add(handed, Act::Transfer { via: old, to: Some(new) });
        let healed = handed + ms(rng, 20, 60);
        s.add(healed, Act::HealWires);
        let crash = healed + ms(rng, 20, 150);
        s.add(crash, Act::Crash { seat, unsaved: Unsaved::Lost, profile: None });
        s.add(crash, Act::Disk { seat, weather: DiskWeather::default() });
        s.add(crash + ms(rng, 100, 400), Act::Start { seat });
        at += ms(rng, 1_500, 2_500);
    }
    s
}

/// A follower and the owner do not hear each other for a while; the third hears both.
pub fn one_cut_off(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    let mut at = from;
    while at < to {
        s.add(at, Act::CutFromOwner { seat: rng.random_range(0..seats) });
        at += ms(rng, 500, 2_000);
        s.add(at, Act::HealWires);
        at += ms(rng, 300, 1_000);
    }
    s
}

/// One member, always the same, is told falsely that its leader has ended; around that, the owner is cut
/// off from the other, or lifelines are reset.
pub fn false_ends(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    let misled = rng.random_range(0..seats);
    let mut at = from;
    while at < to {
        let other = (misled + rng.random_range(1..seats)) % seats;
        match rng.random_range(0..4) {
            // The other's lease ends by itself: it would vote.
            0 => {
                s.add(at, Act::CutFromOwner { seat: other });
                s.add(at + ms(rng, 0, 350), Act::EndFalsely { seat: misled });
            }
            // The misled one has come back, and hears its leader again.
            1 => {
                s.add(at, Act::EndFalsely { seat: misled });
                s.add(at + ms(rng, 1_000, 1_700), Act::CutFromOwner { seat: other });
            }
            2 => s.add(at, Act::ResetLifelines),
            _ => s.add(at, Act::EndFalsely { seat: misled }),
        }
        at += ms(rng, 1_700, 2_600);
        s.add(at, Act::HealWires);
        if rng.random_range(0..2) == 0 {
            s.add(at, Act::CrashOwner { unsaved: Unsaved::Kept });
        }
        at += ms(rng, 500, 2_500);
    }
    s
}

/// Members that restart all the time, with other timings, under a leader that is cut off from one.
pub fn restarts(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    let mut at = from;
    while at < to {
        let seat = rng.random_range(0..seats);
        let other = (seat + rng.random_range(1..seats)) % seats;
        match rng.random_range(0..4) {
            0 => s.add(at, Act::Isolate { seat: other }),
            // It asks the one that restarts, whose promise to the living leader still stands.
            1 | 2 => s.add(at, Act::CutFromOwner { seat: other }),
            _ => {}
        }
        let profile = Some(Profile::ALL[rng.random_range(0..3)]);
        s.add(at + ms(rng, 1, 300), Act::Crash { seat, unsaved: unsaved(rng), profile });
        s.add(at + ms(rng, 301, 400), Act::Start { seat });
        at += ms(rng, 400, 900);
        s.add(at, Act::HealWires);
        at += ms(rng, 10, 600);
    }
    s
}

/// Members that are drained one after the other, under owners that die or are told to leave.
pub fn drains(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    let mut at = from;
    while at < to {
        let seat = rng.random_range(0..seats);
        let via = (seat + rng.random_range(1..seats)) % seats;
        s.add(at, Act::Order { via, what: What::Drain(seat) });
        // Before the others know that the order is committed, more often than not.
        let then = at + [ms(rng, 0, 60), ms(rng, 0, 400)][rng.random_range(0..2)];
        s.add(then, Act::CrashOwner { unsaved: unsaved(rng) });
        at += ms(rng, 900, 2_500);
        s.add(at, Act::Order { via, what: What::Undrain(seat) });
    }
    s
}

/// One member takes another's place, again and again; as it is about to vote, it and the leader are cut off from
/// all others. These are a majority of the old voters, those two one of the new.
pub fn splits(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
    let mut s = Schedule::default();
    s.add(from, Act::Wires(Weather { latency_us: (2_000, 8_000), ..Weather::default() }));
    let mut at = from;
    while at < to {
        let (via, seat) = (rng.random_range(0..seats), rng.random_range(0..seats));
        s.add(at, Act::SplitAtNewcomer { after: ms(rng, 0, 80) });
        s.add(at, Act::Members { via, roster: Roster::Replace { seat, emptied: false } });
        at += ms(rng, 1_200, 2_000);
        s.add(at, Act::HealWires);
        at += ms(rng, 300, 1_000);
    }
    s
}

/// Of three one is removed, and takes another's place later; as it is about to vote, the leader and it are cut off from
/// all others or from each other, and the leader dies. All that are left are needed by then: the old voters and the
/// new ones have one more member each beside the leader.
pub fn comes_back(rng: &mut SmallRng, seats: usize, from: Duration, _: Duration) -> Schedule {
    let mut s = Schedule::default();
    s.add(from, Act::Wires(Weather { latency_us: (200, 9_000), ..Weather::default() }));
    let voters = seats - 1;
    let (via, gone) = (rng.random_range(0..voters), rng.random_range(0..voters));
    let replaced = (gone + rng.random_range(1..voters)) % voters;
    let at = from + ms(rng, 10, 500);
    s.add(at, Act::Members { via, roster: Roster::Remove { seat: gone } });
    let at = at + ms(rng, 4_000, 5_000);
    s.add(at, Act::SplitAtNewcomer { after: ms(rng, 0, 40) });
    s.add(at, Act::Members { via, roster: Roster::Replace { seat: replaced, emptied: false } });
    let at = at + ms(rng, 10, 100);
    s.add(at, Act::IsolateOwner(Cut::Both));
    s.add(at + ms(rng, 10, 100), Act::CrashOwner { unsaved: unsaved(rng) });
    s
}

/// A newcomer's directory is emptied while it is a learner; then it takes another's place.
pub fn emptied_newcomer(rng: &mut SmallRng, seats: usize, from: Duration, _: Duration) -> Schedule {
    let mut s = Schedule::default();
    let (via, seat, newcomer) = (rng.random_range(0..seats - 1), rng.random_range(0..seats - 1), seats - 1);
    let at = from + ms(rng, 10, 500);
    s.add(at, Act::Members { via, roster: Roster::Add { emptied: false } });
    let at = at + ms(rng, 1_500, 2_500);
    s.add(at, Act::Wipe { seat: newcomer });
    s.add(at + ms(rng, 1, 100), Act::Start { seat: newcomer });
    let at = at + ms(rng, 500, 2_000);
    s.add(at, Act::Members { via, roster: Roster::Replace { seat, emptied: false } });
    s
}
