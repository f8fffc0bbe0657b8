//! How a move ends, and what is known of its calls.

use super::world::*;
use crate::decide::*;
use crate::ledger::{Command, Kind, Phases};
use crate::model::route::Outcome;
use crate::model::*;

const MINUTE: u64 = 60;

fn calms(w: &World) -> Vec<Time> {
    w.told(|e| matches!(e, Effect::Propose(Command::Calm { .. })))
}

/// Every step of a move takes another time; the ends are milliseconds after the old owner was
/// last heard.
fn moved_by(planned: bool) -> World {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    if planned {
        w.hand_over("b", "a", 1);
    }
    let t0 = w.now;
    w.raft(|v| v.heard = Some(t0));
    w.now = t0 + ms(175);
    w.view.campaigned = Some(t0 + ms(170));
    w.lead(2);
    w.acknowledge();
    w.now = t0 + ms(178);
    w.apply_all();
    w.now = t0 + ms(179);
    w.put_addresses();
    w.answer_looks();
    w.now = t0 + ms(209);
    w.acknowledge();
    w.finish(&done());
    w.now = t0 + ms(213);
    w.answer_looks();
    w.apply_all();
    w
}

#[test]
fn a_swap_whose_intent_was_settled_while_it_waited_is_not_handed_out() {
    let mut w = World::failed_over();
    w.hands.apply = false;
    w.run(ms(500));
    w.apply_next();
    w.run(ms(20));
    // Its Outcome is on its way. Raft's reports flap: it leads the same term again, without a lease.
    w.follow(2, None);
    w.lead(2);
    w.forget();
    w.apply_all();
    assert!(w.ledger.unsettled.is_empty());
    w.acknowledge();
    assert!(w.told(is_swap).is_empty());
}

#[test]
fn a_move_ends_when_it_was_read_back_and_its_phases_sum_up_to_its_total() {
    for planned in [false, true] {
        let w = moved_by(planned);
        let m = w.ledger.last_move().expect("a move");
        let us = |n: u64| Some(n * 1000);
        let (detect, elect) = if planned { (None, us(175)) } else { (us(170), us(5)) };
        let expected = Phases { detect, elect, claim: us(3), address: us(1), route: us(30), verify: us(4) };
        assert_eq!(m.phases, expected);
        assert_eq!(m.total_us, us(213));
        assert!(m.in_sync && w.claim().done);
        assert_eq!(m.request_ids, ["req", "req"]);
        let kind = if planned { Kind::Switchover } else { Kind::Failover };
        assert_eq!(m.kind, kind);
    }
}

#[test]
fn phases_sum_up_whatever_is_missing() {
    for (address, old_campaign) in [(false, false), (true, true), (false, true)] {
        let mut w = World::new();
        w.claimed_by("b", 1, &[]);
        let t0 = w.now;
        w.now = t0 + ms(500);
        let heard = w.now;
        w.raft(|v| {
            v.heard = (!old_campaign).then_some(heard);
            v.campaigned = Some(t0);
        });
        w.now = w.now + ms(7);
        w.hands.address = address;
        w.lead(2);
        w.run(secs(8));
        let m = w.ledger.last_move().expect("a move");
        let p = m.phases;
        let parts = [p.detect, p.elect, p.claim, p.address, p.route, p.verify];
        assert_eq!(Some(parts.iter().flatten().sum()), m.total_us);
        assert_eq!(p.address.is_some(), address);
    }
}

#[test]
fn a_move_that_cannot_be_verified_ends_after_five_seconds() {
    let mut w = World::failed_over();
    w.hands.fresh = false;
    w.run(ms(4990));
    assert!(!w.claim().done);
    w.run(ms(20));
    assert!(w.claim().done);
    assert!(w.ledger.last_move().is_some_and(|m| !m.in_sync));
    w.run(secs(5));
    assert!(w.ledger.last_move().is_some_and(|m| !m.in_sync));
    // When it can, the ledger learns that as well, once.
    w.hands.fresh = true;
    w.forget();
    w.run(secs(15));
    assert!(w.ledger.last_move().is_some_and(|m| m.in_sync));
    assert_eq!(w.told(|e| matches!(e, Effect::Propose(Command::Moved { .. }))).len(), 1);
}

