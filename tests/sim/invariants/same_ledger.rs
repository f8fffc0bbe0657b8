//! The ledger at an index is what the entries up to it make of an empty one, applied one by one. It is
//! so for every member, whether it came there by entries, by a snapshot and its tail, or after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::EntryPayload;
use vipd::ledger::Ledger;
use vipd::raft::store::Applied;
use vipd::raft::types::Entry;

use crate::disk::Disk;

use super::{Invariant, Seen};

#[derive(Default)]
pub struct SameLedger {
    /// The replay, and how far it has come.
    replay: Ledger,
    replayed: u64,
    /// At each index the term and the ledger: the replay's, or a member's that came before it.
    at: BTreeMap<u64, (u64, Arc<Ledger>)>,
    last: BTreeMap<usize, (u64, u64)>,
    pub replayed_in_all: u64,
    /// How often the replay went on from a member's ledger.
    pub taken_up: u64,
}

impl SameLedger {
    /// Replays what `disk` has of the entries up to `index`.
    fn replay(&mut self, disk: &Disk, index: u64) -> Option<String> {
        if self.replayed == 0 {
            // The first membership is the entry 0.
            disk.entries(0, 0).iter().for_each(|founding| self.take(founding));
        }
        for entry in disk.entries(self.replayed + 1, index) {
            let (index, term) = (entry.log_id.index, entry.log_id.leader_id.term);
            if index != self.replayed + 1 {
                break;
            }
            self.take(&entry);
            self.replayed = index;
            self.replayed_in_all += 1;
            let ledger = Arc::new(self.replay.clone());
            let wrong = self.differs(index, term, &ledger);
            self.at.insert(index, (term, ledger));
            if wrong.is_some() {
                return wrong;
            }
        }
        None
    }

    fn take(&mut self, entry: &Entry) {
        let (index, term) = (entry.log_id.index, entry.log_id.leader_id.term);
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(command) => self.replay.apply(index, term, command),
            EntryPayload::Membership(membership) => {
                let names = membership.nodes().filter_map(|(_, node)| node.name.parse().ok()).collect();
                self.replay.seat(names);
            }
        }
    }

    fn differs(&self, index: u64, term: u64, ledger: &Arc<Ledger>) -> Option<String> {
        let (first_term, first) = self.at.get(&index)?;
        let same = *first_term == term && (Arc::ptr_eq(first, ledger) || first == ledger);
        let words = || {
            let (a, b) = (&first.claim, &ledger.claim);
            format!("index {index}: term {first_term} {a:?}, and term {term} {b:?}")
        };
        (!same).then(words)
    }
}

impl Invariant for SameLedger {
    const PROPERTY: &'static str = "equal index, equal ledger";

    fn see(&mut self, _: Duration, seen: &Seen<'_>) -> Option<String> {
        let Seen::Applied { seat, applied, disk } = seen else { return None };
        let Applied { ledger, index, term } = applied;
        if *index == 0 || self.last.insert(*seat, (*index, *term)) == Some((*index, *term)) {
            return None;
        }
        let wrong = self.replay(disk, *index);
        let wrong = wrong.or_else(|| self.differs(*index, *term, ledger));
        self.at.entry(*index).or_insert_with(|| (*term, Arc::clone(ledger)));
        if self.replayed < *index && wrong.is_none() {
            // It came here by a snapshot of what was applied since the last look, by somebody who is gone. This one
            // ledger is taken as it is; whatever follows is replayed again.
            (self.replay, self.replayed) = (Ledger::clone(ledger), *index);
            self.taken_up += 1;
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use vipd::ledger::Command;
    use vipd::model::{Term, WallMs};
    use vipd::raft::types::LogId;

    use super::*;

    fn claim(index: u64, member: &str) -> Entry {
        let member = member.parse().expect("a name");
        let claim = Command::Claim { member, term: Term(1), at: WallMs(0), routes: Vec::new() };
        Entry { log_id: LogId::new_term_index(1, index), payload: openraft::EntryPayload::Normal(claim) }
    }

    /// What `members` one after the other make of an empty ledger.
    fn applied(members: &[&str]) -> Applied {
        let mut ledger = Ledger::default();
        for (index, member) in (1..).zip(members) {
            let openraft::EntryPayload::Normal(command) = claim(index, member).payload else { continue };
            ledger.apply(index, 1, &command);
        }
        Applied { ledger: Arc::new(ledger), index: members.len() as u64, term: 1 }
    }

    fn see(i: &mut SameLedger, seat: usize, disk: &Disk, members: &[&str]) -> bool {
        let applied = applied(members);
        i.see(Duration::ZERO, &Seen::Applied { seat, applied: &applied, disk }).is_some()
    }

    #[test]
    fn a_ledger_that_is_not_made_of_the_entries_or_not_anothers_is_seen() {
        let (mut i, disk) = (SameLedger::default(), Disk::new(0));
        disk.write([claim(1, "a"), claim(2, "b")]);
        assert!(!see(&mut i, 0, &disk, &["a"]) && !see(&mut i, 0, &disk, &["a", "b"]));
        // By a snapshot, and with nothing else on its disk.
        assert!(!see(&mut i, 1, &Disk::new(1), &["a", "b"]));
        assert!(see(&mut i, 2, &Disk::new(2), &["a", "c"]));
        // The entry says otherwise.
        disk.write([claim(3, "c")]);
        assert!(see(&mut i, 0, &disk, &["a", "b", "a"]));
        assert_eq!((i.replayed_in_all, i.taken_up), (3, 0));
    }

    #[test]
    fn after_a_gap_the_replay_goes_on() {
        let (mut i, disk) = (SameLedger::default(), Disk::new(0));
        disk.write([claim(3, "c"), claim(4, "d")]);
        assert!(!see(&mut i, 0, &disk, &["a", "b"]));
        assert_eq!((i.replayed_in_all, i.taken_up), (0, 1));
        assert!(see(&mut i, 0, &disk, &["a", "b", "c", "a"]), "replayed, and not believed");
        assert_eq!((i.replayed_in_all, i.taken_up), (2, 1));
    }
}
