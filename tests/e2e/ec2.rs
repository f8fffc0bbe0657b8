//! EC2 fails, or others change what it holds.

use crate::lab::{BOUND, Lab, holds, until};
use crate::status::others;

/// FENCING.md, F-c.
#[test]
fn a_route_changed_by_hand_is_put_right() {
    let lab = Lab::up("repair");
    let owner = lab.steady();
    let wrong = others(&owner)[0];
    lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", wrong]);
    lab.routes_come_to(&owner);
    lab.says(&owner, "one repair", |s| s.route_repairs == 1 && s.state == "steady");
    let (_, metrics) = lab.get(&owner, "127.0.0.1:9407", "/metrics").unwrap();
    assert!(metrics.lines().any(|l| l == "vipd_route_repairs_total 1"), "{metrics}");
    let repair = lab.swaps().pop().unwrap();
    assert_eq!((repair.table.as_deref(), repair.is_of(&owner)), (Some("rtb-0b"), true), "{repair}");
    lab.assert_fenced();
}

#[test]
fn fault_39_one_table_that_fails_stops_no_other() {
    let lab = Lab::up("onefails");
    let first = lab.steady();
    lab.ok(&["ec2", "error", "InternalError", "--action", "ReplaceRoute", "--table", "rtb-0b"]);
    lab.ok(&["kill", &first, "--only", "vipd"]);
    let ask = others(&first)[0];
    let failing = lab.says(ask, "two of three", |s| {
        let in_sync = |table| s.route(table).in_sync;
        s.owner.as_ref() != Some(&first) && in_sync("rtb-0a") && in_sync("rtb-0c") && s.state == "degraded"
    });
    let second = failing.owner.clone().unwrap();
    assert!(!failing.route("rtb-0b").in_sync);
    assert!(failing.route("rtb-0b").error.contains("InternalError"), "{failing:?}");
    assert!(failing.problems.iter().any(|p| p.contains("rtb-0b")), "{failing:?}");
    lab.client_reaches(&second);
    lab.ok(&["ec2", "clear", "error"]);
    lab.routes_come_to(&second);
    lab.ok(&["start", &first, "--only", "vipd"]);
    assert_eq!(lab.steady(), second);
    lab.assert_fenced();
}

#[test]
fn fault_40_a_missing_route_is_named_and_left_alone() {
    let lab = Lab::up("missing");
    let owner = lab.steady();
    lab.ok(&["ec2", "delete-route", "--table", "rtb-0c"]);
    let status = lab.says(&owner, "degraded", |s| s.state == "degraded" && !s.route("rtb-0c").in_sync);
    let command = format!(
        "aws ec2 create-route --route-table-id rtb-0c --destination-cidr-block 192.168.77.10/32 --network-interface-id {}, or",
        crate::status::eni(&owner)
    );
    assert!(status.route("rtb-0c").error.contains(&command), "{status:?}");
    assert!(status.problems.iter().any(|p| p.contains("rtb-0c") && p.contains(&command)), "{status:?}");
    lab.logs(&owner, &command);
    // The other two move without it.
    lab.ok(&["kill", &owner, "--only", "vipd"]);
    let ask = others(&owner)[0];
    let status = lab.says(ask, "two of three", |s| {
        s.owner.as_ref() != Some(&owner) && s.route("rtb-0a").in_sync && s.route("rtb-0b").in_sync
    });
    let second = status.owner.unwrap();
    assert!(lab.calls().iter().all(|c| c.action != "CreateRoute"));
    // Somebody makes it, wrong as it may be.
    lab.ok(&["ec2", "set-route", "--table", "rtb-0c", "--eni", &owner]);
    lab.routes_come_to(&second);
    lab.assert_fenced();
}

#[test]
fn fault_37_a_lost_answer_does_no_harm() {
    let lab = Lab::up("lost");
    let first = lab.steady();
    lab.ok(&["ec2", "lost", "--action", "ReplaceRoute", "--times", "3"]);
    lab.ok(&["kill", &first, "--only", "vipd"]);
    let second = lab.taken_over_from(&first);
    let ask = others(&first)[0];
    lab.says(ask, "all routes in sync", |s| s.vips[0].routes.iter().all(|r| r.in_sync));
    until("each of the three answers was lost", BOUND, || {
        let lost = lab.swaps().iter().filter(|c| c.faults.iter().any(|f| f.contains("lost"))).count();
        holds(lost == 3, || format!("{lost} were"))
    });
    lab.routes_are_on(&second).unwrap();
    lab.assert_fenced();
}

