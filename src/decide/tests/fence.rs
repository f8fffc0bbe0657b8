//! F-a: the permit and the gate.

use super::world::*;
use crate::decide::*;
use crate::model::*;

/// Claimed, and nobody has acknowledged anything.
fn claimed() -> World {
    let mut w = World::new();
    w.lead(1);
    w.apply_all();
    w
}

fn by(w: &mut World, from: Incarnation, term: u64) -> Vec<Effect> {
    let sent = w.now;
    w.event(Event::Acknowledged { from, term: Term(term), sent, granted: ms(200) })
}

#[test]
fn no_permit_without_a_quorums_acknowledgement() {
    let mut w = claimed();
    w.put_addresses();
    by(&mut w, Incarnation(77), 1);
    by(&mut w, B, 0);
    by(&mut w, B, 2);
    by(&mut w, ME, 1);
    assert!(!w.open(), "a stranger's, another term's, its own");
    let effects = by(&mut w, B, 1);
    let permit = w.gate.expect("one of two others");
    assert_eq!(effects.first(), Some(&Effect::Gate(Some(permit))));
    assert_eq!((permit.term(), permit.epoch()), (Term(1), Epoch(1)));
    assert_eq!(permit.deadline(), w.now + ms(198));
}

#[test]
fn the_gate_closes_one_margin_before_the_lease_ends_and_opens_when_acknowledged() {
    let mut w = claimed();
    w.acknowledge();
    w.pass(ms(187));
    assert!(w.open());
    assert_eq!(w.pass(ms(1)).first(), Some(&Effect::Gate(None)));
    w.pass(ms(500));
    assert!(!w.open());
    w.acknowledge();
    assert!(w.open());
}

#[test]
fn an_old_acknowledgement_renews_nothing() {
    let mut w = claimed();
    w.acknowledge();
    let sent = w.now;
    w.pass(ms(400));
    w.event(Event::Acknowledged { from: B, term: Term(1), sent: sent + ms(100), granted: ms(200) });
    assert!(!w.open());
}

#[test]
fn a_suspended_owner_wakes_with_a_closed_gate() {
    let mut w = World::failed_over();
    let effects = w.pass(secs(30));
    assert_eq!(effects.first(), Some(&Effect::Gate(None)), "fault 24");
    assert!(swapped(&effects).is_empty());
}

#[test]
fn losing_the_role_closes_the_gate_in_that_step() {
    for role in [Role::Learner, Role::Follower, Role::Candidate] {
        let mut w = World::failed_over();
        let effects = w.raft(|v| v.role = role);
        assert_eq!(effects.first(), Some(&Effect::Gate(None)));
    }
}

#[test]
fn a_lease_is_not_carried_into_the_next_term() {
    let mut w = World::failed_over();
    w.lead(3);
    w.apply_all();
    assert!(w.ledger.claim.as_ref().is_some_and(|c| c.term == Term(3)));
    assert!(!w.open());
}

#[test]
fn while_members_change_both_quorums_must_stand() {
    let mut w = claimed();
    w.acknowledge();
    w.raft(|v| v.configs.push([ME, C, Incarnation(4)].into()));
    assert!(!w.open(), "b is not in the new set");
    by(&mut w, C, 1);
    assert!(w.open());
}

#[test]
fn every_swap_carries_the_open_permit_and_a_call_in_the_air_may_go_on_under_a_renewed_one() {
    let mut w = World::failed_over();
    let first = w.air.first().expect("a swap").1;
    assert_eq!(Some(first), w.gate);
    assert_eq!((first.term(), first.epoch()), (Term(2), Epoch(2)));
    w.run(ms(20));
    let renewed = w.gate.expect("open");
    assert!(renewed.deadline() > first.deadline());
    let gate = Gate::new(w.settings.margin);
    assert!(gate.check(&first, w.now).is_err(), "closed at first");
    gate.set(w.gate);
    assert_eq!(gate.check(&first, w.now), Ok(()));
    assert_eq!(gate.check(&first, renewed.deadline()), Err(Fenced::LeaseOver));
    let other = Permit::for_tests(Term(2), Epoch(9), Time::MAX);
    assert_eq!(gate.check(&other, w.now), Err(Fenced::Superseded));
}

#[test]
fn a_member_alone_in_its_group_needs_nobody() {
    let mut w = World::with(|s| s.members.truncate(1));
    w.lead(1);
    w.apply_all();
    assert_eq!(w.gate.map(|p| p.deadline()), Some(Time::MAX));
}

/// CLOCK_BOOTTIME goes on while nothing runs: whatever comes first finds the lease over.
#[test]
fn fault_24_after_a_suspension_the_gate_is_shut_whatever_comes_first() {
    let gate = |w: &World| {
        let gate = Gate::new(w.settings.margin);
        gate.set(w.gate);
        gate
    };
    let mut w = World::failed_over();
    let (held, open) = (gate(&w), w.gate.expect("open"));
    let slept = w.now + secs(30);
    assert_eq!(held.check(&open, w.now), Ok(()));
    // The thread that wakes first is the one that polls the body: no step has run.
    assert_eq!(held.check(&open, slept), Err(Fenced::LeaseOver));
    w.now = slept;
    let effects = w.tick();
    assert_eq!(effects.first(), Some(&Effect::Gate(None)));
    assert!(w.told(is_swap).iter().all(|at| *at < slept));
    // An answer from before the suspension renews nothing.
    let sent = Time::from_nanos(slept.as_nanos() - 30_000_000_000);
    w.event(Event::Acknowledged { from: B, term: Term(2), sent, granted: ms(200) });
    assert!(!w.open());
    w.follow(3, Some(B));
    w.claimed_by("b", 3, &[]);
    assert!(w.told(|e| matches!(e, Effect::RemoveAddress(_))).len() == 1, "as for one that was frozen");
}