#[test]
fn the_end_of_a_move_is_proposed_until_the_log_has_it_once_a_second() {
    let mut w = World::failed_over();
    w.hands.apply = false;
    w.run(ms(500));
    assert_eq!(w.log.len(), 1);
    for _ in 0..50 {
        w.refuse();
    }
    assert_eq!(w.log.len(), 1, "a retry is the next tick's decision");
    w.run(ms(20));
    assert_eq!(w.log.len(), 2);
    w.run(ms(2500));
    assert_eq!(w.log.len(), 4);
}

#[test]
fn fault_36_known_outcomes_are_settled_and_unknown_ones_stay() {
    let mut w = World::failed_over();
    for (swap, permit) in std::mem::take(&mut w.air) {
        let outcome = if swap.route == route("rtb-1") { done() } else { Outcome::Unknown(timeout()) };
        // Fault 36: EC2 did it all the same.
        w.cloud.routes.insert(swap.route.clone(), at("eni-a"));
        w.finish_one(swap, permit, outcome);
    }
    let ended = w.now;
    w.forget();
    w.run(secs(5));
    assert!(w.claim().done);
    assert!(w.told(is_swap).is_empty(), "the look decided, not the memory");
    let left: Vec<_> = w.ledger.unsettled.keys().cloned().collect();
    assert_eq!(left, [route("rtb-2")]);
    w.run_by(secs(14 * MINUTE), ms(50));
    assert!(calms(&w).is_empty());
    w.run_by(secs(MINUTE), ms(50));
    assert_eq!(calms(&w).len(), 1);
    assert!(calms(&w)[0].since(ended) >= secs(15 * MINUTE));
    assert!(w.ledger.unsettled.is_empty());
}

#[test]
fn a_later_call_that_ended_well_does_not_settle_an_earlier_unknown_one() {
    let mut w = World::failed_over();
    w.finish(&Outcome::Unknown(timeout()));
    w.run(secs(10));
    assert_eq!(w.told(is_swap).len(), 4, "nothing had been done: again");
    assert!(w.claim().done);
    assert_eq!(w.ledger.unsettled.len(), 2, "the first calls may land for 15 minutes");
    w.follow(3, Some(B));
    w.claimed_by("b", 3, &[]);
    assert!(w.ledger.stray, "and a successor learns of it");
}

#[test]
fn the_15_minutes_count_from_the_newest_unknown_call() {
    let mut w = World::steady();
    w.run_by(secs(5 * MINUTE), ms(50));
    w.hands.swap = false;
    w.cloud.routes.insert(route("rtb-1"), at("eni-x"));
    w.until(|w| !w.air.is_empty());
    w.finish(&Outcome::Unknown(timeout()));
    w.cloud.routes.insert(route("rtb-1"), at("eni-a"));
    let ended = w.now;
    w.run_by(secs(16 * MINUTE), ms(50));
    assert_eq!(calms(&w).len(), 1);
    assert!(calms(&w)[0].since(ended) >= secs(15 * MINUTE));
}

#[test]
fn what_the_fence_stopped_and_what_ec2_refused_is_known() {
    for outcome in [Outcome::Fenced(Fenced::Closed), Outcome::Refused(timeout())] {
        let mut w = World::failed_over();
        w.finish(&outcome);
        w.run(secs(6));
        assert!(w.ledger.unsettled.is_empty());
    }
}

#[test]
fn fault_45_a_predecessors_unknown_call_is_looked_for_fast_for_15_minutes_then_there_is_calm() {
    let mut w = World::new();
    w.claimed_by("b", 1, &["rtb-1"]);
    w.lead(2);
    w.run(secs(10));
    assert!(w.ledger.stray);
    w.run_by(secs(13 * MINUTE), ms(50));
    w.forget();
    w.run_by(secs(MINUTE), ms(50));
    assert!((55..=61).contains(&w.told(is_look).len()), "every second");
    // Fault 45: it lands as late as it can.
    w.cloud.routes.insert(route("rtb-1"), at("eni-b"));
    w.run_by(secs(3), ms(50));
    assert_eq!(w.cloud.routes.get(&route("rtb-1")), Some(&at("eni-a")), "within R");
    assert!(calms(&w).is_empty());
    w.run_by(secs(2 * MINUTE), ms(50));
    assert_eq!(calms(&w).len(), 1);
    assert!(!w.ledger.stray && w.ledger.unsettled.is_empty());
    w.forget();
    w.run_by(secs(MINUTE), ms(50));
    assert!((5..=7).contains(&w.told(is_look).len()), "by reconcile again");
}

