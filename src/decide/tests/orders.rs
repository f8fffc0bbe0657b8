//! Drain, undrain, pause, resume: what the ledger keeps, and what follows from it.

use super::world::*;
use crate::decide::cause::Cause;
use crate::decide::*;
use crate::ledger::Command;
use crate::model::*;

fn drain(who: &str) -> Directive {
    Directive::Drain(name(who))
}

fn answer(w: &World) -> &Result<Answer, Refusal> {
    &w.answers.last().expect("an answer").1
}

/// Orders as a first one would, and lets the log have it.
fn ordered(w: &mut World, what: Directive) {
    let id = 100 + w.answers.len() as u64;
    w.order(id, what, WhilePaused::Refuse);
    w.apply_all();
}

fn paused() -> World {
    let mut w = World::steady();
    ordered(&mut w, Directive::Pause);
    assert_eq!(answer(&w), &Ok(Answer::Kept));
    w
}

#[test]
fn an_order_is_answered_when_the_ledger_has_it() {
    let cases = [
        (drain("b"), Command::Drain { member: name("b") }),
        (drain("b"), Command::Drain { member: name("b") }),
        (Directive::Undrain(name("b")), Command::Undrain { member: name("b") }),
        (Directive::Resume, Command::Resume),
    ];
    let mut w = World::steady();
    w.apply(Term(2), &Command::Pause { at: WallMs(1) });
    let mut ids = 1..;
    for (i, (what, command)) in cases.into_iter().enumerate() {
        let effects = w.order(ids.next().expect("an id"), what, WhilePaused::Refuse);
        if i == 1 {
            assert!(proposed(&effects).is_empty(), "it stands already");
        } else {
            assert_eq!(proposed(&effects), [&command]);
            assert_eq!(w.answers.len(), i, "proposed is not committed");
            w.apply_all();
        }
        assert_eq!((w.answers.len(), answer(&w)), (i + 1, &Ok(Answer::Kept)), "{command}");
    }
    assert!(w.open() && w.transfers().is_empty());
}

#[test]
fn what_the_log_refused_is_proposed_again_until_nobody_waits() {
    let mut w = World::steady();
    w.hands.apply = false;
    w.order(1, drain("b"), WhilePaused::Refuse);
    w.refuse();
    w.run(ms(20));
    assert_eq!(w.log.len(), 2);
    w.run(secs(9));
    assert!(w.answers.is_empty());
    w.run(secs(1));
    assert_eq!(answer(&w), &Err(Refusal::NotLogged));
    let asked = w.log.len();
    w.run(secs(5));
    assert_eq!(w.log.len(), asked, "nobody waits any more");
}

#[test]
fn an_order_to_one_that_does_not_lead_or_has_no_quorum_changes_nothing() {
    let mut follower = World::new();
    follower.claimed_by("b", 1, &[]);
    let mut no_quorum = World::steady();
    no_quorum.hands.acknowledge = false;
    no_quorum.run(ms(300));
    let cases = [
        (follower, Directive::Pause, Refusal::NotLeader),
        (no_quorum, Directive::Pause, Refusal::NoQuorum),
        (World::steady(), drain("x"), Refusal::Unknown(name("x"))),
        (World::steady(), Directive::Undrain(name("x")), Refusal::Unknown(name("x"))),
    ];
    for (mut w, what, refusal) in cases {
        w.order(1, what, WhilePaused::Refuse);
        assert_eq!(answer(&w), &Err(refusal.clone()));
        assert!(w.log.is_empty() && refusal.is_precondition() && !refusal.next().is_empty(), "{refusal}");
    }
}

#[test]
fn who_loses_the_leadership_says_so_and_the_next_leader_is_asked() {
    let mut w = World::steady();
    w.order(1, Directive::Pause, WhilePaused::Refuse);
    w.follow(3, Some(B));
    assert_eq!(answer(&w), &Err(Refusal::NotLeader));
}

#[test]
fn orders_that_wait_are_bounded() {
    let mut w = World::steady();
    for id in 1..=16 {
        w.order(id, Directive::Pause, WhilePaused::Refuse);
    }
    assert!(w.answers.is_empty());
    w.order(17, Directive::Pause, WhilePaused::Refuse);
    assert_eq!(answer(&w), &Err(Refusal::TooMany(16)));
    w.apply_all();
    assert_eq!(w.answers.iter().filter(|(_, a)| *a == Ok(Answer::Kept)).count(), 16);
}

#[test]
fn the_owner_that_is_drained_hands_over_and_the_answer_is_the_move() {
    let mut w = World::steady();
    w.order(1, drain("a"), WhilePaused::Refuse);
    assert!(w.open(), "nothing moves before the ledger has it");
    w.apply_next();
    assert!(!w.open() && w.decide.is_handing_over());
    w.apply_all();
    assert_eq!(w.transfers(), [B]);
    assert_eq!(w.ledger.handover.as_ref().expect("recorded").reason, "a is drained");
    assert_eq!(w.cause(), Cause::Drain);
    w.follow(3, Some(B));
    w.claimed_by("b", 3, &[]);
    assert!(w.answers.is_empty(), "the route has not moved yet");
    w.moved(true);
    assert_eq!(answer(&w), &Ok(Answer::Moved(w.claim().epoch)));
}

#[test]
fn the_only_one_that_may_own_is_not_drained() {
    let mut w = World::steady();
    ordered(&mut w, drain("b"));
    w.peer("c", |p| p.health = Health::Unhealthy("down".into()));
    w.forget();
    ordered(&mut w, drain("a"));
    assert_eq!(answer(&w), &Err(Refusal::Nobody("b is drained; c is unhealthy: down".into())));
    assert!(w.open() && w.ledger.drained == [name("b")].into());
    assert!(w.told(|e| matches!(e, Effect::Propose(_))).is_empty());
}

