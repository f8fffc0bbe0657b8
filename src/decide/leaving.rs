//! Why an owner that could go on hands over by itself: it may not own, its HAProxy is sick, or the
//! member of the highest priority is back (`policy.failback`).

use super::cause::Cause;
use super::handover::Want;
use super::owning::Owning;
use super::{Decide, Now};
use crate::model::{Health, Name};

impl Decide {
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

    /// The member that lost ownership a moment ago: what the owner wishes waits, if nobody else is
    /// left to take it (`min_hold_s`).
    pub(super) fn just_left(&self, now: Now, o: &Owning) -> Option<&Name> {
        let held = now.time.since(o.since) >= self.settings.min_hold;
        self.ledger.claim.as_ref().and_then(|c| c.previous.as_ref()).filter(|_| !held)
    }

    /// Whom the VIP goes back to, and why, once this member has owned it, and that one would have done,
    /// for `min_hold` without a break.
    pub(super) fn wants_back(&self, now: Now, o: &mut Owning) -> Option<(Name, String)> {
        let Some((to, reason)) = self.better(now) else {
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
    fn better(&self, now: Now) -> Option<(Name, String)> {
        let moves = self.settings.failback && self.ledger.paused.is_none();
        if !moves || !self.claim_done() || !self.quorum_stands(now.time) {
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
