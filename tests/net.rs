//! Addresses on a real kernel. Each test runs in a network namespace of its own: it starts itself
//! again under `unshare`.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use vipd::decide::Permit;
use vipd::model::Vip;
use vipd::model::{Epoch, Term, Time};
use vipd::net::{Addresses, Interface as _, LoopGuard, NetError, may_configure};

/// Set in the process that is inside.
const INSIDE: &str = "VIPD_TEST_NETNS";
const BOUND: Duration = Duration::from_secs(10);

type Shown = watch::Receiver<BTreeSet<Vip>>;

/// Runs `body` in a new network namespace, where `lo` is up, by starting the test `name` of this
/// file again with `unshare` and then `wrapper`.
fn isolated_by<F: Future<Output = ()>>(wrapper: &[&str], name: &str, body: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(body());
    }
    let namespace = if rustix::process::geteuid().is_root() { "-n" } else { "-rn" };
    let output = Command::new("unshare")
        .args([namespace, "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .args(wrapper)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("these tests need unshare (util-linux) and ip (iproute2)");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

fn isolated<F: Future<Output = ()>>(name: &str, body: impl FnOnce() -> F) {
    isolated_by(&[], name, body);
}

fn vip(text: &str) -> Vip {
    text.parse().unwrap()
}

fn permit() -> Permit {
    Permit::for_tests(Term(1), Epoch(1), Time::MAX)
}

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What `ip` says of the address on the interface.
fn entry(interface: &str, vip: Vip) -> Option<serde_json::Value> {
    let listed: serde_json::Value =
        serde_json::from_str(&ip(&format!("-j addr show dev {interface}"))).unwrap();
    let infos =
        listed.as_array()?.iter().flat_map(|link| link["addr_info"].as_array().cloned().unwrap_or_default());
    let found: Vec<_> = infos.filter(|info| info["local"] == vip.ip().to_string()).collect();
    assert!(found.len() < 2, "{found:?}");
    found.into_iter().next()
}

async fn shows(shown: &mut Shown, wanted: &[Vip]) {
    let wanted: BTreeSet<Vip> = wanted.iter().copied().collect();
    let seen = timeout(BOUND, shown.wait_for(|vips| *vips == wanted)).await.map(|seen| seen.is_ok());
    assert_eq!(seen, Ok(true), "wanted {wanted:?}, shown {:?}", *shown.borrow());
}

#[test]
fn an_address_comes_stays_and_goes() {
    isolated("an_address_comes_stays_and_goes", || async {
        for a in [vip("192.168.77.10/32"), vip("fd00:77::10/128")] {
            let (addresses, mut shown) = Addresses::open("lo", vec![a], 0).await.unwrap();
            assert!(shown.borrow().is_empty());
            for _ in 0..2 {
                addresses.add(a, &permit()).await.unwrap();
                shows(&mut shown, &[a]).await;
                let entry = entry("lo", a).unwrap();
                assert_eq!(entry["prefixlen"], a.prefix_len());
                assert_eq!(entry["scope"], "global");
                assert_eq!(entry["valid_life_time"], u32::MAX);
                assert_ne!(entry["tentative"], true);
                assert_eq!(entry["nodad"] == true, a.ip().is_ipv6(), "{entry}");
            }
            for _ in 0..2 {
                addresses.remove(a).await.unwrap();
                shows(&mut shown, &[]).await;
                assert_eq!(entry("lo", a), None);
            }
        }
    });
}

#[test]
fn an_address_has_its_lifetime_and_each_add_renews_it() {
    isolated("an_address_has_its_lifetime_and_each_add_renews_it", || async {
        for a in [vip("192.168.77.10/32"), vip("fd00:77::10/128")] {
            let (addresses, mut shown) = Addresses::open("lo", vec![a], 2).await.unwrap();
            let left = || entry("lo", a).unwrap()["valid_life_time"].as_u64().unwrap();
            addresses.add(a, &permit()).await.unwrap();
            shows(&mut shown, &[a]).await;
            assert!(left() <= 2 && entry("lo", a).unwrap()["preferred_life_time"].as_u64() <= Some(2));
            // Outlives three lifetimes as long as it is renewed.
            let started = tokio::time::Instant::now();
            while started.elapsed() < Duration::from_secs(6) {
                assert!(shown.borrow().contains(&a));
                addresses.add(a, &permit()).await.unwrap();
                assert!(timeout(Duration::from_millis(500), shown.changed()).await.is_err());
            }
            // FAULTS 72: replaced without its lifetime, then put right by the next renewal.
            ip(&format!("addr replace {a} dev lo valid_lft forever preferred_lft forever"));
            assert_eq!(left(), u64::from(u32::MAX));
            addresses.add(a, &permit()).await.unwrap();
            assert!(left() <= 2);
            // Not renewed, the kernel removes it and the watch says so.
            shows(&mut shown, &[]).await;
            assert_eq!(entry("lo", a), None);
        }
    });
}

#[test]
fn without_a_lifetime_an_adopted_address_loses_its_own() {
    isolated("without_a_lifetime_an_adopted_address_loses_its_own", || async {
        for a in [vip("192.168.77.10/32"), vip("fd00:77::10/128")] {
            ip(&format!("addr add {a} dev lo valid_lft 100 preferred_lft 100"));
            let (addresses, _shown) = Addresses::open("lo", vec![a], 0).await.unwrap();
            addresses.add(a, &permit()).await.unwrap();
            assert_eq!(entry("lo", a).unwrap()["valid_life_time"], u32::MAX);
        }
    });
}

#[test]
fn fault_70_what_is_there_at_the_start_is_seen_and_can_go() {
    isolated("fault_70_what_is_there_at_the_start_is_seen_and_can_go", || async {
        let (a, b, other) = (vip("192.168.77.10/32"), vip("fd00:77::10/128"), vip("192.168.77.11/32"));
        // At another prefix length too: packets for it are taken in all the same.
        ip("addr add 192.168.77.10/24 dev lo");
        ip("addr add fd00:77::10/64 dev lo nodad");
        ip("addr add 192.168.77.99/32 dev lo");
        let (addresses, mut shown) = Addresses::open("lo", vec![a, b, other], 0).await.unwrap();
        assert_eq!(*shown.borrow_and_update(), BTreeSet::from([a, b]));
        addresses.remove(a).await.unwrap();
        shows(&mut shown, &[b]).await;
        addresses.remove(b).await.unwrap();
        shows(&mut shown, &[]).await;
        assert!(entry("lo", vip("192.168.77.99/32")).is_some());
    });
}

#[test]
fn fault_71_a_deleted_address_is_noticed() {
    isolated("fault_71_a_deleted_address_is_noticed", || async {
        let (a, b) = (vip("192.168.77.10/32"), vip("fd00:77::10/128"));
        let (addresses, mut shown) = Addresses::open("lo", vec![a, b], 0).await.unwrap();
        for gone in [a, b] {
            for each in [a, b] {
                addresses.add(each, &permit()).await.unwrap();
            }
            shows(&mut shown, &[a, b]).await;
            ip(&format!("addr del {gone} dev lo"));
            shows(&mut shown, &[if gone == a { b } else { a }]).await;
        }
    });
}

#[test]
fn fault_73_a_lost_message_is_a_ground_to_look() {
    isolated("fault_73_a_lost_message_is_a_ground_to_look", || async {
        let a = vip("192.168.77.10/32");
        let (addresses, mut shown) = Addresses::open("lo", vec![a], 0).await.unwrap();
        addresses.add(a, &permit()).await.unwrap();
        shows(&mut shown, &[a]).await;
        // This thread runs the watcher too: while it waits for `ip`, nobody reads the monitor
        // socket.
        let dir = tempfile::tempdir().unwrap();
        let batch = dir.path().join("batch");
        let each = |n: u32| format!("addr add 10.9.{}.{}/32 dev lo\n", n / 256, n % 256);
        let lines: String = (0..4000).map(each).chain([format!("addr del {a} dev lo\n")]).collect();
        std::fs::write(&batch, lines).unwrap();
        ip(&format!("-batch {}", batch.display()));
        let dropped: u64 = std::fs::read_to_string("/proc/net/netlink")
            .unwrap()
            .lines()
            .filter_map(|line| line.split_whitespace().nth(8)?.parse::<u64>().ok())
            .sum();
        assert!(dropped > 0, "the socket did not overflow");
        shows(&mut shown, &[]).await;
        // And it goes on watching.
        addresses.add(a, &permit()).await.unwrap();
        shows(&mut shown, &[a]).await;
    });
}

#[test]
fn fault_74_without_net_admin_every_change_says_so() {
    let drop = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    isolated_by(&drop, "fault_74_without_net_admin_every_change_says_so", || async {
        let a = vip("192.168.77.10/32");
        assert!(matches!(may_configure(), Err(NetError::NotPermitted)));
        let (addresses, _shown) = Addresses::open("lo", vec![a], 0).await.unwrap();
        assert!(matches!(addresses.add(a, &permit()).await, Err(NetError::NotPermitted)));
        assert!(matches!(addresses.remove(vip("192.168.77.11/32")).await, Ok(())));
    });
}

#[test]
fn with_net_admin_addresses_may_be_changed() {
    isolated("with_net_admin_addresses_may_be_changed", || async {
        may_configure().unwrap();
    });
}

#[test]
fn fault_75_a_missing_interface_is_named() {
    isolated("fault_75_a_missing_interface_is_named", || async {
        for name in ["eth7", "a-name-that-is-too-long-for-one"] {
            let error =
                Addresses::open(name, vec![vip("192.168.77.10/32")], 0).await.unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    });
}

#[test]
fn fault_75_an_interface_that_goes_is_noticed_and_one_that_returns_serves() {
    isolated("fault_75_an_interface_that_goes_is_noticed_and_one_that_returns_serves", || async {
        let (a, b) = (vip("192.168.77.10/32"), vip("fd00:77::10/128"));
        ip("link add vip0 type veth peer name vip1");
        ip("link set vip0 up");
        let (addresses, mut shown) = Addresses::open("vip0", vec![a, b], 0).await.unwrap();
        addresses.add(a, &permit()).await.unwrap();
        addresses.add(b, &permit()).await.unwrap();
        shows(&mut shown, &[a, b]).await;
        ip("link del vip0");
        shows(&mut shown, &[]).await;
        assert!(!addresses.has_interface());
        assert!(matches!(addresses.add(a, &permit()).await, Err(NetError::NoInterface(_))));
        addresses.remove(a).await.unwrap();
        ip("link add vip0 type veth peer name vip1");
        addresses.add(a, &permit()).await.unwrap();
        shows(&mut shown, &[a]).await;
        assert!(addresses.has_interface());
    });
}

#[test]
fn fault_75_a_renamed_interface_keeps_the_address_until_it_is_removed() {
    isolated("fault_75_a_renamed_interface_keeps_the_address_until_it_is_removed", || async {
        let a = vip("192.168.77.10/32");
        ip("link add vip0 type veth peer name vip1");
        let (addresses, mut shown) = Addresses::open("vip0", vec![a], 0).await.unwrap();
        addresses.add(a, &permit()).await.unwrap();
        shows(&mut shown, &[a]).await;
        ip("link set vip0 name other0");
        let noticed = async {
            while addresses.has_interface() {
                tokio::task::yield_now().await;
            }
        };
        timeout(BOUND, noticed).await.unwrap();
        assert!(shown.borrow().contains(&a));
        assert!(matches!(addresses.add(a, &permit()).await, Err(NetError::NoInterface(_))));
        addresses.remove(a).await.unwrap();
        shows(&mut shown, &[]).await;
        assert_eq!(entry("other0", a), None);
    });
}

#[test]
fn ipv6_that_is_switched_off_is_named() {
    isolated("ipv6_that_is_switched_off_is_named", || async {
        let (a, b) = (vip("192.168.77.10/32"), vip("fd00:77::10/128"));
        std::fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "1").unwrap();
        let (addresses, _shown) = Addresses::open("lo", vec![a, b], 0).await.unwrap();
        let error = addresses.add(b, &permit()).await.unwrap_err().to_string();
        assert!(error.contains("net.ipv6.conf.lo.disable_ipv6=0"), "{error}");
        addresses.add(a, &permit()).await.unwrap();
    });
}

/// The black holes of both families as `ip rule` shows them, sorted.
fn black_holes() -> Vec<String> {
    let both = ip("-4 rule show") + &ip("-6 rule show");
    let mut found: Vec<String> = both
        .lines()
        .filter(|l| l.contains("blackhole"))
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    found.sort();
    found
}

async fn black_holes_become(wanted: &[&str]) {
    let so = async {
        while black_holes() != wanted {
            tokio::task::yield_now().await;
        }
    };
    let came = timeout(BOUND, so).await;
    assert!(came.is_ok(), "wanted {wanted:?}, there are {:?}", black_holes());
}

/// What a member with one outside interface and a container has.
fn outside_and_container() {
    ip("link add eth0 type veth peer name other0");
    ip("link set eth0 up");
    ip("addr add 10.0.1.10/24 dev eth0");
    ip("route add default via 10.0.1.1 dev eth0");
    ip("link add cont0 type veth peer name cont1");
    ip("link set cont0 up");
    ip("addr add 172.17.0.1/16 dev cont0");
}

const V4: &str = "1: from all to 192.168.77.10 iif eth0 blackhole proto 77";
const V6: &str = "1: from all to fd00:77::10 iif eth0 blackhole proto 77";

#[test]
fn fault_77_a_rule_for_each_outside_interface_comes_and_goes() {
    isolated("fault_77_a_rule_for_each_outside_interface_comes_and_goes", || async {
        outside_and_container();
        let guard = LoopGuard::set("lo", vec![vip("192.168.77.10/32"), vip("fd00:77::10/128")]);
        black_holes_become(&[V4, V6]).await;
        // Whoever takes one away does not get far.
        ip("rule del pref 1 to 192.168.77.10");
        black_holes_become(&[V4, V6]).await;
        // A second outside interface, by a gateway in a table of its own; and its end.
        ip("link add eth1 type veth peer name other1");
        ip("link set eth1 up");
        ip("addr add 10.0.2.10/24 dev eth1");
        ip("route add default via 10.0.2.1 dev eth1 table 101");
        ip("link set eth1 mtu 1400");
        let [v4, v6] = [V4, V6].map(|rule| rule.replace("eth0", "eth1"));
        black_holes_become(&[V4, &v4, V6, &v6]).await;
        ip("link del eth1");
        black_holes_become(&[V4, V6]).await;
        guard.lift().await;
        assert!(black_holes().is_empty(), "{:?}", black_holes());
    });
}

#[test]
fn fault_77_what_a_killed_vipd_left_is_adopted_and_what_is_others_stays() {
    isolated("fault_77_what_a_killed_vipd_left_is_adopted_and_what_is_others_stays", || async {
        outside_and_container();
        for left in [
            "pref 1 to 192.168.77.10 iif eth0 blackhole protocol 77",
            "pref 1 to 192.168.77.10 iif gone0 blackhole protocol 77",
            "pref 7 to 192.168.77.10 iif eth0 blackhole protocol 77",
            // Another vipd's, and an operator's.
            "pref 1 to 192.168.77.99 iif eth0 blackhole protocol 77",
            "pref 9 to 192.168.77.10 iif eth0 blackhole",
        ] {
            ip(&format!("rule add {left}"));
        }
        let others = [
            "1: from all to 192.168.77.99 iif eth0 blackhole proto 77",
            "9: from all to 192.168.77.10 iif eth0 blackhole",
        ];
        let guard = LoopGuard::set("lo", vec![vip("192.168.77.10/32")]);
        black_holes_become(&[V4, others[0], others[1]]).await;
        guard.lift().await;
        assert_eq!(black_holes(), others);
    });
}

#[test]
fn the_rule_stays_behind_the_local_tables_wherever_that_is() {
    isolated("the_rule_stays_behind_the_local_tables_wherever_that_is", || async {
        outside_and_container();
        let _guard = LoopGuard::set("lo", vec![vip("192.168.77.10/32")]);
        black_holes_become(&[V4]).await;
        // As Cilium does it.
        ip("rule add pref 100 lookup local");
        ip("rule del pref 0 lookup local");
        black_holes_become(&[&V4.replacen('1', "101", 1)]).await;
        // Here the VIP is taken in, and only where it is absent dropped.
        let route = || {
            let args = "route get 192.168.77.10 from 10.0.9.9 iif eth0";
            let output = Command::new("ip").args(args.split(' ')).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert!(!route().contains("192.168.77.10"), "{}", route());
        ip("addr add 192.168.77.10/32 dev lo");
        assert!(route().starts_with("local 192.168.77.10"), "{}", route());
    });
}
