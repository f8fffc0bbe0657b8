//! Strangers who mean harm, from the client's network, against real members. In the clear, where they get
//! furthest: with TLS nobody comes to HTTP/2 without a certificate, and half handshakes are what is left.

mod attack;
mod http2;

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::attack::{APPEND, Reset, STATUS};
use crate::lab::{Lab, measured};
use crate::status::Status;

/// How long each attack goes on.
const EACH: Duration = Duration::from_secs(4);

/// What a member may grow by under each. Far above what was measured (docs/SECURITY.md), and far below what
/// it takes where connections or requests that are being received are not bounded.
const GROWTH_MAX_KIB: u64 = 48 * 1024;

/// Connections of a port of which it is not known yet what they are (`rpc/admit.rs`).
const UNKNOWN_MAX: usize = 256;

/// Of each port.
const HALF_HANDSHAKES: usize = 10_000;

/// Of each port: a million in all. And how long they may take, on a machine that has the lab to run as well.
const STREAMS: u64 = 500_000;
const STREAMS_WITHIN: Duration = Duration::from_secs(60);

/// The beginning of a ClientHello of 512 bytes (RFC 8446, section 4.1.2).
const HALF_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

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

fn allow_files() {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(20_000);
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
}

fn half_handshakes(address: &str, first: &[u8]) -> String {
    let (opened, left) =
        attack::half_handshakes(address, first, HALF_HANDSHAKES, UNKNOWN_MAX, STREAMS_WITHIN);
    assert_eq!(opened, HALF_HANDSHAKES);
    assert!(left <= UNKNOWN_MAX, "{left} are held open");
    format!("{opened} opened")
}

#[test]
fn fault_66_half_handshakes_of_tls_cost_bounded_memory_and_move_nothing() {
    allow_files();
    let lab = Lab::up("abusetls");
    let owner = lab.steady();
    let before = lab.status(&owner).unwrap();
    let swaps = lab.swaps().len();
    under(&lab, &owner, "half handshakes of TLS", |address, _| half_handshakes(address, HALF_HELLO));
    same(&before, &lab, "half handshakes of TLS");
    assert_eq!(lab.swaps().len(), swaps, "nothing moved");
    assert_eq!(lab.steady(), owner);
}

#[test]
fn fault_66_what_strangers_send_costs_bounded_memory_and_moves_nothing() {
    allow_files();
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
    under(&lab, &owner, "a million streams", |address, path| {
        let at_once = if path == APPEND { 64 } else { 16 };
        let begun = Instant::now();
        let ended = attack::whole_streams(address, path, at_once, STREAMS, STREAMS_WITHIN);
        assert!(ended >= STREAMS, "{ended} streams");
        format!("{ended} streams to their end in {:.0} s", begun.elapsed().as_secs_f64())
    });
    same(&before, &lab, "a million streams");
    for (name, reset) in [("streams left open", Reset::Never), ("rapid resets", Reset::AtOnce)] {
        under(&lab, &owner, name, |address, path| {
            let begun = Instant::now();
            let (opened, connections) = attack::streams(address, path, reset, STREAMS, STREAMS_WITHIN);
            assert!(opened >= STREAMS, "{opened} streams");
            let took = begun.elapsed().as_secs_f64();
            format!("{opened} streams on {connections} connections in {took:.0} s")
        });
        same(&before, &lab, name);
    }
    under(&lab, &owner, "slow headers", |address, _| {
        let frames = attack::slow_headers(address, 100, EACH);
        assert!(frames > 100, "{frames} frames");
        format!("{frames} frames")
    });
    same(&before, &lab, "slow headers");
    under(&lab, &owner, "half handshakes", |address, _| half_handshakes(address, b"PRI"));
    same(&before, &lab, "half handshakes");

    assert_eq!(lab.swaps().len(), swaps, "nothing moved");
    assert_eq!(lab.steady(), owner);
    lab.client_reaches(&owner);
    lab.assert_fenced();
}
