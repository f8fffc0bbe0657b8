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
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;

use super::Shared;
use super::codec::MAX_NUMBER;
use super::types::StoredMembership;
use crate::clock;
use crate::decide::MEMBERS_MAX;
use crate::model::{Incarnation, Name, Term};
use crate::mutant::{self, Mutant};

/// Where in the log a membership stands, counted from 1, since the first one is the entry 0; 0: nowhere yet.
pub(super) fn place(membership: &StoredMembership) -> u64 {
    membership.log_id().map_or(0, |id| id.index + 1)
}

/// Who is out of the group and hears no leader for so long goes by its file: several elections.
const ALONE: Duration = Duration::from_secs(3);

/// Who is in the group by another member's word.
#[derive(Debug)]
struct Roster {
    at: u64,
    names: BTreeSet<Name>,
}

/// The newest word of each.
#[derive(Default, Debug)]
pub(super) struct Rosters(BTreeMap<Incarnation, Roster>);

impl Rosters {
    fn hear(&mut self, from: Incarnation, at: u64, names: &[String]) {
        if at <= MAX_NUMBER && names.len() <= MEMBERS_MAX {
            let names = names.iter().filter_map(|name| name.parse().ok()).collect();
            self.0.insert(from, Roster { at, names });
        }
    }

    fn keep_only(&mut self, members: &BTreeSet<Incarnation>) {
        self.0.retain(|id, _| members.contains(id));
    }

    /// Whether that name is in the newest membership that one of these members knows, after the one at `known`.
    fn has(&self, name: &Name, known: u64, members: &BTreeSet<Incarnation>) -> bool {
        let said = self.0.iter().filter(|(id, _)| members.contains(*id)).map(|(_, roster)| roster);
        let newest = said.max_by_key(|roster| roster.at).filter(|roster| roster.at > known);
        newest.is_some_and(|roster| roster.names.contains(name))
    }
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
    /// was not removed since. Who is out of the group itself, or not in it yet, may have missed a return, with nobody left to
    /// ask: it goes by its file where it hears no leader. It has no vote to be misled of.
    pub(super) fn knows(&self, name: &Name) -> bool {
        let listed = self.members.iter().any(|m| m.name == *name);
        let Some(raft) = self.raft.get() else { return listed };
        let (members, seated, am_in, committed_at) = {
            let metrics = raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let (effective, committed) = (&metrics.membership_config, &metrics.committed_membership_config);
            // What this member alone has in its log may never be agreed.
            let nodes = || effective.nodes().chain(committed.nodes());
            let members: BTreeSet<_> = nodes().map(|(id, _)| Incarnation(*id)).collect();
            let seated = nodes().any(|(_, node)| node.name == name.as_str());
            let am_in = effective.nodes().any(|(id, _)| *id == self.me.0) && self.removed_at().is_none();
            (members, seated, am_in, place(committed))
        };
        let counts = am_in || clock::now().since(self.last_heard()) < ALONE;
        let removed = counts && self.applied.borrow().ledger.removed.contains(name);
        seated || (listed && !removed) || self.rosters().has(name, committed_at, &members)
    }

    /// What another member says of who is in the group.
    pub(super) fn hear_of_members(&self, from: Incarnation, at: u64, names: &[String]) {
        let members = self.nodes().into_keys().collect();
        let mut rosters = self.rosters();
        rosters.hear(from, at, names);
        rosters.keep_only(&members);
    }

    fn rosters(&self) -> MutexGuard<'_, Rosters> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(of: &[u64]) -> BTreeSet<Incarnation> {
        of.iter().copied().map(Incarnation).collect()
    }

    fn rosters(said: &[(u64, u64, &[&str])]) -> Rosters {
        let mut rosters = Rosters::default();
        for (from, at, names) in said {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            rosters.hear(Incarnation(*from), *at, &names);
        }
        rosters
    }

    #[test]
    fn a_newer_word_of_a_member_counts_and_replaces_its_older_one() {
        let name: Name = "az-c".parse().unwrap();
        let heard = rosters(&[(1, 7, &["az-a", "az-c"])]);
        assert!(heard.has(&name, 6, &ids(&[1, 2])));
        assert!(!heard.has(&name, 7, &ids(&[1, 2])), "what is known here is as new");
        assert!(!heard.has(&"az-d".parse().unwrap(), 6, &ids(&[1])), "it is not in it");
        let replaced = rosters(&[(1, 7, &["az-c"]), (1, 8, &["az-a"])]);
        assert!(!replaced.has(&name, 6, &ids(&[1])));
        let two = rosters(&[(1, 7, &["az-c"]), (2, 8, &["az-a"])]);
        assert!(!two.has(&name, 6, &ids(&[1, 2])), "the newest word of all counts");
        assert!(two.has(&name, 6, &ids(&[1])));
    }

    #[test]
    fn who_is_out_itself_vouches_for_nobody() {
        let name: Name = "az-c".parse().unwrap();
        let mut heard = rosters(&[(1, MAX_NUMBER, &["az-c"])]);
        assert!(heard.has(&name, 6, &ids(&[1])));
        assert!(!heard.has(&name, 6, &ids(&[2, 3])), "it has been removed since");
        heard.keep_only(&ids(&[2, 3]));
        assert!(!heard.has(&name, 6, &ids(&[1])), "and came back: what it said before is gone");
    }

    #[test]
    fn what_no_group_can_have_is_not_heard() {
        let name: Name = "az-c".parse().unwrap();
        assert!(!rosters(&[(1, MAX_NUMBER + 1, &["az-c"])]).has(&name, 6, &ids(&[1])));
        let many: Vec<&str> = vec!["az-c"; MEMBERS_MAX + 1];
        assert!(!rosters(&[(1, 7, &many)]).has(&name, 6, &ids(&[1])));
    }
}
