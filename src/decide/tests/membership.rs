//! Who is in the group: what is refused, what is made, and what a leader mends by itself.

use std::collections::BTreeSet;

use super::world::*;
use crate::decide::cause::Cause;
use crate::decide::*;
use crate::ledger::Command;
use crate::model::*;

const D: Incarnation = Incarnation(4);

fn enlist(w: &mut World, id: u64, what: Roster) -> Vec<Effect> {
    let deadline = w.now + secs(10);
    let while_paused = WhilePaused::Refuse;
    w.event(Event::Enlist(Enlistment { id: AskId(id), what, while_paused, deadline }))
}

fn answer(w: &World, id: u64) -> Option<&Result<Answer, Refusal>> {
    w.answers.iter().find(|(i, _)| *i == AskId(id)).map(|(_, a)| a)
}

/// The hand has made it, and Raft shows it.
fn made(w: &mut World, configs: &[&[Incarnation]]) {
    w.change.take().expect("a change");
    let configs: Vec<BTreeSet<_>> = configs.iter().map(|c| c.iter().copied().collect()).collect();
    w.raft(|v| {
        v.membership += 1;
        let all: BTreeSet<Incarnation> = configs.iter().flatten().copied().collect();
        v.nodes.retain(|id, _| all.contains(id));
        v.configs = configs;
    });
    w.event(Event::Changed(Ok(())));
}

/// d gets the log and is heard.
fn learner(w: &mut World) {
    w.raft(|v| {
        v.membership += 1;
        v.nodes.insert(D, member("d", 100));
    });
    w.peer("d", |_| {});
}

#[test]
fn add_promote_replace_and_remove_are_made_one_at_a_time() {
    let mut w = World::steady();
    let until = w.now + secs(10);
    enlist(&mut w, 1, Roster::Add(member("d", 70)));
    assert_eq!(w.change, Some(Change::Learn { member: member("d", 70), until }));
    enlist(&mut w, 2, Roster::Remove(name("c")));
    assert_eq!(answer(&w, 2), Some(&Err(Refusal::Changing)));
    assert_eq!(answer(&w, 1), None, "it is not over");
    w.change = None;
    learner(&mut w);
    w.event(Event::Changed(Ok(())));
    assert_eq!(answer(&w, 1), Some(&Ok(Answer::Kept)));

    enlist(&mut w, 3, Roster::Promote(name("d")));
    assert_eq!(w.change, Some(Change::Promote(D)));
    w.change = None;
    w.event(Event::Changed(Err(Refusal::Unchanged("no quorum".into()))));
    assert_eq!(answer(&w, 3), Some(&Err(Refusal::Unchanged("no quorum".into()))));

    // A learner that an interrupted replacement left takes its place all the same.
    let until = w.now + secs(10);
    enlist(&mut w, 4, Roster::Replace { old: name("c"), new: member("d", 100) });
    assert_eq!(w.change, Some(Change::Replace { old: C, member: member("d", 100), until }));
    made(&mut w, &[&[ME, B, D]]);
    enlist(&mut w, 5, Roster::Remove(name("b")));
    assert_eq!(w.change, Some(Change::Remove([B].into())));
    made(&mut w, &[&[ME, D]]);
    assert_eq!(answer(&w, 5), Some(&Ok(Answer::Kept)));
    assert!(w.decide.size_warning().is_some_and(|text| text.contains("survives no loss")));
}

#[test]
fn fault_53_a_learner_that_nothing_makes_a_voter_is_told_by_the_leader() {
    let mut w = World::steady();
    learner(&mut w);
    w.run(ms(9_900));
    assert_eq!(w.decide.lingering(w.now), None, "who adds it promotes it now");
    w.run(ms(200));
    let d = name("d");
    assert_eq!(w.decide.lingering(w.now), Some((ms(10_100), vec![&d])));
    enlist(&mut w, 1, Roster::Promote(name("d")));
    assert_eq!(w.decide.lingering(w.now), None, "it is under way");
    w.event(Event::Changed(Err(Refusal::Unchanged("no quorum".into()))));
    assert!(w.decide.lingering(w.now).is_some(), "it is not any more");
    w.change = None;
    w.raft(|v| v.role = Role::Follower);
    assert_eq!(w.decide.lingering(w.now), None, "only a leader knows what is under way");

    // A wiped voter's new directory: it comes back by itself.
    let mut w = World::steady();
    w.raft(|v| {
        v.membership += 1;
        v.nodes.insert(D, member("c", 100));
    });
    w.run(secs(20));
    assert_eq!(w.decide.lingering(w.now), None);
}

