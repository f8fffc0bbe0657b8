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
pub fn package() -> &'static Path {
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

/// README and docs come along, and lead to nothing that is not there.
#[test]
fn the_links_of_what_is_packaged_lead_somewhere() {
    let dir = tempfile::tempdir().unwrap();
    ok(Command::new("dpkg-deb").arg("--extract").arg(package()).arg(dir.path()));
    let doc = dir.path().join("usr/share/doc/vipd");
    let folders = [doc.clone(), doc.join("docs"), doc.join("docs/decisions")];
    let pages = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
    let pages: Vec<_> =
        pages.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    assert!(pages.len() > 30 && pages.contains(&doc.join("README.md")), "{pages:?}");
    let mut followed = 0;
    for page in pages {
        let words = std::fs::read_to_string(&page).unwrap();
        let links = words.split("](").skip(1).filter_map(|after| after.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.starts_with("http") && !link.starts_with('#')) {
            let file = link.split('#').next().unwrap();
            assert!(page.with_file_name(file).exists(), "{} leads to {link}", page.display());
            followed += 1;
        }
    }
    assert!(followed > 30, "{followed}");
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
