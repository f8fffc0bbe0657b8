//! Strangers who mean harm, from the client's network, against real members. In the clear, where they get
//! furthest: with TLS nobody comes to HTTP/2 without a certificate.

mod attack;
mod http2;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::attack::{APPEND, Reset, STATUS};
use crate::lab::{Lab, measured};
use crate::status::Status;

/// How long each attack goes on.
const EACH: Duration = Duration::from_secs(4);

/// What a member may grow by under each. Far above what was measured (docs/SECURITY.md), and far below what
/// it takes where connections or requests that are being received are not bounded.
const GROWTH_MAX_KIB: u64 = 48 * 1024;

/// HAProxy, EC2 and this test live on the same machine.
const HALF_HANDSHAKES: usize = 5_000;

/// Of one process, from /proc/PID/status.
fn kib(pid: &str, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Runs an attack on both ports of a member, and says what the member grew to under it.
fn under(lab: &Lab, member: &str, name: &str, attack: impl Fn(&str, &str) -> String + Sync) {
    let pid = lab.pid(member).as_raw_nonzero().to_string();
    let zone = match member {
        "az-a" => 1,
        "az-b" => 2,
        _ => 3,
    };
    // The high-water mark starts anew (proc(5), clear_refs).
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let before = kib(&pid, "VmRSS");
    let did = lab.within("client", || {
        std::thread::scope(|scope| {
            let ports = [(7400, APPEND), (7401, STATUS)].map(|(port, path)| {
                let (address, attack) = (format!("10.0.{zone}.10:{port}"), &attack);
                // A thread starts in the namespace of the one that starts it.
                scope.spawn(move || attack(&address, path))
            });
            ports.map(|port| port.join().unwrap())
        })
    });
    let growth = kib(&pid, "VmHWM").saturating_sub(before);
    measured(&format!("{name} on {member}: {}; {before} KiB grew by {growth} KiB", did.join(", ")));
    assert!(growth <= GROWTH_MAX_KIB, "{name}: {growth} KiB");
}

fn same(before: &Status, lab: &Lab, what: &str) {
    let now = lab.status(before.owner.as_deref().unwrap()).unwrap();
    let of = |s: &Status| (s.term, s.epoch, s.owner.clone());
    assert_eq!(of(&now), of(before), "{what}: {now:?}");
}

#[test]
fn fault_66_what_strangers_send_costs_bounded_memory_and_moves_nothing() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(20_000).max(20_000);
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
    let lab = Lab::up_with("abuse", &["--set", "tls.insecure=true"]);
    let owner = lab.steady();
    let before = lab.status(&owner).unwrap();
    let swaps = lab.swaps().len();

    under(&lab, &owner, "a message of 5 GB", |address, path| {
        let sent = attack::huge(address, path, EACH);
        assert!(sent > 0, "nothing was sent");
        format!("{} KiB sent", sent / 1024)
    });
    same(&before, &lab, "a message of 5 GB");
    under(&lab, &owner, "messages that are never whole", |address, path| {
        let size = if path == APPEND { 4_000_000 } else { 60_000 };
        let sent = attack::hoard(address, path, size, 32, EACH);
        assert!(sent > 1_000_000, "{sent} bytes were sent");
        format!("{} KiB sent", sent / 1024)
    });
    same(&before, &lab, "messages that are never whole");
    for (name, reset) in [("a million streams", Reset::Never), ("rapid resets", Reset::AtOnce)] {
        under(&lab, &owner, name, |address, path| {
            let opened = attack::streams(address, path, reset, 500_000, EACH);
            assert!(opened > 1000, "{opened} streams");
            format!("{opened} streams")
        });
        same(&before, &lab, name);
    }
    under(&lab, &owner, "slow headers", |address, _| {
        let frames = attack::slow_headers(address, 100, EACH);
        assert!(frames > 100, "{frames} frames");
        format!("{frames} frames")
    });
    same(&before, &lab, "slow headers");
    under(&lab, &owner, "half handshakes", |address, _| {
        let (opened, left) = attack::half_handshakes(address, b"PRI", HALF_HANDSHAKES, 5 * EACH);
        assert_eq!(opened, HALF_HANDSHAKES);
        assert!(left <= 256, "{left} are held open");
        format!("{opened} opened")
    });
    same(&before, &lab, "half handshakes");

    assert_eq!(lab.swaps().len(), swaps, "nothing moved");
    assert_eq!(lab.steady(), owner);
    lab.client_reaches(&owner);
    lab.assert_fenced();
}
