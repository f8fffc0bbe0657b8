//! Who can change a route at all, and what EC2's refusals lead to.

use super::world::*;
use crate::decide::cause::Cause;
use crate::decide::*;
use crate::ledger::Command;
use crate::model::route::{CloudError, Outcome};
use crate::model::*;

impl World {
    /// As its report says when it has just reached EC2.
    fn reaches(&mut self, who: &str) -> Vec<Effect> {
        let now = self.now;
        self.peer(who, |p| p.reached = Some(now))
    }
}

#[test]
fn fault_26_an_owner_cut_off_from_ec2_hands_over_to_one_that_reaches_it() {
    for error in [unreachable(), timeout(), CloudError::Credentials { message: "none".into() }] {
        let mut w = World::steady();
        let lost = w.now;
        w.looks_fail(secs(15), &error);
        assert_eq!(w.decide.cut_off(), Some(error.to_string().as_str()));
        assert!(w.open() && w.transfers().is_empty(), "nobody is known to do better: it stays");
        // What they knew before it was lost proves nothing.
        w.peer("b", |p| p.reached = Some(lost));
        w.peer("c", |p| p.cut_off = Some("no way".into()));
        assert!(w.open() && w.transfers().is_empty());
        w.reaches("c");
        w.until(|w| !w.transfers().is_empty());
        assert_eq!(w.transfers(), [C], "priority is nothing without a way to EC2");
        let handover = w.ledger.handover.as_ref().expect("a handover");
        assert!(handover.reason.starts_with("a does not reach EC2: "), "{}", handover.reason);
        assert_eq!(w.cause(), Cause::Ec2);
    }
}

#[test]
fn fault_26_a_paused_group_does_not_move_for_it() {
    let mut w = World::steady();
    w.order(1, Directive::Pause, WhilePaused::Refuse);
    w.looks_fail(secs(30), &unreachable());
    w.reaches("b");
    w.looks_fail(secs(2), &unreachable());
    assert!(w.decide.cut_off().is_some() && w.open() && w.transfers().is_empty());
    w.order(2, Directive::Resume, WhilePaused::Refuse);
    w.looks_fail(secs(2), &unreachable());
    assert_eq!(w.transfers().first(), Some(&B));
}

#[test]
fn fault_26_one_failed_look_and_an_answer_that_refuses_move_nothing() {
    let mut w = World::steady();
    let throttled = CloudError::Throttled { action: "DescribeRouteTables" };
    w.looks_fail(secs(30), &throttled);
    w.reaches("b");
    assert!(w.open() && w.transfers().is_empty() && w.decide.cut_off().is_none(), "it was EC2 that answered");
    let mut w = World::steady();
    w.hands.look = false;
    w.until(|w| !w.asked.is_empty());
    let asked = w.asked.pop().expect("a look");
    w.event(Event::Looked { asked, result: Err(unreachable()) });
    w.hands.look = true;
    w.forget();
    w.reaches("b");
    w.run(secs(2));
    assert!(w.told(is_look).len() >= 1, "it looks again at once, not in ten seconds");
    w.reaches("b");
    w.run(secs(20));
    assert!(w.open() && w.transfers().is_empty() && w.decide.cut_off().is_none());
}

#[test]
fn fault_26_the_vip_does_not_go_back_and_forth() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.hand_over("b", "a", 1);
    w.lead(2);
    w.run(secs(1));
    // b could not reach EC2; now a cannot either, and b believes that it can.
    w.looks_fail(secs(6), &unreachable());
    assert!(w.decide.cut_off().is_some());
    w.reaches("b");
    w.run(ms(100));
    assert!(w.open() && w.transfers().is_empty(), "not within min_hold");
    w.peer("b", |p| p.cut_off = Some("no way".into()));
    w.looks_fail(secs(60), &unreachable());
    assert!(w.open() && w.transfers().is_empty(), "nor to one that says it cannot");
}

