//! The first swaps after a claim.

use super::world::*;
use crate::decide::*;
use crate::model::route::{Outcome, Verb};
use crate::model::*;

#[test]
fn a_failover_swaps_at_once_and_reads_nothing_first() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.lead(2);
    w.acknowledge();
    w.put_addresses();
    w.forget();
    let effects = w.apply_next();
    assert_eq!(swapped(&effects), ["rtb-1", "rtb-2"], "in the tables' order");
}

#[test]
fn a_first_start_and_a_renewal_look_first_and_call_nothing_when_the_route_is_right() {
    for renewal in [false, true] {
        let mut w = World::new();
        if renewal {
            w.claimed_by("a", 1, &[]);
        }
        w.cloud.routes.insert(route("rtb-1"), at("eni-a"));
        w.cloud.routes.insert(route("rtb-2"), at("eni-a"));
        w.lead(2);
        w.acknowledge();
        w.put_addresses();
        let effects = w.apply_next();
        assert!(swapped(&effects).is_empty() && effects.contains(&Effect::Look));
        w.run(secs(20));
        assert!(w.told(is_swap).is_empty());
        assert!(w.ledger.claim.as_ref().is_some_and(|c| c.done));
        assert!(w.ledger.unsettled.is_empty(), "nothing was called: settled");
    }
}

#[test]
fn a_first_start_puts_right_what_its_look_shows_wrong() {
    let mut w = World::new();
    w.lead(1);
    w.run(secs(1));
    assert_eq!(w.told(is_swap).len(), 2);
    assert_eq!(w.cloud.routes.get(&route("rtb-2")), Some(&at("eni-a")));
}

#[test]
fn the_first_swaps_wait_for_the_address_50_ms_at_most() {
    let start = || {
        let mut w = World::new();
        w.claimed_by("b", 1, &[]);
        w.lead(2);
        w.acknowledge();
        w.apply_all();
        assert!(w.open() && w.air.is_empty());
        w
    };
    let mut w = start();
    w.pass(ms(3));
    assert_eq!(swapped(&w.put_addresses()).len(), 2, "as soon as it is there");
    let mut w = start();
    assert!(swapped(&w.pass(ms(49))).is_empty());
    assert_eq!(swapped(&w.pass(ms(1))).len(), 2, "not for ever");
}

#[test]
fn the_first_swaps_wait_for_a_permit_however_long() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.lead(2);
    w.apply_all();
    w.hands.acknowledge = false;
    w.run(secs(3));
    assert!(w.told(is_swap).is_empty());
    assert_eq!(swapped(&w.acknowledge()).len(), 2);
}

#[test]
fn fifty_swaps_at_once_then_five_a_second() {
    let names: Vec<String> = (0..60).map(|i| format!("rtb-{i:02}")).collect();
    let mut w = World::failed_over_with(|s| {
        s.tables = names.iter().map(|t| table(t)).collect();
    });
    let first: Vec<_> = w.air.iter().map(|(s, _)| s.route.table.as_str()).collect();
    assert_eq!(first, names.iter().take(50).collect::<Vec<_>>());
    let start = w.now;
    w.forget();
    w.run(secs(4));
    let rest = w.told(is_swap);
    assert_eq!(rest.len(), 10);
    for (i, at) in rest.iter().enumerate() {
        assert_eq!(*at, start + ms(200 * (i as u64 + 1)));
    }
}

#[test]
fn a_missing_route_is_created_where_that_is_allowed() {
    let first = |create_missing| {
        let mut w = World::with(|s| s.create_missing = create_missing);
        w.cloud.routes.insert(route("rtb-1"), Observed::Missing);
        w.run(secs(11));
        w.claimed_by("b", 1, &[]);
        w.lead(2);
        w.acknowledge();
        w.apply_all();
        w.put_addresses();
        w.air.first().expect("a swap").0.verb
    };
    assert_eq!(first(true), Verb::Create);
    assert_eq!(first(false), Verb::Replace, "EC2 will say what is wrong");
}

#[test]
fn another_claims_result_is_not_taken_for_this_ones() {
    let mut w = World::failed_over();
    let (swap, _) = w.air.first().cloned().expect("a swap");
    for epoch in [0, 1, 3, 99] {
        w.event(Event::Swapped {
            swap: swap.clone(),
            epoch: Epoch(epoch),
            outcome: Outcome::Refused(timeout()),
        });
    }
    assert_eq!(w.decide.route_error(&swap.route), None);
    w.hands.swap = false;
    w.cloud.routes.insert(route("rtb-1"), at("eni-a"));
    w.cloud.routes.insert(route("rtb-2"), at("eni-a"));
    w.run(secs(1));
    assert!(w.ledger.claim.as_ref().is_some_and(|c| !c.done), "its own two are in the air still");
}

#[test]
fn a_fenced_swap_is_tried_again_under_a_new_permit() {
    let mut w = World::failed_over();
    let before = w.gate;
    w.pass(ms(300));
    w.finish(&Outcome::Fenced(Fenced::LeaseOver));
    assert_eq!(w.decide.route_error(&route("rtb-1")), Some("the lease is over"));
    w.forget();
    w.run(secs(3));
    assert_eq!(w.told(is_swap).len(), 2);
    assert_ne!(w.gate, before);
    assert_eq!(w.cloud.routes.get(&route("rtb-1")), Some(&at("eni-a")));
}
