//! Whether HAProxy answers on the VIP once this member owns it (FAULTS 84).
//!
//! A standby has not got the VIP, and the kernel lets nobody bind an address that is not there, unless
//! `ip_nonlocal_bind` is set or the socket asks for it (`transparent`, bind(2), ip(7)). A wildcard needs neither.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::finding::{Finding, Level};
use super::host::{Root, binds_foreign_addresses, family};
use crate::model::Vip;

const CHECK: &str = "haproxy-bind";

/// How many processes are looked through for HAProxy's.
const PROCESSES_MAX: usize = 10_000;

/// How many files of its configuration are read.
const FILES_MAX: usize = 64;

/// An address in a `bind` line.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Bind {
    place: String,
    address: String,
    ip: IpAddr,
    transparent: bool,
    /// An IPv6 wildcard that leaves IPv4 alone (HAProxy's manual, "v6only").
    v6only: bool,
}

impl Bind {
    fn serves(&self, vip: Vip) -> bool {
        self.ip == vip.ip() || covers(self.ip, vip) && !self.is_deaf_to(vip)
    }

    fn is_deaf_to(&self, vip: Vip) -> bool {
        self.v6only && vip.ip().is_ipv4()
    }
}

/// What is found for each VIP. `own`: ports that vipd itself listens on.
pub fn bind(root: &Root, vips: &[Vip], own: &[SocketAddr]) -> Vec<Finding> {
    let binds = configured(root);
    let listeners: Vec<_> = listeners(root).into_iter().filter(|l| !own.contains(l)).collect();
    vips.iter().map(|vip| one(root, *vip, &binds, &listeners)).collect()
}

fn one(root: &Root, vip: Vip, binds: &[Bind], listeners: &[SocketAddr]) -> Finding {
    let foreign = binds_foreign_addresses(root, vip);
    let sysctl = format!("net.{}.ip_nonlocal_bind", family(vip));
    let ways = |address: &str| {
        format!(
            "sysctl -w {sysctl}=1 (and in /etc/sysctl.d), or bind {address} transparent, or bind *:PORT; then \
             systemctl restart haproxy"
        )
    };
    if let Some(bad) = binds.iter().find(|b| b.ip == vip.ip() && !b.transparent).filter(|_| !foreign) {
        return Finding::new(
            Level::Fail,
            CHECK,
            format!("{} binds {}, {sysctl} is 0, and the line has no transparent", bad.place, bad.address),
            "a standby has not got the VIP: HAProxy cannot bind it there, and does not start or reload",
            ways(&bad.address),
        );
    }
    if let Some(good) = binds.iter().find(|b| b.serves(vip)) {
        return Finding::ok(CHECK, format!("{} binds {}, which serves {vip}", good.place, good.address));
    }
    if let Some(at) = listeners.iter().find(|l| l.ip() == vip.ip()).filter(|_| !foreign) {
        return Finding::new(
            Level::Warn,
            CHECK,
            format!("somebody listens on {at}, {sysctl} is 0, and HAProxy's configuration is not to be read"),
            "unless the line says transparent, HAProxy cannot bind the VIP on a standby, and does not start or reload",
            ways(&at.to_string()),
        );
    }
    // The kernel does not show which of the IPv6 wildcards takes IPv4: with such a line, none is believed to.
    let deaf = binds.iter().find(|b| b.is_deaf_to(vip));
    let believed = |l: &SocketAddr| deaf.is_none() || l.is_ipv4();
    let serves = |l: &&SocketAddr| l.ip() == vip.ip() || covers(l.ip(), vip) && believed(l);
    let mut ports: Vec<u16> = listeners.iter().filter(serves).map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    // Everybody's remote shell is no sign of HAProxy.
    ports.retain(|port| *port != 22);
    if let (true, Some(deaf)) = (ports.is_empty(), deaf) {
        return Finding::new(
            Level::Fail,
            CHECK,
            format!("{} binds {} v6only, and nobody listens for {vip}", deaf.place, deaf.address),
            "v6only takes no IPv4: nothing would answer the VIP here",
            "bind *:PORT beside it, or take v6only away; then systemctl reload haproxy",
        );
    }
    if ports.is_empty() {
        return Finding::new(
            Level::Fail,
            CHECK,
            format!("nobody listens on {vip} or on a wildcard address"),
            format!(
                "nothing would answer the VIP here. Where HAProxy binds the VIP itself it does not start on a standby \
                 without {sysctl} = 1 or transparent"
            ),
            format!("journalctl -u haproxy -n 20; {}", ways(&format!("{}:PORT", bracketed(vip)))),
        );
    }
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    let unread = "HAProxy's configuration is not to be read";
    Finding::ok(CHECK, format!("{vip} would be answered on port {} ({unread})", ports.join(", ")))
}

