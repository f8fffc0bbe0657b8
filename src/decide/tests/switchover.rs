//! Handing over: the order before the trigger, and silence after it (FENCING.md, hole 7).

use super::world::*;
use crate::decide::*;
use crate::ledger::Command;
use crate::model::route::Outcome;
use crate::model::*;

fn answer(w: &World) -> &Result<Answer, Refusal> {
    &w.answers.last().expect("an answer").1
}

fn ill(peer: &mut Peer) {
    peer.health = Health::Unhealthy("down".into());
}

fn cut_off(peer: &mut Peer) {
    peer.cut_off = Some("no way".into());
}

const CUT_OFF: &str = "does not reach EC2, and could not change a route: no way";

/// The trigger has been pulled: leadership goes to b.
fn triggered() -> World {
    let mut w = World::steady();
    w.ask(1, Some("b"), AskMode::Do);
    w.apply_all();
    assert_eq!(w.transfers(), [B]);
    w
}

/// b leads term 3 and its claim is applied here.
fn taken_over_by(who: &str, id: Incarnation) -> World {
    let mut w = triggered();
    w.follow(3, Some(id));
    w.claimed_by(who, 3, &["rtb-1", "rtb-2"]);
    w
}

/// Each way in which a target, or the moment, is wrong.
fn refusals() -> Vec<(World, Option<&'static str>, Refusal)> {
    let b = || name("b");
    let with_peer = |change: fn(&mut Peer)| {
        let mut w = World::steady();
        w.peer("b", change);
        w
    };
    let mut follower = World::new();
    follower.claimed_by("b", 1, &[]);
    let mut no_claim = World::new();
    no_claim.lead(1);
    let mut lags = World::steady();
    lags.raft(|v| v.last_index = 165);
    lags.peer("b", |p| p.applied = 100);
    let mut removed = World::steady();
    removed.raft(|v| v.configs = vec![[ME, C].into()]);
    removed.event(Event::Acknowledged { from: C, term: Term(2), sent: removed.now, granted: ms(200) });
    let mut no_quorum = World::steady();
    no_quorum.hands.acknowledge = false;
    no_quorum.run(ms(300));
    let mut nobody = World::steady();
    nobody.peer("b", ill);
    nobody.peer("c", |p| p.barred = Some("drained".into()));
    let mut nobody_reaches = World::steady();
    nobody_reaches.peer("b", cut_off);
    nobody_reaches.peer("c", cut_off);
    vec![
        (follower, Some("b"), Refusal::NotLeader),
        (no_claim, Some("b"), Refusal::NoClaim),
        (triggered_alone(), Some("b"), Refusal::NoClaim),
        (no_quorum, Some("b"), Refusal::NoQuorum),
        (World::steady(), Some("x"), Refusal::Unknown(name("x"))),
        (World::steady(), Some("a"), Refusal::Itself(name("a"))),
        (World::steady_with(|s| s.members[1].witness = true), Some("b"), Refusal::Witness(b())),
        (removed, Some("b"), Refusal::NotVoter(b())),
        (with_peer(|p| p.reachable = false), Some("b"), Refusal::Unreachable(b())),
        (with_peer(ill), Some("b"), Refusal::Unhealthy(b(), "down".into())),
        (with_peer(|p| p.barred = Some("drained".into())), Some("b"), Refusal::Barred(b(), "drained".into())),
        (lags, Some("b"), Refusal::Lagging(b(), 65)),
        (with_peer(cut_off), Some("b"), Refusal::CutOff(b(), "no way".into())),
        (nobody_reaches, None, Refusal::Nobody(format!("b {CUT_OFF}; c {CUT_OFF}"))),
        (with_peer(|p| p.quarantined = true), Some("b"), Refusal::Quarantined(b())),
        (drained(&["b"]), Some("b"), Refusal::Drained(b())),
        (drained(&["b", "c"]), None, Refusal::Nobody("b is drained; c is drained".into())),
        (paused(), Some("b"), Refusal::Paused),
        (paused(), None, Refusal::Paused),
        (nobody, None, Refusal::Nobody("b is unhealthy: down; c may not own: drained".into())),
        (
            {
                let mut alone = World::with(|s| s.members.truncate(1));
                alone.lead(1);
                alone.apply_all();
                alone
            },
            None,
            Refusal::Nobody("the group has one member".into()),
        ),
    ]
}

fn drained(members: &[&str]) -> World {
    let mut w = World::steady();
    for member in members {
        w.apply(Term(2), &Command::Drain { member: name(member) });
    }
    w
}

fn paused() -> World {
    let mut w = World::steady();
    w.apply(Term(2), &Command::Pause { at: WallMs(1) });
    w
}

