//! The address: taken under a permit, let go without one.

use super::world::*;
use crate::decide::*;
use crate::ledger::Kind;
use crate::model::*;

fn is_add(effect: &Effect) -> bool {
    matches!(effect, Effect::AddAddress(..))
}

fn is_remove(effect: &Effect) -> bool {
    matches!(effect, Effect::RemoveAddress(_))
}

/// The owner, its address there; nothing works by itself any more.
fn owner(change: impl FnOnce(&mut Setup)) -> World {
    let mut w = World::steady_with(change);
    assert_eq!(w.present, [vip()].into());
    w.hands.acknowledge = false;
    w.forget();
    w
}

/// b takes over from this member, as planned.
fn switched_over() -> World {
    let mut w = owner(|_| {});
    w.hand_over("a", "b", 2);
    w.follow(3, Some(B));
    w.claimed_by("b", 3, &[]);
    assert_eq!(w.claim().kind, Kind::Switchover);
    w
}

#[test]
fn it_is_added_under_a_permit_and_at_once() {
    let mut w = World::new();
    w.lead(1);
    w.apply_all();
    assert!(w.told(is_add).is_empty());
    let effects = w.acknowledge();
    assert!(effects.iter().any(is_add));
    w.run(ms(10));
    w.forget();
    w.run(secs(5));
    assert!(w.told(is_add).is_empty(), "once is enough");
}

fn lost(w: &World) -> usize {
    w.stories(|s| matches!(s, Story::AddressLost { .. }))
}

#[test]
fn fault_71_deleted_by_an_operator_it_is_back_at_once_and_told() {
    let mut w = World::steady();
    assert_eq!(lost(&w), 0, "its own coming is no loss");
    for times in 1..=2 {
        let effects = w.addresses(&[]);
        assert!(effects.iter().any(is_add));
        assert_eq!(lost(&w), times);
        w.run(ms(10));
        assert_eq!(w.present.len(), 1);
    }
}

#[test]
fn what_it_lets_go_itself_was_not_taken_away() {
    let mut w = switched_over();
    w.moved(true);
    w.run(secs(2));
    assert!(w.present.is_empty());
    assert_eq!(lost(&w), 0);

    let mut w = owner(|s| s.on_quorum_loss = OnQuorumLoss::Release);
    w.run(secs(5));
    assert!(w.present.is_empty());
    assert_eq!(lost(&w), 0);
}

#[test]
fn fault_75_without_its_interface_a_member_is_no_target_and_an_owner_hands_over() {
    let gone = || Event::Interface(Some("its interface vip0 is gone".into()));
    let mut w = World::new();
    w.event(gone());
    assert_eq!(w.decide.unable().as_deref(), Some("its interface vip0 is gone"));
    w.lead(1);
    assert_eq!((w.claims(), w.transfers()), (0, vec![B]));

    let mut w = World::steady();
    w.hands.address = false;
    w.forget();
    w.event(gone());
    w.addresses(&[]);
    w.run(ms(200));
    assert_eq!(w.transfers().first(), Some(&B));
    assert!(w.told(is_add).is_empty(), "there is nothing to add it to");

    let mut w = World::steady();
    w.peer("b", |p| p.reachable = false);
    w.peer("c", |p| p.reachable = false);
    w.event(gone());
    w.addresses(&[]);
    w.run(secs(2));
    assert!(w.open() && w.transfers().is_empty(), "nobody else may own: it stays");
    w.event(Event::Interface(None));
    w.run(ms(20));
    assert_eq!(w.present.len(), 1, "the interface is back, and so is the address");
}

#[test]
fn one_that_cannot_be_added_is_tried_again_but_not_in_a_storm() {
    let mut w = World::steady();
    w.hands.address = false;
    w.forget();
    w.addresses(&[]);
    for _ in 0..100 {
        w.event(Event::AddressTried(vip()));
    }
    assert_eq!(w.told(is_add).len(), 1, "a retry is the next tick's decision");
    for _ in 0..100 {
        w.run(ms(10));
        w.event(Event::AddressTried(vip()));
    }
    assert!((5..=12).contains(&w.told(is_add).len()));
}

