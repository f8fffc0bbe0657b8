//! The service manager: what it is told, and what it gives (sd_notify(3), systemd.service(5)).
//!
//! ```text
//!   driver's loop --turn()--> Pulse <--reads-- Service::watch --WATCHDOG=1--> systemd
//! ```
//!
//! `watch` is a task of the runtime that runs everything else, so that a ping proves two things: that the runtime
//! turns, and that the driver's loop has turned since the last one. Without either systemd ends the process
//! (FAULTS 6). A message never blocks that runtime: a service manager that hangs shall not stall a member.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// How often the driver's loop has turned; 0 until there is a driver.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    pub fn turn(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn turns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The judgement of the watchdog's task.
#[derive(Debug, Default)]
struct Watch {
    seen: u64,
}

impl Watch {
    /// Whether there was progress since the last ping. Before there is a driver the runtime's own
    /// turning is all there is: it waits for IMDS or for the other members, as long as that takes.
    fn may_ping(&mut self, turns: u64) -> bool {
        let moved = turns == 0 || turns != self.seen;
        self.seen = turns;
        moved
    }
}

/// The way to the service manager; without one, every message goes nowhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Service {
    socket: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Service {
    /// As `NOTIFY_SOCKET` and `WATCHDOG_USEC` say, where `WATCHDOG_PID` does not name another process.
    pub fn of_environment() -> Self {
        let read = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let other = read("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id()));
        Self {
            socket: std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()),
            watchdog: read("WATCHDOG_USEC").filter(|us| *us > 0 && !other).map(Duration::from_micros),
        }
    }

    /// The ports are served: what `systemctl start` waits for.
    pub async fn ready(&self) {
        self.tell("READY=1").await;
    }

    /// From here until [`ready`](Self::ready) the configuration is read again.
    pub async fn reloading(&self) {
        // systemd tells this reload from an earlier one by it (sd_notify(3)).
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let us = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}")).await;
    }

    pub async fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping").await;
    }

    /// One line for `systemctl status`.
    pub async fn status(&self, line: &str) {
        self.tell(&format!("STATUS={line}")).await;
    }

    /// Feeds the watchdog as long as there is progress; returns where there is no watchdog.
    pub async fn watch(self, pulse: Pulse) {
        let Some(patience) = self.watchdog else { return };
        let mut watch = Watch::default();
        loop {
            if watch.may_ping(pulse.turns()) {
                self.tell("WATCHDOG=1").await;
            } else {
                tracing::error!("the driver's loop stands still: the watchdog is not fed");
            }
            // Twice in its patience would do (sd_watchdog_enabled(3)); three times forgives a late one.
            tokio::time::sleep(patience / 3).await;
        }
    }

    async fn tell(&self, words: &str) {
        let Some(socket) = &self.socket else { return };
        let patience = self.watchdog.unwrap_or(Duration::from_secs(10)) / 3;
        match tokio::time::timeout(patience, send(socket, words)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, ?socket, words, "the service manager was not told"),
            Err(_) => tracing::warn!(?socket, words, "the service manager does not read"),
        }
    }
}

/// A path, or a name of the abstract namespace after an `@`.
async fn send(socket: &OsString, words: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let stream = UnixDatagram::unbound()?;
    stream.set_nonblocking(true)?;
    stream.connect_addr(&address)?;
    tokio::net::UnixDatagram::from_std(stream)?.send(words.as_bytes()).await.map(drop)
}

/// Keeps this process's memory from being paged out, where the service manager permits all of it
/// (`LimitMEMLOCK=infinity`): a page that has to be read back costs a failover milliseconds. Pages
/// are locked as they are touched, so that nothing grows. A smaller limit locks nothing, since
/// allocations beyond it would fail.
pub fn lock_memory() -> io::Result<()> {
    if getrlimit(Resource::Memlock).current.is_some() {
        return Ok(());
    }
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}

/// Nothing of this process's memory goes to a disk: it holds the private key and the AWS credentials. The limit alone
/// would not do, since a kernel that pipes cores to a program does not ask it (core(5)); nor may another process of
/// the same user read the memory (ptrace(2)).
pub fn dump_no_core() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // The unit's LimitCORE=0 has done it, and its filter of system calls allows no more.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if getrlimit(Resource::Core) == none { Ok(()) } else { Ok(setrlimit(Resource::Core, none)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_asks_for_it_leaves_no_core() {
        dump_no_core().unwrap();
        let behavior = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(behavior, DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
        // Again, as under the unit.
        dump_no_core().unwrap();
    }

    #[test]
    fn a_ping_needs_a_turn_of_the_driver() {
        let (pulse, mut watch) = (Pulse::default(), Watch::default());
        assert!(watch.may_ping(pulse.turns()), "no driver yet");
        assert!(watch.may_ping(pulse.turns()), "no driver yet");
        pulse.turn();
        assert!(watch.may_ping(pulse.turns()));
        assert!(!watch.may_ping(pulse.turns()), "it stands still");
        assert!(!watch.may_ping(pulse.turns()), "it stands still");
        pulse.turn();
        pulse.turn();
        assert!(watch.may_ping(pulse.turns()));
    }

    #[tokio::test]
    async fn a_message_reaches_a_path_and_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("vipd-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let at_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
        for (socket, reader) in [(path.into_os_string(), at_path), (format!("@{name}").into(), at_name)] {
            Service { socket: Some(socket), watchdog: None }.ready().await;
            let mut bytes = [0; 64];
            let n = reader.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..n], b"READY=1");
        }
    }

    #[tokio::test]
    async fn one_that_does_not_read_stalls_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _reader = UnixDatagram::bind(&path).unwrap();
        let service = Service { socket: Some(path.into()), watchdog: Some(Duration::from_millis(30)) };
        // More than fit into the socket's queue (net.unix.max_dgram_qlen, often 10, at times 512).
        let all = async {
            for _ in 0..600 {
                service.ready().await;
                if service.clone().full().await {
                    return;
                }
            }
            panic!("the queue never filled");
        };
        tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
    }

    impl Service {
        async fn full(self) -> bool {
            let socket = self.socket.unwrap();
            tokio::time::timeout(Duration::from_millis(10), send(&socket, "x")).await.is_err()
        }
    }
}
