//! What a failover needs is there before it: connections to EC2, and the tables that a tag names.

use std::collections::BTreeSet;

use crate::calls::Call;
use crate::lab::{BOUND, Lab, MEMBERS, holds, until};

fn all_are_warm(lab: &Lab, since_ns: u64) {
    let reads = |of: &str, calls: &[Call]| -> BTreeSet<u16> {
        calls.iter().filter(|c| c.is_of(of) && c.action == "DescribeRouteTables").map(|c| c.port).collect()
    };
    until("all keep eight connections warm", BOUND, || {
        let mut calls = lab.calls();
        calls.retain(|c| c.received_boot_ns >= since_ns);
        let open = MEMBERS.map(|member| reads(member, &calls).len());
        holds(open.iter().all(|n| *n >= 8), || format!("{open:?}"))
    });
}

/// Every member that may own keeps eight connections (`aws.warm_connections`), and its first swaps use them.
#[test]
fn the_swaps_of_a_failover_find_their_connections_open() {
    let lab = Lab::up("warm");
    let first = lab.steady();
    all_are_warm(&lab, 0);
    let killed_ns = lab.json(&["kill", &first])[0]["at_boot_ns"].as_u64().unwrap();
    let second = lab.taken_over_from(&first);
    let mut before = lab.calls();
    before.retain(|c| c.received_boot_ns < killed_ns);
    // Any call of before opened or used it: the interface is read over the same pool.
    let open: BTreeSet<u16> = before.iter().filter(|c| c.is_of(&second)).map(|c| c.port).collect();
    let swaps = lab.swaps_since(killed_ns);
    assert!(swaps.len() >= 3 && swaps.iter().all(|c| c.is_of(&second)), "{swaps:?}");
    assert!(swaps.iter().all(|c| open.contains(&c.port)), "{open:?}: {swaps:?}");
    // All at once, each on a connection of its own.
    let ports: BTreeSet<u16> = swaps.iter().take(3).map(|c| c.port).collect();
    assert_eq!(ports.len(), 3, "{swaps:?}");
    lab.assert_fenced();
}

/// While EC2 answers no read: what the new owner swaps it knew before.
#[test]
fn a_table_that_a_tag_names_is_known_before_the_owner_dies() {
    let tag = "aws.route_table_tag=\"vipd:own=yes\"";
    let lab = Lab::up_with("warmtag", &["--route-table", "rtb-0a", "--route-table", "rtb-0b", "--set", tag]);
    // A member looks when it starts.
    let mut ended_ns = 0;
    for member in MEMBERS {
        ended_ns = lab.json(&["kill", member, "--only", "vipd"])[0]["at_boot_ns"].as_u64().unwrap();
    }
    lab.ok(&["ec2", "tag", "--table", "rtb-0c", "vipd:own=yes"]);
    for member in MEMBERS {
        lab.ok(&["start", member, "--only", "vipd"]);
    }
    let first = lab.steady();
    all_are_warm(&lab, ended_ns);

    lab.ok(&["ec2", "hang", "--action", "DescribeRouteTables"]);
    let killed_ns = lab.json(&["kill", &first])[0]["at_boot_ns"].as_u64().unwrap();
    let swaps = until("all three tables are swapped", BOUND, || {
        let swaps = lab.swaps_since(killed_ns);
        let tables: BTreeSet<_> = swaps.iter().filter_map(|c| c.table.clone()).collect();
        if tables.len() == 3 { Ok(swaps) } else { Err(format!("{swaps:?}")) }
    });
    lab.ok(&["ec2", "clear", "hang"]);
    let second = lab.taken_over_from(&first);
    assert!(swaps.iter().all(|c| c.is_of(&second)), "{swaps:?}");
    let read = |c: &Call| c.action == "DescribeRouteTables" && c.is_of(&second);
    let last = swaps.iter().map(|c| c.received_boot_ns).max().unwrap();
    let answered = |c: &Call| c.faults.is_empty() && (killed_ns..last).contains(&c.received_boot_ns);
    assert!(!lab.calls().iter().any(|c| read(c) && answered(c)), "EC2 told it meanwhile");
    lab.assert_fenced();
}