/// After the trigger of a health move: nobody waits for it.
fn triggered_alone() -> World {
    let mut w = World::steady();
    w.unhealthy();
    w.apply_all();
    assert_eq!(w.transfers(), [B]);
    w
}

#[test]
fn fault_54_each_wrong_target_is_refused_with_its_reason_and_nothing_changes() {
    for mode in [AskMode::Do, AskMode::DryRun] {
        for (mut w, to, refusal) in refusals() {
            let (open, log) = (w.gate, w.log.clone());
            w.forget();
            w.ask(1, to, mode);
            assert_eq!(answer(&w), &Err(refusal.clone()));
            assert!(refusal.is_precondition() && !refusal.next().is_empty());
            assert_eq!((w.gate, &w.log), (open, &log), "{refusal}");
            assert!(w.transfers().is_empty(), "{refusal}");
        }
    }
}

#[test]
fn fault_55_and_67_the_second_of_two_learns_that_a_move_is_under_way() {
    let mut w = World::steady();
    w.ask(1, Some("b"), AskMode::Do);
    w.ask(2, Some("c"), AskMode::Do);
    assert_eq!(answer(&w), &Err(Refusal::UnderWay(name("b"))));
    w.apply_all();
    w.ask(3, Some("b"), AskMode::Do);
    assert_eq!(answer(&w), &Err(Refusal::UnderWay(name("b"))), "after the trigger too");
    assert_eq!(w.transfers(), [B], "one move");

    let mut w = World::steady();
    w.unhealthy();
    w.ask(1, Some("c"), AskMode::Do);
    assert_eq!(answer(&w), &Err(Refusal::UnderWay(name("b"))), "a health move counts");
}

#[test]
fn a_dry_run_names_the_target_and_changes_nothing() {
    let mut w = World::steady();
    w.peer("b", ill);
    w.forget();
    w.ask(1, None, AskMode::DryRun);
    let would = Answer::Would { from: Some(name("a")), to: name("c") };
    assert_eq!(answer(&w), &Ok(would));
    w.run(secs(1));
    assert!(w.open() && w.transfers().is_empty() && !w.decide.is_handing_over());
    assert!(w.told(|e| matches!(e, Effect::Propose(_))).is_empty());
}

#[test]
fn the_gate_closes_then_the_ledger_knows_then_the_trigger() {
    let mut w = World::steady();
    let effects = w.ask(1, None, AskMode::Do);
    assert_eq!(effects.first(), Some(&Effect::Gate(None)));
    let [Command::Handover { from, to, term, reason, .. }] = proposed(&effects)[..] else {
        panic!("one handover: {effects:?}");
    };
    assert_eq!((from, to, *term), (&name("a"), &name("b"), Term(2)));
    assert_eq!(reason, "asked");
    for _ in 0..5 {
        w.pass(ms(10));
    }
    assert!(w.transfers().is_empty(), "proposed is not committed");
    assert!(w.apply_next().contains(&Effect::Transfer(B)));
}

#[test]
fn the_trigger_waits_for_calls_in_the_air_but_not_longer_than_they_may_last() {
    let start = || {
        let mut w = World::failed_over();
        w.hands.swap = false;
        assert_eq!(w.air.len(), 2);
        w.ask(1, Some("b"), AskMode::Do);
        w
    };
    let mut w = start();
    w.run(ms(300));
    assert!(w.log.is_empty() && w.ledger.handover.is_none());
    w.finish(&done());
    w.apply_all();
    assert_eq!(w.transfers(), [B]);
    let mut w = start();
    w.run(ms(1090));
    assert!(w.transfers().is_empty());
    w.run(ms(10));
    assert_eq!(w.transfers(), [B], "an attempt lasts a second (F-b)");
}

#[test]
fn swaps_that_were_not_begun_are_dropped() {
    let start = || {
        let mut w = World::new();
        w.claimed_by("b", 1, &[]);
        w.lead(2);
        w.acknowledge();
        w.apply_all();
        w.forget();
        w.ask(1, Some("b"), AskMode::Do);
        w
    };
    let mut w = start();
    w.run(ms(100));
    assert_eq!(w.transfers(), [B]);
    assert!(w.told(is_swap).is_empty());

    let mut w = start();
    w.refuse();
    assert!(w.open(), "called off");
    for t in ["rtb-1", "rtb-2"] {
        w.cloud.routes.insert(route(t), at("eni-a"));
    }
    w.log.clear();
    w.run(secs(3));
    assert!(w.told(is_swap).is_empty(), "a look decides again");
}

