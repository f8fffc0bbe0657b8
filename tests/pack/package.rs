//! The Debian package, of the profile that is built, on a booted systemd.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::booted::Booted;
use crate::notify::config;
use crate::stall::stall;
use crate::tools::{BOUND, holds, ok, read, repo, text, until};

const UNIT: &str = "vipd.service";

/// Built once a run; its path.
fn package() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deb");
        let target = Path::new(env!("CARGO_BIN_EXE_vipd")).ancestors().nth(2).unwrap();
        let mut build = Command::new(repo("cluster/deb/build.sh"));
        let said = ok(build.arg("dev").arg(dir).env("CARGO_TARGET_DIR", target).current_dir(repo("")));
        said.lines().last().unwrap().into()
    })
}

/// With the package installed and, if that is `config`'s, its file.
fn installed() -> Booted {
    let booted = Booted::up();
    booted.put("/root/vipd.deb", &std::fs::read(package()).unwrap());
    booted.ok(&["dpkg", "--install", "/root/vipd.deb"]);
    booted
}

fn configured(more: &str) -> Booted {
    let booted = installed();
    let text =
        config(Path::new("/var/lib/vipd"), &["az-a"]).replace("/var/lib/vipd/admin", "/run/vipd/admin");
    booted.put("/etc/vipd/vipd.toml", (text + more).as_bytes());
    booted
}

/// What a drop-in changes for the sake of the test's time.
fn drop_in(booted: &Booted, lines: &str) {
    booted.put("/etc/systemd/system/vipd.service.d/test.conf", format!("[Service]\n{lines}\n").as_bytes());
    booted.ok(&["systemctl", "daemon-reload"]);
}

fn status(booted: &Booted) -> Result<Value, String> {
    let output = booted.run(&["vipctl", "-o", "json", "status"]);
    serde_json::from_slice(&output.stdout).map_err(|_| text(&output.stderr))
}

