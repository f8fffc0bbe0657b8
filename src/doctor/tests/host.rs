//! The host's checks, on a folder that stands for the root.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::doctor::finding::{Finding, Level};
use crate::doctor::host::Root;
use crate::doctor::{self, agents, haproxy, host};
use crate::model::Vip;

struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn with(self, path: &str, text: &str) -> Self {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("a file");
        self
    }

    fn root(&self) -> Root {
        Root::new(self.0.path())
    }
}

fn vip() -> Vip {
    "192.168.77.10/32".parse().expect("a VIP")
}

fn bind(host: &Host) -> Finding {
    haproxy::bind(&host.root(), &[vip()], &["10.0.1.10:7400".parse().expect("an address")]).remove(0)
}

const TCP: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

/// As `/proc/net/tcp` shows a socket on this machine.
fn listens(on: &str) -> String {
    let socket: std::net::SocketAddrV4 = on.parse().expect("an address");
    let ip = u32::from_ne_bytes(socket.ip().octets());
    format!(
        "   0: {ip:08X}:{:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n",
        socket.port()
    )
}

#[test]
fn fault_84_haproxy_that_cannot_bind_the_vip_is_told_both_ways() {
    let cfg = "frontend vip\n    bind 192.168.77.10:443 ssl crt /etc/x.pem  # the VIP\n";
    let host =
        Host::new().with("etc/haproxy/haproxy.cfg", cfg).with("proc/sys/net/ipv4/ip_nonlocal_bind", "0\n");
    let found = bind(&host);
    assert_eq!(found.level, Level::Fail, "{found:?}");
    assert!(found.finding.contains("/etc/haproxy/haproxy.cfg:2 binds 192.168.77.10:443"), "{found:?}");
    assert!(found.mend.contains("sysctl -w net.ipv4.ip_nonlocal_bind=1"), "{found:?}");
    assert!(found.mend.contains("192.168.77.10:443 transparent"), "{found:?}");
    let host = host.with("proc/sys/net/ipv4/ip_nonlocal_bind", "1\n");
    assert_eq!(bind(&host).level, Level::Ok);
    let transparent = cfg.replace("ssl", "transparent ssl");
    let host = Host::new().with("etc/haproxy/haproxy.cfg", &transparent);
    assert_eq!(bind(&host).level, Level::Ok);
    let wildcard = cfg.replace("192.168.77.10:443", ":::80,*:443");
    assert_eq!(bind(&Host::new().with("etc/haproxy/haproxy.cfg", &wildcard)).level, Level::Ok);
    let v6 = haproxy::bind(
        &Host::new().with("etc/haproxy/haproxy.cfg", "bind *:443\n").root(),
        &["fd00:77::10/128".parse().expect("a VIP")],
        &[],
    );
    assert_eq!(v6[0].level, Level::Fail, "the star is IPv4's wildcard only: {v6:?}");
}

#[test]
fn fault_84_without_its_configuration_the_sockets_tell() {
    let of = |sockets: &[&str]| {
        let lines: String = sockets.iter().map(|s| listens(s)).collect();
        bind(&Host::new().with("proc/net/tcp", &format!("{TCP}{lines}")))
    };
    let none = of(&["127.0.0.1:8404", "10.0.1.10:7400", "0.0.0.0:22"]);
    assert_eq!(none.level, Level::Fail, "{none:?}");
    assert!(none.why.contains("ip_nonlocal_bind") && none.why.contains("transparent"), "{none:?}");
    let any = of(&["0.0.0.0:443", "0.0.0.0:80", "0.0.0.0:22"]);
    assert_eq!((any.level, any.finding.contains("port 80, 443 ")), (Level::Ok, true), "{any:?}");
    let vip = of(&["192.168.77.10:443"]);
    assert_eq!(vip.level, Level::Warn, "it may be transparent: {vip:?}");
}

#[test]
fn fault_84_an_ipv6_wildcard_that_says_v6only_serves_no_ipv4_vip() {
    let of = |cfg: &str, listening: &[&str]| {
        let tcp: String = listening.iter().map(|on| listens(on)).collect();
        let host =
            Host::new().with("etc/haproxy/haproxy.cfg", cfg).with("proc/net/tcp", &(TCP.to_owned() + &tcp));
        // [::]:80, as HAProxy's own line makes it.
        let six =
            "   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0 0 0 0\n";
        host.with("proc/net/tcp6", &(TCP.to_owned() + six))
    };
    let alone = bind(&of("frontend x\n  bind :::80 v6only\n", &["0.0.0.0:22"]));
    assert_eq!(alone.level, Level::Fail, "{alone:?}");
    assert!(alone.finding.contains("haproxy.cfg:2 binds :::80 v6only"), "{alone:?}");
    assert!(alone.mend.contains("bind *:PORT"), "{alone:?}");
    let v6 = haproxy::bind(
        &of("bind :::80 v6only\n", &[]).root(),
        &["fd00:77::10/128".parse().expect("a VIP")],
        &[],
    );
    assert_eq!(v6[0].level, Level::Ok, "{v6:?}");
    for both in ["bind :::80\n", "bind :::80 v6only\nbind *:80\n", "bind :::80,*:80 v6only\n"] {
        assert_eq!(bind(&of(both, &[])).level, Level::Ok, "{both}");
    }
    // A line that names its address by a variable is not to be read; its socket is.
    let by_name = "bind :::80 v6only\nbind \"$VIP:80\"\n";
    assert_eq!(bind(&of(by_name, &["0.0.0.0:80"])).level, Level::Ok);
}

