//! What the members tell each other of themselves, once a second and when it changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{Notify, watch};

use super::Shared;
use super::types::Node;
use crate::clock;
use crate::model::{Incarnation, Name, Time, brief};
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

/// The longest report, which is kept and told on in every status: two hundred route tables, as many as a VPC has by
/// EC2's quotas, with what EC2 says of each, have 11 KiB.
pub const REPORT_MAX_BYTES: usize = 16 * 1024;

/// What it lists, all in all: an empty entry has three bytes on the wire, and 64 in memory.
const PARTS_MAX: usize = 1024;

/// A member says more of itself than an honest one does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a report of {bytes} bytes and {parts} parts: an honest one has {REPORT_MAX_BYTES} and {PARTS_MAX} at most"
)]
pub(super) struct TooLong {
    bytes: usize,
    parts: usize,
}

fn check(report: &proto::Member) -> Result<(), TooLong> {
    let lists = [&report.configured_vips, &report.configured_tables, &report.restart_for];
    let parts = report.rights.len() + lists.map(Vec::len).iter().sum::<usize>();
    let bytes = report.encoded_len();
    if bytes > REPORT_MAX_BYTES || parts > PARTS_MAX { Err(TooLong { bytes, parts }) } else { Ok(()) }
}

/// This member's report as it may be told: where it is too long its texts are cut, then what EC2 says of tables is left
/// out, from the last on, then what else it lists. What is left is names, addresses and numbers.
fn fitting(mut mine: proto::Member) -> proto::Member {
    if check(&mine).is_ok() {
        return mine;
    }
    let texts = [
        &mut mine.zone,
        &mut mine.health_reason,
        &mut mine.not_eligible,
        &mut mine.cloud_error,
        &mut mine.config_refused,
    ];
    for text in texts.into_iter().chain(mine.rights.iter_mut().map(|right| &mut right.error)) {
        *text = brief(text);
    }
    for at in (0..mine.rights.len()).rev() {
        if check(&mine).is_ok() {
            return mine;
        }
        if let Some(right) = mine.rights.get_mut(at) {
            right.error.clear();
        }
    }
    while check(&mine).is_err()
        && (mine.rights.pop().is_some()
            || mine.restart_for.pop().is_some()
            || mine.configured_tables.pop().is_some()
            || mine.configured_vips.pop().is_some())
    {}
    mine
}

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
        let mine = fitting(mine);
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

    pub(super) fn exchange(&self, theirs: proto::Member) -> Result<proto::Member, TooLong> {
        self.keep(theirs, None)?;
        Ok(self.mine.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Whoever calls has seen that a member of the group says so of itself. `took`: how long its answer took.
    fn keep(&self, mut theirs: proto::Member, took: Option<Duration>) -> Result<(), TooLong> {
        check(&theirs)?;
        let Ok(name) = theirs.name.parse::<Name>() else { return Ok(()) };
        let least = took.map(|took| self.least(&name, took));
        self.heard.send_modify(|heard| {
            let known = heard.get(&name).map(|(_, member)| member);
            let before = known.and_then(|member| member.round_trip_ms);
            theirs.round_trip_least_ms =
                least.unwrap_or_else(|| known.and_then(|member| member.round_trip_least_ms));
            theirs.round_trip_ms = took.map_or(before, |took| Some(smoothed(before, took)));
            heard.insert(name, (clock::now(), theirs));
        });
        Ok(())
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
        self.keep_where(|member| member.as_str() != name);
    }

    /// Who has left the group is forgotten.
    fn keep_only(&self, members: &[(Incarnation, Node)]) {
        self.keep_where(|name| members.iter().any(|(_, node)| node.name == name.as_str()));
    }

    fn keep_where(&self, stays: impl Fn(&Name) -> bool) {
        self.heard.send_if_modified(|heard| {
            let before = heard.len();
            heard.retain(|member, _| stays(member));
            heard.len() != before
        });
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).retain(|member, _| stays(member));
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
                        if let Err(error) = shared.reports.keep(theirs, Some(clock::now().since(asked))) {
                            shared.refusals.tell(&node.name, format_args!("not taken: {error}"));
                        }
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

    #[test]
    fn fault_66_a_report_has_a_bound_and_this_members_own_is_within_it() {
        let member = |change: &dyn Fn(&mut proto::Member)| {
            let mut member = proto::Member { name: "az-b".into(), ..proto::Member::default() };
            change(&mut member);
            member
        };
        let right = |text: usize| proto::Right { error: "x".repeat(text), ..proto::Right::default() };
        let long = [
            member(&|m| m.health_reason = "x".repeat(REPORT_MAX_BYTES)),
            member(&|m| m.rights = vec![right(0); 4000]),
            member(&|m| m.rights = vec![right(300); 200]),
            member(&|m| m.configured_tables = vec!["x".repeat(300); 200]),
            member(&|m| m.restart_for = vec![String::new(); 4000]),
        ];
        for member in long {
            let reports = Reports::default();
            let refused = reports.exchange(member.clone()).unwrap_err().to_string();
            assert!(refused.contains("an honest one has 16384"), "{refused}");
            assert!(reports.heard().borrow().is_empty());
            reports.set(member);
            let mine = reports.exchange(proto::Member::default()).unwrap();
            assert_eq!((check(&mine), mine.name.as_str()), (Ok(()), "az-b"));
        }
        // As many tables as a VPC has.
        let table = |i: u32| format!("rtb-0123456789abc{i:04x}");
        let rights =
            (0..200).map(|i| proto::Right { route_table: table(i), allowed: true, ..Default::default() });
        let honest = member(&|m| {
            m.rights = rights.clone().collect();
            m.configured_tables = (0..200).map(table).collect();
            m.config_refused = "x".repeat(2000);
        });
        let reports = Reports::default();
        reports.set(honest.clone());
        assert_eq!(reports.exchange(honest.clone()).unwrap(), honest, "not a byte less");
    }

    /// A process that stood still for half a second has one such round trip under way; the next ones are as ever.
    #[test]
    fn fault_29_one_round_trip_that_was_held_up_makes_no_slow_network() {
        let reports = Reports::default();
        let name: Name = "az-b".parse().unwrap();
        let took = |ms: u64| {
            let theirs = proto::Member { name: name.to_string(), ..proto::Member::default() };
            reports.keep(theirs.clone(), Some(Duration::from_millis(ms))).unwrap();
            // What it says by itself measures nothing.
            reports.keep(theirs, None).unwrap();
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
