//! A leader and its claim.

use super::world::*;
use crate::decide::*;
use crate::ledger::{Command, Kind};
use crate::model::*;

fn kind(w: &World) -> Kind {
    w.ledger.claim.as_ref().expect("a claim").kind
}

#[test]
fn a_leader_claims_at_once_with_every_route_as_its_intent() {
    let mut w = World::new();
    let effects = w.lead(1);
    let [Command::Claim { member, term, routes, .. }] = proposed(&effects)[..] else {
        panic!("one claim: {effects:?}");
    };
    assert_eq!((member, *term), (&name("a"), Term(1)));
    assert_eq!(*routes, [route("rtb-1"), route("rtb-2")]);
}

#[test]
fn the_claim_covers_tables_found_by_tag_after_the_listed_ones() {
    let mut w = World::new();
    w.cloud.tables = vec![table("rtb-9"), table("rtb-1")];
    w.run(secs(11));
    let effects = w.lead(1);
    let [Command::Claim { routes, .. }] = proposed(&effects)[..] else {
        panic!("one claim: {effects:?}");
    };
    assert_eq!(*routes, [route("rtb-1"), route("rtb-2"), route("rtb-9")]);
}

/// It is one log entry; what is past it is found by the looks.
#[test]
fn a_claim_names_no_more_routes_than_an_entry_holds() {
    let mut w = World::new();
    w.cloud.tables = (0..2 * route::ROUTES_MAX).map(|n| table(&format!("rtb-{n:08x}"))).collect();
    w.run(secs(11));
    let effects = w.lead(1);
    let [Command::Claim { routes, .. }] = proposed(&effects)[..] else {
        panic!("one claim: {effects:?}");
    };
    assert_eq!(routes.len(), route::ROUTES_MAX);
}

#[test]
fn a_follower_and_a_candidate_claim_nothing() {
    let mut w = World::new();
    for role in [Role::Learner, Role::Follower, Role::Candidate] {
        w.raft(|v| (v.role, v.term) = (role, Term(3)));
        w.run(secs(3));
    }
    assert_eq!((w.claims(), w.open()), (0, false));
}

#[test]
fn nothing_is_called_before_its_own_claim_of_this_term_is_applied() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.lead(2);
    w.hands.apply = false;
    w.run(ms(900));
    let took = |e: &Effect| matches!(e, Effect::Swap(..) | Effect::AddAddress(..));
    assert!(!w.open() && w.told(took).is_empty(), "with a lease, without a claim");
    w.apply_all();
    assert!(w.open());
}

#[test]
fn its_own_claim_of_an_earlier_term_opens_nothing() {
    let mut w = World::steady();
    w.follow(3, Some(B));
    assert!(!w.open());
    w.lead(4);
    w.hands.apply = false;
    w.run(ms(900));
    assert!(!w.open());
    w.hands.apply = true;
    w.run(ms(10));
    assert_eq!(w.gate.map(|p| p.term()), Some(Term(4)));
    assert_eq!(kind(&w), Kind::Renewal);
}

#[test]
fn a_newer_claim_of_another_closes_the_gate_before_raft_says_so() {
    let mut w = World::failed_over();
    assert!(w.open());
    let effects = w.claimed_by("b", 3, &[]);
    assert_eq!(effects.first(), Some(&Effect::Gate(None)));
    w.forget();
    w.run(secs(3));
    assert!(!w.open() && w.told(is_swap).is_empty());
}

#[test]
fn a_claim_that_does_not_come_back_is_proposed_again_after_a_second() {
    let mut w = World::new();
    w.hands.apply = false;
    w.lead(1);
    w.run(ms(990));
    assert_eq!(w.claims(), 1);
    w.run(ms(20));
    assert_eq!(w.claims(), 2);
}

#[test]
fn a_claim_that_failed_is_proposed_again_soon_but_not_in_a_storm() {
    let mut w = World::new();
    w.lead(1);
    for _ in 0..100 {
        w.refuse();
    }
    assert_eq!(w.claims(), 1, "a retry is the next tick's decision");
    w.run(ms(20));
    assert_eq!(w.claims(), 2);
}

#[test]
fn a_claim_proposed_twice_is_one_claim() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.hands.apply = false;
    w.lead(2);
    w.run(ms(1500));
    assert_eq!(w.log.len(), 2, "the log was slow");
    w.hands.apply = true;
    w.run(secs(2));
    assert!(w.open(), "a slow log does not lock the owner out");
    assert_eq!(kind(&w), Kind::Failover);
    assert_eq!(w.ledger.claim.as_ref().map(|c| c.epoch), Some(Epoch(2)));
    assert!(w.ledger.last_move().is_some_and(|m| m.total_us.is_some()));
}

#[test]
fn a_permit_is_of_the_newest_claim_only_be_it_of_the_same_member_and_term() {
    let mut w = World::failed_over();
    let claim = w.ledger.claim.as_mut().expect("a claim");
    claim.epoch = Epoch(99);
    let effects = w.event(Event::Applied { ledger: std::sync::Arc::new(w.ledger.clone()), index: 99 });
    assert_eq!(effects.first(), Some(&Effect::Gate(None)));
}

#[test]
fn kinds_follow_from_the_ledger() {
    let mut w = World::new();
    w.lead(1);
    w.apply_all();
    assert_eq!(kind(&w), Kind::First);
    assert_eq!(kind(&World::failed_over()), Kind::Failover);
}

#[test]
fn a_log_that_goes_on_refusing_is_asked_ever_more_seldom_and_told_of_once() {
    let mut w = World::new();
    w.hands.apply = false;
    w.lead(1);
    let refuse_for = |w: &mut World, count: u64| {
        for _ in 0..count {
            if !w.log.is_empty() {
                w.refuse();
                w.log.clear();
            }
            w.pass(ms(1));
        }
    };
    refuse_for(&mut w, 10);
    assert!((4..=5).contains(&w.claims()), "soon at first: {}", w.claims());
    refuse_for(&mut w, 2000);
    assert!((20..=30).contains(&w.claims()), "then ten times a second: {}", w.claims());
    let claiming = |s: &Story| matches!(s, Story::Claiming { .. });
    assert_eq!(w.stories(claiming), 1);
    w.lead(2);
    w.forget();
    refuse_for(&mut w, 10);
    assert!(w.claims() >= 3, "anew in each term");
}

#[test]
fn what_an_earlier_term_proposed_and_failed_hastens_nothing() {
    let mut w = World::new();
    w.hands.apply = false;
    w.lead(1);
    w.lead(2);
    let (_, old) = w.log.pop_front().expect("the claim of term 1");
    w.event(Event::ProposalFailed(old));
    w.run(ms(500));
    assert_eq!(w.claims(), 2);
    w.refuse();
    w.run(ms(20));
    assert_eq!(w.claims(), 3);
}
