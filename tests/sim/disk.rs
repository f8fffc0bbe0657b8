//! A data directory as a disk keeps it: what was written, and what was saved. A crash may lose all that
//! was not saved.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{mpsc, oneshot};

use vipd::model::{GroupId, Incarnation};
use vipd::mutant::{self, Mutant};
use vipd::raft::store::{Stable, StoreError};
use vipd::raft::types::{Entry, LogId, Snapshot, SnapshotMeta, TypeConfig, Vote};
use vipd::runtime;
use vipd::runtime::simulated::Host;

/// What a directory holds.
#[derive(Clone, Default)]
struct Content {
    incarnation: u64,
    group: Option<GroupId>,
    forming: Option<Vec<u8>>,
    longest_lease_ms: u64,
    vote: Option<Vote>,
    log: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    last: Option<LogId>,
    snapshot: Option<(SnapshotMeta, Vec<u8>)>,
    committed: Option<LogId>,
}

impl Content {
    fn holds(&self, index: u64, term: u64) -> bool {
        let entry = self.log.get(&index).map(|e| e.log_id.leader_id.term);
        self.purged.is_some_and(|id| id.index >= index) || entry == Some(term)
    }
}

/// How the disk behaves.
#[derive(Clone, Copy, Debug)]
pub struct DiskWeather {
    /// An fsync takes so many microseconds, at least and at most.
    pub fsync_us: (u64, u64),
    /// Fails the next fsync.
    pub fails: bool,
}

impl Default for DiskWeather {
    fn default() -> Self {
        Self { fsync_us: (100, 1_000), fails: false }
    }
}

struct Platter {
    written: Content,
    saved: Content,
    weather: DiskWeather,
    rng: SmallRng,
    installed: u64,
    started_from_one: u64,
    slow_saves: u64,
    failed_saves: u64,
}

/// One member's disk. It outlives the member's lives.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    /// Empty, with an incarnation of its own at the first open.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            written: Content::default(),
            saved: Content::default(),
            weather: DiskWeather::default(),
            rng: SmallRng::seed_from_u64(seed),
            installed: 0,
            started_from_one: 0,
            slow_saves: 0,
            failed_saves: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_weather(&self, weather: DiskWeather) {
        self.lock().weather = weather;
    }

    /// The process has died; what was not saved is lost with it, or was with the kernel already.
    pub fn crash(&self, unsaved: Unsaved) {
        let mut p = self.lock();
        match unsaved {
            Unsaved::Lost => p.written = p.saved.clone(),
            Unsaved::Kept => p.saved = p.written.clone(),
        }
    }

    /// Adds entries to the log, or puts them in others' place.
    pub fn write(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut p = self.lock();
        for entry in entries {
            p.written.last = Some(entry.log_id);
            p.written.log.insert(entry.log_id.index, entry);
        }
    }

    /// The entries of the log from `first` to `last`.
    pub fn entries(&self, first: u64, last: u64) -> Vec<Entry> {
        let p = self.lock();
        p.written
            .log
            .range(first..)
            .take_while(|(index, _)| **index <= last)
            .map(|(_, e)| e.clone())
            .collect()
    }

    /// Whether the entry at `index` of `term` is in the log, or under a snapshot.
    pub fn holds(&self, index: u64, term: u64) -> bool {
        self.lock().written.holds(index, term)
    }

    /// And would be after a loss of power.
    pub fn has_saved(&self, index: u64, term: u64) -> bool {
        self.lock().saved.holds(index, term)
    }

    /// How many saves took longer than any does in fair weather.
    pub fn slow_saves(&self) -> u64 {
        self.lock().slow_saves
    }

    pub fn failed_saves(&self) -> u64 {
        self.lock().failed_saves
    }

    /// Snapshots of others that were taken over, and starts from a snapshot.
    pub fn snapshots(&self) -> (u64, u64) {
        let p = self.lock();
        (p.installed, p.started_from_one)
    }

    /// Empties the directory: a new incarnation at the next open.
    pub fn wipe(&self) {
        let mut p = self.lock();
        (p.written, p.saved) = (Content::default(), Content::default());
    }

    /// Opens it for one life; `on_fatal` is told when something cannot be saved.
    pub fn open(&self, host: &Host, on_fatal: impl Fn() + Send + Sync + 'static) -> SimStore {
        let fresh = {
            let mut p = self.lock();
            let fresh = p.saved.incarnation == 0;
            p.started_from_one += u64::from(p.saved.snapshot.is_some());
            if fresh {
                p.written.incarnation = p.rng.random_range(1..u64::MAX);
                p.saved = p.written.clone();
            }
            fresh
        };
        let (queue, jobs) = mpsc::unbounded_channel();
        drop(host.spawn(flusher(self.clone(), jobs, on_fatal)));
        SimStore { disk: self.clone(), queue, unsaved: Arc::default(), fresh }
    }

    fn delay(&self) -> (Duration, bool) {
        let mut p = self.lock();
        let (least, most) = p.weather.fsync_us;
        let us = p.rng.random_range(least..=most);
        p.slow_saves += u64::from(us > DiskWeather::default().fsync_us.1);
        (Duration::from_micros(us), std::mem::take(&mut p.weather.fails))
    }
}

/// What a crash does with what was written and not saved.
#[derive(Clone, Copy, Debug)]
pub enum Unsaved {
    Lost,
    Kept,
}

enum Job {
    /// With the store's count of those that are not saved yet.
    Append(IOFlushed<TypeConfig>, Arc<AtomicUsize>),
    Saved(oneshot::Sender<()>),
}