#[test]
fn an_attempt_that_is_not_answered_is_made_again_after_a_second() {
    let mut w = World::steady();
    w.hands.address = false;
    w.forget();
    w.addresses(&[]);
    w.run(ms(990));
    assert_eq!(w.told(is_add).len(), 1);
    w.run(ms(20));
    assert_eq!(w.told(is_add).len(), 2);
}

#[test]
fn fault_70_found_at_start_it_stays_until_another_owner_is_known() {
    let mut w = World::restarted(|_| {});
    w.put_addresses();
    w.run(secs(5));
    assert!(w.told(is_remove).is_empty());
    let effects = w.claimed_by("b", 1, &[]);
    assert!(effects.iter().any(is_remove));
}

#[test]
fn after_a_failover_the_old_owner_lets_go_when_it_sees_the_newer_claim() {
    let mut w = owner(|_| {});
    w.pass(secs(60));
    w.follow(3, Some(B));
    assert!(w.told(is_remove).is_empty(), "fault 2: a leader is no owner yet");
    let effects = w.claimed_by("b", 3, &[]);
    assert!(effects.iter().any(is_remove));
    w.run(ms(10));
    assert!(w.present.is_empty());
    w.forget();
    w.run(secs(5));
    assert!(w.told(is_remove).is_empty());
}

#[test]
fn in_a_switchover_the_old_owner_keeps_it_until_the_route_was_read_back() {
    let mut w = switched_over();
    w.run(secs(9));
    assert!(w.told(is_remove).is_empty());
    w.moved(true);
    w.run(ms(990));
    assert!(w.told(is_remove).is_empty(), "what came before the route changed is answered");
    w.run(ms(20));
    assert_eq!(w.told(is_remove).len(), 1);
}

/// A table may be throttled for longer than a move takes: its clients are served here until then.
#[test]
fn in_a_switchover_that_ended_out_of_sync_the_old_owner_keeps_it_until_all_was_read_back() {
    let mut w = switched_over();
    w.run(secs(5));
    w.moved(false);
    w.run_by(secs(3600), secs(1));
    assert!(w.told(is_remove).is_empty());
    w.moved(true);
    w.run(ms(1_010));
    assert_eq!(w.told(is_remove).len(), 1);
}

#[test]
fn a_leader_that_is_about_to_claim_keeps_what_it_has() {
    let mut w = switched_over();
    w.moved(true);
    w.hands.apply = false;
    w.lead(4);
    w.run(secs(5));
    assert!(w.told(is_remove).is_empty() && !w.open(), "its claim is not applied yet");
}

/// It is made owner again just as it lets go.
#[test]
fn what_is_about_to_go_is_not_there_for_the_next_claim() {
    let mut w = switched_over();
    w.moved(true);
    w.hands.address = false;
    w.run(ms(1_100));
    assert_eq!((w.told(is_remove).len(), w.trying.len()), (1, 1), "begun, and not done");
    w.forget();
    w.lead(4);
    w.acknowledge();
    w.apply_all();
    w.run(ms(10));
    assert!(w.told(is_swap).is_empty(), "clients would be led to an address that goes");
    w.try_addresses();
    assert_eq!(w.told(is_add).len(), 1);
    w.try_addresses();
    assert!(!w.present.is_empty());
    w.run(ms(1));
    assert!(!w.told(is_swap).is_empty());
}

/// An owner that is removed hands over first.
#[test]
fn one_that_is_removed_answers_as_long_and_no_longer() {
    for moved in [true, false] {
        let mut w = switched_over();
        if moved {
            w.moved(true);
        }
        w.raft(|v| v.removed = Some(99));
        w.run(ms(990));
        assert_eq!(w.told(is_remove).len(), usize::from(!moved), "it may never learn of the end of a move");
        w.run(ms(110));
        assert_eq!(w.told(is_remove).len(), 1);
    }
}

