//! The open directory, shared by the store, its readers and its flusher.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::model::Name;

use super::dir;
use super::error::{Damage, StoreError};
use super::flush::OnFatal;
use super::head::{FORMAT, Head, Stored};
use super::mark::{Found, Mark};
use super::verify;

/// The head's key in `meta`.
pub(super) const HEAD: &[u8] = b"head";
/// The commit hint's key in `meta`.
pub(super) const COMMITTED: &[u8] = b"committed";

pub(super) struct Core {
    pub dir: PathBuf,
    /// This open created the contents.
    pub fresh: bool,
    pub db: sled::Db,
    pub meta: sled::Tree,
    pub log: sled::Tree,
    pub blobs: sled::Tree,
    head: Mutex<Head>,
    forming: Mutex<Option<Vec<u8>>>,
    generation: AtomicU64,
    lease_saved_ms: AtomicU64,
    /// The first failure. Nothing is saved after it.
    failed: OnceLock<String>,
    on_fatal: OnFatal,
    // Last, so that it is released after sled's files are closed.
    _lock: File,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking thread held is whole: each is replaced by one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    /// Opens or makes `dir`, and checks all that it holds.
    pub fn open(
        dir: &Path,
        cluster: &Name,
        member: &Name,
        on_fatal: OnFatal,
    ) -> Result<(Self, Mark), StoreError> {
        dir::prepare(dir)?;
        let lock = dir::lock(dir, member)?;
        let (mark, found) = Mark::open(dir).map_err(StoreError::unwritable(dir))?;
        if let Found::Newer(found) = found {
            return Err(StoreError::NewerFormat { path: dir.to_owned(), found, known: FORMAT });
        }
        // sled panics on some of the damage that it finds while it opens.
        let load = || Self::load(dir, cluster, member, on_fatal, lock, mark, found);
        catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(StoreError::unreadable(dir, text.unwrap_or_default()))
        })
    }

    fn load(
        dir: &Path,
        cluster: &Name,
        member: &Name,
        on_fatal: OnFatal,
        lock: File,
        mut mark: Mark,
        found: Found,
    ) -> Result<(Self, Mark), StoreError> {
        let db = open_sled(dir)?;
        let damaged = |e| StoreError::damaged(dir)(Damage::Database(e));
        let meta = db.open_tree("meta").map_err(damaged)?;
        let log = db.open_tree("log").map_err(damaged)?;
        let blobs = db.open_tree("blobs").map_err(damaged)?;
        let stored = match meta.get(HEAD).map_err(damaged)? {
            None => None,
            Some(bytes) => match Head::decode(&bytes).map_err(StoreError::damaged(dir))? {
                Stored::Head(head) => Some(*head),
                Stored::Newer(found) => {
                    let path = dir.to_owned();
                    return Err(StoreError::NewerFormat { path, found, known: FORMAT });
                }
            },
        };
        verify::against_mark(stored.as_ref(), found).map_err(StoreError::damaged(dir))?;
        let fresh = stored.is_none();
        let head = match stored {
            Some(head) => {
                verify::identity(&head, dir, cluster, member)?;
                head
            }
            None => {
                let head = Head::new(cluster.to_string(), member.to_string(), random_id()?);
                mark.reset(head.incarnation).map_err(StoreError::unwritable(dir))?;
                head
            }
        };
        let blob_generations = [head.snapshot, head.forming];
        let generation = blob_generations.iter().flatten().map(|b| b.generation).max();
        let core = Self {
            dir: dir.to_owned(),
            fresh,
            db,
            meta,
            log,
            blobs,
            generation: AtomicU64::new(generation.map_or(0, |g| g + 1)),
            lease_saved_ms: AtomicU64::new(head.longest_lease_ms),
            head: Mutex::new(head),
            forming: Mutex::new(None),
            failed: OnceLock::new(),
            on_fatal,
            _lock: lock,
        };
        verify::contents(&core)?;
        if fresh {
            core.update(|_| Ok(()))?;
        }
        Ok((core, mark))
    }

    /// The head as it is now.
    pub fn head(&self) -> Head {
        locked(&self.head).clone()
    }

    /// Changes the head. What `change` writes elsewhere comes before it in sled's log, and so is
    /// there whenever the head is.
    pub fn update<T>(
        &self,
        change: impl FnOnce(&mut Head) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.alive()?;
        let mut head = locked(&self.head);
        let mut next = head.clone();
        let out = change(&mut next)?;
        next.change = next.change.saturating_add(1);
        self.write(self.meta.insert(HEAD, next.encode()))?;
        *head = next;
        Ok(out)
    }

    /// Passes on the outcome of a write to sled; a failed one is fatal.
    pub fn write<T>(&self, outcome: Result<T, sled::Error>) -> Result<T, StoreError> {
        outcome.map_err(|error| {
            let error = StoreError::Sled(error);
            self.fail(&error);
            error
        })
    }

    /// Whether everything could be saved so far.
    pub fn alive(&self) -> Result<(), StoreError> {
        match self.failed.get() {
            None => Ok(()),
            Some(first) => Err(StoreError::Failed { first: first.clone() }),
        }
    }

    /// From now on nothing is saved. The first call says so to `on_fatal`.
    pub fn fail(&self, error: &StoreError) {
        let first = error.to_string();
        if self.failed.set(first.clone()).is_ok() {
            (self.on_fatal)(&format!("{}: {first}", self.dir.display()));
        }
    }

    pub fn damaged(&self, damage: Damage) -> StoreError {
        StoreError::Damaged { path: self.dir.clone(), damage }
    }

    /// A number that no blob has had since this directory was opened.
    pub fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed)
    }

    pub fn forming(&self) -> Option<Vec<u8>> {
        locked(&self.forming).clone()
    }

    pub fn set_forming(&self, bytes: Option<Vec<u8>>) {
        *locked(&self.forming) = bytes;
    }

    pub fn lease_saved_ms(&self) -> u64 {
        self.lease_saved_ms.load(Ordering::Acquire)
    }

    /// A longest lease of `ms` is saved.
    pub fn lease_saved(&self, ms: u64) {
        self.lease_saved_ms.fetch_max(ms, Ordering::AcqRel);
    }
}

/// sled, so that only [`save`](super::flush::Saver::save) makes anything durable, and with a cache
/// that holds all that a group of this kind ever has.
fn open_sled(dir: &Path) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(dir::db(dir))
        .flush_every_ms(None)
        .mode(sled::Mode::LowSpace)
        .segment_size(64 * 1024)
        .use_compression(false)
        .cache_capacity(4 * 1024 * 1024);
    // The directory is this process's alone; but sled locks its file once more, and lets go of one
    // that was just closed only when its own threads have seen that. Two seconds are plenty.
    let mut opened = config.open();
    for _ in 0..400 {
        if !matches!(&opened, Err(sled::Error::Io(e)) if e.to_string().contains("acquire lock")) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        opened = config.open();
    }
    opened.map_err(|error| match error {
        sled::Error::Io(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            StoreError::unwritable(dir)(source)
        }
        sled::Error::Io(_)
        | sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => StoreError::damaged(dir)(Damage::Database(error)),
    })
}

/// Never zero, which openraft's tests and messages use for nobody.
fn random_id() -> Result<u64, StoreError> {
    loop {
        let id = getrandom::u64().map_err(StoreError::Random)?;
        if id != 0 {
            return Ok(id);
        }
    }
}
