//! Moves that somebody asked for.

use std::time::{Duration, Instant};

use crate::lab::{BOUND, Lab, holds, measured, until};
use crate::status::others;

#[test]
fn transfer_leader_returns_when_the_route_has_moved() {
    let lab = Lab::up("transfer");
    let first = lab.steady();
    let to = if first == "az-c" { "az-b" } else { "az-c" };
    let load = lab.load(&first);
    // Asked of a member that is neither: it is forwarded.
    let ask = others(&first).into_iter().find(|m| *m != to).unwrap();
    let (code, moved) = lab.vipctl_json(ask, &["transfer-leader", "--to", to]);
    lab.routes_are_on(to).unwrap();
    assert_eq!(code, 0, "{moved}");
    assert_eq!(
        (&moved["kind"], &moved["from"], &moved["to"]),
        (&"switchover".into(), &first.as_str().into(), &to.into())
    );
    for phase in ["elect", "claim", "address", "route", "verify"] {
        assert!(moved["phases_ms"][phase].is_number(), "{phase} of {moved}");
    }
    assert!(moved["total_ms"].is_number(), "{moved}");
    lab.client_reaches(to);
    load.end(&lab, to).assert_only_what_straddled_a_swap_failed(&lab, "transfer-leader", to);
    lab.address_goes(&first);
    assert_eq!(lab.steady(), to);
    // CloudTrail is searched by EC2's ids.
    assert_eq!(moved["request_ids"].as_array().map(Vec::len), Some(3), "{moved}");
    lab.assert_fenced();
}

#[test]
fn fault_09_sigterm_hands_over_first() {
    let lab = Lab::up("term");
    let first = lab.steady();
    let load = lab.load(&first);
    let ended = lab.json(&["stop", &first, "--only", "vipd"]);
    assert_eq!(ended[0]["exit_code"], 0, "{ended}");
    let second = lab.taken_over_from(&first);
    load.end(&lab, &second).assert_only_what_straddled_a_swap_failed(&lab, "SIGTERM", &second);
    assert!(!lab.has_address(&first));
    let moved = lab.status(&second).unwrap().last_move.unwrap();
    assert_eq!((&moved["kind"], &moved["from"]), (&"switchover".into(), &first.as_str().into()));
    lab.assert_fenced();
}

/// EC2 answers no change: the route never moves, and the unit's own patience must not be needed.
#[test]
fn fault_09_a_stop_that_cannot_end_is_bounded() {
    let lab = Lab::up("termhangs");
    let first = lab.steady();
    lab.ok(&["ec2", "hang", "--action", "ReplaceRoute"]);
    let since = lab.swaps().len();
    let begun = Instant::now();
    let ended = lab.json(&["stop", &first, "--only", "vipd"]);
    let took = begun.elapsed();
    measured(&format!("a stop whose route does not move: {:.1} s", took.as_secs_f64()));
    assert_eq!(ended[0]["exit_code"], 0, "{ended}");
    let bound = vipd::driver::STOP_DEADLINE;
    assert!((bound..bound + Duration::from_secs(3)).contains(&took), "{took:?}: {}", lab.vipd_log(&first));
    // It is the hang that it waited for: its successor's calls, one after the other.
    let hung: Vec<_> = lab
        .swaps()
        .split_off(since)
        .into_iter()
        .filter(|c| c.faults.iter().any(|f| f.starts_with("hang")))
        .collect();
    assert!(hung.len() >= 3 && hung.iter().all(|c| !c.is_of(&first)), "{hung:?}");
    // The routes point to it still: it goes on serving.
    lab.logs(&first, "stops without having handed over");
    assert!(lab.has_address(&first));
    lab.client_reaches(&first);
    let second =
        lab.says(others(&first)[0], "another owns", |s| s.owner.as_deref() != Some(&first)).owner.unwrap();
    lab.ok(&["ec2", "clear", "hang"]);
    lab.routes_come_to(&second);
    lab.assert_fenced();
}

