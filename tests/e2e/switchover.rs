//! Moves that somebody asked for.

use crate::lab::Lab;
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
    load.end(&lab, to).assert_no_failed_new_connection(&lab, "transfer-leader", to);
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
    load.end(&lab, &second).assert_no_failed_new_connection(&lab, "SIGTERM", &second);
    assert!(!lab.has_address(&first));
    let moved = lab.status(&second).unwrap().last_move.unwrap();
    assert_eq!((&moved["kind"], &moved["from"]), (&"switchover".into(), &first.as_str().into()));
    lab.assert_fenced();
}
