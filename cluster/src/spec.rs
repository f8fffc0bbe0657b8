//! What a lab consists of: zones, route tables, addresses and names. Pure; kept in `<dir>/lab.json`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// The first kernel routing table that stands for an EC2 route table.
const FIRST_KERNEL_TABLE: u32 = 1001;
/// Where the EC2 endpoint listens, on the router's loopback.
pub const EC2_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The port of the EC2 endpoint.
pub const EC2_PORT: u16 = 5000;
/// Where IMDS listens, as on a real instance.
pub const IMDS_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// What HAProxy's frontend binds.
pub const VIP_PORT: u16 = 8080;
/// The VPC's CIDR, routed locally in every route table.
pub const VPC_CIDR: &str = "10.0.0.0/16";
/// The VPC's IPv6 CIDR, likewise.
pub const VPC_CIDR_V6: &str = "2001:db8:0:100::/56";
/// The VPC's id.
pub const VPC_ID: &str = "vpc-0lab";
/// The account that owns everything.
pub const ACCOUNT: &str = "123456789012";
/// The region of the zones.
pub const REGION: &str = "eu-west-1";
/// The network-namespace interface of members and client.
pub const LINK: &str = "eth0";

/// One lab, whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Prefix of the namespaces.
    pub name: String,
    /// Where state, logs, sockets and configurations are.
    pub dir: PathBuf,
    /// vipd's cluster name.
    pub cluster: String,
    /// One member each.
    pub zones: Vec<Zone>,
    /// In the order in which they are listed in vipd's configuration.
    pub tables: Vec<Table>,
    /// The overlay addresses as CIDRs.
    pub vips: Vec<String>,
    /// The ENI that each table's VIP routes name at the start; none: no such routes.
    pub initial_route: Option<String>,
    /// How vipd is run.
    pub vipd: Vipd,
    /// The HAProxy program.
    pub haproxy: PathBuf,
}

/// A zone with its subnet, member, instance and ENI.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Zone {
    /// `az-a`.
    pub member: String,
    /// `a`.
    pub letter: String,
    /// `eu-west-1a`.
    pub zone: String,
    /// `vip-a`.
    pub ns: String,
    /// The router's end of the veth: `to-a`.
    pub port: String,
    /// `eni-0a`.
    pub eni: String,
    /// `i-0a`.
    pub instance: String,
    /// `subnet-0a`.
    pub subnet: String,
    /// `10.0.1.0/24`.
    pub cidr: String,
    /// `10.0.1.10`.
    pub ip: Ipv4Addr,
    /// `10.0.1.1`.
    pub gateway: Ipv4Addr,
    /// `2001:db8:0:101::10`.
    pub ip_v6: Ipv6Addr,
    /// `2001:db8:0:101::1`.
    pub gateway_v6: Ipv6Addr,
    /// Of the member's `eth0`.
    pub mac: String,
}

/// An EC2 route table and the kernel table that follows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// `rtb-0a`.
    pub id: String,
    /// Number of the kernel's table in the router.
    pub kernel: u32,
    /// Router ports whose traffic looks here.
    pub ports: Vec<String>,
    /// Subnets associated with it.
    pub subnets: Vec<String>,
}

/// How vipd is configured and run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Vipd {
    /// False with `--no-vipd`.
    pub enabled: bool,
    /// The program.
    pub path: PathBuf,
    /// `[raft] profile`.
    pub profile: Option<String>,
    /// `[raft] heartbeat_ms`.
    pub heartbeat_ms: Option<u64>,
    /// `[raft] election_ms`.
    pub election_ms: Option<(u64, u64)>,
    /// `[aws] endpoint_url` in place of the lab's own.
    pub endpoint_url: Option<String>,
    /// `[aws] eni` by member, in place of IMDS.
    pub enis: Vec<(String, String)>,
    /// `[aws] route_tables` in place of the lab's.
    pub route_tables: Vec<String>,
    /// `[MEMBER:]section.key=value`.
    pub sets: Vec<String>,
}

impl Spec {
    /// A lab of `zones` zones (1 to 8, letters a to h) and `tables` route tables (1 to 250).
    pub fn new(name: &str, dir: &Path, zones: usize, tables: usize) -> anyhow::Result<Self> {
        if name.is_empty() || name.len() > 24 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        {
            bail!("the lab's name must be 1 to 24 letters, digits or '-', not {name:?}");
        }
        if !(1..=8).contains(&zones) {
            bail!("--zones must be 1 to 8, not {zones}");
        }
        if !(1..=250).contains(&tables) {
            bail!("--tables must be 1 to 250, not {tables}");
        }
        // HAProxy binds PATH.PID.tmp, and a unix socket's path ends at 107 bytes.
        if dir.as_os_str().len() > 70 {
            bail!(
                "the lab's directory must be at most 70 bytes long, since unix sockets live in it: {}",
                dir.display()
            );
        }
        let zones: Vec<Zone> =
            (1u8..).zip('a'..='h').take(zones).map(|(n, letter)| Zone::new(name, n, letter)).collect();
        let mut list: Vec<Table> = (0u32..).take(tables).map(Table::new).collect();
        let count = list.len();
        if let Some(first) = list.first_mut() {
            first.ports.push("to-client".into());
            first.subnets.push("subnet-0client".into());
        }
        for (i, zone) in zones.iter().enumerate() {
            if let Some(table) = list.get_mut(i % count) {
                table.ports.push(zone.port.clone());
                table.subnets.push(zone.subnet.clone());
            }
        }
        Ok(Self {
            name: name.into(),
            dir: dir.into(),
            cluster: "edge".into(),
            initial_route: zones.first().map(|z| z.eni.clone()),
            zones,
            tables: list,
            vips: vec!["192.168.77.10/32".into()],
            vipd: Vipd::default(),
            haproxy: "haproxy".into(),
        })
    }

