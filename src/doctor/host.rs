//! The host, by what its files say: sysctls, interfaces, the process itself. Reading them takes no privilege.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::finding::{Finding, Level};
use crate::model::Vip;

/// The longest file that is read: `/proc/net/tcp` of ten thousand sockets is 1.5 MB.
const FILE_MAX: u64 = 2 * 1024 * 1024;

/// Where the host's files are: `/`, or a folder that a test has laid out.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// `None` where it is not there or may not be read. `path` without its leading slash.
    pub fn read(&self, path: &str) -> Option<String> {
        use std::io::Read as _;
        let mut text = Vec::new();
        let file = std::fs::File::open(self.0.join(path)).ok()?;
        file.take(FILE_MAX).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    pub fn exists(&self, path: &str) -> bool {
        self.0.join(path).symlink_metadata().is_ok()
    }

    /// The names in a folder, sorted.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.0.join(path)) else { return vec![] };
        let mut names: Vec<_> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn link(&self, path: &str) -> Option<PathBuf> {
        std::fs::read_link(self.0.join(path)).ok()
    }

    /// A file that holds one number.
    pub fn number(&self, path: &str) -> Option<i64> {
        self.read(path)?.trim().parse().ok()
    }

    /// What a path inside is called by those who look at the host.
    pub fn shown(path: &str) -> String {
        Path::new("/").join(path).display().to_string()
    }
}

/// Whether a socket may be bound to an address that is not there.
pub fn binds_foreign_addresses(root: &Root, vip: Vip) -> bool {
    root.number(&format!("proc/sys/net/{}/ip_nonlocal_bind", family(vip))) == Some(1)
}

pub fn family(vip: Vip) -> &'static str {
    match vip.ip() {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    }
}

/// A file of `/proc` tells nothing, which is not that all is well. `by_hand` shows the same.
fn unread(check: &'static str, path: &str, why: &str, by_hand: &str) -> Finding {
    let mend = format!("see that {path} is there and vipd may read it; by hand: {by_hand}");
    Finding::new(Level::Warn, check, format!("{path} cannot be read: not checked"), why, mend)
}

/// The interface that carries the VIP is there.
pub fn interface(root: &Root, name: &str) -> Finding {
    let check = "interface";
    let Some(text) = root.read("proc/net/dev") else {
        let why = "where there is no such interface the owner cannot put the VIP on it";
        return unread(check, "/proc/net/dev", why, &format!("ip link show {name}"));
    };
    if text.lines().any(|line| line.trim_start().split(':').next() == Some(name)) {
        return Finding::ok(check, format!("{name} is there"));
    }
    Finding::new(
        Level::Fail,
        check,
        format!("there is no interface {name}"),
        "the owner puts the VIP on it; without it HAProxy's answers do not come from the VIP",
        format!(
            "ip link show; correct vip.interface, or ip link add {name} type dummy && ip link set {name} up"
        ),
    )
}

/// Interfaces over which a default route leads, in the order of the kernel's table.
pub fn outside(root: &Root) -> Vec<String> {
    let mut found = Vec::new();
    for line in root.read("proc/net/route").unwrap_or_default().lines().skip(1) {
        let mut words = line.split_whitespace();
        if let (Some(dev), Some("00000000")) = (words.next(), words.next())
            && !found.iter().any(|known| known == dev)
        {
            found.push(dev.to_owned());
        }
    }
    found
}

/// Strict reverse-path filtering drops what comes in by another interface than the answer would leave by.
/// It is IPv4's alone.
pub fn rp_filter(root: &Root, vips: &[Vip]) -> Vec<Finding> {
    let check = "rp-filter";
    if vips.iter().all(|vip| vip.ip().is_ipv6()) {
        return vec![Finding::ok(check, "no VIP is IPv4's: rp_filter concerns none")];
    }
    let value = |name: &str| root.number(&format!("proc/sys/net/ipv4/conf/{name}/rp_filter")).unwrap_or(0);
    let outside = outside(root);
    // The kernel takes the larger of the two (ip-sysctl, rp_filter).
    let strict: Vec<_> = outside.iter().filter(|dev| value("all").max(value(dev)) == 1).collect();
    if outside.is_empty() {
        return vec![Finding::new(
            Level::Warn,
            check,
            "/proc/net/route shows no default route: not checked",
            "where two ways lead out, a strict rp_filter drops the VIP's packets",
            "ip route show table all default; where two interfaces have one: sysctl -w net.ipv4.conf.all.rp_filter=2",
        )];
    }
    if outside.len() < 2 || strict.is_empty() {
        let how = if strict.is_empty() { "is not strict" } else { "is strict, on the only way out" };
        return vec![Finding::ok(check, format!("rp_filter {how} ({})", outside.join(", ")))];
    }
    let one = |dev: &&String| {
        Finding::new(
            Level::Warn,
            check,
            format!("rp_filter is strict on {dev}, and {} ways lead out", outside.len()),
            "the kernel drops the VIP's packets that come in by one interface and whose answer would leave by another",
            format!("sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{dev}.rp_filter=2"),
        )
    };
    strict.iter().map(one).collect()
}

