//! What a member must not forget: its vote, its log, its snapshot, and who it is.
//!
//! ```text
//!  DIR/lock   held with flock(2) while a daemon runs; says who holds it
//!  DIR/mark   how far this member has told others that things are saved (`mark.rs`)
//!  DIR/db/    sled: tree `meta`   one record, the head: identity, vote, ends of the log, snapshot
//!                   tree `log`    the entries, each linked to the one before it (`record.rs`)
//!                   tree `blobs`  the snapshot, and what formation keeps (`blob.rs`)
//!
//!  append ──▶ sled (in memory) ──▶ queue ──▶ flusher thread: flush, fdatasync, mark ──▶ callbacks
//! ```
//!
//! The head is written after what it speaks of and before what it no longer speaks of is removed.
//! So whatever a crash leaves behind lies outside of what the head says, and is swept at the next
//! open. sled's own batches are not used: a batch waits for a flush in progress
//! (sled 0.34, `concurrency_control.rs`), so that a slow disk would stop the heartbeats.
//!
//! sled ends its recovery, or leaves a gap, where a checksum fails, and says nothing. Nothing here
//! trusts it to be complete: the head's number must have reached the mark, and each entry's link
//! must lead to the next, up to the head. What does not is refused (FAULTS 14).

mod blob;
mod cells;
mod core;
mod crc;
mod dir;
mod error;
mod flush;
mod head;
mod log;
mod machine;
mod mark;
mod record;
mod stable;
mod verify;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::model::Name;

pub use self::error::{Damage, StoreError};
pub use self::flush::{DiskSync, OnFatal};
pub use self::log::LogReader;
pub use self::machine::{Applied, Builder, Machine};
pub use self::stable::Stable;

use self::core::Core;
use self::flush::{Flusher, Saver};

/// A member's data directory, open. Cheap to clone; the directory is released when the last clone
/// is dropped, which waits for what is being saved.
#[derive(Clone)]
pub struct Store {
    // Dropped first, so that its thread has let go of the core when the core is dropped.
    flusher: Arc<Flusher>,
    core: Arc<Core>,
}

impl Store {
    /// Opens `dir`, or makes it. Blocks: on the disk, and for as long as the log is long.
    ///
    /// `on_fatal` is called once, with the cause, when something could not be saved. It is expected
    /// to end the process; whether or not it does, nothing is acknowledged any more (FAULTS 12).
    pub fn open(dir: &Path, cluster: &Name, member: &Name, on_fatal: OnFatal) -> Result<Self, StoreError> {
        Self::open_with(dir, cluster, member, on_fatal, |file| Box::new(file))
    }

    /// As [`open`](Self::open), with another way to make sled's file durable.
    pub fn open_with(
        dir: &Path,
        cluster: &Name,
        member: &Name,
        on_fatal: OnFatal,
        disk: impl FnOnce(File) -> Box<dyn DiskSync>,
    ) -> Result<Self, StoreError> {
        let (core, mark) = Core::open(dir, cluster, member, on_fatal)?;
        let file = File::open(dir::db_file(dir)).map_err(StoreError::unwritable(dir))?;
        let core = Arc::new(core);
        let mut saver = Saver::new(core.clone(), disk(file), mark);
        // A process killed between sled's flush and the disk's leaves what it wrote in the kernel's cache: what is read here
        // counts as saved.
        saver.save()?;
        if core.fresh {
            dir::sync_created(dir)?;
        }
        Ok(Self { flusher: Arc::new(Flusher::start(saver)?), core })
    }
}

#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(test)]
mod tests;
