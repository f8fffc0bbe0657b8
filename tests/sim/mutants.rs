//! Every guard, taken out: the simulation must notice, by name. Where one guard stands behind another, each
//! holds alone, and it must notice that both are out.

use std::time::Duration;

use vipd::mutant::Mutant;

use crate::chaos;
use crate::runner::{After, many};
use crate::seat::Profile;
use crate::stories::{self, Story};
use crate::world::{Faults, Plan, Report};

/// How many seeds a mutant may take to be caught.
const WITHIN: u64 = 1_000;

/// How many seeds each guard of a pair must hold alone: many more than both out together take.
const HOLDS_ALONE: u64 = 60;

/// A guard that is taken out alone, and what is to come of it.
struct Case {
    mutant: Mutant,
    /// The faults against which the guard stands, and what is to be shown with them.
    faults: Faults,
    story: Story,
    /// Any, where there is none.
    profile: Option<Profile>,
    /// The property by which it is to be caught: what the guard is there for.
    caught_by: &'static [&'static str],
}

/// Two guards, one behind the other: with either in nothing of that property is broken.
struct Pair {
    /// The one that has no other proof.
    second: Mutant,
    first: Mutant,
    faults: Faults,
    profile: Option<Profile>,
    caught_by: &'static [&'static str],
}

const LEASED: &str = "a call leaves inside the lease";
const ONE_PERMIT: &str = "never two open permits";
const CLAIMED: &str = "a call follows its caller's claim and intent";
const PROMISE: &str = "no vote while a promise stands";
const TRANSFERRED: &str = "no call after a transfer began";
const FIT: &str = "no call by a drained or quarantined member";

/// How it is caught alone; `None`: it is the second of a [`Pair`].
fn case(mutant: Mutant) -> Option<Case> {
    let (faults, caught_by): (Faults, &'static [&'static str]) = match mutant {
        Mutant::Drift | Mutant::Margin => (chaos::calls_in_the_air, &[LEASED]),
        Mutant::SendTime => (chaos::calls_in_the_air, &[LEASED, ONE_PERMIT]),
        Mutant::GrantedLength => (chaos::restarts, &[LEASED, ONE_PERMIT]),
        Mutant::QuarantineVote => (chaos::restarts, &[PROMISE]),
        Mutant::QuarantineCampaign => (chaos::restarts, &[PROMISE, FIT]),
        Mutant::LongestLease => (chaos::shortened, &[PROMISE]),
        Mutant::BodyCheck => (chaos::calls_in_the_air, &[LEASED, TRANSFERRED]),
        Mutant::DropInAir => (chaos::calls_in_the_air, &["no attempt outlives its time or its lease"]),
        // Of these two another guard holds the call back, so that nobody owns, and nothing is repaired.
        Mutant::OwnClaim => (stories::none, &["another owns within B"]),
        Mutant::Intent => (chaos::calls_in_the_air, &["after healing route = owner = address"]),
        Mutant::ClosedBeforeTransfer => (chaos::cut_transfers, &[ONE_PERMIT]),
        Mutant::CallsInTheAir => (chaos::calls_in_the_air, &["a transfer waits for the calls in the air"]),
        Mutant::SpentTerm => (chaos::failed_transfers, &[TRANSFERRED, ONE_PERMIT]),
        Mutant::VoteWhileLeading | Mutant::VoteShutsGate => (chaos::short_cuts, &[PROMISE]),
        Mutant::PreVote => (chaos::one_cut_off, &["the faults move nothing"]),
        Mutant::LeaderRestore => (chaos::restarts, &["one leader in a term"]),
        Mutant::TargetIncarnation => {
            (chaos::wipes, &["one leader in a term", "one vote in a term", "nothing acknowledged is lost"])
        }
        // A vote that is lost: its member may lead the term that it led before, in another life.
        Mutant::AcknowledgedBeforeSaved => (
            chaos::power_failures,
            &[
                "what is acknowledged is saved",
                "one vote in a term",
                "one leader in a term",
                "nothing acknowledged is lost",
                "equal index, equal ledger",
            ],
        ),
        Mutant::VoteOvertakesEntries => (chaos::two_leaders_in_one_save, &["what is acknowledged is saved"]),
        Mutant::ReadBack => (chaos::everything, &["a wrong route is right again within R"]),
        Mutant::Stray => (stories::none, &["a late write is repaired within R"]),
        Mutant::Pace => (chaos::calls_in_the_air, &["a route is rewritten once a second at most"]),
        Mutant::ReleaseAddress => (chaos::everything, &["after healing route = owner = address"]),
        Mutant::DrainedLeader => (stories::none, &["a drained leader makes way"]),
        Mutant::OneSawTheEnd | Mutant::ResetIsFin | Mutant::OwnPromise => (chaos::false_ends, &[PROMISE]),
        Mutant::DeafToTheDead => (chaos::false_ends, &["a leader that has ended is not acknowledged"]),
        Mutant::NoAckToTheDead => (chaos::false_ends, &["a leader that has ended is not acknowledged"]),
        Mutant::JointLease => (chaos::splits, &[LEASED, ONE_PERMIT]),
        Mutant::VoterKnowsItIsIn => (chaos::comes_back, &["the membership can be made whole"]),
        Mutant::GateEpoch | Mutant::NewestClaim | Mutant::StillIntended | Mutant::DrainedClaim => {
            return None;
        }
    };
    let story = match mutant {
        Mutant::Stray => Story::LateCall,
        Mutant::PreVote => Story::Unmoved,
        Mutant::DrainedLeader => Story::Drained,
        _ => Story::Healing,
    };
    // Of the longest lease a hundredth is the longest.
    let profile = (mutant == Mutant::Drift).then_some(Profile::Steady);
    Some(Case { mutant, faults, story, profile, caught_by })
}

