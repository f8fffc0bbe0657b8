//! What operators order: drain, undrain, pause, resume. The ledger keeps it, so that it stands whoever
//! leads and across restarts; here somebody waits until it does. The owner that is drained hands over
//! once the ledger has it: were it the other way round, a leader that dies in between would leave a
//! member undrained that its operator believes drained.

use super::cause::Cause;
use super::proposal::Proposal;
use super::{Answer, Ask, AskMode, Asker, Decide, Directive, Effect, Now, Order, Refusal, Role, WhilePaused};
use crate::ledger::{Command, Ledger};
use crate::model::Name;

/// Orders that may wait for the log: each waits for a round trip, and people give them.
const PENDING_MAX: usize = 16;

/// An order that the ledger does not show yet.
#[derive(Debug)]
pub(super) struct Pending {
    order: Order,
    command: Command,
    proposal: Proposal,
}

impl Directive {
    fn command(&self, now: Now) -> Command {
        match self {
            Directive::Drain(member) => Command::Drain { member: member.clone() },
            Directive::Undrain(member) => Command::Undrain { member: member.clone() },
            Directive::Pause => Command::Pause { at: now.wall },
            Directive::Resume => Command::Resume,
        }
    }

    fn stands(&self, ledger: &Ledger) -> bool {
        match self {
            Directive::Drain(member) => ledger.drained.contains(member),
            Directive::Undrain(member) => !ledger.drained.contains(member),
            Directive::Pause => ledger.paused.is_some(),
            Directive::Resume => ledger.paused.is_none(),
        }
    }
}

impl Decide {
    pub(super) fn take_order(&mut self, now: Now, order: Order, out: &mut Vec<Effect>) {
        if let Some(refusal) = self.refuses(now, &order) {
            return out.push(Effect::Answer(order.id, Err(refusal)));
        }
        let command = order.what.command(now);
        self.pending.push(Pending { order, command, proposal: Proposal::new(now.time) });
    }

    fn refuses(&self, now: Now, order: &Order) -> Option<Refusal> {
        if self.raft.role != Role::Leader {
            return Some(Refusal::NotLeader);
        }
        if !self.quorum_stands(now.time) {
            return Some(Refusal::NoQuorum);
        }
        if self.pending.len() >= PENDING_MAX {
            return Some(Refusal::TooMany(self.pending.len()));
        }
        let known = |name: &Name| self.raft.member(name).is_some();
        match &order.what {
            Directive::Drain(name) if !known(name) => Some(Refusal::Unknown(name.clone())),
            Directive::Drain(name) if self.ledger.owner() == Some(name) => {
                self.target(now, &leave(name, order, order.while_paused)).err()
            }
            // One that has left the list may still be drained.
            Directive::Undrain(name) if !known(name) && !self.ledger.drained.contains(name) => {
                Some(Refusal::Unknown(name.clone()))
            }
            Directive::Drain(_) | Directive::Undrain(_) | Directive::Pause | Directive::Resume => None,
        }
    }

    /// Proposes what the ledger does not show, answers what it does.
    pub(super) fn follow_orders(&mut self, now: Now, out: &mut Vec<Effect>) {
        for mut pending in std::mem::take(&mut self.pending) {
            let id = pending.order.id;
            if self.raft.role != Role::Leader {
                // Asked of the next leader it does no harm: what stands already stands.
                out.push(Effect::Answer(id, Err(Refusal::NotLeader)));
            } else if pending.order.what.stands(&self.ledger) {
                self.order_stands(now, &pending.order, out);
            } else if now.time >= pending.order.deadline {
                out.push(Effect::Answer(id, Err(Refusal::NotLogged)));
            } else {
                if pending.proposal.is_due(now.time) {
                    out.push(pending.proposal.propose(now.time, pending.command.clone()));
                }
                self.pending.push(pending);
            }
        }
    }

    fn order_stands(&mut self, now: Now, order: &Order, out: &mut Vec<Effect>) {
        let me = &self.settings.me;
        match &order.what {
            Directive::Drain(name) if name == me && self.is_owner() => {
                // It was asked before whether the group is paused.
                let ask = leave(name, order, WhilePaused::Move);
                let refusal = match self.target(now, &ask) {
                    Ok(_) => return self.take_ask(now, ask, out),
                    Err(refusal @ Refusal::UnderWay(_)) => refusal,
                    Err(refusal) => Refusal::StillOwns(name.clone(), refusal.to_string()),
                };
                out.push(Effect::Answer(order.id, Err(refusal)));
            }
            Directive::Drain(_) | Directive::Undrain(_) | Directive::Pause | Directive::Resume => {
                out.push(Effect::Answer(order.id, Ok(Answer::Kept)));
            }
        }
    }

    pub(super) fn order_failed(&mut self, now: Now, command: &Command) {
        for pending in &mut self.pending {
            pending.proposal.failed(now.time, command);
        }
    }
}

/// The move that a drain of the owner needs.
fn leave(name: &Name, order: &Order, while_paused: WhilePaused) -> Ask {
    Ask {
        id: order.id,
        to: None,
        reason: Cause::Drain.words(name, ""),
        mode: AskMode::Do,
        while_paused,
        by: Asker::Member,
        deadline: order.deadline,
    }
}
