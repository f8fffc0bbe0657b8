//! drain, undrain, pause, resume and failback: what stands until it is taken back.

use serde_json::{Value, json};

use crate::lab::{Lab, holds, until};
use crate::status::{Status, others};

fn drained(status: &Status) -> Vec<&str> {
    status.members.iter().filter(|m| m.drained).map(|m| m.name.as_str()).collect()
}

/// A verb that is refused: exit 4, with its reason and a next step.
fn refused(lab: &Lab, member: &str, arguments: &[&str], reason: &str) {
    let (code, json) = lab.vipctl_json(member, arguments);
    let error = &json["error"];
    assert_eq!((code, &error["kind"]), (4, &"refused".into()), "{arguments:?}: {json}");
    assert!(error["cause"].as_str().is_some_and(|c| c.contains(reason)), "{reason} in {json}");
    assert!(error["next"].as_str().is_some_and(|n| !n.is_empty()), "{json}");
}

fn done(lab: &Lab, member: &str, arguments: &[&str]) -> Value {
    let (code, json) = lab.vipctl_json(member, arguments);
    assert_eq!(code, 0, "{arguments:?}: {json}");
    json
}

#[test]
fn fault_54_and_69_a_drained_owner_hands_over_and_owns_nothing_until_undrained() {
    let lab = Lab::up("drain");
    let first = lab.steady();
    let load = lab.load(&first);
    // Asked of a follower: it is forwarded.
    let ask = others(&first)[0];
    let answer = done(&lab, ask, &["drain", &first]);
    let second = answer["last_move"]["to"].as_str().unwrap_or_else(|| panic!("no move: {answer}")).to_owned();
    lab.routes_are_on(&second).unwrap();
    assert_eq!(answer["drained"], json!([first]));
    let moved = &answer["last_move"];
    assert_eq!((&moved["kind"], &moved["from"]), (&"switchover".into(), &first.as_str().into()));
    assert_eq!(moved["reason"], format!("{first} is drained"));
    load.end(&lab, &second).assert_only_what_straddled_a_swap_failed(&lab, "drain", &second);
    lab.address_goes(&first);

    // Everyone knows, and it is no target.
    for member in [&first, &second] {
        lab.says(member, "it is drained, all else is well", |s| {
            s.state == "steady" && drained(s) == [&first]
        });
    }
    refused(&lab, &first, &["transfer-leader", "--to", &first], "is drained");
    lab.gauge_is(&first, "vipd_may_own", Some("0"));
    lab.gauge_is(&second, "vipd_may_own", Some("1"));

    // The owner dies: the third owns, whoever is elected first.
    let third = others(&first).into_iter().find(|m| *m != second).unwrap();
    lab.ok(&["kill", &second]);
    assert_eq!(lab.taken_over_from(&second), third);
    refused(&lab, third, &["drain", third], "no other member may own");
    lab.ok(&["start", &second]);
    lab.steady();

    // It outlives every process.
    lab.ok(&["kill", "all", "--only", "vipd"]);
    lab.ok(&["start", "all", "--only", "vipd"]);
    assert_eq!(lab.steady(), third);
    lab.says(&first, "it is drained still", |s| drained(s) == [&first]);
    assert_eq!(done(&lab, &first, &["undrain", &first])["drained"], json!([]));
    lab.says(third, "no quarantine", |s| s.members.iter().all(|m| !m.quarantined));
    done(&lab, &second, &["transfer-leader", "--to", &first]);
    assert_eq!(lab.steady(), first);
    lab.assert_fenced();
}

/// Its last report is younger than a second: the end of its lifeline says more.
#[test]
fn fault_54_who_has_died_this_moment_is_no_target() {
    let lab = Lab::up("deadtarget");
    let first = lab.steady();
    let [dead, left] = others(&first)[..] else { panic!() };
    lab.ok(&["kill", dead, "--only", "vipd"]);
    refused(&lab, &first, &["transfer-leader", "--to", dead], "does not answer");
    let moved = done(&lab, &first, &["transfer-leader"]);
    assert_eq!((&moved["to"], &moved["kind"]), (&left.into(), &"switchover".into()));
    lab.assert_fenced();
}