#[test]
fn fault_26_an_owner_elected_anew_goes_back_to_none_that_just_lost_the_vip() {
    for within in [true, false] {
        let mut w = World::failed_over();
        w.peer("c", |p| p.reachable = false);
        w.looks_fail(secs(if within { 7 } else { 30 }), &unreachable());
        assert!(w.decide.cut_off().is_some());
        w.follow(3, None);
        w.reaches("b");
        w.forget();
        w.lead(3);
        w.acknowledge();
        assert_eq!((w.claims(), w.transfers().first()), if within { (1, None) } else { (0, Some(&B)) });
    }
}

#[test]
fn fault_26_a_leader_cut_off_from_ec2_claims_only_where_nobody_does_better() {
    for better in [true, false] {
        let mut w = World::new();
        w.looks_fail(secs(25), &unreachable());
        assert!(w.decide.cut_off().is_some());
        if better {
            w.reaches("b");
        }
        w.lead(1);
        w.acknowledge();
        assert_eq!((w.claims(), w.transfers().len()), if better { (0, 1) } else { (1, 0) });
    }
}

#[test]
fn fault_26_a_member_looks_at_once_when_the_owner_has_lost_ec2() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.run(secs(1));
    w.forget();
    w.peer("b", |p| p.cut_off = Some("no way".into()));
    assert_eq!(w.told(is_look).len(), 1);
    w.run(secs(1));
    w.peer("b", |p| p.cut_off = Some("no way".into()));
    assert_eq!(w.told(is_look).len(), 1, "once");
    w.peer("c", |p| p.cut_off = Some("no way".into()));
    assert_eq!(w.told(is_look).len(), 1, "and for the owner only");
}

#[test]
fn fault_54_no_move_on_purpose_goes_to_a_member_that_is_cut_off_from_ec2() {
    let cut_off = |p: &mut Peer| p.cut_off = Some("no way".into());
    let mut w = World::steady();
    w.peer("b", cut_off);
    w.unhealthy();
    w.until(|w| !w.transfers().is_empty());
    assert_eq!(w.transfers(), [C], "b has the higher priority");
    let mut w = World::steady();
    w.peer("b", cut_off);
    w.peer("c", cut_off);
    w.unhealthy();
    w.run(secs(60));
    assert!(w.open() && w.transfers().is_empty(), "its routes would stay here, and the address go");
    // It loses EC2 while the handover is on its way to the log.
    let mut w = World::steady();
    w.ask(1, Some("b"), AskMode::Do);
    w.peer("b", cut_off);
    w.apply_all();
    assert!(w.open() && w.transfers().is_empty(), "called off");
}

#[test]
fn who_may_not_own_leaves_to_one_that_is_cut_off_where_there_is_no_other() {
    let mut w = World::with(|s| s.members[0].witness = true);
    w.claimed_by("c", 1, &[]);
    for m in ["b", "c"] {
        w.peer(m, |p| p.cut_off = Some("no way".into()));
    }
    w.lead(2);
    assert_eq!((w.claims(), w.transfers()), (0, vec![B]), "else nobody owned");
    // After a restart of the whole group the routes are still c's: it needs no EC2 to own.
    let mut w = World::restarted(|_| {});
    w.claimed_by("c", 1, &[]);
    w.peer("c", |p| p.cut_off = Some("no way".into()));
    w.lead(2);
    assert_eq!((w.claims(), w.transfers()), (0, vec![C]));
}

