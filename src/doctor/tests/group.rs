//! The picture, judged.

use std::collections::BTreeSet;

use crate::doctor::finding::{Finding, Level};
use crate::doctor::group::judge;
use crate::proto;

fn member(letter: char) -> proto::Member {
    proto::Member {
        name: format!("az-{letter}"),
        zone: format!("eu-west-1{letter}"),
        voter: true,
        reachable: true,
        health: "healthy".into(),
        eni: format!("eni-0{letter}"),
        version: "0.1.0".into(),
        configured_vips: vec!["192.168.77.10/32".into()],
        configured_tables: vec!["rtb-0a".into()],
        timings: "balanced".into(),
        ..proto::Member::default()
    }
}

fn status(members: Vec<proto::Member>) -> proto::Status {
    let route = proto::Route {
        route_table: "rtb-0a".into(),
        target: Some("eni-0a".into()),
        state: "active".into(),
        in_sync: true,
        error: String::new(),
    };
    let vip = proto::VipRoutes { address: "192.168.77.10/32".into(), owner: None, routes: vec![route] };
    proto::Status {
        owner: Some("az-a".into()),
        state: "steady".into(),
        members,
        vips: vec![vip],
        ..proto::Status::default()
    }
}

fn three() -> Vec<proto::Member> {
    vec![member('a'), member('b'), member('c')]
}

fn bad(status: &proto::Status) -> Vec<(Level, &'static str, String)> {
    let all: BTreeSet<String> = status.members.iter().map(|m| m.name.clone()).collect();
    let found = judge(status, &all);
    found
        .into_iter()
        .filter(|f| f.level != Level::Ok)
        .map(|f: Finding| (f.level, f.check, f.finding))
        .collect()
}

#[test]
fn three_of_three_in_three_zones_are_well() {
    assert_eq!(bad(&status(three())), []);
}

#[test]
fn fault_57_two_members_survive_nothing_and_are_told_so() {
    let found = bad(&status(vec![member('a'), member('b')]));
    let two = (Level::Fail, "quorum", "two members only: a majority of two is two".to_owned());
    assert_eq!(found, [two]);
}

#[test]
fn one_silent_member_of_three_makes_the_next_failover_fail_and_of_five_does_not() {
    let mut members = three();
    members[2].reachable = false;
    let found = bad(&status(members));
    assert!(found.iter().any(|(l, c, _)| (*l, *c) == (Level::Fail, "quorum")), "{found:?}");
    let mut members = [three(), vec![member('d'), member('e')]].concat();
    members[2].reachable = false;
    let found = bad(&status(members));
    assert!(found.iter().all(|(l, _, _)| *l == Level::Warn), "{found:?}");
    assert!(
        found.iter().any(|(_, c, words)| *c == "targets" && words.contains("az-c does not answer")),
        "{found:?}"
    );
}

#[test]
fn a_group_in_which_nobody_else_may_own_is_told_why() {
    let mut members = three();
    members[1].drained = true;
    members[2].not_eligible = "the source/dest check of eni-0c is on".into();
    let found = bad(&status(members));
    let words = "nobody is fit to take over: az-b is drained; az-c may not own: the source/dest check of eni-0c is on";
    assert_eq!(found, [(Level::Fail, "targets", words.to_owned())]);
}

#[test]
fn a_zone_with_a_majority_is_named() {
    let mut members = three();
    members[1].zone = "eu-west-1a".into();
    let found = bad(&status(members));
    assert_eq!(found, [(Level::Warn, "zones", "2 of 3 members are in eu-west-1a".to_owned())]);
}

#[test]
fn fault_62_differing_vips_and_tables_make_a_failover_fail_and_timings_do_not() {
    let mut members = three();
    members[1].configured_tables.push("rtb-0b".into());
    members[2].timings = "steady".into();
    let found = bad(&status(members));
    let levels: Vec<_> = found.iter().map(|(level, check, _)| (*level, *check)).collect();
    let c = "configuration";
    assert_eq!(levels, [(Level::Fail, c), (Level::Warn, c), (Level::Warn, c)], "{found:?}");
    assert_eq!(found[0].2, "rtb-0b is in [aws] of az-b, not of az-a, az-c");
}

#[test]
fn fault_62_a_policy_that_differs_and_a_move_that_waits_for_it_are_warnings() {
    let mut members = three();
    for m in &mut members {
        m.min_hold_s = Some(10);
    }
    members[1].min_hold_s = Some(0);
    let waiting =
        proto::Waiting { to: "az-b".into(), left_ms: 6001, reason: "failback: it is better".into() };
    let found = bad(&proto::Status { waiting: Some(waiting), ..status(members) });
    let waits = "the VIP waits 7 s before it goes back to az-b: failback: it is better".to_owned();
    assert_eq!(found[0], (Level::Warn, "state", waits));
    let levels: Vec<_> = found[1..].iter().map(|(level, check, _)| (*level, *check)).collect();
    assert_eq!(levels, [(Level::Warn, "configuration"); 2], "{found:?}");
}

#[test]
fn fault_53_a_learner_that_nothing_makes_a_voter_is_a_warning() {
    let mut members = three();
    let (voter, learner_for_s) = (false, Some(12));
    members.push(proto::Member { voter, learner_for_s, ..member('d') });
    let found = bad(&status(members));
    let words = "az-d is a learner for 12 s, and no change is under way".to_owned();
    assert!(found.contains(&(Level::Warn, "members", words)), "{found:?}");
}

#[test]
fn fault_40_a_missing_route_comes_with_the_command_that_makes_it() {
    let mut status = status(three());
    status.vips[0].routes[0] = proto::Route {
        state: "missing".into(),
        in_sync: false,
        target: None,
        ..status.vips[0].routes[0].clone()
    };
    let all = judge(&status, &BTreeSet::new());
    let found = all.iter().find(|f| f.check == "routes").expect("it is named");
    assert_eq!(found.level, Level::Fail);
    let command = "aws ec2 create-route --route-table-id rtb-0a --destination-cidr-block 192.168.77.10/32 --network-interface-id eni-0a";
    assert!(found.mend.starts_with(command), "{found:?}");
    status.vips[0].address = "fd00:77::10/128".into();
    let all = judge(&status, &BTreeSet::new());
    let found = all.iter().find(|f| f.check == "routes").expect("it is named");
    assert!(found.mend.contains(" --destination-ipv6-cidr-block fd00:77::10/128 "), "{found:?}");
}

#[test]
fn who_did_not_examine_itself_is_named() {
    let found = judge(&status(three()), &["az-a".to_owned(), "az-b".to_owned()].into());
    let silent: Vec<_> = found.iter().filter(|f| f.check == "reach").map(|f| f.finding.as_str()).collect();
    assert_eq!(silent, ["az-c does not answer the doctor"]);
}
