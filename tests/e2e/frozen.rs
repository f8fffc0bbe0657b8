//! An owner that stands still and then goes on.

use std::time::Duration;

use crate::calls::Call;
use crate::lab::{BOUND, Lab, holds, until};
use crate::status::{eni, others};

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

/// At least as long as `frozen`, and until there is another owner.
fn a_thawed_owner_calls_no_more(lab: &Lab, frozen: Duration) {
    let first = lab.steady();
    let load = lab.load(&first);
    let frozen_ns = lab.json(&["freeze", &first, "--only", "vipd"])["at_boot_ns"].as_u64().unwrap();
    let second = lab.taken_over_from(&first);
    load.end(lab, &second).assert_only_what_straddled_a_swap_failed(lab, "vipd frozen", &second);
    assert!(lab.has_address(&first));
    // The fault itself takes this long.
    let thaw_ns = frozen_ns + ns(frozen);
    until("it was frozen so long", frozen + BOUND, || holds(lab.now_ns() >= thaw_ns, || "not yet".into()));
    lab.ok(&["continue", &first, "--only", "vipd"]);
    lab.address_goes(&first);
    assert_eq!(lab.steady(), second);
    let swaps = lab.swaps_since(frozen_ns);
    assert!(swaps.iter().all(|c| c.is_of(&second)), "{swaps:?}");
    lab.assert_fenced();
}

/// Fast enough that a second is longer than lease and election.
#[test]
fn fault_02_an_owner_frozen_for_1_s_calls_no_more() {
    let lab = Lab::up_as("frozen1", &["--heartbeat", "50", "--election", "200,350"]);
    a_thawed_owner_calls_no_more(&lab, Duration::from_secs(1));
}

#[test]
fn fault_02_an_owner_frozen_for_5_s_calls_no_more() {
    a_thawed_owner_calls_no_more(&Lab::up("frozen5"), Duration::from_secs(5));
}

#[test]
fn fault_02_an_owner_frozen_for_60_s_calls_no_more() {
    a_thawed_owner_calls_no_more(&Lab::up("frozen60"), Duration::from_secs(60));
}

/// All members stand still for longer than a lease, and the owner goes on before the others: nobody else has claimed, it
/// still leads as far as it knows, and it sees a wrong route. What it lacks is the lease.
#[test]
fn fault_24_an_owner_that_wakes_before_its_group_calls_nothing_until_the_group_answers() {
    let lab = Lab::up("suspended");
    let first = lab.steady();
    let [second, third] = others(&first)[..] else { panic!() };
    for member in [second, third, &first] {
        lab.ok(&["freeze", member, "--only", "vipd"]);
    }
    lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", &eni(second)]);
    let asleep_ns = lab.now_ns();
    // Five leases.
    let wakes_ns = asleep_ns + ns(Duration::from_secs(10));
    until("they slept", BOUND * 2, || holds(lab.now_ns() >= wakes_ns, || "not yet".into()));
    lab.ok(&["continue", &first, "--only", "vipd"]);
    until("the owner sees the wrong route", BOUND, || {
        let seen = |c: &Call| c.is_of(&first) && c.action == "DescribeRouteTables";
        holds(lab.calls().iter().any(|c| seen(c) && c.received_boot_ns >= wakes_ns), || "not yet".into())
    });
    // And has time for what it must not do.
    let alone_ns = lab.now_ns() + ns(Duration::from_secs(2));
    until("it was alone", BOUND, || holds(lab.now_ns() >= alone_ns, || "not yet".into()));
    let swaps = lab.swaps_since(asleep_ns);
    assert!(swaps.is_empty(), "without a lease: {swaps:?}");
    for member in [second, third] {
        lab.ok(&["continue", member, "--only", "vipd"]);
    }
    let owner = lab.steady();
    lab.routes_come_to(&owner);
    let swaps = lab.swaps_since(asleep_ns);
    assert!(!swaps.is_empty(), "somebody repaired it");
    lab.assert_fenced();
}

/// FENCING.md, F-c: while read-back is fast, which it is for a successor of one with a call in the air.
const REPAIRED_WITHIN: Duration = Duration::from_secs(2);

/// What the lab adds to R: a round trip, on a machine that runs three members and their HAProxy.
const ROUND_TRIP: Duration = Duration::from_millis(300);

/// What no fence can stop (FENCING.md, section 4) happens, and does no lasting harm.
#[test]
fn fault_03_a_write_that_was_frozen_behind_its_check_is_repaired() {
    let lab = Lab::up_faulty("window");
    let first = lab.steady();
    lab.arm(&first, "vpc.body.checked", "stall@1");
    // Something to write.
    lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", others(&first)[0]]);
    let checked = lab.hit(&first, "vpc.body.checked", 1);
    let second = lab.taken_over_from(&first);
    let newer = lab.swaps_since(checked.at_boot_ns);
    assert!(!newer.is_empty() && newer.iter().all(|c| c.is_of(&second)), "{newer:?}");

    let released_ns = lab.now_ns();
    lab.release(&first, "vpc.body.checked");
    let late = until("the old write arrives, and takes effect", BOUND, || {
        let late = lab.swaps_since(released_ns).into_iter().find(|c| c.is_of(&first));
        late.filter(|c| c.outcome != "pending").ok_or_else(|| "no call, or not yet".into())
    });
    assert_eq!((late.table.as_deref(), late.outcome.as_str()), (Some("rtb-0b"), "ok"), "{late}");
    let wrong_ns = late.executed_boot_ns.unwrap();
    let repair = until("the newer owner repairs", BOUND, || {
        let mut repairs = lab.swaps_since(wrong_ns).into_iter().filter(|c| c.is_of(&second));
        let repair = repairs.find(|c| c.table == late.table && c.executed_boot_ns.is_some());
        repair.ok_or_else(|| format!("{:?}", lab.routes()))
    });
    let wrong = Duration::from_nanos(repair.executed_boot_ns.unwrap() - wrong_ns);
    crate::lab::measured(&format!("a write from behind the check was wrong for {wrong:?}"));
    assert!(wrong <= REPAIRED_WITHIN + ROUND_TRIP, "{wrong:?}");
    lab.address_goes(&first);
    assert_eq!(lab.steady(), second);
    let old: Vec<_> = lab.swaps_since(checked.at_boot_ns).into_iter().filter(|c| c.is_of(&first)).collect();
    assert_eq!(old.len(), 1, "nothing but what had passed the check: {old:?}");
    lab.assert_fenced_but(|call| call.is_of(&first) && call.received_boot_ns >= released_ns);
}

/// The same thread stands before the check: nothing leaves.
#[test]
fn fault_03_what_was_frozen_before_its_check_never_leaves() {
    let lab = Lab::up_faulty("before");
    let first = lab.steady();
    lab.arm(&first, "vpc.body.unchecked", "stall@1");
    lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", others(&first)[0]]);
    let stalled = lab.hit(&first, "vpc.body.unchecked", 1);
    let second = lab.taken_over_from(&first);
    lab.release(&first, "vpc.body.unchecked");
    lab.address_goes(&first);
    assert_eq!(lab.steady(), second);
    let swaps = lab.swaps_since(stalled.at_boot_ns);
    assert!(swaps.iter().all(|c| c.is_of(&second)), "{swaps:?}");
    lab.assert_fenced();
}