#[test]
fn fault_41_an_owner_whose_routes_are_black_holes_hands_over() {
    let mut w = World::steady();
    w.cloud.routes.insert(route("rtb-2"), Observed::Blackhole(Some(eni("eni-a"))));
    w.until(|w| !w.transfers().is_empty());
    assert_eq!(w.transfers(), [B]);
    let why = w.decide.not_eligible().expect("it may not own");
    assert!(why.contains("eni-a is gone") && why.contains("rtb-2"), "{why}");
    // The new owner's routes do not show it; it comes back as EC2 tells it again.
    w.follow(3, Some(B));
    w.claimed_by("b", 3, &[]);
    for t in ["rtb-1", "rtb-2"] {
        w.cloud.routes.insert(route(t), at("eni-b"));
    }
    w.run(secs(20));
    assert!(w.decide.not_eligible().is_some());
    w.event(Event::Barred(None));
    assert_eq!(w.decide.not_eligible(), None);
}

#[test]
fn fault_41_a_new_owner_whose_interface_ec2_does_not_know_hands_over() {
    let mut w = World::failed_over();
    w.hands.swap = false;
    let code = "InvalidNetworkInterfaceID.NotFound".to_owned();
    w.finish(&Outcome::Refused(CloudError::NotFound {
        action: "ReplaceRoute",
        code,
        message: "gone".into(),
    }));
    w.until(|w| !w.transfers().is_empty());
    assert_eq!(w.transfers(), [C], "b lost it a moment ago");
}

#[test]
fn fault_41_where_no_other_may_own_it_stays_and_tries() {
    let mut w = World::steady();
    w.peer("b", |p| p.barred = Some("drained".into()));
    w.peer("c", |p| p.barred = Some("drained".into()));
    w.cloud.routes.insert(route("rtb-2"), Observed::Blackhole(Some(eni("eni-a"))));
    w.forget();
    w.run(secs(12));
    assert!(w.open() && w.transfers().is_empty());
    assert_eq!(w.told(is_swap).len(), 1);
    assert_eq!(w.decide.not_eligible(), None, "it works again");
}

/// How often each table was called, and when first again.
fn refused_for(by: std::time::Duration, error: &CloudError) -> World {
    let mut w = World::failed_over();
    w.hands.swap = false;
    w.forget();
    let end = w.now + by;
    while w.now < end {
        for (swap, permit) in std::mem::take(&mut w.air) {
            let ok = swap.route == route("rtb-2");
            w.finish_one(swap, permit, if ok { done() } else { Outcome::Refused(error.clone()) });
        }
        w.run(ms(10));
    }
    w
}

#[test]
fn fault_35_a_throttled_table_backs_off_and_the_others_go_on() {
    let w = refused_for(secs(60), &CloudError::Throttled { action: "ReplaceRoute" });
    let of = |t: &str| w.told(|e| matches!(e, Effect::Swap(s, _) if s.route == route(t)));
    assert_eq!(of("rtb-2").len(), 0, "right since the first call");
    assert_eq!(w.cloud.routes.get(&route("rtb-2")), Some(&at("eni-a")));
    let again = of("rtb-1");
    assert!((4..=9).contains(&again.len()), "{again:?}");
    let error = w.decide.route_error(&route("rtb-1")).expect("it is shown");
    assert!(error.contains("RequestLimitExceeded"), "{error}");
}

#[test]
fn fault_35_what_was_throttled_together_does_not_come_back_together() {
    let mut pace = super::super::plan::Pace::default();
    let routes: Vec<_> = (0..50).map(|n| route(&format!("rtb-{n:03}"))).collect();
    let start = Time::from_millis(1000);
    for r in &routes {
        (0..5).for_each(|_| pace.wrote(r, start));
        pace.throttled(r);
    }
    let free = |at: Time| routes.iter().filter(|r| pace.allows(r, at)).count();
    assert_eq!(free(start + ms(9_999)), 0, "the back-off itself");
    let (early, late) = (free(start + ms(11_000)), free(start + ms(14_000)));
    assert!(early < 25 && late > early && late < 50, "{early}, {late}");
    assert_eq!(free(start + secs(15)), 50);
}

