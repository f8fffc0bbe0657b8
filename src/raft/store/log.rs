//! The log and the vote, as openraft wants them.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message as _;

use crate::proto;
use crate::raft::codec::Wire;
use crate::raft::types::{Entry, LogId, TypeConfig, Vote};

use super::Store;
use super::cells;
use super::core::{COMMITTED, Core};
use super::crc::{seal, unseal};
use super::error::{Damage, StoreError};
use super::flush::Job;
use super::record;

/// Of one answer to a replication task. A message holds it many times over, and it is read and sent
/// in well under a heartbeat.
const READ_BYTES: usize = 256 * 1024;

/// What the cells of the entry at `index` begin with, and nothing before them does.
pub(super) fn log_key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// The index in a cell's key.
pub(super) fn index_of(key: &[u8]) -> Option<u64> {
    key.first_chunk().map(|index| u64::from_be_bytes(*index))
}

fn after(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

/// Reads the log and the vote. Any number of them may be at work.
#[derive(Clone)]
pub struct LogReader {
    core: Arc<Core>,
}

impl Core {
    fn append(&self, entries: &[Entry]) -> Result<(), StoreError> {
        self.update(|head| {
            let mut records = Vec::with_capacity(entries.len());
            let (mut last, mut link) = (head.last, head.link);
            for entry in entries {
                let found = entry.log_id.index;
                if last.is_some_and(|last| last.index + 1 != found) {
                    return Err(StoreError::Hole { found, last: last.map(|id| id.index) });
                }
                let (record, next) = record::encode(entry, link)?;
                records.push((found, record));
                (last, link) = (Some(entry.log_id), next);
            }
            for (index, record) in records {
                self.write(cells::put(&self.log, &log_key(index), &record))?;
            }
            // A log without a vote is what FAULTS 15 refuses, and openraft's `initialize` writes its
            // entry before any vote. This is the one it takes where none is stored.
            let incarnation = head.incarnation;
            head.vote.get_or_insert_with(|| Vote::new(0, incarnation));
            (head.last, head.link) = (last, link);
            Ok(())
        })
    }

    fn truncate_after(&self, keep: Option<LogId>) -> Result<(), StoreError> {
        let head = self.head();
        let keep = keep.max(head.purged);
        if keep.map(|id| id.index) >= head.last.map(|id| id.index) {
            return Ok(());
        }
        let link = if keep == head.purged {
            head.purged_link
        } else {
            self.record(keep.map_or(0, |id| id.index))?.link
        };
        self.update(|head| {
            (head.last, head.link) = (keep, link);
            Ok(())
        })?;
        for key in self.log.range(log_key(after(keep))..).keys() {
            let key = self.write(key)?;
            self.write(self.log.remove(key))?;
        }
        Ok(())
    }

    fn purge(&self, upto: LogId) -> Result<(), StoreError> {
        let head = self.head();
        if head.purged.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        let last = head.last.map(|id| id.index);
        let link = if last > Some(upto.index) {
            self.record(upto.index + 1)?.before
        } else if last == Some(upto.index) {
            head.link
        } else {
            // What comes next follows a snapshot, not an entry.
            0
        };
        self.update(|head| {
            (head.purged, head.purged_link) = (Some(upto), link);
            if last <= Some(upto.index) {
                (head.last, head.link) = (Some(upto), link);
            }
            Ok(())
        })
    }

    /// Removes up to `keys` cells of purged entries. Whether there may be more.
    pub fn sweep_purged(&self, keys: usize) -> bool {
        let end = after(self.head().purged);
        let mut left = keys;
        for key in self.log.range(..log_key(end)).keys().take(keys) {
            let removed = key.and_then(|key| self.log.remove(key));
            if self.write(removed).is_err() {
                return false;
            }
            left -= 1;
        }
        left == 0
    }

    fn record(&self, index: u64) -> Result<record::Record, StoreError> {
        let bytes = cells::get(&self.log, &log_key(index))?;
        if bytes.is_empty() {
            return Err(self.damaged(Damage::Hole { index }));
        }
        record::decode(index, &bytes).map_err(|damage| self.damaged(damage))
    }

    /// The entries that the log has of `start..end`; a part of them, from the first, if they are
    /// more than `max_bytes`.
    fn entries(&self, start: u64, end: u64, max_bytes: usize) -> Result<Vec<Entry>, StoreError> {
        let head = self.head();
        let start = start.max(after(head.purged));
        let end = end.min(after(head.last));
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut index = start;
        while index < end && bytes <= max_bytes {
            let record = cells::get(&self.log, &log_key(index))?;
            bytes += record.len();
            if !record.is_empty() {
                let record = record::decode(index, &record);
                entries.push(record.map_err(|damage| self.damaged(damage))?.entry);
            } else if !entries.is_empty() || self.is_hole(index)? {
                return Err(self.damaged(Damage::Hole { index }));
            }
            index += 1;
        }
        Ok(entries)
    }

    /// Whether the entry at `index`, which is not there, has to be: it was not purged since, and
    /// the log does not begin after it.
    fn is_hole(&self, index: u64) -> Result<bool, StoreError> {
        if index < after(self.head().purged) {
            return Ok(false);
        }
        let first = self.log.first()?;
        Ok(first.and_then(|(key, _)| index_of(&key)).is_none_or(|first| first < index))
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        Ok(self.core.entries(start, end, usize::MAX)?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        Ok(self.core.entries(start, end, READ_BYTES)?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.core.head().vote)
    }
}

impl RaftLogStorage<TypeConfig> for Store {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let head = self.core.head();
        Ok(LogState { last_purged_log_id: head.purged, last_log_id: head.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { core: self.core.clone() }
    }

    /// A vote that is given is on disk first. One that is committed is not given: it says that a quorum gave it, each
    /// on its own disk, so that no other can win that term whoever forgets this. What is acknowledged under it, an
    /// entry, is saved after it and with it (docs/decisions/0032). But openraft takes a vote that is saved for the end of
    /// all that it handed over before: it waits for entries that are not saved yet.
    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        fault!(wait "store.vote.before", error(e) => return Err(e));
        self.core.update(|head| {
            head.vote = Some(*vote);
            Ok(())
        })?;
        if !vote.is_committed() || self.flusher.owes() {
            self.flusher.saved().await?;
        }
        fault!(wait "store.vote.saved");
        Ok(())
    }

    /// A hint: it saves openraft from serving an older ledger after a restart, and is as durable as
    /// what was saved after it.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.core.alive()?;
        let Some(committed) = committed else { return Ok(()) };
        let message = committed.to_proto().map_err(StoreError::Codec)?;
        let bytes = seal(&message.encode_to_vec());
        self.core.write(self.core.meta.insert(COMMITTED, bytes))?;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let Some(sealed) = self.core.meta.get(COMMITTED).map_err(StoreError::Sled)? else {
            return Ok(None);
        };
        let message = unseal(&sealed).and_then(|bytes| proto::LogId::decode(bytes).ok());
        Ok(message.and_then(|message| LogId::from_proto(message).ok()))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        fault!(wait "store.append.before", error(e) => return Err(e));
        self.core.append(&entries)?;
        fault!(wait "store.append.unsaved");
        Ok(self.flusher.append(callback).await?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        fault!(wait "store.truncate", error(e) => return Err(e));
        self.core.truncate_after(last_log_id)?;
        Ok(self.flusher.saved().await?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        fault!(wait "store.purge", error(e) => return Err(e));
        self.core.purge(log_id)?;
        Ok(self.flusher.submit(Job::Sweep).await?)
    }
}
