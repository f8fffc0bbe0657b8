//! Named places where a test makes something go wrong. Only in a build with the feature `fault-points`;
//! without it [`fault!`] is nothing, and no name is in the program.
//!
//! ```text
//!   a test --writes--> $VIPD_FAULTS/NAME    "pause", "delay:200", "error", ... and "@3": at the third hit only
//!   fault!("NAME") --reads it at each hit, does it, appends--> $VIPD_FAULTS/hits   (JSON lines)
//! ```
//!
//! | action | does |
//! |---|---|
//! | `pause` | waits until the file is gone; the rest of the process goes on |
//! | `delay:MS` | waits so long; the rest goes on |
//! | `stall`, `stall:MS` | as these two, but blocks the thread: as a process that stands still |
//! | `error`, `error:ERRNO` | fails with EIO, or with that error |
//! | `panic`, `abort` | do so |
//!
//! `pause` and `delay` need `fault!(wait "...")`, `error` needs `fault!(..., error(e) => ...)`: an action that
//! a place cannot do ends the process, so that no test takes it for done.

/// A place where a test may make something go wrong.
///
/// ```ignore
/// fault!("store.fsync.before", error(e) => return Err(e));   // sync code: stall, error, panic, abort
/// fault!(wait "loop.event");                                 // async code: pause and delay too
/// fault!(wait "serve.vote", error(e) => return Err(internal(e)));
/// ```
#[cfg(feature = "fault-points")]
#[macro_export]
macro_rules! fault {
    (wait $name:literal) => {
        $crate::fault::done($name, $crate::fault::wait($name).await)
    };
    (wait $name:literal, error($e:ident) => $then:expr) => {
        if let Some($e) = $crate::fault::wait($name).await {
            $then
        }
    };
    ($name:literal) => {
        $crate::fault::done($name, $crate::fault::block($name))
    };
    ($name:literal, error($e:ident) => $then:expr) => {
        if let Some($e) = $crate::fault::block($name) {
            $then
        }
    };
}

/// A place where a test may make something go wrong: nothing, in this build.
#[cfg(not(feature = "fault-points"))]
#[macro_export]
macro_rules! fault {
    ($($anything:tt)*) => {};
}

#[cfg(feature = "fault-points")]
pub use armed::{block, done, wait};

#[cfg(feature = "fault-points")]
mod armed {
    #![allow(clippy::panic, reason = "a fault that is asked for")]

    use std::collections::BTreeMap;
    use std::io::{self, Write as _};
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    use crate::clock;
    use crate::runtime;

    /// How often a place that stands looks whether it may go on.
    const LOOK_EVERY: Duration = Duration::from_millis(2);
    /// No test holds a place for longer; one that forgot its own ends here.
    const PATIENCE: Duration = Duration::from_secs(300);

    static DIR: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("VIPD_FAULTS").map(Into::into));
    /// Hits of each armed place since it was armed.
    static HITS: Mutex<BTreeMap<&str, u64>> = Mutex::new(BTreeMap::new());

    #[derive(Clone, Copy)]
    enum Action {
        Pause,
        Delay(Duration),
        Stall,
        StallFor(Duration),
        Error(i32),
        Panic,
        Abort,
    }

    /// What is to be done at this hit of the place.
    fn armed(name: &'static str) -> Option<Action> {
        let text = std::fs::read_to_string(DIR.as_ref()?.join(name)).ok();
        let mut hits = HITS.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(text) = text else {
            hits.remove(name);
            return None;
        };
        let count = hits.entry(name).or_default();
        *count += 1;
        let (words, at) = match text.trim().split_once('@') {
            Some((words, at)) => (words, at.parse().ok()),
            None => (text.trim(), Some(*count)),
        };
        let (word, number) = match words.split_once(':') {
            Some((word, number)) => (word, number.parse::<u32>().ok()),
            None => (words, None),
        };
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let action = match (word, number) {
            ("pause", None) => Action::Pause,
            ("delay", Some(n)) => Action::Delay(ms(n)),
            ("stall", None) => Action::Stall,
            ("stall", Some(n)) => Action::StallFor(ms(n)),
            ("error", None) => Action::Error(rustix::io::Errno::IO.raw_os_error()),
            ("error", Some(n)) => Action::Error(i32::try_from(n).unwrap_or(i32::MAX)),
            ("panic", None) => Action::Panic,
            ("abort", None) => Action::Abort,
            _ => wrong(name, &format!("cannot do {words:?}")),
        };
        if at.unwrap_or_else(|| wrong(name, &format!("{text:?} names no hit"))) != *count {
            return None;
        }
        note(name, words, *count, "hit");
        Some(action)
    }

    fn is_armed(name: &str) -> bool {
        DIR.as_ref().is_some_and(|dir| dir.join(name).exists())
    }

    fn note(name: &str, action: &str, hit: u64, what: &str) {
        let Some(dir) = DIR.as_ref() else { return };
        let (pid, at) = (std::process::id(), clock::now().as_nanos());
        let line = format!(
            "{{\"point\":\"{name}\",\"action\":\"{action}\",\"hit\":{hit},\"what\":\"{what}\",\
             \"pid\":{pid},\"at_boot_ns\":{at}}}\n"
        );
        let file = std::fs::File::options().create(true).append(true).open(dir.join("hits"));
        if file.and_then(|mut f| f.write_all(line.as_bytes())).is_err() {
            wrong(name, "the hit cannot be recorded");
        }
    }

    fn wrong(name: &str, why: &str) -> ! {
        eprintln!("fault point {name}: {why}");
        std::process::abort()
    }

    fn at_once(name: &str, action: Action) -> Option<io::Error> {
        match action {
            Action::Stall => {
                let until = clock::now() + PATIENCE;
                while is_armed(name) && clock::now() < until {
                    std::thread::sleep(LOOK_EVERY);
                }
                note(name, "stall", 0, "over");
                None
            }
            Action::StallFor(time) => {
                std::thread::sleep(time);
                note(name, "stall", 0, "over");
                None
            }
            Action::Error(errno) => Some(io::Error::from_raw_os_error(errno)),
            Action::Panic => panic!("fault point {name}"),
            Action::Abort => std::process::abort(),
            Action::Pause | Action::Delay(_) => wrong(name, "it can stall, not pause or delay"),
        }
    }

    /// In sync code. The error, if one is to happen.
    pub fn block(name: &'static str) -> Option<io::Error> {
        armed(name).and_then(|action| at_once(name, action))
    }

    /// In async code. The error, if one is to happen.
    pub async fn wait(name: &'static str) -> Option<io::Error> {
        match armed(name)? {
            Action::Pause => {
                let until = clock::now() + PATIENCE;
                while is_armed(name) && clock::now() < until {
                    runtime::sleep(LOOK_EVERY).await;
                }
                note(name, "pause", 0, "over");
                None
            }
            Action::Delay(time) => {
                runtime::sleep(time).await;
                note(name, "delay", 0, "over");
                None
            }
            other => at_once(name, other),
        }
    }

    /// For a place that has no way to fail.
    pub fn done(name: &str, error: Option<io::Error>) {
        if error.is_some() {
            wrong(name, "it has no way to fail");
        }
    }
}
