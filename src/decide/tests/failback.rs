//! Going back to the highest priority, and never for the sake of it.

use super::world::*;
use crate::decide::cause::Cause;
use crate::decide::*;
use crate::ledger::Command;
use crate::model::*;

fn gone(peer: &mut Peer) {
    peer.reachable = false;
}

/// b, of priority 200, was lost; a owns in its place, and b is back but not before `min_hold`.
fn b_is_better() -> World {
    let mut w = World::failed_over_with(|s| {
        s.failback = true;
        s.members[1].priority = 200;
    });
    w.peer("b", gone);
    w.run(secs(20));
    assert!(w.transfers().is_empty() && w.claim().done);
    w.peer("b", |_| {});
    w
}

#[test]
fn it_goes_back_once_the_better_member_has_been_there_for_min_hold() {
    let mut w = b_is_better();
    w.run(ms(9000));
    let waits = w.decide.waits(w.now).expect("it is shown");
    assert_eq!((&waits.to, waits.reason.as_str()), (&name("b"), "failback: b has priority 200, a has 100"));
    assert!((ms(980)..=ms(1000)).contains(&waits.left), "{waits:?}");
    w.run(ms(990));
    assert!(w.open() && w.transfers().is_empty());
    w.run(ms(50));
    assert_eq!(w.transfers(), [B]);
    assert_eq!(w.decide.waits(w.now), None, "it goes");
    let handover = w.ledger.handover.as_ref().expect("recorded");
    assert_eq!(handover.reason, "failback: b has priority 200, a has 100");
    assert_eq!(w.cause(), Cause::Failback);
}

#[test]
fn fault_28_one_that_comes_and_goes_is_not_gone_back_to() {
    let mut w = b_is_better();
    for _ in 0..300 {
        w.run(ms(500));
        w.peer("b", gone);
        w.run(ms(500));
        w.peer("b", |_| {});
    }
    assert!(w.open() && w.transfers().is_empty());
}

#[test]
fn the_new_owner_holds_it_for_min_hold_even_if_the_better_one_is_well() {
    let mut w = World::failed_over_with(|s| {
        s.failback = true;
        s.members[1].priority = 200;
    });
    let since = w.now;
    w.until(|w| !w.transfers().is_empty() || w.now.since(since) >= ms(9900));
    assert!(w.transfers().is_empty());
    w.run(ms(300));
    assert_eq!(w.transfers(), [B]);
}

#[test]
fn it_does_not_go_back_where_that_is_not_wanted_or_not_better() {
    type Change = fn(&mut World);
    let cases: [(&str, Change); 7] = [
        ("unhealthy", |w| drop(w.peer("b", |p| p.health = Health::Unhealthy("down".into())))),
        ("not known to be healthy", |w| drop(w.peer("b", |p| p.health = Health::Unknown("?".into())))),
        ("barred", |w| drop(w.peer("b", |p| p.barred = Some("no route access".into())))),
        ("lags", |w| drop(w.raft(|v| v.last_index = 1000))),
        ("drained", |w| drop(w.apply(Term(2), &Command::Drain { member: name("b") }))),
        ("paused", |w| drop(w.apply(Term(2), &Command::Pause { at: WallMs(1) }))),
        ("no quorum", |w| w.hands.acknowledge = false),
    ];
    for (case, change) in cases {
        let mut w = b_is_better();
        change(&mut w);
        w.run(secs(60));
        assert!(w.transfers().is_empty() && w.decide.waits(w.now).is_none(), "{case}");
    }
    for (case, failback, priority) in [("off", false, 200), ("equal", true, 100)] {
        let mut w = World::steady_with(|s| {
            s.failback = failback;
            s.members[1].priority = priority;
        });
        w.run(secs(60));
        assert!(w.transfers().is_empty(), "{case}");
    }
}

#[test]
fn after_the_end_of_a_pause_or_a_drain_it_goes_back() {
    for (order, end) in [
        (Command::Pause { at: WallMs(1) }, Command::Resume),
        (Command::Drain { member: name("b") }, Command::Undrain { member: name("b") }),
    ] {
        let mut w = b_is_better();
        w.apply(Term(2), &order);
        w.run(secs(60));
        w.apply(Term(2), &end);
        w.run(ms(9990));
        assert!(w.transfers().is_empty(), "{end}");
        w.run(ms(50));
        assert_eq!(w.transfers(), [B], "{end}");
    }
}

#[test]
fn a_failback_that_was_called_off_waits_anew() {
    let mut w = b_is_better();
    w.hands.apply = false;
    w.run(secs(10));
    w.refuse();
    w.log.clear();
    w.forget();
    w.hands.apply = true;
    w.run(ms(9900));
    assert!(w.open() && w.transfers().is_empty());
    w.run(ms(200));
    assert_eq!(w.transfers(), [B]);
}

#[test]
fn an_unhealthy_owner_does_not_wait_for_the_better_member() {
    let mut w = b_is_better();
    w.run(secs(1));
    w.unhealthy();
    w.run(ms(50));
    assert_eq!(w.transfers(), [B]);
    let handover = w.ledger.handover.as_ref().expect("recorded");
    assert_eq!(handover.reason, "HAProxy on a is unhealthy: down");
}
