//! Every guard, taken out: the simulation must notice, by name.

use vipd::mutant::Mutant;

use crate::chaos;
use crate::runner::{After, many};
use crate::seat::Profile;
use crate::stories::Story;
use crate::world::{Faults, Plan};

/// How many seeds a mutant may take to be caught.
const WITHIN: u64 = 300;

/// The property by which each is to be caught: what the guard is there for.
fn caught_by(mutant: Mutant) -> &'static [&'static str] {
    match mutant {
        Mutant::LeaseMargin => &["a call leaves inside the lease"],
        Mutant::SendTime => &["a call leaves inside the lease", "never two open permits"],
        Mutant::GrantedLength => &["a call leaves inside the lease", "never two open permits"],
        Mutant::QuarantineVote => &["no vote while a promise stands"],
        Mutant::QuarantineCampaign => {
            &["no vote while a promise stands", "no call by a drained or quarantined member"]
        }
        Mutant::Drained => &["no call by a drained or quarantined member"],
        Mutant::LongestLease => &["no vote while a promise stands"],
        Mutant::BodyCheck => &["a call leaves inside the lease", "no call after a transfer began"],
        Mutant::Superseded => &["a call follows its caller's claim and intent", "epochs at EC2 do not fall"],
        Mutant::ClaimBeforeCall => &["a call follows its caller's claim and intent"],
        Mutant::Intent => &["a call follows its caller's claim and intent"],
        Mutant::ClosedBeforeTransfer => &["no call after a transfer began"],
        Mutant::SpentTerm => &["no call after a transfer began", "never two open permits"],
        Mutant::VoteWhileLeading => &["no vote while a promise stands"],
        Mutant::PreVote => &["the faults move nothing"],
        Mutant::LeaderRestore => &["one leader in a term"],
        Mutant::TargetIncarnation => {
            &["one leader in a term", "one vote in a term", "nothing acknowledged is lost"]
        }
        Mutant::AcknowledgedBeforeSaved => {
            // A vote that is lost: its member may lead the term that it led before, in another life.
            &[
                "one vote in a term",
                "one leader in a term",
                "nothing acknowledged is lost",
                "equal index, equal ledger",
            ]
        }
        Mutant::ReadBack => &["a wrong route is right again within R"],
        Mutant::Stray => &["a late write is repaired within R"],
        Mutant::Pace => &["a route is rewritten once a second at most"],
        Mutant::ReleaseAddress => &["after healing route = owner = address"],
        Mutant::OneSawTheEnd | Mutant::ResetIsFin | Mutant::OwnPromise => &["no vote while a promise stands"],
        Mutant::DeafToTheDead => &["a leader that has ended is not acknowledged"],
    }
}

/// The faults against which the guard stands.
fn faults_for(mutant: Mutant) -> Faults {
    match mutant {
        Mutant::LeaseMargin
        | Mutant::SendTime
        | Mutant::BodyCheck
        | Mutant::Intent
        | Mutant::ClosedBeforeTransfer
        | Mutant::Stray
        | Mutant::Pace => chaos::calls_in_the_air,
        Mutant::GrantedLength
        | Mutant::QuarantineVote
        | Mutant::QuarantineCampaign
        | Mutant::LeaderRestore => chaos::restarts,
        Mutant::LongestLease => chaos::shortened,
        Mutant::Superseded => chaos::there_and_back,
        Mutant::SpentTerm => chaos::failed_transfers,
        Mutant::VoteWhileLeading => chaos::short_cuts,
        Mutant::TargetIncarnation => chaos::wipes,
        Mutant::Drained => chaos::drains,
        Mutant::AcknowledgedBeforeSaved => chaos::power_failures,
        Mutant::OneSawTheEnd | Mutant::ResetIsFin | Mutant::DeafToTheDead | Mutant::OwnPromise => {
            chaos::false_ends
        }
        Mutant::PreVote => chaos::one_cut_off,
        Mutant::ClaimBeforeCall | Mutant::ReadBack | Mutant::ReleaseAddress => chaos::everything,
    }
}

/// What is to be shown with it.
fn story_for(mutant: Mutant) -> Story {
    match mutant {
        Mutant::Stray => Story::LateCall,
        Mutant::PreVote => Story::Unmoved,
        _ => Story::Healing,
    }
}

#[test]
fn every_mutant_is_caught() {
    let only = std::env::var("VIPD_SIM_MUTANT").ok();
    let mut survivors = Vec::new();
    println!("| guard taken out | caught by | seeds |\n|---|---|---|");
    for mutant in Mutant::ALL {
        let name = format!("{mutant:?}");
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let story = story_for(*mutant);
        // Only with the shortest lease can an owner lose it and own again within one attempt.
        let profile = (*mutant == Mutant::Superseded).then_some(Profile::Fast);
        let plan = Plan { faults: faults_for(*mutant), story, profile, ..Plan::default() };
        let tally = many(0, WITHIN, &plan, Some(*mutant), After::Stop);
        let first = tally.failed.values().flat_map(|r| &r.violations).map(|v| v.property).next();
        // Seeds are counted from 0; several run at once.
        let seeds = tally.failed.keys().next().map_or(tally.seeds, |seed| seed + 1);
        println!("| {name} | {} | {seeds} |", first.unwrap_or("nothing"));
        for v in tally.failed.values().flat_map(|r| &r.violations).take(3) {
            println!("    {v:?}");
        }
        if !first.is_some_and(|property| caught_by(*mutant).contains(&property)) {
            survivors.push(name);
        }
    }
    assert!(survivors.is_empty(), "not caught, or not by their own property: {survivors:?}");
}
