//! The whole group in virtual time, deterministic from a seed: the shipped judgement, ledger, transport
//! and fence; a modelled disk, network, kernel and EC2 (docs/FENCING.md, section 5).
//!
//! `./cluster/sim.sh` runs it.

mod chaos;
mod disk;
mod ec2;
mod faults;
mod holes;
mod interface;
mod invariants;
mod mutants;
mod panics;
mod referee;
mod runner;
mod seat;
mod stories;
mod wires;
mod world;

use crate::referee::Transcript;
use crate::runner::{After, many};
use crate::world::{Plan, run};

/// A number from the environment; `cluster/sim.sh` sets it.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn a_seed_replays_byte_for_byte() {
    for seed in [7, 8, 9] {
        let once = run(seed, &Plan::default(), Transcript::Lines);
        let again = run(seed, &Plan::default(), Transcript::Lines);
        for (a, b) in once.transcript.iter().zip(&again.transcript) {
            assert_eq!(a, b);
        }
        assert_eq!(once.digest, again.digest);
        assert_ne!(once.digest, run(seed + 100, &Plan::default(), Transcript::Digest).digest);
    }
}

#[test]
fn many_seeds_hold() {
    let seeds = setting("VIPD_SIM_SEEDS").unwrap_or(2_000);
    let tally = many(setting("VIPD_SIM_FROM").unwrap_or(0), seeds, &Plan::default(), None, After::GoOn);
    println!("{tally}");
    assert_eq!(tally.seeds, seeds);
    assert!(tally.failed.is_empty(), "{} seeds with a violation", tally.failed.len());
    assert_eq!(tally.missing(), Vec::<&str>::new(), "faults that never happened");
}

#[test]
#[ignore = "prints one seed's transcript: ./cluster/sim.sh --seed N"]
fn replay() {
    let seed = setting("VIPD_SIM_SEED").expect("VIPD_SIM_SEED");
    let report = run(seed, &Plan::default(), Transcript::Lines);
    for line in &report.transcript {
        println!("{line}");
    }
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
}