/// A router that has not the VIP would send its packets back to where they came from: vipd's own rules stop them
/// (`net/loops.rs`).
pub fn ip_forward(root: &Root, vip: Vip) -> Finding {
    let check = "ip-forward";
    let (path, ip) = match vip.ip() {
        IpAddr::V4(_) => ("proc/sys/net/ipv4/ip_forward", "ip"),
        IpAddr::V6(_) => ("proc/sys/net/ipv6/conf/all/forwarding", "ip -6"),
    };
    if root.number(path) != Some(1) {
        return Finding::ok(check, format!("this host forwards no {} packets", family(vip)));
    }
    let drops = "vipd's rules drop what comes in for a VIP that is not here";
    Finding::ok(check, format!("this host forwards {} packets; {drops} ({ip} rule show)", family(vip)))
}

/// With what right this process runs: see cluster/systemd/vipd.service.
pub fn scheduling(root: &Root) -> Finding {
    let check = "scheduling";
    // proc_pid_stat(5): 19 is nice, 40 the real-time priority, 41 the policy; 3 is the first after the name.
    let stat = root.read("proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |n: usize| fields.get(n - 3).and_then(|text| text.parse::<i64>().ok());
    match (field(41), field(40), field(19)) {
        (Some(1), Some(priority), _) => Finding::ok(check, format!("SCHED_FIFO, priority {priority}")),
        (Some(2), Some(priority), _) => Finding::ok(check, format!("SCHED_RR, priority {priority}")),
        (Some(_), _, Some(nice)) if nice < 0 => {
            Finding::ok(check, format!("no real-time policy, nice {nice}"))
        }
        (Some(_), _, Some(nice)) => Finding::new(
            Level::Warn,
            check,
            format!("no real-time policy, nice {nice}"),
            "on a busy host this member may be late with a heartbeat, and lose its leadership for nothing",
            "run it by its unit; or systemctl edit vipd: CPUSchedulingPolicy=rr, CPUSchedulingPriority=1 below [Service]",
        ),
        _ => unread(
            check,
            "/proc/self/stat",
            "without a real-time policy this member may be late with a heartbeat on a busy host",
            "chrt --pid $(systemctl show --property MainPID --value vipd)",
        ),
    }
}

/// Whether the kernel may page this process out.
pub fn locked_memory(root: &Root) -> Finding {
    let check = "memory";
    let status = root.read("proc/self/status").unwrap_or_default();
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    match (of("VmLck:"), of("VmRSS:")) {
        // Counted as locked is what is mapped, most of which was never touched (mlock2(2), MCL_ONFAULT).
        (Some(locked), Some(resident)) if locked >= resident => {
            Finding::ok(check, format!("locked; {} MiB are resident", resident / 1024))
        }
        (Some(locked), Some(resident)) if locked > 0 => {
            Finding::ok(check, format!("{} of {} MiB are locked", locked / 1024, resident / 1024))
        }
        (Some(_), Some(resident)) => Finding::new(
            Level::Warn,
            check,
            format!("none of {} MiB is locked", resident / 1024),
            "a page that has to be read back from disk costs a failover milliseconds",
            "run it by its unit; or systemctl edit vipd: LimitMEMLOCK=infinity below [Service]",
        ),
        _ => unread(
            check,
            "/proc/self/status",
            "a page that has to be read back from disk costs a failover milliseconds",
            "systemctl show --property LimitMEMLOCK vipd",
        ),
    }
}

/// What keeps the wall clock right, as far as its service is seen to run.
pub fn time_service(root: &Root) -> Option<&'static str> {
    let known = ["chrony", "chronyd", "systemd-timesyncd", "ntpd", "ntpsec", "ntp"];
    known.into_iter().find(|name| runs(root, name))
}

/// Whether a systemd service runs: its control group is there, which any process may see.
pub fn runs(root: &Root, service: &str) -> bool {
    root.exists(&format!("sys/fs/cgroup/system.slice/{service}.service"))
}
