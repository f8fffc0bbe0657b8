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
mod lifelines;
mod members;
mod mutants;
mod panics;
mod referee;
mod runner;
mod seat;
mod stories;
mod wires;
mod world;

use crate::referee::Transcript;
use crate::runner::{After, many_by};
use crate::stories::Death;
use crate::world::{Plan, run};

/// A number from the environment; `cluster/sim.sh` sets it.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Before the digest that ends a printed transcript.
const DIGEST: &str = "digest of the transcript and of every message: ";

/// What another process prints of this seed, from its transcript to the digest.
fn replayed(seed: u64) -> Vec<String> {
    let mut again = std::process::Command::new(std::env::current_exe().expect("this program"));
    again
        .args(["replay", "--ignored", "--exact", "--nocapture"])
        .env("VIPD_SIM_SEED", seed.to_string())
        .env("VIPD_SIM_WHOLE", "1");
    let output = again.output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().skip_while(|line| !line.contains(" begins life 0 "));
    let end = text.lines().find(|line| line.starts_with(DIGEST)).expect("a digest").to_owned();
    lines.take_while(|line| !line.starts_with(DIGEST)).map(ToOwned::to_owned).chain([end]).collect()
}

#[test]
fn a_seed_replays_byte_for_byte() {
    // With three members, with one more that comes and goes, and with five.
    for seed in [7, 8, 9, 10, 12] {
        let once = run(seed, &Plan::of_seed(seed), Transcript::Whole);
        let messages = |what: &str| once.transcript.iter().filter(|line| line.contains(what)).count();
        assert!(messages(" asks /vipd.v1.Peer/Append ") > 500 && messages(" answers ") > 500);
        let mut expected = once.transcript;
        expected.push(format!("{DIGEST}{:016x}", once.digest));
        let again = replayed(seed);
        for (a, b) in expected.iter().zip(&again) {
            assert_eq!(a, b);
        }
        assert_eq!(expected.len(), again.len());
        assert_ne!(once.digest, run(seed + 100, &Plan::of_seed(seed), Transcript::Digest).digest);
    }
}

#[test]
fn many_seeds_hold() {
    let seeds = setting("VIPD_SIM_SEEDS").unwrap_or(2_000);
    let tally = many_by(setting("VIPD_SIM_FROM").unwrap_or(0), seeds, &Plan::of_seed, &[], After::GoOn);
    println!("{tally}");
    assert_eq!(tally.seeds, seeds);
    assert!(tally.failed.is_empty(), "{} seeds with a violation", tally.failed.len());
    assert_eq!(tally.missing(), Vec::<&str>::new(), "faults that never happened");
    let (replayed, taken_up) = tally.replayed;
    assert!(replayed >= tally.claims, "{replayed} entries were replayed, of {} claims alone", tally.claims);
    assert!(taken_up * 100 <= replayed, "the replay went on from a member's ledger {taken_up} times");
    assert!(tally.failed_saves > 0, "no save failed");
    let (all, one) =
        (tally.elections.values().sum::<u64>(), tally.elections.get(&1).copied().unwrap_or_default());
    assert!((all - one) * 20 <= all, "{} of {all} failovers took more than one election", all - one);
    assert!(
        Death::ALL.iter().all(|death| tally.failovers.contains_key(death)),
        "B is timed for each of them"
    );
}

#[test]
#[ignore = "prints one seed's transcript: ./cluster/sim.sh --seed N"]
fn replay() {
    let seed = setting("VIPD_SIM_SEED").expect("VIPD_SIM_SEED");
    // Every message is in it where two transcripts are compared; people want the words alone.
    let whole = setting("VIPD_SIM_WHOLE").is_some();
    let kept = if whole { Transcript::Whole } else { Transcript::Lines };
    let report = run(seed, &Plan::of_seed(seed), kept);
    for line in &report.transcript {
        println!("{line}");
    }
    println!("{DIGEST}{:016x}", report.digest);
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
}
