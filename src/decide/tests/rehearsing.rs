//! DryRuns, and what follows where EC2 does not let a member change routes.

use super::world::*;
use crate::decide::cause::Cause;
use crate::decide::*;
use crate::model::route::{CloudError, Outcome, Swap, Verb};
use crate::model::*;

fn rehearsed(w: &World) -> Vec<(Time, Swap)> {
    let of = |(at, e): &(Time, Effect)| match e {
        Effect::Rehearse(swap) => Some((*at, swap.clone())),
        _ => None,
    };
    w.past.iter().filter_map(of).collect()
}

fn tables(w: &World) -> Vec<String> {
    rehearsed(w).into_iter().map(|(_, swap)| swap.route.table.to_string()).collect()
}

/// As its report says when EC2 has just said yes, or no.
fn told_of(w: &mut World, who: &str, of: &str, denied: bool) {
    let now = w.now;
    w.peer(who, |p| {
        if denied {
            p.denied.insert(table(of), "not allowed to call ec2:ReplaceRoute".into());
        } else {
            p.allowed.insert(table(of), now);
        }
    });
}

/// Denies this owner one table, and waits until it knows.
fn denied(w: &mut World, of: &str) {
    w.deny.insert(table(of));
    w.run_by(secs(130), ms(100));
    assert!(w.decide.rights().get(&table(of)).is_some_and(|r| r.denied.is_some()), "{:?}", w.decide.rights());
}

#[test]
fn one_table_a_minute_in_turn() {
    let mut w = World::steady();
    w.forget();
    w.run_by(secs(300), ms(100));
    let all = rehearsed(&w);
    assert!((4..=5).contains(&all.len()), "{all:?}");
    assert!(all.windows(2).all(|two| two[1].0.since(two[0].0) >= secs(60)), "{all:?}");
    assert!(all.windows(2).all(|two| two[0].1.route.table != two[1].1.route.table), "{all:?}");
    assert!(all.iter().all(|(_, s)| s.verb == Verb::Replace && s.eni == eni("eni-a")), "{all:?}");
    assert!(w.decide.rights().values().all(|r| r.denied.is_none()) && w.decide.rights().len() == 2);
}

#[test]
fn a_follower_asks_as_well_and_not_while_there_is_no_leader() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.moved(true);
    w.run_by(secs(60), ms(100));
    assert_eq!(w.told(is_rehearsal).len(), 0, "no leader is known");
    w.follow(1, Some(B));
    w.run_by(secs(11), ms(100));
    assert_eq!(w.told(is_rehearsal).len(), 1);
}

#[test]
fn nothing_is_asked_within_ten_seconds_of_a_move() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.moved(true);
    w.follow(1, Some(B));
    w.run_by(secs(65), ms(100));
    w.forget();
    // Due at any moment, and a move begins; it takes its time.
    w.claimed_by("c", 2, &[]);
    w.follow(2, Some(C));
    w.run_by(secs(90), ms(100));
    assert_eq!(w.told(is_rehearsal).len(), 0, "the move is under way");
    let over = w.now;
    w.moved(true);
    w.until(|w| !w.told(is_rehearsal).is_empty());
    assert!(w.told(is_rehearsal)[0].since(over) >= ms(9_900), "{:?}", w.told(is_rehearsal)[0].since(over));
}

#[test]
fn one_that_cannot_own_asks_nothing() {
    for mut w in [World::with(|s| s.members[0].witness = true), World::with(|s| s.eni = None)] {
        w.claimed_by("b", 1, &[]);
        w.moved(true);
        w.follow(1, Some(B));
        w.run_by(secs(120), ms(100));
        assert_eq!(w.told(is_rehearsal).len(), 0);
    }
}

#[test]
fn a_missing_route_is_rehearsed_as_it_would_be_made() {
    let mut w = World::with(|s| s.create_missing = true);
    w.claimed_by("b", 1, &[]);
    w.moved(true);
    w.follow(1, Some(B));
    for t in ["rtb-1", "rtb-2"] {
        w.cloud.routes.insert(route(t), Observed::Missing);
    }
    // The first look that shows it comes with the first DryRun.
    w.run_by(secs(75), ms(100));
    assert_eq!(rehearsed(&w).pop().map(|(_, s)| s.verb), Some(Verb::Create));
}

#[test]
fn fault_38_an_owner_that_lacks_replace_route_alone_hands_over_to_one_that_has_it() {
    let mut w = World::steady();
    // What they knew before proves nothing: the policy may be wrong for all.
    told_of(&mut w, "b", "rtb-2", false);
    denied(&mut w, "rtb-2");
    assert!(w.open() && w.transfers().is_empty(), "nobody is known to do better: it stays");
    let told = |s: &Story| matches!(s, Story::Denied { table: t, .. } if *t == table("rtb-2"));
    assert_eq!(w.stories(told), 1, "told once");
    told_of(&mut w, "c", "rtb-1", false);
    assert!(w.open() && w.transfers().is_empty(), "another table");
    told_of(&mut w, "c", "rtb-2", false);
    w.until(|w| !w.transfers().is_empty());
    assert_eq!(w.transfers(), [C], "priority is nothing without the right");
    assert_eq!(w.cause(), Cause::Permission);
    let reason = &w.ledger.handover.as_ref().expect("a handover").reason;
    assert!(
        reason.starts_with("a may not change every route: not allowed to call ec2:ReplaceRoute"),
        "{reason}"
    );
    assert!(
        reason.contains("\"Resource\": \"arn:aws:ec2:eu-west-1:123456789012:route-table/rtb-2\""),
        "{reason}"
    );
}

