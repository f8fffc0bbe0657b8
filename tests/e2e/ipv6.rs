//! An IPv6 VIP beside an IPv4 one: packets of a client, not routes alone.

use crate::lab::{BOUND, Lab, VIP, holds, until};
use crate::status::{eni, others};

const VIP_V6: &str = "fd00:77::10";
const IN_URL: &str = "[fd00:77::10]";

impl Lab {
    /// The load's VIP is the first: the IPv6 one.
    fn up_with_both(name: &str) -> Self {
        Self::up_with(name, &["--vip", "fd00:77::10/128", "--vip", "192.168.77.10/32"])
    }

    /// Steady, with both VIPs in every table on the owner, and the client answered at both; the owner.
    fn steady_with_both(&self, ask: &str) -> String {
        let status = self.says(ask, "steady", |s| s.state == "steady");
        let owner = status.owner.unwrap();
        let routes = self.routes();
        assert_eq!((status.vips.len(), routes.len()), (2, 6), "{routes:?}");
        assert!(routes.iter().all(|(_, target)| target.as_ref() == Some(&eni(&owner))), "{routes:?}");
        self.client_reaches_at(VIP, &owner);
        self.client_reaches_at(IN_URL, &owner);
        owner
    }

    fn has_v6(&self, member: &str) -> bool {
        self.inside(member, &["ip", "-o", "-6", "address", "show", "dev", "lo"]).contains("fd00:77::10/128")
    }

    /// The client's own path, as the kernel has it: through the router, by its route table, to a member.
    fn is_by_way_of(&self, member: &str) {
        let number = 1 + u32::from(member.as_bytes()[3] - b'a');
        let looked = self.inside(
            "router",
            &["ip", "-6", "route", "get", VIP_V6, "iif", "to-client", "from", "2001:db8:0:109::10"],
        );
        assert!(looked.contains(&format!("via 2001:db8:0:10{number}::10")), "{looked}");
    }
}

#[test]
fn packets_to_an_ipv6_vip_reach_the_owner_and_the_next_one_after_a_failover() {
    let lab = Lab::up_with_both("six");
    let first = lab.steady_with_both("az-a");
    lab.is_by_way_of(&first);
    let load = lab.load_at(IN_URL, &first);

    lab.ok(&["kill", &first]);
    let ask = others(&first)[0];
    let second = until("another member owns", BOUND, || {
        let owner = lab.status(ask)?.owner.unwrap_or_default();
        holds(!owner.is_empty() && owner != first, || owner.clone()).map(|()| owner)
    });
    lab.client_reaches_at(VIP, &second);
    lab.client_reaches_at(IN_URL, &second);
    lab.is_by_way_of(&second);
    let report = load.end(&lab, &second);
    assert!(report.vip.is_ipv6() && report.ok > 0, "{report:?}");
    report.print_outage("IPv6, owner killed", &second);
    assert!(lab.has_v6(&second));

    // Back again, on purpose: no new connection fails.
    lab.ok(&["start", &first]);
    lab.steady_with_both(&second);
    lab.says(&second, "no quarantine", |s| s.members.iter().all(|m| !m.quarantined));
    let load = lab.load_at(IN_URL, &second);
    let (code, moved) = lab.vipctl_json(&second, &["transfer-leader", "--to", &first]);
    assert_eq!((code, &moved["to"]), (0, &first.as_str().into()), "{moved}");
    load.end(&lab, &first).assert_only_what_straddled_a_swap_failed(&lab, "IPv6, transfer-leader", &first);
    until("the old owner's address goes", BOUND, || holds(!lab.has_v6(&second), || "it is there".into()));
    assert_eq!(lab.steady_with_both(&first), first);
    lab.assert_fenced();
}

/// EC2's source/dest check drops IPv6 as well: without it the lab would show nothing.
#[test]
fn without_its_route_an_ipv6_vip_is_reached_by_nobody() {
    let lab = Lab::up_with("sixnone", &["--vip", "fd00:77::10/128", "--no-vipd", "--initial-route", "a"]);
    lab.inside("az-a", &["ip", "address", "add", "fd00:77::10/128", "dev", "lo"]);
    lab.client_reaches_at(IN_URL, "az-a");
    lab.ok(&["ec2", "eni", "az-a", "--source-dest-check", "on"]);
    let refused = || lab.get("client", &format!("{IN_URL}:8080"), "/").err();
    assert!(refused().is_some(), "its packets pass the check");
    lab.ok(&["ec2", "eni", "az-a", "--source-dest-check", "off"]);
    lab.client_reaches_at(IN_URL, "az-a");
    lab.ok(&["ec2", "delete-route", "--table", "rtb-0a"]);
    let error = refused().expect("no route, no answer");
    assert!(error.contains("nreachable") || error.contains("No route"), "{error}");
}
