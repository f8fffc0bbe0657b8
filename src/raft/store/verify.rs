//! What is checked before anything is believed.

use std::path::Path;

use crate::model::Name;

use super::blob::{Kind, prefix};
use super::cells;
use super::core::Core;
use super::error::{Damage, StoreError};
use super::head::Head;
use super::log::log_key;
use super::mark::Found;
use super::record;

/// Whether the head reaches as far as others have been told.
pub(super) fn against_mark(head: Option<&Head>, found: Found) -> Result<(), Damage> {
    match (head, found) {
        // A first open that did not get as far as its first save has left no one anything.
        (None, Found::Nothing) => Ok(()),
        (None, Found::Marked(marked)) if marked.saved == 0 => Ok(()),
        (None, Found::Marked(marked)) => Err(Damage::Behind { saved: marked.saved, found: 0 }),
        (Some(_), Found::Nothing) | (_, Found::Unreadable | Found::Newer(_)) => Err(Damage::Mark),
        (Some(head), Found::Marked(marked)) => {
            if marked.incarnation != head.incarnation {
                return Err(Damage::MarkOfAnother);
            }
            if head.change < marked.saved {
                return Err(Damage::Behind { saved: marked.saved, found: head.change });
            }
            if head.change < marked.begun {
                tracing::warn!(
                    last_valid = head.change,
                    begun = marked.begun,
                    "the last write was torn or did not end; nobody was told that it was saved, and \
                     the last valid one stands"
                );
            }
            Ok(())
        }
    }
}

/// Whether the head is this member's.
pub(super) fn identity(head: &Head, dir: &Path, cluster: &Name, member: &Name) -> Result<(), StoreError> {
    for (what, found, expected) in [("cluster", &head.cluster, cluster), ("member", &head.member, member)] {
        if found != expected.as_str() {
            let (found, expected) = (found.clone(), expected.to_string());
            return Err(StoreError::Stranger { path: dir.to_owned(), what, found, expected });
        }
    }
    Ok(())
}

/// Whether all that the head speaks of is there; removes what it does not speak of.
pub(super) fn contents(core: &Core) -> Result<(), StoreError> {
    let head = core.head();
    if head.last.is_some() && head.vote.is_none() {
        return Err(StoreError::VoteMissing { path: core.dir.clone() });
    }
    sweep(core, &head).map_err(|e| core.damaged(Damage::Database(e)))?;
    chain(core, &head)?;
    if let Some(named) = &head.forming {
        let bytes = core.blob(Kind::Forming, named).map_err(StoreError::Sled)?;
        let bytes = bytes.ok_or_else(|| core.damaged(Damage::Forming))?;
        core.set_forming((!bytes.is_empty()).then_some(bytes));
    }
    // Reads and checks it.
    core.snapshot().map(drop)
}

/// What a crash between two writes has left over.
fn sweep(core: &Core, head: &Head) -> Result<(), sled::Error> {
    if let Some(purged) = head.purged {
        remove(&core.log, core.log.range(..log_key(purged.index + 1)))?;
    }
    let end = head.last.map_or(0, |last| last.index + 1);
    remove(&core.log, core.log.range(log_key(end)..))?;
    let kept: Vec<Vec<u8>> = [(Kind::Snapshot, head.snapshot), (Kind::Forming, head.forming)]
        .into_iter()
        .filter_map(|(kind, named)| Some(prefix(kind, named?.generation)))
        .collect();
    for key in core.blobs.iter().keys() {
        let key = key?;
        if !kept.iter().any(|prefix| key.starts_with(prefix)) {
            core.blobs.remove(key)?;
        }
    }
    Ok(())
}

fn remove(tree: &sled::Tree, range: sled::Iter) -> Result<(), sled::Error> {
    for key in range.keys() {
        tree.remove(key?)?;
    }
    Ok(())
}

/// Whether the entries lead, link by link, from the purged end to the head.
fn chain(core: &Core, head: &Head) -> Result<(), StoreError> {
    let mut next = head.purged.map_or(0, |purged| purged.index + 1);
    let mut link = head.purged_link;
    let mut last = head.purged;
    let end = head.last.map_or(0, |last| last.index + 1);
    while next < end {
        let bytes = cells::get(&core.log, &next.to_be_bytes());
        let bytes = bytes.map_err(|e| core.damaged(Damage::Database(e)))?;
        if bytes.is_empty() {
            return Err(core.damaged(Damage::Hole { index: next }));
        }
        let record = record::decode(next, &bytes).map_err(|damage| core.damaged(damage))?;
        if record.before != link {
            return Err(core.damaged(Damage::Link { index: next }));
        }
        (link, last, next) = (record.link, Some(record.entry.log_id), next + 1);
    }
    if last != head.last || link != head.link {
        let (found, expected) = (last.map(|id| id.index), head.last.map(|id| id.index));
        return Err(core.damaged(Damage::End { found, expected }));
    }
    Ok(())
}