#[test]
fn fault_43_who_keeps_changing_a_route_is_shown() {
    let lab = Lab::up("contend");
    let owner = lab.steady();
    let wrong = others(&owner)[0];
    let words = "was changed by someone else";
    // Each time that it was put right; the owner waits longer each time.
    for n in 1..=5 {
        lab.says(&owner, "all routes in sync", |s| s.vips[0].routes.iter().all(|r| r.in_sync));
        lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", wrong]);
        let repaired = |s: &crate::status::Status| s.route_repairs >= n;
        until("it is put right", BOUND + BOUND, || {
            let status = lab.status(&owner)?;
            holds(repaired(&status), || format!("{status:?}"))
        });
    }
    let status = lab.says(&owner, "somebody changes it", |s| s.problems.iter().any(|p| p.contains(words)));
    assert_eq!(status.state, "degraded");
    lab.logs(&owner, "changed by someone else again and again");
    let changes = lab.calls().iter().filter(|c| c.action == "set-route").count();
    assert_eq!(changes, 5, "the fifth is the one that is shown");
    lab.routes_come_to(&owner);
    lab.assert_fenced();
}

/// Nobody tells the members: they look the tag up again at every reconcile.
#[test]
fn a_table_that_is_tagged_is_managed_and_one_that_is_untagged_is_left_alone() {
    let tag = "aws.route_table_tag=\"vipd:own=yes\"";
    let listed = ["--route-table", "rtb-0a", "--route-table", "rtb-0b"];
    let lab = Lab::up_with("tagged", &[&listed[..], &["--set", tag, "--set", "aws.reconcile_s=1"]].concat());
    let managed = |member: &str, n: usize| {
        lab.says(member, &format!("steady with {n} tables"), |s| {
            s.state == "steady" && s.vips[0].routes.len() == n && s.vips[0].routes.iter().all(|r| r.in_sync)
        })
    };
    let owner = managed("az-a", 2).owner.unwrap();
    let other = others(&owner)[0];
    lab.ok(&["ec2", "set-route", "--table", "rtb-0c", "--eni", other]);
    lab.ok(&["ec2", "tag", "--table", "rtb-0c", "vipd:own=yes"]);
    lab.routes_come_to(&owner);
    managed(&owner, 3);
    // And it moves with the others.
    let (code, moved) = lab.vipctl_json(&owner, &["transfer-leader", "--to", other]);
    assert_eq!((code, &moved["to"]), (0, &other.into()), "{moved}");
    lab.routes_are_on(other).unwrap();

    // Out of sync when its tag goes: no gauge says so for ever.
    let series = "vipd_route_in_sync{route_table=\"rtb-0c\",vip=\"192.168.77.10/32\"}";
    lab.ok(&["ec2", "deny", "ReplaceRoute"]);
    lab.ok(&["ec2", "set-route", "--table", "rtb-0c", "--eni", &owner]);
    lab.gauge_is(other, series, Some("0"));
    lab.ok(&["ec2", "untag", "--table", "rtb-0c", "vipd:own"]);
    managed(other, 2);
    lab.gauge_is(other, series, None);
    lab.ok(&["ec2", "clear", "deny"]);
    // Both are changed by hand, that one first; what is managed is put right.
    let changed = lab.json(&["ec2", "set-route", "--table", "rtb-0c", "--eni", &owner]);
    let at = changed["at_boot_ns"].as_u64().unwrap();
    lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", &owner]);
    until("what is managed is put right", BOUND, || {
        holds(!lab.swaps_since(at).is_empty(), || "nothing is swapped".into())
    });
    let swaps = lab.swaps_since(at);
    assert!(swaps.iter().all(|c| c.table.as_deref() == Some("rtb-0b")), "{swaps:?}");
    lab.assert_fenced();
}

#[test]
fn fault_38_status_shows_the_policy_that_is_missing() {
    let lab = Lab::up("denied");
    let owner = lab.steady();
    lab.ok(&["ec2", "deny", "ReplaceRoute"]);
    lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", others(&owner)[0]]);
    let status = lab
        .says(&owner, "the policy", |s| s.route("rtb-0b").error.contains("\"Action\": \"ec2:ReplaceRoute\""));
    let error = &status.route("rtb-0b").error;
    assert!(error.contains("route-table/rtb-0b\"}"), "{error}");
    lab.ok(&["ec2", "clear", "deny"]);
    lab.routes_come_to(&owner);
    lab.assert_fenced();
}
