//! Reading back and putting right (F-c).

use super::world::*;
use crate::decide::*;
use crate::ledger::Command;
use crate::model::route::{CloudError, Outcome};
use crate::model::*;

fn intents(w: &World) -> Vec<Vec<RouteKey>> {
    let of = |(_, c): &(Term, Command)| match c {
        Command::Intent { routes, .. } => Some(routes.clone()),
        _ => None,
    };
    w.log.iter().filter_map(of).collect()
}

fn gaps_ms(times: &[Time]) -> Vec<u128> {
    times.windows(2).map(|p| p[1].since(p[0]).as_millis()).collect()
}

#[test]
fn a_wrong_route_gets_an_intent_first_and_is_swapped_once_that_is_applied() {
    let mut w = World::steady();
    w.hands.apply = false;
    w.cloud.routes.insert(route("rtb-1"), at("eni-x"));
    w.forget();
    w.until(|w| !w.log.is_empty());
    assert_eq!(intents(&w), [[route("rtb-1")]]);
    w.run(ms(500));
    assert!(w.told(is_swap).is_empty(), "proposed is not committed");
    assert_eq!(swapped(&w.apply_next()), ["rtb-1"]);
    assert_eq!(w.decide.repairs(), 1);
}

/// An intent is one log entry, and a tag may name more tables than it holds.
#[test]
fn an_intent_names_no_more_routes_than_an_entry_holds_and_the_rest_follows() {
    let mut w = World::steady();
    w.hands.apply = false;
    let n = route::ROUTES_MAX + 10;
    w.cloud.tables = (0..n).map(|i| table(&format!("rtb-{i:08x}"))).collect();
    let wrong: Vec<_> = w.cloud.tables.iter().map(|t| RouteKey { table: t.clone(), vip: vip() }).collect();
    w.cloud.routes.extend(wrong.iter().map(|route| (route.clone(), at("eni-x"))));
    w.until(|w| !w.log.is_empty());
    assert_eq!(intents(&w)[0].len(), route::ROUTES_MAX);
    w.hands.apply = true;
    w.run(secs(120));
    let left: Vec<_> = wrong.iter().filter(|route| w.cloud.routes.get(route) != Some(&at("eni-a"))).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_blackhole_and_a_foreign_target_are_put_right() {
    // A black hole of its own interface is fault 41.
    for wrong in [Observed::Blackhole(Some(eni("eni-b"))), Observed::Active(None)] {
        let mut w = World::steady();
        w.cloud.routes.insert(route("rtb-2"), wrong);
        w.forget();
        w.run(secs(12));
        assert_eq!(w.told(is_swap).len(), 1);
        assert_eq!(w.cloud.routes.get(&route("rtb-2")), Some(&at("eni-a")));
    }
}

#[test]
fn an_intent_that_outlived_its_wait_covers_only_its_own_routes() {
    let mut w = World::steady();
    w.hands.apply = false;
    w.cloud.routes.insert(route("rtb-1"), at("eni-x"));
    w.until(|w| !w.log.is_empty());
    w.cloud.routes.insert(route("rtb-2"), at("eni-x"));
    w.until(|w| w.log.len() == 2);
    assert_eq!(intents(&w)[1], [route("rtb-1"), route("rtb-2")]);
    assert!(!swapped(&w.apply_next()).contains(&"rtb-2"), "not yet committed");
    w.apply_next();
    w.hands.apply = true;
    w.run(secs(3));
    assert_eq!(w.cloud.routes.get(&route("rtb-2")), Some(&at("eni-a")));
}

#[test]
fn an_intent_that_failed_is_made_anew_by_the_next_look() {
    let mut w = World::steady();
    w.hands.apply = false;
    w.cloud.routes.insert(route("rtb-1"), at("eni-x"));
    w.until(|w| !w.log.is_empty());
    w.event(Event::ProposalFailed(Command::Calm { epoch: w.claim().epoch }));
    assert!(w.decide.wake(w.now) <= w.now + ms(10), "another one's failure: it waits on");
    w.refuse();
    w.log.clear();
    assert!(w.decide.wake(w.now) > w.now + ms(10), "its own");
    assert!(w.log.is_empty());
    w.until(|w| !w.log.is_empty());
    assert_eq!(swapped(&w.apply_next()), ["rtb-1"]);
}

#[test]
fn a_look_asked_before_the_swap_ended_proves_nothing() {
    for shown in ["eni-b", "eni-a"] {
        let mut w = World::failed_over();
        w.now = w.now + ms(30);
        assert_eq!(w.asked.len(), 1, "asked with the claim");
        w.finish(&done());
        for t in ["rtb-1", "rtb-2"] {
            w.cloud.routes.insert(route(t), at(shown));
        }
        w.now = w.now + ms(10);
        let effects = w.answer_looks();
        assert!(proposed(&effects).is_empty(), "neither wrong nor right: {shown}");
        assert!(effects.contains(&Effect::Look), "the next one is due at once");
    }
}

#[test]
fn fault_42_reads_that_lag_make_no_storm() {
    let mut w = World::failed_over();
    w.hands.fresh = false;
    w.run(secs(48));
    let of_1 = |e: &Effect| matches!(e, Effect::Swap(s, _) if s.route == route("rtb-1"));
    let gaps = gaps_ms(&w.told(of_1));
    let least = [1000, 2000, 4000, 8000, 10_000, 10_000, 10_000];
    assert_eq!(gaps.len(), least.len(), "{gaps:?}");
    for (gap, least) in gaps.iter().zip(least) {
        assert!((least..least + 1100).contains(gap), "fault 42: {gaps:?}");
    }
    w.forget();
    for t in ["rtb-1", "rtb-2"] {
        w.cloud.routes.insert(route(t), at("eni-a"));
    }
    w.run(secs(60));
    assert!(w.told(is_swap).is_empty());
}

#[test]
fn fault_43_somebody_who_keeps_changing_a_route_is_answered_ever_more_slowly() {
    let mut w = World::failed_over();
    for _ in 0..6000 {
        w.run(ms(10));
        w.cloud.routes.insert(route("rtb-1"), at("eni-x"));
    }
    let gaps = gaps_ms(&w.told(is_swap));
    assert!((5..12).contains(&gaps.len()), "fault 43: {gaps:?}");
    assert!(gaps.iter().take(4).all(|g| *g < 10_000), "quick at first: {gaps:?}");
    assert!(gaps.iter().rev().take(2).all(|g| *g >= 10_000), "{gaps:?}");
    // Left alone for a minute, it starts anew.
    w.run(secs(80));
    w.forget();
    w.hands.fresh = false;
    w.cloud.routes.insert(route("rtb-1"), at("eni-x"));
    w.run(secs(13));
    let gaps = gaps_ms(&w.told(is_swap));
    assert!(gaps.first().is_some_and(|g| *g < 2000), "{gaps:?}");
}

#[test]
fn after_a_claim_it_looks_at_0_a_quarter_half_and_one_second_then_every_second_for_15() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.lead(2);
    w.acknowledge();
    w.forget();
    let start = w.now;
    w.apply_next();
    w.put_addresses();
    w.run(secs(60));
    let looks: Vec<u128> = w.told(is_look).iter().map(|t| t.since(start).as_millis()).collect();
    let near = |ms: u128| looks.iter().any(|l| l.abs_diff(ms) <= 30);
    assert!([0, 250, 500].into_iter().all(near), "{looks:?}");
    assert!((1..=15).all(|s| near(s * 1000)), "{looks:?}");
    let later = looks.iter().filter(|l| **l > 16_000).count();
    assert!((4..=5).contains(&later), "then by reconcile: {looks:?}");
}

