//! Tells keepalived at once that HAProxy's process has ended.
//!
//! On a host keepalived's `track_process` does that, by the kernel's process events; these reach only the initial
//! network namespace, which no member of the lab lives in. So this stands in for it: a connection to HAProxy's
//! runtime socket ends with the process, and a track file says so within a millisecond.

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it looks whether it is to end, and whether HAProxy is back.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One member's; ends when dropped.
pub struct Watcher {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub fn start(socket: PathBuf, file: PathBuf) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                watch(&socket, &file, &seen);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

/// For as long as one connection lasts: HAProxy closes an idle one after ten seconds.
fn watch(socket: &Path, file: &Path, over: &AtomicBool) {
    let Ok(mut stream) = UnixStream::connect(socket) else {
        note(file, "1");
        std::thread::sleep(LOOK_EVERY);
        return;
    };
    note(file, "0");
    if stream.set_read_timeout(Some(LOOK_EVERY)).is_err() {
        return;
    }
    while !over.load(Ordering::Relaxed) {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Only what changes, since keepalived reads the file each time that it is written.
fn note(file: &Path, value: &str) {
    if fs::read_to_string(file).is_ok_and(|old| old == value) {
        return;
    }
    if let Err(error) = fs::write(file, value) {
        eprintln!("failover: cannot write {}: {error}", file.display());
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
