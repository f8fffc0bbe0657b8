//! An owner that stands still and then goes on (FAULTS 2).

use std::time::Duration;

use crate::lab::{BOUND, Lab, holds, until};

/// As long as the fault is.
const FROZEN: Duration = Duration::from_secs(5);

#[test]
fn a_thawed_owner_calls_no_more() {
    let lab = Lab::up("frozen");
    let first = lab.steady();
    let load = lab.load(&first);
    let frozen_ns = lab.json(&["freeze", &first, "--only", "vipd"])["at_boot_ns"].as_u64().unwrap();
    let second = lab.taken_over_from(&first);
    load.end(&lab, &second).assert_no_failed_new_connection(&lab, "vipd frozen", &second);
    assert!(lab.has_address(&first));
    // The fault itself takes this long.
    let thaw_ns = frozen_ns + u64::try_from(FROZEN.as_nanos()).unwrap();
    until("it was frozen for 5 s", BOUND, || holds(lab.now_ns() >= thaw_ns, || "not yet".into()));
    lab.ok(&["continue", &first, "--only", "vipd"]);
    lab.address_goes(&first);
    assert_eq!(lab.steady(), second);
    let swaps = lab.swaps_since(frozen_ns);
    assert!(swaps.iter().all(|c| c.is_of(&second)), "{swaps:?}");
    lab.assert_fenced();
}