#[test]
fn a_route_that_is_wrong_is_read_every_second_until_it_is_right() {
    let mut w = World::steady();
    w.hands.swap = false;
    w.cloud.routes.insert(route("rtb-1"), at("eni-x"));
    w.until(|w| !w.air.is_empty());
    w.forget();
    w.run(secs(10));
    assert!((9..=11).contains(&w.told(is_look).len()));
}

#[test]
fn fault_40_a_missing_route_is_told_once_and_created_only_where_that_is_allowed() {
    let missing = |create_missing| {
        let mut w = World::steady_with(|s| s.create_missing = create_missing);
        w.cloud.routes.insert(route("rtb-1"), Observed::Missing);
        w.forget();
        w.run(secs(30));
        w
    };
    let told = |e: &Effect| matches!(e, Effect::Tell(Story::RouteMissing { .. }));
    let w = missing(false);
    assert!(w.told(is_swap).is_empty());
    assert_eq!(w.told(told).len(), 1);
    let error = w.decide.route_error(&route("rtb-1")).expect("an error");
    let command = "create it with aws ec2 create-route --route-table-id rtb-1 --destination-cidr-block 192.168.77.10/32 \
                   --network-interface-id eni-a, or ";
    assert!(error.contains(command), "fault 40: {error}");
    let words = |s: &Story| matches!(s, Story::RouteMissing { words, .. } if words == error);
    assert_eq!(w.stories(words), 1, "the log has it as well");
    let w = missing(true);
    let create = |e: &Effect| matches!(e, Effect::Swap(s, _) if s.verb == crate::model::route::Verb::Create);
    assert_eq!((w.told(create).len(), w.told(told).len()), (1, 0));
    assert_eq!(w.decide.route_error(&route("rtb-1")), None);
}

