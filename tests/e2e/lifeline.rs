//! Lifelines between real processes: their end moves the VIP, their reset does not.

use crate::lab::{BOUND, Lab, MEMBERS, holds, until};
use crate::status::others;

/// No lease and no election timeout ends within a test's bound: what moves the VIP in time is a lifeline.
const PATIENT: [&str; 4] = ["--heartbeat", "200", "--election", "12000,15000"];

/// A lab with such timings, and its first owner, whose election takes as long as any without a lifeline.
fn patient(name: &str) -> (Lab, String) {
    let lab = Lab::up_as(name, &PATIENT);
    until("a first leader", BOUND * 4, || {
        lab.status("az-a").and_then(|s| holds(s.leader.is_some(), || format!("{s:?}")))
    });
    let owner = lab.steady();
    lab.tied_to(&owner);
    (lab, owner)
}

impl Lab {
    /// Of how many lifelines a member is one end.
    fn lifelines(&self, member: &str) -> Result<u64, String> {
        let (_, metrics) = self.get(member, "127.0.0.1:9407", "/metrics")?;
        let value = metrics.lines().find_map(|l| l.strip_prefix("vipd_lifelines "));
        value.and_then(|v| v.parse().ok()).ok_or_else(|| "no such metric".to_owned())
    }

    /// Waits until every other member holds one to `leader`.
    fn tied_to(&self, leader: &str) {
        until(&format!("lifelines to {leader}"), BOUND, || {
            for member in MEMBERS {
                let (has, wants) = (self.lifelines(member)?, if member == leader { 2 } else { 1 });
                holds(has == wants, || format!("{member}: {has} for {wants}"))?;
            }
            Ok(())
        });
    }
}

#[test]
fn a_killed_owner_is_noticed_by_the_end_of_its_lifelines() {
    let (lab, first) = patient("fin");
    let killed_ns = lab.json(&["kill", &first])[0]["at_boot_ns"].as_u64().unwrap();
    let second = lab.taken_over_from(&first);
    let moved = lab.says(&second, "the move", |s| s.last_move.is_some()).last_move.unwrap();
    assert_eq!((&moved["kind"], &moved["from"]), (&"failover".into(), &first.as_str().into()));
    crate::lab::measured(&format!("a lease of 15 s, and vipd killed: {}", moved["phases_ms"]));
    assert!(lab.swaps_since(killed_ns).iter().all(|c| c.is_of(&second)));
    // The third holds on to the new leader; the first, when it is back, as well.
    lab.ok(&["start", &first]);
    lab.tied_to(&second);
    lab.assert_fenced();
}

#[test]
fn resets_of_every_connection_between_the_members_move_nothing() {
    let (lab, owner) = patient("rst");
    let before = lab.status(&owner).unwrap();
    for _ in 0..5 {
        // SOCK_DESTROY on the owner's side: the kernel sends a reset on each (ss(8), -K).
        let reset = ["ss", "-K", "-tnH", "state", "established", "sport", "=", ":7400"];
        until("both lifelines and more are reset", BOUND, || {
            let killed = lab.inside(&owner, &reset);
            holds(killed.lines().count() >= 2, || format!("{killed:?}"))
        });
        lab.tied_to(&owner);
    }
    let after = lab.says(&owner, "steady", |s| s.state == "steady");
    assert_eq!((after.term, after.epoch, after.owner), (before.term, before.epoch, before.owner));
    for member in others(&owner) {
        let log = lab.vipd_log(member);
        assert!(!log.contains("process has ended"), "{member} took a reset for an end: {log}");
    }
    lab.assert_fenced();
}

/// A leader that hands over lives on: whoever held on to it lets go, and nothing comes of its exit.
#[test]
fn an_owner_that_stops_hands_over_and_its_exit_moves_nothing() {
    let (lab, first) = patient("bye");
    let ended = lab.json(&["stop", &first, "--only", "vipd"]);
    assert_eq!(ended[0]["exit_code"], 0, "{ended}");
    let second = lab.taken_over_from(&first);
    let term = lab.status(&second).unwrap().term;
    lab.ok(&["start", &first, "--only", "vipd"]);
    lab.tied_to(&second);
    let after = lab.status(&second).unwrap();
    assert_eq!((after.term, after.owner.as_deref()), (term, Some(second.as_str())));
    for member in MEMBERS {
        assert!(!lab.vipd_log(member).contains("process has ended"), "{member}");
    }
    lab.assert_fenced();
}
