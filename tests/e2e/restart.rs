//! The whole group restarts (FAULTS 10).

use crate::lab::Lab;

#[test]
fn fault_10_after_a_restart_of_all_the_vip_stays_where_it_is() {
    let lab = Lab::up("restart");
    let owner = lab.steady();
    // Not the first of the list, which would be everybody's first guess.
    let to = if owner == "az-c" { "az-b" } else { "az-c" };
    assert_eq!(lab.vipctl_json(&owner, &["transfer-leader", "--to", to]).0, 0);
    // Whoever is elected, it stays: four times, since chance elects.
    for _ in 0..4 {
        lab.steady();
        let term = lab.status(to).unwrap().term;
        let killed_ns = lab.json(&["kill", "all", "--only", "vipd"])[0]["at_boot_ns"].as_u64().unwrap();
        lab.ok(&["start", "all", "--only", "vipd"]);
        let status =
            lab.says("az-a", "a steady group of a higher term", |s| s.state == "steady" && s.term > term);
        assert_eq!(status.owner.as_deref(), Some(to));
        lab.client_reaches(to);
        assert_eq!(lab.with_address(), [to]);
        let swaps = lab.swaps_since(killed_ns);
        assert!(swaps.is_empty(), "the routes were right: {swaps:?}");
    }
    lab.assert_fenced();
}
