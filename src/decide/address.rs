//! The address. Off-node delivery follows the route, so the address is no fence: in doubt it stays
//! (DESIGN.md section 4, "The address").

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Decide, Effect, Now, Stage, Story};
use crate::ledger::{Claim, Kind};
use crate::model::{Epoch, OnQuorumLoss, Time, Vip};
use crate::mutant::{self, Mutant};

/// How long an attempt may stay unanswered before the next: netlink answers within microseconds, and
/// its adapter gives up after a second.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// An attempt to add an address or to remove it.
#[derive(Debug)]
pub(super) struct Trying {
    /// It is not made again before.
    again: Time,
    removes: bool,
}

#[derive(PartialEq, Eq)]
enum Want {
    Have,
    Leave,
    Gone,
}

/// How long a member that handed over keeps the address once every route was read back elsewhere. What came before
/// the route changed is answered from here: the kernel drops the answer of an address that it no longer has, and the
/// client waits for it in vain.
pub const ANSWERS_FOR: Duration = Duration::from_secs(1);

/// How long after one that ended and changed nothing: ten a second of what may fail for ever, and
/// well within the second in which a deleted address is to be back.
const TRY_FAILED: Duration = Duration::from_millis(100);

impl Decide {
    pub(super) fn take_addresses(&mut self, now: Now, present: BTreeSet<Vip>, out: &mut Vec<Effect>) {
        if self.address_wanted(now) == Want::Have && self.had_address() {
            let lost = self.addresses.difference(&present);
            out.extend(lost.map(|vip| Effect::Tell(Story::AddressLost { vip: *vip })));
        }
        // What has changed may be tried at once.
        let same = |v: &Vip| present.contains(v) == self.addresses.contains(v);
        self.address_busy.retain(|v, _| same(v));
        self.addresses = present;
    }

    pub(super) fn note_sync(&mut self, now: Time) {
        let claim = self.ledger.claim.as_ref().filter(|_| !self.ledger.is_out_of_sync());
        let known = |epoch| self.in_sync.filter(|(of, _)| *of == epoch);
        self.in_sync = claim.map(|c| known(c.epoch).unwrap_or((c.epoch, now)));
    }

    pub(super) fn address_tried(&mut self, now: Now, vip: Vip) {
        if let Some(trying) = self.address_busy.get_mut(&vip) {
            trying.again = (now.time + TRY_FAILED).min(trying.again);
        }
    }

    /// Every address is there, and none is about to go: what was begun before this claim may still come about.
    pub(super) fn has_addresses(&self, now: Now) -> bool {
        let going = |vip| self.address_busy.get(vip).is_some_and(|t| t.removes && now.time < t.again);
        self.settings.vips.iter().all(|vip| self.addresses.contains(vip) && !going(vip))
    }

    pub(super) fn keep_address(&mut self, now: Now, out: &mut Vec<Effect>) {
        let due = |trying: Option<&Trying>| trying.is_none_or(|t| now.time >= t.again);
        let again = now.time + TRY_AGAIN;
        match self.address_wanted(now) {
            Want::Leave => {}
            Want::Gone => {
                let gone: Vec<Vip> =
                    self.addresses.iter().filter(|v| due(self.address_busy.get(v))).copied().collect();
                for vip in gone {
                    self.address_busy.insert(vip, Trying { again, removes: true });
                    out.push(Effect::RemoveAddress(vip));
                    out.push(Effect::Tell(Story::Released { vip }));
                }
            }
            Want::Have => {
                let Some(permit) = self.permit(now.time).filter(|_| self.without_interface.is_none()) else {
                    return;
                };
                let refresh = self
                    .settings
                    .refresh_address
                    .is_some_and(|every| now.time.since(self.address_refreshed) >= every);
                if refresh {
                    self.address_refreshed = now.time;
                }
                for vip in self.settings.vips.clone() {
                    let missing = !self.addresses.contains(&vip) && due(self.address_busy.get(&vip));
                    if missing || refresh {
                        self.address_busy.insert(vip, Trying { again, removes: false });
                        out.push(Effect::AddAddress(vip, permit));
                    }
                }
            }
        }
    }

    /// Under this claim every address was there already: one that is missing was taken away.
    fn had_address(&self) -> bool {
        matches!(&self.stage, Stage::Owning(owning) if owning.had_address())
    }

    fn address_wanted(&self, now: Now) -> Want {
        let answers = |(_, since): (Epoch, Time)| now.time < since + ANSWERS_FOR;
        // Whoever owns now, it is none that the group has put out. Of the end of a move it may never learn.
        if self.raft.removed.is_some() {
            let leave = self.handed_over() && self.in_sync.is_some_and(answers);
            return if leave { Want::Leave } else { Want::Gone };
        }
        if let Stage::Owning(_) = self.stage {
            return if self.permit(now.time).is_some() { Want::Have } else { self.without_lease(now) };
        }
        // A leader without a claim is about to make one.
        let Some(claim) = self.ledger.claim.as_ref().filter(|_| !matches!(self.stage, Stage::Leading(_)))
        else {
            return Want::Leave;
        };
        if claim.member == self.settings.me {
            return self.without_lease(now);
        }
        // A table that was not moved has its clients served here still.
        let leave = self.handed_over() && self.in_sync.is_none_or(answers);
        if leave || mutant::on(Mutant::ReleaseAddress) { Want::Leave } else { Want::Gone }
    }

    /// The newest claim known here was made in a switchover from this member.
    fn handed_over(&self) -> bool {
        let from_me =
            |c: &Claim| c.kind == Kind::Switchover && c.previous.as_ref() == Some(&self.settings.me);
        self.ledger.claim.as_ref().is_some_and(from_me)
    }

    /// The newest claim known here is this member's own, but it may not act.
    fn without_lease(&self, now: Now) -> Want {
        match self.settings.on_quorum_loss {
            OnQuorumLoss::Hold => Want::Leave,
            OnQuorumLoss::Release => {
                let over = self.lease_end.is_some_and(|end| now.time > end + self.settings.election_max);
                if over && self.raft.leader.is_none_or(|l| l == self.settings.my_incarnation) {
                    Want::Gone
                } else {
                    Want::Leave
                }
            }
        }
    }
}