#[test]
fn fault_22_a_wrong_clock_is_shown_and_makes_no_storm() {
    let clock = CloudError::Clock { action: "ReplaceRoute", code: "RequestExpired".into() };
    let w = refused_for(secs(60), &clock);
    assert!((4..=10).contains(&w.told(is_swap).len()), "{}", w.told(is_swap).len());
    let error = w.decide.route_error(&route("rtb-1")).expect("it is shown");
    assert!(error.contains("clock is wrong (RequestExpired)") && error.contains("chrony"), "{error}");
    // Its reads are refused as well: another member's clock may be right.
    let mut w = World::steady();
    w.looks_fail(secs(60), &clock);
    assert!(w.told(is_look).len() < 90);
    w.reaches("b");
    w.until(|w| !w.transfers().is_empty());
    assert_eq!(w.transfers(), [B]);
}

#[test]
fn fault_43_who_keeps_changing_a_route_is_shown() {
    let mut w = World::steady();
    let contended = |s: &Story| matches!(s, Story::Contended { .. });
    let mut told = Vec::new();
    for n in 0..40 {
        w.cloud.routes.insert(route("rtb-1"), at("eni-x"));
        w.run(secs(3));
        if w.stories(contended) > told.len() {
            told.push(n);
        }
    }
    assert_eq!(told.len(), 1, "told once: {told:?}");
    assert_eq!(w.decide.contended().keys().collect::<Vec<_>>(), [&route("rtb-1")]);
    w.run(secs(80));
    assert!(w.decide.contended().is_empty(), "left alone for a minute");
}

/// A health move waits for a member that lost ownership within `min_hold`, and no other.
#[test]
fn fault_28_a_sick_owner_waits_for_the_one_it_has_it_from_alone_and_says_so() {
    for c_is_there in [false, true] {
        let mut w = World::failed_over();
        w.peer("b", |p| p.applied = u64::MAX);
        w.peer("c", |p| p.reachable = c_is_there);
        w.run(secs(1));
        assert_eq!(w.decide.waits(w.now), None, "nothing is wished");
        w.unhealthy();
        w.run(ms(50));
        if c_is_there {
            assert_eq!((w.transfers(), w.decide.waits(w.now)), (vec![C], None), "at once");
            continue;
        }
        let waits = w.decide.waits(w.now).expect("it is shown");
        assert_eq!((&waits.to, waits.reason.as_str()), (&name("b"), "HAProxy on a is unhealthy: down"));
        let held = w.settings.min_hold;
        assert!(waits.left < held - secs(1) && waits.left > held - secs(2), "{waits:?}");
        w.apply(Term(2), &Command::Pause { at: WallMs(1) });
        assert_eq!(w.decide.waits(w.now), None, "a pause holds it, and says so itself");
        w.apply(Term(2), &Command::Resume);
        w.run(waits.left - ms(50));
        assert!(w.open() && w.transfers().is_empty());
        w.run(ms(100));
        assert_eq!((w.transfers(), w.decide.waits(w.now)), (vec![B], None));
    }
}

/// Round a ring of three it waits as it does back and forth; and an owner that is elected anew has not held longer for it.
#[test]
fn fault_28_whoever_lost_it_within_min_hold_waits_however_it_went_round() {
    let mut w = World::failed_over();
    w.peer("b", |p| p.applied = u64::MAX);
    w.peer("c", |p| p.applied = u64::MAX);
    w.run(secs(1));
    // b had it, then a; a is sick and gives it to c, c to a again.
    w.unhealthy();
    w.run(ms(50));
    assert_eq!(w.transfers(), [C], "b lost it a second ago");
    w.follow(3, Some(C));
    w.claimed_by("c", 3, &[]);
    w.event(Event::Health(Health::Healthy));
    w.run(secs(1));
    w.lead(4);
    w.acknowledge();
    w.apply_all();
    w.put_addresses();
    w.run(secs(1));
    w.unhealthy();
    w.run(ms(50));
    assert_eq!(w.transfers(), [C], "both others lost it within the last seconds");
    let waits = w.decide.waits(w.now).expect("it is shown");
    assert_eq!(waits.to, name("b"), "who lost it first");
    // Elected anew it has lost nothing, and neither have they.
    w.lead(5);
    w.acknowledge();
    w.apply_all();
    w.run(ms(500));
    let waits = w.decide.waits(w.now).expect("as before");
    assert_eq!(waits.to, name("b"));
    w.run(waits.left - ms(50));
    assert_eq!(w.transfers(), [C]);
    w.run(ms(150));
    assert_eq!(w.transfers()[..2], [C, B], "now it may");
}

