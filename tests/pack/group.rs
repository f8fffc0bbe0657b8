//! `admin.group` under the unit that ships, with its dynamic user; and what a purge says of keys.

use crate::booted::Booted;
use crate::tools::{BOUND, holds, read, text, until};

const UNIT: &str = "vipd.service";

/// It waits for its group and for IMDS, neither of which there is here; the socket is there meanwhile.
const CONFIG: &str = "
cluster = \"edge\"
member = \"az-a\"
[peer]
listen = \"127.0.0.1:7400\"
[admin]
socket = \"/run/vipd/admin.sock\"
group = \"vipd-ops\"
[[members]]
name = \"az-a\"
peer = \"127.0.0.1:7400\"
[[members]]
name = \"az-b\"
peer = \"127.0.0.1:1\"
[[members]]
name = \"az-c\"
peer = \"127.0.0.1:2\"
[vip]
addresses = [\"192.168.77.10/32\"]
[aws]
region = \"eu-west-1\"
eni = \"eni-0a\"
route_tables = [\"rtb-0a\"]
endpoint_url = \"http://127.0.0.1:3\"
[tls]
insecure = true
";

/// The programs and the unit, without the package, and three users: of the group, of it as their first, and of none.
fn machine() -> Booted {
    let booted = Booted::up();
    for (path, bytes) in [
        ("/usr/bin/vipd", std::fs::read(env!("CARGO_BIN_EXE_vipd")).unwrap()),
        ("/usr/bin/vipctl", std::fs::read(env!("CARGO_BIN_EXE_vipctl")).unwrap()),
        ("/etc/systemd/system/vipd.service", read("cluster/systemd/vipd.service").into_bytes()),
        ("/etc/vipd/vipd.toml", CONFIG.into()),
    ] {
        booted.put(path, &bytes);
    }
    booted.ok(&["chmod", "755", "/usr/bin/vipd", "/usr/bin/vipctl"]);
    for group in ["haproxy", "vipd-tls", "vipd-ops"] {
        booted.ok(&["groupadd", "--system", "--force", group]);
    }
    booted.ok(&["useradd", "--groups", "vipd-ops", "olga"]);
    booted.ok(&["useradd", "--gid", "vipd-ops", "otto"]);
    booted.ok(&["useradd", "eve"]);
    booted
}

fn drop_in(booted: &Booted, lines: &str) {
    booted.put("/etc/systemd/system/vipd.service.d/group.conf", format!("[Service]\n{lines}\n").as_bytes());
    booted.ok(&["systemctl", "daemon-reload"]);
    booted.run(&["systemctl", "reset-failed", UNIT]);
}

#[test]
fn the_group_of_the_socket_takes_the_drop_in_that_the_documents_name() {
    let booted = machine();
    // Without it the unit's user, which is nobody's, can give the socket to nobody; with the group beside its own
    // it could not either: chown(2) is not among the system calls that the unit allows.
    for lines in ["", "SupplementaryGroups=vipd-ops"] {
        drop_in(&booted, lines);
        let said = |journal: &str| journal.matches("by Group=vipd-ops in a drop-in of its unit").count();
        let before = said(&booted.journal());
        booted.run(&["systemctl", "start", "--no-block", UNIT]);
        until("it says what to do", BOUND, || {
            let journal = booted.journal();
            holds(said(&journal) > before, || format!("with {lines:?}: {journal}"))
        });
        booted.run(&["systemctl", "stop", UNIT]);
    }
    let documented = "Group=vipd-ops";
    assert!(read("docs/OPERATIONS.md").contains(documented));
    drop_in(&booted, documented);
    booted.ok(&["systemctl", "start", "--no-block", UNIT]);
    let of = |path: &str| booted.run(&["stat", "--format", "%a %G", path]);
    until("the socket is there", BOUND, || {
        holds(of("/run/vipd/admin.sock").status.success(), || booted.journal())
    });
    assert_eq!(text(&of("/run/vipd/admin.sock").stdout).trim(), "660 vipd-ops");
    assert_eq!(text(&of("/run/vipd").stdout).trim(), "750 vipd-ops");
    // The rest of it is as it was.
    assert_eq!(booted.show(UNIT, "DynamicUser"), "yes");
    assert_eq!(text(&of("/var/lib/private/vipd").stdout).split(' ').next(), Some("700"));

    // An operator's order is let in, and fails for want of a group of members; eve gets nowhere.
    for (user, code) in [("olga", 3), ("otto", 3), ("root", 3), ("eve", 5)] {
        let paused = booted.run(&["runuser", "-u", user, "--", "vipctl", "-o", "json", "pause"]);
        assert_eq!(paused.status.code(), Some(code), "{user}: {}", text(&paused.stdout));
    }
    // Whom somebody lets in by an ACL or a wider mode is a viewer.
    booted.ok(&["chmod", "755", "/run/vipd"]);
    booted.ok(&["chmod", "666", "/run/vipd/admin.sock"]);
    let paused = booted.run(&["runuser", "-u", "eve", "--", "vipctl", "-o", "json", "pause"]);
    assert_eq!(paused.status.code(), Some(4), "{}", text(&paused.stdout));
    assert!(text(&paused.stdout).contains("(viewer) may not call"), "{}", text(&paused.stdout));

    // On such a machine nothing is lost by it: a purge takes the log and the identity, and leaves the keys.
    booted.ok(&["systemctl", "stop", UNIT]);
    booted.put("/etc/vipd/member.key", b"a key");
    booted.put("/root/postrm", read("cluster/deb/postrm").as_bytes());
    let said = booted.ok(&["sh", "/root/postrm", "purge"]);
    assert!(said.contains("stay: ") && said.contains("/etc/vipd/member.key"), "{said}");
    booted.ok(&["test", "-f", "/etc/vipd/member.key"]);
    booted.ok(&["test", "!", "-e", "/var/lib/private/vipd"]);
}
