//! The port behind which the data directory lies, as far as the group needs more of it than openraft's
//! log and vote.

use futures_util::future::BoxFuture;

use crate::model::{GroupId, Incarnation};
use crate::raft::codec::{SnapshotPush, Wire};
use crate::raft::types::{Snapshot, SnapshotMeta};

use super::Store;
use super::blob::Kind;
use super::error::{Damage, StoreError};

/// What a member must not forget, beside its log and its vote. What is set is durable when the future
/// is ready.
pub trait Stable: Send + Sync + 'static {
    /// This data directory's random Raft id, never zero.
    fn incarnation(&self) -> Incarnation;

    /// Whether this open created the directory's contents.
    fn is_fresh(&self) -> bool;

    /// Whether no entry was ever appended or applied here.
    fn log_is_empty(&self) -> bool;

    /// The group that this incarnation belongs to.
    fn group(&self) -> Option<GroupId>;

    /// Joins `group`. Refused once the log holds entries of another group.
    fn set_group(&self, group: GroupId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What [`set_forming`](Self::set_forming) has kept.
    fn forming(&self) -> Option<Vec<u8>>;

    /// Keeps `bytes` for whoever forms the group, at most 64 KiB; none, if empty.
    fn set_forming<'a>(&'a self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The longest lease that this incarnation ever granted, in milliseconds.
    fn longest_lease_ms(&self) -> u64;

    /// Raises [`longest_lease_ms`](Self::longest_lease_ms) to `ms`; never lowers it. Call it before a
    /// lease of that length is granted.
    fn raise_longest_lease_ms(&self, ms: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Keeps `data` as the current snapshot. An older one than the current one is not kept.
    fn put_snapshot<'a>(
        &'a self,
        meta: &'a SnapshotMeta,
        data: &'a [u8],
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The current snapshot.
    fn snapshot(&self) -> Result<Option<Snapshot>, StoreError>;

    /// What to say where the snapshot is whole and yet no ledger.
    fn no_ledger(&self) -> StoreError;
}

impl Stable for Store {
    fn incarnation(&self) -> Incarnation {
        Incarnation(self.core.head().incarnation)
    }

    fn is_fresh(&self) -> bool {
        self.core.fresh
    }

    fn log_is_empty(&self) -> bool {
        self.core.head().last.is_none()
    }

    fn group(&self) -> Option<GroupId> {
        self.core.head().group
    }

    fn set_group(&self, group: GroupId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.core.update(|head| match head.group {
                Some(other) if other != group && head.last.is_some() => Err(StoreError::OtherGroup { other }),
                Some(_) | None => {
                    head.group = Some(group);
                    Ok(())
                }
            })?;
            self.flusher.saved().await
        })
    }

    fn forming(&self) -> Option<Vec<u8>> {
        self.core.forming()
    }

    fn set_forming<'a>(&'a self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.core.put_forming(bytes)?;
            self.flusher.saved().await
        })
    }

    fn longest_lease_ms(&self) -> u64 {
        self.core.head().longest_lease_ms
    }

    fn raise_longest_lease_ms(&self, ms: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
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
        })
    }

    fn put_snapshot<'a>(
        &'a self,
        meta: &'a SnapshotMeta,
        data: &'a [u8],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let push = SnapshotPush { vote: None, meta: meta.clone(), data: data.to_vec() };
            let bytes = prost::Message::encode_to_vec(&push.to_proto()?);
            self.core.put_blob(Kind::Snapshot, &bytes, meta.last_log_id)?;
            self.flusher.saved().await
        })
    }

    fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        self.core.snapshot()
    }

    fn no_ledger(&self) -> StoreError {
        self.core.damaged(Damage::Snapshot)
    }
}