#[test]
fn called_off_before_the_trigger_the_permit_opens_again_and_the_owner_goes_on() {
    type Change = fn(&mut World);
    let cases: [(&str, Change); 5] = [
        ("the target is no longer fit", |w| {
            w.peer("b", ill);
            w.apply_all();
        }),
        ("the target is no longer fit", |w| {
            w.peer("b", |p| p.reachable = false);
            w.apply_all();
        }),
        ("the target is no longer fit", |w| {
            w.raft(|v| v.configs = vec![[ME, C].into()]);
            w.event(Event::Acknowledged { from: C, term: Term(2), sent: w.now, granted: ms(200) });
            w.apply_all();
        }),
        ("no quorum took the handover into the log", |w| {
            w.hands.apply = false;
            w.run(ms(1000));
        }),
        ("the log took no entry", |w| {
            w.refuse();
        }),
    ];
    for (why, change) in cases {
        let mut w = World::steady();
        w.ask(1, Some("b"), AskMode::Do);
        assert!(!w.open());
        change(&mut w);
        assert_eq!(answer(&w), &Err(Refusal::CalledOff(why, name("a"))));
        assert!(w.open() && w.transfers().is_empty(), "{why}");
        assert_eq!(w.gate.map(|p| p.epoch()), w.decide.ledger().claim.as_ref().map(|c| c.epoch));
        w.log.clear();
        w.hands.apply = true;
        w.cloud.routes.insert(route("rtb-1"), at("eni-x"));
        w.view.configs = vec![[ME, B, C].into()];
        w.raft(|_| {});
        w.run(secs(12));
        assert_eq!(w.cloud.routes.get(&route("rtb-1")), Some(&at("eni-a")), "{why}");
        assert!(w.transfers().is_empty(), "{why}");
    }
}

#[test]
fn a_lag_that_grew_meanwhile_calls_nothing_off() {
    let mut w = World::steady();
    w.ask(1, Some("b"), AskMode::Do);
    w.raft(|v| v.last_index = 500);
    w.apply_all();
    assert_eq!(w.transfers(), [B]);
}

#[test]
fn without_a_lease_what_is_called_off_opens_nothing() {
    let mut w = World::steady();
    w.ask(1, Some("b"), AskMode::Do);
    w.pass(ms(1000));
    assert!(matches!(answer(&w), Err(Refusal::CalledOff(..))));
    assert!(!w.open());
}

#[test]
fn after_the_trigger_there_is_no_permit_in_that_term_whatever_comes() {
    let mut w = triggered();
    let claim = |w: &World| Command::Claim {
        member: name("a"),
        term: w.view.term,
        at: WallMs(9),
        routes: vec![route("rtb-1")],
    };
    w.forget();
    for _ in 0..10 {
        w.run(ms(100));
        for from in [B, C] {
            let (sent, term, granted) = (w.now, w.view.term, secs(9));
            w.event(Event::Acknowledged { from, term, sent, granted });
        }
        let again = claim(&w);
        w.apply(w.view.term, &again);
        w.moved(true);
        w.event(Event::Health(Health::Healthy));
        w.event(Event::ProposalFailed(again));
        w.event(Event::Barred(None));
        w.raft(|_| {});
        w.raft(|v| v.configs = vec![[ME].into()]);
        w.raft(|v| v.configs = vec![[ME, B, C].into()]);
        // A report that is out of order.
        w.raft(|v| v.role = Role::Follower);
        w.raft(|v| v.role = Role::Leader);
        w.unhealthy();
        assert!(!w.open());
    }
    let took = |e: &Effect| matches!(e, Effect::Swap(..) | Effect::AddAddress(..));
    assert!(w.told(took).is_empty() && w.claims() == 0);
    w.event(Event::Health(Health::Healthy));
    w.lead(3);
    w.run(ms(100));
    assert!(w.open(), "the next term is another matter");
}

#[test]
fn where_the_target_failed_the_next_is_asked_after_two_election_timeouts() {
    let mut w = triggered();
    w.peer("b", |p| p.reachable = false);
    w.run(ms(390));
    assert_eq!(w.transfers(), [B]);
    w.run(ms(10));
    assert_eq!(w.transfers(), [B, C]);
    w.peer("c", |p| p.reachable = false);
    w.run(secs(3));
    assert_eq!(w.transfers(), [B, C], "nobody is left");
    w.peer("b", ill);
    w.run(ms(400));
    assert_eq!(w.transfers(), [B, C, B], "an unhealthy member may own");
}

