//! Who may own, who stands back, and for whom.

use std::time::Duration;

use super::world::*;
use crate::decide::cause::Cause;
use crate::decide::*;
use crate::ledger::Command;
use crate::model::*;

fn stories(w: &World) -> usize {
    w.stories(|s| matches!(s, Story::StandsBack { .. }))
}

fn not_fit(peer: &mut Peer) {
    peer.reachable = false;
}

#[test]
fn a_leader_that_may_not_own_claims_nothing_and_transfers_at_once() {
    let cases: [(&str, World); 3] = [
        ("a witness", World::with(|s| s.members[0].witness = true)),
        ("no interface", World::with(|s| s.eni = None)),
        ("barred", {
            let mut w = World::new();
            w.event(Event::Barred(Some("drained".into())));
            w
        }),
    ];
    for (case, mut w) in cases {
        let effects = w.lead(1);
        assert!(effects.contains(&Effect::Transfer(B)), "{case}");
        assert!(w.decide.not_eligible().is_some());
        w.run(secs(3));
        assert_eq!((w.claims(), w.open()), (0, false), "{case}");
    }
}

#[test]
fn it_prefers_the_healthy_then_the_higher_priority_then_the_one_that_lags_least() {
    let chosen = |change: fn(&mut World)| {
        let mut w = World::with(|s| {
            s.eni = None;
            s.members[1].priority = 80;
        });
        change(&mut w);
        w.lead(1);
        w.transfers()
    };
    assert_eq!(chosen(|_| {}), [B], "by name in the end");
    let lags_less = |w: &mut World| {
        w.peer("c", |p| p.applied = 5);
    };
    assert_eq!(chosen(lags_less), [C]);
    let ill = |w: &mut World| {
        w.peer("b", |p| p.health = Health::Unhealthy("down".into()));
    };
    assert_eq!(chosen(ill), [C]);
    let both_ill = |w: &mut World| {
        w.peer("b", |p| p.health = Health::Unhealthy("down".into()));
        w.peer("c", |p| p.health = Health::Unhealthy("down".into()));
    };
    assert_eq!(chosen(both_ill), [B], "an unhealthy member may own");
    let gone = |w: &mut World| {
        w.peer("b", not_fit);
    };
    assert_eq!(chosen(gone), [C]);
    let none = |w: &mut World| {
        w.peer("b", not_fit);
        w.peer("c", |p| p.barred = Some("drained".into()));
    };
    assert_eq!(chosen(none), []);
}

#[test]
fn if_nobody_may_own_nothing_is_claimed_and_it_is_told_once() {
    let mut w = World::with(|s| s.eni = None);
    for other in ["b", "c"] {
        w.peer(other, |p| p.barred = Some("no route access".into()));
    }
    w.lead(1);
    w.run(secs(10));
    assert_eq!((w.claims(), stories(&w)), (0, 1));
    assert!(w.transfers().is_empty());
    w.peer("c", |_| {});
    assert_eq!(w.transfers(), [C], "as soon as one may");
}

#[test]
fn once_the_bar_is_lifted_it_claims() {
    let mut w = World::new();
    w.event(Event::Barred(Some("drained".into())));
    for other in ["b", "c"] {
        w.peer(other, not_fit);
    }
    w.lead(1);
    w.run(secs(1));
    assert_eq!(w.claims(), 0);
    w.event(Event::Barred(None));
    assert_eq!(w.claims(), 1);
}

#[test]
fn an_unhealthy_leader_stands_back_for_a_healthy_member_and_claims_where_there_is_none() {
    let mut w = World::new();
    w.unhealthy();
    let effects = w.lead(1);
    assert!(effects.contains(&Effect::Transfer(B)) && w.claims() == 0);

    let mut w = World::new();
    w.unhealthy();
    for other in ["b", "c"] {
        w.peer(other, |p| p.health = Health::Unhealthy("down".into()));
    }
    w.lead(1);
    assert_eq!((w.claims(), w.transfers().len()), (1, 0));
}

#[test]
fn health_that_is_not_known_is_no_ground_for_anything() {
    for health in [Health::Unknown("no socket".into()), Health::NotChecked, Health::Healthy] {
        let mut w = World::steady();
        w.event(Event::Health(health));
        w.run(secs(20));
        assert!(w.open() && w.transfers().is_empty(), "fault 81");
    }
}

#[test]
fn an_unhealthy_owner_hands_over_to_the_best_healthy_member() {
    let mut w = World::steady();
    w.peer("b", |p| p.health = Health::Unhealthy("down".into()));
    w.unhealthy();
    assert!(!w.open());
    w.run(ms(50));
    assert_eq!(w.transfers(), [C], "fault 79");
    let handover = w.ledger.handover.as_ref().expect("recorded");
    assert_eq!(handover.reason, "HAProxy on a is unhealthy: down");
    assert_eq!(w.cause(), Cause::Health);
}

