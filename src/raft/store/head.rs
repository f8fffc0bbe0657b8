//! The head: the one record that says what else there is.

use prost::Message as _;

use crate::model::GroupId;
use crate::proto;
use crate::raft::codec::Wire;
use crate::raft::types::{LogId, Vote};

use super::crc::{seal, unseal};
use super::error::Damage;

/// The format of everything below the data directory. A change that an older vipd would misread
/// gets the next number.
pub(super) const FORMAT: u32 = 1;

/// Where a blob is, and what it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BlobRef {
    pub generation: u64,
    pub len: u64,
    pub crc: u32,
    /// Up to where a snapshot goes.
    pub last: Option<LogId>,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Head {
    pub cluster: String,
    pub member: String,
    pub incarnation: u64,
    pub group: Option<GroupId>,
    pub longest_lease_ms: u64,
    pub vote: Option<Vote>,
    /// Up to where the log has been purged.
    pub purged: Option<LogId>,
    /// The link of that entry.
    pub purged_link: u32,
    /// Where the log ends; `purged`, if it is empty.
    pub last: Option<LogId>,
    /// The link of that entry.
    pub link: u32,
    pub snapshot: Option<BlobRef>,
    pub forming: Option<BlobRef>,
    /// Counts the changes to the head.
    pub change: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredBlobRef {
    #[prost(uint64, tag = "1")]
    generation: u64,
    #[prost(uint64, tag = "2")]
    len: u64,
    #[prost(fixed32, tag = "3")]
    crc: u32,
    #[prost(message, optional, tag = "4")]
    last: Option<proto::LogId>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredHead {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    cluster: String,
    #[prost(string, tag = "3")]
    member: String,
    #[prost(fixed64, tag = "4")]
    incarnation: u64,
    #[prost(bytes = "vec", tag = "5")]
    group: Vec<u8>,
    #[prost(uint64, tag = "6")]
    longest_lease_ms: u64,
    #[prost(message, optional, tag = "7")]
    vote: Option<proto::RaftVote>,
    #[prost(message, optional, tag = "8")]
    purged: Option<proto::LogId>,
    #[prost(fixed32, tag = "9")]
    purged_link: u32,
    #[prost(message, optional, tag = "10")]
    last: Option<proto::LogId>,
    #[prost(fixed32, tag = "11")]
    link: u32,
    #[prost(message, optional, tag = "12")]
    snapshot: Option<StoredBlobRef>,
    #[prost(message, optional, tag = "13")]
    forming: Option<StoredBlobRef>,
    #[prost(uint64, tag = "14")]
    change: u64,
}

/// A stored head, or the newer format that it is of.
pub(super) enum Stored {
    Head(Box<Head>),
    Newer(u32),
}

fn log_id(id: Option<LogId>) -> Option<proto::LogId> {
    id.map(|id| proto::LogId { term: id.leader_id.term, index: id.index })
}

fn blob_ref(blob: Option<BlobRef>) -> Option<StoredBlobRef> {
    blob.map(|b| StoredBlobRef { generation: b.generation, len: b.len, crc: b.crc, last: log_id(b.last) })
}

fn read<T: Wire>(message: Option<T::Message>) -> Result<Option<T>, Damage> {
    message.map(T::from_proto).transpose().map_err(|_| Damage::Head)
}

fn read_blob_ref(stored: Option<StoredBlobRef>) -> Result<Option<BlobRef>, Damage> {
    let Some(b) = stored else { return Ok(None) };
    let last = read(b.last)?;
    Ok(Some(BlobRef { generation: b.generation, len: b.len, crc: b.crc, last }))
}

impl Head {
    /// Of a new incarnation.
    pub fn new(cluster: String, member: String, incarnation: u64) -> Self {
        Self {
            cluster,
            member,
            incarnation,
            group: None,
            longest_lease_ms: 0,
            vote: None,
            purged: None,
            purged_link: 0,
            last: None,
            link: 0,
            snapshot: None,
            forming: None,
            change: 0,
        }
    }

    /// With its checksum in front.
    pub fn encode(&self) -> Vec<u8> {
        let stored = StoredHead {
            format: FORMAT,
            cluster: self.cluster.clone(),
            member: self.member.clone(),
            incarnation: self.incarnation,
            group: self.group.map(GroupId::to_bytes).unwrap_or_default(),
            longest_lease_ms: self.longest_lease_ms,
            vote: self.vote.map(|v| proto::RaftVote {
                term: v.leader_id.term,
                voted_for: v.leader_id.voted_for,
                committed: v.committed,
            }),
            purged: log_id(self.purged),
            purged_link: self.purged_link,
            last: log_id(self.last),
            link: self.link,
            snapshot: blob_ref(self.snapshot),
            forming: blob_ref(self.forming),
            change: self.change,
        };
        seal(&stored.encode_to_vec())
    }

    /// What `encode` has made.
    pub fn decode(sealed: &[u8]) -> Result<Stored, Damage> {
        let bytes = unseal(sealed).ok_or(Damage::Head)?;
        let stored = StoredHead::decode(bytes).map_err(|_| Damage::Head)?;
        if stored.format > FORMAT {
            return Ok(Stored::Newer(stored.format));
        }
        let group = match stored.group.as_slice() {
            [] => None,
            bytes => Some(GroupId::from_bytes(bytes).ok_or(Damage::Head)?),
        };
        Ok(Stored::Head(Box::new(Self {
            cluster: stored.cluster,
            member: stored.member,
            incarnation: stored.incarnation,
            group,
            longest_lease_ms: stored.longest_lease_ms,
            vote: read(stored.vote)?,
            purged: read(stored.purged)?,
            purged_link: stored.purged_link,
            last: read(stored.last)?,
            link: stored.link,
            snapshot: read_blob_ref(stored.snapshot)?,
            forming: read_blob_ref(stored.forming)?,
            change: stored.change,
        })))
    }
}
