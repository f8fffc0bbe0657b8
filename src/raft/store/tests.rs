//! Named by FAULTS.md where a fault is meant.

mod damage;
mod disk;
mod kill;
mod suite;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openraft::storage::{IOFlushed, RaftLogStorage as _, RaftStateMachine as _};
use openraft::type_config::TypeConfigExt as _;
use openraft::{EntryPayload, RaftLogReader as _, RaftSnapshotBuilder as _};
use tokio::sync::oneshot;

use super::blob::Kind;
use super::*;
use crate::ledger::Command;
use crate::model::{GroupId, Incarnation, Term, WallMs};
use crate::raft::types::{Entry, LogId, Membership, Node, SnapshotMeta, TypeConfig, Vote};

/// For everything that ought to take milliseconds.
const BOUND: Duration = Duration::from_secs(10);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// For tests in which nothing may fail to be saved.
fn calm() -> OnFatal {
    Arc::new(|cause| panic!("fatal: {cause}"))
}

fn open(dir: &Path) -> Result<Store, StoreError> {
    let until = Instant::now() + BOUND;
    loop {
        match Store::open(dir, &name("edge"), &name("az-a"), calm()) {
            // A child that another test starts shares this process's files until it is another program: the lock, too.
            Err(StoreError::Held { .. }) if Instant::now() < until => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

fn refusal(dir: &Path) -> StoreError {
    open(dir).err().expect("the data is refused")
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

fn note(term: u64, index: u64, text: &str) -> Entry {
    let name = |text: &str| text.parse().expect("a name");
    let payload = EntryPayload::Normal(Command::Handover {
        from: name("az-a"),
        to: name("az-b"),
        term: Term(term),
        reason: text.to_owned(),
        at: WallMs(index),
    });
    Entry { log_id: id(term, index), payload }
}

/// The index of the newest note that the ledger shows.
fn newest(applied: &Applied) -> Option<u64> {
    applied.ledger.handover.as_ref().map(|h| h.at.0)
}

fn membership(term: u64, index: u64) -> Entry {
    let node = |name: &str| Node { name: name.to_owned(), peer: format!("{name}:7400"), ..Node::default() };
    let nodes = std::collections::BTreeMap::from([(1, node("az-a")), (2, node("az-b"))]);
    let membership = Membership::new(vec![[1].into(), [1, 2].into()], nodes).unwrap();
    Entry { log_id: id(term, index), payload: EntryPayload::Membership(membership) }
}

/// Hands the entries over; the answer comes when they are saved, or not.
async fn hand_over(store: &mut Store, entries: Vec<Entry>) -> oneshot::Receiver<Result<(), std::io::Error>> {
    let (tx, rx) = TypeConfig::oneshot();
    store.append(entries, IOFlushed::signal(tx)).await.unwrap();
    rx
}

async fn append(store: &mut Store, entries: Vec<Entry>) {
    hand_over(store, entries).await.await.unwrap().unwrap();
}

async fn log(store: &mut Store) -> Vec<Entry> {
    store.get_log_reader().await.try_get_log_entries(..).await.unwrap()
}

async fn vote(store: &mut Store) -> Option<Vote> {
    store.get_log_reader().await.read_vote().await.unwrap()
}

async fn apply(machine: &mut Machine, entries: Vec<Entry>) {
    let items = entries.into_iter().map(|entry| Ok((entry, None)));
    machine.apply(futures_util::stream::iter(items)).await.unwrap();
}

async fn snapshot(machine: &mut Machine) {
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_saved_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let mut store = open(&path).unwrap();
    assert!(store.is_fresh());
    let incarnation = store.incarnation();
    assert_ne!(incarnation, Incarnation(0));
    assert_eq!((store.group(), store.forming(), store.longest_lease_ms()), (None, None, 0));
    store.set_group(GroupId(7)).await.unwrap();
    store.set_forming(&[9; 5000]).await.unwrap();
    store.raise_longest_lease_ms(300).await.unwrap();
    store.raise_longest_lease_ms(200).await.unwrap();
    store.save_vote(&Vote::new_committed(3, 11)).await.unwrap();
    let mut entries = vec![membership(1, 0)];
    entries.extend((1..20).map(|i| note(1, i, &"x".repeat(i as usize * 100))));
    append(&mut store, entries.clone()).await;
    let mut machine = Machine::new(Arc::new(store.clone())).unwrap();
    apply(&mut machine, entries[..8].to_vec()).await;
    snapshot(&mut machine).await;
    store.purge(id(1, 4)).await.unwrap();
    store.truncate_after(Some(id(1, 15))).await.unwrap();
    append(&mut store, vec![note(3, 16, "after"), note(3, 17, "more")]).await;
    store.save_committed(Some(id(1, 9))).await.unwrap();
    let kept = log(&mut store).await;
    let ledger = machine.applied().borrow().ledger.clone();
    drop((store, machine));

    let mut store = open(&path).unwrap();
    assert!(!store.is_fresh());
    assert_eq!(store.incarnation(), incarnation);
    assert_eq!(store.group(), Some(GroupId(7)));
    assert_eq!(store.forming(), Some(vec![9; 5000]));
    assert_eq!(store.longest_lease_ms(), 300);
    assert_eq!(vote(&mut store).await, Some(Vote::new_committed(3, 11)));
    assert_eq!(store.read_committed().await.unwrap(), Some(id(1, 9)));
    let state = store.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 4)), Some(id(3, 17))));
    let log = log(&mut store).await;
    assert_eq!(log, kept);
    assert_eq!(log[..11], entries[5..16]);
    assert_eq!((log.len(), &log[11]), (13, &note(3, 16, "after")));
    let mut machine = Machine::new(Arc::new(store.clone())).unwrap();
    let applied = machine.applied().borrow().clone();
    assert_eq!((applied.index, applied.term, applied.ledger), (7, 1, ledger));
    let (last, membership) = machine.applied_state().await.unwrap();
    assert_eq!((last, *membership.log_id()), (Some(id(1, 7)), Some(id(1, 0))));
    store.set_forming(&[]).await.unwrap();
    assert_eq!(store.forming(), None);
    assert!(matches!(store.set_group(GroupId(8)).await, Err(StoreError::OtherGroup { .. })));
}

