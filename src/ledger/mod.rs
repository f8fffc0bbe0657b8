//! PURE: what the cluster agreed. The Raft log holds [`Command`]s; every member applies them in
//! order to a [`Ledger`], so equal applied index means equal ledger.
//!
//! ```text
//!   Handover ->            (before a transfer: a move is planned, from whom to whom)
//!   Recall   ->            (it was called off before the transfer)
//!   Claim    -> epoch E    (a leader becomes owner; carries its first intent)
//!   Intent   -> serial n   (routes about to be changed under E)
//!   Outcome  -> settles n  (how those calls ended is known)
//!   Moved    -> closes E's move: phases, request ids
//!   Calm     -> no call of an earlier claim can land any more
//!
//!   Drain, Undrain   what operators ordered: it stands until it is taken back, across restarts
//!   Pause, Resume
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{Epoch, Name, RouteKey, Term, WallMs};
use crate::mutant::{self, Mutant};

#[cfg(test)]
mod tests;

/// How many past moves are kept: a month of one a night, and a snapshot stays under 200 KiB.
pub const MOVES_KEPT: usize = 256;

/// The longest reason and the most request ids that are kept of one move.
const REASON_CHARS: usize = 300;
pub const REQUEST_IDS_KEPT: usize = 64;

/// How many names of removed members are kept, the newest: each takes an operator's order, and a group has a handful
/// of members.
pub const REMOVED_KEPT: usize = 256;

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Command {
    /// `member`, leader of `term`, becomes owner and is about to change `routes`.
    Claim {
        member: Name,
        term: Term,
        at: WallMs,
        routes: Vec<RouteKey>,
    },
    /// The owner under `epoch` is about to change `routes`. Serials of one epoch rise from 1; the
    /// claim's own intent is 0.
    Intent {
        epoch: Epoch,
        serial: u64,
        routes: Vec<RouteKey>,
    },
    /// Every call of the intents up to `serial` has ended, and on `settled` it is known how.
    Outcome {
        epoch: Epoch,
        serial: u64,
        settled: Vec<RouteKey>,
    },
    /// The move that `epoch` began is over; once more where every route was read back only after that.
    Moved {
        epoch: Epoch,
        phases: Phases,
        total_us: u64,
        in_sync: bool,
        request_ids: Vec<String>,
    },
    /// The leader of `term` is about to transfer its leadership.
    Handover {
        from: Name,
        to: Name,
        term: Term,
        reason: String,
        at: WallMs,
    },
    /// The handover that the leader of `term` announced at `at` was called off.
    Recall {
        term: Term,
        at: WallMs,
    },
    /// So much time has passed that EC2 takes no call signed under an earlier claim.
    Calm {
        epoch: Epoch,
    },
    /// `member` is not to own.
    Drain {
        member: Name,
    },
    Undrain {
        member: Name,
    },
    /// The VIP is to stay where it is, unless the leader dies.
    Pause {
        at: WallMs,
    },
    Resume,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Claim { member, term, routes, .. } => {
                write!(f, "claim({member}, term {term}, {} routes)", routes.len())
            }
            Command::Intent { epoch, serial, routes } => {
                write!(f, "intent({epoch}.{serial}, {} routes)", routes.len())
            }
            Command::Outcome { epoch, serial, .. } => write!(f, "outcome({epoch}.{serial})"),
            Command::Moved { epoch, total_us, .. } => write!(f, "moved({epoch}, {total_us} us)"),
            Command::Handover { from, to, term, .. } => {
                write!(f, "handover({from} to {to}, term {term})")
            }
            Command::Recall { term, .. } => write!(f, "recall(term {term})"),
            Command::Calm { epoch } => write!(f, "calm({epoch})"),
            Command::Drain { member } => write!(f, "drain({member})"),
            Command::Undrain { member } => write!(f, "undrain({member})"),
            Command::Pause { .. } => write!(f, "pause"),
            Command::Resume => write!(f, "resume"),
        }
    }
}

