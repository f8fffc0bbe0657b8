//! Faults that lead straight to one hole of FENCING.md, with its guard in. (`mutants` takes each out.)

use crate::chaos;
use crate::runner::{After, Tally, many};
use crate::seat::Profile;
use crate::world::{Faults, Plan};

const SEEDS: u64 = 30;

fn hold(faults: Faults, profile: Option<Profile>) -> Tally {
    let tally = many(0, SEEDS, &Plan { faults, profile, ..Plan::default() }, &[], After::GoOn);
    assert!(tally.failed.is_empty(), "{tally}");
    tally
}

#[test]
fn holes_2_and_3_restarts_and_a_rolling_change_of_lease_lengths() {
    let tally = hold(chaos::restarts, None);
    assert!(tally.faults["restart with other timings"] > SEEDS);
}

#[test]
fn hole_5_an_owner_that_loses_the_lease_and_owns_again_while_a_call_is_on_its_way() {
    let tally = hold(chaos::there_and_back, Some(Profile::Fast));
    assert!(tally.faults["call dropped with its lease"] > 0);
}

#[test]
fn hole_7_transfers_of_which_nobody_knows_any_more() {
    let tally = hold(chaos::failed_transfers, None);
    assert!(tally.faults["transfer to a member that dies"] > SEEDS);
}

#[test]
fn hole_8_power_failures_on_slow_disks() {
    let tally = hold(chaos::power_failures, None);
    assert!(tally.faults["restart of all"] > SEEDS);
}

#[test]
fn hole_8_two_leaders_entries_come_within_one_save_that_the_power_cuts_short() {
    let tally = hold(chaos::two_leaders_in_one_save, None);
    assert!(tally.faults["crash, unsaved lost"] > SEEDS && tally.faults["transfer"] > SEEDS);
}

#[test]
fn hole_9_a_directory_is_emptied_behind_the_group() {
    let tally = hold(chaos::wipes, None);
    assert!(tally.faults["wipe"] >= SEEDS / 3);
}

#[test]
fn a_leader_that_some_do_not_hear_any_more_votes_for_nobody() {
    assert!(hold(chaos::heavy_loss, None).faults["message lost"] > SEEDS);
}

#[test]
fn drained_members_do_not_own() {
    assert!(hold(chaos::drains, None).faults["drain"] > SEEDS);
}

#[test]
fn hole_3_a_member_restarts_with_a_shorter_lease_than_it_granted() {
    assert!(hold(chaos::shortened, None).faults["restart with other timings"] > SEEDS);
}

#[test]
fn a_leader_whose_permit_another_holds_open_votes_for_nobody() {
    assert!(hold(chaos::short_cuts, None).faults["owner cut off, but not from EC2"] > SEEDS);
}

#[test]
fn hole_9_a_leader_that_is_cut_off_with_a_newcomer_while_the_voters_change() {
    let plan = Plan { faults: chaos::splits, newcomers: 1, ..Plan::default() };
    let tally = many(0, SEEDS, &plan, &[], After::GoOn);
    assert!(tally.failed.is_empty(), "{tally}");
    assert!(tally.faults["leader and newcomer cut off"] > SEEDS && tally.faults["member replaced"] > 0);
}

#[test]
fn hole_9_a_newcomer_that_is_emptied_leaves_no_directory_behind() {
    let plan = Plan { faults: chaos::emptied_newcomer, newcomers: 1, ..Plan::default() };
    let tally = many(0, SEEDS, &plan, &[], After::GoOn);
    assert!(tally.failed.is_empty(), "{tally}");
    assert!(tally.faults["wipe"] == SEEDS && tally.faults["member replaced"] > SEEDS / 2);
}

#[test]
fn hole_9_a_member_that_was_removed_takes_anothers_place_as_the_leader_dies() {
    let plan = Plan { faults: chaos::comes_back, newcomers: 1, ..Plan::default() };
    let tally = many(0, 10 * SEEDS, &plan, &[], After::GoOn);
    assert!(tally.failed.is_empty(), "{tally}");
    let (gone, cut) = ("member removed", "leader and newcomer cut off");
    assert!(tally.faults[gone] > SEEDS && tally.faults[cut] > SEEDS, "{tally}");
}
