//! A reload: what it changes, and what it leaves alone.

use super::world::*;
use crate::decide::*;
use crate::model::*;

fn as_it_is(w: &World) -> Tunable {
    let s = &w.settings;
    Tunable {
        tables: s.tables.clone(),
        create_missing: s.create_missing,
        reconcile: s.reconcile,
        on_quorum_loss: s.on_quorum_loss,
        failback: s.failback,
        min_hold: s.min_hold,
    }
}

fn reload(w: &mut World, change: impl FnOnce(&mut Tunable)) -> Vec<Effect> {
    let mut tunable = as_it_is(w);
    change(&mut tunable);
    w.event(Event::Configured(tunable))
}

#[test]
fn a_table_that_is_new_is_looked_at_at_once_and_swapped_under_an_intent() {
    let mut w = World::steady();
    w.forget();
    let mut now_there = w.cloud.tables.clone();
    now_there.push(table("rtb-3"));
    w.cloud.tables = now_there.clone();
    w.cloud.routes.insert(route("rtb-3"), at("eni-b"));
    let effects = reload(&mut w, |t| t.tables = now_there);
    assert!(effects.iter().any(is_look));
    w.run(ms(100));
    let swaps: Vec<_> = w.past.iter().map(|(_, e)| e.clone()).collect();
    assert_eq!(swapped(&swaps), ["rtb-3"], "the others are right");
    assert_eq!(w.cloud.routes.get(&route("rtb-3")), Some(&at("eni-a")));
    assert_eq!(w.decide.repairs(), 0, "nobody had changed it");
}

#[test]
fn a_missing_route_is_created_at_once_when_a_reload_allows_it() {
    let mut w = World::steady();
    w.cloud.routes.insert(route("rtb-1"), Observed::Missing);
    w.run(secs(30));
    assert_eq!(w.cloud.routes.get(&route("rtb-1")), Some(&Observed::Missing), "not allowed");
    reload(&mut w, |t| t.create_missing = true);
    w.run(ms(100));
    assert_eq!(w.cloud.routes.get(&route("rtb-1")), Some(&at("eni-a")));
    assert_eq!(w.decide.route_error(&route("rtb-1")), None);
}

#[test]
fn a_table_that_left_is_left_alone_even_by_a_look_that_was_under_way() {
    let mut w = World::steady();
    w.hands.look = false;
    w.until(|w| !w.asked.is_empty());
    w.cloud.routes.insert(route("rtb-2"), at("eni-c"));
    let with_both = w.cloud.clone();
    let asked = w.asked.remove(0);
    w.pass(ms(1));
    reload(&mut w, |t| t.tables = vec![table("rtb-1")]);
    w.forget();
    // The old look comes back, of both tables; then the new one, of the one that is left.
    w.event(Event::Looked { asked, result: Ok(with_both) });
    w.cloud.tables.retain(|t| *t == table("rtb-1"));
    w.cloud.routes.remove(&route("rtb-2"));
    w.hands.look = true;
    w.run(secs(30));
    assert!(w.told(is_swap).is_empty());
    assert!(w.decide.sight().is_some_and(|s| s.tables == [table("rtb-1")]));
}

#[test]
fn policy_holds_from_the_next_step_on() {
    let mut w = World::steady();
    w.hands.acknowledge = false;
    w.run(secs(60));
    assert_eq!(w.present, [vip()].into(), "hold");
    reload(&mut w, |t| t.on_quorum_loss = OnQuorumLoss::Release);
    w.run(ms(20));
    assert!(w.present.is_empty(), "release");

    let mut w = World::steady_with(|s| s.members[1].priority = 200);
    w.run(secs(60));
    assert!(w.transfers().is_empty(), "no failback");
    reload(&mut w, |t| (t.failback, t.min_hold) = (true, secs(1)));
    w.run(ms(1100));
    assert_eq!(w.transfers().first(), Some(&B));
}

#[test]
fn fault_61_a_reload_in_the_middle_of_a_handover_changes_nothing_of_it() {
    let mut w = World::steady();
    w.hands.apply = false;
    w.ask(1, Some("b"), AskMode::Do);
    assert!(w.decide.is_handing_over() && !w.open());
    reload(&mut w, |t| t.tables = vec![table("rtb-1")]);
    assert!(w.decide.is_handing_over() && !w.open(), "the gate stays closed");
    w.apply_all();
    assert_eq!(w.transfers(), [B]);
    w.follow(3, Some(B));
    w.claimed_by("b", 3, &["rtb-1"]);
    w.moved(true);
    assert!(matches!(w.answers.last(), Some((AskId(1), Ok(Answer::Moved(_))))));
}

#[test]
fn the_same_again_moves_nothing_and_writes_nothing() {
    let mut w = World::steady();
    w.forget();
    for _ in 0..20 {
        reload(&mut w, |_| {});
        w.run(ms(50));
    }
    assert!(w.told(is_swap).is_empty() && w.transfers().is_empty());
    assert_eq!(w.told(|e| matches!(e, Effect::Propose(_))).len(), 0);
}
