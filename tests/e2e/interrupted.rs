//! First starts that are interrupted or differ, and changes of the members whose leader dies in the midst.

use std::time::Duration;

use crate::fault::vipd_faults;
use crate::lab::{BOUND, Lab, MEMBERS, holds, until};
use crate::status::others;

/// A newcomer is taken in once its old incarnation has been silent for 10 s; twice, where a leader dies.
const JOIN_BOUND: Duration = Duration::from_secs(45);

/// Whoever has said which group it founded, and in which group it is.
fn groups_founded(lab: &Lab) -> Vec<String> {
    let founded = |member: &str| -> Vec<String> {
        let log = lab.vipd_log(member);
        let group =
            |line: &str| line.split("group=").nth(1).and_then(|g| g.split(' ').next()).map(str::to_owned);
        log.lines().filter(|l| l.contains("the group is founded")).filter_map(group).collect()
    };
    MEMBERS.iter().flat_map(|m| founded(m)).collect()
}

#[test]
fn fault_56_different_member_lists_found_no_group_and_the_difference_is_named() {
    let without_b = ["name", "peer", "admin", "zone"].map(|key| format!("az-c:members.az-b.{key}="));
    let options: Vec<&str> = without_b.iter().flat_map(|set| ["--set", set]).collect();
    let lab = Lab::up_with("lists", &options);
    let (all, two) = (
        "[az-a=10.0.1.10:7400, az-b=10.0.2.10:7400, az-c=10.0.3.10:7400]",
        "[az-a=10.0.1.10:7400, az-c=10.0.3.10:7400]",
    );
    lab.logs("az-a", &format!("the member lists differ: here {all}, az-c has {two}"));
    lab.logs("az-c", &format!("the member lists differ: here {two}, az-a has {all}"));
    assert!(groups_founded(&lab).is_empty());
    assert!(lab.status("az-a").is_err() && lab.swaps().is_empty());
    // Mended, it becomes one group.
    for set in ["name=az-b", "peer=10.0.2.10:7400", "admin=10.0.2.10:7401", "zone=eu-west-1b"] {
        lab.ok(&["config", "--set", &format!("az-c:members.az-b.{set}")]);
    }
    lab.ok(&["kill", "az-c", "--only", "vipd"]);
    lab.ok(&["start", "az-c", "--only", "vipd"]);
    lab.steady();
    assert_eq!(groups_founded(&lab).len(), 1);
    // From here on the membership rules: another list founds nothing, whoever starts with it.
    for set in &without_b {
        lab.ok(&["config", "--set", set]);
    }
    lab.ok(&["kill", "az-c", "--only", "vipd"]);
    lab.ok(&["start", "az-c", "--only", "vipd"]);
    let status = lab.says("az-c", "three voters", |s| s.members.iter().filter(|m| m.voter).count() == 3);
    assert_eq!(status.members.len(), 3);
    assert_eq!(groups_founded(&lab).len(), 1);
    lab.assert_fenced();
}

#[test]
fn fault_56_a_first_start_that_is_interrupted_founds_the_same_group() {
    let lab = Lab::up_faulty("founding");
    lab.steady();
    lab.ok(&["kill", "all", "--only", "vipd"]);
    for member in MEMBERS {
        let data = lab.dir.join(member).join("data");
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
    }
    let before = groups_founded(&lab).len();
    // The founder dies when all have agreed, and once more when it has written the group down.
    lab.arm("az-a", "form.agreed", "abort");
    lab.ok(&["start", "all", "--only", "vipd"]);
    assert_eq!(lab.ends("az-a"), 6);
    lab.release("az-a", "form.agreed");
    lab.arm("az-a", "form.founded", "abort");
    lab.ok(&["start", "az-a", "--only", "vipd"]);
    assert_eq!(lab.ends("az-a"), 6);
    lab.release("az-a", "form.founded");
    lab.ok(&["start", "az-a", "--only", "vipd"]);
    let owner = lab.steady();
    assert_eq!(groups_founded(&lab).len() - before, 1, "what was interrupted founded nothing of its own");
    lab.client_reaches(&owner);
    for member in MEMBERS {
        lab.voters_are(member, &MEMBERS);
    }
    lab.assert_fenced();
}

