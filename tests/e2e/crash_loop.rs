//! A member that crashes again and again (FAULTS 7). That systemd gives up on it is tested where systemd runs
//! (`tests/pack`).

use crate::lab::{BOUND, Lab, until};

/// `StartLimitBurst=` of the unit: more starts there are not.
const STARTS: usize = 10;

#[test]
fn fault_07_a_crash_loop_of_the_owner_moves_the_vip_once() {
    let lab = Lab::up("loop");
    let first = lab.steady();
    lab.ok(&["kill", &first, "--only", "vipd"]);
    let second = lab.taken_over_from(&first);
    lab.says(&second, "the move is over", |s| s.state == "degraded");
    let settled_ns = lab.now_ns();
    for start in 1..STARTS {
        lab.ok(&["start", &first, "--only", "vipd"]);
        // It runs and takes part, or the crash would be none.
        until(&format!("start {start}"), BOUND, || lab.status(&first).map(drop));
        lab.ok(&["kill", &first, "--only", "vipd"]);
    }
    let swaps = lab.swaps_since(settled_ns);
    assert!(swaps.is_empty(), "the routes flap: {swaps:?}");
    assert_eq!(lab.status(&second).unwrap().owner.as_ref(), Some(&second));
    lab.ok(&["start", &first, "--only", "vipd"]);
    lab.address_goes(&first);
    assert_eq!(lab.steady(), second);
    lab.assert_fenced();
}
