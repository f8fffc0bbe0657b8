//! Who is in the group: what operators ask for, and what a leader mends by itself (FENCING.md, hole 9).
//!
//! ```text
//!   Event::Enlist --may it be?--> Effect::Change --Event::Changed--> Effect::Answer
//!          '--- the owner leaves: it hands over first; the next leader is asked again
//!   a change half done for a second        --> Change::Finish
//!   a member's file says otherwise of it   --> Change::Describe
//! ```
//!
//! One change at a time. A change of the voters is two entries of the log, the first with both sets of
//! voters in force; whoever leads after a crash between them makes the second. So what was begun is ended,
//! never undone. A learner alone is no half change: it stands in the list, and promote or remove goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cause::Cause;
use super::{
    Answer, Ask, AskId, AskMode, Asker, Decide, Effect, Now, Peer, Refusal, Role, Stage, Story, WhilePaused,
};
use crate::ledger::Command;
use crate::model::{Incarnation, Member, Name, Time};

/// Directories in the membership at most: a group has a handful of members, and each may be about to be
/// replaced. The wire takes 64 (`raft/codec.rs`).
pub const MEMBERS_MAX: usize = 32;

/// A joint membership that has stood for so long is nobody's work any more: its two entries are a round
/// trip apart.
const HALF_DONE: Duration = Duration::from_secs(1);

/// After a change that failed, or a while of nothing to do.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// What an operator wants of the membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Roster {
    /// As a learner: it gets the log, and does not vote.
    Add(Member),
    Promote(Name),
    Remove(Name),
    /// The new one takes the old one's place in one change.
    Replace {
        old: Name,
        new: Member,
    },
}

/// Somebody wants the membership changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enlistment {
    pub id: AskId,
    pub what: Roster,
    pub while_paused: WhilePaused,
    pub deadline: Time,
}

/// One change that may be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Whoever answers at this address by this name becomes a learner; waits for it until then.
    Learn {
        member: Member,
        until: Time,
    },
    Promote(Incarnation),
    /// Out, voters and learners.
    Remove(BTreeSet<Incarnation>),
    /// As `Learn`; then it votes and `old` is out.
    Replace {
        old: Incarnation,
        member: Member,
        until: Time,
    },
    /// What is known of a member beside its name and address.
    Describe(Incarnation, Member),
    /// The second entry of a change of voters whose leader is gone.
    Finish,
}

/// Who adds a member and promotes it in one go is not told to.
const LINGERS: Duration = Duration::from_secs(10);

/// The change that is under way, and when the membership last changed.
#[derive(Debug)]
pub(super) struct Changing {
    now: Option<(Change, Option<AskId>)>,
    since: Time,
    next: Time,
}

impl Changing {
    pub(super) fn new(now: Time) -> Self {
        Self { now: None, since: now, next: now }
    }

    pub(super) fn membership_came(&mut self, now: Now) {
        self.since = now.time;
    }
}

impl Decide {
    pub(super) fn take_enlistment(&mut self, now: Now, wish: Enlistment, out: &mut Vec<Effect>) {
        match self.enlist(now, &wish) {
            Ok(Next::Change(change)) => self.change(change, Some(wish.id), out),
            Ok(Next::HandOver(ask)) => self.take_ask(now, ask, out),
            Err(refusal) => out.push(Effect::Answer(wish.id, Err(refusal))),
        }
    }

    fn enlist(&self, now: Now, wish: &Enlistment) -> Result<Next, Refusal> {
        if self.raft.role != Role::Leader {
            return Err(Refusal::NotLeader);
        }
        if !self.quorum_stands(now.time) {
            return Err(Refusal::NoQuorum);
        }
        if self.changing.now.is_some() || self.raft.is_joint() {
            return Err(Refusal::Changing);
        }
        match &wish.what {
            Roster::Add(member) => {
                self.may_come(member, None)?;
                Ok(Next::Change(Change::Learn { member: member.clone(), until: wish.deadline }))
            }
            Roster::Promote(name) => self.promote(name).map(Next::Change),
            Roster::Remove(name) => {
                let change = self.remove(name)?;
                self.owner_first(now, name, wish, change)
            }
            Roster::Replace { old, new } => {
                let change = self.replace(old, new, wish.deadline)?;
                self.owner_first(now, old, wish, change)
            }
        }
    }

    /// Neither its name nor its address is another's; a learner may be asked for again.
    fn may_come(&self, member: &Member, instead_of: Option<&Name>) -> Result<(), Refusal> {
        let others = || self.raft.nodes.values().filter(|m| Some(&m.name) != instead_of);
        let again =
            |m: &Member| m.name == member.name && m.peer == member.peer && !self.raft.is_voter(&m.name);
        if let Some(same) = others().find(|m| m.name == member.name && !again(m)) {
            return Err(Refusal::Member(same.name.clone()));
        }
        let lies_there = |m: &&Member| m.name != member.name && m.peer.eq_ignore_ascii_case(&member.peer);
        if let Some(there) = others().find(lies_there) {
            return Err(Refusal::SameAddress(member.peer.clone(), there.name.clone()));
        }
        let many = self.raft.nodes.len();
        if many >= MEMBERS_MAX { Err(Refusal::Crowded(many)) } else { Ok(()) }
    }

