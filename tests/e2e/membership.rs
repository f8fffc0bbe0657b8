//! Members come and go by operators' hands.

use serde_json::Value;

use crate::lab::{BOUND, Lab, MEMBERS, holds, until};
use crate::status::{Status, others};

/// In a lab of four zones the fourth member is in nobody's file but its own.
fn with_a_newcomer(more: &[&str]) -> Vec<String> {
    let mut options: Vec<String> = ["--zones", "4"].map(str::to_owned).into();
    for member in MEMBERS {
        for key in ["name", "peer", "admin", "zone"] {
            options.extend(["--set".to_owned(), format!("{member}:members.az-d.{key}=")]);
        }
    }
    options.extend(more.iter().map(|o| (*o).to_owned()));
    options
}

impl Lab {
    pub fn up_with_a_newcomer(name: &str, more: &[&str]) -> Self {
        let options = with_a_newcomer(more);
        Self::up_with(name, &options.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// `vipctl member ...`: exit code and JSON.
    pub fn member_verb(&self, ask: &str, arguments: &[&str]) -> (i32, Value) {
        self.vipctl_json(ask, &[&["member"], arguments].concat())
    }

    /// As `member_verb`; it must be done.
    pub fn members_change(&self, ask: &str, arguments: &[&str]) -> Value {
        let (code, answer) = self.member_verb(ask, arguments);
        assert_eq!(code, 0, "member {arguments:?}: {answer}");
        answer
    }

    /// As `member_verb`; it must be refused with this cause.
    pub fn members_refuse(&self, ask: &str, arguments: &[&str], cause: &str) {
        let (code, answer) = self.member_verb(ask, arguments);
        let said = answer["error"]["cause"].as_str().unwrap_or_default();
        assert_eq!(code, 4, "member {arguments:?}: {answer}");
        assert!(said.contains(cause), "member {arguments:?}: {answer}");
        assert!(!answer["error"]["next"].as_str().unwrap_or_default().is_empty(), "{answer}");
    }

    /// Waits until `member` knows these, and no others, as voters.
    pub fn voters_are(&self, member: &str, names: &[&str]) -> Status {
        self.says(member, &format!("the voters are {names:?}"), |s| voters(s) == names && !s.changing)
    }
}

fn voters(status: &Status) -> Vec<&str> {
    status.members.iter().filter(|m| m.voter).map(|m| m.name.as_str()).collect()
}

fn names(answer: &Value) -> Vec<&str> {
    answer["members"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect()
}

#[test]
fn fault_49_a_removed_leader_hands_over_first_and_does_no_harm() {
    let lab = Lab::up("removed");
    let old = lab.steady();
    let [ask, third] = others(&old)[..] else { panic!() };
    let load = lab.load(&old);
    // Asked of a follower: the leader hands over, and its successor removes it.
    let answer = lab.members_change(ask, &["remove", &old]);
    let moved = &answer["last_move"];
    assert_eq!((&moved["kind"], &moved["from"]), (&"switchover".into(), &old.as_str().into()), "{answer}");
    assert_eq!(names(&answer), others(&old), "{answer}");
    assert!(answer["warnings"][0].as_str().unwrap().contains("two voters only"), "{answer}");
    let owner = lab.taken_over_from(&old);
    load.end(&lab, &owner).assert_only_what_straddled_a_swap_failed(
        &lab,
        "member remove of the owner",
        &owner,
    );
    lab.voters_are(ask, &[ask, third]);
    lab.voters_are(third, &[ask, third]);
    // It was told, says so plainly, and holds nothing.
    lab.logs(&old, "the group has removed this member");
    lab.address_goes(&old);
    let its = lab.says(&old, "it was removed", |s| s.member(&old).role == "removed");
    assert!(its.problems[0].contains("the group has removed"), "{its:?}");
    assert!(!its.member(&old).voter);
    // The two live on without a quorum's worth of it: it votes for nobody.
    let term = lab.status(&owner).unwrap().term;
    lab.ok(&["kill", &owner, "--only", "vipd"]);
    let left = if owner == ask { third } else { ask };
    lab.says(left, "no quorum", |s| s.state == "no-quorum");
    lab.ok(&["start", &owner, "--only", "vipd"]);
    let again = lab.says(left, "steady", |s| s.state == "steady");
    assert!(again.term > term, "{again:?}");
    // A restart changes nothing for it; and it may be taken in again as it is.
    lab.ok(&["kill", &old, "--only", "vipd"]);
    lab.ok(&["start", &old, "--only", "vipd"]);
    until("its first look", BOUND, || lab.status(&old).map(drop));
    lab.voters_are(left, &[ask, third]);
    let peer = format!("10.0.{}.10:7400", 1 + MEMBERS.iter().position(|m| *m == old).unwrap());
    lab.members_change(left, &["add", &old, "--peer", &peer]);
    lab.members_change(left, &["promote", &old]);
    lab.voters_are(&old, &MEMBERS);
    lab.says(left, "no quarantine", |s| !s.member(&old).quarantined);
    let (code, moved) = lab.vipctl_json(left, &["transfer-leader", "--to", &old]);
    assert_eq!(code, 0, "{moved}");
    lab.client_reaches(&old);
    lab.assert_fenced();
}

/// Asked on the owner's own host: whoever forwards the rest of it has just given the leadership away.
#[test]
fn fault_49_an_owner_that_is_asked_to_remove_itself_hands_over_and_goes() {
    let lab = Lab::up("removes");
    let old = lab.steady();
    let load = lab.load(&old);
    let answer = lab.members_change(&old, &["remove", &old]);
    assert_eq!(answer["last_move"]["from"], old.as_str(), "{answer}");
    assert_eq!(names(&answer), others(&old), "{answer}");
    let owner = lab.taken_over_from(&old);
    load.end(&lab, &owner).assert_only_what_straddled_a_swap_failed(
        &lab,
        "member remove on the owner",
        &owner,
    );
    for member in others(&old) {
        lab.voters_are(member, &others(&old));
    }
    lab.address_goes(&old);
    lab.says(&old, "it was removed", |s| s.member(&old).role == "removed");
    lab.client_reaches(&owner);
    lab.assert_fenced();
}

#[test]
fn fault_50_a_removal_that_would_lose_the_quorum_is_exit_4() {
    let lab = Lab::up("rmquorum");
    let owner = lab.steady();
    let [living, dead] = others(&owner)[..] else { panic!() };
    lab.ok(&["kill", dead, "--only", "vipd"]);
    lab.says(&owner, "one is silent", |s| s.state == "degraded");
    let cause = "the group would lose its quorum: 1 of 2 voters answer, 2 are needed";
    lab.members_refuse(living, &["remove", living], cause);
    lab.members_refuse(living, &["remove", &owner], cause);
    assert_eq!(lab.status(&owner).unwrap().owner, Some(owner.clone()), "nothing has moved");
    lab.voters_are(&owner, &MEMBERS);
    let mut left = [owner.as_str(), living];
    left.sort_unstable();
    // Once it has left, its lag alarms nobody any more.
    let lag = format!("vipd_peer_lag_entries{{member=\"{dead}\"}}");
    lab.says(&owner, "it lags", |s| s.member(dead).lag > 0);
    lab.members_change(living, &["remove", dead]);
    assert_eq!(lab.voters_are(&owner, &left).state, "steady");
    lab.gauge_is(&owner, &lag, None);
    lab.gauge_is(living, &lag, None);
    lab.client_reaches(&owner);
    lab.assert_fenced();
}

#[test]
fn fault_51_a_clone_of_a_living_member_is_refused() {
    // The fourth host runs az-b's file, with an empty directory. In the clear: a clone would have az-b's
    // certificate too.
    let mut more = vec!["--set", "az-d:member=az-b", "--set", "tls.insecure=true"];
    let az_d = ["name", "peer", "admin", "zone"].map(|key| format!("az-d:members.az-d.{key}="));
    more.extend(az_d.iter().flat_map(|set| ["--set", set]));
    let lab = Lab::up_with_a_newcomer("clone", &more);
    let owner = lab.steady();
    let before = lab.status(&owner).unwrap();
    lab.logs("az-d", "az-b lives at 10.0.2.10:7400, with another data directory");
    lab.members_refuse(&owner, &["add", "az-b", "--peer", "10.0.4.10:7400"], "az-b is a member already");
    lab.members_refuse(
        &owner,
        &["add", "az-d", "--peer", "10.0.2.10:7400"],
        "az-b is at 10.0.2.10:7400 already",
    );
    lab.members_refuse(
        &owner,
        &["replace", "az-b", "--peer", "10.0.4.10:7400"],
        "az-b lives: two members of one name cannot be",
    );
    lab.members_refuse(
        &owner,
        &["add", "az-d", "--peer", "10.0.4.10:7400"],
        "at 10.0.4.10:7400 answers az-b, not az-d",
    );
    let after = lab.voters_are(&owner, &MEMBERS);
    assert_eq!(after.member("az-b").incarnation, before.member("az-b").incarnation);
    assert_eq!((after.state.as_str(), after.term), ("steady", before.term));
    lab.assert_fenced();
}

#[test]
fn a_new_member_gets_the_log_then_votes_then_owns() {
    let lab = Lab::up_with_a_newcomer("newcomer", &["--set", "az-d:members.az-d.priority=70"]);
    let owner = lab.steady();
    let ask = others(&owner)[0];
    lab.logs("az-d", "the group has no member az-d: vipctl member add az-d");
    lab.members_refuse(ask, &["promote", "az-d"], "no member is named az-d");
    lab.members_refuse(
        ask,
        &["add", "az-x", "--peer", "10.0.5.10:7400", "--wait", "1s"],
        "az-x is not ready",
    );
    lab.members_change(ask, &["add", "az-d", "--peer", "10.0.4.10:7400", "--witness"]);
    // Its own file has the last word: it is no witness, and its priority is another.
    let listed = lab.says(ask, "what az-d says of itself", |s| {
        s.members.iter().any(|m| m.name == "az-d" && m.priority == 70 && !m.witness)
    });
    assert_eq!((listed.member("az-d").role.as_str(), listed.member("az-d").voter), ("learner", false));
    lab.voters_are(ask, &MEMBERS);
    let (code, refused) = lab.vipctl_json(ask, &["transfer-leader", "--to", "az-d"]);
    assert_eq!(code, 4, "{refused}");
    lab.members_change(ask, &["promote", "az-d"]);
    lab.voters_are(ask, &["az-a", "az-b", "az-c", "az-d"]);
    lab.members_refuse(ask, &["promote", "az-d"], "az-d votes already");
    // That it is no witness any more is its own to say, once it has heard so.
    let as_target = ["transfer-leader", "--to", "az-d", "--dry-run"];
    until("az-d may own", BOUND, || {
        let (code, why) = lab.vipctl_json(ask, &as_target);
        holds(code == 0, || why.to_string())
    });
    let (code, moved) = lab.vipctl_json(ask, &["transfer-leader", "--to", "az-d"]);
    assert_eq!(code, 0, "{moved}");
    lab.client_reaches("az-d");
    // The owner is replaced by one that was put out before: in one change, from three voters to three.
    lab.members_change("az-d", &["remove", "az-c"]);
    lab.logs("az-c", "the group has removed this member");
    let answer =
        lab.members_change(ask_but(&["az-c"]), &["replace", "az-d", "az-c", "--peer", "10.0.3.10:7400"]);
    assert_eq!(answer["last_move"]["from"], "az-d", "{answer}");
    let after = lab.voters_are("az-a", &MEMBERS);
    lab.logs("az-d", "the group has removed this member");
    lab.voters_are("az-c", &MEMBERS);
    lab.client_reaches(after.owner.as_deref().unwrap());
    lab.address_goes("az-d");
    lab.assert_fenced();
}

fn ask_but(not: &[&str]) -> &'static str {
    MEMBERS.into_iter().find(|m| !not.contains(m)).unwrap()
}

#[test]
fn fault_57_two_members_work_while_both_live_and_are_warned_of() {
    let lab = Lab::up_with("two", &["--zones", "2"]);
    let status = lab.says("az-a", "steady", |s| s.state == "steady");
    assert!(
        status.warnings.iter().any(|w| w.contains("two voters only: the group survives no loss")),
        "{status:?}"
    );
    lab.logs("az-a", "two members only");
    let list = lab.members_change("az-a", &["list"]);
    assert!(list["warnings"][0].as_str().unwrap().contains("two voters only"), "{list}");
    let owner = status.owner.unwrap();
    let other = if owner == "az-a" { "az-b" } else { "az-a" };
    lab.client_reaches(&owner);
    let (code, moved) = lab.vipctl_json(&owner, &["transfer-leader", "--to", other]);
    assert_eq!(code, 0, "{moved}");
    lab.client_reaches(other);
    // It survives no loss: what is there stays, and nothing is called.
    lab.ok(&["kill", &owner, "--only", "vipd"]);
    lab.says(other, "no quorum", |s| s.state == "no-quorum");
    lab.client_reaches(other);
    lab.ok(&["start", &owner, "--only", "vipd"]);
    lab.says(other, "steady", |s| s.state == "steady");
    lab.assert_fenced();
}
