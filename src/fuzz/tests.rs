//! The corpora: what stands in them passes its target, and they hold a seed of every real message.
//!
//! `VIPD_WRITE_SEEDS=1 cargo test --lib fuzz` writes the seeds anew after a message has changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Target, the file's name, its bytes.
type Seed = (&'static str, String, Vec<u8>);

/// More than the seeds, and what a run that found something new may add.
const FILES_MAX: usize = 400;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Whether these are the same bytes but for the order of a map's entries, which no two runs write alike.
fn same(kept: &[u8], bytes: &[u8]) -> bool {
    let sorted = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes
    };
    sorted(kept) == sorted(bytes)
}

fn files(target: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(corpus().join(target)).expect("the target's corpus");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// The files that ship, and the contract's example with each of its lines taken out.
fn config_seeds() -> Vec<Seed> {
    let example = include_str!("../../cluster/examples/az-a.toml");
    let mut seeds = vec![("config", "example".to_owned(), example.as_bytes().to_vec())];
    let full = include_str!("../../fuzz/seeds/contract.toml");
    seeds.push(("config", "contract".to_owned(), full.as_bytes().to_vec()));
    for (at, _) in full.lines().enumerate().filter(|(_, line)| line.contains('=')).step_by(4) {
        let without = full.lines().enumerate().filter(|(i, _)| *i != at).map(|(_, line)| line);
        let text = without.collect::<Vec<_>>().join("\n");
        seeds.push(("config", format!("without-line-{at}"), text.into_bytes()));
    }
    seeds
}

fn seeds() -> Vec<Seed> {
    let named = |(target, name, bytes): (&'static str, &str, Vec<u8>)| (target, name.to_owned(), bytes);
    let mut seeds: Vec<Seed> = config_seeds();
    seeds.extend(raft::fuzz::seeds().into_iter().map(named));
    seeds.extend(raft::store::fuzz::seeds().into_iter().map(named));
    seeds.extend(rpc::desk::fuzz::seeds().into_iter().map(named));
    seeds.extend(health::fuzz::seeds().into_iter().map(named));
    seeds.extend(net::fuzz::seeds().into_iter().map(named));
    #[cfg(feature = "aws")]
    seeds.extend(crate::vpc::fuzz::seeds().into_iter().map(named));
    // Beside it: certificates, which no two runs make alike.
    seeds.push(("certificate", "uri".to_owned(), b"spiffe://edge/member/az-a".to_vec()));
    seeds
}

/// To libFuzzer no seconds are no limit.
#[test]
fn a_run_has_an_end() {
    for seconds in ["0", "00", "-1", "1h"] {
        let mut script = std::process::Command::new("./cluster/fuzz.sh");
        let output = script.arg(seconds).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{seconds:?}: {said}");
        assert!(said.contains("error: ") && said.contains("next: "), "{seconds:?}: {said}");
    }
}

#[test]
fn every_target_has_a_program_and_seeds_of_real_messages() {
    let seeds = seeds();
    if std::env::var_os("VIPD_WRITE_SEEDS").is_some() {
        for (target, name, bytes) in &seeds {
            let dir = corpus().join(target);
            fs::create_dir_all(&dir).expect("a folder");
            fs::write(dir.join(format!("seed-{name}")), bytes).expect("a seed is written");
        }
    }
    let manifest = include_str!("../../fuzz/Cargo.toml");
    let programs = manifest.lines().filter_map(|l| l.strip_prefix("name = \"")?.strip_suffix('"')).skip(1);
    let programs: BTreeSet<&str> = programs.filter(|p| cfg!(feature = "aws") || *p != "ec2").collect();
    let targets: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(programs, targets, "fuzz/Cargo.toml and TARGETS name the same");
    for (target, _) in TARGETS {
        assert!(seeds.iter().any(|(of, ..)| of == target), "{target} has no seed");
        assert!(files(target).len() <= FILES_MAX, "{target}'s corpus is to be kept small");
    }
    for (target, name, bytes) in seeds {
        let kept = fs::read(corpus().join(target).join(format!("seed-{name}")));
        assert!(
            kept.is_ok_and(|kept| same(&kept, &bytes)),
            "{target}/seed-{name} is not what the message is now: see the head of this file"
        );
    }
}

#[test]
fn fault_68_nothing_in_the_corpora_panics() {
    for (target, run) in TARGETS {
        let files = files(target);
        assert!(files.len() >= 3, "{target} has only {} files", files.len());
        for path in files {
            let bytes = fs::read(&path).expect("a file of the corpus");
            eprintln!("{}", path.display());
            run(&bytes);
        }
    }
}