    fn promote(&self, name: &Name) -> Result<Change, Refusal> {
        self.raft.member(name).ok_or_else(|| Refusal::Unknown(name.clone()))?;
        if self.raft.is_voter(name) {
            return Err(Refusal::Votes(name.clone()));
        }
        let silent = || Refusal::Unreachable(name.clone());
        let peer = self.peers.get(name).filter(|p| p.reachable).ok_or_else(silent)?;
        // Of a learner that was wiped there are two directories: one is gone for good.
        let of_name = self.raft.nodes.iter().filter(|(_, m)| m.name == *name).map(|(id, _)| *id);
        let id = of_name.into_iter().find(|id| self.answers(*id)).ok_or_else(silent)?;
        if let Some(lag) = self.too_far_behind(peer) {
            return Err(Refusal::Lagging(name.clone(), lag));
        }
        let mut voters = self.raft.voters();
        voters.insert(id);
        self.majority_answers(&voters, 0, &format!("with {name} as a voter"))?;
        Ok(Change::Promote(id))
    }

    fn remove(&self, name: &Name) -> Result<Change, Refusal> {
        let known = self.raft.nodes.iter().filter(|(_, m)| m.name == *name);
        let all: BTreeSet<Incarnation> = known.map(|(id, _)| *id).collect();
        if all.is_empty() {
            return Err(Refusal::Unknown(name.clone()));
        }
        let before = self.raft.voters();
        let left: BTreeSet<Incarnation> = before.difference(&all).copied().collect();
        if left.is_empty() {
            return Err(Refusal::LastVoter(name.clone()));
        }
        if left != before {
            self.majority_answers(&left, 0, &format!("without {name}"))?;
        }
        Ok(Change::Remove(all))
    }

    fn replace(&self, old: &Name, new: &Member, until: Time) -> Result<Change, Refusal> {
        let (id, member) = self.raft.member_with_id(old).ok_or_else(|| Refusal::Unknown(old.clone()))?;
        if new.name == *old && self.is_reachable(old) {
            return Err(Refusal::Lives(old.clone()));
        }
        self.may_come(new, Some(old))?;
        if new.name != *old && new.peer.eq_ignore_ascii_case(&member.peer) && self.is_reachable(old) {
            return Err(Refusal::SameAddress(new.peer.clone(), old.clone()));
        }
        let mut left = self.raft.voters();
        if left.remove(&id) {
            // The new one has shown that it answers before the voters change.
            self.majority_answers(&left, 1, &format!("with {} in the place of {old}", new.name))?;
        }
        Ok(Change::Replace { old: id, member: new.clone(), until })
    }

    /// An owner that leaves hands over first; then the change is the next leader's.
    fn owner_first(
        &self,
        now: Now,
        leaver: &Name,
        wish: &Enlistment,
        change: Change,
    ) -> Result<Next, Refusal> {
        if *leaver == self.settings.me {
            let ask = Ask {
                id: wish.id,
                to: None,
                reason: Cause::Membership.words(leaver, ""),
                mode: AskMode::Do,
                while_paused: wish.while_paused,
                by: Asker::Member,
                deadline: wish.deadline,
            };
            return self.target(now, &ask).map(|_| Next::HandOver(ask));
        }
        // Without a claim of this leader's own the routes are its, and nobody is there to take them.
        match self.ledger.owner() {
            Some(owner) if owner == leaver => Err(Refusal::Owns(leaver.clone())),
            Some(_) | None => Ok(Next::Change(change)),
        }
    }

    /// Whether a majority of `voters`, and of `more` that are about to come, is heard now.
    fn majority_answers(
        &self,
        voters: &BTreeSet<Incarnation>,
        more: usize,
        case: &str,
    ) -> Result<(), Refusal> {
        let named = |id: &Incarnation| self.raft.nodes.get(id).map(|m| m.name.as_str());
        let silent: Vec<&str> = voters.iter().filter(|id| !self.answers(**id)).filter_map(named).collect();
        let all = voters.len() + more;
        let (answer, quorum) = (all - silent.len(), all / 2 + 1);
        if answer >= quorum {
            return Ok(());
        }
        Err(Refusal::LosesQuorum(format!(
            "{case} the group would lose its quorum: {answer} of {all} voters answer, {quorum} are needed ({} \
             silent)",
            silent.join(", ")
        )))
    }

