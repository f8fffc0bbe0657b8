//! EC2's log of calls, and the fence as EC2 sees it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::lab::{Lab, MEMBERS};

/// One call that reached EC2.
#[derive(Debug, Deserialize)]
pub struct Call {
    pub action: String,
    /// By its source address.
    pub member: Option<String>,
    /// By its User-Agent.
    pub claims_member: Option<String>,
    pub term: Option<u64>,
    pub epoch: Option<u64>,
    pub table: Option<String>,
    pub destination: Option<String>,
    pub eni: Option<String>,
    pub dry_run: bool,
    pub source: String,
    /// One a connection.
    pub port: u16,
    pub faults: Vec<String>,
    pub outcome: String,
    pub received_boot_ns: u64,
    pub received_unix_ms: u64,
    pub executed_boot_ns: Option<u64>,
}

impl Call {
    /// Changes a route, or would.
    pub fn swaps(&self) -> bool {
        matches!(self.action.as_str(), "ReplaceRoute" | "CreateRoute") && !self.dry_run
    }

    pub fn is_of(&self, member: &str) -> bool {
        self.member.as_deref() == Some(member)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let (at, action, outcome, faults) =
            (self.received_boot_ns, &self.action, &self.outcome, &self.faults);
        let who = self.member.as_ref().unwrap_or(&self.source);
        let (term, epoch) = (self.term.unwrap_or_default(), self.epoch.unwrap_or_default());
        let (table, eni) = (text(&self.table), text(&self.eni));
        write!(f, "{at} {who} term {term} epoch {epoch} {action} {table} {eni} {outcome} {faults:?}")
    }
}

impl Lab {
    pub fn calls(&self) -> Vec<Call> {
        serde_json::from_value(self.json(&["calls"])).unwrap()
    }

    /// The members' own that change routes, in the order in which they came.
    pub fn swaps(&self) -> Vec<Call> {
        self.calls().into_iter().filter(|c| c.swaps()).collect()
    }

    pub fn swaps_since(&self, at_ns: u64) -> Vec<Call> {
        self.swaps().into_iter().filter(|c| c.received_boot_ns >= at_ns).collect()
    }

    /// FENCING.md, F-a, as EC2 sees it: each call comes from the member whose claim it names, after that member had
    /// the claim applied, which its log says; each claim is one member's in one term, as the ledger's history has it; no
    /// call comes after the lease of its term has ended, and once a newer claim has called no older one does. A lease
    /// has ended when another's campaign has a quorum (FENCING.md, section 2). The history knows when that campaign
    /// began, with its last pre-vote, which is earlier by a message's way; a lease's margin is more than that. Where no
    /// packet is held up, the order in which calls come is the order in which they were sent.
    pub fn assert_fenced(&self) {
        self.assert_fenced_but(|_| false);
    }

    /// As [`assert_fenced`](Self::assert_fenced), of every call but what FENCING.md section 4 says remains: those are
    /// the caller's own under its own claim, only late.
    pub fn assert_fenced_but(&self, late: impl Fn(&Call) -> bool) {
        // A group that was founded anew counts from one again.
        let founded_ms =
            self.told(" the group is founded group=").into_iter().map(|(_, at_ms, _)| at_ms).max();
        let founded_ms = founded_ms.expect("a group");
        let (moves, applied) = (self.moves(), self.applied(founded_ms));
        let mut newest = (0, 0);
        for call in self.swaps() {
            let came_ms = i64::try_from(call.received_unix_ms).unwrap();
            if came_ms < founded_ms {
                continue;
            }
            assert_eq!(call.member, call.claims_member, "{call}");
            let (Some(term), Some(epoch), Some(member)) = (call.term, call.epoch, call.member.clone()) else {
                panic!("a call without its claim: {call}");
            };
            let claim =
                applied.get(&epoch).unwrap_or_else(|| panic!("no member had its claim applied: {call}"));
            assert_eq!((claim.term, &claim.member), (term, &member), "another member's claim: {call}");
            // One machine has one wall clock.
            assert!(claim.at_ms <= came_ms, "before its claim at {}: {call}", claim.at_ms);
            match moves.get(&epoch) {
                Some(one) => assert_eq!((one.term, &one.to), (term, &member), "not as in the ledger: {call}"),
                // A claim that moves nothing: the owner's own, in a later term.
                None => {
                    let (_, before) = moves.range(..epoch).next_back().expect("a first claim");
                    assert!(before.to == member && term > before.term, "the ledger does not know it: {call}");
                }
            }
            if !late(&call) {
                let ended_ms = moves.range(epoch + 1..).next().map_or(i64::MAX, |(_, m)| m.campaigned_ms());
                assert!(came_ms <= ended_ms, "its lease had ended at {ended_ms}: {came_ms}: {call}");
                assert!((term, epoch) >= newest, "a call under an older claim than {newest:?}: {call}");
                newest = (term, epoch);
            }
        }
    }