#[test]
fn the_configuration_is_that_of_the_process() {
    let host = Host::new()
        .with("etc/haproxy/haproxy.cfg", "bind 192.168.77.10:443\n")
        .with("srv/ha.cfg", "bind *:443\n")
        .with("proc/77/cmdline", "/usr/sbin/haproxy\0-Ws\0-f\0/srv/ha.cfg\0-p\0/run/haproxy.pid\0")
        .with("proc/78/cmdline", "/usr/bin/vi\0/etc/haproxy/haproxy.cfg\0");
    let found = bind(&host);
    assert_eq!((found.level, found.finding.contains("/srv/ha.cfg:1")), (Level::Ok, true), "{found:?}");
}

#[test]
fn fault_78_a_network_agent_is_named_with_what_switches_it_off() {
    let nothing = agents::agents(&Host::new().root(), "lo");
    assert_eq!((nothing.len(), nothing[0].level), (1, Level::Ok));
    for (file, name, mend) in [
        (
            "etc/systemd/system/timers.target.wants/nm-cloud-setup.timer",
            "nm-cloud-setup",
            "systemctl disable --now nm-cloud-setup.timer",
        ),
        (
            "etc/systemd/system/timers.target.wants/cloud-netconfig.timer",
            "cloud-netconfig",
            "CLOUD_NETCONFIG_MANAGE='no'",
        ),
        (
            "sys/fs/cgroup/system.slice/NetworkManager.service/cgroup.procs",
            "NetworkManager",
            "nmcli device set eth0 managed no",
        ),
        (
            "sys/fs/cgroup/system.slice/systemd-networkd.service/cgroup.procs",
            "systemd-networkd",
            "KeepConfiguration=yes",
        ),
        ("usr/lib/systemd/system/policy-routes@.service", "amazon-ec2-net-utils", "vip.interface = \"lo\""),
    ] {
        let host = Host::new().with(file, "");
        let found = agents::agents(&host.root(), "eth0");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].level, Level::Warn, "{found:?}");
        assert!(found[0].finding.contains(name) && found[0].mend.contains(mend), "{found:?}");
        let cloud = ["nm-cloud-setup", "cloud-netconfig"].contains(&name);
        let on_lo = agents::agents(&host.root(), "lo");
        assert_eq!(on_lo[0].level, if cloud { Level::Warn } else { Level::Ok }, "{on_lo:?}");
        assert!(on_lo[0].finding.contains(name), "{on_lo:?}");
    }
}

const ROUTES: &str =
    "Iface\tDestination\tGateway\nens5\t00000000\t0100000A\nens6\t00000000\t0101000A\nens5\t0000000A\t0\n";

#[test]
fn strict_reverse_paths_matter_with_two_ways_out() {
    let strict = |dev: &str, value: &str| {
        Host::new()
            .with("proc/net/route", ROUTES)
            .with(&format!("proc/sys/net/ipv4/conf/{dev}/rp_filter"), value)
    };
    assert_eq!(host::outside(&strict("all", "0").root()), ["ens5", "ens6"]);
    assert_eq!(host::rp_filter(&strict("all", "0").root(), &[vip()])[0].level, Level::Ok);
    assert_eq!(
        host::rp_filter(
            &strict("all", "2").with("proc/sys/net/ipv4/conf/ens6/rp_filter", "1").root(),
            &[vip()]
        )[0]
        .level,
        Level::Ok,
        "the larger counts"
    );
    let found = host::rp_filter(&strict("ens6", "1\n").root(), &[vip()]);
    assert_eq!((found.len(), found[0].level), (1, Level::Warn));
    assert!(found[0].mend.contains("net.ipv4.conf.ens6.rp_filter=2"), "{found:?}");
    let one = Host::new()
        .with("proc/net/route", "Iface\nens5\t00000000\n")
        .with("proc/sys/net/ipv4/conf/all/rp_filter", "1");
    assert_eq!(host::rp_filter(&one.root(), &[vip()])[0].level, Level::Ok, "one way out");
}

