//! Whether this member's role lets it change routes: one DryRun a minute, table after table, never near a move
//! (DESIGN.md section 5), and each swap's own answer.
//!
//! A denial is a rank and no bar (docs/decisions/0025): one that may change two of three tables is a better owner
//! than nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cause::Cause;
use super::handover::Want;
use super::{Decide, Effect, Now, Stage, Story};
use crate::model::route::{CloudError, Swap};
use crate::model::{Name, RouteTableId, Time};

/// How often a member asks. EC2's budget of changes is the account's, and a move needs it.
const EVERY: Duration = Duration::from_secs(60);

/// For so long after a move, or after the start of this member, nothing is asked.
const QUIET: Duration = Duration::from_secs(10);

/// How much older than it says a report may be when it is heard: its own deadline (`raft/reports.rs`).
const REPORT_AGE: Duration = Duration::from_millis(500);

/// What EC2 said last of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Right {
    pub at: Time,
    pub denied: Option<Denied>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    /// When it was first denied.
    pub since: Time,
    pub why: String,
}

#[derive(Debug)]
pub(super) struct Rights {
    known: BTreeMap<RouteTableId, Right>,
    next: Time,
    asked: Option<Time>,
    /// When a move was last seen under way.
    moved: Time,
    /// The last one asked was urgent: the next is the one that was not asked for longest.
    hurried: bool,
    /// The endpoint carries a DryRun out: it is asked for none again (FENCING.md, section 4).
    ignored: bool,
}

impl Rights {
    pub(super) fn new(now: Time) -> Self {
        Self { known: BTreeMap::new(), next: now, asked: None, moved: now, hurried: false, ignored: false }
    }

    pub(super) fn allowed(&mut self, now: Time, table: &RouteTableId) {
        self.known.insert(table.clone(), Right { at: now, denied: None });
    }

    /// Whether this is news.
    pub(super) fn denied(&mut self, now: Time, table: &RouteTableId, why: String) -> bool {
        let before = self.known.get(table).and_then(|right| right.denied.as_ref());
        let since = before.map_or(now, |denied| denied.since);
        let is_news = before.is_none();
        self.known.insert(table.clone(), Right { at: now, denied: Some(Denied { since, why }) });
        is_news
    }

    fn denials(&self) -> impl Iterator<Item = (&RouteTableId, &Denied)> {
        self.known.iter().filter_map(|(table, right)| Some((table, right.denied.as_ref()?)))
    }
}

impl Decide {
    /// What EC2 said last of each table that was asked for.
    pub fn rights(&self) -> &BTreeMap<RouteTableId, Right> {
        &self.rights.known
    }

    /// Why this member may not change every route; `None` where it may, as far as is known.
    pub(super) fn denied(&self) -> Option<String> {
        let (_, first) = self.rights.denials().next()?;
        let more = self.rights.denials().count() - 1;
        let more = if more > 0 { format!(" (and {more} more tables)") } else { String::new() };
        Some(format!("{}{more}", first.why))
    }

    /// Why this member would rather see one own that may change the routes which it may not.
    pub(super) fn wants_rights(&self) -> Option<(String, Want)> {
        let why = self.denied()?;
        Some((Cause::Permission.words(&self.settings.me, &why), Want::Permitted))
    }

    /// EC2 has allowed `name` what it denies this member, and later: a policy that is wrong for all of them
    /// moves nothing.
    pub(super) fn is_permitted(&self, name: &Name) -> bool {
        let Some(peer) = self.peers.get(name) else { return false };
        let newer = |(table, denied): (&RouteTableId, &Denied)| {
            peer.allowed.get(table).is_some_and(|at| *at > denied.since + REPORT_AGE)
        };
        self.rights.denials().all(newer)
    }

    pub(super) fn take_rehearsed(
        &mut self,
        now: Now,
        swap: &Swap,
        result: Result<(), CloudError>,
        out: &mut Vec<Effect>,
    ) {
        self.rights.asked = None;
        match result {
            Ok(()) => self.rights.allowed(now.time, &swap.route.table),
            Err(error @ CloudError::Unauthorized { .. }) => {
                let (table, why) = (swap.route.table.clone(), error.to_string());
                if self.rights.denied(now.time, &table, why.clone()) {
                    out.push(Effect::Tell(Story::Denied { table, why }));
                }
            }
            Err(error @ CloudError::DryRunIgnored { .. }) => {
                self.rights.ignored = true;
                let table = swap.route.table.clone();
                out.push(Effect::Tell(Story::Denied { table, why: error.to_string() }));
            }
            // It says nothing about what is allowed.
            Err(_) => {}
        }
    }

    /// Asks about the next table when it is time.
    pub(super) fn rehearse(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.may_move() {
            self.rights.moved = now.time;
        }
        // A DryRun ends within one attempt's time; one that never came back is not waited for.
        let lost = self.settings.attempt_timeout * 2;
        let free = self.rights.asked.is_none_or(|at| now.time.since(at) >= lost);
        if !free || now.time < self.rights.next || now.time.since(self.rights.moved) < QUIET {
            return;
        }
        if self.rights.ignored || self.is_witness(&self.settings.me) {
            return;
        }
        let Some(swap) = self.next_rehearsal() else { return };
        self.rights.next = now.time + EVERY;
        self.rights.asked = Some(now.time);
        out.push(Effect::Rehearse(swap));
    }

    /// A move is under way, or may begin: EC2's budget is its own.
    fn may_move(&self) -> bool {
        let claimed = self.ledger.claim.as_ref().is_some_and(|claim| !claim.done);
        let leads = matches!(self.stage, Stage::Leading(_) | Stage::Handing(_) | Stage::Spent { .. });
        // One that leads and claims nothing, since it may not own, does not move.
        let leads = leads && self.nobody_may_own().is_none();
        claimed || leads || self.raft.leader.is_none() || self.ledger.handover.is_some()
    }

    /// What was allowed or denied of a table that is this group's no more says nothing.
    pub(super) fn forget_rights(&mut self) {
        let routes = self.routes();
        self.rights.known.retain(|table, _| routes.iter().any(|route| route.table == *table));
    }

    /// The table that was not asked about for longest; every other time one that matters now, if there is any:
    /// denied to this member, or to the owner.
    fn next_rehearsal(&mut self) -> Option<Swap> {
        let routes = self.routes();
        let owners = self.ledger.owner().and_then(|owner| self.peers.get(owner));
        let urgent = |table: &RouteTableId| {
            self.rights.known.get(table).is_some_and(|right| right.denied.is_some())
                || owners.is_some_and(|peer| peer.denied.contains_key(table))
        };
        let asked = |table: &RouteTableId| self.rights.known.get(table).map(|right| right.at);
        // Permission is a table's: one VIP stands for all. The first of equals is the first listed.
        let oldest = |hurry: bool| {
            let fits = routes.iter().filter(|route| !hurry || urgent(&route.table));
            fits.min_by_key(|route| asked(&route.table))
        };
        let hurry = !self.rights.hurried && oldest(true).is_some();
        let swap = oldest(hurry).and_then(|route| self.first_swap(route));
        self.rights.hurried = hurry;
        swap
    }
}