#[test]
fn the_package_is_installed_and_starts_nothing_by_itself() {
    let booted = installed();
    assert_eq!(booted.show(UNIT, "ActiveState"), "inactive");
    assert_eq!(booted.show(UNIT, "UnitFileState"), "disabled");
    // Not configured: it says what is missing, and systemd does not try again.
    let refused = booted.run(&["vipd", "--check"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("cluster is missing"), "{refused:?}");
    assert!(!booted.run(&["systemctl", "start", UNIT]).status.success());
    assert_eq!(
        (booted.show(UNIT, "ActiveState"), booted.show(UNIT, "NRestarts")),
        ("failed".into(), "0".into())
    );
    // The package's own words.
    booted.ok(&["vipctl", "certs", "init", "--cluster", "edge", "--dir", "/root/pki"]);
    booted.ok(&["cp", "/root/pki/ca.pem", "/etc/vipd/"]);
    for zone in ["a", "b", "c"] {
        let name = format!("az-{zone}");
        booted.ok(&["vipctl", "certs", "issue", "member", &name, "--dir", "/root/pki"]);
        for end in ["pem", "key"] {
            booted.ok(&["cp", "-p", &format!("/root/pki/{name}.{end}"), &format!("/etc/vipd/member.{end}")]);
        }
        let example = format!("/usr/share/doc/vipd/examples/az-{zone}.toml");
        assert!(booted.ok(&["vipd", "--check", "--config", &example]).contains(&format!("az-{zone}")));
    }
    booted.ok(&["bash", "-n", "/usr/share/bash-completion/completions/vipctl"]);
    for (page, words) in
        [("man8/vipd.8", "--check"), ("man1/vipctl.1", "status"), ("man1/vipctl-status.1", "watch")]
    {
        let text = booted.ok(&["zcat", &format!("/usr/share/man/{page}.gz")]);
        assert!(text.replace('\\', "").contains(words), "{page}: {text}");
    }
    booted.ok(&["systemd-analyze", "verify", "--man=no", UNIT]);
    booted.ok(&["dpkg", "--remove", "vipd"]);
    booted.ok(&["test", "!", "-e", "/usr/bin/vipd"]);
    booted.ok(&["test", "-f", "/etc/vipd/vipd.toml"]);
}

#[test]
fn the_unit_runs_it_with_little_and_hands_over_on_stop() {
    let booted = configured("[health]\nhaproxy_socket = \"/run/haproxy/admin.sock\"\n");
    // A machine that denies root CAP_SYS_RESOURCE, as some virtual ones do, denies systemd more open files.
    let haproxy = read("cluster/haproxy/haproxy.cfg").replace("maxconn 20000", "maxconn 200");
    booted.put("/etc/haproxy/haproxy.cfg", haproxy.as_bytes());
    booted.ok(&["systemctl", "start", "haproxy.service"]);
    booted.ok(&["systemctl", "enable", "--now", UNIT]);
    let pid = booted.main_pid(UNIT).unwrap();
    let of_process = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let field = |name: &str| {
        let text = of_process("status");
        text.lines().find_map(|l| l.strip_prefix(name)).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    assert_ne!(field("Uid:"), "0");
    assert_eq!(u64::from_str_radix(&field("CapEff:"), 16).unwrap(), 1 << 12, "CAP_NET_ADMIN alone");
    assert_eq!(u64::from_str_radix(&field("CapBnd:"), 16).unwrap(), 1 << 12, "CAP_NET_ADMIN alone");
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".into(), "2".into()));
    let limits = of_process("limits");
    let limit = |name: &str| {
        let line = limits.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max core file size"), "0");
    // Locked where all of it may be, and there alone: the same machines deny systemd that, too.
    assert_eq!(field("VmLck:") != "0", limit("Max locked memory") == "unlimited", "{limits}");
    let scheduled = booted.ok(&["chrt", "--pid", &booted.show(UNIT, "MainPID")]);
    assert!(scheduled.contains("SCHED_RR"), "{scheduled}");
    // Its own files under /proc are root's: whoever is not may not read its memory (proc(5), prctl(2)).
    let owner_of = |file: &str| std::fs::metadata(format!("/proc/{pid}/{file}")).unwrap().uid();
    assert_eq!((owner_of("status"), owner_of("mem")), (0, 0));
    assert_eq!(booted.ok(&["stat", "-Lc", "%a", "/var/lib/vipd"]).trim(), "700");
    let modes = booted.ok(&["stat", "-Lc", "%a", "/var/lib/vipd/data", "/run/vipd", "/run/vipd/admin.sock"]);
    assert_eq!(modes.split_whitespace().collect::<Vec<_>>(), ["700", "750", "660"]);
    // A /tmp of its own, and nothing in it.
    let own = booted.ok(&["sh", "-c", "ls -d /tmp/systemd-private-*-vipd.service-*/tmp"]);
    assert_eq!(booted.ok(&["ls", "-A", own.trim()]), "", "{own}");

    // It owns the VIP, reads HAProxy's socket, and root alone may ask.
    until("it owns, and sees HAProxy", BOUND, || {
        let s = status(&booted)?;
        holds(s["owner"] == "az-a" && s["members"][0]["health"] == "healthy", || s.to_string())
    });
    assert!(booted.ok(&["ip", "address", "show", "dev", "lo"]).contains("192.168.77.10/32"));
    assert_eq!(booted.show(UNIT, "StatusText"), "owns the VIP");
    let nobody = booted.run(&["setpriv", "--reuid", "65534", "--clear-groups", "vipctl", "status"]);
    assert_eq!(nobody.status.code(), Some(5), "{nobody:?}");

    // A reload with a good file, and with a bad one.
    let good = booted.ok(&["cat", "/etc/vipd/vipd.toml"]);
    booted.put("/etc/vipd/vipd.toml", format!("{good}[log]\nfilter = \"info,vipd=debug\"\n").as_bytes());
    booted.ok(&["systemctl", "reload", UNIT]);
    until("the file was read again", BOUND, || {
        holds(booted.journal().contains("the configuration was read again"), || booted.journal())
    });
    booted.put("/etc/vipd/vipd.toml", format!("{good}[log]\nfilter = 7\n").as_bytes());
    assert!(!booted.run(&["systemctl", "reload", UNIT]).status.success());
    until("the journal has the reason", BOUND, || {
        holds(booted.journal().contains("expected a string"), || booted.journal())
    });
    booted.put("/etc/vipd/vipd.toml", good.as_bytes());
    assert_eq!(booted.main_pid(UNIT), Some(pid), "the same process goes on");
    assert_eq!(booted.show(UNIT, "ActiveState"), "active");

    booted.ok(&["systemctl", "stop", UNIT]);
    assert_eq!(
        (booted.show(UNIT, "ActiveState"), booted.show(UNIT, "Result")),
        ("inactive".into(), "success".into())
    );
    assert!(booted.journal().contains("stopping"), "{}", booted.journal());
    // Nobody could take over: traffic goes on to this host.
    assert!(booted.ok(&["ip", "address", "show", "dev", "lo"]).contains("192.168.77.10/32"));

    // Removed while it runs: stopped first. Purged: nothing is left.
    booted.ok(&["systemctl", "start", UNIT]);
    booted.ok(&["dpkg", "--remove", "vipd"]);
    assert!(booted.run(&["pgrep", "-x", "vipd"]).stdout.is_empty());
    booted.ok(&["test", "-d", "/var/lib/private/vipd/data"]);
    booted.ok(&["dpkg", "--purge", "vipd"]);
    for gone in ["/etc/vipd", "/var/lib/vipd", "/var/lib/private/vipd", "/run/vipd"] {
        booted.ok(&["test", "!", "-e", gone]);
    }
}

/// As docs/OPERATIONS.md says, by what is installed alone. The hosts are three network namespaces of one machine, so that
/// az-b and az-c run by copies of the unit that differ in names and namespace; and nothing here is EC2 or IMDS.
#[test]
fn three_members_of_the_package_form_a_group() {
    let booted = installed();
    booted.ok(&["sh", "-ec", THREE_HOSTS]);
    for zone in ["a", "b", "c"] {
        booted.ok(&["sh", "-ec", INSTALL, zone]);
    }
    let refused =
        booted.run(&["setpriv", "--reuid", "65534", "--clear-groups", "cat", "/etc/vipd/member.key"]);
    assert!(!refused.status.success(), "others read the key");
    // With a key of root's alone it does not start, and systemd does not try again.
    booted.ok(&["chgrp", "root", "/etc/vipd/member.key"]);
    assert!(!booted.run(&["systemctl", "start", UNIT]).status.success());
    assert_eq!(
        (booted.show(UNIT, "ExecMainStatus"), booted.show(UNIT, "NRestarts")),
        ("2".into(), "0".into())
    );
    booted.ok(&["chgrp", "vipd-tls", "/etc/vipd/member.key"]);
    // The first one alone: it runs, and says what it waits for.
    booted.ok(&["systemctl", "start", UNIT]);
    until("doctor says who is missing", BOUND, || {
        let said = booted.run(&["vipctl", "doctor"]);
        let words = text(&said.stdout);
        let names = words.contains("az-b (10.0.2.10:7400) does not answer");
        holds(said.status.code() == Some(1) && names, || words + &text(&said.stderr) + &booted.journal())
    });
    booted.ok(&["systemctl", "start", "vipd-b", "vipd-c"]);
    let ask = |zone: &str| -> Result<Value, String> {
        let socket = if zone == "a" { "vipd".into() } else { format!("vipd-{zone}") };
        let endpoint = format!("unix:/run/{socket}/admin.sock");
        let output = booted.run(&["vipctl", "--endpoint", &endpoint, "-o", "json", "status"]);
        serde_json::from_slice(&output.stdout).map_err(|_| text(&output.stderr) + &booted.journal())
    };
    let owner = until("each of three has heard of all and of the owner", BOUND + BOUND, || {
        let mut owners = Vec::new();
        for zone in ["a", "b", "c"] {
            let status = ask(zone)?;
            let members = status["members"].as_array().cloned().unwrap_or_default();
            let well =
                members.len() == 3 && members.iter().all(|m| m["reachable"] == true && m["voter"] == true);
            holds(well && status["owner"].is_string(), || status.to_string())?;
            owners.push(status["owner"].as_str().unwrap_or_default().to_owned());
        }
        holds(owners.iter().all(|o| *o == owners[0]), || format!("{owners:?}")).map(|()| owners[0].clone())
    });
    // A renewed pair is read by a reload.
    booted.ok(&["sh", "-ec", INSTALL_RENEWED]);
    booted.ok(&["systemctl", "reload", UNIT]);
    until("the certificate was read again", BOUND, || {
        holds(booted.journal().contains("the configuration was read again"), || booted.journal())
    });
    // Its unit stops, and another one owns.
    let of_owner = match owner.as_str() {
        "az-a" => "vipd",
        "az-b" => "vipd-b",
        _ => "vipd-c",
    };
    booted.ok(&["systemctl", "stop", of_owner]);
    let left = if owner == "az-a" { "b" } else { "a" };
    until("another one owns", BOUND + BOUND, || {
        let status = ask(left)?;
        holds(status["owner"].is_string() && status["owner"] != owner.as_str(), || status.to_string())
    });
}

/// az-a is this machine; az-b and az-c are namespaces. Each reaches each by a link of its own.
const THREE_HOSTS: &str = r#"
ip link set lo up
for h in b c; do ip netns add $h; ip -n $h link set lo up; done
ip address add 10.0.1.10/32 dev lo
ip -n b address add 10.0.2.10/32 dev lo
ip -n c address add 10.0.3.10/32 dev lo
ip link add ab type veth peer name ba netns b
ip link add ac type veth peer name ca netns c
ip -n b link add bc type veth peer name cb netns c
for d in ab ac; do ip link set $d up; done
for d in ba bc; do ip -n b link set $d up; done
for d in ca cb; do ip -n c link set $d up; done
ip route add 10.0.2.10/32 dev ab src 10.0.1.10
ip route add 10.0.3.10/32 dev ac src 10.0.1.10
ip -n b route add 10.0.1.10/32 dev ba src 10.0.2.10
ip -n b route add 10.0.3.10/32 dev bc src 10.0.2.10
ip -n c route add 10.0.1.10/32 dev ca src 10.0.3.10
ip -n c route add 10.0.2.10/32 dev cb src 10.0.3.10
vipctl certs init --cluster edge --dir /root/pki
"#;

/// The example of one zone, its certificate, and the unit; `$0` is the zone's letter.
const INSTALL: &str = r#"
case $0 in a) name=vipd; dir=/etc/vipd ;; *) name=vipd-$0; dir=/etc/vipd-$0; mkdir $dir ;; esac
vipctl certs issue member az-$0 --dir /root/pki
install -m 0644 /root/pki/ca.pem $dir/ca.pem
install -m 0644 /root/pki/az-$0.pem $dir/member.pem
install -m 0640 -g vipd-tls /root/pki/az-$0.key $dir/member.key
sed -e "s|^route_tables|region = \"eu-west-1\"\neni = \"eni-0$0\"\nendpoint_url = \"http://127.0.0.1:9\"\n&|" \
    -e "s|/run/vipd/|/run/$name/|; s|/etc/vipd/|$dir/|; s|^member .*|&\ndata_dir = \"/var/lib/$name\"|" \
    /usr/share/doc/vipd/examples/az-$0.toml >$dir/vipd.toml
vipd --check --config $dir/vipd.toml
if [ $0 != a ]; then
    sed -e "s|/etc/vipd/|$dir/|; s|^User=vipd|User=$name|; s|Directory=vipd|Directory=$name|" \
        -e "s|^\[Service\]|&\nNetworkNamespacePath=/run/netns/$0|" \
        /lib/systemd/system/vipd.service >/etc/systemd/system/$name.service
    systemctl daemon-reload
fi
"#;

const INSTALL_RENEWED: &str = r#"
vipctl certs issue member az-a --dir /root/pki --out /root/new
install -m 0644 /root/new/az-a.pem /etc/vipd/member.pem
install -m 0640 -g vipd-tls /root/new/az-a.key /etc/vipd/member.key
"#;

/// An agent of this name that does what the real one does: by its timer it takes away what it does not know.
#[test]
fn fault_78_an_agent_takes_the_address_away_and_doctor_names_it() {
    let booted = configured("");
    booted.ok(&["systemctl", "start", UNIT]);
    until("it owns", BOUND, || status(&booted).and_then(|s| holds(s["owner"] == "az-a", || s.to_string())));
    let has_vip =
        || text(&booted.run(&["ip", "address", "show", "dev", "lo"]).stdout).contains("192.168.77.10/32");
    until("the address is there", BOUND, || holds(has_vip(), || booted.journal()));
    let service = "[Service]\nType=oneshot\nExecStart=/usr/bin/env ip address del 192.168.77.10/32 dev lo\n";
    let timer =
        "[Timer]\nOnActiveSec=0\nOnUnitInactiveSec=1\nAccuracySec=100ms\n[Install]\nWantedBy=timers.target\n";
    booted.put("/etc/systemd/system/nm-cloud-setup.service", service.as_bytes());
    booted.put("/etc/systemd/system/nm-cloud-setup.timer", timer.as_bytes());
    booted.ok(&["systemctl", "daemon-reload"]);
    booted.ok(&["systemctl", "enable", "--now", "nm-cloud-setup.timer"]);
    let told = || booted.journal().matches("someone else took the address away").count();
    until("it was taken away twice", BOUND, || holds(told() >= 2, || booted.journal()));
    until("it is back", BOUND, || holds(has_vip(), || booted.journal()));
    let said = booted.run(&["vipctl", "-o", "json", "doctor"]);
    let page: Value = serde_json::from_slice(&said.stdout).unwrap();
    let mut all = page["findings"].as_array().unwrap().iter();
    let agent = all.find(|f| f["check"] == "network-agent" && f["level"] == "warn");
    let agent = agent.unwrap_or_else(|| panic!("{page}"));
    assert!(agent["finding"].as_str().unwrap().contains("nm-cloud-setup"), "{agent}");
    // As it says; then nobody takes it away.
    let mend: Vec<_> = agent["mend"].as_str().unwrap().split(' ').collect();
    booted.ok(&mend);
    assert_eq!(booted.show("nm-cloud-setup.timer", "ActiveState"), "inactive");
    until("it is back", BOUND, || holds(has_vip(), || booted.journal()));
}

#[test]
fn fault_06_systemd_ends_a_stalled_member_and_starts_another() {
    let booted = configured("");
    drop_in(&booted, "WatchdogSec=2");
    booted.ok(&["systemctl", "start", UNIT]);
    until("it owns", BOUND, || status(&booted).and_then(|s| holds(s["owner"] == "az-a", || s.to_string())));
    let pid = booted.main_pid(UNIT).unwrap();
    let stalled = stall(pid);
    booted.comes_to(UNIT, "NRestarts", "1", BOUND + BOUND);
    drop(stalled);
    until("another one owns", BOUND, || {
        status(&booted).and_then(|s| holds(s["owner"] == "az-a", || s.to_string()))
    });
    assert!(booted.main_pid(UNIT).is_some_and(|now| now != pid));
    assert!(booted.journal().contains("Watchdog timeout"), "{}", booted.journal());
}

#[test]
fn fault_07_systemd_gives_up_on_a_crash_loop() {
    let booted = configured("");
    drop_in(&booted, "RestartSec=100ms");
    booted.ok(&["systemctl", "start", UNIT]);
    let allowed: u32 = booted.show(UNIT, "StartLimitBurst").parse().unwrap();
    let mut kills = 0;
    until("systemd gives up", Duration::from_secs(60), || {
        if booted.show(UNIT, "ActiveState") == "active" {
            booted.run(&["systemctl", "kill", "--signal", "KILL", UNIT]);
            kills += 1;
        }
        holds(booted.show(UNIT, "ActiveState") == "failed", || format!("{kills} kills"))
    });
    assert!(booted.journal().contains("Start request repeated too quickly"), "{}", booted.journal());
    assert!(kills >= allowed, "{kills} of {allowed} starts");
    booted.ok(&["systemctl", "reset-failed", UNIT]);
    booted.ok(&["systemctl", "start", UNIT]);
}
