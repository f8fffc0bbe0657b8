//! Makes changes durable, many at a time, away from the async threads.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use crate::raft::types::TypeConfig;

use super::core::Core;
use super::error::StoreError;
use super::mark::Mark;

/// Told once, with the cause, that something could not be saved. Expected to end the process.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// How sled's file is made durable: fdatasync(2), or a fake that fails or takes its time.
pub trait DiskSync: Send {
    /// On success all that was written to the file survives a power failure.
    fn sync(&self) -> io::Result<()>;
}

impl DiskSync for File {
    /// sled's own flush ends in sync_file_range(2), which keeps neither the file's new length nor
    /// what is in the drive's cache.
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// openraft waits for its votes and truncations one by one and has few appends on their way; where
/// this many wait, the disk stands, and so may the rest.
const QUEUE: usize = 256;
/// Keys removed between two saves: about a millisecond.
const SWEEP_KEYS: usize = 64;

/// Who waits for a save, or what else the thread is to do.
pub(super) enum Job {
    Append(Appended),
    Saved(oneshot::Sender<io::Result<()>>),
    /// Entries were purged: their cells may go.
    Sweep,
}

/// An append that is not saved yet.
pub(super) struct Appended {
    callback: IOFlushed<TypeConfig>,
    /// Held until it is told of.
    unsaved: Arc<()>,
}

/// All it takes to save.
pub(super) struct Saver {
    core: Arc<Core>,
    disk: Box<dyn DiskSync>,
    mark: Mark,
}

impl Saver {
    pub fn new(core: Arc<Core>, disk: Box<dyn DiskSync>, mark: Mark) -> Self {
        Self { core, disk, mark }
    }

    /// On success everything changed before the call is durable and marked. A failure is for good:
    /// the kernel drops the pages that it could not write, so that a second fsync(2) would succeed.
    pub fn save(&mut self) -> Result<(), StoreError> {
        self.core.alive()?;
        let change = self.core.head().change;
        let saved = self.try_save(change);
        if let Err(error) = &saved {
            self.core.fail(error);
        }
        saved
    }

    fn try_save(&mut self, change: u64) -> Result<(), StoreError> {
        fault!("store.save", error(e) => return Err(StoreError::Disk(e)));
        self.mark.begin(change).map_err(StoreError::Disk)?;
        fault!("store.flush.before", error(e) => return Err(StoreError::Disk(e)));
        self.core.db.flush()?;
        fault!("store.fsync.before", error(e) => return Err(StoreError::Disk(e)));
        self.disk.sync().map_err(StoreError::Disk)?;
        fault!("store.fsync.after", error(e) => return Err(StoreError::Disk(e)));
        self.mark.saved(change).map_err(StoreError::Disk)
    }

    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(QUEUE);
        let mut sweeping = false;
        loop {
            if sweeping {
                while jobs.len() < QUEUE
                    && let Ok(job) = queue.try_recv()
                {
                    jobs.push(job);
                }
                sweeping = !queue.is_closed();
            } else if queue.blocking_recv_many(&mut jobs, QUEUE) == 0 {
                return;
            }
            sweeping |= jobs.iter().any(|job| matches!(job, Job::Sweep));
            if jobs.iter().any(|job| !matches!(job, Job::Sweep)) {
                let saved = self.save();
                fault!("store.acknowledge");
                for job in jobs.drain(..) {
                    job.complete(&saved);
                }
            }
            jobs.clear();
            sweeping = sweeping && self.core.sweep_purged(SWEEP_KEYS);
        }
    }
}

impl Job {
    fn complete(self, saved: &Result<(), StoreError>) {
        let outcome = match saved {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::other(StoreError::Failed { first: error.to_string() })),
        };
        match self {
            Job::Append(Appended { callback, unsaved }) => {
                callback.io_completed(outcome);
                drop(unsaved);
            }
            // Whoever no longer waits does not need to know.
            Job::Saved(waiter) => drop(waiter.send(outcome)),
            Job::Sweep => {}
        }
    }
}

/// The thread that saves. Dropping it waits until it has done what it was told.
pub(super) struct Flusher {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Each append that is not saved yet holds it too.
    unsaved: Arc<()>,
}

impl Flusher {
    pub fn start(saver: Saver) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("store-flush".to_owned());
        let thread = thread.spawn(move || saver.run(jobs)).map_err(StoreError::Thread)?;
        Ok(Self { queue: Some(queue), thread: Some(thread), unsaved: Arc::default() })
    }

    /// Hands over a job; waits, without a thread, where the queue is full.
    pub async fn submit(&self, job: Job) -> Result<(), StoreError> {
        let gone = || StoreError::Failed { first: "the flusher has ended".to_owned() };
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(job).await.map_err(|_| gone())
    }

    /// Tells `callback` once everything changed before the call is durable.
    pub async fn append(&self, callback: IOFlushed<TypeConfig>) -> Result<(), StoreError> {
        self.submit(Job::Append(Appended { callback, unsaved: self.unsaved.clone() })).await
    }

    /// Whether an append is not told of yet.
    pub fn owes(&self) -> bool {
        Arc::strong_count(&self.unsaved) > 1
    }

    /// Returns once everything changed before the call is durable.
    pub async fn saved(&self) -> Result<(), StoreError> {
        let (tx, rx) = oneshot::channel();
        self.submit(Job::Saved(tx)).await?;
        match rx.await {
            Ok(outcome) => outcome.map_err(StoreError::Disk),
            Err(_) => Err(StoreError::Failed { first: "the flusher has ended".to_owned() }),
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: with panic = abort nobody is here to hear of it.
            drop(thread.join());
        }
    }
}
