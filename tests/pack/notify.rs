//! vipd against a socket that plays systemd.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::stall::stall;
use crate::tools::{BOUND, holds, until};

/// `WatchdogSec=` here: pings come three times within it.
const PATIENCE: Duration = Duration::from_millis(1500);

/// One vipd in a network namespace of its own, and the socket that it notifies.
struct Member {
    dir: TempDir,
    vipd: Child,
    socket: UnixDatagram,
}

/// The configuration of az-a. EC2's port is closed: what is tested here needs none.
pub fn config(dir: &Path, members: &[&str]) -> String {
    let dir = dir.display();
    let listed: String = (1..)
        .zip(members)
        .map(|(n, name)| {
            format!("[[members]]\nname = \"{name}\"\npeer = \"127.0.0.{n}:7400\"\nzone = \"eu-west-1a\"\n")
        })
        .collect();
    format!(
        r#"
cluster = "edge"
member = "az-a"
data_dir = "{dir}/data"
peer.listen = "127.0.0.1:7400"
admin.socket = "{dir}/admin.sock"
vip.addresses = ["192.168.77.10/32"]
tls.insecure = true
metrics.listen = "127.0.0.1:9407"
{listed}
[aws]
region = "eu-west-1"
route_tables = ["rtb-0a"]
eni = "eni-0a"
endpoint_url = "http://127.0.0.1:9"
source_dest_check = "ignore"
"#
    )
}

impl Member {
    fn start(members: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("vipd.toml"), config(dir.path(), members)).unwrap();
        let notify = dir.path().join("notify");
        let socket = UnixDatagram::bind(&notify).unwrap();
        // `unshare` and `sh` become vipd: one process id all the way.
        let vipd = Command::new("unshare")
            .args(["-n", "sh", "-c", "ip link set lo up && exec \"$0\" --config \"$1\""])
            .arg(env!("CARGO_BIN_EXE_vipd"))
            .arg(dir.path().join("vipd.toml"))
            .env("NOTIFY_SOCKET", &notify)
            .env("WATCHDOG_USEC", PATIENCE.as_micros().to_string())
            .env("AWS_ACCESS_KEY_ID", "none")
            .env("AWS_SECRET_ACCESS_KEY", "none")
            .stderr(Stdio::from(std::fs::File::create(dir.path().join("log")).unwrap()))
            .spawn()
            .unwrap();
        Self { dir, vipd, socket }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// The next message, or none within `bound`.
    fn hear(&self, bound: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(bound)).unwrap();
        let mut bytes = [0; 1024];
        let n = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..n]).into_owned())
    }

    /// Reads on until this message comes; what came before it.
    fn wait_for(&self, wanted: &str) -> Vec<String> {
        let (start, mut before) = (Instant::now(), Vec::new());
        while start.elapsed() < BOUND {
            match self.hear(BOUND) {
                Some(message) if message.starts_with(wanted) => return before,
                Some(message) => before.push(message),
                None => break,
            }
        }
        panic!("{wanted} never came, but {before:?}\n{}", self.log());
    }

    fn is_fed(&self) {
        for _ in 0..4 {
            self.wait_for("WATCHDOG=1");
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.vipd), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let log = self.log();
        until("vipd ends", BOUND + BOUND, || self.vipd.try_wait().unwrap().ok_or_else(|| log.clone()))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.vipd.kill();
        let _ = self.vipd.wait();
    }
}

#[test]
fn it_says_when_it_serves_owns_and_stops() {
    let mut member = Member::start(&["az-a"]);
    let before = member.wait_for("READY=1");
    assert!(before.iter().all(|m| !m.starts_with("WATCHDOG")), "{before:?}");
    assert!(member.dir.path().join("admin.sock").exists(), "ready, but the socket is not served");
    member.wait_for("STATUS=owns the VIP");
    member.is_fed();
    member.signal(Signal::TERM);
    member.wait_for("STOPPING=1");
    assert_eq!(member.ended().code(), Some(0), "{}", member.log());
}

/// sd_notify(3): RELOADING=1 with the time, then READY=1 when the new file is in force, or refused.
#[test]
fn a_reload_is_told_from_its_beginning_to_its_end() {
    let member = Member::start(&["az-a"]);
    member.wait_for("STATUS=owns the VIP");
    let file = member.dir.path().join("vipd.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    for (text, words) in [
        (format!("{good}[log]\nfilter = \"debug\"\n"), "the configuration was read again"),
        ("nonsense".to_owned(), "the old configuration stays in force"),
    ] {
        std::fs::write(&file, text).unwrap();
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec;
        member.signal(Signal::HUP);
        member.wait_for(&format!("RELOADING=1\nMONOTONIC_USEC={}", now / 100));
        member.wait_for("READY=1");
        assert!(member.log().contains(words), "{}", member.log());
    }
    member.is_fed();
}

/// `systemctl start` on the first of three hosts returns, and the watchdog lets it wait.
#[test]
fn it_is_ready_and_fed_while_it_waits_for_the_others() {
    let mut member = Member::start(&["az-a", "az-b", "az-c"]);
    member.wait_for("READY=1");
    member.is_fed();
    assert!(!member.log().contains("the group is founded"), "{}", member.log());
    member.signal(Signal::TERM);
    assert_eq!(member.ended().code(), Some(0), "{}", member.log());
}

#[test]
fn one_that_refuses_to_start_never_says_ready() {
    let mut member = Member::start(&[]);
    assert_eq!(member.ended().code(), Some(2), "{}", member.log());
    let heard = member.hear(Duration::from_millis(1));
    assert!(heard.is_none(), "{heard:?}");
}

/// The pings stop with the runtime's thread, though the process and its other threads live; what
/// systemd does then ends it.
#[test]
fn fault_06_the_watchdog_starves_when_the_runtime_stalls() {
    let mut member = Member::start(&["az-a"]);
    member.wait_for("STATUS=owns the VIP");
    member.is_fed();
    let stalled = stall(member.vipd.id());
    // What was sent before the stall.
    while member.hear(Duration::from_millis(1)).is_some() {}
    let heard = member.hear(PATIENCE);
    assert!(heard.is_none(), "stalled, and it said {heard:?}");
    assert!(member.vipd.try_wait().unwrap().is_none(), "it has to live for this test to mean anything");
    member.signal(Signal::ABORT);
    let ended = member.ended();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(6), "{ended}");
    drop(stalled);
}

/// One that comes to itself in time is fed again.
#[test]
fn a_short_stall_ends_nothing() {
    let member = Member::start(&["az-a"]);
    member.wait_for("STATUS=owns the VIP");
    let stalled = stall(member.vipd.id());
    while member.hear(Duration::from_millis(1)).is_some() {}
    drop(stalled);
    until("it is fed again", BOUND, || {
        holds(member.hear(PATIENCE).as_deref() == Some("WATCHDOG=1"), || "no ping".into())
    });
}