#[test]
fn fault_49_an_owner_that_is_removed_hands_over_first() {
    let mut w = World::steady();
    enlist(&mut w, 1, Roster::Remove(name("a")));
    assert_eq!((w.change.clone(), w.gate), (None, None), "the gate closes, the membership stands");
    w.apply_all();
    assert_eq!(w.transfers(), [B]);
    assert!(w.ledger.handover.as_ref().is_some_and(|h| h.reason == "a leaves the group"));
    assert_eq!(w.cause(), Cause::Membership);
    w.follow(3, Some(B));
    w.claimed_by("b", 3, &[]);
    w.moved(true);
    let epoch = w.claim().epoch;
    // From here on it is the next leader's.
    assert_eq!(answer(&w, 1), Some(&Ok(Answer::Moved(epoch))));
    assert_eq!(w.change, None);
}

#[test]
fn fault_49_an_owner_that_nobody_can_follow_is_not_removed() {
    let mut w = World::steady();
    for who in ["b", "c"] {
        w.peer(who, |p| p.barred = Some("its source/dest check is on".into()));
    }
    enlist(&mut w, 1, Roster::Remove(name("a")));
    assert!(matches!(answer(&w, 1), Some(Err(Refusal::Nobody(_)))));
    let mut w = World::steady();
    let (pause, move_all_the_same) = (Directive::Pause, WhilePaused::Move);
    w.order(1, pause, move_all_the_same);
    w.apply_all();
    enlist(&mut w, 2, Roster::Remove(name("a")));
    assert_eq!(answer(&w, 2), Some(&Err(Refusal::Paused)));
    // Where this leader may not own, the routes are another's still.
    let mut w = World::with(|s| s.members[0].witness = true);
    w.claimed_by("b", 1, &[]);
    for who in ["b", "c"] {
        w.peer(who, |p| p.barred = Some("its source/dest check is on".into()));
    }
    w.lead(2);
    w.acknowledge();
    enlist(&mut w, 3, Roster::Remove(name("b")));
    assert_eq!(answer(&w, 3), Some(&Err(Refusal::Owns(name("b")))));
}

#[test]
fn fault_50_a_removal_that_would_lose_the_quorum_is_refused() {
    let mut w = World::steady();
    w.peer("c", |p| p.reachable = false);
    enlist(&mut w, 1, Roster::Remove(name("b")));
    let Some(Err(refusal @ Refusal::LosesQuorum(text))) = answer(&w, 1) else {
        panic!("{:?}", answer(&w, 1))
    };
    assert!(refusal.is_precondition());
    assert_eq!(
        text,
        "without b the group would lose its quorum: 1 of 2 voters answer, 2 are needed (c silent)"
    );
    // The dead one may go; and it may be replaced.
    enlist(&mut w, 2, Roster::Replace { old: name("c"), new: member("d", 1) });
    assert!(w.change.is_some());
    w.change = None;
    w.event(Event::Changed(Err(Refusal::Changing)));
    enlist(&mut w, 3, Roster::Remove(name("c")));
    made(&mut w, &[&[ME, B]]);
    // Neither of two may leave while the other is silent; the last one never.
    w.peer("b", |p| p.reachable = false);
    enlist(&mut w, 4, Roster::Remove(name("a")));
    assert!(answer(&w, 4).is_some_and(Result::is_err));
    enlist(&mut w, 5, Roster::Remove(name("b")));
    made(&mut w, &[&[ME]]);
    enlist(&mut w, 6, Roster::Remove(name("a")));
    assert_eq!(answer(&w, 6), Some(&Err(Refusal::LastVoter(name("a")))));
    assert_eq!(w.change, None);
}

#[test]
fn a_promotion_that_would_lose_the_quorum_is_refused() {
    let mut w = World::steady();
    learner(&mut w);
    w.peer("d", |p| p.reachable = false);
    enlist(&mut w, 1, Roster::Promote(name("d")));
    assert_eq!(answer(&w, 1), Some(&Err(Refusal::Unreachable(name("d")))));
    w.peer("d", |_| {});
    w.raft(|v| v.last_index += 65);
    enlist(&mut w, 2, Roster::Promote(name("d")));
    assert_eq!(answer(&w, 2), Some(&Err(Refusal::Lagging(name("d"), w.view.last_index))));
    w.peer("d", |p| p.applied = u64::MAX);
    w.peer("c", |p| p.reachable = false);
    enlist(&mut w, 3, Roster::Promote(name("d")));
    assert_eq!(w.change, Some(Change::Promote(D)), "three of four");
    enlist(&mut w, 4, Roster::Promote(name("b")));
    assert_eq!(answer(&w, 4), Some(&Err(Refusal::Changing)));
    w.change = None;
    w.event(Event::Changed(Err(Refusal::Changing)));
    w.peer("b", |p| p.reachable = false);
    enlist(&mut w, 5, Roster::Promote(name("d")));
    assert!(matches!(answer(&w, 5), Some(Err(Refusal::LosesQuorum(_)))), "two of four");
    enlist(&mut w, 6, Roster::Promote(name("b")));
    assert_eq!(answer(&w, 6), Some(&Err(Refusal::Votes(name("b")))));
}

