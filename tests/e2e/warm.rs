//! What a failover needs is there before it: connections to EC2, and the tables that a tag names.

use std::collections::BTreeSet;

use crate::calls::Call;
use crate::lab::{BOUND, Lab, MEMBERS, holds, until};

/// Every member that may own keeps eight connections (`aws.warm_connections`), and its first swaps use them.
#[test]
fn the_swaps_of_a_failover_find_their_connections_open() {
    let lab = Lab::up("warm");
    let first = lab.steady();
    let reads = |of: &str, calls: &[Call]| -> BTreeSet<u16> {
        calls.iter().filter(|c| c.is_of(of) && c.action == "DescribeRouteTables").map(|c| c.port).collect()
    };
    until("all keep eight connections warm", BOUND, || {
        let calls = lab.calls();
        let open = MEMBERS.map(|member| reads(member, &calls).len());
        holds(open.iter().all(|n| *n >= 8), || format!("{open:?}"))
    });
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
    // A member looks when it starts, and shows what it saw itself.
    for member in MEMBERS {
        lab.ok(&["kill", member, "--only", "vipd"]);
    }
    lab.ok(&["ec2", "tag", "--table", "rtb-0c", "vipd:own=yes"]);
    for member in MEMBERS {
        lab.ok(&["start", member, "--only", "vipd"]);
    }
    let first = lab.steady();
    let seen = "vipd_route_in_sync{route_table=\"rtb-0c\",vip=\"192.168.77.10/32\"}";
    for member in MEMBERS {
        lab.gauge_is(member, seen, Some("1"));
    }

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
    let hung = |c: &Call| c.is_of(&second) && c.faults.iter().any(|f| f.starts_with("hang"));
    assert!(lab.calls().iter().any(hung), "it asked nothing meanwhile");
    lab.assert_fenced();
}
