//! A handover that was called off leaves no trace.

use super::world::*;
use crate::decide::*;
use crate::ledger::{Command, Kind};
use crate::model::*;

fn ill(peer: &mut Peer) {
    peer.health = Health::Unhealthy("down".into());
}

fn recalls(w: &World) -> usize {
    w.told(|e| matches!(e, Effect::Propose(Command::Recall { .. }))).len()
}

/// The ledger knows of a move to b, which has just turned out to be unfit. The recall is on its way.
fn called_off() -> World {
    let mut w = World::steady();
    w.hands.apply = false;
    w.ask(1, Some("b"), AskMode::Do);
    w.peer("b", ill);
    w.apply_next();
    assert!(w.open() && w.ledger.handover.is_some());
    assert_eq!((w.log.len(), recalls(&w)), (1, 1));
    w
}

#[test]
fn a_failover_after_it_is_no_switchover() {
    let mut w = called_off();
    w.apply_all();
    assert_eq!(w.ledger.handover, None);
    w.run(secs(5));
    assert_eq!(recalls(&w), 1, "once it is known");
    w.follow(3, Some(B));
    w.claimed_by("b", 3, &[]);
    assert_eq!(w.claim().kind, Kind::Failover);
    assert_eq!(w.ledger.last_move().map(|m| m.reason.as_str()), Some("leader lost"));
}

#[test]
fn a_recall_that_the_log_refused_or_lost_is_made_again() {
    for refused in [true, false] {
        let mut w = called_off();
        if refused {
            w.refuse();
        }
        w.log.clear();
        w.hands.apply = true;
        w.run(if refused { ms(50) } else { ms(1200) });
        assert_eq!((w.ledger.handover.as_ref(), recalls(&w)), (None, 2));
    }
}

#[test]
fn a_record_that_the_log_took_late_is_recalled_too() {
    let mut w = World::steady();
    w.hands.apply = false;
    w.ask(1, Some("b"), AskMode::Do);
    w.run(secs(1));
    assert_eq!(recalls(&w), 1, "it may be in the log already");
    w.log.pop_back();
    w.run(secs(2));
    w.apply_next();
    assert!(w.ledger.handover.is_some());
    w.apply_all();
    assert_eq!(w.ledger.handover, None);
    assert!(w.open() && w.transfers().is_empty());
}

#[test]
fn the_next_handover_waits_for_its_own_record_and_an_older_recall_leaves_it_alone() {
    let mut w = called_off();
    w.now = w.now + ms(5);
    w.acknowledge();
    w.peer("b", |_| {});
    // An operator would have to wait for a second.
    w.ask_by(2, Some("b"), AskMode::Do, Asker::Member);
    w.pass(ms(1));
    assert!(w.decide.is_handing_over() && w.transfers().is_empty());
    let (term, recall) = w.log.front().cloned().expect("the recall");
    w.apply_all();
    assert_eq!(w.transfers(), [B]);
    w.apply(term, &recall);
    assert!(w.ledger.handover.is_some());
}

#[test]
fn another_proposals_failure_calls_nothing_off() {
    let mut w = World::steady();
    w.ask(1, Some("b"), AskMode::Do);
    let (_, mine) = w.log.back().cloned().expect("the record");
    w.event(Event::ProposalFailed(Command::Calm { epoch: w.claim().epoch }));
    if let Command::Handover { from, to, term, reason, .. } = mine {
        w.event(Event::ProposalFailed(Command::Handover { from, to, term, reason, at: WallMs(1) }));
    }
    assert!(w.decide.is_handing_over() && w.answers.is_empty());
    w.apply_all();
    assert_eq!(w.transfers(), [B]);
}
