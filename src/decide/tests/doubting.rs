//! What is not known of a member's health, and who is left when one is left out.

use super::world::*;
use crate::decide::*;
use crate::model::*;

fn unknown(peer: &mut Peer) {
    peer.health = Health::Unknown("no socket".into());
}

fn ill(peer: &mut Peer) {
    peer.health = Health::Unhealthy("down".into());
}

fn in_doubt() -> Event {
    Event::Health(Health::Unknown("no socket".into()))
}

#[test]
fn the_known_healthy_go_before_the_unknown_and_these_before_the_unhealthy() {
    let chosen = |b: fn(&mut Peer), c: fn(&mut Peer)| {
        let mut w = World::with(|s| s.eni = None);
        w.peer("b", b);
        w.peer("c", c);
        w.lead(1);
        w.transfers()
    };
    assert_eq!(chosen(unknown, |_| {}), [C]);
    assert_eq!(chosen(unknown, |p| p.health = Health::NotChecked), [C]);
    assert_eq!(chosen(ill, unknown), [C]);
    assert_eq!(chosen(unknown, ill), [B]);
    assert_eq!(chosen(unknown, unknown), [B]);
}

#[test]
fn a_leader_of_unknown_health_stands_back_for_a_known_healthy_member_only() {
    let mut w = World::new();
    w.event(in_doubt());
    w.peer("b", unknown);
    w.lead(1);
    assert_eq!((w.claims(), w.transfers()), (0, vec![C]));

    for health in [in_doubt(), Event::Health(Health::Unhealthy("down".into()))] {
        let mut w = World::new();
        w.event(health);
        w.peer("b", unknown);
        w.peer("c", ill);
        w.lead(1);
        assert_eq!((w.claims(), w.transfers().len()), (1, 0), "nobody is known to be better");
    }
}

#[test]
fn an_owner_of_unknown_health_stays() {
    let mut w = World::steady();
    w.event(in_doubt());
    w.run(secs(20));
    assert!(w.open() && w.transfers().is_empty());
}

#[test]
fn an_unhealthy_owner_leaves_for_nobody_of_unknown_health() {
    let mut w = World::steady();
    w.peer("b", unknown);
    w.peer("c", unknown);
    w.unhealthy();
    w.run(secs(20));
    assert!(w.open() && w.transfers().is_empty());
    w.peer("c", |_| {});
    w.run(ms(50));
    assert_eq!(w.transfers(), [C]);
}

#[test]
fn an_operator_may_hand_over_to_a_member_of_unknown_health() {
    for (to, chosen) in [(Some("b"), B), (None, C)] {
        let mut w = World::steady();
        w.peer("b", unknown);
        w.ask(1, to, AskMode::Do);
        w.apply_all();
        assert_eq!(w.transfers(), [chosen]);
    }
    let mut w = World::steady();
    w.peer("b", unknown);
    w.peer("c", ill);
    w.ask(1, None, AskMode::Do);
    w.apply_all();
    assert_eq!(w.transfers(), [B], "better than a failover");
}

#[test]
fn a_health_move_goes_at_once_to_another_than_the_one_that_just_lost_ownership() {
    let mut w = World::failed_over();
    w.unhealthy();
    w.run(ms(200));
    assert_eq!(w.transfers(), [C], "b, the better one, lost it a moment ago");
}

#[test]
fn while_members_change_the_last_config_says_who_is_who() {
    let again = Incarnation(5);
    let mut w = World::with(|s| s.eni = None);
    w.raft(|v| {
        v.nodes.insert(again, member("b", 90));
        v.configs.push([ME, C, again].into());
    });
    w.lead(1);
    assert_eq!(w.transfers(), [again], "it came back with a new disk");

    let mut w = World::with(|s| s.eni = None);
    w.raft(|v| v.configs.push([ME, C].into()));
    w.lead(1);
    assert_eq!(w.transfers(), [C], "b is leaving");
}

#[test]
fn it_owns_only_while_a_quorum_stands_behind_it() {
    let mut w = World::steady();
    assert!(w.decide.owns(w.now));
    w.hands.acknowledge = false;
    w.run(ms(300));
    assert!(w.decide.is_owner() && !w.decide.owns(w.now));
    w.acknowledge();
    assert!(w.decide.owns(w.now));
    w.follow(3, Some(B));
    assert!(!w.decide.owns(w.now));
}