#[test]
fn where_nothing_is_in_doubt_there_is_nothing_to_calm() {
    let mut w = World::steady();
    w.run_by(secs(20 * MINUTE), ms(50));
    assert!(calms(&w).is_empty());
}

#[test]
fn an_owner_that_lost_its_role_with_calls_in_the_air_leaves_them_unsettled() {
    let mut w = World::failed_over();
    w.follow(3, Some(B));
    w.finish(&done());
    w.claimed_by("b", 3, &[]);
    assert!(w.ledger.stray);
}

#[test]
fn a_log_that_refuses_the_end_of_a_move_is_asked_ever_more_seldom() {
    let mut w = World::failed_over();
    w.hands.apply = false;
    w.run(ms(500));
    w.forget();
    for _ in 0..1000 {
        if !w.log.is_empty() {
            w.refuse();
            w.log.clear();
        }
        w.now = w.now + ms(1);
        w.acknowledge();
    }
    let moved = |e: &Effect| matches!(e, Effect::Propose(Command::Moved { .. }));
    assert!((10..=20).contains(&w.told(moved).len()), "{}", w.told(moved).len());
}

#[test]
fn that_a_move_is_over_is_told_once_when_the_ledger_has_it() {
    let over = |s: &Story| matches!(s, Story::MoveOver { .. });
    let mut w = World::failed_over();
    w.hands.apply = false;
    w.run(secs(4));
    assert_eq!((w.stories(over), w.log.len()), (0, 4), "proposed is not over");
    w.hands.apply = true;
    w.run(secs(20));
    let phases = w.ledger.last_move().expect("a move").phases;
    let told = Effect::Tell(Story::MoveOver { kind: Kind::Failover, phases });
    assert_eq!((w.told(|e| *e == told).len(), w.stories(over)), (1, 1));

    let mut w = World::failed_over();
    w.hands.apply = false;
    w.run(ms(500));
    w.ask(1, Some("b"), AskMode::Do);
    w.apply_next();
    assert!(w.decide.is_handing_over());
    assert_eq!(w.stories(over), 1, "handed over meanwhile");
}

#[test]
fn a_move_of_an_earlier_process_is_not_told_again() {
    let mut w = World::restarted(|_| {});
    w.claimed_by("a", 1, &[]);
    w.moved(true);
    w.run(secs(1));
    assert_eq!(w.stories(|s| matches!(s, Story::MoveOver { .. })), 0);
}

#[test]
fn an_outcome_that_the_log_refused_or_lost_is_proposed_again() {
    for refused in [true, false] {
        let mut w = World::failed_over();
        w.hands.apply = false;
        w.run(ms(500));
        w.apply_next();
        let is_outcome = |(_, c): &(Term, Command)| matches!(c, Command::Outcome { .. });
        assert!(w.log.back().is_some_and(is_outcome));
        if refused {
            w.refuse();
        }
        w.log.clear();
        w.hands.apply = true;
        w.run(if refused { ms(200) } else { ms(1200) });
        assert!(w.ledger.unsettled.is_empty());
        w.forget();
        w.run(secs(5));
        assert!(w.told(|e| matches!(e, Effect::Propose(_))).is_empty(), "once it is known");
    }
}

#[test]
fn where_no_table_is_found_nothing_is_in_sync() {
    let mut w = World::failed_over_with(|s| s.tables.clear());
    w.run(ms(4990));
    assert!(!w.claim().done);
    w.run(secs(1));
    assert!(w.claim().done);
    assert!(w.ledger.last_move().is_some_and(|m| !m.in_sync));
}
