//! The leader's process has ended: who asks for votes, and when.

use super::world::*;
use crate::decide::*;
use crate::model::*;

/// After how long it asks, if it does: b led term 1 and has ended.
fn asks(w: &mut World) -> Option<u64> {
    asks_about(w, 1)
}

fn asks_about(w: &mut World, term: u64) -> Option<u64> {
    let effects = w.event(Event::Ended { term: Term(term) });
    let mut campaigns = effects.iter().filter_map(|e| match e {
        Effect::Campaign { term: of, after } => {
            assert_eq!(*of, Term(term));
            u64::try_from(after.as_millis()).ok()
        }
        _ => None,
    });
    let first = campaigns.next();
    assert_eq!(campaigns.next(), None);
    first
}

fn follower(change: impl FnOnce(&mut Setup)) -> World {
    let mut w = World::with(change);
    w.follow(1, Some(B));
    w
}

#[test]
fn the_best_asks_at_once_and_each_other_a_stagger_later() {
    assert_eq!(asks(&mut follower(|_| {})), Some(0), "a is of the highest priority");
    let behind = |s: &mut Setup| s.members[2].priority = 200;
    assert_eq!(asks(&mut follower(behind)), Some(8), "c is before it");
    let mut w = follower(behind);
    w.follow(1, Some(C));
    assert_eq!(asks(&mut w), Some(0), "the dead leader c is not");
}

#[test]
fn who_is_known_not_to_win_or_not_to_own_is_not_waited_for() {
    let cases: [(&str, fn(&mut Peer)); 5] = [
        ("silent", |p| p.reachable = false),
        ("unhealthy", |p| p.health = Health::Unhealthy("down".into())),
        ("barred", |p| p.barred = Some("its source/dest check is on".into())),
        ("in quarantine", |p| p.quarantined = true),
        ("cut off from EC2", |p| p.cut_off = Some("no answer".into())),
    ];
    for (case, change) in cases {
        let mut w = follower(|s| s.members[2].priority = 200);
        w.peer("c", change);
        assert_eq!(asks(&mut w), Some(0), "{case}");
    }
    let mut w = follower(|s| (s.members[2].priority, s.members[2].witness) = (200, true));
    assert_eq!(asks(&mut w), Some(0), "a witness");
}

#[test]
fn two_that_have_not_heard_of_each_other_do_not_ask_at_the_same_time() {
    for (priority, place) in [(50, 0), (200, 8)] {
        let mut w = follower(|s| s.members[2].priority = priority);
        w.decide.peers.clear();
        assert_eq!(asks(&mut w), Some(place), "c of {priority} is after or before a as c finds too");
    }
    let mut w = follower(|s| (s.members[2].priority, s.members[2].witness) = (200, true));
    w.decide.peers.clear();
    assert_eq!(asks(&mut w), Some(0), "a witness");
}

#[test]
fn where_all_are_cut_off_from_ec2_they_still_ask_one_after_the_other() {
    let mut w = follower(|s| s.members[2].priority = 200);
    w.looks_fail(secs(25), &unreachable());
    assert!(w.decide.cut_off().is_some());
    assert_eq!(asks(&mut w), Some(8), "c reaches it");
    w.peer("c", |p| p.cut_off = Some("no answer".into()));
    assert_eq!(asks(&mut w), Some(8), "c is of the higher priority");
    let mut w = follower(|s| s.members[2].priority = 50);
    w.looks_fail(secs(25), &unreachable());
    w.peer("c", |p| p.cut_off = Some("no answer".into()));
    assert_eq!(asks(&mut w), Some(0));
}

#[test]
fn one_of_doubtful_health_comes_after_a_healthy_one() {
    let mut w = follower(|_| {});
    w.event(Event::Health(Health::Unknown("no answer".into())));
    assert_eq!(asks(&mut w), Some(8));
}

#[test]
fn one_that_may_not_own_leaves_it_to_its_timeout() {
    let mut w = follower(|_| {});
    w.unhealthy();
    assert_eq!(asks(&mut w), None, "unhealthy");
    let mut w = follower(|s| s.members[0].witness = true);
    assert_eq!(asks(&mut w), None, "a witness");
    let mut w = follower(|_| {});
    w.event(Event::Barred(Some("the check is on".into())));
    assert_eq!(asks(&mut w), None, "barred");
}

#[test]
fn of_another_term_and_for_one_that_leads_it_is_nothing() {
    let mut w = follower(|_| {});
    w.follow(2, Some(C));
    assert_eq!(asks(&mut w), None, "the term is over");
    let mut w = follower(|_| {});
    w.follow(1, None);
    w.raft(|v| v.role = Role::Candidate);
    assert_eq!(asks(&mut w), None, "it asks already");
    let mut w = World::failed_over();
    assert_eq!(asks_about(&mut w, 2), None, "it leads");
}