#[test]
fn a_drain_whose_target_fails_says_that_the_owner_still_owns_and_goes_on_trying() {
    let mut w = World::steady();
    w.peer("c", |p| p.reachable = false);
    w.order(1, drain("a"), WhilePaused::Refuse);
    w.peer("b", |p| p.reachable = false);
    w.apply_all();
    let why = "no other member may own: b does not answer; c does not answer";
    assert_eq!(answer(&w), &Err(Refusal::StillOwns(name("a"), why.into())));
    assert!(w.open() && w.transfers().is_empty());
    assert!(w.decide.nobody_may_own().is_some_and(|why| why.starts_with("a: it is drained; ")));
    w.run(secs(3));
    assert!(w.open() && w.transfers().is_empty());
    w.peer("c", |_| {});
    w.run(ms(50));
    assert_eq!(w.transfers(), [C], "as soon as one may");
}

#[test]
fn fault_55_two_drains_of_the_owner_are_one_move() {
    let mut w = World::steady();
    w.order(1, drain("a"), WhilePaused::Refuse);
    w.order(2, drain("a"), WhilePaused::Refuse);
    w.apply_all();
    assert_eq!(w.answers, [(AskId(2), Err(Refusal::UnderWay(name("b"))))]);
    w.order(3, drain("a"), WhilePaused::Refuse);
    assert_eq!(answer(&w), &Err(Refusal::UnderWay(name("b"))), "after the trigger too");
    assert_eq!(w.transfers(), [B]);
}

#[test]
fn a_drained_member_that_is_elected_claims_nothing_and_transfers_at_once() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.apply(Term(1), &Command::Drain { member: name("a") });
    let effects = w.lead(2);
    assert!(effects.contains(&Effect::Transfer(B)));
    w.run(secs(3));
    assert_eq!((w.claims(), w.open()), (0, false));
}

#[test]
fn one_that_learns_of_its_drain_after_its_election_makes_no_claim_either() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.lead(2);
    assert_eq!(w.claims(), 1, "it cannot know yet");
    w.apply(Term(2), &Command::Drain { member: name("a") });
    w.acknowledge();
    w.apply_all();
    w.run(secs(2));
    assert_eq!(w.ledger.owner(), Some(&name("b")), "the claim is void");
    assert!(!w.open() && w.told(is_swap).is_empty());
    assert_eq!(w.transfers().first(), Some(&B));
}

#[test]
fn where_all_are_drained_the_last_claim_stands_until_one_is_undrained() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    for member in ["a", "b", "c"] {
        w.apply(Term(1), &Command::Drain { member: name(member) });
    }
    w.lead(2);
    w.run(secs(5));
    assert_eq!((w.claims(), w.transfers().len()), (0, 0));
    assert_eq!(w.ledger.owner(), Some(&name("b")));
    let why = w.decide.nobody_may_own().expect("a reason");
    assert_eq!(why, "a: it is drained; b is drained; c is drained");
    w.ask(1, Some("b"), AskMode::Do);
    assert_eq!(answer(&w), &Err(Refusal::Nobody(why)));
    // A leader without a claim takes orders all the same.
    w.hands.apply = true;
    w.order(2, Directive::Undrain(name("c")), WhilePaused::Refuse);
    w.run(ms(50));
    assert_eq!(answer(&w), &Ok(Answer::Kept));
    assert_eq!(w.transfers(), [C]);
}

#[test]
fn while_paused_nothing_moves_by_itself_nor_when_asked() {
    let mut w = paused();
    w.unhealthy();
    w.run(secs(30));
    assert!(w.open() && w.transfers().is_empty());
    for (id, what) in [(1, None), (2, Some("b"))] {
        w.ask(id, what, AskMode::Do);
        assert_eq!(answer(&w), &Err(Refusal::Paused));
    }
    w.order(3, drain("a"), WhilePaused::Refuse);
    assert_eq!(answer(&w), &Err(Refusal::Paused));
    assert!(w.ledger.drained.is_empty() && w.open());
    w.order(4, drain("c"), WhilePaused::Refuse);
    w.apply_all();
    assert_eq!(answer(&w), &Ok(Answer::Kept), "nothing has to move");

    w.order(5, Directive::Resume, WhilePaused::Refuse);
    w.run(ms(50));
    assert_eq!(w.transfers(), [B], "what had to wait is done");
}

#[test]
fn with_force_it_moves_while_paused() {
    let mut w = paused();
    w.event(Event::Asked(Ask {
        id: AskId(1),
        to: Some(name("c")),
        reason: "a is stopping".into(),
        mode: AskMode::Do,
        while_paused: WhilePaused::Move,
        by: Asker::Member,
        deadline: w.now + secs(10),
    }));
    w.apply_all();
    assert_eq!(w.transfers(), [C]);

    let mut w = paused();
    w.order(1, drain("a"), WhilePaused::Move);
    w.apply_all();
    assert_eq!(w.transfers(), [B]);
}

#[test]
fn while_paused_a_dead_leader_is_followed_by_another() {
    let mut w = World::new();
    w.claimed_by("b", 1, &[]);
    w.apply(Term(1), &Command::Pause { at: WallMs(1) });
    w.peer("b", |p| p.reachable = false);
    w.lead(2);
    w.acknowledge();
    w.apply_all();
    w.put_addresses();
    assert!(w.open() && w.ledger.owner() == Some(&name("a")));
    assert!(!w.air.is_empty() || !w.told(is_swap).is_empty());
}