#[test]
fn fault_38_where_it_is_denied_to_all_the_owner_stays() {
    let mut w = World::steady();
    denied(&mut w, "rtb-2");
    told_of(&mut w, "b", "rtb-2", true);
    told_of(&mut w, "c", "rtb-2", true);
    w.run_by(secs(300), ms(100));
    assert!(w.open() && w.transfers().is_empty());
    w.deny.clear();
    w.run_by(secs(130), ms(100));
    assert!(w.decide.rights().values().all(|r| r.denied.is_none()), "the policy was mended");
}

#[test]
fn fault_38_a_paused_group_does_not_move_for_it() {
    let mut w = World::steady();
    denied(&mut w, "rtb-2");
    w.order(1, Directive::Pause, WhilePaused::Refuse);
    w.run(secs(1));
    told_of(&mut w, "c", "rtb-2", false);
    w.run(secs(5));
    assert!(w.open() && w.transfers().is_empty());
}

/// A denial is no bar: a failover from a dead owner is claimed by whoever is left.
#[test]
fn fault_38_a_denied_leader_claims_where_nobody_does_better() {
    for better in [true, false] {
        let mut w = World::new();
        w.claimed_by("b", 1, &[]);
        w.moved(true);
        w.follow(1, Some(B));
        w.deny.extend([table("rtb-1"), table("rtb-2")]);
        w.run_by(secs(140), ms(100));
        assert_eq!(w.decide.rights().values().filter(|r| r.denied.is_some()).count(), 2);
        w.peer("b", |p| p.reachable = false);
        if better {
            let now = w.now;
            w.peer("c", |p| p.allowed.extend([(table("rtb-1"), now), (table("rtb-2"), now)]));
        }
        w.forget();
        w.lead(2);
        w.acknowledge();
        assert_eq!((w.claims(), w.transfers().len()), if better { (0, 1) } else { (1, 0) });
    }
}

#[test]
fn fault_38_a_denied_member_is_no_target_and_the_refusal_says_what_to_add() {
    let mut w = World::steady();
    told_of(&mut w, "b", "rtb-1", true);
    w.ask(1, Some("b"), AskMode::DryRun);
    let why = "not allowed to call ec2:ReplaceRoute".to_owned();
    assert_eq!(w.answers, [(AskId(1), Err(Refusal::Denied(name("b"), why)))]);
    w.ask(2, None, AskMode::DryRun);
    let would = Answer::Would { from: Some(name("a")), to: name("c") };
    assert_eq!(w.answers[1], (AskId(2), Ok(would)), "the next best");
}

#[test]
fn fault_38_a_swap_says_what_a_dry_run_says() {
    let mut w = World::failed_over();
    w.hands.swap = false;
    let (swap, permit) = w.air.remove(0);
    let refused = Outcome::Refused(unauthorized(&swap.route.table));
    w.finish_one(swap.clone(), permit, refused);
    w.finish(&done());
    assert!(w.decide.rights().get(&swap.route.table).is_some_and(|r| r.denied.is_some()));
    w.until(|w| w.air.iter().any(|(s, _)| s.route == swap.route));
    w.finish(&done());
    assert!(w.decide.rights().values().all(|r| r.denied.is_none()));
}

#[test]
fn an_endpoint_that_ignores_dry_run_is_asked_once() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.moved(true);
    w.follow(1, Some(B));
    w.run_by(ms(9_900), ms(100));
    w.now = w.now + ms(200);
    w.tick();
    let swap = w.dry.pop().expect("a DryRun");
    let ignored = CloudError::DryRunIgnored { action: "ReplaceRoute" };
    w.event(Event::Rehearsed { swap, result: Err(ignored) });
    w.run_by(secs(300), ms(100));
    assert_eq!(w.told(is_rehearsal).len(), 1, "it was a swap without a permit");
    assert_eq!(w.stories(|s| matches!(s, Story::Denied { .. })), 1);
}

#[test]
fn what_is_denied_to_the_owner_is_asked_first_by_the_others() {
    let mut w = World::with(|s| s.tables = ["rtb-1", "rtb-2", "rtb-3", "rtb-4"].map(table).to_vec());
    w.claimed_by("b", 1, &[]);
    w.moved(true);
    w.follow(1, Some(B));
    w.run_by(secs(71), ms(100));
    assert_eq!(tables(&w), ["rtb-1", "rtb-2"]);
    told_of(&mut w, "b", "rtb-1", true);
    w.run_by(secs(181), ms(100));
    assert_eq!(tables(&w)[2..], ["rtb-1", "rtb-3", "rtb-1"], "and the others are not forgotten");
}

#[test]
fn of_a_table_that_has_lost_its_tag_no_denial_is_kept() {
    let mut w = World::steady();
    w.cloud.tables = vec![table("rtb-1"), table("rtb-2"), table("rtb-9")];
    w.deny.insert(table("rtb-9"));
    let is_denied = |w: &World| w.decide.rights().get(&table("rtb-9")).is_some_and(|r| r.denied.is_some());
    for _ in 0..30 {
        w.run_by(secs(10), ms(100));
        if is_denied(&w) {
            break;
        }
    }
    assert!(is_denied(&w), "{:?}", w.decide.rights());
    w.cloud.tables.pop();
    w.run_by(secs(11), ms(100));
    assert!(!is_denied(&w), "one look later: {:?}", w.decide.rights());
}