#[test]
fn without_a_default_route_of_ipv4_only_its_vips_are_warned_of() {
    let root = Host::new().with("proc/net/route", "Iface\tDestination\tGateway\n").root();
    let v6: Vip = "fd00:77::10/128".parse().unwrap();
    let level = |vips: &[Vip]| host::rp_filter(&root, vips).iter().map(|f| f.level).collect::<Vec<_>>();
    assert_eq!(level(&[v6]), [Level::Ok]);
    assert_eq!(level(&[v6, vip()]), [Level::Warn]);
    assert_eq!(level(&[vip()]), [Level::Warn]);
}

#[test]
fn a_router_is_told_what_keeps_packets_from_going_round() {
    let path = "proc/sys/net/ipv4/ip_forward";
    let found = |value: &str| host::ip_forward(&Host::new().with(path, value).root(), vip());
    assert_eq!(found("0\n"), Finding::ok("ip-forward", "this host forwards no ipv4 packets"));
    assert!(found("1\n").finding.contains("ip rule show"));
}

#[test]
fn what_it_runs_with_is_shown() {
    let stat = |nice: i32, priority: u32, policy: u32| {
        let rest = "0 ".repeat(20);
        // proc_pid_stat(5): after the name the fields 3 to 18, nice (19), 20 to 39, 40, 41.
        let text = format!("7 (vipd (x) y) S {}{nice} {rest}{priority} {policy} 0 0\n", "0 ".repeat(15));
        host::scheduling(&Host::new().with("proc/self/stat", &text).root())
    };
    assert_eq!(stat(0, 1, 2), Finding::ok("scheduling", "SCHED_RR, priority 1"));
    assert_eq!(stat(-20, 0, 0), Finding::ok("scheduling", "no real-time policy, nice -20"));
    assert_eq!(stat(0, 0, 0).level, Level::Warn);
    let memory = |locked: &str| {
        let text = format!("Name:\tvipd\nVmLck:\t{locked} kB\nVmRSS:\t   30720 kB\n");
        host::locked_memory(&Host::new().with("proc/self/status", &text).root())
    };
    assert_eq!(memory("  120000"), Finding::ok("memory", "locked; 30 MiB are resident"));
    assert_eq!(memory("    8192"), Finding::ok("memory", "8 of 30 MiB are locked"));
    assert_eq!(memory("       0").level, Level::Warn);
    // And so it stands on this machine.
    assert_eq!(host::scheduling(&Root::new("/")).check, "scheduling");
    assert!(
        Path::new("/proc/self/stat").exists()
            && !host::scheduling(&Root::new("/")).finding.contains("cannot be read")
    );
}

#[test]
fn what_cannot_be_read_is_not_said_to_be_well() {
    let root = Host::new().root();
    let found = [host::interface(&root, "lo"), host::scheduling(&root), host::locked_memory(&root)];
    for found in found.into_iter().chain(host::rp_filter(&root, &[vip()])) {
        assert_eq!((found.level, found.finding.ends_with(": not checked")), (Level::Warn, true), "{found:?}");
        assert!(!found.why.is_empty() && !found.mend.is_empty(), "{found:?}");
    }
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let dev = "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  ens5: 3 4\n";
    let root = Host::new().with("proc/net/dev", dev);
    assert_eq!(host::interface(&root.root(), "lo").level, Level::Ok);
    let found = host::interface(&root.root(), "vip0");
    assert_eq!(
        (found.level, found.mend.contains("ip link add vip0 type dummy")),
        (Level::Fail, true),
        "{found:?}"
    );
    assert_eq!(host::interface(&Root::new("/"), "lo").level, Level::Ok);
}

#[test]
fn the_time_service_is_seen_by_its_control_group() {
    let chrony = Host::new().with("sys/fs/cgroup/system.slice/chrony.service/cgroup.procs", "");
    assert_eq!(host::time_service(&chrony.root()), Some("chrony"));
    assert_eq!(host::time_service(&Host::new().root()), None);
}

/// A pipe is a file that takes as long as whoever writes to it.
#[tokio::test]
async fn a_file_that_is_long_in_reading_keeps_the_thread_of_heartbeats_free() {
    let config = Arc::new(super::ec2::config("route_tables = [\"rtb-0a\"]"));
    let host = Host::new().with("proc/net/tcp6", TCP);
    let pipe = host.0.path().join("proc/net/tcp");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .expect("a pipe");
    let written = Arc::new(AtomicBool::new(false));
    let writes = {
        let written = Arc::clone(&written);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            written.store(true, Ordering::SeqCst);
            std::fs::write(pipe, format!("{TCP}{}", listens("0.0.0.0:443"))).expect("it is read");
        })
    };
    let found = tokio::spawn(doctor::of_the_host(host.root(), config, false));
    // The task has had its turn once this one has it again.
    tokio::task::yield_now().await;
    assert!(!written.load(Ordering::SeqCst), "nothing else ran until the file was read");
    let found = found.await.expect("findings");
    assert!(
        found.iter().any(|f| f.finding.contains("192.168.77.10/32 would be answered on port 443")),
        "{found:?}"
    );
    writes.join().expect("it was written");
}
