//! A group comes to be, and takes back a member that lost its disk.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::lab::{BOUND, Lab, MEMBERS, until};

/// A newcomer is taken in once its old incarnation has been silent for 10 s; the rest is as in any other test.
const JOIN_BOUND: Duration = Duration::from_secs(10).saturating_add(BOUND).saturating_add(BOUND);

#[test]
fn three_members_started_at_once_form_one_group() {
    let lab = Lab::up_with("form", &["--initial-route", "c"]);
    let owner = lab.steady();
    lab.client_reaches(&owner);
    assert_eq!(lab.with_address(), [owner.as_str()]);
    let views: Vec<_> = MEMBERS.iter().map(|m| lab.status(m).unwrap()).collect();
    for view in &views {
        assert_eq!((view.owner.as_ref(), view.epoch), (Some(&owner), views[0].epoch), "{view:?}");
        assert!(view.members.iter().all(|m| m.voter), "{view:?}");
        assert_eq!(view.members.iter().filter(|m| m.role == "leader").count(), 1, "{view:?}");
        let incarnations: BTreeSet<_> = view.members.iter().map(|m| &m.incarnation).collect();
        assert_eq!(incarnations.len(), 3, "{view:?}");
    }
    assert_eq!(views[0].last_move.as_ref().unwrap()["kind"], "first");
    lab.assert_fenced();
}

#[test]
fn fault_40_missing_routes_are_created_where_that_is_allowed() {
    let lab = Lab::up_with("create", &["--initial-route", "none", "--set", "aws.create_missing=true"]);
    let owner = lab.steady();
    lab.client_reaches(&owner);
    assert!(lab.swaps().iter().all(|c| c.action == "CreateRoute"));
    lab.assert_fenced();
}

/// IPv4 and IPv6: every one in every table, on the owner's interface, and all of them move.
#[test]
fn several_vips_of_both_families_move_together() {
    let vips = ["192.168.77.10/32", "192.168.77.11/32", "fd00:77::10/128"];
    let addresses = format!("vip.addresses={vips:?}");
    let options = ["--initial-route", "none", "--set", &addresses, "--set", "aws.create_missing=true"];
    let lab = Lab::up_with("vips", &options);
    let on = |member: &str| {
        let status = lab.says(member, "nine routes in sync", |s| {
            let all: Vec<_> = s.vips.iter().flat_map(|v| &v.routes).collect();
            s.state == "steady" && all.len() == 9 && all.iter().all(|r| r.in_sync)
        });
        let owner = status.owner.unwrap();
        let routes = lab.json(&["routes"]);
        let to = crate::status::eni(&owner);
        let all = routes.as_array().unwrap();
        assert!(all.len() == 9 && all.iter().all(|r| r["target"] == to.as_str()), "{routes}");
        for vip in &vips {
            let ip = vip.split('/').next().unwrap();
            let addresses = lab.inside(&owner, &["ip", "-o", "address", "show", "dev", "lo"]);
            assert!(addresses.contains(ip), "{ip}: {addresses}");
        }
        owner
    };
    let first = on("az-a");
    let second = crate::status::others(&first)[0];
    let (code, moved) = lab.vipctl_json(&first, &["transfer-leader", "--to", second]);
    assert_eq!((code, &moved["to"]), (0, &second.into()), "{moved}");
    assert_eq!(on(&first), second);
    lab.client_reaches(second);
    lab.assert_fenced();
}

#[test]
fn fault_52_a_wiped_member_comes_back_as_a_new_incarnation() {
    let lab = Lab::up("wiped");
    let owner = lab.steady();
    let wiped = if owner == "az-c" { "az-b" } else { "az-c" };
    let before = lab.status(&owner).unwrap().member(wiped).incarnation.clone();
    lab.ok(&["kill", wiped, "--only", "vipd"]);
    let data = lab.dir.join(wiped).join("data");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    lab.ok(&["start", wiped, "--only", "vipd"]);
    let after = until("the wiped member is a voter again", JOIN_BOUND, || {
        let status = lab.status(&owner)?;
        let member = status.member(wiped);
        let taken_in = status.state == "steady" && member.voter && member.incarnation != before;
        if taken_in { Ok(status) } else { Err(format!("{status:?}")) }
    });
    assert_eq!(after.owner, Some(owner.clone()));
    assert_eq!(after.members.iter().filter(|m| m.voter).count(), 3);
    // Not before the old one had been silent for so long: the leader says so first.
    lab.logs(wiped, "silent for 10 s");
    // It counts: it can lead.
    let (code, moved) = lab.vipctl_json(&owner, &["transfer-leader", "--to", wiped]);
    assert_eq!((code, &moved["to"]), (0, &wiped.into()), "{moved}");
    lab.assert_fenced();
}