#[test]
fn fault_53_the_next_leader_ends_a_change_of_voters() {
    let faulty = vipd_faults();
    let lab = Lab::up_with_a_newcomer("joint", &["--vipd", faulty.to_str().unwrap()]);
    let old = lab.steady();
    let ask = others(&old)[0];
    lab.members_change(ask, &["add", "az-d", "--peer", "10.0.4.10:7400"]);
    // The leader dies between the two entries: both sets of voters are in force.
    lab.arm(&old, "machine.joint", "abort");
    let (code, answer) = lab.member_verb(ask, &["promote", "az-d"]);
    assert!(![0, 4].contains(&code), "not refused: {answer}");
    assert_eq!(lab.ends(&old), 6);
    lab.hit(&old, "machine.joint", 1);
    let all = ["az-a", "az-b", "az-c", "az-d"];
    let status = lab.voters_are(ask, &all);
    assert_ne!(status.leader.as_deref(), Some(old.as_str()));
    let leader = status.leader.unwrap();
    // With both sets in force all of them are voters already.
    lab.logs(&leader, "the members have changed change=Finish");
    lab.release(&old, "machine.joint");
    lab.ok(&["start", &old, "--only", "vipd"]);
    lab.says(ask, "steady", |s| s.state == "steady");
    lab.voters_are(&old, &all);
    lab.voters_are("az-d", &all);
    lab.assert_fenced();
}

/// The newcomer gets the log already, and nobody has left for it.
#[test]
fn fault_53_a_replacement_whose_leader_dies_half_way_is_asked_for_again() {
    let faulty = vipd_faults();
    let lab = Lab::up_with_a_newcomer("replearn", &["--vipd", faulty.to_str().unwrap()]);
    let old = lab.steady();
    let [ask, leaver] = others(&old)[..] else { panic!() };
    let replace = ["replace", leaver, "az-d", "--peer", "10.0.4.10:7400"];
    lab.arm(&old, "member.learner", "abort");
    let (code, answer) = lab.member_verb(ask, &replace);
    assert!(code != 0, "{answer}");
    assert_eq!(lab.ends(&old), 6);
    lab.hit(&old, "member.learner", 1);
    lab.release(&old, "member.learner");
    lab.says(ask, "another leads, and az-d is a learner", |s| {
        let learns = |m: &crate::status::Member| m.name == "az-d" && m.role == "learner" && !m.voter;
        s.leader.as_deref().is_some_and(|l| l != old) && s.members.iter().any(learns)
    });
    lab.voters_are(ask, &MEMBERS);
    lab.ok(&["start", &old, "--only", "vipd"]);
    lab.says(ask, "steady", |s| s.state == "steady");
    // The operator may have gone home: it is said until somebody goes on.
    until("status warns of the learner", JOIN_BOUND, || {
        let said = lab.status(ask)?.warnings;
        let warns = |w: &String| w.starts_with("az-d is a learner for ") && w.contains("member promote az-d");
        holds(said.iter().any(warns), || format!("{said:?}"))
    });
    let (_, found) = lab.vipctl_json(ask, &["doctor"]);
    assert!(found.to_string().contains("no change is under way"), "{found}");
    let leader = lab.status(ask).unwrap().leader.unwrap();
    until("the leader's gauge shows it", BOUND, || {
        let (_, metrics) = lab.get(&leader, "127.0.0.1:9407", "/metrics")?;
        let shown = metrics.lines().find_map(|l| l.strip_prefix("vipd_learner_for_seconds ")).map(str::parse);
        holds(matches!(shown, Some(Ok(10_u64..))), || format!("{shown:?}"))
    });
    lab.members_change(ask, &replace);
    assert_eq!(lab.status(ask).unwrap().warnings, [""; 0]);
    lab.gauge_is(&leader, "vipd_learner_for_seconds ", Some("0"));
    let mut after = [old.as_str(), ask, "az-d"];
    after.sort_unstable();
    for member in after {
        assert_eq!(lab.voters_are(member, &after).members.len(), 3);
    }
    lab.assert_fenced();
}

#[test]
fn fault_53_a_wiped_member_is_taken_in_although_the_leader_dies_over_it() {
    let lab = Lab::up_faulty("learner");
    let old = lab.steady();
    let [wiped, third] = others(&old)[..] else { panic!() };
    let before = lab.status(&old).unwrap().member(wiped).incarnation.clone();
    lab.ok(&["kill", wiped, "--only", "vipd"]);
    let data = lab.dir.join(wiped).join("data");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    lab.arm(&old, "join.learner", "abort");
    lab.ok(&["start", wiped, "--only", "vipd"]);
    until("the leader dies when the newcomer is a learner", JOIN_BOUND, || {
        let hits = lab.hits(&old, "join.learner");
        holds(!hits.is_empty(), || "not yet".into())
    });
    assert_eq!(lab.ends(&old), 6);
    lab.release(&old, "join.learner");
    // Two of three voters are needed: the wiped one is none.
    lab.ok(&["start", &old, "--only", "vipd"]);
    let after = until("the wiped member votes", JOIN_BOUND, || {
        let status = lab.status(third)?;
        let member = status.member(wiped);
        let taken_in = status.state == "steady" && member.voter && member.incarnation != before;
        if taken_in { Ok(status) } else { Err(format!("{status:?}")) }
    });
    assert_eq!(after.members.len(), 3);
    lab.voters_are(wiped, &MEMBERS);
    lab.assert_fenced();
}
