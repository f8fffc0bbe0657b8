//! A link that comes and goes.

use std::time::Duration;

use crate::lab::{BOUND, Lab, holds, until};
use crate::status::others;

/// The link is away and back within a second, so often.
const FLAPS: u64 = 60;
const HALF: Duration = Duration::from_millis(500);

/// Timings that each flap outlasts. Five minutes of it in virtual time: `decide/tests/reaching.rs`.
#[test]
fn fault_28_a_flapping_link_moves_the_vip_once_and_terms_do_not_run_away() {
    let lab = Lab::up_as("flap", &["--heartbeat", "50", "--election", "150,300"]);
    let first = lab.steady();
    let ask = others(&first)[0];
    let before = lab.status(ask).unwrap();
    let began_ns = lab.now_ns();
    let half_ns = u64::try_from(HALF.as_nanos()).unwrap();
    for n in 1..=FLAPS {
        lab.ok(&["cut", &first, "--from", "members"]);
        until("the link is away", BOUND, || {
            holds(lab.now_ns() >= began_ns + (2 * n - 1) * half_ns, String::new)
        });
        lab.ok(&["heal", &first]);
        until("the link is back", BOUND, || holds(lab.now_ns() >= began_ns + 2 * n * half_ns, String::new));
    }
    let owner = lab.steady();
    assert_ne!(
        owner, first,
        "the first flap cut the owner off for longer than its lease: it really happened"
    );
    let after = lab.status(ask).unwrap();
    let (_, history) = lab.vipctl_json(ask, &["history", "-n", "0"]);
    let planned = history.as_array().unwrap().iter().filter(|m| m["kind"] == "switchover").count();
    assert_eq!(planned, 0, "every move is from a dead leader: {history}");
    let (moves, terms) = (history.as_array().unwrap().len(), after.term - before.term);
    crate::lab::measured(&format!("{FLAPS} flaps: {} moves, {terms} terms", moves - 1));
    // With the first flap. From then on the link is a follower's, who is granted no pre-vote while the others hear the
    // new owner, and nothing goes back by itself (`failback` is off).
    assert_eq!(moves - 1, 1, "{history}");
    assert!(terms <= FLAPS / 6, "{terms} terms in {FLAPS} flaps: {history}");
    lab.assert_fenced();
}
