//! EC2 holds a call and executes it after a newer owner's.

use std::time::Duration;

use crate::lab::{BOUND, Lab, holds, measured, until};
use crate::status::others;

/// Longer than it takes to elect, claim and swap with slow timings.
const HELD_MS: &str = "12000";

/// R (FENCING.md, F-c) and a round trip.
const REPAIRED_WITHIN: Duration = Duration::from_millis(2300);

#[test]
fn fault_45_a_call_that_ec2_executes_late_is_repaired() {
    let lab = Lab::up("held");
    let first = lab.steady();
    let late = ["ec2", "late", HELD_MS, "--action", "ReplaceRoute", "--table", "rtb-0b", "--times", "1"];
    lab.ok(&[&late[..], &["--member", &first]].concat());
    lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", others(&first)[0]]);
    let held = until("EC2 holds a call", BOUND, || {
        let held = lab.swaps().into_iter().find(|c| c.faults.iter().any(|f| f.starts_with("late")));
        held.ok_or_else(|| "none".into())
    });
    assert!(held.is_of(&first) && held.executed_boot_ns.is_none(), "{held}");
    lab.ok(&["kill", &first, "--only", "vipd"]);
    let second = lab.taken_over_from(&first);
    let executed_ns = until("EC2 executes it", BOUND + BOUND, || {
        let all = lab.swaps();
        let call = all.iter().find(|c| c.received_boot_ns == held.received_boot_ns).unwrap();
        call.executed_boot_ns.ok_or_else(|| call.to_string())
    });
    let newer = |c: &crate::calls::Call| c.is_of(&second) && c.table == held.table;
    let before = lab.swaps().into_iter().filter(newer).any(|c| c.executed_boot_ns < Some(executed_ns));
    assert!(before, "the newer owner had swapped before");
    let repaired_ns = until("the newer owner repairs", BOUND, || {
        let mut repairs = lab.swaps_since(executed_ns).into_iter().filter(newer);
        repairs.find_map(|c| c.executed_boot_ns).ok_or_else(|| format!("{:?}", lab.routes()))
    });
    let wrong = Duration::from_nanos(repaired_ns - executed_ns);
    measured(&format!("a call that EC2 held was wrong for {wrong:?}"));
    assert!(wrong <= REPAIRED_WITHIN, "{wrong:?}");
    lab.routes_come_to(&second);
    lab.ok(&["start", &first, "--only", "vipd"]);
    lab.address_goes(&first);
    lab.assert_fenced();
}

/// Credentials are fetched ahead of time: what a failover needs is there when IMDS is not.
#[test]
fn fault_44_a_failover_needs_no_imds() {
    let lab = Lab::up("noimds");
    let first = lab.steady();
    lab.ok(&["imds", "off", "--credentials", "off"]);
    assert_eq!(lab.json(&["status"])["imds"]["on"], false);
    lab.ok(&["kill", &first, "--only", "vipd"]);
    let second = lab.taken_over_from(&first);
    // One that starts without it waits, and says what for.
    lab.ok(&["start", &first, "--only", "vipd"]);
    until("it says what it waits for", BOUND, || {
        let log = lab.vipd_log(&first);
        holds(log.contains("instance metadata service") && log.contains("asking again"), || log)
    });
    lab.ok(&["imds", "on", "--credentials", "on"]);
    assert_eq!(lab.steady(), second);
    lab.assert_fenced();
}