    /// Each line of the members' logs with these words: whose, when (Unix milliseconds), and what follows.
    fn told(&self, words: &str) -> Vec<(String, i64, String)> {
        let mut all = Vec::new();
        for zone in std::fs::read_dir(&self.dir).unwrap() {
            let member = zone.unwrap().file_name().into_string().unwrap();
            for line in self.vipd_log(&member).lines() {
                let Some((head, rest)) = line.split_once(words) else { continue };
                let at: jiff::Timestamp = head.split_whitespace().next().unwrap().parse().unwrap();
                all.push((member.clone(), at.as_millisecond(), rest.to_owned()));
            }
        }
        all
    }

    /// The claims since `from_ms` that members had applied as their own, by epoch.
    fn applied(&self, from_ms: i64) -> BTreeMap<u64, Applied> {
        let mut all = BTreeMap::new();
        for (member, at_ms, claim) in self.told(" this member owns the VIP term=") {
            if at_ms < from_ms {
                continue;
            }
            let (term, epoch) = claim.split_once(" epoch=").unwrap();
            let new = Applied { term: term.parse().unwrap(), member, at_ms };
            let other = all.insert(epoch.parse().unwrap(), new);
            assert!(other.is_none(), "two members own by the claim {epoch}: {other:?}");
        }
        all
    }

    /// The ledger's claims by epoch. Renewals are no moves, so this lacks them. Each member answers from what it has
    /// applied, and one that has just started may lack the newest: what any has counts, and they must agree.
    fn moves(&self) -> BTreeMap<u64, Move> {
        let mut all = BTreeMap::<u64, Move>::new();
        for member in MEMBERS {
            let history = self.vipctl(member, &["history", "-n", "0"]);
            if !history.status.success() {
                continue;
            }
            for one in serde_json::from_slice::<Vec<Move>>(&history.stdout).unwrap() {
                match all.get_mut(&one.epoch) {
                    Some(known) => {
                        assert_eq!((known.term, &known.to), (one.term, &one.to), "two histories: {one:?}");
                        // The phases come with the end of the move.
                        known.phases_ms = known.phases_ms.take().or(one.phases_ms);
                    }
                    None => drop(all.insert(one.epoch, one)),
                }
            }
        }
        assert!(!all.is_empty(), "no member has a history");
        all
    }
}

/// A claim that a member had applied.
#[derive(Debug)]
struct Applied {
    term: u64,
    member: String,
    at_ms: i64,
}

/// One move of the ledger's history.
#[derive(Debug, Deserialize)]
struct Move {
    epoch: u64,
    term: u64,
    kind: String,
    to: String,
    /// When its owner proposed the claim.
    at: String,
    phases_ms: Option<Phases>,
}

#[derive(Debug, Deserialize)]
struct Phases {
    /// From the pre-vote to leading.
    elect: Option<f64>,
}

impl Move {
    fn claimed_ms(&self) -> i64 {
        self.at.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    /// When the pre-vote for its owner was asked for. In a switchover the one before closed its gate
    /// long before, but that is not in the history.
    fn campaigned_ms(&self) -> i64 {
        let elect = self.phases_ms.as_ref().and_then(|p| p.elect).filter(|_| self.kind == "failover");
        self.claimed_ms() - elect.map_or(0, |ms| ms.floor() as i64)
    }
}