#[test]
fn the_answer_comes_when_the_new_claims_move_is_over() {
    let mut w = taken_over_by("b", B);
    w.run(ms(500));
    assert!(w.answers.is_empty() && w.decide.is_handing_over());
    let epoch = w.claim().epoch;
    w.moved(true);
    assert_eq!(answer(&w), &Ok(Answer::Moved(epoch)));
    assert!(!w.decide.is_handing_over());
}

#[test]
fn the_answer_says_what_else_may_have_come_of_it() {
    let mut w = taken_over_by("c", C);
    assert_eq!(answer(&w), &Err(Refusal::Elsewhere(name("c"), name("b"))));
    w.follow(3, Some(C));

    let mut w = taken_over_by("b", B);
    w.moved(false);
    assert_eq!(answer(&w), &Err(Refusal::NotInSync(name("b"))));

    let mut w = triggered();
    w.lead(3);
    w.apply_all();
    assert_eq!(answer(&w), &Err(Refusal::Elsewhere(name("a"), name("b"))), "it is back");

    let mut w = triggered();
    w.follow(3, None);
    w.run(ms(9990));
    assert!(w.answers.is_empty());
    w.run(ms(20));
    assert_eq!(answer(&w), &Err(Refusal::NotInTime(name("b"), "a".into())));

    let mut w = taken_over_by("b", B);
    w.run(secs(10));
    assert_eq!(answer(&w), &Err(Refusal::NotInTime(name("b"), "b".into())));
    for (_, answer) in &w.answers {
        let refusal = answer.as_ref().expect_err("no success");
        assert!(!refusal.is_precondition() && !refusal.next().is_empty());
    }
}

#[test]
fn a_role_lost_before_the_trigger_pulls_none() {
    let mut w = World::steady();
    w.ask(1, Some("b"), AskMode::Do);
    w.follow(3, Some(B));
    w.apply_all();
    w.run(ms(100));
    assert!(!w.open() && w.transfers().is_empty());
    w.claimed_by("b", 3, &[]);
    w.moved(true);
    assert!(matches!(answer(&w), Ok(Answer::Moved(_))));
}

#[test]
fn what_a_call_in_the_air_did_is_known_even_while_handing_over() {
    let mut w = World::failed_over();
    w.ask(1, Some("b"), AskMode::Do);
    let (swap, permit) = w.air.remove(0);
    w.finish_one(swap, permit, Outcome::Unknown(timeout()));
    assert!(w.decide.route_error(&route("rtb-1")).is_some());
    assert!(w.transfers().is_empty(), "one is in the air still");
}

/// b hands over to a, which claims: the time of that claim counts, since a was not asked.
fn moved_here_on_purpose() -> World {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    let (from, to, reason) = (name("b"), name("a"), "asked".to_owned());
    w.apply(Term(1), &Command::Handover { from, to, term: Term(1), reason, at: WallMs(1) });
    w.lead(2);
    w.acknowledge();
    w.put_addresses();
    w.apply_all();
    assert_eq!(w.ledger.last_move().map(|m| m.kind), Some(crate::ledger::Kind::Switchover));
    w
}

#[test]
fn fault_67_a_transfer_is_made_once_a_second_and_who_asks_too_soon_learns_when() {
    let mut w = moved_here_on_purpose();
    w.forget();
    w.ask(1, Some("b"), AskMode::Do);
    let &Err(Refusal::TooSoon(left)) = answer(&w) else { panic!("{:?}", answer(&w)) };
    assert!((500..=1000).contains(&left) && Refusal::TooSoon(left).is_precondition(), "{left}");
    w.run(ms(left - 20));
    w.ask(2, Some("b"), AskMode::Do);
    assert!(matches!(answer(&w), Err(Refusal::TooSoon(1..=20))), "{:?}", answer(&w));
    w.ask(4, Some("b"), AskMode::DryRun);
    assert!(answer(&w).is_ok(), "a dry run moves nothing");
    assert!(w.transfers().is_empty() && w.open());
    w.run(ms(20));
    w.ask(5, Some("b"), AskMode::Do);
    w.apply_all();
    assert_eq!(w.transfers(), [B]);
}

#[test]
fn fault_67_one_that_was_called_off_counts_and_a_member_that_stops_does_not_wait() {
    let mut w = World::steady();
    w.ask(1, Some("b"), AskMode::Do);
    w.peer("b", |p| p.reachable = false);
    w.apply_all();
    assert!(matches!(answer(&w), Err(Refusal::CalledOff(..))), "{:?}", answer(&w));
    w.ask(2, Some("c"), AskMode::Do);
    assert!(matches!(answer(&w), Err(Refusal::TooSoon(_))), "{:?}", answer(&w));
    w.ask_by(3, None, AskMode::Do, Asker::Member);
    w.apply_all();
    assert_eq!(w.transfers(), [C]);
}