    /// Whether that directory is heard now: another of the same name, which is about to take its place, has no vote.
    fn answers(&self, id: Incarnation) -> bool {
        let speaks = |p: &Peer| p.reachable && p.says.as_ref().is_none_or(|(speaker, _)| *speaker == id);
        let peer = self.raft.nodes.get(&id).and_then(|m| self.peers.get(&m.name));
        id == self.settings.my_incarnation || peer.is_some_and(speaks)
    }

    fn change(&mut self, change: Change, ask: Option<AskId>, out: &mut Vec<Effect>) {
        out.push(Effect::Change(change.clone()));
        self.changing.now = Some((change, ask));
    }

    pub(super) fn changed(&mut self, now: Now, outcome: Result<(), Refusal>, out: &mut Vec<Effect>) {
        let Some((change, ask)) = self.changing.now.take() else { return };
        self.changing.next = now.time + TEND_EVERY;
        if let Some(id) = ask {
            let answer = outcome.clone().map(|()| Answer::Kept);
            out.push(Effect::Answer(id, answer));
        }
        out.push(Effect::Tell(Story::MembersChanged { change, outcome }));
    }

    /// What a leader does for the membership by itself.
    pub(super) fn tend_members(&mut self, now: Now, out: &mut Vec<Effect>) {
        let leads = matches!(self.stage, Stage::Owning(_) | Stage::Leading(_));
        if !leads || self.changing.now.is_some() || now.time < self.changing.next {
            return;
        }
        self.changing.next = now.time + TEND_EVERY;
        if !self.quorum_stands(now.time) {
            return;
        }
        if self.raft.is_joint() {
            // One that is not among the new voters hands over; it would lead a group that it is not of.
            if !self.is_leaving() && now.time.since(self.changing.since) >= HALF_DONE {
                self.change(Change::Finish, None, out);
            }
        } else if let Some((id, member)) = self.described_otherwise() {
            self.change(Change::Describe(id, member), None, out);
        } else if let Some(gone) = self.ledger.drained.iter().find(|n| self.raft.member(n).is_none()) {
            // Another that comes by that name is not drained for it.
            out.push(Effect::Propose(Command::Undrain { member: gone.clone() }));
        }
    }

    /// A member of which its own file says something else than is agreed. Only the directory that is in
    /// the membership speaks for it.
    fn described_otherwise(&self) -> Option<(Incarnation, Member)> {
        let own = (self.settings.my_incarnation, &self.settings.own);
        let others = self.peers.values().filter(|p| p.reachable).filter_map(|p| p.says.as_ref());
        let all = others.map(|(id, m)| (*id, m)).chain([own]);
        all.filter_map(|(id, says)| {
            let agreed = self.raft.nodes.get(&id).filter(|m| m.name == says.name)?;
            let described = agreed.described_as(says);
            (described != *agreed).then_some((id, described))
        })
        .next()
    }

    /// This leader is not among the voters that a change under way leads to.
    pub(super) fn is_leaving(&self) -> bool {
        let me = self.settings.my_incarnation;
        self.raft.role == Role::Leader && self.raft.configs.last().is_some_and(|voters| !voters.contains(&me))
    }

    /// Whom a leader that leaves makes leader where nobody may own: any voter that answers.
    pub(super) fn heir(&self) -> Option<Name> {
        if !self.is_leaving() {
            return None;
        }
        let voters = self.raft.voters();
        let fits = |(id, m): &(Incarnation, &Member)| {
            let there = voters.contains(id) && m.name != self.settings.me;
            there && self.is_reachable(&m.name) && !self.is_quarantined(&m.name)
        };
        self.raft.members().find(fits).map(|(_, m)| m.name.clone())
    }

    /// Learners that nothing under way makes voters, and how long the membership has been so at least: an interrupted
    /// verb leaves one, and only an operator goes on (docs/decisions/0024). Only a leader can tell.
    pub fn lingering(&self, now: Time) -> Option<(Duration, Vec<&Name>)> {
        let busy = self.changing.now.is_some() || self.raft.is_joint();
        let age = now.since(self.changing.since);
        if self.raft.role != Role::Leader || busy || age < LINGERS {
            return None;
        }
        // A wiped voter comes back by itself.
        let all = self.raft.members().map(|(_, m)| &m.name);
        let learners: Vec<_> = all.filter(|name| !self.raft.is_voter(name)).collect();
        (!learners.is_empty()).then_some((age, learners))
    }

    /// What is no fault, but should be known (FAULTS 57).
    pub fn size_warning(&self) -> Option<&'static str> {
        match self.raft.voters().len() {
            1 => Some("one voter only: nobody is there to fail over to; three survive the loss of one"),
            2 => Some("two voters only: the group survives no loss; add a third, a witness will do"),
            _ => None,
        }
    }
}

/// What comes next of an enlistment.
enum Next {
    Change(Change),
    HandOver(Ask),
}