#[test]
fn fault_51_a_second_of_the_same_name_or_address_is_refused() {
    let mut w = World::steady();
    let at = |n: &str, peer: &str| Member { peer: peer.into(), ..member(n, 100) };
    let d = || at("d", "d:7400");
    for (id, what, refusal) in [
        (1, Roster::Add(at("b", "x:7400")), Refusal::Member(name("b"))),
        (2, Roster::Add(at("a", "x:7400")), Refusal::Member(name("a"))),
        (3, Roster::Add(at("d", "B:7400")), Refusal::SameAddress("B:7400".into(), name("b"))),
        (4, Roster::Replace { old: name("b"), new: at("c", "x:7400") }, Refusal::Member(name("c"))),
        (
            5,
            Roster::Replace { old: name("b"), new: at("d", "c:7400") },
            Refusal::SameAddress("c:7400".into(), name("c")),
        ),
        (
            6,
            Roster::Replace { old: name("b"), new: at("d", "b:7400") },
            Refusal::SameAddress("b:7400".into(), name("b")),
        ),
        (7, Roster::Replace { old: name("b"), new: at("b", "x:7400") }, Refusal::Lives(name("b"))),
        (8, Roster::Replace { old: name("z"), new: d() }, Refusal::Unknown(name("z"))),
        (9, Roster::Remove(name("z")), Refusal::Unknown(name("z"))),
        (10, Roster::Promote(name("z")), Refusal::Unknown(name("z"))),
    ] {
        enlist(&mut w, id, what.clone());
        assert_eq!(answer(&w, id), Some(&Err(refusal)), "{what:?}");
        assert!(matches!(answer(&w, id), Some(Err(r)) if r.is_precondition() && !r.next().is_empty()));
        assert_eq!(w.change, None);
    }
    // One that is dead gives up its name, and its address.
    w.peer("b", |p| p.reachable = false);
    enlist(&mut w, 11, Roster::Replace { old: name("b"), new: at("b", "x:7400") });
    assert!(matches!(w.change, Some(Change::Replace { old: B, .. })));
    // There is an end to it.
    let mut w = World::steady();
    w.raft(|v| v.nodes.extend((10..39).map(|i| (Incarnation(i), member(&format!("m{i}"), 1)))));
    enlist(&mut w, 12, Roster::Add(d()));
    assert_eq!(answer(&w, 12), Some(&Err(Refusal::Crowded(MEMBERS_MAX))));
}

#[test]
fn only_a_leader_with_a_quorum_changes_the_members() {
    let mut w = World::with(|_| {});
    enlist(&mut w, 1, Roster::Remove(name("c")));
    assert_eq!(answer(&w, 1), Some(&Err(Refusal::NotLeader)));
    w.lead(1);
    enlist(&mut w, 2, Roster::Remove(name("c")));
    assert_eq!(answer(&w, 2), Some(&Err(Refusal::NoQuorum)));
}

#[test]
fn fault_53_the_next_leader_ends_a_change_that_was_half_done() {
    let mut w = World::steady();
    w.raft(|v| {
        v.membership += 1;
        v.nodes.insert(D, member("d", 100));
        v.configs.push([ME, B, D].into());
    });
    w.peer("d", |_| {});
    // While both sets are in force, each needs its majority (FENCING.md, F-a): the invariants see to it.
    assert!(w.open());
    w.run(ms(900));
    assert_eq!(w.change, None, "whoever began it may still end it");
    enlist(&mut w, 1, Roster::Remove(name("b")));
    assert_eq!(answer(&w, 1), Some(&Err(Refusal::Changing)));
    w.run(secs(2));
    assert_eq!(w.change, Some(Change::Finish));
    // One that failed is made again.
    w.change = None;
    w.event(Event::Changed(Err(Refusal::Changing)));
    assert_eq!(w.change, None);
    w.run(ms(1100));
    assert_eq!(w.change, Some(Change::Finish));
    made(&mut w, &[&[ME, B, D]]);
    w.run(secs(3));
    assert_eq!(w.change, None);
}

