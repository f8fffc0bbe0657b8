//! Cases of FAULTS.md that virtual time shows best, by number.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::SmallRng;

use crate::chaos::{self, Act, Schedule};
use crate::disk::DiskWeather;
use crate::runner::{After, Tally, many};
use crate::stories::{self, Story};
use crate::wires::Weather;
use crate::world::{Clocks, Faults, Plan};

const SEEDS: u64 = 40;

/// Every seed holds.
fn hold(seeds: u64, plan: &Plan) -> Tally {
    let tally = many(0, seeds, plan, &[], After::GoOn);
    assert!(tally.failed.is_empty(), "{tally}");
    tally
}

fn unmoved(faults: Faults) -> Tally {
    hold(SEEDS, &Plan { faults, story: Story::Unmoved, ..Plan::default() })
}

#[test]
fn fault_17_an_fsync_of_two_seconds_moves_nothing() {
    fn slow(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
        let mut s = Schedule::default();
        let seat = rng.random_range(0..seats);
        let weather = DiskWeather { fsync_us: (2_000_000, 2_000_000), fails: false };
        s.add(from, Act::Disk { seat, weather });
        // Something has to be written meanwhile.
        let mut at = from;
        while at < to {
            s.add(at, Act::RouteByHand { table: rng.random_range(0..3), seat });
            at += Duration::from_millis(2_500);
        }
        s
    }
    let tally = unmoved(slow);
    assert!(tally.faults["save that took long"] > SEEDS);
}

#[test]
fn fault_21_a_stepped_wall_clock_moves_nothing() {
    fn step(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
        let mut s = Schedule::default();
        let mut at = from;
        while at < to {
            let hour = 3_600_000;
            let by_ms = if rng.random_range(0..2) == 0 { hour } else { -hour };
            s.add(at, Act::StepWall { seat: rng.random_range(0..seats), by_ms });
            at += Duration::from_millis(500);
        }
        s
    }
    assert!(unmoved(step).faults["wall clock stepped"] > SEEDS);
}

#[test]
fn fault_23_clock_rates_one_per_cent_apart_open_no_two_permits() {
    let plan = Plan { faults: chaos::calls_in_the_air, clocks: Clocks::Extreme, ..Plan::default() };
    let tally = hold(SEEDS, &plan);
    assert!(tally.calls > 0);
    assert!(tally.faults["clock of another rate"] >= 2 * SEEDS, "one fast and one slow in each");
}

#[test]
fn fault_25_an_owner_cut_off_from_its_members_calls_no_more() {
    let plan = Plan { faults: chaos::calls_in_the_air, ..Plan::default() };
    let tally = hold(SEEDS, &plan);
    assert!(tally.faults["owner cut off, but not from EC2"] > 0);
    assert!(tally.faults["call stopped by the fence"] > 0, "no call was there to be stopped");
    // Members also count those of which a byte had left.
    let unsent = tally.faults["call dropped with its lease"];
    assert!(unsent > 0 && tally.dropped >= unsent, "{unsent} dropped, {} counted by members", tally.dropped);
}

#[test]
fn fault_27_loss_in_one_direction_only_moves_nothing() {
    fn one_way(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
        let mut s = Schedule::default();
        let mut at = from;
        while at < to {
            let seat = rng.random_range(0..seats);
            s.add(at, Act::CutOneWay { from: seat, to: (seat + rng.random_range(1..seats)) % seats });
            at += Duration::from_millis(rng.random_range(1_000..4_000));
            s.add(at, Act::HealWires);
            at += Duration::from_millis(500);
        }
        s
    }
    assert!(unmoved(one_way).faults["message into a cut"] > 0);
}

#[test]
fn fault_28_a_link_that_flaps_for_five_minutes_moves_nothing() {
    fn flap(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
        let mut s = Schedule::default();
        let seat = rng.random_range(0..seats);
        let other = (seat + rng.random_range(1..seats)) % seats;
        let mut at = from;
        while at < to {
            s.add(at, Act::CutOneWay { from: seat, to: other });
            s.add(at, Act::CutOneWay { from: other, to: seat });
            s.add(at + Duration::from_millis(500), Act::HealWires);
            at += Duration::from_secs(1);
        }
        s
    }
    let safety = Duration::from_secs(300);
    let tally = hold(6, &Plan { faults: flap, story: Story::Unmoved, safety, ..Plan::default() });
    assert!(tally.faults["message into a cut"] > 6 * 600);
}

#[test]
fn fault_29_loss_and_delay_make_no_second_owner_and_no_runaway_terms() {
    fn lossy(_: &mut SmallRng, _: usize, from: Duration, _: Duration) -> Schedule {
        let mut s = Schedule::default();
        let weather = Weather { latency_us: (90_000, 110_000), lost: 300, ..Weather::default() };
        s.add(from, Act::Wires(weather));
        s
    }
    let safety = Duration::from_secs(20);
    let tally = hold(SEEDS, &Plan { faults: lossy, story: Story::Lossy, safety, ..Plan::default() });
    assert!(tally.faults["message lost"] > SEEDS);
}

#[test]
fn fault_30_duplicated_and_reordered_messages_move_nothing() {
    fn doubled(_: &mut SmallRng, _: usize, from: Duration, _: Duration) -> Schedule {
        let mut s = Schedule::default();
        let weather = Weather { latency_us: (200, 12_000), doubled: 700, ..Weather::default() };
        s.add(from, Act::Wires(weather));
        s
    }
    let tally = unmoved(doubled);
    assert!(tally.faults["message doubled"] > SEEDS);
    assert!(tally.overtook > SEEDS, "{} messages overtook another", tally.overtook);
}

#[test]
fn one_that_does_not_hear_the_owner_moves_nothing() {
    assert!(unmoved(chaos::one_cut_off).faults["one cut off from the owner"] > SEEDS);
}

#[test]
fn a_member_that_is_wrong_about_its_leaders_end_moves_nothing() {
    fn misled(rng: &mut SmallRng, seats: usize, from: Duration, to: Duration) -> Schedule {
        let mut s = Schedule::default();
        let mut at = from + Duration::from_secs(1);
        let seat = rng.random_range(0..seats);
        for seat in [seat, (seat + 1) % seats] {
            s.add(at, Act::EndFalsely { seat });
            at += Duration::from_secs(3);
        }
        while at < to {
            s.add(at, Act::ResetLifelines);
            // Who was wrong hears the log again: its ledger is to be the same in the end.
            s.add(at, Act::RouteByHand { table: 0, seat });
            at += Duration::from_secs(2);
        }
        s
    }
    let tally = unmoved(misled);
    assert!(tally.faults["lifeline ends falsely"] >= SEEDS);
    assert!(tally.faults["lifeline reset"] > SEEDS);
}

#[test]
fn false_ends_beside_cuts_and_deaths_open_no_two_permits() {
    let tally = hold(SEEDS, &Plan { faults: chaos::false_ends, ..Plan::default() });
    assert!(tally.faults["lifeline ends falsely"] > SEEDS && tally.faults["one cut off from the owner"] > 0);
    assert!(tally.faults["lifeline ends"] > 0);
}

#[test]
fn fault_45_a_call_executed_up_to_ten_minutes_late_is_repaired_within_r() {
    let tally = hold(SEEDS, &Plan { faults: stories::none, story: Story::LateCall, ..Plan::default() });
    assert!(tally.faults["EC2 executes late"] >= SEEDS);
    // The story wants one of each run; here once more, summed up.
    assert!(tally.faults["late write turns a route away"] >= SEEDS);
}
