//! A log entry as it is stored: its link, the link of the entry before it, and itself.
//!
//! The link is a checksum over the index, the link before and the entry. So a changed, missing,
//! misplaced or resurrected entry breaks the chain somewhere between the purged end and the head.

use prost::Message as _;

use crate::proto;
use crate::raft::codec::Wire;
use crate::raft::types::Entry;

use super::crc::crc32;
use super::error::{Damage, StoreError};

/// A command is at most half of it; a membership of 64 nodes, with names and addresses as long as
/// they may be, nearly as much.
const MAX_RECORD_BYTES: usize = 64 * 1024;

pub(super) struct Record {
    pub entry: Entry,
    pub link: u32,
    /// The link of the entry before it.
    pub before: u32,
}

fn link(index: u64, before: u32, body: &[u8]) -> u32 {
    let crc = crc32(0, &index.to_be_bytes());
    crc32(crc32(crc, &before.to_le_bytes()), body)
}

/// The record of `entry`, and its link.
pub(super) fn encode(entry: &Entry, before: u32) -> Result<(Vec<u8>, u32), StoreError> {
    let body = entry.to_proto()?.encode_to_vec();
    if body.len() > MAX_RECORD_BYTES {
        let found = body.len();
        return Err(StoreError::TooLarge { what: "a log entry", found, max: MAX_RECORD_BYTES });
    }
    let link = link(entry.log_id.index, before, &body);
    Ok((sealed(entry.log_id.index, before, &body), link))
}

/// A body with its link and the link before it in front.
pub(super) fn sealed(index: u64, before: u32, body: &[u8]) -> Vec<u8> {
    let link = link(index, before, body);
    [link.to_le_bytes().as_slice(), &before.to_le_bytes(), body].concat()
}

/// The entry at `index`; its own checksum has been checked, its place in the chain has not.
pub(super) fn decode(index: u64, record: &[u8]) -> Result<Record, Damage> {
    let bad = || Damage::Record { index };
    let (found, rest) = record.split_first_chunk().ok_or_else(bad)?;
    let (before, body) = rest.split_first_chunk().ok_or_else(bad)?;
    let (found, before) = (u32::from_le_bytes(*found), u32::from_le_bytes(*before));
    if found != link(index, before, body) {
        return Err(bad());
    }
    let message = proto::Entry::decode(body).map_err(|_| bad())?;
    let entry = Entry::from_proto(message).map_err(|_| bad())?;
    if entry.log_id.index != index {
        return Err(bad());
    }
    Ok(Record { entry, link: found, before })
}