    /// Reads `<dir>/lab.json`.
    pub fn load(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("lab.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("no lab in {} (vip-lab up makes one)", dir.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a lab's state", path.display()))
    }

    /// Writes `<dir>/lab.json`.
    pub fn save(&self) -> anyhow::Result<()> {
        let path = self.dir.join("lab.json");
        std::fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The zone of a member named as `az-a`, `a` or `eni-0a`.
    pub fn zone(&self, member: &str) -> anyhow::Result<&Zone> {
        self.zones
            .iter()
            .find(|z| z.member == member || z.letter == member || z.eni == member)
            .with_context(|| format!("no member {member:?} in the lab; it has {}", self.member_list()))
    }

    /// The member whose instance has this address.
    pub fn member_at(&self, ip: IpAddr) -> Option<&Zone> {
        self.zones.iter().find(|z| IpAddr::V4(z.ip) == ip)
    }

    /// The namespace of a member, `client` or `router`.
    pub fn namespace(&self, who: &str) -> anyhow::Result<String> {
        match who {
            "router" | "client" => Ok(format!("{}-{who}", self.name)),
            member => Ok(self.zone(member)?.ns.clone()),
        }
    }

    /// Every namespace, the router's first.
    pub fn namespaces(&self) -> Vec<String> {
        let mut all = vec![format!("{}-router", self.name), format!("{}-client", self.name)];
        all.extend(self.zones.iter().map(|z| z.ns.clone()));
        all
    }

    /// The first VIP without its prefix length.
    pub fn vip_ip(&self) -> &str {
        self.vips.first().and_then(|v| v.split('/').next()).unwrap_or("192.168.77.10")
    }

    /// Whether a VIP is an IPv6 address: HAProxy then binds both families.
    pub fn has_v6(&self) -> bool {
        self.vips.iter().any(|v| v.contains(':'))
    }

    /// Where the daemon listens for verbs.
    pub fn control_socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// A member's own folder.
    pub fn member_dir(&self, zone: &Zone) -> PathBuf {
        self.dir.join(&zone.member)
    }

    /// The CA's folder, with an operator's and a viewer's certificate too.
    pub fn pki_dir(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// Whether the members are told to speak in the clear: `--set tls.insecure=true`.
    pub fn is_insecure(&self) -> bool {
        self.vipd.sets.iter().any(|set| set.replace(' ', "") == "tls.insecure=true")
    }

    fn member_list(&self) -> String {
        self.zones.iter().map(|z| z.member.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Zone {
    fn new(lab: &str, n: u8, letter: char) -> Self {
        Self {
            member: format!("az-{letter}"),
            letter: letter.to_string(),
            zone: format!("{REGION}{letter}"),
            ns: format!("{lab}-{letter}"),
            port: format!("to-{letter}"),
            eni: format!("eni-0{letter}"),
            instance: format!("i-0{letter}"),
            subnet: format!("subnet-0{letter}"),
            cidr: format!("10.0.{n}.0/24"),
            ip: Ipv4Addr::new(10, 0, n, 10),
            gateway: Ipv4Addr::new(10, 0, n, 1),
            ip_v6: subnet_v6(n, 0x10),
            gateway_v6: subnet_v6(n, 1),
            mac: format!("02:00:0a:00:{n:02x}:0a"),
        }
    }
}

/// An address of the `n`th subnet.
pub fn subnet_v6(n: u8, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0x100 | u16::from(n), 0, 0, 0, host)
}

impl Table {
    fn new(index: u32) -> Self {
        let id = match index {
            0 => "rtb-0a".into(),
            1 => "rtb-0b".into(),
            2 => "rtb-0c".into(),
            more => format!("rtb-{more:03}"),
        };
        Self { id, kernel: FIRST_KERNEL_TABLE + index, ports: Vec::new(), subnets: Vec::new() }
    }
}

/// `/run/vip-lab/NAME`, or in `$XDG_RUNTIME_DIR` where `/run` cannot be written.
pub fn default_dir(name: &str) -> PathBuf {
    let run = Path::new("/run");
    if rustix::fs::access(run, rustix::fs::Access::WRITE_OK).is_ok() {
        return run.join("vip-lab").join(name);
    }
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    base.join("vip-lab").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_go_round_the_tables() {
        let spec = Spec::new("vip", Path::new("/run/x"), 3, 2).unwrap();
        assert_eq!(spec.tables[0].ports, ["to-client", "to-a", "to-c"]);
        assert_eq!(spec.tables[1].ports, ["to-b"]);
        assert_eq!(spec.zones[2].ip, Ipv4Addr::new(10, 0, 3, 10));
        let many = Spec::new("vip", Path::new("/run/x"), 3, 5).unwrap();
        let ids: Vec<_> = many.tables.iter().map(|t| t.id.as_str()).collect();
        assert_eq!(ids, ["rtb-0a", "rtb-0b", "rtb-0c", "rtb-003", "rtb-004"]);
    }

    #[test]
    fn members_have_short_names() {
        let spec = Spec::new("vip", Path::new("/run/x"), 3, 3).unwrap();
        assert_eq!(spec.zone("b").unwrap().member, "az-b");
        assert_eq!(spec.zone("az-c").unwrap().eni, "eni-0c");
        assert!(spec.zone("az-d").unwrap_err().to_string().contains("az-a, az-b, az-c"));
    }
}
