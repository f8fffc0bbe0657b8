//! Foreign programs, and waiting.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// No test waits longer for anything, unless it says why.
pub const BOUND: Duration = Duration::from_secs(10);

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

pub fn repo(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(repo(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output of a command that must succeed.
pub fn ok(command: &mut Command) -> String {
    let output = run(command);
    let shown = format!("{command:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{shown}");
    text(&output.stdout)
}

pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Waits until `ready` is, or panics with why it is not.
pub fn until<T>(what: &str, bound: Duration, mut ready: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match ready() {
            Ok(value) => return value,
            Err(why) if start.elapsed() > bound => panic!("{what}: not within {bound:?}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// `Err` with the words where it does not hold.
pub fn holds(condition: bool, words: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(words()) }
}
