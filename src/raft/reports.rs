//! What the members tell each other of themselves, once a second and when it changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::Shared;
use super::types::Node;
use crate::clock;
use crate::model::{Incarnation, Name, Time};
use crate::proto;
use crate::runtime;

/// How often a member reports to each other one.
const EVERY: Duration = Duration::from_secs(1);

/// A report is an exchange of two small messages within a region.
const DEADLINE: Duration = Duration::from_millis(500);

/// A member that was not heard for so long does not answer: two reports were lost.
pub const SILENT_AFTER: Duration = Duration::from_millis(2500);

/// The newest report of each member, with the round trip to it, and when it came.
pub type Heard = BTreeMap<Name, (Time, proto::Member)>;

/// One round trip that was held up, by a process that stood still or a packet that was lost, says nothing of the
/// network: so many in a row do.
const RECENT: usize = 3;

/// My own report, and what the others said last.
#[derive(Debug, Default)]
pub struct Reports {
    /// The newest round trips to each, in milliseconds.
    recent: Mutex<BTreeMap<Name, VecDeque<f64>>>,
    mine: Mutex<proto::Member>,
    changed: Notify,
    heard: watch::Sender<Heard>,
}

impl Reports {
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

    /// Waits until a member has said something of itself, for so long.
    pub(super) async fn until_heard_of(&self, name: &Name, patience: Duration) {
        self.changed.notify_one();
        let mut heard = self.heard();
        let _ = runtime::timeout(patience, heard.wait_for(|heard| heard.contains_key(name))).await;
    }

    pub(super) fn exchange(&self, theirs: proto::Member) -> proto::Member {
        self.keep(theirs, None);
        self.mine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whoever calls has seen that a member of the group says so of itself. `took`: how long its answer took.
    fn keep(&self, mut theirs: proto::Member, took: Option<Duration>) {
        let Ok(name) = theirs.name.parse::<Name>() else { return };
        let least = took.map(|took| self.least(&name, took));
        self.heard.send_modify(|heard| {
            let known = heard.get(&name).map(|(_, member)| member);
            let before = known.and_then(|member| member.round_trip_ms);
            theirs.round_trip_least_ms =
                least.unwrap_or_else(|| known.and_then(|member| member.round_trip_least_ms));
            theirs.round_trip_ms = took.map_or(before, |took| Some(smoothed(before, took)));
            heard.insert(name, (clock::now(), theirs));
        });
    }
}

impl Reports {
    /// The least of the newest round trips with one more, once there are enough.
    fn least(&self, name: &Name, took: Duration) -> Option<f64> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let of_this = recent.entry(name.clone()).or_default();
        of_this.push_back(millis(took));
        if of_this.len() > RECENT {
            of_this.pop_front();
        }
        let least = of_this.iter().copied().reduce(f64::min);
        least.filter(|_| of_this.len() == RECENT)
    }

    /// The process that said it has ended: what it said holds no more. Until it says something again it does not
    /// answer, which is within a second where it lives after all.
    pub(super) fn forget(&self, name: &str) {
        self.heard.send_if_modified(|heard| {
            let before = heard.len();
            heard.retain(|member, _| member.as_str() != name);
            heard.len() != before
        });
        self.recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|member, _| member.as_str() != name);
    }

    /// Who has left the group is forgotten.
    fn keep_only(&self, members: &[(Incarnation, Node)]) {
        self.heard.send_if_modified(|heard| {
            let before = heard.len();
            heard.retain(|name, _| members.iter().any(|(_, node)| node.name == name.as_str()));
            heard.len() != before
        });
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|name, _| members.iter().any(|(_, node)| node.name == name.as_str()));
    }
}

/// The round trip in milliseconds with one more measured, as TCP smooths it (RFC 6298, section 2): one exchange that was
/// held up says little.
fn smoothed(before: Option<f64>, took: Duration) -> f64 {
    let took = millis(took);
    let smooth = before.map_or(took, |before| before + (took - before) / 8.0);
    (smooth * 1000.0).round() / 1000.0
}

/// To a microsecond.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// Reports to every other member of the group until the process ends.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let _ = runtime::timeout(EVERY, shared.reports.changed.notified()).await;
        fault!(wait "report.send");
        let others = shared.others();
        shared.reports.keep_only(&others);
        let membership = shared.included_at();
        let calls = others.into_iter().map(|(id, node)| {
            let shared = Arc::clone(&shared);
            async move {
                let member = shared.reports.mine.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let request = proto::ReportRequest {
                    envelope: Some(shared.envelope(id)),
                    member: Some(member),
                    membership,
                };
                let asked = clock::now();
                let answer = shared
                    .links
                    .call(&node.name, &node.peer, DEADLINE, |mut c| async move { c.report(request).await })
                    .await;
                match answer {
                    Ok(proto::ReportResponse { removed_at: Some(at), .. }) => shared.hear_of_removal(at),
                    Ok(proto::ReportResponse { member: Some(theirs), membership, members, .. })
                        if theirs.name == node.name =>
                    {
                        shared.hear_of_members(id, membership, &members);
                        shared.reports.keep(theirs, Some(clock::now().since(asked)));
                    }
                    Ok(_) => {}
                    Err(error) => tracing::debug!(member = %node.name, %error, "report not delivered"),
                }
            }
        });
        futures_util::future::join_all(calls).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that stood still for half a second has one such round trip under way; the next ones are as ever.
    #[test]
    fn fault_29_one_round_trip_that_was_held_up_makes_no_slow_network() {
        let reports = Reports::default();
        let name: Name = "az-b".parse().unwrap();
        let took = |ms: u64| {
            let theirs = proto::Member { name: name.to_string(), ..proto::Member::default() };
            reports.keep(theirs.clone(), Some(Duration::from_millis(ms)));
            // What it says by itself measures nothing.
            reports.keep(theirs, None);
            let (_, member) = reports.heard().borrow().get(&name).cloned().unwrap();
            (member.round_trip_ms.unwrap(), member.round_trip_least_ms)
        };
        assert_eq!(took(500), (500.0, None));
        assert_eq!(took(1).1, None);
        assert_eq!(took(2).1, Some(1.0));
        let (smooth, least) = took(500);
        assert!(smooth > 30.0 && least == Some(1.0), "{smooth} {least:?}");
        assert_eq!((took(80).1, took(90).1), (Some(2.0), Some(80.0)), "three in a row");
        assert_eq!(took(3).1, Some(3.0));
        reports.forget("az-b");
        assert_eq!(took(70), (70.0, None), "another process");
    }
}
