//! The leader's process has ended: who asks for votes, and when (DESIGN.md section 5).

use std::cmp::Reverse;
use std::time::Duration;

use super::handover::Doubt;
use super::{Decide, Effect, Refusal, Role, Story};
use crate::model::{Health, Name, Term};

/// Between one candidate and the next: two round trips within a region and an fsync, so that the first
/// has won before the second asks. Who asks at the same time votes for itself, and nobody wins.
const STAGGER: Duration = Duration::from_millis(8);

impl Decide {
    /// The best that may own asks at once, the k-th after k times the stagger. One that may not own leaves
    /// it to its election timeout.
    pub(super) fn take_end(&self, term: Term, out: &mut Vec<Effect>) {
        if term != self.raft.term || self.raft.role != Role::Follower {
            return;
        }
        let Some(place) = self.place() else { return };
        out.push(Effect::Tell(Story::LeaderEnded { term, place }));
        out.push(Effect::Campaign { term, after: STAGGER * place });
    }

    /// How many other followers come before this member; `None`: it is none that may own.
    fn place(&self) -> Option<u32> {
        let (me, leader) = (&self.settings.me, self.raft.leader_name());
        if self.not_eligible().is_some() || matches!(self.health, Health::Unhealthy(_)) {
            return None;
        }
        // How far each has applied is known of oneself as of now and of others as of a second ago: each
        // would take itself for the first. Who lags loses its pre-vote, and the next asks.
        let rank = |name: &Name, priority: u32| {
            let peer = self.peers.get(name);
            let health = if name == me { Some(&self.health) } else { peer.map(|p| &p.health) };
            let cut_off =
                if name == me { self.cut_off().is_some() } else { peer.is_some_and(|p| p.cut_off.is_some()) };
            (cut_off, health.map_or(Doubt::Unknown, Doubt::of), Reverse(priority), name.clone())
        };
        let mine = self.raft.member(me).map(|m| rank(me, m.priority))?;
        // To be cut off from EC2 is a rank here: where all are, somebody leads all the same.
        let may = |name: &Name| matches!(self.refusal(name), None | Some(Refusal::CutOff(..)));
        // Members know each other by the log of their first leader, which may die before any has said a word to another.
        // Who was never heard of is taken for as good as oneself, or each of two would be the first.
        let unheard = |name: &Name| {
            !self.peers.contains_key(name) && matches!(self.refusal(name), Some(Refusal::Unreachable(_)))
        };
        let precedes = |name: &Name, priority: u32| match unheard(name) {
            true => (Reverse(priority), name) < (mine.2, &mine.3),
            false => may(name) && rank(name, priority) < mine,
        };
        let before = self
            .raft
            .members()
            .map(|(_, m)| m)
            .filter(|m| m.name != *me && Some(&m.name) != leader && precedes(&m.name, m.priority));
        Some(u32::try_from(before.count()).unwrap_or(u32::MAX))
    }
}
