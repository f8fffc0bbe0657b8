//! The owner dies, in whole or in part, or is cut off.

use serde_json::Value;

use crate::lab::{BOUND, Lab, holds, until};
use crate::status::{eni, others};

#[test]
fn fault_01_another_member_takes_over_from_a_killed_owner() {
    let lab = Lab::up("kill");
    let first = lab.steady();
    let load = lab.load(&first);
    let killed_ns = lab.json(&["kill", &first])[0]["at_boot_ns"].as_u64().unwrap();
    let second = lab.taken_over_from(&first);
    load.end(&lab, &second).print_outage("vipd and HAProxy killed", &second);
    let moved = lab.status(&second).unwrap().last_move.unwrap();
    assert_eq!((&moved["kind"], &moved["from"]), (&"failover".into(), &first.as_str().into()));
    let swaps = lab.swaps_since(killed_ns);
    assert!(swaps.iter().all(|c| c.is_of(&second)), "{swaps:?}");
    where_the_time_went(&lab, &second, &moved);

    // It comes back, and nothing moves back.
    lab.ok(&["start", &first]);
    lab.address_goes(&first);
    assert_eq!(lab.steady(), second);
    assert_eq!(lab.status(&second).unwrap().member(&first).role, "follower");
    assert_eq!(lab.with_address(), [second.as_str()]);
    assert_eq!(lab.swaps_since(killed_ns).len(), swaps.len());
    lab.assert_fenced();
}

/// The ledger, the waterfall of `history` and the metrics tell the same of a move, phase by phase.
fn where_the_time_went(lab: &Lab, owner: &str, moved: &Value) {
    let waterfall = lab.ok(&["vipctl", owner, "--", "history", "-n", "1"]);
    let (_, metrics) = lab.get(owner, "127.0.0.1:9407", "/metrics").unwrap();
    let mut sum = 0.0;
    for phase in ["detect", "elect", "claim", "address", "route", "verify"] {
        let ms = moved["phases_ms"][phase].as_f64().unwrap_or_else(|| panic!("no {phase} in {moved}"));
        sum += ms;
        assert!(waterfall.lines().any(|l| l.trim_start().starts_with(phase)), "no {phase} in {waterfall}");
        let name = format!("vipd_move_phase_seconds_sum{{phase=\"{phase}\"}} ");
        let told = metrics.lines().find_map(|l| l.strip_prefix(&name)?.parse::<f64>().ok());
        assert!(told.is_some_and(|s| (s * 1000.0 - ms).abs() < 0.01), "{phase}: {ms} and {told:?} s");
    }
    let total = moved["total_ms"].as_f64().unwrap();
    assert!((sum - total).abs() < 0.01, "{sum} and {total}");
}

/// From the pre-vote on it is the election that takes the time, also while the candidate saves its own vote.
#[test]
fn a_vote_that_is_long_in_saving_is_told_as_the_elections_time() {
    const SAVES: u32 = 150;
    let lab = Lab::up_faulty("elect");
    let first = lab.steady();
    for member in others(&first) {
        lab.arm(member, "store.vote.saved", &format!("delay:{SAVES}"));
    }
    lab.ok(&["kill", &first]);
    let second = lab.taken_over_from(&first);
    assert!(!lab.hits(&second, "store.vote.saved").is_empty());
    let moved = lab.status(&second).unwrap().last_move.unwrap();
    // The candidate's, after it the voter's, and the candidate's again when it has won.
    let elect = moved["phases_ms"]["elect"].as_f64().unwrap();
    assert!(elect >= f64::from(3 * SAVES), "{moved}");
    lab.assert_fenced();
}

/// FAULTS 25, the whole zone.
#[test]
fn fault_25_another_member_takes_over_from_a_zone_that_is_cut_off() {
    let lab = Lab::up("cut");
    let first = lab.steady();
    let load = lab.load(&first);
    let cut_ns = lab.json(&["cut", &first])["at_boot_ns"].as_u64().unwrap();
    let second = lab.taken_over_from(&first);
    load.end(&lab, &second).print_outage("zone cut off (lease 2 s, election 1 to 2 s)", &second);

    lab.ok(&["heal", "all"]);
    lab.address_goes(&first);
    assert_eq!(lab.steady(), second);
    assert_eq!(lab.with_address(), [second.as_str()]);
    let swaps = lab.swaps_since(cut_ns);
    assert!(swaps.iter().all(|c| c.is_of(&second)), "{swaps:?}");
    lab.assert_fenced();
}

