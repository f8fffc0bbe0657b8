//! The ledger as openraft's state machine. It lives in memory; what survives is the snapshot and
//! the log after it.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use crate::ledger::Ledger;
use crate::raft::types::{LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

use super::Stable;
use super::error::StoreError;

/// The ledger after the entry at `index`, which is of `term`; both zero before the first one.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    pub ledger: Arc<Ledger>,
    pub index: u64,
    pub term: u64,
}

/// Applies committed entries and publishes the outcome.
pub struct Machine {
    store: Arc<dyn Stable>,
    ledger: Arc<Ledger>,
    last: Option<LogId>,
    membership: StoredMembership,
    applied: watch::Sender<Applied>,
}

impl Machine {
    /// Begins where the current snapshot ends.
    pub fn new(store: Arc<dyn Stable>) -> Result<Self, StoreError> {
        let (applied, _) = watch::channel(Applied::default());
        let mut machine = Self {
            store: Arc::clone(&store),
            ledger: Arc::default(),
            last: None,
            membership: StoredMembership::default(),
            applied,
        };
        if let Some(snapshot) = store.snapshot()? {
            let ledger = serde_json::from_slice(&snapshot.snapshot).map_err(|_| store.no_ledger())?;
            machine.replace(ledger, &snapshot.meta);
        }
        Ok(machine)
    }

    /// The ledger as it is now and after each batch of entries. A write is answered after its batch
    /// is published.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    fn replace(&mut self, ledger: Ledger, meta: &SnapshotMeta) {
        self.ledger = Arc::new(ledger);
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish();
    }

    fn publish(&self) {
        let (term, index) = self.last.map_or((0, 0), |id| (id.leader_id.term, id.index));
        self.applied.send_replace(Applied { ledger: self.ledger.clone(), index, term });
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        fault!(wait "machine.apply", error(e) => return Err(e));
        let mut responders = Vec::new();
        let mut outcome = Ok(());
        while let Some(item) = entries.next().await {
            let (entry, responder) = match item {
                Ok(item) => item,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            let id = entry.log_id;
            let mut gone = false;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(command) => {
                    // Copies the ledger once a batch: what was published is shared.
                    Arc::make_mut(&mut self.ledger).apply(id.index, id.leader_id.term, &command);
                }
                EntryPayload::Membership(membership) => {
                    if membership.get_joint_config().len() > 1 {
                        fault!(wait "machine.joint");
                    }
                    // Voters and learners.
                    let names = membership.nodes().filter_map(|(_, node)| node.name.parse().ok()).collect();
                    gone = Arc::make_mut(&mut self.ledger).seat(names);
                    self.membership = StoredMembership::new(Some(id), membership);
                }
            }
            self.last = Some(id);
            if gone {
                // After a restart too, before it is known again how far the log is committed: whose key was removed
                // could ask for votes until then.
                self.get_snapshot_builder().await.build_snapshot().await?;
            }
            responders.extend(responder);
        }
        fault!(wait "machine.publish");
        self.publish();
        for responder in responders {
            responder.send(());
        }
        outcome
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta = SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() };
        Builder { store: Arc::clone(&self.store), ledger: self.ledger.clone(), meta }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Vec<u8>) -> Result<(), io::Error> {
        fault!(wait "snapshot.install", error(e) => return Err(e));
        let ledger = serde_json::from_slice(&snapshot).map_err(StoreError::Ledger)?;
        self.store.put_snapshot(meta, &snapshot).await?;
        fault!(wait "snapshot.installed");
        self.replace(ledger, meta);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.store.snapshot()?)
    }
}

/// Makes a snapshot of the ledger as it was when the builder was made.
pub struct Builder {
    store: Arc<dyn Stable>,
    ledger: Arc<Ledger>,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        fault!(wait "snapshot.build", error(e) => return Err(e));
        let snapshot = serde_json::to_vec(&*self.ledger).map_err(StoreError::Ledger)?;
        self.store.put_snapshot(&self.meta, &snapshot).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
