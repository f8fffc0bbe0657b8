//! An owner that cannot change a route: cut off from EC2, or without its interface.

use crate::lab::{BOUND, Lab, MEMBERS, holds, until};
use crate::status::others;

/// The owner reads every 10 s when all is well, and one failure is none.
const NOTICED: std::time::Duration = BOUND.saturating_add(BOUND);

fn another_owns(lab: &Lab, first: &str) -> String {
    let ask = others(first)[0];
    let second = until("another member owns", NOTICED, || {
        let owner = lab.status(ask)?.owner.unwrap_or_default();
        if owner == first { Err(format!("{:?}", lab.status(ask))) } else { Ok(owner) }
    });
    lab.routes_come_to(&second);
    lab.client_reaches(&second);
    second
}

#[test]
fn fault_26_an_owner_cut_off_from_ec2_hands_over_and_stays_where_nobody_reaches_it() {
    let lab = Lab::up("noec2");
    let first = lab.steady();
    lab.ok(&["cut", &first, "--from", "ec2"]);
    let second = another_owns(&lab, &first);
    let moved = lab.status(&second).unwrap().last_move.unwrap();
    assert_eq!(moved["kind"], "switchover", "{moved}");
    assert!(moved["reason"].as_str().unwrap().contains("does not reach EC2"), "{moved}");
    let epoch = lab.status(&second).unwrap().epoch;

    for member in others(&first) {
        lab.ok(&["cut", member, "--from", "ec2"]);
    }
    let status = until("everybody says so", NOTICED + BOUND, || {
        let status = lab.status(&second)?;
        let says =
            |m: &str| status.problems.iter().any(|p| p.starts_with(&format!("{m} does not reach EC2")));
        holds(MEMBERS.into_iter().all(says), || format!("{status:?}")).map(|()| status)
    });
    assert_eq!(
        (status.owner.as_deref(), status.epoch),
        (Some(second.as_str()), epoch),
        "it stays: {status:?}"
    );
    assert_eq!(status.state, "degraded");
    lab.client_reaches(&second);
    lab.ok(&["heal", "all"]);
    let status = until("all is well again", NOTICED + BOUND, || {
        let status = lab.status(&second)?;
        holds(status.state == "steady", || format!("{status:?}")).map(|()| status)
    });
    assert_eq!((status.owner.as_deref(), status.epoch), (Some(second.as_str()), epoch), "no ping-pong");
    lab.assert_fenced();
}

/// Whatever an attempt may take: a leader that does not judge yet would leave the VIP to nobody.
#[test]
fn fault_26_a_member_comes_to_judge_although_ec2_hangs() {
    let lab = Lab::up_with("hangstart", &["--set", "aws.attempt_timeout_ms=60000"]);
    let first = lab.steady();
    let member = others(&first)[0];
    lab.ok(&["ec2", "hang", "--action", "DescribeRouteTables"]);
    lab.ok(&["kill", member, "--only", "vipd"]);
    lab.ok(&["start", member, "--only", "vipd"]);
    let status = lab.says(member, "who owns", |s| s.owner.as_deref() == Some(&first));
    assert!(status.leader.as_deref() == Some(&first), "{status:?}");
    lab.logs(member, "EC2 did not answer within 2 s");
    lab.ok(&["ec2", "clear", "hang"]);
}

#[test]
fn fault_26_a_paused_group_stays_with_an_owner_cut_off_from_ec2() {
    let lab = Lab::up("noec2paused");
    let first = lab.steady();
    let epoch = lab.status(&first).unwrap().epoch;
    let ask = others(&first)[0];
    assert_eq!(lab.vipctl_json(ask, &["pause"]).0, 0);
    lab.ok(&["cut", &first, "--from", "ec2"]);
    let says = format!("{first} does not reach EC2");
    let status = until("it says so", NOTICED + BOUND, || {
        let status = lab.status(ask)?;
        holds(status.problems.iter().any(|p| p.starts_with(&says)), || format!("{status:?}")).map(|()| status)
    });
    assert_eq!((status.owner.as_deref(), status.epoch), (Some(first.as_str()), epoch), "{status:?}");
    lab.client_reaches(&first);
    // What it would have done all the while.
    assert_eq!(lab.vipctl_json(ask, &["resume"]).0, 0);
    let second = another_owns(&lab, &first);
    let moved = lab.status(&second).unwrap().last_move.unwrap();
    assert!(moved["reason"].as_str().unwrap().contains("does not reach EC2"), "{moved}");
    lab.ok(&["heal", "all"]);
    lab.assert_fenced();
}

