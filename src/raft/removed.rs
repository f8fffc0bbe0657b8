//! Whether the group has removed this member, or another that asks.
//!
//! A leader stops sending to a voter with the very entry that removes it, so that the member need not learn of
//! it that way. It goes on reporting once a second to whom it knows, and says which membership it knows: who
//! has a newer one, committed, without it answers with that one's log index.
//!
//! A name that was in an applied membership and is in none any more is let in by no file that lists it still: the ledger
//! keeps such names (docs/decisions/0041). A member that lags behind may hold one for removed that was taken in again, and
//! that may lead: so each answer to a report says who is in the group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use openraft::async_runtime::WatchReceiver as _;

use super::Shared;
use super::codec::MAX_NUMBER;
use super::types::{Node, StoredMembership};
use crate::clock;
use crate::decide::MEMBERS_MAX;
use crate::model::{Incarnation, Name, Term};
use crate::mutant::{self, Mutant};

/// Where in the log a membership stands, counted from 1, since the first one is the entry 0; 0: nowhere yet.
pub(super) fn place(membership: &StoredMembership) -> u64 {
    membership.log_id().map_or(0, |id| id.index + 1)
}

/// Who is in the group by another member's word.
#[derive(Debug)]
pub(super) struct Roster {
    at: u64,
    names: BTreeSet<Name>,
}

impl Shared {
    /// The newest membership that has this member; 0: none does.
    pub(super) fn included_at(&self) -> u64 {
        self.included_at.load(Ordering::Relaxed)
    }

    /// The membership that is without this member, where it was in one before.
    pub(super) fn removed_at(&self) -> Option<u64> {
        Some(self.removed_at.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// Compares what openraft knows of the membership.
    pub(super) fn look_for_myself(&self) {
        let Some(raft) = self.raft.get() else { return };
        let (included, without) = {
            let metrics = raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let has_me = |m: &StoredMembership| m.nodes().any(|(id, _)| *id == self.me.0);
            let (effective, committed) = (&metrics.membership_config, &metrics.committed_membership_config);
            let included = has_me(effective).then(|| place(effective));
            (included, (!has_me(committed)).then(|| place(committed)))
        };
        if let Some(at) = included {
            self.included_at.fetch_max(at, Ordering::Relaxed);
            if self.removed_at().is_some_and(|removed| removed < at) {
                self.removed_at.store(0, Ordering::Relaxed);
                tracing::info!(entry = at - 1, "the group has taken this member in again");
                self.allow_elections();
            }
        } else if let Some(at) = without.filter(|at| self.included_at() > 0 && *at > self.included_at()) {
            self.put_out(at);
        }
    }

    /// Another member says so. Not believed of whoever leads with a valid lease or is bound to one that does: a leader
    /// sends nothing to whom its membership is without, so that this is no true word of a member of that group. Whom the
    /// group has in fact removed hears no leader any more, and believes it at the next report.
    pub(super) fn hear_of_removal(&self, at: u64) {
        let now = clock::now();
        let leads = self.gate.current().is_some_and(|permit| now < permit.deadline());
        let bound = !self.promise().may_vote(now, Term(0));
        if leads || bound || at > MAX_NUMBER {
            tracing::debug!(at, "that this member was removed is not believed while it serves");
        } else {
            self.put_out(at);
        }
    }

    /// The membership at `at` is without this member: it votes no more, campaigns no more, and holds no
    /// address. Its data stays as it is.
    pub(super) fn put_out(&self, at: u64) {
        if at <= self.included_at() || self.removed_at().is_some() {
            return;
        }
        self.removed_at.store(at, Ordering::Relaxed);
        tracing::error!(
            entry = at - 1,
            "the group has removed this member: it neither votes nor leads, and holds no address; stop vipd here, \
             or take it in again: vipctl member add {} --peer HOST:PORT",
            self.name
        );
        self.allow_elections();
        self.review.notify_one();
    }

    /// No campaign in quarantine (FENCING.md, hole 2), and none of a member that was removed.
    pub(super) fn allow_elections(&self) {
        let over = clock::now() >= self.quarantine_until() || mutant::on(Mutant::QuarantineCampaign);
        let may = over && self.removed_at().is_none();
        if let Some(raft) = self.raft.get() {
            raft.runtime_config().elect(may);
        }
    }

    /// Whether one of that name is let in by its certificate alone: it is in the membership, or listed in the file and
    /// was not removed since.
    pub(super) fn knows(&self, name: &Name) -> bool {
        let named = |node: &Node| node.name == name.as_str();
        let (seated, committed_at) = match self.raft.get() {
            None => (false, 0),
            Some(raft) => {
                let metrics = raft.server_metrics();
                let metrics = metrics.borrow_watched();
                let (effective, committed) =
                    (&metrics.membership_config, &metrics.committed_membership_config);
                // What this member alone has in its log may never be agreed.
                let mut nodes = effective.nodes().chain(committed.nodes());
                (nodes.any(|(_, node)| named(node)), place(committed))
            }
        };
        if seated {
            return true;
        }
        let removed = self.applied.borrow().ledger.removed.contains(name);
        (!removed && self.members.iter().any(|m| m.name == *name))
            || self.rosters().values().any(|roster| roster.at > committed_at && roster.names.contains(name))
    }

    /// What another member says of who is in the group; the newest of each that is a member counts.
    pub(super) fn hear_of_members(&self, from: Incarnation, at: u64, names: &[String]) {
        if at > MAX_NUMBER || names.len() > MEMBERS_MAX {
            return;
        }
        let names = names.iter().filter_map(|name| name.parse().ok()).collect();
        let nodes = self.nodes();
        let mut rosters = self.rosters();
        rosters.insert(from, Roster { at, names });
        rosters.retain(|id, _| nodes.contains_key(id));
    }

    fn rosters(&self) -> MutexGuard<'_, BTreeMap<Incarnation, Roster>> {
        self.rosters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest membership that this member knows to be committed: its place, and who is in it.
    pub(super) fn roster(&self) -> (u64, Vec<String>) {
        let Some(raft) = self.raft.get() else { return (0, Vec::new()) };
        let metrics = raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let committed = &metrics.committed_membership_config;
        let names: BTreeSet<_> = committed.nodes().map(|(_, node)| node.name.clone()).collect();
        (place(committed), names.into_iter().collect())
    }

    /// The membership, committed and newer than `known`, that is without `who`.
    pub(super) fn is_without(&self, who: Incarnation, known: u64) -> Option<u64> {
        let metrics = self.raft.get()?.server_metrics();
        let metrics = metrics.borrow_watched();
        let committed = &metrics.committed_membership_config;
        let newer = known > 0 && place(committed) > known;
        (newer && committed.nodes().all(|(id, _)| *id != who.0)).then(|| place(committed))
    }
}
