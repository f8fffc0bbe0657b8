//! One member after the other, under load: replaced, or started with other timings.

use std::time::Duration;

use crate::lab::{BOUND, Lab, MEMBERS, until};

/// A newcomer is taken in once its old incarnation has been silent for 10 s.
const JOIN_BOUND: Duration = Duration::from_secs(30);

/// Those that do not own first, as the runbook says.
fn owner_last(owner: &str) -> Vec<&'static str> {
    let mut order = MEMBERS.to_vec();
    order.sort_by_key(|m| *m == owner);
    order
}

#[test]
fn a_rolling_replacement_of_all_three_loses_no_new_connection() {
    let lab = Lab::up("replaced");
    let first = lab.steady();
    let before = lab.status(&first).unwrap();
    let load = lab.load(&first);
    for member in owner_last(&first) {
        let ended = lab.json(&["stop", member, "--only", "vipd"]);
        assert_eq!(ended[0]["exit_code"], 0, "{ended}");
        let data = lab.dir.join(member).join("data");
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        lab.ok(&["start", member, "--only", "vipd"]);
        until(&format!("{member} votes again"), JOIN_BOUND, || {
            let status = lab.status(member)?;
            let new = status.member(member).incarnation != before.member(member).incarnation;
            let taken_in = status.state == "steady" && status.member(member).voter && new;
            if taken_in { Ok(()) } else { Err(format!("{status:?}")) }
        });
    }
    let owner = lab.steady();
    assert_ne!(owner, first, "it was the last to go, and handed over");
    load.end(&lab, &owner).assert_only_what_straddled_a_swap_failed(&lab, "rolling replacement", &owner);
    for member in MEMBERS {
        lab.voters_are(member, &MEMBERS);
    }
    lab.assert_fenced();
}

/// FENCING.md, hole 3: while a leader grants and is granted leases of different lengths, never two permits.
#[test]
fn hole_3_a_rolling_change_of_timings_there_and_back_loses_no_new_connection() {
    let lab = Lab::up_as("timings", &["--profile", "steady"]);
    let first = lab.steady();
    let load = lab.load(&first);
    let mut owner = first;
    for (profile, lease_ms) in [("fast", 120), ("steady", 300)] {
        let mut differed = false;
        for member in owner_last(&owner) {
            lab.ok(&["config", "--set", &format!("{member}:raft.profile={profile}")]);
            let ended = lab.json(&["stop", member, "--only", "vipd"]);
            assert_eq!(ended[0]["exit_code"], 0, "{ended}");
            lab.ok(&["start", member, "--only", "vipd"]);
            until(&format!("{member} is back"), BOUND, || {
                let status = lab.status(member)?;
                let back = status.member(member).voter
                    && status.members.iter().all(|m| m.reachable && !m.quarantined);
                // Until all have them, their timings differ, and status says so.
                let well = status.problems.iter().all(|p| p.contains("timings differ"));
                differed |= status.problems.iter().any(|p| p.contains("timings differ"));
                // What this one runs with, as it says itself.
                let back = back && status.member(member).lease_ms == lease_ms;
                if back && well && status.state != "moving" { Ok(()) } else { Err(format!("{status:?}")) }
            });
        }
        assert!(differed, "status named the difference while it lasted");
        owner = lab.steady();
        let status = lab.status(&owner).unwrap();
        assert!(status.members.iter().all(|m| m.lease_ms == lease_ms), "{profile}: {status:?}");
    }
    load.end(&lab, &owner).assert_only_what_straddled_a_swap_failed(
        &lab,
        "rolling change of timings",
        &owner,
    );
    lab.assert_fenced();
}