/// What the members agreed on so far.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// The newest claim: its member is the owner.
    pub claim: Option<Claim>,
    /// A move that was announced and not yet made.
    pub handover: Option<Handover>,
    /// Routes with a call of the newest claim whose outcome is not known, and its serial.
    #[serde(with = "pairs")]
    pub unsettled: BTreeMap<RouteKey, u64>,
    /// A claim before the newest one left calls whose outcome is not known.
    pub stray: bool,
    /// Past moves, oldest first, at most [`MOVES_KEPT`].
    pub moves: VecDeque<Move>,
    /// Whom operators keep from owning. A snapshot of a version without it has none.
    #[serde(default)]
    pub drained: BTreeSet<Name>,
    /// Since when operators keep the group from moving.
    #[serde(default)]
    pub paused: Option<WallMs>,
    /// The members, by the newest membership.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub seated: BTreeSet<Name>,
    /// Who was a member and is none any more, the newest last, at most [`REMOVED_KEPT`]: what lists them still, lets
    /// nobody in by their names. A snapshot of a version without it has none.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub removed: VecDeque<Name>,
}

/// A claim that was applied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    pub member: Name,
    pub term: Term,
    pub epoch: Epoch,
    pub at: WallMs,
    /// The member of the claim before this one.
    pub previous: Option<Name>,
    pub kind: Kind,
    /// The newest intent under this claim.
    pub serial: u64,
    /// The move (or the first look) that this claim began is over.
    pub done: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Handover {
    pub from: Name,
    pub to: Name,
    pub term: Term,
    pub reason: String,
    pub at: WallMs,
}

/// What made the VIP go to another member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The group's first claim.
    First,
    /// Unplanned.
    Failover,
    /// Planned.
    Switchover,
    /// The owner claimed anew: nothing moved.
    Renewal,
}

impl Kind {
    pub fn label(self) -> &'static str {
        match self {
            Kind::First => "first",
            Kind::Failover => "failover",
            Kind::Switchover => "switchover",
            Kind::Renewal => "renewal",
        }
    }
}

/// Microseconds, each from the end of the phase before it; their sum is the total.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Phases {
    pub detect: Option<u64>,
    pub elect: Option<u64>,
    pub claim: Option<u64>,
    pub address: Option<u64>,
    pub route: Option<u64>,
    pub verify: Option<u64>,
}

/// One move of the VIP. `total_us` is there once it is over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Move {
    pub kind: Kind,
    pub from: Option<Name>,
    pub to: Name,
    pub term: Term,
    pub epoch: Epoch,
    pub reason: String,
    pub at: WallMs,
    pub total_us: Option<u64>,
    /// Every route table showed the new target when the move ended.
    pub in_sync: bool,
    pub phases: Phases,
    pub request_ids: Vec<String>,
}

impl Ledger {
    /// The members are these now. Whether somebody has gone.
    pub fn seat(&mut self, now: BTreeSet<Name>) -> bool {
        let before = std::mem::replace(&mut self.seated, now);
        self.removed.retain(|name| !self.seated.contains(name));
        let kept = self.removed.len();
        self.removed.extend(before.into_iter().filter(|name| !self.seated.contains(name)));
        let gone = self.removed.len() > kept;
        let surplus = self.removed.len().saturating_sub(REMOVED_KEPT);
        self.removed.drain(..surplus);
        gone
    }

    /// Whether the move of the newest claim has not been read back everywhere, as far as its owner has said.
    pub fn is_out_of_sync(&self) -> bool {
        let epoch = self.claim.as_ref().map(|c| c.epoch);
        self.moves.back().is_some_and(|m| Some(m.epoch) == epoch && !m.in_sync)
    }

    pub fn owner(&self) -> Option<&Name> {
        self.claim.as_ref().map(|c| &c.member)
    }

    pub fn last_move(&self) -> Option<&Move> {
        self.moves.back()
    }

