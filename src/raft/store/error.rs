//! Why the store does not open, or does not save.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::GroupId;
use crate::raft::codec::CodecError;

/// Each says what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// FAULTS 16.
    #[error("the data directory {} cannot be written: {source}; it must be a directory that vipd may create files in", path.display())]
    Unwritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// FAULTS 8.
    #[error("the data directory {} is in use by {holder}; stop that one, or give this one a directory of its own", path.display())]
    Held { path: PathBuf, holder: String },
    /// FAULTS 20.
    #[error("the data in {} has format {found}, this vipd knows up to {known}; start the vipd that wrote it, or a later one", path.display())]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    /// FAULTS 18.
    #[error("the data in {} belongs to {what} \"{found}\", the configuration says \"{expected}\"; correct data_dir or {what}", path.display())]
    Stranger { path: PathBuf, what: &'static str, found: String, expected: String },
    /// FAULTS 15.
    #[error("the data in {} holds a log but no vote, so this member could vote twice; {}", path.display(), Rejoin(path))]
    VoteMissing { path: PathBuf },
    /// FAULTS 14.
    #[error("the data in {} is damaged: {damage}; {}", path.display(), Rejoin(path))]
    Damaged {
        path: PathBuf,
        #[source]
        damage: Damage,
    },
    /// This incarnation has entries of another group.
    #[error("this data directory belongs to group {other}")]
    OtherGroup { other: GroupId },
    /// An entry that does not follow the last one. openraft never sends it.
    #[error("entry {found} does not follow {last:?}")]
    Hole { found: u64, last: Option<u64> },
    #[error("{what} has {found} bytes, more than {max}")]
    TooLarge { what: &'static str, found: usize, max: usize },
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("a snapshot cannot be written: {0}")]
    Ledger(#[source] serde_json::Error),
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("cannot save: {0}")]
    Disk(#[source] io::Error),
    #[error("no random numbers: {0}")]
    Random(#[source] getrandom::Error),
    #[error("no thread to save with: {0}")]
    Thread(#[source] io::Error),
    /// Something could not be saved before; nothing is saved since.
    #[error("nothing is saved any more: {first}")]
    Failed { first: String },
}

impl StoreError {
    /// What [`Store::open`](super::Store::open) says where sled panics over the data in `path`. Where
    /// a panic aborts, only the panic hook can say it.
    pub fn unreadable(path: &Path, panic: String) -> Self {
        Self::damaged(path)(Damage::Unreadable(panic))
    }

    pub(super) fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Unwritable { path: path.to_owned(), source }
    }

    pub(super) fn damaged(path: &Path) -> impl FnOnce(Damage) -> Self {
        |damage| Self::Damaged { path: path.to_owned(), damage }
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        io::Error::other(error)
    }
}

/// What is missing or does not fit, and where.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error("db/: {0}")]
    Database(#[source] sled::Error),
    #[error("db/: reading it fails: {0}")]
    Unreadable(String),
    #[error("mark: it is missing or cannot be read")]
    Mark,
    #[error("mark: it was written beside the data of another incarnation")]
    MarkOfAnother,
    #[error("db/: change {saved} was saved, {found} is the last one there")]
    Behind { saved: u64, found: u64 },
    #[error("db/, meta: the head cannot be read")]
    Head,
    #[error("db/, log: entry {index} cannot be read")]
    Record { index: u64 },
    #[error("db/, log: entry {index} is missing")]
    Hole { index: u64 },
    #[error("db/, log: entry {index} does not follow the one before it")]
    Link { index: u64 },
    #[error("db/, log: it ends at {found:?}, not at {expected:?}")]
    End { found: Option<u64>, expected: Option<u64> },
    #[error("db/, blobs: the snapshot cannot be read")]
    Snapshot,
    #[error("db/, blobs: the formation's record cannot be read")]
    Forming,
}

/// How a member whose data is of no use comes back.
struct Rejoin<'a>(&'a Path);

impl std::fmt::Display for Rejoin<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dir = self.0.display();
        write!(
            f,
            "to rejoin, move {dir} aside and start with an empty directory: this member comes back \
             as a new incarnation and is brought up to date by the others"
        )
    }
}