/// Its own looks fail for half a minute before it says so.
#[test]
fn fault_54_who_is_cut_off_from_ec2_is_no_target_and_not_chosen() {
    let lab = Lab::up("noec2to");
    let first = lab.steady();
    let [lost, well] = others(&first)[..] else { unreachable!() };
    let epoch = lab.status(&first).unwrap().epoch;
    lab.ok(&["cut", lost, "--from", "ec2"]);
    let says = format!("{lost} does not reach EC2");
    until("it says so", NOTICED + NOTICED, || {
        let status = lab.status(&first)?;
        holds(status.problems.iter().any(|p| p.starts_with(&says)), || format!("{status:?}"))
    });
    for more in [&["--dry-run"][..], &[], &["--force"]] {
        let (code, json) = lab.vipctl_json(&first, &[&["transfer-leader", "--to", lost], more].concat());
        let error = &json["error"];
        assert_eq!((code, &error["kind"]), (4, &"refused".into()), "{more:?}: {json}");
        assert!(error["cause"].as_str().unwrap().starts_with(&says), "{json}");
        assert!(error["next"].as_str().unwrap().contains("vipctl doctor"), "{json}");
    }
    let status = lab.status(&first).unwrap();
    assert_eq!((status.owner.as_deref(), status.epoch), (Some(first.as_str()), epoch), "nothing changed");
    // Of the others the best is taken, and it is the only one.
    let (code, moved) = lab.vipctl_json(&first, &["transfer-leader"]);
    assert_eq!((code, &moved["to"]), (0, &well.into()), "{moved}");
    lab.client_reaches(well);
    lab.ok(&["cut", &first, "--from", "ec2"]);
    let says = format!("{first} does not reach EC2");
    until("so does the old owner", NOTICED + NOTICED, || {
        let status = lab.status(well)?;
        holds(status.problems.iter().any(|p| p.starts_with(&says)), || format!("{status:?}"))
    });
    let (code, json) = lab.vipctl_json(well, &["transfer-leader"]);
    let cause = json["error"]["cause"].as_str().unwrap();
    assert_eq!(code, 4, "{json}");
    assert!(cause.starts_with("no other member may own") && cause.contains(&says), "{json}");
    lab.ok(&["heal", "all"]);
    until("they are targets again", NOTICED + NOTICED, || {
        let (code, json) = lab.vipctl_json(well, &["transfer-leader", "--to", lost, "--dry-run"]);
        holds(code == 0, || json.to_string())
    });
    let (code, moved) = lab.vipctl_json(well, &["transfer-leader", "--to", lost]);
    assert_eq!(code, 0, "{moved}");
    lab.client_reaches(lost);
    lab.assert_fenced();
}

#[test]
fn fault_41_an_owner_whose_interface_is_gone_hands_over() {
    let lab = Lab::up("noeni");
    let first = lab.steady();
    lab.ok(&["ec2", "eni", &first, "--gone", "on"]);
    let second = another_owns(&lab, &first);
    let status = lab.says(&second, "why the other may not own", |s| {
        s.problems.iter().any(|p| p.starts_with(&format!("{first} may not own: its network interface")))
    });
    assert_eq!(status.owner.as_ref(), Some(&second));
    let (code, json) = lab.vipctl_json(&second, &["transfer-leader", "--to", &first]);
    assert_eq!(code, 4, "{json}");
    lab.assert_fenced();
}
