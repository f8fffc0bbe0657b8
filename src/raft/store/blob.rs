//! The two long values: the snapshot, and what formation keeps. A new one is written beside the old
//! one; the head then names the new one, and only then does the old one go. One that is written by
//! half is never named (FAULTS 19).

use prost::Message as _;

use crate::proto;
use crate::raft::codec::{SnapshotPush, Wire};
use crate::raft::types::{LogId, Snapshot};

use super::cells;
use super::core::Core;
use super::crc::crc32;
use super::error::{Damage, StoreError};
use super::head::{BlobRef, Head};

/// A list of members with their addresses: 64 of them, at the longest, are 20 KiB.
const MAX_FORMING_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Snapshot,
    Forming,
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Kind::Snapshot => b's',
            Kind::Forming => b'f',
        }
    }

    fn slot(self, head: &mut Head) -> &mut Option<BlobRef> {
        match self {
            Kind::Snapshot => &mut head.snapshot,
            Kind::Forming => &mut head.forming,
        }
    }
}

/// What the cells of one blob begin with.
pub(super) fn prefix(kind: Kind, generation: u64) -> Vec<u8> {
    let mut prefix = vec![kind.letter()];
    prefix.extend_from_slice(&generation.to_be_bytes());
    prefix
}

impl Core {
    /// Makes `bytes` the current blob of its kind, unless the current one goes further than `last`.
    pub fn put_blob(&self, kind: Kind, bytes: &[u8], last: Option<LogId>) -> Result<(), StoreError> {
        let generation = self.next_generation();
        let new = prefix(kind, generation);
        self.write(cells::put(&self.blobs, &new, bytes))?;
        fault!("store.blob.unnamed");
        let crc = crc32(0, bytes);
        let named = BlobRef { generation, len: bytes.len() as u64, crc, last };
        let old = self.update(|head| {
            let slot = kind.slot(head);
            match slot {
                Some(current) if current.last > last => Ok(Some(named)),
                Some(_) | None => Ok(slot.replace(named)),
            }
        })?;
        fault!("store.blob.named");
        match old {
            Some(old) => self.write(cells::remove(&self.blobs, &prefix(kind, old.generation))),
            None => Ok(()),
        }
    }

    /// The bytes of the blob that the head names. `None`, if they are not what it says.
    pub fn blob(&self, kind: Kind, named: &BlobRef) -> Result<Option<Vec<u8>>, sled::Error> {
        let bytes = cells::get(&self.blobs, &prefix(kind, named.generation))?;
        let right = bytes.len() as u64 == named.len && crc32(0, &bytes) == named.crc;
        Ok(right.then_some(bytes))
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        // A newer one may replace it while it is read: as often as snapshots are made, so not
        // three times in a row.
        let mut bytes = None;
        for _ in 0..3 {
            let Some(named) = self.head().snapshot else { return Ok(None) };
            bytes = self.blob(Kind::Snapshot, &named)?;
            if bytes.is_some() {
                break;
            }
        }
        let damaged = || self.damaged(Damage::Snapshot);
        let message = proto::SnapshotRequest::decode(bytes.ok_or_else(damaged)?.as_slice());
        let push = SnapshotPush::from_proto(message.map_err(|_| damaged())?);
        let push = push.map_err(|_| damaged())?;
        Ok(Some(Snapshot { meta: push.meta, snapshot: push.data }))
    }

    /// Keeps `bytes` for formation; none, if empty.
    pub fn put_forming(&self, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > MAX_FORMING_BYTES {
            let (what, found) = ("the formation's record", bytes.len());
            return Err(StoreError::TooLarge { what, found, max: MAX_FORMING_BYTES });
        }
        self.put_blob(Kind::Forming, bytes, None)?;
        self.set_forming((!bytes.is_empty()).then(|| bytes.to_vec()));
        Ok(())
    }
}
