use super::*;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn route(table: &str) -> RouteKey {
    RouteKey { table: table.parse().expect("a table"), vip: "192.168.77.10/32".parse().expect("a vip") }
}

fn claim(member: &str, term: u64) -> Command {
    Command::Claim { member: name(member), term: Term(term), at: WallMs(1), routes: vec![route("rtb-0a")] }
}

fn handover(from: &str, to: &str, term: u64) -> Command {
    Command::Handover {
        from: name(from),
        to: name(to),
        term: Term(term),
        reason: "asked".into(),
        at: WallMs(1),
    }
}

fn after(commands: &[(u64, Command)]) -> Ledger {
    let mut ledger = Ledger::default();
    for (i, (term, command)) in commands.iter().enumerate() {
        ledger.apply(i as u64 + 1, *term, command);
    }
    ledger
}

fn kind(ledger: &Ledger) -> Kind {
    ledger.claim.as_ref().expect("a claim").kind
}

#[test]
fn the_newest_claim_names_the_owner_and_its_index_is_the_epoch() {
    let l = after(&[(1, claim("a", 1)), (2, claim("b", 2))]);
    assert_eq!(l.owner(), Some(&name("b")));
    assert_eq!(l.claim.as_ref().expect("claim").epoch, Epoch(2));
    assert_eq!(kind(&l), Kind::Failover);
    assert_eq!(l.moves.len(), 2);
}

#[test]
fn a_claim_of_another_term_than_its_entry_is_void() {
    let l = after(&[(1, claim("a", 1)), (3, claim("b", 2))]);
    assert_eq!(l.owner(), Some(&name("a")));
}

#[test]
fn a_claim_proposed_twice_is_one_claim() {
    let l = after(&[(1, claim("a", 1)), (2, claim("b", 2)), (2, claim("b", 2))]);
    let newest = l.claim.as_ref().expect("a claim");
    assert_eq!((newest.epoch, newest.kind), (Epoch(2), Kind::Failover));
    assert_eq!(l.moves.len(), 2);
}

#[test]
fn a_handover_makes_the_next_terms_claim_a_switchover_only_for_its_target() {
    let planned = [(1, claim("a", 1)), (1, handover("a", "b", 1))];
    let l = |last: (u64, Command)| after(&[planned[0].clone(), planned[1].clone(), last]);
    let moved = l((2, claim("b", 2)));
    assert_eq!(kind(&moved), Kind::Switchover);
    assert_eq!(moved.last_move().expect("move").reason, "asked");
    assert_eq!(kind(&l((2, claim("c", 2)))), Kind::Failover, "another took it");
    assert_eq!(kind(&l((3, claim("b", 3)))), Kind::Failover, "a later term");
    assert_eq!(l((2, claim("c", 2))).handover, None, "it is used up");
}

#[test]
fn the_owner_claiming_anew_moves_nothing() {
    let l = after(&[(1, claim("a", 1)), (2, claim("a", 2))]);
    assert_eq!(kind(&l), Kind::Renewal);
    assert_eq!(l.moves.len(), 1);
}

#[test]
fn intents_are_unsettled_until_their_outcome_and_stray_after_the_next_claim() {
    let mut l = after(&[(1, claim("a", 1))]);
    l.apply(2, 1, &Command::Intent { epoch: Epoch(1), serial: 1, routes: vec![route("rtb-0b")] });
    assert_eq!(l.unsettled.len(), 2);
    l.apply(
        3,
        1,
        &Command::Outcome { epoch: Epoch(1), serial: 0, settled: vec![route("rtb-0a"), route("rtb-0b")] },
    );
    assert_eq!(l.unsettled.keys().collect::<Vec<_>>(), [&route("rtb-0b")], "serial 1 is not settled by 0");
    l.apply(4, 2, &claim("b", 2));
    assert!(l.stray, "a's call may still land");
    l.apply(5, 2, &Command::Calm { epoch: Epoch(1) });
    assert!(l.stray, "an old owner calms nothing");
    l.apply(6, 2, &Command::Calm { epoch: Epoch(4) });
    assert!(!l.stray);
}

#[test]
fn what_an_old_owner_says_changes_nothing() {
    let mut l = after(&[(1, claim("a", 1)), (2, claim("b", 2))]);
    let before = l.clone();
    l.apply(3, 2, &Command::Intent { epoch: Epoch(1), serial: 9, routes: vec![route("rtb-0b")] });
    l.apply(
        4,
        2,
        &Command::Moved {
            epoch: Epoch(1),
            phases: Phases::default(),
            total_us: 1,
            in_sync: true,
            request_ids: vec![],
        },
    );
    l.apply(5, 2, &Command::Outcome { epoch: Epoch(1), serial: 0, settled: vec![route("rtb-0a")] });
    assert_eq!(l, before);
}

