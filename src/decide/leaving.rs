//! Why an owner that could go on hands over by itself: it may not own, its HAProxy is sick, or the
//! member of the highest priority is back (`policy.failback`).

use std::collections::BTreeSet;
use std::time::Duration;

use super::cause::Cause;
use super::handover::Want;
use super::owning::Owning;
use super::{Decide, Now, Stage};
use crate::ledger::{Ledger, Move};
use crate::model::{Health, Name, Time};

/// A move that waits for `min_hold_s`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waits {
    pub to: Name,
    pub left: Duration,
    pub reason: String,
}

impl Decide {
    /// What this owner would do, were it not for `min_hold_s`; `None` where it wishes nothing, or may not do it for
    /// another reason.
    pub fn waits(&self, now: Time) -> Option<Waits> {
        let Stage::Owning(o) = &self.stage else { return None };
        if self.ledger.paused.is_some() || !self.quorum_stands(now) {
            return None;
        }
        let left = |since: Time| self.settings.min_hold.saturating_sub(now.since(since));
        let just_left = self.just_left(now);
        for (reason, want) in self.wishes() {
            if self.goes_to(now, want.clone()).is_some() {
                return None;
            }
            // Of those that wait the first that may.
            let waiting = just_left.iter().filter_map(|name| Some((*name, left(*self.lost.get(*name)?))));
            let mut waiting: Vec<_> = waiting.collect();
            waiting.sort_by_key(|(_, left)| *left);
            let others = |name: &Name| just_left.iter().copied().filter(|other| *other != name).collect();
            let may = |(name, _): &(&Name, Duration)| self.best_but(want.clone(), &others(name)).is_some();
            if let Some((to, left)) = waiting.into_iter().find(may) {
                return Some(Waits { to: to.clone(), left, reason });
            }
        }
        let (to, reason) = self.better(now)?;
        let (_, since) = o.preferred.as_ref().filter(|(name, _)| *name == to)?;
        Some(Waits { to, left: left(*since), reason })
    }

    /// Why this owner would hand over of its own accord, the gravest first. A failback is not among them.
    pub(super) fn wishes(&self) -> impl Iterator<Item = (String, Want)> + use<> {
        [self.wants_to_leave(), self.wants_reach(), self.wants_rights()].into_iter().flatten()
    }

    /// Why the owner would rather see another own, and whom.
    pub(super) fn wants_to_leave(&self) -> Option<(String, Want)> {
        let me = &self.settings.me;
        if let Some(why) = self.not_eligible() {
            return Some((Cause::NotEligible.words(me, &why), Want::Fit));
        }
        match &self.health {
            Health::Unhealthy(why) => Some((Cause::Health.words(me, why), Want::Healthy)),
            Health::Healthy | Health::Unknown(_) | Health::NotChecked => None,
        }
    }

    /// To whom an owner with this wish hands over now. One that may not own at all waits for nobody: it serves nobody.
    pub(super) fn goes_to(&self, now: Time, want: Want) -> Option<Name> {
        let at_last = (want == Want::Fit).then_some(Want::Fit);
        self.best_but(want, &self.just_left(now)).or_else(|| self.best(at_last?))
    }

    /// Who lost the VIP within `min_hold_s`: what the owner wishes waits, if nobody else is left to take it.
    pub(super) fn just_left(&self, now: Time) -> BTreeSet<&Name> {
        let within = self.lost.iter().filter(|(_, at)| now.since(**at) < self.settings.min_hold);
        within.map(|(name, _)| name).filter(|name| **name != self.settings.me).collect()
    }

    /// Whoever a ledger that comes to be applied says has lost the VIP since the last one. Of the first one after a start,
    /// and of moves of an earlier term, which a member that catches up comes by, it is not known when.
    pub(super) fn note_losses(&mut self, now: Time, newer: &Ledger) {
        let Some(known) = self.ledger.claim.as_ref().map(|claim| claim.epoch) else { return };
        let min_hold = self.settings.min_hold;
        self.lost.retain(|_, at| now.since(*at) < min_hold);
        let news = |one: &&Move| one.epoch > known && one.term >= self.raft.term;
        let moves = newer.moves.iter().rev().take_while(news);
        self.lost.extend(moves.filter_map(|one| Some((one.from.clone()?, now))));
    }

    /// Whom the VIP goes back to, and why, once this member has owned it, and that one would have done,
    /// for `min_hold` without a break.
    pub(super) fn wants_back(&self, now: Now, o: &mut Owning) -> Option<(Name, String)> {
        let Some((to, reason)) = self.better(now.time) else {
            o.preferred = None;
            return None;
        };
        let (_, since) = match o.preferred.take() {
            Some((name, since)) if name == to => o.preferred.insert((name, since)),
            Some(_) | None => o.preferred.insert((to.clone(), now.time)),
        };
        if now.time.since(*since) < self.settings.min_hold {
            return None;
        }
        // One that is called off waits anew.
        o.preferred = None;
        Some((to, reason))
    }

    /// The best member of a higher priority than this one, if it is healthy and has caught up.
    fn better(&self, now: Time) -> Option<(Name, String)> {
        let moves = self.settings.failback && self.ledger.paused.is_none();
        if !moves || !self.claim_done() || !self.quorum_stands(now) {
            return None;
        }
        let me = &self.settings.me;
        let to = self.best(Want::Healthy)?;
        let (mine, its) = (self.priority(me), self.priority(&to));
        (its > mine).then(|| {
            let why = format!("{to} has priority {its}, {me} has {mine}");
            let reason = Cause::Failback.words(me, &why);
            (to, reason)
        })
    }

    fn priority(&self, name: &Name) -> u32 {
        self.raft.member(name).map_or(0, |m| m.priority)
    }
}