/// It serves nobody: any member does better, whenever that one lost the VIP.
#[test]
fn fault_28_an_owner_that_may_not_own_waits_for_nobody() {
    for c in [false, true] {
        let mut w = World::failed_over();
        w.peer("b", |p| p.applied = u64::MAX);
        w.peer("c", |p| (p.applied, p.reachable) = (u64::MAX, c));
        w.run(secs(1));
        w.event(Event::Barred(Some("its ENI is gone".into())));
        assert!(w.decide.waits(w.now).is_none());
        w.run(ms(50));
        assert_eq!(w.transfers(), if c { [C] } else { [B] });
    }
}

/// What it learns late is not what happened late.
#[test]
fn fault_28_moves_of_earlier_terms_hold_nothing_back() {
    for caught_up in [false, true] {
        let mut w = World::new();
        w.claimed_by("b", 1, &[]);
        w.follow(if caught_up { 9 } else { 2 }, Some(C));
        w.claimed_by("c", 2, &[]);
        w.lead(10);
        w.acknowledge();
        w.apply_all();
        w.put_addresses();
        w.peer("b", |p| p.applied = u64::MAX);
        w.peer("c", |p| (p.applied, p.reachable) = (u64::MAX, false));
        w.run(secs(1));
        w.unhealthy();
        w.run(ms(50));
        assert_eq!(w.transfers().first(), caught_up.then_some(&B), "b lost it in term 2");
    }
}

/// As a follower's link does, every second, with HAProxy behind it.
#[test]
fn fault_28_five_minutes_of_flapping_move_the_vip_once_a_min_hold_at_most() {
    let mut w = World::steady();
    w.forget();
    for n in 0..300 {
        let up = n % 2 == 0;
        w.peer("b", |p| p.reachable = up);
        w.peer("c", |p| p.reachable = !up);
        w.run(secs(1));
    }
    assert!(w.open() && w.transfers().is_empty(), "others that come and go move nothing");
    // Its own HAProxy flaps too, just after it took over from b: b does not get it back within min_hold_s.
    // Where it leaves in the end, b hands back as soon as it may, the worst that b can do.
    let mut w = World::failed_over();
    w.peer("c", |p| p.reachable = false);
    // It keeps up with the log: one that lags is not handed to either.
    w.peer("b", |p| p.applied = u64::MAX);
    let (end, mut since, mut moves) = (w.now + secs(300), w.now, 0);
    for n in 0.. {
        let health = if n % 2 == 0 { Health::Unhealthy("down".into()) } else { Health::Healthy };
        w.event(Event::Health(health));
        w.forget();
        w.run(secs(1));
        if let Some(at) = w.told(|e| matches!(e, Effect::Transfer(_))).first() {
            let held = at.since(since);
            assert!(held >= w.settings.min_hold, "move {moves}: {held:?}");
            moves += 1;
            // A sick one it would not choose.
            w.event(Event::Health(Health::Healthy));
            w.there_and_back("b");
            since = w.now;
        }
        if w.now >= end {
            break;
        }
    }
    let most = secs(300).as_secs() / w.settings.min_hold.as_secs();
    assert!(
        (most / 2..=most).contains(&moves),
        "{moves} moves, at most {most}; an unhealthy owner leaves as soon as it may"
    );
}
