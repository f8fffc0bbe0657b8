//! How far this member has told others that its changes are saved.
//!
//! It is written after each save and before anyone hears of it, but not synced: a killed process
//! leaves it exact, a power failure as it was some seconds ago, and either way it is a lower bound.
//! Data that does not reach it has lost something that others rely on. It is also where the format
//! stands, since sled's files could be of another one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::crc::crc32;
use super::head::FORMAT;

/// Two slots, written in turn, both inside one disk sector: a torn write leaves the other.
const SLOT_BYTES: usize = 64;
/// Stands in front of the format, in this and every later one.
const MAGIC: [u8; 4] = *b"vipd";
const USED_BYTES: usize = 36;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Marked {
    pub incarnation: u64,
    /// The head's number when the last save began.
    pub begun: u64,
    /// The head's number up to which others may have been told.
    pub saved: u64,
}

/// What was found in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// None was written yet.
    Nothing,
    Marked(Marked),
    Newer(u32),
    Unreadable,
}

#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    marked: Marked,
    writes: u64,
}

impl Marked {
    fn encode(&self) -> Vec<u8> {
        let mut slot = MAGIC.to_vec();
        slot.extend_from_slice(&FORMAT.to_le_bytes());
        for number in [self.incarnation, self.begun, self.saved] {
            slot.extend_from_slice(&number.to_le_bytes());
        }
        slot.extend_from_slice(&crc32(0, &slot).to_le_bytes());
        slot
    }

    fn decode(slot: &[u8]) -> Found {
        let mut rest = slot.get(..USED_BYTES).unwrap_or(slot);
        if rest.iter().all(|byte| *byte == 0) {
            return Found::Nothing;
        }
        let sealed = rest;
        let (Some(magic), Some(format)) = (take(&mut rest), take(&mut rest)) else {
            return Found::Unreadable;
        };
        if magic != MAGIC {
            return Found::Unreadable;
        }
        let format = u32::from_le_bytes(format);
        if format > FORMAT {
            return Found::Newer(format);
        }
        let numbers = (take(&mut rest), take(&mut rest), take(&mut rest), take(&mut rest));
        let (Some(incarnation), Some(begun), Some(saved), Some(crc)) = numbers else {
            return Found::Unreadable;
        };
        if sealed.get(..USED_BYTES - 4).map(|bytes| crc32(0, bytes)) != Some(u32::from_le_bytes(crc)) {
            return Found::Unreadable;
        }
        Found::Marked(Self {
            incarnation: u64::from_le_bytes(incarnation),
            begun: u64::from_le_bytes(begun),
            saved: u64::from_le_bytes(saved),
        })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// The later of the two slots.
fn later(one: Found, other: Found) -> Found {
    match (one, other) {
        (Found::Newer(format), _) | (_, Found::Newer(format)) => Found::Newer(format),
        (Found::Marked(a), Found::Marked(b)) => {
            Found::Marked(if (b.saved, b.begun) > (a.saved, a.begun) { b } else { a })
        }
        (Found::Marked(marked), Found::Nothing | Found::Unreadable)
        | (Found::Nothing | Found::Unreadable, Found::Marked(marked)) => Found::Marked(marked),
        (Found::Nothing, Found::Nothing) => Found::Nothing,
        (Found::Unreadable, Found::Nothing | Found::Unreadable) | (Found::Nothing, Found::Unreadable) => {
            Found::Unreadable
        }
    }
}

impl Mark {
    /// Opens `dir`'s mark, or makes an empty one.
    pub fn open(dir: &Path) -> io::Result<(Self, Found)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(dir.join("mark"))?;
        let mut bytes = Vec::new();
        (&file).take(2 * SLOT_BYTES as u64).read_to_end(&mut bytes)?;
        let (one, other) = bytes.split_at(bytes.len().min(SLOT_BYTES));
        let found = later(Marked::decode(one), Marked::decode(other));
        let marked = match found {
            Found::Marked(marked) => marked,
            Found::Nothing | Found::Newer(_) | Found::Unreadable => Marked::default(),
        };
        Ok((Self { file, marked, writes: 0 }, found))
    }

    /// Begins anew, for another incarnation; durable on return.
    pub fn reset(&mut self, incarnation: u64) -> io::Result<()> {
        self.marked = Marked { incarnation, begun: 0, saved: 0 };
        self.write()?;
        self.write()?;
        self.file.sync_all()
    }

    /// A save up to `change` begins.
    pub fn begin(&mut self, change: u64) -> io::Result<()> {
        self.marked.begun = change;
        self.write()
    }

    /// It has succeeded.
    pub fn saved(&mut self, change: u64) -> io::Result<()> {
        self.marked.saved = change;
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        let slot = (self.writes % 2) * SLOT_BYTES as u64;
        self.writes = self.writes.wrapping_add(1);
        self.file.write_all_at(&self.marked.encode(), slot)
    }
}

/// The fuzz target's way in: two slots as they are, and with right checksums.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    let (one, other) = bytes.split_at(bytes.len().min(SLOT_BYTES));
    let _: Found = later(Marked::decode(one), Marked::decode(other));
    let mut sealed = one.get(..USED_BYTES - 4).unwrap_or(one).to_vec();
    sealed.extend_from_slice(&crc32(0, &sealed).to_le_bytes());
    if let Found::Marked(marked) = Marked::decode(&sealed) {
        assert_eq!(Marked::decode(&marked.encode()), Found::Marked(marked));
    }
}

/// Both slots, as `Mark::write` leaves them.
#[cfg(test)]
pub(super) fn example() -> Vec<u8> {
    let mut slots = Marked { incarnation: 99, begun: 812, saved: 811 }.encode();
    slots.resize(SLOT_BYTES, 0);
    slots.extend(Marked { incarnation: 99, begun: 812, saved: 812 }.encode());
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reread(dir: &Path) -> Found {
        Mark::open(dir).unwrap().1
    }

    #[test]
    fn the_later_slot_counts_and_a_torn_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (mut mark, found) = Mark::open(dir.path()).unwrap();
        assert_eq!(found, Found::Nothing);
        mark.reset(7).unwrap();
        mark.begin(1).unwrap();
        mark.saved(1).unwrap();
        mark.begin(2).unwrap();
        let begun = Marked { incarnation: 7, begun: 2, saved: 1 };
        assert_eq!(reread(dir.path()), Found::Marked(begun));
        let path = dir.path().join("mark");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[10] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let saved = Marked { incarnation: 7, begun: 1, saved: 1 };
        assert_eq!(reread(dir.path()), Found::Marked(saved));
        bytes[SLOT_BYTES + 10] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(reread(dir.path()), Found::Unreadable);
    }

    #[test]
    fn fault_20_a_newer_format_is_seen_whatever_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut slot = MAGIC.to_vec();
        slot.extend_from_slice(&9_u32.to_le_bytes());
        slot.push(1);
        std::fs::write(dir.path().join("mark"), &slot).unwrap();
        assert_eq!(reread(dir.path()), Found::Newer(9));
    }
}