/// FAULTS 25: it reaches EC2 all along, and calls no more.
#[test]
fn fault_25_an_owner_cut_off_from_its_members_calls_no_more() {
    let lab = Lab::up("alone");
    let first = lab.steady();
    let cut_ns = lab.json(&["cut", &first, "--from", "members"])["at_boot_ns"].as_u64().unwrap();
    let second = lab.taken_over_from(&first);
    // What it sees in EC2 is wrong for it, and somebody makes it more so.
    let third = others(&second).into_iter().find(|m| *m != first).unwrap();
    lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", third]);
    lab.routes_come_to(&second);
    // It read EC2 meanwhile: it could have called.
    until("the old owner reads the route tables", BOUND + BOUND, || {
        let reads = |c: &crate::calls::Call| {
            c.is_of(&first) && c.received_boot_ns > cut_ns && c.action == "DescribeRouteTables"
        };
        holds(lab.calls().iter().any(reads), || "no read".into())
    });
    let swaps = lab.swaps_since(cut_ns);
    assert!(swaps.iter().all(|c| c.is_of(&second)), "{swaps:?}");
    lab.ok(&["heal", "all"]);
    lab.address_goes(&first);
    assert_eq!(lab.steady(), second);
    lab.assert_fenced();
}

/// FAULTS 25, with nobody to take over: what is out of sync stays so until there is a quorum again.
#[test]
fn fault_25_without_a_quorum_nobody_calls() {
    let lab = Lab::up("split");
    let owner = lab.steady();
    for member in others(&owner) {
        lab.ok(&["cut", member, "--from", "members"]);
    }
    lab.says(&owner, "no quorum", |s| s.state == "no-quorum");
    assert!(lab.has_address(&owner), "on_quorum_loss = hold");
    let wrong = others(&owner)[0];
    let changed_ns =
        lab.json(&["ec2", "set-route", "--table", "rtb-0c", "--eni", wrong])["at_boot_ns"].as_u64().unwrap();
    until("the owner reads the wrong route", BOUND + BOUND, || {
        let reads = |c: &crate::calls::Call| {
            c.is_of(&owner) && c.received_boot_ns > changed_ns && c.action == "DescribeRouteTables"
        };
        holds(lab.calls().iter().any(reads), || "no read".into())
    });
    assert!(lab.swaps_since(changed_ns).is_empty(), "{:?}", lab.swaps_since(changed_ns));
    lab.ok(&["heal", "all"]);
    let owner = until("the route is put right", BOUND + BOUND, || {
        let owner = lab.status("az-a")?.owner.ok_or("no owner")?;
        lab.routes_are_on(&owner).map(|()| owner)
    });
    lab.client_reaches(&owner);
    lab.assert_fenced();
}

#[test]
fn fault_79_the_vip_leaves_a_dead_haproxy() {
    let lab = Lab::up("haproxy");
    let first = lab.steady();
    let load = lab.load(&first);
    lab.ok(&["kill", &first, "--only", "haproxy"]);
    let second = lab.taken_over_from(&first);
    load.end(&lab, &second).print_outage("HAProxy alone killed", &second);
    lab.address_goes(&first);
    let status = lab.says(&second, "the dead HAProxy", |s| s.state == "degraded");
    assert!(status.problems.iter().any(|p| p.contains(&first)), "{status:?}");
    let moved = status.last_move.unwrap();
    assert_eq!((&moved["kind"], &moved["to"]), (&"switchover".into(), &second.as_str().into()));
    lab.assert_fenced();
}

