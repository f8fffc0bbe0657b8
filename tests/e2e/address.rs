//! The address: others take it away, the interface goes, the quorum goes, and what comes in while it is not there.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{BOUND, Lab, MEMBERS, VIP, holds, measured, until};
use crate::status::{eni, others};

/// `ip monitor address` inside a member's namespace: nothing that happens in between is missed.
struct Monitor {
    child: Child,
    out: PathBuf,
}

impl Monitor {
    fn start(lab: &Lab, member: &str) -> Self {
        let out = lab.dir.join(format!("{member}.addresses"));
        let mut command = lab.command(&["ns", member, "--", "ip", "-o", "monitor", "address"]);
        let child =
            command.stdout(std::fs::File::create(&out).unwrap()).stdin(Stdio::null()).spawn().unwrap();
        let monitor = Self { child, out };
        until("ip monitor sees what happens", BOUND, || {
            lab.inside(member, &["ip", "address", "replace", "10.99.99.9/32", "dev", "lo"]);
            holds(monitor.seen().contains("10.99.99.9"), || monitor.seen())
        });
        monitor
    }

    fn seen(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    /// How often the VIP was removed.
    fn removals(&self) -> usize {
        self.seen().lines().filter(|l| l.contains("Deleted") && l.contains(VIP)).count()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lab {
    fn take_address(&self, member: &str) {
        self.inside(member, &["ip", "address", "del", &format!("{VIP}/32"), "dev", "lo"]);
    }

    /// How many seconds the kernel keeps the address; `None` where it is not there.
    fn lifetime(&self, member: &str) -> Option<u64> {
        let shown: Value =
            serde_json::from_str(&self.inside(member, &["ip", "-j", "address", "show", "dev", "lo"]))
                .unwrap();
        let all = shown[0]["addr_info"].as_array().unwrap().clone();
        all.iter().find(|a| a["local"] == VIP).map(|a| a["valid_life_time"].as_u64().unwrap())
    }

    fn metric(&self, member: &str, line: &str) {
        until(&format!("{member} counts {line}"), BOUND, || {
            let (_, metrics) = self.get(member, "127.0.0.1:9407", "/metrics")?;
            holds(metrics.lines().any(|l| l == line), || metrics.clone())
        });
    }
}

#[test]
fn fault_70_the_owner_adopts_the_address_and_another_lets_it_go() {
    let lab = Lab::up("adopt");
    let owner = lab.steady();
    let standby = others(&owner)[0];
    lab.ok(&["kill", standby, "--only", "vipd"]);
    lab.inside(standby, &["ip", "address", "add", &format!("{VIP}/32"), "dev", "lo"]);
    assert!(lab.has_address(standby));
    lab.ok(&["start", standby, "--only", "vipd"]);
    lab.address_goes(standby);
    lab.steady();

    // The owner itself starts anew, with all the others: its address never goes.
    let monitor = Monitor::start(&lab, &owner);
    lab.ok(&["kill", "all", "--only", "vipd"]);
    assert!(lab.has_address(&owner));
    lab.ok(&["start", "all", "--only", "vipd"]);
    assert_eq!(lab.steady(), owner);
    assert_eq!(lab.with_address(), [owner.as_str()]);
    assert_eq!(monitor.removals(), 0, "{}", monitor.seen());
    lab.assert_fenced();
}

/// An operator once, and a network agent that does it again and again (78).
#[test]
fn fault_71_a_deleted_address_is_back_within_a_second() {
    let lab = Lab::up("deleted");
    let owner = lab.steady();
    let monitor = Monitor::start(&lab, &owner);
    for times in 1..=5 {
        lab.take_address(&owner);
        until("it is back", Duration::from_secs(1), || {
            holds(monitor.removals() == times && lab.has_address(&owner), || monitor.seen())
        });
        // What comes and goes faster than the owner looks, it puts back all the same, but counts once.
        lab.metric(&owner, &format!("vipd_address_repairs_total {times}"));
        lab.says(&owner, "it sees it there", |s| s.member(&owner).vip_local);
    }
    let said = lab.vipd_log(&owner).matches("someone else took the address away").count();
    assert_eq!(said, 5);
    assert_eq!(lab.steady(), owner);
    lab.client_reaches(&owner);
    lab.assert_fenced();
}

/// And what the lifetime is for: the kernel removes the address of one that is frozen.
#[test]
fn fault_72_an_address_without_its_lifetime_gets_it_back() {
    let lab = Lab::up_with("lifetime", &["--set", "vip.lifetime_s=4"]);
    let owner = lab.steady();
    assert!(lab.lifetime(&owner).is_some_and(|s| s <= 4), "{:?}", lab.lifetime(&owner));
    let cidr = format!("{VIP}/32");
    lab.inside(
        &owner,
        &["ip", "address", "replace", &cidr, "dev", "lo", "valid_lft", "forever", "preferred_lft", "forever"],
    );
    let forever = u64::from(u32::MAX);
    let words = "the address is there without the lifetime of vip.lifetime_s";
    until("it is told, and put right", BOUND, || {
        holds(lab.vipd_log(&owner).contains(words), || "not told".into())?;
        holds(lab.lifetime(&owner).is_some_and(|s| s < forever), || format!("{:?}", lab.lifetime(&owner)))
    });

    let monitor = Monitor::start(&lab, &owner);
    lab.ok(&["freeze", &owner, "--only", "vipd"]);
    let frozen = Instant::now();
    until("the kernel removes it", BOUND, || holds(monitor.removals() == 1, || monitor.seen()));
    let after = frozen.elapsed();
    measured(&format!("lifetime of 4 s: removed {:.2} s after the freeze", after.as_secs_f64()));
    // The newest refresh was up to a second before the freeze.
    assert!(after > Duration::from_millis(2900), "{after:?}");
    lab.ok(&["continue", &owner, "--only", "vipd"]);
    lab.taken_over_from(&owner);
    lab.assert_fenced();
}

#[test]
fn fault_75_a_member_without_its_interface_is_no_target_and_says_so() {
    let lab =
        Lab::up_with("nolink", &["--no-vipd", "--set", "tls.insecure=true", "--set", "vip.interface=vip0"]);
    let make = |member| {
        lab.inside(member, &["ip", "link", "add", "vip0", "type", "veth", "peer", "name", "vip1"]);
        lab.inside(member, &["ip", "link", "set", "vip0", "up"]);
    };
    MEMBERS.into_iter().for_each(make);
    lab.ok(&["start", "all", "--only", "vipd"]);
    let first = lab.steady();
    lab.client_reaches(&first);

    lab.inside(&first, &["ip", "link", "del", "vip0"]);
    let second = lab.taken_over_from(&first);
    let why = format!("{first} may not own: its interface vip0 is gone or renamed");
    let status = lab.says(&second, "why", |s| s.problems.iter().any(|p| p.starts_with(&why)));
    assert_eq!(status.state, "degraded");
    let moved = status.last_move.unwrap();
    assert!(moved["reason"].as_str().unwrap().contains("interface vip0 is gone"), "{moved}");
    let (code, json) = lab.vipctl_json(&second, &["transfer-leader", "--to", &first]);
    assert_eq!((code, &json["error"]["kind"]), (4, &"refused".into()), "{json}");
    assert!(json["error"]["cause"].as_str().unwrap().contains("vip0"), "{json}");

    make(&first);
    assert_eq!(lab.steady(), second);
    // One transfer a second is made.
    until("it may own again", BOUND, || {
        let (code, json) = lab.vipctl_json(&second, &["transfer-leader", "--to", &first]);
        holds(code == 0, || json.to_string())
    });
    lab.client_reaches(&first);
    lab.assert_fenced();
}

/// One packet for an absent VIP is seen once, and without the rule until its TTL ends.
#[test]
fn fault_77_a_packet_for_the_absent_vip_goes_no_rounds() {
    let lab = Lab::up("loop");
    let owner = lab.steady();
    let standby = others(&owner)[0];
    lab.inside(standby, &["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    let counted = "add table ip seen; add chain ip seen counted { type filter hook prerouting priority -300; }; \
                   add rule ip seen counted ip daddr 192.168.77.10 udp dport 9 counter";
    lab.inside(standby, &["nft", counted]);
    let seen = || {
        let shown = lab.inside(standby, &["nft", "list", "table", "ip", "seen"]);
        let words: Vec<_> = shown.split_whitespace().collect();
        let at = words.iter().position(|w| *w == "packets").unwrap_or_else(|| panic!("{shown}"));
        words[at + 1].parse::<u32>().unwrap()
    };
    let send = || {
        lab.within("client", || {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", (VIP, 9)).unwrap();
        });
    };
    let rules = || lab.inside(standby, &["ip", "rule"]);
    let guarded = || {
        let rule = format!("from all to {VIP} iif");
        until("the rule is there", BOUND, || holds(rules().contains(&rule), rules));
    };
    guarded();
    // What starts on the standby itself goes out to the owner.
    let (_, body) = lab.get(standby, &format!("{VIP}:8080"), "/").unwrap();
    assert_eq!(body.trim(), owner);

    // Nobody puts the route right.
    MEMBERS.into_iter().for_each(|m| drop(lab.ok(&["cut", m, "--from", "members"])));
    lab.says(&owner, "no quorum", |s| s.state == "no-quorum");
    // The client's subnet sends it to the standby, and so does the standby's own.
    for table in ["rtb-0a", "rtb-0b", "rtb-0c"] {
        lab.ok(&["ec2", "set-route", "--table", table, "--eni", &eni(standby)]);
    }
    for sent in 1..=3 {
        send();
        until("it came in", BOUND, || holds(seen() >= sent, || format!("{}", seen())));
        assert_eq!(seen(), sent, "once each");
    }

    // A clean stop takes the rule away: then it does go round.
    assert_eq!(lab.json(&["stop", standby, "--only", "vipd"])[0]["exit_code"], 0);
    assert!(!rules().contains(VIP), "{}", rules());
    send();
    until("it goes round", BOUND, || holds(seen() > 20, || format!("{}", seen())));
    measured(&format!("without the rule the standby sees one packet {} times", seen() - 3));
    // A kill does not.
    lab.ok(&["start", standby, "--only", "vipd"]);
    guarded();
    lab.ok(&["kill", standby, "--only", "vipd"]);
    guarded();
    let before = seen();
    send();
    until("it came in", BOUND, || holds(seen() > before, || format!("{}", seen())));
    assert_eq!(seen(), before + 1);
    lab.ok(&["start", standby, "--only", "vipd"]);
    lab.ok(&["heal", "all"]);
    let owner = until("the route is put right", BOUND + BOUND, || {
        let owner = lab.status("az-a")?.owner.ok_or("no owner")?;
        lab.routes_are_on(&owner).map(|()| owner)
    });
    lab.client_reaches(&owner);
    assert_eq!(rules().matches("blackhole").count(), 1, "the one that was left is adopted: {}", rules());
}

#[test]
fn with_release_the_address_goes_with_the_quorum_and_comes_back_with_it() {
    let lab = Lab::up_with("release", &["--set", "policy.on_quorum_loss=release"]);
    let owner = lab.steady();
    others(&owner).into_iter().for_each(|m| drop(lab.ok(&["kill", m, "--only", "vipd"])));
    lab.says(&owner, "no quorum", |s| s.state == "no-quorum");
    lab.address_goes(&owner);
    lab.routes_are_on(&owner).unwrap();
    lab.logs(&owner, "address released");
    lab.ok(&["start", "all", "--only", "vipd"]);
    let owner = lab.steady();
    assert_eq!(lab.with_address(), [owner.as_str()]);
    lab.client_reaches(&owner);
    lab.assert_fenced();
}