#[tokio::test]
async fn who_was_removed_is_known_after_reopening_however_little_was_saved_since() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let nodes = std::collections::BTreeMap::from([(1, Node { name: "az-a".into(), ..Node::default() })]);
    let without = Membership::new(vec![[1].into()], nodes).unwrap();
    let without = Entry { log_id: id(1, 1), payload: EntryPayload::Membership(without) };
    let entries = vec![membership(1, 0), without, note(1, 2, "later")];
    append(&mut store, entries.clone()).await;
    let mut machine = Machine::new(Arc::new(store.clone())).unwrap();
    apply(&mut machine, entries).await;
    assert_eq!(machine.applied().borrow().ledger.removed, ["az-b".parse().unwrap()]);
    drop((store, machine));
    let machine = Machine::new(Arc::new(open(dir.path()).unwrap())).unwrap();
    let applied = machine.applied().borrow().clone();
    assert_eq!((applied.index, applied.ledger.removed.len()), (1, 1));
}

#[tokio::test]
async fn each_batch_is_published_once_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let mut machine = Machine::new(Arc::new(store.clone())).unwrap();
    let mut applied = machine.applied();
    let before = applied.borrow_and_update().clone();
    assert_eq!((before.index, before.term), (0, 0));
    apply(&mut machine, (0..5).map(|i| note(2, i, "n")).collect()).await;
    assert!(applied.has_changed().unwrap());
    let now = applied.borrow_and_update().clone();
    assert_eq!((now.index, now.term, newest(&now)), (4, 2, Some(4)));
    assert_eq!(newest(&before), None);
}

#[tokio::test]
async fn the_log_has_no_holes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    append(&mut store, vec![note(1, 0, "a")]).await;
    let (tx, _rx) = TypeConfig::oneshot();
    let hole = store.append(vec![note(1, 2, "c")], IOFlushed::signal(tx)).await;
    assert!(hole.unwrap_err().to_string().contains("entry 2 does not follow Some(0)"));
    append(&mut store, vec![note(1, 1, "b")]).await;
    assert_eq!(log(&mut store).await.len(), 2);
}

#[tokio::test]
async fn a_long_range_is_read_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let text = "x".repeat(30_000);
    append(&mut store, (0..40).map(|i| note(1, i, &text)).collect()).await;
    let mut reader = store.get_log_reader().await;
    let part = reader.limited_get_log_entries(5, 40).await.unwrap();
    assert_eq!(part[0].log_id, id(1, 5));
    assert!((1..20).contains(&part.len()), "{}", part.len());
    assert_eq!(reader.try_get_log_entries(5..40).await.unwrap().len(), 35);
}

/// `cells.rs`: a blob file would not be synced.
#[tokio::test]
async fn sled_never_makes_a_blob_file_and_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let mut machine = Machine::new(Arc::new(store.clone())).unwrap();
    let mut next = 0;
    for round in 0..12 {
        let entries: Vec<Entry> =
            (next..next + 30).map(|i| note(1, i, &"y".repeat((i as usize * 397) % 6000))).collect();
        next += 30;
        append(&mut store, entries.clone()).await;
        apply(&mut machine, entries).await;
        snapshot(&mut machine).await;
        if round % 3 == 2 {
            store.truncate_after(Some(id(1, next - 11))).await.unwrap();
            next -= 10;
        }
        store.purge(id(1, next - 20)).await.unwrap();
        let blobs = std::fs::read_dir(dir.path().join("db/blobs")).unwrap().count();
        assert_eq!(blobs, 0, "round {round}");
    }
    let bytes = std::fs::metadata(dir::db_file(dir.path())).unwrap().len();
    // The snapshot, at the end, is about 1 MB of JSON; each was written anew.
    assert!(bytes < 32 << 20, "{bytes}");
    drop((store, machine));
    assert_eq!(log(&mut open(dir.path()).unwrap()).await.len(), 19);
}