#[test]
fn a_snapshot_holds_the_whole_ledger_and_history_is_bounded() {
    let mut l = Ledger::default();
    for i in 0..(MOVES_KEPT as u64 + 50) {
        l.apply(i + 1, i, &claim(if i % 2 == 0 { "a" } else { "b" }, i));
    }
    assert_eq!(l.moves.len(), MOVES_KEPT);
    let json = serde_json::to_vec(&l).expect("serialise");
    assert_eq!(serde_json::from_slice::<Ledger>(&json).expect("parse"), l);
}

#[test]
fn a_recalled_handover_makes_no_switchover_and_another_one_stays() {
    let recall = |term: u64, at: u64| Command::Recall { term: Term(term), at: WallMs(at) };
    let l = |recall: Command| after(&[(1, claim("a", 1)), (1, handover("a", "b", 1)), (1, recall)]);
    let mut off = l(recall(1, 1));
    off.apply(4, 2, &claim("b", 2));
    assert_eq!(kind(&off), Kind::Failover);
    assert!(l(recall(1, 2)).handover.is_some(), "a later one of that term");
    assert!(l(recall(2, 1)).handover.is_some(), "of another term");
}

#[test]
fn drains_and_pauses_stand_until_they_are_taken_back() {
    let drain = |member: &str| Command::Drain { member: name(member) };
    let mut l = after(&[(1, claim("a", 1)), (1, drain("a")), (1, drain("b")), (1, drain("b"))]);
    l.apply(5, 1, &Command::Pause { at: WallMs(7) });
    l.apply(6, 1, &Command::Pause { at: WallMs(9) });
    l.apply(7, 2, &claim("c", 2));
    assert_eq!(l.drained, [name("a"), name("b")].into());
    assert_eq!(l.paused, Some(WallMs(7)), "since the first");
    let json = serde_json::to_vec(&l).expect("serialise");
    assert_eq!(serde_json::from_slice::<Ledger>(&json).expect("parse"), l, "in the snapshot");
    l.apply(8, 2, &Command::Undrain { member: name("a") });
    l.apply(9, 2, &Command::Undrain { member: name("x") });
    l.apply(10, 2, &Command::Resume);
    assert_eq!((l.drained, l.paused), ([name("b")].into(), None));
}

#[test]
fn a_snapshot_from_before_drain_and_pause_is_read() {
    let l = after(&[(1, claim("a", 1))]);
    let mut json = serde_json::to_value(&l).expect("serialise");
    let fields = json.as_object_mut().expect("an object");
    for new in ["drained", "paused"] {
        assert!(fields.remove(new).is_some(), "{new}");
    }
    assert_eq!(serde_json::from_value::<Ledger>(json).expect("parse"), l);
}

#[test]
fn a_drained_member_s_claim_is_void_and_the_one_it_holds_stands() {
    let drain = |member: &str| Command::Drain { member: name(member) };
    let mut l = after(&[(1, claim("a", 1)), (1, drain("b")), (2, claim("b", 2))]);
    assert_eq!((l.owner(), l.moves.len()), (Some(&name("a")), 1));
    l.apply(4, 2, &drain("a"));
    assert_eq!(l.owner(), Some(&name("a")));
    l.apply(5, 3, &Command::Undrain { member: name("b") });
    l.apply(6, 3, &claim("b", 3));
    assert_eq!(l.owner(), Some(&name("b")));
}

fn names(of: &[&str]) -> BTreeSet<Name> {
    of.iter().map(|n| name(n)).collect()
}

#[test]
fn who_has_gone_is_remembered_until_taken_in_again() {
    let mut l = Ledger::default();
    assert!(!l.seat(names(&["a", "b", "c"])));
    assert!(l.seat(names(&["a", "b"])));
    assert!(!l.seat(names(&["a", "b", "d"])));
    assert_eq!(l.removed, [name("c")]);
    let again: Ledger = serde_json::from_slice(&serde_json::to_vec(&l).unwrap()).unwrap();
    assert_eq!(again, l);
    assert!(l.seat(names(&["a", "c", "d"])));
    assert_eq!(l.removed, [name("b")]);
    for i in 0..2 * REMOVED_KEPT {
        l.seat(names(&[&format!("x{i}")]));
    }
    assert_eq!((l.removed.len(), l.removed.back()), (REMOVED_KEPT, Some(&name("x510"))));
}
