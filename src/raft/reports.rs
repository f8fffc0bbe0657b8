//! What the members tell each other of themselves, once a second and when it changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::Shared;
use crate::clock;
use crate::model::{Name, Time};
use crate::proto;
use crate::runtime;

/// How often a member reports to each other one.
const EVERY: Duration = Duration::from_secs(1);

/// A report is an exchange of two small messages within a region.
const DEADLINE: Duration = Duration::from_millis(500);

/// A member that was not heard for so long does not answer: two reports were lost.
pub const SILENT_AFTER: Duration = Duration::from_millis(2500);

/// The newest report of each member, and when it came.
pub type Heard = BTreeMap<Name, (Time, proto::Member)>;

/// My own report, and what the others said last.
#[derive(Debug)]
pub struct Reports {
    mine: Mutex<proto::Member>,
    changed: Notify,
    heard: watch::Sender<Heard>,
    /// Who is listed: no report of another name is kept.
    members: Vec<Name>,
}

impl Reports {
    pub(super) fn new(members: Vec<Name>) -> Self {
        Self { mine: Mutex::default(), changed: Notify::new(), heard: watch::Sender::default(), members }
    }

    /// Replaces what is told of this member; what matters to others is told at once.
    pub fn set(&self, mine: proto::Member) {
        let mut old = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        let urgent = (&old.health, &old.not_eligible, old.vip_local, old.quarantined, &old.cloud_error)
            != (&mine.health, &mine.not_eligible, mine.vip_local, mine.quarantined, &mine.cloud_error);
        *old = mine;
        if urgent {
            self.changed.notify_one();
        }
    }

    /// What was heard of the others, and how it changes.
    pub fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }

    pub(super) fn exchange(&self, theirs: proto::Member) -> proto::Member {
        self.keep(theirs);
        self.mine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, theirs: proto::Member) {
        let Ok(name) = theirs.name.parse::<Name>() else { return };
        if !self.members.contains(&name) {
            return;
        }
        self.heard.send_modify(|heard| {
            heard.insert(name, (clock::now(), theirs));
        });
    }
}

/// Reports to every other member of the group until the process ends.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let _ = runtime::timeout(EVERY, shared.reports.changed.notified()).await;
        fault!(wait "report.send");
        let calls = shared.others().into_iter().map(|(id, node)| {
            let shared = Arc::clone(&shared);
            async move {
                let member = shared.reports.mine.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let request =
                    proto::ReportRequest { envelope: Some(shared.envelope(id)), member: Some(member) };
                let answer = shared
                    .links
                    .call(&node.name, &node.peer, DEADLINE, |mut c| async move { c.report(request).await })
                    .await;
                match answer.map(|r| r.member) {
                    Ok(Some(theirs)) => shared.reports.keep(theirs),
                    Ok(None) => {}
                    Err(error) => tracing::debug!(member = %node.name, %error, "report not delivered"),
                }
            }
        });
        futures_util::future::join_all(calls).await;
    }
}
