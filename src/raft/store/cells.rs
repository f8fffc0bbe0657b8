//! Long values in short cells.
//!
//! A sled message of more than a quarter of a segment goes to a file of its own, which is never
//! synced (sled 0.34, `logger.rs` and `blob_io.rs`), and one message may hold a whole leaf: up to 16
//! keys before it splits, and up to three of a neighbour that it takes in (`node.rs`). With segments
//! of 64 KiB the limit is 16 332 bytes for all of them, so that a cell has to stay below 800.

use sled::Tree;

/// Of a cell's value; its key takes 11 bytes more.
pub(super) const CELL_BYTES: usize = 512;

fn key(prefix: &[u8], part: u16) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// Keeps `bytes` under `prefix`, which has no cells yet. At most 32 MiB; the callers' bounds are
/// far below.
pub(super) fn put(tree: &Tree, prefix: &[u8], bytes: &[u8]) -> Result<(), sled::Error> {
    for (part, cell) in (0..=u16::MAX).zip(bytes.chunks(CELL_BYTES)) {
        tree.insert(key(prefix, part), cell)?;
    }
    Ok(())
}

/// What `put` has kept; empty, if nothing.
pub(super) fn get(tree: &Tree, prefix: &[u8]) -> Result<Vec<u8>, sled::Error> {
    let mut bytes = Vec::new();
    for cell in tree.scan_prefix(prefix).values() {
        bytes.extend_from_slice(&cell?);
    }
    Ok(bytes)
}

/// Removes the cells of `prefix`.
pub(super) fn remove(tree: &Tree, prefix: &[u8]) -> Result<(), sled::Error> {
    for key in tree.scan_prefix(prefix).keys() {
        tree.remove(key?)?;
    }
    Ok(())
}
