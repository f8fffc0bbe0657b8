//! A target that has no program of libFuzzer's: inputs are mutated here, led by what came of them.
//!
//! ```text
//!   fuzz/corpus/ec2 + what was found before --> pool --> one of them, mutated, spliced --> the target
//!                                                ^                                            |
//!                                                '-- treated as none before was: kept --------'
//! ```
//!
//! `./cluster/fuzz.sh SECONDS ec2` runs it for so long and keeps what it found; the ordinary tests run it for a
//! moment and keep nothing.

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::files;
use super::random::Random;

/// As libFuzzer is told in `cluster/fuzz.sh`.
const INPUT_MAX: usize = 8192;

/// Ways of treating an answer that are told apart. What an error quotes of an answer in spite of all must not
/// fill the disk.
const POOL_MAX: usize = 2000;

/// Without `VIPD_FUZZ_SECONDS`.
const MOMENT: Duration = Duration::from_secs(2);

struct Hunt {
    run: fn(&[u8]) -> String,
    /// The shortest input of each treatment.
    pool: BTreeMap<String, Vec<u8>>,
    kept: Option<PathBuf>,
    runs: u64,
}

impl Hunt {
    /// A panic ends the hunt; its input is kept, and is the first of the next hunt's.
    fn try_one(&mut self, input: &[u8]) {
        self.runs += 1;
        let run = self.run;
        let Ok(came) = catch_unwind(|| run(input)) else {
            let dir = self.kept.clone().unwrap_or_else(std::env::temp_dir);
            let file = dir.join(format!("crash-{}", self.runs));
            fs::write(&file, input).expect("the input is written");
            panic!("an input that it should stand: {}", file.display());
        };
        let new = self.pool.get(&came).is_none_or(|known| known.len() > input.len());
        if !new || (self.pool.len() >= POOL_MAX && !self.pool.contains_key(&came)) {
            return;
        }
        if let Some(kept) = &self.kept {
            let name: String = came.chars().filter(char::is_ascii_alphanumeric).take(100).collect();
            fs::write(kept.join(name), input).expect("what was found is written");
        }
        self.pool.insert(came, input.to_vec());
    }

    fn one(&self, random: &mut Random) -> &[u8] {
        self.pool.values().nth(random.below(self.pool.len())).map(Vec::as_slice).unwrap_or_default()
    }

    fn next(&self, random: &mut Random) -> Vec<u8> {
        let (head, body) = self.one(random).split_at_checked(3).unwrap_or_default();
        let (mut head, mut body) = (head.to_vec(), body.to_vec());
        // A part of another answer, at any place of it.
        if random.below(4) == 0 {
            let other = self.one(random);
            let (cut, at) = (random.below(other.len()), random.below(body.len()));
            body.truncate(at);
            body.extend_from_slice(other.get(cut..).unwrap_or_default());
        }
        // Another question or status, for the same answer.
        if let Some(byte) = head.get_mut(random.below(12)) {
            *byte = u8::try_from(random.below(256)).expect("a byte");
        }
        let mut input = [head, random.mutate(&body)].concat();
        input.truncate(INPUT_MAX);
        input
    }
}

#[test]
fn fault_68_no_answer_of_ec2s_panics_or_passes_for_what_it_is_not() {
    let seconds = std::env::var("VIPD_FUZZ_SECONDS").ok().map(|s| s.parse().expect("seconds"));
    let bound = seconds.map_or(MOMENT, Duration::from_secs);
    let kept = std::env::var_os("VIPD_FUZZ_FOUND").map(PathBuf::from);
    let mut hunt = Hunt { run: crate::vpc::tests::ec2, pool: BTreeMap::new(), kept: None, runs: 0 };
    let before = kept.iter().flat_map(|dir| fs::read_dir(dir).expect("what was found before"));
    let before: Vec<PathBuf> = before.map(|entry| entry.expect("an entry").path()).collect();
    for path in files("ec2").into_iter().chain(before) {
        hunt.try_one(&fs::read(path).expect("an input"));
    }
    let seeds = hunt.pool.len();
    hunt.kept = kept;
    // The same ones in each of the ordinary runs; others in each longer one.
    let seed = seconds.map_or(7, |_| crate::clock::wall().0 | 1);
    let (mut random, over) = (Random(seed), Instant::now() + bound);
    while Instant::now() < over {
        let input = hunt.next(&mut random);
        hunt.try_one(&input);
    }
    println!("#{} DONE ways: {} from: {seeds} seed: {seed}", hunt.runs, hunt.pool.len());
    assert!(seconds.is_some() || hunt.pool.len() > seeds, "nothing new: {:?}", hunt.pool.keys());
}