#[test]
fn a_third_member_drains_nothing() {
    let mut w = switched_over();
    w.claimed_by("c", 4, &[]);
    assert_eq!(w.told(is_remove).len(), 1, "b failed over to c");

    let mut w = switched_over();
    w.hand_over("b", "c", 3);
    w.claimed_by("c", 4, &[]);
    assert_eq!(w.claim().kind, Kind::Switchover);
    assert_eq!(w.told(is_remove).len(), 1, "b handed over to c");
}

#[test]
fn hold_keeps_it_without_a_quorum_for_ever() {
    let mut w = owner(|_| {});
    w.run_by(secs(3600), secs(1));
    w.raft(|v| (v.role, v.leader) = (Role::Candidate, None));
    w.run_by(secs(3600), secs(1));
    assert!(!w.open() && w.told(is_remove).is_empty());
    assert!(w.told(is_swap).is_empty(), "fault 25");
}

#[test]
fn release_lets_go_one_election_timeout_after_the_lease_and_takes_it_back() {
    for candidate in [false, true] {
        let mut w = owner(|s| s.on_quorum_loss = OnQuorumLoss::Release);
        w.acknowledge();
        let end = w.gate.expect("open").deadline();
        w.now = end;
        w.tick();
        if candidate {
            w.raft(|v| (v.role, v.leader) = (Role::Candidate, None));
        }
        w.pass(ms(200));
        assert!(w.told(is_remove).is_empty());
        w.pass(ms(1));
        assert_eq!(w.told(is_remove).len(), 1);
        w.run(ms(10));
        assert!(w.present.is_empty() && w.told(is_swap).is_empty(), "routes stay");
        if !candidate {
            let effects = w.acknowledge();
            assert!(effects.iter().any(is_add), "the quorum is back");
        }
    }
}

#[test]
fn release_waits_for_the_claim_of_a_new_leader_that_is_known() {
    let mut w = owner(|s| s.on_quorum_loss = OnQuorumLoss::Release);
    w.follow(3, Some(C));
    w.run(secs(5));
    assert!(w.told(is_remove).is_empty());
}

#[test]
fn release_keeps_it_while_it_hands_over_with_a_quorum() {
    let mut w = World::failed_over_with(|s| s.on_quorum_loss = OnQuorumLoss::Release);
    w.hands.swap = false;
    w.forget();
    w.ask(1, Some("b"), AskMode::Do);
    w.run(ms(1000));
    assert!(w.decide.is_handing_over() && w.transfers().is_empty());
    w.run(ms(500));
    assert_eq!(w.transfers().first(), Some(&B));
    assert!(w.told(is_remove).is_empty(), "its lease is not over");
}

/// vip.lifetime_s = N: the kernel takes the address away N to N+1 s after the newest refresh, hence N-1 s after a freeze at
/// the earliest, if no refresh is later than a second after the one before.
#[test]
fn its_kernel_lifetime_is_refreshed_every_second_and_never_later() {
    let mut w = World::steady_with(|s| s.refresh_address = Some(secs(1)));
    w.run(secs(2));
    for _ in 0..60 {
        w.forget();
        w.run(secs(1));
        assert!(!w.told(is_add).is_empty(), "a second without a refresh");
    }
}

#[test]
fn its_kernel_lifetime_is_refreshed_under_a_permit_only() {
    let mut w = World::steady_with(|s| s.refresh_address = Some(secs(2)));
    w.forget();
    w.run(secs(20));
    assert_eq!(w.told(is_add).len(), 10);
    w.hands.acknowledge = false;
    w.run(secs(1));
    w.forget();
    w.run(secs(20));
    assert!(w.told(is_add).is_empty(), "the kernel removes it");
}