    /// Applies the entry at `index` of `term`. A command that no longer fits (of a claim that is
    /// not the newest one, say) changes nothing; which ones do depends on the ledger alone.
    pub fn apply(&mut self, index: u64, term: u64, command: &Command) {
        match command {
            Command::Claim { member, term: claimed, at, routes } => {
                // A proposal that outlived its term is no claim (Raft paper, section 5.4.2: an
                // entry's term is that of the leader that made it). One that was proposed twice, since
                // the log was slow, is one claim: its epoch is the first entry's.
                let again = self.claim.as_ref().is_some_and(|c| c.member == *member && c.term == *claimed);
                // A new leader may propose before it has applied the entry that drains it.
                let drained = self.drained.contains(member) && !mutant::on(Mutant::DrainedClaim);
                if claimed.0 == term && !again && !drained {
                    self.claim(Epoch(index), member, *claimed, *at, routes);
                }
            }
            Command::Intent { epoch, serial, routes } => {
                let Some(claim) = self.newest(*epoch) else {
                    return;
                };
                claim.serial = claim.serial.max(*serial);
                self.unsettled.extend(routes.iter().map(|r| (r.clone(), *serial)));
            }
            Command::Outcome { epoch, serial, settled } => {
                if self.newest(*epoch).is_some() {
                    self.unsettled.retain(|route, s| *s > *serial || !settled.contains(route));
                }
            }
            Command::Moved { epoch, phases, total_us, in_sync, request_ids } => {
                let Some(claim) = self.newest(*epoch) else {
                    return;
                };
                claim.done = true;
                if let Some(last) = self.moves.back_mut().filter(|m| m.epoch == *epoch) {
                    last.phases = *phases;
                    last.total_us = Some(*total_us);
                    last.in_sync = *in_sync;
                    last.request_ids = request_ids.iter().take(REQUEST_IDS_KEPT).cloned().collect();
                }
            }
            Command::Handover { from, to, term: of, reason, at } => {
                if of.0 == term {
                    self.handover = Some(Handover {
                        from: from.clone(),
                        to: to.clone(),
                        term: *of,
                        reason: reason.chars().take(REASON_CHARS).collect(),
                        at: *at,
                    });
                }
            }
            Command::Recall { term: of, at } => {
                self.handover.take_if(|h| h.term == *of && h.at == *at);
            }
            Command::Calm { epoch } => {
                if self.newest(*epoch).is_some() {
                    self.stray = false;
                    self.unsettled.clear();
                }
            }
            Command::Drain { member } => {
                self.drained.insert(member.clone());
            }
            Command::Undrain { member } => {
                self.drained.remove(member);
            }
            // Paused twice, it has been paused since the first.
            Command::Pause { at } => {
                self.paused.get_or_insert(*at);
            }
            Command::Resume => self.paused = None,
        }
    }

    fn newest(&mut self, epoch: Epoch) -> Option<&mut Claim> {
        self.claim.as_mut().filter(|c| c.epoch == epoch)
    }

    fn claim(&mut self, epoch: Epoch, member: &Name, term: Term, at: WallMs, routes: &[RouteKey]) {
        let previous = self.claim.as_ref().map(|c| c.member.clone());
        let planned = self.handover.take().filter(|h| {
            h.to == *member && Some(&h.from) == previous.as_ref() && Some(term.0) == h.term.0.checked_add(1)
        });
        let kind = match (&previous, &planned) {
            (None, _) => Kind::First,
            (Some(p), _) if p == member => Kind::Renewal,
            (Some(_), Some(_)) => Kind::Switchover,
            (Some(_), None) => Kind::Failover,
        };
        if kind != Kind::Renewal {
            let reason = match (kind, planned) {
                (Kind::First, _) => "first start of the group".to_owned(),
                (_, Some(h)) => h.reason,
                (_, None) => "leader lost".to_owned(),
            };
            self.moves.push_back(Move {
                kind,
                from: previous.clone(),
                to: member.clone(),
                term,
                epoch,
                reason,
                at,
                total_us: None,
                in_sync: false,
                phases: Phases::default(),
                request_ids: Vec::new(),
            });
            while self.moves.len() > MOVES_KEPT {
                self.moves.pop_front();
            }
        }
        self.stray |= !self.unsettled.is_empty();
        self.unsettled = routes.iter().map(|r| (r.clone(), 0)).collect();
        self.claim =
            Some(Claim { member: member.clone(), term, epoch, at, previous, kind, serial: 0, done: false });
    }
}

/// A map with keys that JSON cannot hold as such, as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::RouteKey;

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<RouteKey, u64>, s: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<RouteKey, u64>, D::Error> {
        Ok(Vec::<(RouteKey, u64)>::deserialize(d)?.into_iter().collect())
    }
}