/// How long the faults last.
fn safety(mutant: Mutant) -> Duration {
    match mutant {
        // It takes an append that is on its way through openraft as the end is seen.
        Mutant::NoAckToTheDead => Duration::from_secs(36),
        // It takes a call that leaves in the last hundredth of a lease.
        Mutant::Drift => Duration::from_secs(36),
        _ => Plan::default().safety,
    }
}

const PAIRS: &[Pair] = &[
    // Only with the shortest lease can an owner lose it and own again within one attempt.
    Pair {
        second: Mutant::GateEpoch,
        first: Mutant::DropInAir,
        faults: chaos::there_and_back,
        profile: Some(Profile::Fast),
        caught_by: &[CLAIMED, "epochs at EC2 do not fall"],
    },
    Pair {
        second: Mutant::NewestClaim,
        first: Mutant::OwnClaim,
        faults: chaos::everything,
        profile: None,
        caught_by: &[CLAIMED],
    },
    Pair {
        second: Mutant::StillIntended,
        first: Mutant::Intent,
        faults: chaos::calls_in_the_air,
        profile: None,
        caught_by: &[CLAIMED],
    },
    Pair {
        second: Mutant::DrainedClaim,
        first: Mutant::DrainedLeader,
        faults: chaos::drains,
        profile: None,
        caught_by: &[FIT],
    },
    Pair {
        second: Mutant::CallsInTheAir,
        first: Mutant::ClosedBeforeTransfer,
        faults: chaos::calls_in_the_air,
        profile: None,
        caught_by: &[TRANSFERRED],
    },
];

/// Whether only one of them was asked for: `cluster/sim.sh --mutants NAME`.
fn is_asked(mutants: &[Mutant]) -> bool {
    let Ok(only) = std::env::var("VIPD_SIM_MUTANT") else { return true };
    let named = |mutant: &Mutant| format!("{mutant:?}") == only;
    assert!(Mutant::ALL.iter().any(named), "there is no mutant {only}: docs/FENCING.md lists them");
    mutants.iter().any(named)
}

/// By which property, one of these or any, a run without these guards is noticed first, and after how many
/// seeds.
fn caught(plan: &Plan, out: &[Mutant], by: &'static [&'static str]) -> (Option<&'static str>, u64) {
    let tally = many(0, WITHIN, plan, out, After::StopAt(by));
    let of_seed = |(seed, report): (&u64, &Report)| {
        let property = report.violations.iter().map(|v| v.property).find(|p| by.is_empty() || by.contains(p));
        property.map(|property| (Some(property), seed + 1))
    };
    for v in tally.failed.values().flat_map(|r| &r.violations).take(3) {
        println!("    {v:?}");
    }
    // Seeds are counted from 0; several run at once.
    let (first, seeds) = tally.failed.iter().find_map(of_seed).unwrap_or((None, tally.seeds));
    if let Some(property) = first {
        let guarded = many(seeds - 1, 1, plan, &[], After::GoOn);
        let broken = guarded.failed.values().flat_map(|r| &r.violations).find(|v| v.property == property);
        assert!(broken.is_none(), "seed {} breaks it with every guard in: {broken:?}", seeds - 1);
    }
    (first, seeds)
}

#[test]
fn every_mutant_is_caught() {
    let mut survivors = Vec::new();
    println!("| guard taken out | caught by | seeds |\n|---|---|---|");
    for mutant in Mutant::ALL.iter().filter(|mutant| is_asked(&[**mutant])) {
        let Some(case) = case(*mutant) else {
            assert!(PAIRS.iter().any(|pair| pair.second == *mutant), "{mutant:?} is proven by nothing");
            continue;
        };
        let Case { faults, story, profile, .. } = case;
        // Only where one member takes another's place can the old voters do without any of the new majority.
        let newcomers = usize::from([Mutant::JointLease, Mutant::VoterKnowsItIsIn].contains(mutant));
        let plan = Plan { faults, story, profile, newcomers, safety: safety(*mutant), ..Plan::default() };
        let (first, seeds) = caught(&plan, &[case.mutant], &[]);
        println!("| `{mutant:?}` | {} | {seeds} |", first.unwrap_or("nothing"));
        if !first.is_some_and(|property| case.caught_by.contains(&property)) {
            survivors.push(mutant);
        }
    }
    assert!(survivors.is_empty(), "not caught, or not by their own property: {survivors:?}");
}

#[test]
fn every_mutant_behind_another_is_caught_with_it() {
    let mut wrong = Vec::new();
    println!("| guards taken out | caught by | seeds |\n|---|---|---|");
    for pair in PAIRS {
        let Pair { second, first, faults, profile, caught_by } = *pair;
        if !is_asked(&[second, first]) {
            continue;
        }
        let plan = Plan { faults, profile, ..Plan::default() };
        let (by, seeds) = caught(&plan, &[second, first], caught_by);
        println!("| `{second:?}` and `{first:?}` | {} | {seeds} |", by.unwrap_or("nothing"));
        if !by.is_some_and(|property| caught_by.contains(&property)) {
            wrong.push(format!("{second:?} and {first:?} are not caught"));
        }
        // Neither does it alone, so it is the other that holds.
        for alone in [second, first] {
            let tally = many(0, HOLDS_ALONE, &plan, &[alone], After::GoOn);
            let broken = tally.failed.values().flat_map(|r| &r.violations).map(|v| v.property);
            if broken.into_iter().any(|property| caught_by.contains(&property)) {
                wrong.push(format!("{alone:?} alone breaks it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
