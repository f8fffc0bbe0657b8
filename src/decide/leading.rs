//! A leader without a claim of its term: it claims, or stands back for one that may own.

use std::collections::BTreeSet;
use std::time::Duration;

use super::handover::Want;
use super::owning::{Marks, Owning};
use super::proposal::Proposal;
use super::{Decide, Effect, Now, RaftView, Stage, Story};
use crate::ledger::{Claim, Command};
use crate::model::{Health, Name, Time};
use crate::mutant::{self, Mutant};

/// How long the leader of a group that has restarted waits to learn whether the owner lives: the
/// members report to each other once a second. Meanwhile the route stays where it is.
const OWNER_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Leading {
    marks: Marks,
    since: Time,
    /// How long the log was: what was agreed before is in it.
    log_end: u64,
    claim: Proposal,
    /// It was told that this member claims.
    claiming: bool,
    /// It was told that this member stands back and that nobody else may own.
    told: bool,
}

impl Leading {
    pub(super) fn begin(now: Now, view: &RaftView) -> Self {
        Self {
            marks: Marks::begin(view.heard, view.campaigned, now.time),
            since: now.time,
            log_end: view.last_index,
            claim: Proposal::new(now.time),
            claiming: false,
            told: false,
        }
    }

    /// The claim is not proposed (again) before.
    pub(super) fn claim_at(&self) -> Time {
        self.claim.not_before()
    }
}

impl Decide {
    pub(super) fn lead(&mut self, now: Now, mut leading: Leading, out: &mut Vec<Effect>) -> Stage {
        let me = &self.settings.me;
        let mine = |c: &&Claim| (c.member == *me && c.term == self.term()) || mutant::on(Mutant::OwnClaim);
        if let Some(claim) = self.ledger.claim.as_ref().filter(mine) {
            let claim = claim.clone();
            out.push(Effect::Tell(Story::Owning { term: claim.term, epoch: claim.epoch }));
            self.moving = (!claim.done).then_some(claim.epoch);
            let owning = Owning::begin(now, &claim, leading.marks, self);
            self.look.next = now.time;
            return self.own(now, Box::new(owning), out);
        }
        if !leading.claim.is_due(now.time) || self.may_learn_of_owner(now, &leading) {
            return Stage::Leading(leading);
        }
        if let Some((reason, want)) = self.stands_back(now.time) {
            return self.stand_back(now, leading, reason, want, out);
        }
        if !leading.claiming {
            leading.claiming = true;
            out.push(Effect::Tell(Story::Claiming { term: self.term() }));
        }
        let claim =
            Command::Claim { member: me.clone(), term: self.term(), at: now.wall, routes: self.routes() };
        out.push(leading.claim.propose(now.time, claim));
        Stage::Leading(leading)
    }

    /// Whether this leader, which has followed none since it started, may soon know that the owner
    /// lives.
    fn may_learn_of_owner(&self, now: Now, leading: &Leading) -> bool {
        if self.followed || now.time.since(leading.since) >= OWNER_WAIT {
            return false;
        }
        let unheard = |owner: &Name| {
            let member = self.raft.member(owner).is_some();
            *owner != self.settings.me && member && !self.peers.contains_key(owner)
        };
        self.applied < leading.log_end || self.ledger.owner().is_some_and(unheard)
    }

    /// Why this leader does not claim, and whom it wants to lead instead.
    fn stands_back(&self, now: Time) -> Option<(String, Want)> {
        let not_eligible = self.not_eligible();
        // After a restart of the whole group the VIP stays where it is, if its owner lives.
        let owner = self.ledger.owner().filter(|o| !self.followed && **o != self.settings.me);
        if let Some(owner) = owner.filter(|o| self.stands(o)) {
            let why = not_eligible.unwrap_or_else(|| "the owner before the restart lives".to_owned());
            return Some((why, Want::This(owner.clone())));
        }
        if let Some(why) = not_eligible {
            return Some((why, Want::Any));
        }
        let spared = self.spared(now);
        let found = |(_, want): &(String, Want)| self.best_but(want.clone(), &spared).is_some();
        if let Some(wish) = self.wants_reach().filter(found).or_else(|| self.wants_rights().filter(found)) {
            return Some(wish);
        }
        // One whose health is not known leaves the VIP to one that is known to be well.
        let doubt = match &self.health {
            Health::Healthy | Health::NotChecked => None,
            Health::Unknown(why) | Health::Unhealthy(why) => Some(why),
        };
        if let Some(why) = doubt
            && self.best_but(Want::Healthy, &spared).is_some()
        {
            return Some((why.clone(), Want::Healthy));
        }
        None
    }

    /// Whom an owner that was elected anew, and may own, does not leave the VIP to (`min_hold_s`): where another owned, that
    /// one is gone, and a failover does not wait.
    fn spared(&self, now: Time) -> BTreeSet<&Name> {
        let renews = self.ledger.owner() == Some(&self.settings.me);
        if renews && self.not_eligible().is_none() { self.just_left(now) } else { BTreeSet::new() }
    }

    fn stand_back(
        &mut self,
        now: Now,
        mut leading: Leading,
        reason: String,
        want: Want,
        out: &mut Vec<Effect>,
    ) -> Stage {
        let spared = self.spared(now.time);
        let to: Option<Name> = self.best_but(want, &spared).or_else(|| self.heir());
        if to.as_ref().is_some_and(|to| self.is_quarantined(to)) {
            // It would refuse, and the term be spent. It lasts no longer than this member's own did, and
            // one that falls silent is no target.
            return Stage::Leading(leading);
        }
        let target = to.as_ref().and_then(|n| self.raft.incarnation_of(n));
        if target.is_some() || !leading.told {
            leading.told = true;
            out.push(Effect::Tell(Story::StandsBack { reason, to }));
        }
        match target {
            Some(id) => {
                self.trigger(id, out);
                // One try in each process: a second leader that has followed this one claims.
                self.followed = true;
                Stage::Spent { since: now.time }
            }
            None => Stage::Leading(leading),
        }
    }

    /// Only what the stage waits for counts: a failure may come late, out of an earlier stage.
    pub(super) fn proposal_failed(&mut self, now: Now, command: &Command) {
        self.order_failed(now, command);
        match &mut self.stage {
            Stage::Leading(leading) => leading.claim.failed(now.time, command),
            Stage::Owning(owning) => owning.proposal_failed(now, command),
            Stage::Handing(handing) => handing.proposal_failed(now, command),
            Stage::Idle | Stage::Spent { .. } => {}
        }
    }
}
