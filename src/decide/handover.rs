//! Handing leadership over: the permit closes, calls in the air end, the ledger learns of it, then
//! the trigger (FENCING.md, hole 7).

use std::collections::BTreeSet;
use std::time::Duration;

use super::leading::Leading;
use super::owning::Owning;
use super::{
    Answer, Ask, AskMode, Asker, Decide, Effect, Now, PROPOSAL_WAIT, Peer, Refusal, Stage, Story, WhilePaused,
};
use crate::ledger::{Command, Kind};
use crate::model::{Epoch, Health, Incarnation, Name, Term, Time, WallMs};
use crate::mutant::{self, Mutant};

/// A target may be so many entries behind what the leader last heard of it: reports are up to a
/// second old, and a member writes a handful of entries in a move.
const LAG_ALLOWED: u64 = 64;

/// A move resets connections that are open across it: a script that repeats itself shall not do so in
/// every moment (FAULTS 67).
pub(super) const TRANSFER_EVERY: Duration = Duration::from_secs(1);

/// Whom leadership may go to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Want {
    /// One that may own and is known to be healthy (or is not checked at all).
    Healthy,
    /// One that may own and is not known to be unhealthy.
    Fit,
    /// One that may own.
    Any,
    /// One that may own, is not known to be unhealthy, and has reached EC2 after that time.
    Reaching {
        since: Time,
    },
    /// One that may own, is not known to be unhealthy, and may change what this member may not.
    Permitted,
    This(Name),
}

/// How little is known for a member's health.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Doubt {
    None,
    Unknown,
    Unhealthy,
}

impl Doubt {
    pub(super) fn of(health: &Health) -> Self {
        match health {
            Health::Healthy | Health::NotChecked => Doubt::None,
            Health::Unknown(_) => Doubt::Unknown,
            Health::Unhealthy(_) => Doubt::Unhealthy,
        }
    }
}

#[derive(Debug)]
pub(super) struct Handing {
    /// Comes back when the handover is called off.
    pub(super) owning: Box<Owning>,
    to: Name,
    reason: String,
    since: Time,
    /// The ledger is to know, since when, and the record's wall time: it tells one record of a term
    /// from another.
    recorded: Option<(Time, WallMs)>,
    failed: bool,
}

impl Handing {
    pub(super) fn proposal_failed(&mut self, now: Now, command: &Command) {
        self.owning.proposal_failed(now, command);
        if let Command::Handover { term, to, at, .. } = command {
            self.failed |= self.is_record(*term, to, *at);
        }
    }

    fn is_record(&self, term: Term, to: &Name, at: WallMs) -> bool {
        term == self.owning.term && *to == self.to && self.recorded.is_some_and(|(_, mine)| mine == at)
    }
}

/// Somebody waits for a switchover to end.
#[derive(Debug)]
pub(super) struct Watching {
    ask: Ask,
    to: Name,
    from_epoch: Option<Epoch>,
}

