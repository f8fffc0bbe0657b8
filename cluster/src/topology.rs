//! The VPC as network namespaces.
//!
//! ```text
//!   client --- to-client +--------+ to-a --- az-a   10.0.1.10   2001:db8:0:101::10
//!   10.0.9.10            | router | to-b --- az-b   10.0.2.10   2001:db8:0:102::10
//!                        +--------+ to-c --- az-c   10.0.3.10   2001:db8:0:103::10
//!                         EC2, IMDS on its lo
//! ```
//!
//! Each EC2 route table is a kernel table of the router, and `ip rule iif PORT` is a subnet's association. The VPC's
//! own CIDR comes first in every table, as EC2's local route does; what no entry matches is unreachable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::ns;
use crate::spec::{EC2_ADDRESS, EC2_PORT, IMDS_ADDRESS, LINK, Spec, VPC_CIDR, VPC_CIDR_V6, subnet_v6};

/// Makes the namespaces and all that connects them. The names must be free.
pub fn create(spec: &Spec) -> anyhow::Result<()> {
    let mut batch = String::new();
    for ns in spec.namespaces() {
        let _ = writeln!(batch, "netns add {ns}");
    }
    ns::ip(None, &batch)?;
    let router = spec.namespace("router")?;
    ns::within(&router, || {
        quiet_sysctls()?;
        ns::sysctl("ipv4/ip_forward", "1")?;
        // By default one ICMP error a second and target: most connections to a missing route would time out instead.
        ns::sysctl("ipv4/icmp_ratelimit", "0")?;
        ns::sysctl("ipv6/conf/all/forwarding", "1")?;
        ns::sysctl("ipv6/icmp/ratelimit", "0")
    })?;
    ns::ip(Some(&router), &router_batch(spec))?;
    ns::ip_v6(&router, &router_rules_v6(spec))?;
    let client = spec.namespace("client")?;
    ns::within(&client, || {
        quiet_sysctls()?;
        // A connection every few milliseconds for minutes must not run out of ports.
        ns::sysctl("ipv4/ip_local_port_range", "1024 65535")
    })?;
    ns::ip(Some(&client), &host_batch(["10.0.9.10", "10.0.9.1"], [subnet_v6(9, 0x10), subnet_v6(9, 1)]))?;
    for zone in &spec.zones {
        ns::within(&zone.ns, quiet_sysctls)?;
        let v4 = [zone.ip, zone.gateway].map(|ip| ip.to_string());
        let v4 = v4.each_ref().map(String::as_str);
        ns::ip(Some(&zone.ns), &host_batch(v4, [zone.ip_v6, zone.gateway_v6]))?;
    }
    Ok(())
}

fn quiet_sysctls() -> anyhow::Result<()> {
    for key in ["ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter"] {
        ns::sysctl(key, "0")?;
    }
    // An address would spend a second or two on duplicate address detection. What counts is the greatest of the two.
    for interface in ["all", "default", LINK] {
        ns::sysctl(&format!("ipv6/conf/{interface}/accept_dad"), "0")?;
    }
    Ok(())
}

fn router_batch(spec: &Spec) -> String {
    let mut b = String::from("link set lo up\n");
    let _ = writeln!(b, "address add {EC2_ADDRESS}/32 dev lo");
    let _ = writeln!(b, "address add {IMDS_ADDRESS}/32 dev lo");
    let mut port = |name: &str, ns: &str, mac: &str, gateway: &str, gateway_v6: Ipv6Addr| {
        let _ = writeln!(b, "link add {name} type veth peer name {LINK} address {mac} netns {ns}");
        let _ = writeln!(b, "address add {gateway}/24 dev {name}");
        let _ = writeln!(b, "address add {gateway_v6}/64 dev {name}");
        let _ = writeln!(b, "link set {name} up");
    };
    port("to-client", &format!("{}-client", spec.name), "02:00:0a:00:09:0a", "10.0.9.1", subnet_v6(9, 1));
    for zone in &spec.zones {
        port(&zone.port, &zone.ns, &zone.mac, &zone.gateway.to_string(), zone.gateway_v6);
    }
    let _ = writeln!(b, "rule add pref 100 to {VPC_CIDR} lookup main");
    for table in &spec.tables {
        let _ = writeln!(b, "route add unreachable default table {}", table.kernel);
        for port in &table.ports {
            let _ = writeln!(b, "rule add pref 200 iif {port} lookup {}", table.kernel);
        }
    }
    b
}

fn router_rules_v6(spec: &Spec) -> String {
    let mut b = format!("rule add pref 100 to {VPC_CIDR_V6} lookup main\n");
    for table in &spec.tables {
        let _ = writeln!(b, "route add unreachable default table {}", table.kernel);
        for port in &table.ports {
            let _ = writeln!(b, "rule add pref 200 iif {port} lookup {}", table.kernel);
        }
    }
    b
}