/// What EC2 does not change yet, the old owner goes on serving.
#[test]
fn fault_39_a_switchover_that_stops_at_one_table_fails_no_new_connection_there() {
    let lab = Lab::up("stuck");
    let first = lab.steady();
    let to = others(&first)[0];
    let load = lab.load(&first);
    // The client's own.
    lab.ok(&["ec2", "error", "InternalError", "--action", "ReplaceRoute", "--table", "rtb-0a"]);
    let (code, answer) = lab.vipctl_json(&first, &["transfer-leader", "--to", to]);
    assert_eq!(code, 1, "{answer}");
    assert!(answer["error"]["next"].as_str().is_some_and(|n| n.contains("vipctl routes")), "{answer}");
    let status = lab.says(to, "two of three", |s| s.state == "degraded" && !s.route("rtb-0a").in_sync);
    assert_eq!(status.owner.as_deref(), Some(to), "{status:?}");
    assert!(lab.has_address(&first), "the move is over for {to}, and not for the client");
    lab.client_reaches(&first);
    lab.ok(&["ec2", "clear", "error"]);
    lab.routes_come_to(to);
    lab.client_reaches(to);
    lab.address_goes(&first);
    load.end(&lab, to).assert_only_what_straddled_a_swap_failed(&lab, "a switchover that stops", to);
    assert_eq!(lab.steady(), to);
    lab.assert_fenced();
}

/// DESIGN.md section 8, a hundred times over, with a new connection every 5 ms.
#[test]
fn in_a_hundred_transfers_no_new_connection_fails() {
    let lab = Lab::up("hundred");
    let mut owner = lab.steady();
    let load = lab.load(&owner);
    let started = Instant::now();
    for n in 1..=100 {
        let to = others(&owner)[n % 2];
        // One a second is made (FAULTS 67): until then each is refused, and nothing moves.
        let moved = until(&format!("the {n}th"), BOUND, || {
            let (code, answer) = lab.vipctl_json(&owner, &["transfer-leader", "--to", to]);
            let too_soon =
                answer["error"]["cause"].as_str().is_some_and(|c| c.contains("one transfer a second"));
            assert!(code == 0 || (code == 4 && too_soon), "the {n}th: {answer}");
            if code == 0 { Ok(answer) } else { Err(answer.to_string()) }
        });
        assert_eq!(moved["to"], to, "the {n}th: {moved}");
        to.clone_into(&mut owner);
    }
    let took = started.elapsed();
    measured(&format!("100 transfers: {:.1} s", took.as_secs_f64()));
    assert!(took > Duration::from_secs(99), "one a second: {took:?}");
    let report = load.end(&lab, &owner);
    report.assert_only_what_straddled_a_swap_failed(&lab, "100 transfers", &owner);
    assert_eq!(lab.steady(), owner);
    others(&owner).into_iter().for_each(|member| lab.address_goes(member));
    assert_eq!(lab.with_address(), [owner.as_str()]);
    let history = lab.vipctl_json(&owner, &["history", "-n", "0"]).1;
    let planned = history.as_array().unwrap().iter().filter(|m| m["kind"] == "switchover").count();
    assert_eq!(planned, 100);
    lab.assert_fenced();
}

