//! Who is in the group, and members that come and go by operators' words, through the shipped verbs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vipd::decide::{RaftView, Role};
use vipd::proto::{MembersRequest, Newcomer, members_request::Change};
use vipd::runtime::simulated::true_now;

use crate::chaos::{Act, Roster};
use crate::disk::Unsaved;
use crate::invariants::healed::{Member, healed};
use crate::seat::{address, eni};
use crate::world::World;

/// How often each change was made. Cheap to clone.
#[derive(Clone, Default)]
pub struct Changes(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Changes {
    fn add(&self, kind: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    pub fn made(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What operators have to do until as many members vote as founded the group, and no others are in it.
enum Step {
    Whole,
    /// Somebody else is at it.
    Wait,
    Do(Roster),
}

/// How long that may take: a wiped member is taken in within [`HEALS_WITHIN`](crate::stories), and each step
/// waits for the one before.
const SETTLES_WITHIN: Duration = Duration::from_secs(40);

/// What operators wait for one change.
const WAIT_MS: u64 = 3_000;

impl World {
    fn has_newcomers(&self) -> bool {
        self.seats.len() > self.around.founders
    }

    fn seat_of(&self, name: &str) -> Option<usize> {
        self.around.names.iter().position(|n| n == name)
    }

    /// The membership as the newest leader knows it, else as somebody who knows the newest.
    fn membership(&self) -> Option<RaftView> {
        let known = self.around.referee.views().into_iter().map(|(_, view)| view);
        let founded = known.filter(|view| !view.nodes.is_empty());
        founded.max_by_key(|view| (view.role == Role::Leader, view.term, view.membership))
    }

    /// The living members of the group.
    pub fn members(&self) -> Vec<Member> {
        let membership = if self.has_newcomers() { self.membership() } else { None };
        let is_in = |name: &str| {
            membership.as_ref().is_none_or(|view| view.nodes.values().any(|node| node.name.as_str() == name))
        };
        let mut members = Vec::new();
        for seat in &self.seats {
            let name = &self.around.names[seat.index];
            if seat.living.is_none() || !is_in(name) {
                continue;
            }
            let Some((applied, role)) = self.around.referee.member(seat.index) else { continue };
            members.push(Member {
                name: name.clone(),
                eni: eni(seat.index),
                applied,
                leads: role == Role::Leader,
                addresses: seat.interface.present(),
            });
        }
        members
    }

    /// The owner's seat, or what is not right yet.
    pub fn healed(&self) -> Result<usize, String> {
        let members = self.members();
        if self.has_newcomers() {
            if !self.is_whole() {
                return Err("the membership is not whole".to_owned());
            }
            if let Some(name) = self.stranger_with_address(&members) {
                return Err(format!("{name} is no member and has the address"));
            }
        }
        let place = healed(&members, &self.around.ec2.routes(), self.around.founders)?;
        self.seat_of(&members[place].name).ok_or_else(|| "nobody's name".to_owned())
    }

    /// One that was removed knows that it is to let go. Whose directory was emptied knows of no group: an address that
    /// it had before stays until it is taken in.
    fn stranger_with_address(&self, members: &[Member]) -> Option<&String> {
        let views: BTreeMap<usize, RaftView> = self.around.referee.views().into_iter().collect();
        let knows = |seat: usize| views.get(&seat).is_some_and(|view| !view.nodes.is_empty());
        let strangers =
            self.seats.iter().filter(|s| members.iter().all(|m| m.name != self.around.names[s.index]));
        let mut holders = strangers.filter(|s| !s.interface.present().is_empty() && knows(s.index));
        holders.next().map(|s| &self.around.names[s.index])
    }

    pub async fn until_healed(&mut self, bound: Duration) -> Result<usize, String> {
        let end = true_now() + bound;
        loop {
            match self.healed() {
                Ok(owner) => return Ok(owner),
                Err(why) if true_now() >= end => return Err(format!("not within {bound:?}: {why}")),
                Err(_) => self.pass(true_now() + Duration::from_millis(10)).await,
            }
        }
    }

    /// Somebody of whom every member lives and knows that it is in no membership.
    fn outsider(&self) -> Option<usize> {
        let (voters, learners) = sides(&self.membership()?);
        let members: Vec<usize> = voters.union(&learners).filter_map(|name| self.seat_of(name)).collect();
        let views: BTreeMap<usize, RaftView> = self.around.referee.views().into_iter().collect();
        (0..self.seats.len()).find(|seat| {
            let name = &self.around.names[*seat];
            let is_out = |view: &RaftView| {
                !view.nodes.is_empty() && view.nodes.values().all(|node| node.name.as_str() != *name)
            };
            !members.contains(seat) && members.iter().all(|member| views.get(member).is_some_and(is_out))
        })
    }

    /// A learner of whose name nobody votes.
    pub fn newcomer(&self) -> Option<usize> {
        let view = self.membership()?;
        let (voters, learners) = sides(&view);
        learners.iter().find(|name| !voters.contains(*name)).and_then(|name| self.seat_of(name))
    }

    /// One is made ready to come: it runs, with an empty directory if that is wanted.
    fn make_ready(&mut self, emptied: bool) -> Option<Newcomer> {
        let seat = self.outsider()?;
        let around = self.around.clone();
        if emptied {
            self.seats[seat].kill(&around, Unsaved::Lost);
            self.seats[seat].disk.wipe();
        }
        if self.seats[seat].living.is_none() {
            self.seats[seat].start(&around);
        }
        let name = self.around.names[seat].clone();
        Some(Newcomer { name, peer: address(seat), ..Newcomer::default() })
    }

    /// Never fewer voters than one less than founded the group: a fault more, and it would be lost.
    pub fn change_members(&mut self, via: usize, roster: Roster) {
        let Some(view) = self.membership() else { return };
        let (voters, learners) = sides(&view);
        let name = |seat: usize| self.around.names[seat].clone();
        let spare = voters.len() >= self.around.founders;
        let (kind, change, member, newcomer) = match roster {
            Roster::Add { emptied } => {
                let Some(newcomer) = self.make_ready(emptied) else { return };
                ("member added", Change::Add, String::new(), Some(newcomer))
            }
            Roster::Promote => {
                let Some(seat) = self.newcomer() else { return };
                ("member promoted", Change::Promote, name(seat), None)
            }
            Roster::Remove { seat } if spare || learners.contains(&name(seat)) => {
                ("member removed", Change::Remove, name(seat), None)
            }
            Roster::Replace { seat, emptied } if voters.contains(&name(seat)) => {
                let old = name(seat);
                let waits = self.newcomer().map(|seat| (name(seat), address(seat)));
                let waits = waits.map(|(name, peer)| Newcomer { name, peer, ..Newcomer::default() });
                let Some(newcomer) = waits.or_else(|| self.make_ready(emptied)) else { return };
                ("member replaced", Change::Replace, old, Some(newcomer))
            }
            Roster::Remove { .. } | Roster::Replace { .. } => return,
        };
        let Some(living) = &self.seats[via].living else { return };
        let (desk, changes) = (living.desk.clone(), self.changes.clone());
        let change = change.into();
        let request = MembersRequest { change, member, newcomer, force: false, wait_ms: WAIT_MS };
        drop(living.host.spawn(async move {
            if desk.members(request).await.is_ok() {
                changes.add(kind);
            }
        }));
    }

    pub fn is_whole(&self) -> bool {
        !self.has_newcomers() || matches!(self.next_step(), Step::Whole)
    }

    fn next_step(&self) -> Step {
        let Some(view) = self.membership() else { return Step::Wait };
        let (voters, learners) = sides(&view);
        let wanted = self.around.founders;
        if view.is_joint() || learners.iter().any(|name| voters.contains(name)) {
            return Step::Wait;
        }
        let of = |name: Option<&String>| name.and_then(|name| self.seat_of(name));
        if let Some(seat) = of(learners.first()) {
            return Step::Do(if voters.len() < wanted { Roster::Promote } else { Roster::Remove { seat } });
        }
        let leader = view.leader_name().map(ToString::to_string);
        let leaver = voters.iter().filter(|name| Some(*name) != leader.as_ref());
        match of(leaver.last()) {
            _ if voters.len() < wanted => Step::Do(Roster::Add { emptied: false }),
            Some(seat) if voters.len() > wanted => Step::Do(Roster::Remove { seat }),
            Some(_) | None => Step::Whole,
        }
    }

    /// Operators make the membership whole, asking one member after the other for as long as it takes.
    pub async fn settle_members(&mut self) -> Result<(), (&'static str, String)> {
        let end = true_now() + SETTLES_WITHIN;
        for via in (0..self.seats.len()).cycle() {
            match self.next_step() {
                Step::Whole => break,
                Step::Wait => {}
                Step::Do(roster) => self.change_members(via, roster),
            }
            if true_now() >= end {
                let sides = self.membership().map(|view| (sides(&view), view.is_joint()));
                let words = format!("not within {SETTLES_WITHIN:?}: {sides:?}");
                return Err(("the membership can be made whole", words));
            }
            self.pass(true_now() + Duration::from_millis(500)).await;
        }
        Ok(())
    }

    pub fn split_at_newcomer(&mut self) {
        if let Some(after) = self.split
            && self.newcomer().is_some()
        {
            self.split = None;
            self.schedule.add(true_now() + after, Act::SplitNow);
        }
    }

    pub fn split_now(&self) {
        let (Some(owner), Some(newcomer)) = (self.owner(), self.newcomer()) else { return };
        for other in (0..self.seats.len()).filter(|o| ![owner, newcomer].contains(o)) {
            for one in [owner, newcomer] {
                self.around.wires.cut(one, other);
                self.around.wires.cut(other, one);
            }
        }
    }
}

/// The names of those that vote, once a change under way is over, and of the directories that do not.
fn sides(view: &RaftView) -> (BTreeSet<String>, BTreeSet<String>) {
    let voters = view.voters();
    let of = |votes: bool| {
        let side = view.nodes.iter().filter(|(id, _)| voters.contains(id) == votes);
        side.map(|(_, node)| node.name.to_string()).collect()
    };
    (of(true), of(false))
}