#[test]
fn a_log_that_refuses_the_handover_is_not_asked_again_at_once() {
    let mut w = World::steady();
    w.unhealthy();
    for _ in 0..100 {
        w.refuse();
    }
    let asked = w.told(|e| matches!(e, Effect::Propose(Command::Handover { .. }))).len();
    assert_eq!(asked, 1, "each refusal is followed by the next at the same moment");
}

#[test]
fn an_unhealthy_owner_without_a_quorum_asks_for_no_handover() {
    let mut w = World::steady();
    w.now = w.now + Duration::from_secs(1);
    w.unhealthy();
    assert_eq!(w.told(|e| matches!(e, Effect::Propose(Command::Handover { .. }))).len(), 0);
}

#[test]
fn fault_83_unhealthy_everywhere_it_stays_where_it_is() {
    let mut w = World::steady();
    for other in ["b", "c"] {
        w.peer(other, |p| p.health = Health::Unhealthy("down".into()));
    }
    w.unhealthy();
    w.run(secs(30));
    assert!(w.open() && w.transfers().is_empty());
}

#[test]
fn fault_85_an_unhealthy_owner_waits_for_the_only_healthy_member_to_catch_up() {
    let mut w = World::steady();
    w.raft(|v| v.last_index = 1000);
    w.peer("b", not_fit);
    w.peer("c", |p| p.applied = 900);
    w.unhealthy();
    w.run(secs(5));
    assert!(w.open() && w.transfers().is_empty());
    w.peer("c", |p| p.applied = 936);
    w.run(ms(50));
    assert_eq!(w.transfers(), [C]);
}

#[test]
fn a_health_move_onto_the_one_that_lost_ownership_a_moment_ago_waits() {
    let mut w = World::failed_over();
    w.peer("c", not_fit);
    let since = w.now;
    w.unhealthy();
    w.run(ms(9990));
    assert!(w.open() && w.transfers().is_empty());
    w.run(ms(30));
    assert_eq!(w.transfers(), [B], "min_hold after {since:?}");
}

#[test]
fn a_swap_is_not_handed_out_in_the_step_that_closes_the_gate() {
    let mut w = World::new();
    w.claimed_by("c", 1, &[]);
    w.put_addresses();
    w.lead(2);
    w.acknowledge();
    w.unhealthy();
    let effects = w.apply_next();
    assert!(!w.open() && w.decide.is_handing_over());
    assert!(swapped(&effects).is_empty(), "it hands over at once");
}

#[test]
fn an_owner_that_is_barred_hands_over_and_stays_where_no_other_may_own() {
    let mut w = World::steady();
    w.event(Event::Barred(Some("no route access".into())));
    w.run(ms(50));
    assert_eq!(w.transfers(), [B], "faults 11 and 26");

    let mut w = World::steady();
    for other in ["b", "c"] {
        w.peer(other, |p| p.barred = Some("no route access".into()));
    }
    w.event(Event::Barred(Some("no route access".into())));
    w.run(secs(30));
    assert!(w.open() && w.transfers().is_empty());
}

#[test]
fn after_a_restart_of_the_group_it_stands_back_for_the_living_owner_once() {
    let mut w = World::restarted(|_| {});
    w.claimed_by("b", 1, &[]);
    let effects = w.lead(2);
    assert!(effects.contains(&Effect::Transfer(B)) && w.claims() == 0, "fault 10");
    w.follow(3, None);
    w.lead(4);
    assert_eq!((w.claims(), w.transfers().len()), (1, 1), "never twice");
}

/// Meanwhile the other voters are free, and campaign after an election timeout.
#[test]
fn fault_10_an_owner_that_was_in_its_quarantine_is_asked_again_before_others_campaign() {
    let mut w = World::restarted(|_| {});
    w.claimed_by("b", 1, &[]);
    w.lead(2);
    assert_eq!(w.transfers(), [B]);
    w.run(w.settings.election_max / 3);
    assert_eq!(w.transfers(), [B, B]);
}

#[test]
fn after_a_restart_one_that_may_not_own_stands_back_for_the_living_owner_too() {
    let mut w = World::restarted(|s| s.members[0].witness = true);
    w.claimed_by("c", 1, &[]);
    w.lead(2);
    assert_eq!((w.claims(), w.transfers()), (0, vec![C]), "b has the higher priority");
}

