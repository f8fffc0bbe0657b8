//! The fuzz targets' way in (`crate::fuzz`): what the store reads off a disk.

#![allow(clippy::expect_used, reason = "a target is to panic where what was read cannot be written")]

use super::crc::{crc32, seal};
use super::head::{Head, Stored};
use super::mark;
use super::record;

/// The first byte chooses what the rest is.
pub fn stored(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 5 {
        0 => drop(numbered(bytes).map(|(index, record)| record::decode(index, record))),
        1 => drop(numbered(bytes).map(|(index, body)| linked(index, body))),
        2 => drop(Head::decode(bytes)),
        3 => head(&seal(bytes)),
        _ => mark::fuzz(bytes),
    }
}

fn numbered(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (index, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*index), rest))
}

/// A body whose checksum is right: an entry that is read is written again as it was.
fn linked(index: u64, body: &[u8]) {
    let before = crc32(0, body);
    let Ok(read) = record::decode(index, &record::sealed(index, before, body)) else { return };
    let (again, link) = record::encode(&read.entry, read.before).expect("what was read can be written");
    let again = record::decode(index, &again).expect("what was written can be read");
    assert_eq!((again.link, again.before), (link, before));
    assert_eq!(format!("{:?}", again.entry), format!("{:?}", read.entry));
}

fn head(sealed: &[u8]) {
    let Ok(Stored::Head(head)) = Head::decode(sealed) else { return };
    let Ok(Stored::Head(again)) = Head::decode(&head.encode()) else { panic!("a head cannot be read again") };
    assert_eq!(again, head);
}

/// Target, name, bytes.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    use super::head::BlobRef;
    use crate::model::GroupId;
    use crate::raft::codec::tests::{commands, id};
    use crate::raft::types::Vote;

    let entry = commands().remove(1);
    let index = entry.log_id.index;
    let (record, _) = record::encode(&entry, 7).expect("a record");
    let body = record.get(8..).expect("after link and link before").to_vec();
    let with = |which: u8, parts: &[&[u8]]| [&[which], parts.concat().as_slice()].concat();
    let blob = BlobRef { generation: 4, len: 900, crc: 0x1234_5678, last: Some(id(3, 9)) };
    let full = Head {
        group: Some(GroupId(7)),
        longest_lease_ms: 300,
        vote: Some(Vote::new_committed(7, 1)),
        purged: Some(id(2, 4)),
        last: Some(id(3, 9)),
        snapshot: Some(blob),
        forming: Some(BlobRef { last: None, ..blob }),
        change: 812,
        ..Head::new("edge".to_owned(), "az-a".to_owned(), 99)
    };
    let sealed = full.encode();
    let unsealed = sealed.get(4..).expect("after the checksum").to_vec();
    vec![
        ("stored", "record", with(0, &[&index.to_be_bytes(), &record])),
        ("stored", "record-body", with(1, &[&index.to_be_bytes(), &body])),
        ("stored", "head", with(2, &[&sealed])),
        ("stored", "head-body", with(3, &[&unsealed])),
        ("stored", "mark", with(4, &[&mark::example()])),
    ]
}