/// Whoever is not answered in time asks again, and so may others.
#[test]
fn fault_67_a_repeated_request_is_one_move() {
    let lab = Lab::up("again");
    let first = lab.steady();
    let to = others(&first)[0];
    let epoch = lab.status(&first).unwrap().epoch;
    let answers = std::thread::scope(|scope| {
        let ask = |n: usize| {
            let (lab, member) = (&lab, crate::lab::MEMBERS[n % 3]);
            scope.spawn(move || lab.vipctl_json(member, &["transfer-leader", "--to", to]))
        };
        let all: Vec<_> = (0..9).map(ask).collect();
        all.into_iter().map(|answer| answer.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(answers.iter().filter(|(code, _)| *code == 0).count(), 1, "{answers:?}");
    for (code, json) in answers.iter().filter(|(code, _)| *code != 0) {
        // Under way, over, or between two leaders.
        assert!([3, 4].contains(code), "{code}: {json}");
        assert!(json["error"]["next"].as_str().is_some_and(|n| !n.is_empty()), "{json}");
    }
    assert_eq!(lab.steady(), to);
    let history = lab.vipctl_json(to, &["history"]).1;
    let since = history.as_array().unwrap().iter().filter(|m| m["epoch"].as_u64() > Some(epoch)).count();
    assert_eq!(since, 1, "{history}");
    lab.assert_fenced();
}

/// To different members, in the same moment. EC2 takes its time, so that the second comes while the first moves.
#[test]
fn fault_55_of_two_transfers_at_once_one_wins_and_the_other_learns_of_it() {
    let lab = Lab::up("twoatonce");
    let mut owner = lab.steady();
    lab.ok(&["ec2", "delay", "800", "--action", "ReplaceRoute"]);
    for round in 0..3 {
        let epoch = lab.status(&owner).unwrap().epoch;
        let targets = others(&owner);
        let together = std::sync::Barrier::new(2);
        let answers = std::thread::scope(|scope| {
            let ask = |to: &'static str| {
                let (lab, owner, together) = (&lab, &owner, &together);
                scope.spawn(move || {
                    together.wait();
                    (to, lab.vipctl_json(owner, &["transfer-leader", "--to", to]))
                })
            };
            let both: Vec<_> = targets.into_iter().map(ask).collect();
            both.into_iter().map(|answer| answer.join().unwrap()).collect::<Vec<_>>()
        });
        let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|(_, (code, _))| *code == 0);
        let [(to, (_, moved))] = won[..] else { panic!("round {round}: one wins: {answers:?}") };
        let [(_, (code, refusal))] = lost[..] else { panic!("round {round}: {answers:?}") };
        assert_eq!(moved["to"], *to, "round {round}: {moved}");
        let error = &refusal["error"];
        assert_eq!((*code, &error["kind"]), (4, &"refused".into()), "round {round}: {refusal}");
        assert_eq!(error["cause"], format!("a move to {to} is under way"), "round {round}: {refusal}");
        assert!(error["next"].as_str().is_some_and(|n| n.contains("vipctl status --watch")), "{refusal}");
        let history = lab.vipctl_json(to, &["history"]).1;
        let since = history.as_array().unwrap().iter().filter(|m| m["epoch"].as_u64() > Some(epoch)).count();
        assert_eq!(since, 1, "round {round}: {history}");
        lab.client_reaches(to);
        (*to).clone_into(&mut owner);
        assert_eq!(lab.steady(), owner);
        // FAULTS 67: one a second.
        let over_ns = lab.now_ns() + 1_000_000_000;
        until("a second has passed", BOUND, || holds(lab.now_ns() >= over_ns, || "not yet".into()));
    }
    lab.ok(&["ec2", "clear", "delay"]);
    lab.assert_fenced();
}

#[test]
fn a_witness_votes_and_never_owns() {
    let lab = Lab::up_with("witness", &["--set", "members.az-c.witness=true"]);
    let first = lab.steady();
    assert_ne!(first, "az-c");
    let other = others(&first).into_iter().find(|m| *m != "az-c").unwrap();
    let (code, json) = lab.vipctl_json(&first, &["transfer-leader", "--to", "az-c"]);
    assert_eq!(code, 4, "{json}");
    assert!(json["error"]["cause"].as_str().unwrap().contains("az-c is a witness"), "{json}");

    // It needs no HAProxy.
    lab.ok(&["kill", "az-c", "--only", "haproxy"]);
    let status = lab.says(&first, "the witness's is gone", |s| s.member("az-c").health == "unhealthy");
    assert_eq!(status.state, "steady", "{status:?}");

    // Whichever of the two is elected, the other than the witness owns; and its vote is what makes it.
    lab.ok(&["kill", &first]);
    assert_eq!(lab.taken_over_from(&first), other);
    let status = lab.status(other).unwrap();
    assert!(status.member("az-c").voter);
    assert!(lab.swaps().iter().all(|c| !c.is_of("az-c")), "{:?}", lab.swaps());
    lab.ok(&["start", &first]);
    assert_eq!(lab.steady(), other);
    lab.says(other, "no quarantine", |s| s.members.iter().all(|m| !m.quarantined));
    // The only two that may own: one asked to leave goes to the other.
    let (code, json) = lab.vipctl_json("az-c", &["transfer-leader"]);
    assert_eq!((code, &json["to"]), (0, &first.as_str().into()), "{json}");
    assert!(!lab.has_address("az-c"));
    lab.assert_fenced();
}