#[test]
fn fault_53_a_leader_that_the_change_leaves_out_hands_over_and_ends_nothing() {
    let mut w = World::steady();
    w.raft(|v| {
        v.membership += 1;
        // Of the two that acknowledge, one: the lease stands.
        v.configs.push([B].into());
    });
    w.run(ms(100));
    assert_eq!(w.transfers(), [B]);
    // Elected in the midst of it, it does not even claim; and where nobody may own, any voter takes over.
    for barred in [None, Some("no".to_owned())] {
        let mut w = World::with(|_| {});
        w.raft(|v| v.configs.push([B, C].into()));
        for who in ["b", "c"] {
            w.peer(who, |p| p.barred.clone_from(&barred));
        }
        w.lead(2);
        w.run(secs(3));
        assert_eq!((w.transfers().first(), w.claims(), w.change.clone()), (Some(&B), 0, None));
    }
}

#[test]
fn what_a_members_own_file_says_of_it_is_agreed_on() {
    let mut w = World::steady();
    let says =
        Member { peer: "elsewhere:1".into(), zone: Some("z".into()), priority: 150, ..member("b", 90) };
    let agreed = Member { peer: "b:7400".into(), ..says.clone() };
    // Another directory of that name says nothing; nor does one that is silent.
    w.peer("b", |p| p.says = Some((Incarnation(77), says.clone())));
    w.run(secs(2));
    w.peer("b", |p| (p.says, p.reachable) = (Some((B, says.clone())), false));
    w.run(secs(2));
    assert_eq!(w.change, None);
    w.peer("b", |p| p.says = Some((B, says.clone())));
    w.run(secs(2));
    assert_eq!(w.change, Some(Change::Describe(B, agreed.clone())), "its address is not of these");
    w.change = None;
    w.raft(|v| {
        v.membership += 1;
        v.nodes.insert(B, agreed.clone());
    });
    w.event(Event::Changed(Ok(())));
    w.run(secs(2));
    assert_eq!(w.change, None);
    // A leader that has become a witness by its file: agreed on, it hands over.
    let mut w = World::steady_with(|s| s.members[0].priority = 100);
    w.raft(|v| {
        v.nodes.insert(ME, Member { witness: true, ..member("a", 100) });
    });
    w.run(ms(100));
    assert_eq!(w.transfers(), [B]);
}

#[test]
fn who_is_out_of_the_group_is_drained_no_more() {
    let mut w = World::steady();
    w.order(1, Directive::Drain(name("c")), WhilePaused::Refuse);
    w.apply_all();
    w.run(secs(2));
    assert!(w.ledger.drained.contains(&name("c")));
    w.raft(|v| {
        v.membership += 1;
        v.nodes.remove(&C);
        v.configs = vec![[ME, B].into()];
    });
    w.hands.apply = false;
    w.run(secs(2));
    assert!(w.log.iter().any(|(_, c)| *c == Command::Undrain { member: name("c") }), "{:?}", w.log);
    w.hands.apply = true;
    w.run(secs(2));
    assert!(w.ledger.drained.is_empty());
}

#[test]
fn one_that_was_removed_lets_the_address_go() {
    let mut w = World::steady();
    assert!(!w.present.is_empty());
    w.follow(2, None);
    w.run(secs(60));
    assert!(!w.present.is_empty(), "without a quorum it stays");
    w.raft(|v| v.removed = Some(99));
    w.run(secs(1));
    assert!(w.present.is_empty());
}

/// c was emptied and comes back, as `D`: it is heard by its name, and its old directory votes still.
fn wiped(w: &mut World) {
    w.raft(|v| {
        v.membership += 1;
        v.nodes.insert(D, member("c", 100));
    });
    w.peer("c", |p| p.says = Some((D, member("c", 100))));
}

#[test]
fn fault_50_a_wiped_members_new_directory_does_not_answer_for_the_old_ones_vote() {
    let mut w = World::steady();
    wiped(&mut w);
    enlist(&mut w, 1, Roster::Remove(name("b")));
    assert!(matches!(answer(&w, 1), Some(Err(Refusal::LosesQuorum(_)))), "{:?}", w.answers);
    assert_eq!(w.change, None);
    // Without c the two that answer are the group.
    enlist(&mut w, 2, Roster::Remove(name("c")));
    assert_eq!(w.change, Some(Change::Remove([C, D].into())));
}

#[test]
fn of_a_learner_that_was_wiped_the_directory_that_answers_is_promoted() {
    let mut w = World::steady();
    let newer = Incarnation(9);
    w.raft(|v| {
        v.membership += 1;
        v.nodes.insert(D, member("d", 100));
        v.nodes.insert(newer, member("d", 100));
    });
    w.peer("d", |p| p.says = Some((newer, member("d", 100))));
    enlist(&mut w, 1, Roster::Promote(name("d")));
    assert_eq!(w.change, Some(Change::Promote(newer)));
}