/// A wildcard socket of IPv6 takes IPv4 as well, unless it says otherwise (ipv6(7), IPV6_V6ONLY).
fn covers(ip: IpAddr, vip: Vip) -> bool {
    ip.is_unspecified() && (ip.is_ipv6() || vip.ip().is_ipv4())
}

fn bracketed(vip: Vip) -> String {
    match vip.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The `bind` lines of HAProxy as it runs here, else of where Debian and RHEL keep its configuration.
fn configured(root: &Root) -> Vec<Bind> {
    let mut files = of_process(root);
    if files.is_empty() {
        files.push("etc/haproxy/haproxy.cfg".to_owned());
        let more = root.names("etc/haproxy/conf.d").into_iter().filter(|name| name.ends_with(".cfg"));
        files.extend(more.map(|name| format!("etc/haproxy/conf.d/{name}")));
    }
    files.truncate(FILES_MAX);
    let read = |file: &String| root.read(file).map(|text| lines(&Root::shown(file), &text));
    files.iter().filter_map(read).flatten().collect()
}

/// What a running HAProxy of this network namespace was given by `-f`.
fn of_process(root: &Root) -> Vec<String> {
    let own = root.link("proc/self/ns/net");
    let processes = root.names("proc").into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    for pid in processes.take(PROCESSES_MAX) {
        let Some(line) = root.read(&format!("proc/{pid}/cmdline")) else { continue };
        let words: Vec<&str> = line.split('\0').collect();
        let program = words.first().and_then(|word| word.rsplit('/').next());
        if program != Some("haproxy") || root.link(&format!("proc/{pid}/ns/net")) != own {
            continue;
        }
        let after = words.iter().zip(words.iter().skip(1)).filter(|(flag, _)| **flag == "-f");
        return after.map(|(_, file)| file.trim_start_matches('/').to_owned()).collect();
    }
    vec![]
}

fn lines(file: &str, text: &str) -> Vec<Bind> {
    let mut binds = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let ["bind", addresses, rest @ ..] = words.as_slice() else { continue };
        for address in addresses.split(',') {
            let Some(ip) = host(address) else { continue };
            let transparent = rest.contains(&"transparent");
            let v6only = rest.contains(&"v6only") && ip.is_ipv6() && ip.is_unspecified();
            let place = format!("{file}:{number}");
            binds.push(Bind { place, address: address.to_owned(), ip, transparent, v6only });
        }
    }
    binds
}

/// `None`: no IP address that can be told. Address forms: HAProxy's manual, "bind"; `*` is IPv4's wildcard.
fn host(address: &str) -> Option<IpAddr> {
    let plain = address.strip_prefix("ipv4@").or_else(|| address.strip_prefix("ipv6@")).unwrap_or(address);
    let (host, _) = plain.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host {
        "" | "*" if address.starts_with("ipv6@") => Some(Ipv6Addr::UNSPECIFIED.into()),
        "" | "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ => host.parse().ok(),
    }
}

/// Every TCP socket that listens in this network namespace.
fn listeners(root: &Root) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for file in ["proc/net/tcp", "proc/net/tcp6"] {
        for line in root.read(file).unwrap_or_default().lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            // proc_net(5): 0A is LISTEN.
            let [_, local, _, "0A", ..] = words.as_slice() else { continue };
            found.extend(socket(local));
        }
    }
    found
}

/// `0100007F:1F90`: each 32-bit word in the machine's order of bytes, the port not.
fn socket(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}