#[test]
fn while_paused_only_a_dead_or_stopping_leader_makes_it_move() {
    let lab = Lab::up("pause");
    let first = lab.steady();
    let [ask, other] = others(&first)[..] else { unreachable!() };
    assert_eq!(done(&lab, ask, &["pause"])["paused"], true);
    let status = lab.says(other, "paused", |s| s.state == "paused");
    assert!(status.problems.iter().any(|p| p.starts_with("paused since 20")), "{status:?}");
    lab.gauge_is(other, "vipd_paused", Some("1"));
    refused(&lab, ask, &["transfer-leader"], "paused");
    refused(&lab, ask, &["drain", &first], "paused");

    // HAProxy alone is no ground: it is unhealthy, and stays.
    lab.ok(&["kill", &first, "--only", "haproxy"]);
    let unhealthy = |s: &Status| s.problems.iter().any(|p| p.contains("unhealthy"));
    let status = lab.says(ask, "the owner is unhealthy", unhealthy);
    assert_eq!((status.state.as_str(), status.owner.as_deref()), ("paused", Some(first.as_str())));
    done(&lab, ask, &["resume"]);
    lab.gauge_is(other, "vipd_paused", Some("0"));
    let second = lab.taken_over_from(&first);
    lab.ok(&["start", &first, "--only", "haproxy"]);
    lab.steady();

    // A dead leader is followed by another; a stopped one hands over.
    done(&lab, ask, &["pause"]);
    lab.ok(&["kill", &second]);
    let third = lab.taken_over_from(&second);
    let moved = lab.status(&third).unwrap().last_move.unwrap();
    assert_eq!(moved["kind"], "failover");
    lab.ok(&["start", &second]);
    lab.says(&third, "all are back", |s| s.state == "paused" && s.problems.len() == 1);
    assert_eq!(lab.json(&["stop", &third, "--only", "vipd"])[0]["exit_code"], 0);
    let fourth = lab.taken_over_from(&third);
    let moved = lab.status(&fourth).unwrap().last_move.unwrap();
    assert_eq!((&moved["kind"], &moved["from"]), (&"switchover".into(), &third.as_str().into()));

    // And an operator may insist, though not on one that has just started.
    lab.ok(&["start", &third, "--only", "vipd"]);
    let back = |s: &Status| s.state == "paused" && s.problems.len() == 1;
    if lab.says(&fourth, "all are back", back).member(&third).quarantined {
        refused(&lab, &fourth, &["transfer-leader", "--to", &third, "--force"], "has just started");
    }
    lab.says(&fourth, "no quarantine", |s| s.members.iter().all(|m| !m.quarantined));
    done(&lab, &fourth, &["transfer-leader", "--to", &third, "--force"]);
    lab.routes_are_on(&third).unwrap();
    assert_eq!(lab.status(&third).unwrap().state, "paused");
    lab.assert_fenced();
}

/// It is in the ledger, as a drain is.
#[test]
fn a_pause_outlives_every_process() {
    let lab = Lab::up("pausekept");
    let first = lab.steady();
    let [ask, other] = others(&first)[..] else { unreachable!() };
    let since = done(&lab, ask, &["pause"])["paused_since"].clone();
    assert!(since.as_str().is_some_and(|at| at.starts_with("20")), "{since}");
    lab.says(other, "paused", |s| s.state == "paused");
    lab.ok(&["kill", "all", "--only", "vipd"]);
    lab.ok(&["start", "all", "--only", "vipd"]);
    let back =
        |s: &Status| s.state == "paused" && s.problems.len() == 1 && s.members.iter().all(|m| m.reachable);
    let status = lab.says(other, "paused still, and all are back", back);
    assert_eq!(status.owner.as_deref(), Some(first.as_str()), "{status:?}");
    assert_eq!(done(&lab, other, &["pause"])["paused_since"], since, "since the first");
    // And it is in force, not shown alone: sick HAProxy moves nothing, nobody is asked in vain.
    refused(&lab, ask, &["transfer-leader"], "paused");
    lab.ok(&["kill", &first, "--only", "haproxy"]);
    let unhealthy = |s: &Status| s.problems.iter().any(|p| p.contains("unhealthy"));
    let status = lab.says(ask, "the owner is unhealthy", unhealthy);
    assert_eq!((status.state.as_str(), status.owner.as_deref()), ("paused", Some(first.as_str())));
    lab.says(ask, "no quarantine", |s| s.members.iter().all(|m| !m.quarantined));
    done(&lab, ask, &["resume"]);
    lab.taken_over_from(&first);
    lab.assert_fenced();
}

#[test]
fn with_failback_the_vip_returns_to_the_highest_priority() {
    let sets = [
        "--set",
        "policy.failback=true",
        "--set",
        "policy.min_hold_s=3",
        "--set",
        "members.az-b.priority=200",
    ];
    let lab = Lab::up_with("failback", &sets);
    lab.says("az-a", "steady on az-b", |s| s.state == "steady" && s.owner.as_deref() == Some("az-b"));
    lab.ok(&["kill", "az-b"]);
    lab.taken_over_from("az-b");
    lab.ok(&["start", "az-b"]);
    let words = "before it goes back to az-b: failback: az-b has priority 200";
    let waits = |s: &Status| s.state == "steady" && s.problems.iter().any(|p| p.contains(words));
    lab.says("az-a", "steady, and it will go back", waits);
    let status =
        lab.says("az-a", "steady on az-b", |s| s.state == "steady" && s.owner.as_deref() == Some("az-b"));
    let moved = status.last_move.unwrap();
    let reason = moved["reason"].as_str().unwrap();
    assert!(reason.starts_with("failback: az-b has priority 200"), "{moved}");
    assert_eq!(moved["kind"], "switchover");
    lab.client_reaches("az-b");
    lab.assert_fenced();
}

#[test]
fn fault_69_orders_to_a_group_without_a_quorum_are_exit_3() {
    let lab = Lab::up("orders");
    let owner = lab.steady();
    let [one, two] = others(&owner)[..] else { unreachable!() };
    lab.ok(&["kill", one]);
    lab.ok(&["kill", two]);
    lab.says(&owner, "no quorum", |s| s.state == "no-quorum");
    for verb in [&["drain", one][..], &["drain", &owner], &["undrain", one], &["pause"], &["resume"]] {
        let (code, json) = lab.vipctl_json(&owner, verb);
        assert_eq!((code, &json["error"]["kind"]), (3, &"no-quorum".into()), "{verb:?}: {json}");
    }
    lab.ok(&["kill", &owner]);
    let (code, json) = lab.vipctl_json(&owner, &["pause"]);
    assert_eq!((code, &json["error"]["kind"]), (5, &"unreachable".into()), "{json}");
    lab.ok(&["start", "all"]);
    lab.steady();
    until("nothing of it came", crate::lab::BOUND, || {
        let status = lab.status(&owner)?;
        holds(drained(&status).is_empty() && !status.paused, || format!("{status:?}"))
    });
}