#[test]
fn it_waits_for_the_end_of_the_living_owner_s_quarantine_but_not_for_one_that_falls_silent() {
    let start = || {
        let mut w = World::restarted(|_| {});
        w.claimed_by("c", 1, &[]);
        w.peer("c", |p| p.quarantined = true);
        w.lead(2);
        w.run(ms(500));
        assert_eq!((w.claims(), w.transfers().len()), (0, 0));
        w
    };
    let mut w = start();
    w.peer("c", |_| {});
    w.run(ms(20));
    assert_eq!((w.claims(), w.transfers()), (0, vec![C]));
    let mut w = start();
    w.peer("c", not_fit);
    w.run(ms(20));
    assert_eq!((w.claims(), w.transfers().len()), (1, 0));
}

#[test]
fn an_unhealthy_owner_waits_for_the_end_of_a_quarantine() {
    let mut w = World::steady();
    w.peer("b", not_fit);
    w.peer("c", |p| p.quarantined = true);
    w.unhealthy();
    w.run(secs(1));
    assert!(w.open() && w.transfers().is_empty());
    w.peer("c", |_| {});
    w.run(ms(50));
    assert_eq!(w.transfers(), [C]);
}

#[test]
fn it_does_not_stand_back_for_an_owner_that_is_gone_or_that_it_has_seen_replaced() {
    let mut w = World::restarted(|_| {});
    w.claimed_by("b", 1, &[]);
    w.peer("b", not_fit);
    w.lead(2);
    assert_eq!((w.claims(), w.transfers().len()), (1, 0));

    let mut w = World::restarted(|_| {});
    w.claimed_by("b", 1, &[]);
    w.follow(2, Some(C));
    w.lead(3);
    assert_eq!((w.claims(), w.transfers().len()), (1, 0));

    let mut w = World::restarted(|_| {});
    w.claimed_by("a", 1, &[]);
    w.lead(2);
    assert_eq!((w.claims(), w.transfers().len()), (1, 0), "its own");
}

#[test]
fn the_leader_of_the_stored_vote_is_not_one_that_it_has_followed() {
    let mut w = World::restarted(|_| {});
    w.claimed_by("b", 1, &[]);
    w.raft(|v| (v.term, v.leader) = (Term(1), Some(C)));
    let effects = w.lead(2);
    assert!(effects.contains(&Effect::Transfer(B)) && w.claims() == 0, "fault 10");
}

#[test]
fn after_a_restart_it_waits_for_the_owner_s_report_but_not_for_ever() {
    let mut w = World::restarted_without(&["b"], |_| {});
    w.claimed_by("b", 1, &[]);
    w.lead(2);
    w.run(secs(1));
    assert_eq!((w.claims(), w.transfers().len()), (0, 0));
    w.event(Event::Peer(name("b"), healthy()));
    assert_eq!((w.claims(), w.transfers()), (0, vec![B]));

    let mut w = World::restarted_without(&["b"], |_| {});
    w.claimed_by("b", 1, &[]);
    w.lead(2);
    w.run(secs(3));
    assert_eq!((w.claims(), w.transfers().len()), (1, 0), "it does not come");
}

#[test]
fn after_a_restart_it_waits_for_the_log_that_names_the_owner() {
    let mut w = World::restarted(|_| {});
    w.raft(|v| v.last_index = 1);
    w.lead(2);
    assert_eq!((w.claims(), w.transfers().len()), (0, 0));
    w.claimed_by("b", 1, &[]);
    assert_eq!((w.claims(), w.transfers()), (0, vec![B]));
}

#[test]
fn who_stands_back_records_no_handover() {
    let mut w = World::restarted(|_| {});
    w.claimed_by("b", 1, &[]);
    let effects = w.lead(2);
    let recorded = |c: &&Command| matches!(c, Command::Handover { .. });
    assert!(!proposed(&effects).iter().any(|c| recorded(&c)));
}

#[test]
fn an_owner_that_may_no_longer_own_hands_over_and_says_why() {
    let mut w = World::steady();
    w.event(Event::Barred(Some("the source/dest check is on".into())));
    w.run(ms(50));
    assert_eq!(w.transfers(), [B]);
    let handover = w.ledger.handover.as_ref().expect("recorded");
    assert_eq!(handover.reason, "a may not own: the source/dest check is on");
    assert_eq!(w.cause(), Cause::NotEligible);
}

/// Nobody could take it over when it was drained.
#[test]
fn an_owner_that_goes_late_goes_for_what_it_was_told() {
    let mut w = World::steady();
    for other in ["b", "c"] {
        w.peer(other, |p| p.health = Health::Unhealthy("down".into()));
    }
    w.apply(Term(2), &Command::Drain { member: name("a") });
    w.run(ms(50));
    assert!(w.open() && w.transfers().is_empty());
    w.peer("c", |p| p.health = Health::Healthy);
    w.run(ms(50));
    assert_eq!((w.transfers(), w.cause()), (vec![C], Cause::Drain));
}