#[test]
fn fault_39_a_table_that_is_absent_is_not_in_sync_and_the_others_are_swapped() {
    let mut w = World::with(|s| s.tables.push(table("rtb-3")));
    w.cloud.tables.retain(|t| *t != table("rtb-2"));
    w.cloud.routes.remove(&route("rtb-2"));
    w.cloud.absent = [table("rtb-2")].into();
    w.claimed_by("b", 1, &[]);
    w.lead(2);
    w.acknowledge();
    w.apply_all();
    w.put_addresses();
    let start = w.now;
    for (swap, permit) in std::mem::take(&mut w.air) {
        let outcome = if swap.route == route("rtb-2") {
            Outcome::Refused(CloudError::NotFound {
                action: "ReplaceRoute",
                code: "InvalidRouteTableID.NotFound".into(),
                message: "gone".into(),
            })
        } else {
            done()
        };
        w.finish_one(swap, permit, outcome);
    }
    w.forget();
    w.run(ms(4980));
    assert!(!w.claim().done, "fault 39");
    w.run(ms(40));
    assert!(w.claim().done, "five seconds after the claim at {start:?}");
    assert!(w.ledger.last_move().is_some_and(|m| !m.in_sync));
    for t in ["rtb-1", "rtb-3"] {
        assert_eq!(w.cloud.routes.get(&route(t)), Some(&at("eni-a")));
    }
    assert!(w.told(is_swap).is_empty(), "nothing is called for what is not there");
    assert!(w.decide.route_error(&route("rtb-2")).is_some());
}

#[test]
fn a_look_that_failed_is_shown_and_asked_again() {
    let mut w = World::steady();
    w.hands.look = false;
    w.until(|w| !w.asked.is_empty());
    let asked = w.asked.pop().expect("a look");
    let (result, before) = (Err(timeout()), w.decide.sight().cloned());
    w.event(Event::Looked { asked, result });
    assert_eq!(w.decide.look_error(), Some("ReplaceRoute: no answer within 1000 ms"));
    assert_eq!(w.decide.sight().cloned(), before, "what was seen stays");
    w.run(ms(1100));
    assert_eq!(w.asked.len(), 1, "a second later");
    w.answer_looks();
    assert_eq!(w.decide.look_error(), None);
}

#[test]
fn a_look_that_never_comes_back_is_given_up_after_three_attempts_time() {
    let mut w = World::steady();
    w.hands.look = false;
    w.until(|w| !w.asked.is_empty());
    w.run(ms(2990));
    assert_eq!(w.asked.len(), 1, "one at a time");
    w.run(ms(10));
    assert_eq!(w.asked.len(), 2);
    let late = w.asked.remove(0);
    let before = w.decide.sight().cloned();
    let result = Ok(crate::model::route::Sight::default());
    w.event(Event::Looked { asked: late, result });
    assert_eq!(w.decide.sight().cloned(), before, "nobody waits for it");
}

#[test]
fn one_that_is_not_the_owner_looks_every_ten_seconds_and_changes_nothing() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.cloud.routes.insert(route("rtb-1"), at("eni-x"));
    w.forget();
    w.run(secs(60));
    assert_eq!(w.told(is_look).len(), 6);
    assert!(w.told(|e| matches!(e, Effect::Propose(_))).is_empty());
}
