//! Whether the group has removed this member.
//!
//! A leader stops sending to a voter with the very entry that removes it, so that the member need not learn of
//! it that way. It goes on reporting once a second to whom it knows, and says which membership it knows: who
//! has a newer one, committed, without it answers with that one's log index.

use std::sync::atomic::Ordering;

use openraft::async_runtime::WatchReceiver as _;

use super::Shared;
use super::codec::MAX_NUMBER;
use super::types::StoredMembership;
use crate::clock;
use crate::model::{Incarnation, Term};
use crate::mutant::{self, Mutant};

/// Where in the log a membership stands, counted from 1, since the first one is the entry 0; 0: nowhere yet.
pub(super) fn place(membership: &StoredMembership) -> u64 {
    membership.log_id().map_or(0, |id| id.index + 1)
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

    /// The membership, committed and newer than `known`, that is without `who`.
    pub(super) fn is_without(&self, who: Incarnation, known: u64) -> Option<u64> {
        let metrics = self.raft.get()?.server_metrics();
        let metrics = metrics.borrow_watched();
        let committed = &metrics.committed_membership_config;
        let newer = known > 0 && place(committed) > known;
        (newer && committed.nodes().all(|(id, _)| *id != who.0)).then(|| place(committed))
    }
}