fn host_batch([ip, gateway]: [&str; 2], [ip_v6, gateway_v6]: [Ipv6Addr; 2]) -> String {
    format!(
        "link set lo up\naddress add {ip}/24 dev {LINK}\naddress add {ip_v6}/64 dev {LINK}\nlink set {LINK} up\n\
         route add default via {gateway}\nroute add ::/0 via {gateway_v6}\n"
    )
}

/// What a member can be cut off from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The other members.
    Members,
    /// The EC2 endpoint.
    Ec2,
    /// The metadata service.
    Imds,
    /// The client.
    Client,
}

/// Which packets are dropped, seen from the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Those to it.
    In,
    /// Those from it.
    Out,
}

/// What the router drops now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cuts {
    /// By member: what, which way, and how many of a hundred packets.
    pub cut: BTreeMap<String, BTreeSet<(Part, Way, u8)>>,
    /// Members whose ENI drops what is not to or from its own address (EC2's source/dest check).
    pub checked: BTreeSet<String>,
}

/// The router's whole ruleset; applied at once it replaces the one before.
pub fn ruleset(spec: &Spec, cuts: &Cuts) -> String {
    let (mut forward, mut input, mut output) = (String::new(), String::new(), String::new());
    for zone in &spec.zones {
        let port = &zone.port;
        if cuts.checked.contains(&zone.member) {
            for (family, ip) in [("ip", zone.ip.to_string()), ("ip6", zone.ip_v6.to_string())] {
                let _ = writeln!(forward, "iifname \"{port}\" {family} saddr != {ip} drop");
                let _ = writeln!(forward, "oifname \"{port}\" {family} daddr != {ip} drop");
            }
        }
        let others: Vec<_> = spec
            .zones
            .iter()
            .filter(|z| z.member != zone.member)
            .map(|z| format!("\"{}\"", z.port))
            .collect();
        let others = others.join(", ");
        for (part, way, percent) in cuts.cut.get(&zone.member).into_iter().flatten() {
            // Each packet is lost by itself, as netem would; nft needs no kernel module for it.
            let drop = if *percent >= 100 {
                "drop".into()
            } else {
                format!("numgen random mod 100 < {percent} drop")
            };
            let _ = match (part, way) {
                (Part::Members, _) if others.is_empty() => Ok(()),
                (Part::Members, Way::Out) => {
                    writeln!(forward, "iifname \"{port}\" oifname {{ {others} }} {drop}")
                }
                (Part::Members, Way::In) => {
                    writeln!(forward, "iifname {{ {others} }} oifname \"{port}\" {drop}")
                }
                (Part::Client, Way::Out) => {
                    writeln!(forward, "iifname \"{port}\" oifname \"to-client\" {drop}")
                }
                (Part::Client, Way::In) => {
                    writeln!(forward, "iifname \"to-client\" oifname \"{port}\" {drop}")
                }
                (Part::Ec2, Way::Out) => writeln!(input, "iifname \"{port}\" tcp dport {EC2_PORT} {drop}"),
                (Part::Ec2, Way::In) => writeln!(output, "oifname \"{port}\" tcp sport {EC2_PORT} {drop}"),
                (Part::Imds, Way::Out) => {
                    writeln!(input, "iifname \"{port}\" ip daddr {IMDS_ADDRESS} {drop}")
                }
                (Part::Imds, Way::In) => {
                    writeln!(output, "oifname \"{port}\" ip saddr {IMDS_ADDRESS} {drop}")
                }
            };
        }
    }
    let chain = |hook: &str, rules: &str| {
        format!("chain {hook} {{\ntype filter hook {hook} priority 0; policy accept;\n{rules}}}\n")
    };
    format!(
        "table inet lab {{}}\nflush table inet lab\ntable inet lab {{\n{}{}{}}}\n",
        chain("forward", &forward),
        chain("input", &input),
        chain("output", &output)
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_cut_zone_drops_both_ways() {
        let spec = Spec::new("vip", Path::new("/run/x"), 3, 3).unwrap();
        let mut cuts = Cuts::default();
        cuts.cut.insert(
            "az-a".into(),
            [(Part::Members, Way::In, 100), (Part::Ec2, Way::Out, 100), (Part::Client, Way::Out, 30)].into(),
        );
        let rules = ruleset(&spec, &cuts);
        assert!(rules.contains("iifname { \"to-b\", \"to-c\" } oifname \"to-a\" drop"), "{rules}");
        assert!(rules.contains("iifname \"to-a\" tcp dport 5000 drop"), "{rules}");
        assert!(
            rules.contains("iifname \"to-a\" oifname \"to-client\" numgen random mod 100 < 30 drop"),
            "{rules}"
        );
        assert!(!rules.contains("sport"), "{rules}");
        assert!(!ruleset(&spec, &Cuts::default()).contains("drop"));
    }
}