impl Decide {
    pub(super) fn take_ask(&mut self, now: Now, ask: Ask, out: &mut Vec<Effect>) {
        let id = ask.id;
        let target = match self.target(now, &ask) {
            Ok(to) => to,
            Err(refusal) => return out.push(Effect::Answer(id, Err(refusal))),
        };
        if ask.mode == AskMode::DryRun {
            let would = Answer::Would { from: self.ledger.owner().cloned(), to: target };
            return out.push(Effect::Answer(id, Ok(would)));
        }
        let left = self.too_soon(now);
        if ask.by == Asker::Operator && !left.is_zero() {
            let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
            return out.push(Effect::Answer(id, Err(Refusal::TooSoon(left_ms))));
        }
        let Stage::Owning(owning) = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return;
        };
        self.transferred = Some(now.time);
        let reason = ask.reason.clone();
        self.watching = Some(Watching { ask, to: target.clone(), from_epoch: Some(owning.epoch) });
        self.stage = self.begin_handover(now, owning, target, reason, out);
    }

    /// How long until operators may move the VIP again. A new owner counts from the claim that a move on
    /// purpose brought it, since the one that was asked is another member.
    fn too_soon(&self, now: Now) -> Duration {
        let brought = match (&self.stage, &self.ledger.claim) {
            (Stage::Owning(o), Some(claim)) if claim.kind == Kind::Switchover => Some(o.since),
            _ => None,
        };
        let last = self.transferred.max(brought);
        last.map_or(Duration::ZERO, |at| TRANSFER_EVERY.saturating_sub(now.time.since(at)))
    }

    /// Whom an ask means, or why it cannot be done.
    pub(super) fn target(&self, now: Now, ask: &Ask) -> Result<Name, Refusal> {
        if let Some(w) = &self.watching {
            return Err(Refusal::UnderWay(w.to.clone()));
        }
        match &self.stage {
            Stage::Owning(_) if self.quorum_stands(now.time) => {}
            Stage::Owning(_) => return Err(Refusal::NoQuorum),
            Stage::Handing(h) => return Err(Refusal::UnderWay(h.to.clone())),
            Stage::Idle => return Err(Refusal::NotLeader),
            Stage::Leading(_) | Stage::Spent { .. } => {
                return Err(self.nobody_may_own().map_or(Refusal::NoClaim, Refusal::Nobody));
            }
        }
        if self.ledger.paused.is_some() && ask.while_paused == WhilePaused::Refuse {
            return Err(Refusal::Paused);
        }
        match &ask.to {
            Some(name) => self.refusal(name).map_or_else(|| Ok(name.clone()), Err),
            None => self.best(Want::Fit).ok_or_else(|| Refusal::Nobody(self.why_nobody())),
        }
    }

    /// Why `name` is no target of a switchover; `None` where it is one.
    pub(super) fn refusal(&self, name: &Name) -> Option<Refusal> {
        let Some(member) = self.raft.member(name) else {
            return Some(Refusal::Unknown(name.clone()));
        };
        if *name == self.settings.me {
            return Some(Refusal::Itself(name.clone()));
        }
        if member.witness {
            return Some(Refusal::Witness(name.clone()));
        }
        if self.ledger.drained.contains(name) {
            return Some(Refusal::Drained(name.clone()));
        }
        if !self.raft.is_voter(name) {
            return Some(Refusal::NotVoter(name.clone()));
        }
        let Some(peer) = self.peers.get(name).filter(|p| p.reachable) else {
            return Some(Refusal::Unreachable(name.clone()));
        };
        if let Some(why) = &peer.barred {
            return Some(Refusal::Barred(name.clone(), why.clone()));
        }
        if let Some(why) = peer.denied.values().next() {
            return Some(Refusal::Denied(name.clone(), why.clone()));
        }
        if let Health::Unhealthy(why) = &peer.health {
            return Some(Refusal::Unhealthy(name.clone(), why.clone()));
        }
        if let Some(lag) = self.too_far_behind(peer) {
            return Some(Refusal::Lagging(name.clone(), lag));
        }
        if let Some(why) = &peer.cut_off {
            return Some(Refusal::CutOff(name.clone(), why.clone()));
        }
        // It would take no leadership (FENCING.md, hole 2), and the term would be spent for nothing.
        peer.quarantined.then(|| Refusal::Quarantined(name.clone()))
    }

    pub(super) fn is_reachable(&self, name: &Name) -> bool {
        *name == self.settings.me || self.peers.get(name).is_some_and(|p| p.reachable)
    }

    /// So many entries behind, as far as is known, where that is too many.
    pub(super) fn too_far_behind(&self, peer: &Peer) -> Option<u64> {
        let lag = self.raft.last_index.saturating_sub(peer.applied);
        (lag > LAG_ALLOWED).then_some(lag)
    }

    pub(super) fn is_quarantined(&self, name: &Name) -> bool {
        self.peers.get(name).is_some_and(|p| p.quarantined)
    }

    /// It may own, if not at once. Whose routes stand loses nothing by having lost EC2.
    pub(super) fn stands(&self, name: &Name) -> bool {
        matches!(self.refusal(name), None | Some(Refusal::CutOff(..) | Refusal::Quarantined(_)))
    }

    /// The best target: by whether it reaches EC2, then by whether it may change the routes, then by health, then by priority, then by lag, then by name.
    pub(super) fn best(&self, want: Want) -> Option<Name> {
        self.best_but(want, &BTreeSet::new())
    }

    /// The best target that is none of `left_out`.
    pub(super) fn best_but(&self, want: Want, left_out: &BTreeSet<&Name>) -> Option<Name> {
        let doubt = |name: &Name| self.peers.get(name).map_or(Doubt::Unknown, |p| Doubt::of(&p.health));
        let fits = |name: &Name| match (&want, self.refusal(name)) {
            (Want::This(this), _) => this == name && self.stands(name),
            (Want::Healthy, refusal) => refusal.is_none() && doubt(name) == Doubt::None,
            (Want::Fit, refusal) => refusal.is_none(),
            (Want::Reaching { since }, refusal) => refusal.is_none() && self.reaches(name, *since),
            (Want::Permitted, refusal) => refusal.is_none() && self.is_permitted(name),
            (
                Want::Any,
                None
                | Some(
                    Refusal::Unhealthy(..)
                    | Refusal::Denied(..)
                    | Refusal::CutOff(..)
                    | Refusal::Quarantined(_),
                ),
            ) => true,
            (Want::Any, Some(_)) => false,
        };
        let rank = |name: &Name, priority: u32| {
            let applied = self.peers.get(name).map_or(0, |p| p.applied);
            let cut_off = self.peers.get(name).is_some_and(|p| p.cut_off.is_some());
            let denied = self.peers.get(name).is_some_and(|p| !p.denied.is_empty());
            let late = self.is_quarantined(name);
            (
                cut_off,
                denied,
                doubt(name),
                late,
                std::cmp::Reverse(priority),
                std::cmp::Reverse(applied),
                name.clone(),
            )
        };
        self.raft
            .members()
            .filter(|(_, m)| !left_out.contains(&m.name) && fits(&m.name))
            .min_by_key(|(_, m)| rank(&m.name, m.priority))
            .map(|(_, m)| m.name.clone())
    }

    pub(super) fn why_nobody(&self) -> String {
        let others = self.raft.members().filter(|(_, m)| m.name != self.settings.me);
        let reasons: Vec<String> =
            others.filter_map(|(_, m)| self.refusal(&m.name)).map(|r| r.to_string()).collect();
        if reasons.is_empty() { "the group has one member".to_owned() } else { reasons.join("; ") }
    }

    pub(super) fn begin_handover(
        &mut self,
        now: Now,
        mut owning: Box<Owning>,
        to: Name,
        reason: String,
        out: &mut Vec<Effect>,
    ) -> Stage {
        owning.quiesce();
        // Whatever is polled from here on finds the gate closed.
        self.published = None;
        out.insert(0, Effect::Gate(None));
        out.push(Effect::Tell(Story::HandingOver { to: to.clone(), reason: reason.clone() }));
        let handing = Handing { owning, to, reason, since: now.time, recorded: None, failed: false };
        self.hand(now, Box::new(handing), out)
    }

    pub(super) fn hand(&mut self, now: Now, mut h: Box<Handing>, out: &mut Vec<Effect>) -> Stage {
        if h.failed {
            return self.call_off(now, *h, "the log took no entry", out);
        }
        // Calls in the air end within their attempt's time (F-b).
        let patience = self.settings.attempt_timeout + Duration::from_millis(100);
        let waits = !mutant::on(Mutant::CallsInTheAir);
        if waits && h.owning.calls_in_the_air() > 0 && now.time.since(h.since) < patience {
            return Stage::Handing(h);
        }
        let Some((recorded, _)) = h.recorded else {
            h.recorded = Some((now.time, now.wall));
            out.push(Effect::Propose(Command::Handover {
                from: self.settings.me.clone(),
                to: h.to.clone(),
                term: self.term(),
                reason: h.reason.clone(),
                at: now.wall,
            }));
            return Stage::Handing(h);
        };
        let known = self.ledger.handover.as_ref().is_some_and(|x| h.is_record(x.term, &x.to, x.at));
        if !known {
            return if now.time.since(recorded) >= PROPOSAL_WAIT {
                self.call_off(now, *h, "no quorum took the handover into the log", out)
            } else {
                Stage::Handing(h)
            };
        }
        if let Some(refusal) = self.refusal(&h.to).filter(|r| !matches!(r, Refusal::Lagging(..))) {
            out.push(Effect::Tell(Story::StandsBack { reason: refusal.to_string(), to: None }));
            return self.call_off(now, *h, "the target is no longer fit", out);
        }
        match self.raft.incarnation_of(&h.to) {
            Some(id) => {
                self.trigger(id, out);
                out.push(Effect::Tell(Story::TransferTriggered { to: h.to }));
                Stage::Spent { since: now.time }
            }
            None => self.call_off(now, *h, "the target is no longer a voter", out),
        }
    }

    /// Pulls the trigger: whatever Raft reports from here on, this term opens no permit again.
    pub(super) fn trigger(&mut self, id: Incarnation, out: &mut Vec<Effect>) {
        self.spent = Some(self.term());
        out.push(Effect::Transfer(id));
    }

    /// Before the trigger nothing has changed: the permit opens again. What the ledger knows, or may
    /// yet learn, is recalled: a later failover is no switchover.
    fn call_off(&mut self, now: Now, mut h: Handing, why: &'static str, out: &mut Vec<Effect>) -> Stage {
        if let Some(w) = self.watching.take() {
            let refusal = Refusal::CalledOff(why, self.settings.me.clone());
            out.push(Effect::Answer(w.ask.id, Err(refusal)));
        }
        if let Some((_, at)) = h.recorded {
            out.push(h.owning.recall(now, at));
        }
        self.look.next = now.time;
        h.owning.stay_a_while(now);
        Stage::Owning(h.owning)
    }

    /// The trigger was pulled, and this member still leads: the voters' leases are off, so somebody
    /// has to take over. Where the target failed, the next one is asked.
    pub(super) fn spent(&mut self, now: Now, since: Time, out: &mut Vec<Effect>) -> Stage {
        if mutant::on(Mutant::SpentTerm) {
            return Stage::Leading(Leading::begin(now, &self.raft));
        }
        let owner = self.ledger.owner().filter(|o| self.stands(o)).cloned();
        // An owner that stands and lives comes first, and soon: it may only have been in its quarantine, and the
        // other voters, who are free now, campaign after an election timeout.
        let patience = match owner {
            Some(_) => self.settings.election_max / 4,
            None => self.settings.election_max * 2,
        };
        if now.time.since(since) < patience {
            return Stage::Spent { since };
        }
        if let Some(to) = owner.or_else(|| self.best(Want::Any))
            && let Some(id) = self.raft.incarnation_of(&to)
        {
            self.trigger(id, out);
            out.push(Effect::Tell(Story::TransferTriggered { to }));
        }
        Stage::Spent { since: now.time }
    }

    /// Answers whoever waits for a switchover, once it is known how it ended.
    pub(super) fn watch(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(w) = &self.watching else { return };
        let newer = self.ledger.claim.as_ref().filter(|c| Some(c.epoch) > w.from_epoch);
        let answer = match newer {
            Some(c) if c.member != w.to => Err(Refusal::Elsewhere(c.member.clone(), w.to.clone())),
            Some(c) if c.done && self.ledger.is_out_of_sync() => Err(Refusal::NotInSync(c.member.clone())),
            Some(c) if c.done => Ok(Answer::Moved(c.epoch)),
            Some(_) | None if now.time >= w.ask.deadline => {
                let owner = self.ledger.owner().map_or_else(|| "not known".to_owned(), ToString::to_string);
                Err(Refusal::NotInTime(w.to.clone(), owner))
            }
            Some(_) | None => return,
        };
        out.push(Effect::Answer(w.ask.id, answer));
        self.watching = None;
    }
}
