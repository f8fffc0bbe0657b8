//! Whether a member can change a route at all: its calls reach EC2 (FAULTS 26), and its interface is there
//! (FAULTS 41). One that cannot hands over to one that can; where none can, the VIP stays.

use std::time::Duration;

use super::cause::Cause;
use super::handover::Want;
use super::{Decide, Now, Peer};
use crate::model::route::{CloudError, Sight};
use crate::model::{EniId, Name, Observed, Time};

/// So many looks in a row must fail. There is no hurry: as long as the route is right, who reads it matters little.
const FAILED_LOOKS: u32 = 3;

/// How much older than it says a report may be when it is heard: its own deadline (`raft/reports.rs`).
const REPORT_AGE: Duration = Duration::from_millis(500);

/// For so long an interface counts as gone, unless it is read or seen before: by then it is back, or the next
/// swap says the same again.
const GONE: Duration = Duration::from_secs(60);

/// What this member found out about its own calls.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// When EC2 last answered a look.
    seen: Option<Time>,
    lost: Option<Lost>,
    no_interface: Option<(Time, String)>,
}

#[derive(Debug)]
struct Lost {
    /// When the first look that failed was asked for.
    since: Time,
    looks: u32,
    why: String,
}

impl Reach {
    pub(super) fn answered(&mut self, now: Time) {
        self.seen = Some(now);
        self.lost = None;
    }

    pub(super) fn failed(&mut self, asked: Time, error: &CloudError) {
        if !error.is_own() {
            self.lost = None;
            return;
        }
        let (since, looks) = self.lost.as_ref().map_or((asked, 0), |l| (l.since, l.looks));
        self.lost = Some(Lost { since, looks: looks.saturating_add(1), why: error.to_string() });
    }

    /// A look failed, and it is not known yet what to make of it.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.lost.as_ref().is_some_and(|l| l.looks < FAILED_LOOKS)
    }

    /// Since when and why EC2 is not reached.
    fn cut_off(&self) -> Option<&Lost> {
        self.lost.as_ref().filter(|l| l.looks >= FAILED_LOOKS)
    }

    /// EC2 knows no such interface, or routes to it are black holes.
    pub(super) fn interface_gone(&mut self, now: Time, eni: &EniId, why: &str) {
        self.no_interface = Some((now, format!("its network interface {eni} is gone: {why}")));
    }

    pub(super) fn interface_read(&mut self) {
        self.no_interface = None;
    }

    pub(super) fn no_interface(&self) -> Option<&str> {
        self.no_interface.as_ref().map(|(_, why)| why.as_str())
    }

    pub(super) fn take_sight(&mut self, now: Time, eni: &EniId, sight: &Sight) {
        let dead = Observed::Blackhole(Some(eni.clone()));
        let live = Observed::Active(Some(eni.clone()));
        if let Some((route, _)) = sight.routes.iter().find(|(_, o)| **o == dead) {
            self.interface_gone(now, eni, &format!("the route in {} is a black hole", route.table));
        } else if sight.routes.values().any(|o| *o == live) {
            self.no_interface = None;
        }
        self.no_interface.take_if(|(at, _)| now.since(*at) >= GONE);
    }
}

impl Decide {
    /// Why this member does not reach EC2; `None` where it does, as far as is known.
    pub fn cut_off(&self) -> Option<&str> {
        self.reach.cut_off().map(|lost| lost.why.as_str())
    }

    /// When EC2 last answered this member.
    pub fn reached(&self) -> Option<Time> {
        self.reach.seen
    }

    /// Why this member would rather see one own that reaches EC2.
    pub(super) fn wants_reach(&self) -> Option<(String, Want)> {
        let lost = self.reach.cut_off()?;
        let reason = Cause::Ec2.words(&self.settings.me, &lost.why);
        Some((reason, Want::Reaching { since: lost.since }))
    }

    /// EC2 answered `name` after this member had lost it: what was true before may be over for all.
    pub(super) fn reaches(&self, name: &Name, since: Time) -> bool {
        let newer = |p: &Peer| p.reached.is_some_and(|at| at > since + REPORT_AGE);
        self.peers.get(name).is_some_and(|p| p.cut_off.is_none() && newer(p))
    }

    /// An owner that has lost EC2 wants to know who reaches it: this member looks at once.
    pub(super) fn take_peer(&mut self, now: Now, name: Name, peer: Peer) {
        let knew = self.peers.get(&name).is_some_and(|p| p.cut_off.is_some());
        if peer.cut_off.is_some() && !knew && self.ledger.owner() == Some(&name) {
            self.look.next = self.look.next.min(now.time);
        }
        self.peers.insert(name, peer);
    }
}