#[test]
fn fault_83_unhealthy_everywhere_it_stays_and_moves_to_the_first_that_is_well() {
    let lab = Lab::up("sick");
    let owner = lab.steady();
    let epoch = lab.status(&owner).unwrap().epoch;
    let [one, two] = others(&owner)[..] else { unreachable!() };
    let ill = |s: &crate::status::Status, m: &str| {
        s.problems.iter().any(|p| p.starts_with(&format!("{m} is unhealthy")))
    };
    // The owner last: it would move to one that is well.
    lab.ok(&["kill", one, "--only", "haproxy"]);
    lab.ok(&["kill", two, "--only", "haproxy"]);
    lab.says(one, "two are unhealthy", |s| ill(s, one) && ill(s, two));
    lab.ok(&["kill", &owner, "--only", "haproxy"]);
    let status = lab.says(one, "all are unhealthy", |s| ill(s, &owner) && ill(s, one) && ill(s, two));
    assert_eq!((status.owner.as_ref(), status.epoch), (Some(&owner), epoch), "{status:?}");
    lab.ok(&["start", two, "--only", "haproxy"]);
    assert_eq!(lab.taken_over_from(&owner), two);
    lab.assert_fenced();
}

/// FAULTS 4, and 70 when it comes back.
#[test]
fn fault_04_no_connection_fails_while_haproxy_outlives_vipd() {
    let lab = Lab::up("vipd");
    let first = lab.steady();
    let load = lab.load(&first);
    lab.ok(&["kill", &first, "--only", "vipd"]);
    let second = lab.taken_over_from(&first);
    load.end(&lab, &second).assert_only_what_straddled_a_swap_failed(&lab, "vipd alone killed", &second);
    assert!(lab.has_address(&first), "the address outlives vipd: {}", eni(&first));
    lab.ok(&["start", &first, "--only", "vipd"]);
    lab.address_goes(&first);
    assert_eq!(lab.steady(), second);
    lab.assert_fenced();
}

/// One follower is unhealthy, the other one healthy and behind: what it is to apply stands still, while it goes on voting
/// and acknowledging.
#[test]
fn fault_85_an_unhealthy_owner_waits_for_the_only_healthy_member_to_catch_up() {
    let lab = Lab::up_faulty("lagging");
    let owner = lab.steady();
    let [ill, late] = others(&owner)[..] else { unreachable!() };
    let is_ill = |s: &crate::status::Status, m: &str| {
        s.problems.iter().any(|p| p.starts_with(&format!("{m} is unhealthy")))
    };
    lab.ok(&["kill", ill, "--only", "haproxy"]);
    lab.says(&owner, "a follower is unhealthy", |s| is_ill(s, ill));
    lab.arm(late, "machine.apply", "pause");
    // An order and its end are two entries of the log.
    for _ in 0..50 {
        for verb in ["pause", "resume"] {
            let said = lab.vipctl(&owner, &[verb]);
            assert!(said.status.success(), "{said:?}");
        }
    }
    lab.hit(late, "machine.apply", 1);
    let lag = || {
        let (_, status) = lab.vipctl_json(&owner, &["status"]);
        let members = status["members"].as_array().unwrap();
        members.iter().find(|m| m["name"] == late).unwrap()["lag"].as_u64().unwrap()
    };
    until("it is behind by more than a target may be", BOUND, || holds(lag() > 64, || lag().to_string()));
    let epoch = lab.status(&owner).unwrap().epoch;
    lab.ok(&["kill", &owner, "--only", "haproxy"]);
    let status = lab.says(&owner, "it is unhealthy", |s| is_ill(s, &owner));
    assert_eq!((status.owner.as_ref(), status.epoch), (Some(&owner), epoch), "{status:?}");
    // Asked, it names the lag; and the owner has not moved since.
    let (code, refusal) = lab.vipctl_json(&owner, &["transfer-leader", "--to", late]);
    assert!(code == 4 && refusal["error"]["cause"].as_str().unwrap().contains("lags by"), "{refusal}");
    let status = lab.status(&owner).unwrap();
    assert_eq!((status.owner.as_ref(), status.epoch), (Some(&owner), epoch), "{status:?}");
    assert!(lag() > 64);
    lab.release(late, "machine.apply");
    assert_eq!(lab.taken_over_from(&owner), late);
    lab.assert_fenced();
}