impl Job {
    fn complete(self) {
        match self {
            Job::Append(callback, unsaved) => {
                callback.io_completed(Ok(()));
                unsaved.fetch_sub(1, Ordering::Relaxed);
            }
            Job::Saved(waiter) => drop(waiter.send(())),
        }
    }
}

/// As the shipped one: many jobs, one save, then the answers.
async fn flusher(disk: Disk, mut jobs: mpsc::UnboundedReceiver<Job>, on_fatal: impl Fn() + Send) {
    while let Some(first) = jobs.recv().await {
        let mut batch = vec![first];
        while let Ok(job) = jobs.try_recv() {
            batch.push(job);
        }
        if mutant::on(Mutant::AcknowledgedBeforeSaved) {
            batch.drain(..).for_each(Job::complete);
        }
        let content = disk.lock().written.clone();
        let (delay, fails) = disk.delay();
        runtime::sleep(delay).await;
        if fails {
            disk.lock().failed_saves += 1;
            // The process ends: nothing is acknowledged any more.
            on_fatal();
            return;
        }
        disk.lock().saved = content;
        batch.into_iter().for_each(Job::complete);
    }
}

/// One life's view of its disk.
#[derive(Clone)]
pub struct SimStore {
    disk: Disk,
    queue: mpsc::UnboundedSender<Job>,
    unsaved: Arc<AtomicUsize>,
    fresh: bool,
}

impl SimStore {
    async fn saved(&self) -> Result<(), StoreError> {
        let (tx, rx) = oneshot::channel();
        let gone = || StoreError::Failed { first: "the disk has failed".to_owned() };
        self.queue.send(Job::Saved(tx)).map_err(|_| gone())?;
        rx.await.map_err(|_| gone())
    }

    async fn change(&self, change: impl FnOnce(&mut Content) + Send) -> Result<(), StoreError> {
        change(&mut self.disk.lock().written);
        self.saved().await
    }
}

impl Stable for SimStore {
    fn incarnation(&self) -> Incarnation {
        Incarnation(self.disk.lock().written.incarnation)
    }

    fn is_fresh(&self) -> bool {
        self.fresh
    }

    fn log_is_empty(&self) -> bool {
        self.disk.lock().written.last.is_none()
    }

    fn group(&self) -> Option<GroupId> {
        self.disk.lock().written.group
    }

    fn set_group(&self, group: GroupId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.change(move |c| c.group = Some(group)))
    }

    fn forming(&self) -> Option<Vec<u8>> {
        self.disk.lock().written.forming.clone()
    }

    fn set_forming<'a>(&'a self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        let bytes = (!bytes.is_empty()).then(|| bytes.to_vec());
        Box::pin(self.change(move |c| c.forming = bytes))
    }

    fn longest_lease_ms(&self) -> u64 {
        self.disk.lock().written.longest_lease_ms
    }

    fn raise_longest_lease_ms(&self, ms: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.change(move |c| c.longest_lease_ms = c.longest_lease_ms.max(ms)))
    }

    fn put_snapshot<'a>(
        &'a self,
        meta: &'a SnapshotMeta,
        data: &'a [u8],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let ahead = |p: &Platter| p.written.last < meta.last_log_id;
        {
            let mut p = self.disk.lock();
            p.installed += u64::from(ahead(&p));
        }
        Box::pin(self.change(move |c| {
            let older = c.snapshot.as_ref().is_some_and(|(kept, _)| kept.last_log_id > meta.last_log_id);
            if !older {
                c.snapshot = Some((meta.clone(), data.to_vec()));
                if c.last < meta.last_log_id {
                    (c.last, c.purged) = (meta.last_log_id, meta.last_log_id);
                    c.log.clear();
                }
            }
        }))
    }

    fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let kept = self.disk.lock().written.snapshot.clone();
        Ok(kept.map(|(meta, data)| Snapshot { meta, snapshot: data }))
    }

    fn no_ledger(&self) -> StoreError {
        StoreError::Failed { first: "the snapshot is no ledger".to_owned() }
    }
}

impl RaftLogReader<TypeConfig> for SimStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        if let (Bound::Included(a), Bound::Excluded(b)) = bounds
            && a >= b
        {
            return Ok(Vec::new());
        }
        Ok(self.disk.lock().written.log.range(bounds).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.disk.lock().written.vote)
    }
}

impl RaftLogStorage<TypeConfig> for SimStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let p = self.disk.lock();
        Ok(LogState { last_purged_log_id: p.written.purged, last_log_id: p.written.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.disk.lock().written.vote = Some(*vote);
        let owes = self.unsaved.load(Ordering::Relaxed) > 0;
        if !vote.is_committed() || owes && !mutant::on(Mutant::VoteOvertakesEntries) {
            self.saved().await?;
        }
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.disk.lock().written.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.disk.lock().written.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.disk.write(entries);
        self.unsaved.fetch_add(1, Ordering::Relaxed);
        let job = Job::Append(callback, self.unsaved.clone());
        self.queue.send(job).map_err(|_| io::Error::other("the disk has failed"))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let change = move |c: &mut Content| {
            let keep = last.max(c.purged);
            c.log.retain(|index, _| Some(*index) <= keep.map(|id| id.index));
            c.last = c.last.min(keep);
        };
        Ok(self.change(change).await?)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let mut p = self.disk.lock();
        p.written.log.retain(|index, _| *index > upto.index);
        p.written.purged = p.written.purged.max(Some(upto));
        p.written.last = p.written.last.max(Some(upto));
        Ok(())
    }
}
