//! One lab for one test, by the vip-lab program; taken down whatever happens.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// No test waits longer for anything, unless it says why.
pub const BOUND: Duration = Duration::from_secs(10);

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub const MEMBERS: [&str; 3] = ["az-a", "az-b", "az-c"];
pub const VIP: &str = "192.168.77.10";

pub struct Lab {
    name: String,
    pub dir: PathBuf,
}

/// Waits until `ready` is, or panics with why it is not.
pub fn until<T>(what: &str, bound: Duration, mut ready: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match ready() {
            Ok(value) => return value,
            Err(why) if start.elapsed() > bound => panic!("{what}: not within {bound:?}: {why}"),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// `Err` with the words where it does not hold.
pub fn holds(condition: bool, words: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(words()) }
}

/// A measured figure: printed past the harness, which keeps a passing test's words to itself.
pub fn measured(words: &str) {
    let _ = writeln!(std::io::stderr(), "measured: {words}");
}

/// The folder of the programs that were built with this test.
pub fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_vipd")).parent().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Lab {
    /// Three zones, three members, slow timings.
    pub fn up(name: &str) -> Self {
        Self::up_with(name, &[])
    }

    pub fn up_with(name: &str, more: &[&str]) -> Self {
        Self::up_as(name, &[&["--heartbeat", "200", "--election", "1000,2000"], more].concat())
    }

    /// With timings of its own.
    pub fn up_as(name: &str, options: &[&str]) -> Self {
        let program = programs().join("vip-lab");
        assert!(program.exists(), "{} is missing: cargo build --workspace --bins", program.display());
        // Runs of two checkouts may meet on one machine.
        let name = format!("{name}{}", std::process::id() % 100_000);
        let dir = std::env::temp_dir().join(format!("vipd-e2e-{name}"));
        let lab = Self { name, dir };
        lab.ok(&[&["up"], options].concat());
        lab
    }

    /// A verb of vip-lab, however it ends.
    pub fn run(&self, verb: &[&str]) -> Output {
        let mut command = Command::new(programs().join("vip-lab"));
        command.args(["--name", &self.name, "--dir"]).arg(&self.dir).args(verb).output().unwrap()
    }

    /// A verb that must succeed; what it printed.
    pub fn ok(&self, verb: &[&str]) -> String {
        let output = self.run(verb);
        assert!(output.status.success(), "vip-lab {verb:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    pub fn json(&self, verb: &[&str]) -> Value {
        serde_json::from_str(&self.ok(verb)).unwrap()
    }

    /// A command inside a namespace that must succeed; what it printed.
    pub fn inside(&self, who: &str, command: &[&str]) -> String {
        self.ok(&[&["ns", who, "--"], command].concat())
    }

    /// vip-lab itself, for a verb that goes on beside the test.
    pub fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(programs().join("vip-lab"));
        command.args(["--name", &self.name, "--dir"]).arg(&self.dir).args(verb);
        command
    }

    /// Runs `work` on a thread of its own inside a namespace: client, router or a member.
    pub fn within<T: Send>(&self, who: &str, work: impl FnOnce() -> T + Send) -> T {
        let ns = format!("/run/netns/{}-{}", self.name, who.trim_start_matches("az-"));
        let enter = move || {
            let file = std::fs::File::open(&ns).unwrap();
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
                .unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    /// GET over a connection of its own: status code and body.
    pub fn get(&self, who: &str, address: &str, path: &str) -> Result<(u16, String), String> {
        self.within(who, || {
            let to = address.parse().map_err(|e| format!("{address}: {e}"))?;
            let mut stream =
                TcpStream::connect_timeout(&to, Duration::from_secs(2)).map_err(|e| e.to_string())?;
            stream.set_read_timeout(Some(Duration::from_secs(2))).map_err(|e| e.to_string())?;
            let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
            stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
            let (head, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
            let code = head.split(' ').nth(1).and_then(|c| c.parse().ok()).ok_or("no code")?;
            Ok((code, body.to_owned()))
        })
    }

    /// Waits until the VIP answers the client from this member's HAProxy.
    pub fn client_reaches(&self, member: &str) {
        self.client_reaches_at(VIP, member);
    }

    pub fn client_reaches_at(&self, vip: &str, member: &str) {
        until(&format!("the client reaches {member} at {vip}"), BOUND, || {
            let (_, body) = self.get("client", &format!("{vip}:8080"), "/")?;
            holds(body.trim() == member, || format!("{body:?} answers"))
        });
    }

    /// Whether the VIP is on the member's loopback now.
    pub fn has_address(&self, member: &str) -> bool {
        self.inside(member, &["ip", "-o", "address", "show", "dev", "lo"]).contains(VIP)
    }

    pub fn address_goes(&self, member: &str) {
        until(&format!("the address leaves {member}"), BOUND, || {
            holds(!self.has_address(member), || "it is still there".into())
        });
    }

    pub fn vipd_log(&self, member: &str) -> String {
        std::fs::read_to_string(self.dir.join(member).join("vipd.log")).unwrap_or_default()
    }

    /// Waits until `member` has logged `words`: what it does may be seen before it says so.
    pub fn logs(&self, member: &str, words: &str) {
        until(&format!("{member} says: {words}"), BOUND, || {
            let log = self.vipd_log(member);
            holds(log.contains(words), || tail(&log, 40))
        });
    }

    /// CLOCK_BOOTTIME in nanoseconds, as in the log of EC2's calls.
    pub fn now_ns(&self) -> u64 {
        self.json(&["status"])["now_boot_ns"].as_u64().unwrap()
    }

    /// What there is to see of a test that failed.
    fn tell(&self) {
        for member in MEMBERS {
            eprintln!("--- {member}: vipd.log\n{}", tail(&self.vipd_log(member), 40));
        }
        eprintln!("--- the lab\n{}", text(&self.run(&["status"]).stdout));
        for member in MEMBERS {
            let status = self.vipctl(member, &["status", "--timeout", "2s"]);
            eprintln!("--- {member}: vipctl status\n{}{}", text(&status.stdout), text(&status.stderr));
        }
        eprintln!("--- the last calls");
        let all = self.calls();
        for call in &all[all.len().saturating_sub(40)..] {
            eprintln!("{call}");
        }
        eprintln!("--- all of it is in {}", self.dir.display());
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

impl Drop for Lab {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            // Another panic in here would abort before the lab is down.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.tell()));
        }
        let down = self.run(&["down"]);
        if !failed {
            let _ = std::fs::remove_dir_all(&self.dir);
            assert!(down.status.success(), "down: {}", text(&down.stderr));
        }
    }
}
