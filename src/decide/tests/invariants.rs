//! What holds after every step, and what each effect may rest on.

use super::world::*;
use crate::decide::*;
use crate::model::*;

impl World {
    pub fn carry_out(&mut self, effects: &[Effect]) {
        for effect in effects {
            self.past.push((self.now, effect.clone()));
            match effect {
                Effect::Gate(permit) => self.gate = *permit,
                Effect::Propose(command) => self.log.push_back((self.view.term, command.clone())),
                Effect::Look => self.asked.push(self.now),
                Effect::Swap(swap, permit) => {
                    self.may_take(permit);
                    assert_eq!(Some(&swap.eni), self.settings.eni.as_ref());
                    assert!(
                        self.ledger.unsettled.contains_key(&swap.route),
                        "a swap of {:?} without a committed intent",
                        swap.route
                    );
                    self.air.push((swap.clone(), *permit));
                }
                Effect::Rehearse(swap) => {
                    assert_eq!(Some(&swap.eni), self.settings.eni.as_ref());
                    assert!(self.ledger.claim.as_ref().is_none_or(|c| c.done), "a DryRun during a move");
                    self.dry.push(swap.clone());
                }
                Effect::AddAddress(_, permit) => {
                    self.may_take(permit);
                    self.trying.push(effect.clone());
                }
                Effect::RemoveAddress(vip) => {
                    assert!(self.present.contains(vip));
                    self.trying.push(effect.clone());
                }
                Effect::Transfer(to) => {
                    assert_eq!(self.gate, None, "the gate closes before the trigger");
                    assert_eq!(self.view.role, Role::Leader);
                    assert_ne!(*to, ME);
                    self.transferred.insert(self.view.term);
                }
                Effect::Campaign { term, .. } => {
                    assert_eq!((self.view.role, self.view.term), (Role::Follower, *term));
                }
                Effect::Answer(id, answer) => {
                    assert!(self.answers.iter().all(|(i, _)| i != id), "answered twice");
                    self.answers.push((*id, answer.clone()));
                }
                // One at a time: the next one comes when this one has ended.
                Effect::Change(change) => assert_eq!(self.change.replace(change.clone()), None),
                Effect::Tell(_) => {}
            }
        }
    }

    /// F-a, for whatever takes something.
    fn may_take(&self, permit: &Permit) {
        assert_eq!(self.gate.as_ref(), Some(permit), "only what the gate has open");
        self.may_be_open(permit);
    }

    fn may_be_open(&self, permit: &Permit) {
        assert_eq!(self.view.role, Role::Leader);
        assert_eq!(permit.term(), self.view.term);
        assert!(!self.transferred.contains(&permit.term()), "hole 7");
        let claim = self.ledger.claim.as_ref().expect("a claim");
        assert_eq!(
            (&claim.member, claim.term, claim.epoch),
            (&self.settings.me, permit.term(), permit.epoch())
        );
        assert!(self.now + self.settings.margin < permit.deadline());
        // The lease anew, counted and not sorted.
        assert!(!self.view.configs.is_empty());
        for voters in &self.view.configs {
            let stands = |v: &&Incarnation| {
                let promise = self.promises.get(&(permit.term(), **v));
                **v == ME || promise.is_some_and(|until| *until >= permit.deadline())
            };
            let held = voters.iter().filter(stands).count();
            assert!(held > voters.len() / 2, "no majority stands behind the permit");
        }
    }

    pub fn check(&self) {
        assert_eq!(self.gate, self.decide.open_permit());
        if let Some(permit) = &self.gate {
            self.may_be_open(permit);
        }
        assert!(self.decide.wake(self.now) > self.now);
    }
}
