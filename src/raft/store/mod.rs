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
mod verify;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::model::{GroupId, Incarnation, Name};
use crate::raft::codec::{SnapshotPush, Wire};
use crate::raft::types::{Snapshot, SnapshotMeta};

pub use self::error::{Damage, StoreError};
pub use self::flush::{DiskSync, OnFatal};
pub use self::log::LogReader;
pub use self::machine::{Applied, Builder, Machine};

use self::blob::Kind;
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
        if core.fresh {
            saver.save()?;
            dir::sync_created(dir)?;
        }
        Ok(Self { flusher: Arc::new(Flusher::start(saver)?), core })
    }

    /// This data directory's random Raft id, never zero.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.core.head().incarnation)
    }

    /// Whether this open created the directory's contents.
    pub fn is_fresh(&self) -> bool {
        self.core.fresh
    }

    /// Whether no entry was ever appended or applied here.
    pub fn log_is_empty(&self) -> bool {
        self.core.head().last.is_none()
    }

    /// The group that this incarnation belongs to.
    pub fn group(&self) -> Option<GroupId> {
        self.core.head().group
    }

    /// Joins `group`; durable on return. Refused once the log holds entries of another group.
    pub async fn set_group(&self, group: GroupId) -> Result<(), StoreError> {
        self.core.update(|head| match head.group {
            Some(other) if other != group && head.last.is_some() => Err(StoreError::OtherGroup { other }),
            Some(_) | None => {
                head.group = Some(group);
                Ok(())
            }
        })?;
        self.flusher.saved().await
    }

    /// What [`set_forming`](Self::set_forming) has kept.
    pub fn forming(&self) -> Option<Vec<u8>> {
        self.core.forming()
    }

    /// Keeps `bytes` for whoever forms the group, at most 64 KiB; none, if empty. Durable on return.
    pub async fn set_forming(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.core.put_forming(bytes)?;
        self.flusher.saved().await
    }

    /// The longest lease that this incarnation ever granted, in milliseconds.
    pub fn longest_lease_ms(&self) -> u64 {
        self.core.head().longest_lease_ms
    }

    /// Raises [`longest_lease_ms`](Self::longest_lease_ms) to `ms`, durable on return; never lowers
    /// it. Call it before a lease of that length is granted.
    pub async fn raise_longest_lease_ms(&self, ms: u64) -> Result<(), StoreError> {
        if self.core.lease_saved_ms() >= ms {
            return Ok(());
        }
        self.core.update(|head| {
            head.longest_lease_ms = head.longest_lease_ms.max(ms);
            Ok(())
        })?;
        self.flusher.saved().await?;
        self.core.lease_saved(ms);
        Ok(())
    }

    /// Keeps `data` as the current snapshot; durable on return. An older one than the current one
    /// is not kept.
    async fn put_snapshot(&self, meta: &SnapshotMeta, data: &[u8]) -> Result<(), StoreError> {
        let push = SnapshotPush { vote: None, meta: meta.clone(), data: data.to_vec() };
        let bytes = prost::Message::encode_to_vec(&push.to_proto()?);
        self.core.put_blob(Kind::Snapshot, &bytes, meta.last_log_id)?;
        self.flusher.saved().await
    }

    /// The current snapshot.
    fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        self.core.snapshot()
    }
}

#[cfg(test)]
mod tests;
