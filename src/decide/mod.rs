//! PURE: this member's judgement.
//!
//! ```text
//!             role = leader               claim applied
//!   Idle ---------------------> Leading ------------------> Owning <---.
//!    ^                             |                          |        | called off
//!    |                             | may not own              | ask,   | before the
//!    |                             v                          v health | trigger
//!    '--- role != leader ------- Spent <---- trigger ------ Handing ---'
//! ```
//!
//! The permit is open in Owning only, while a quorum's promises last. In Spent it stays closed for
//! the rest of the term, whatever comes (FENCING.md, hole 7).
//!
//! [`Decide::step`] knows no clock, IO or randomness; the driver carries its [`Effect`]s out.

mod address;
pub mod cause;
mod ended;
mod event;
mod handover;
mod leading;
mod lease;
mod leaving;
mod membership;
mod orders;
mod owning;
mod permit;
mod plan;
mod promise;
mod proposal;
mod reach;
mod rights;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use crate::model::route::Fenced;
pub use address::ANSWERS_FOR;
pub use event::{
    Answer, Ask, AskId, AskMode, Asker, Directive, Effect, Event, Now, Order, Peer, RaftView, Refusal, Role,
    Settings, Story, Tunable, WhilePaused,
};
pub use leaving::Waits;
pub use membership::{Change, Enlistment, MEMBERS_MAX, Roster};
pub use permit::{Gate, Permit};
pub use plan::{Fix, plan};
pub use promise::{GIVE_UP, Hearing, Promise};
pub use rights::{Denied, Right};

use crate::ledger::Ledger;
use crate::model::route::{ROUTES_MAX, Sight};
use crate::model::{Epoch, Health, Incarnation, Name, RouteKey, Term, Time, Vip};
use crate::mutant::{self, Mutant};
use handover::{Handing, Want, Watching};
use leading::Leading;
use lease::Lease;
use membership::Changing;
use orders::Pending;
use owning::Owning;
use reach::Reach;
use rights::Rights;

/// The judgement of one member.
#[derive(Debug)]
pub struct Decide {
    settings: Settings,
    raft: RaftView,
    ledger: Arc<Ledger>,
    applied: u64,
    health: Health,
    barred: Option<String>,
    /// Why the VIP cannot be put on its interface.
    without_interface: Option<String>,
    peers: BTreeMap<Name, Peer>,
    addresses: BTreeSet<Vip>,
    address_busy: BTreeMap<Vip, address::Trying>,
    address_refreshed: Time,
    /// Whose move every route was read back for, and when this member learned of it; `None` while it is not so.
    in_sync: Option<(Epoch, Time)>,
    sight: Option<(Time, Sight)>,
    look: Look,
    reach: Reach,
    rights: Rights,
    lease: Lease,
    /// When the newest lease ends or ended (at first: the start), for `release`. One that hands over
    /// has no permit, but its lease.
    lease_end: Option<Time>,
    stage: Stage,
    /// The newest term in which the trigger was pulled: it opens no permit again.
    spent: Option<Term>,
    /// Another member has led while this process ran.
    followed: bool,
    published: Option<Permit>,
    watching: Option<Watching>,
    /// When this member last began a move that somebody asked for.
    transferred: Option<Time>,
    /// Orders that the ledger does not show yet.
    pending: Vec<Pending>,
    changing: Changing,
    /// This member's claim whose move is not known to be over.
    moving: Option<Epoch>,
    /// When this member learned that each lost the VIP last; of `min_hold` at most, and of nothing before its start.
    lost: BTreeMap<Name, Time>,
    repairs: u64,
    errors: BTreeMap<RouteKey, String>,
    contended: BTreeMap<RouteKey, usize>,
    look_error: Option<String>,
}

#[allow(clippy::large_enum_variant, reason = "one is held, and it moves a few times a second")]
#[derive(Debug)]
enum Stage {
    /// Another member leads, or none.
    Idle,
    /// Leader without a claim of this term.
    Leading(Leading),
    Owning(Box<Owning>),
    /// The permit is closed, the trigger not yet pulled.
    Handing(Box<Handing>),
    /// The trigger was pulled in this term.
    Spent {
        since: Time,
    },
}

/// When the route tables are read.
#[derive(Debug)]
struct Look {
    asked: Option<Time>,
    next: Time,
}

/// How often a member that is not the owner reads: the connections stay warm and permissions are
/// known (DESIGN.md section 5).
const WARM_EVERY: Duration = Duration::from_secs(10);

/// How long a proposal may take before it is made again.
const PROPOSAL_WAIT: Duration = Duration::from_secs(1);

impl Decide {
    pub fn new(settings: Settings, now: Now) -> Self {
        Self {
            settings,
            raft: RaftView::default(),
            ledger: Arc::default(),
            applied: 0,
            health: Health::NotChecked,
            barred: None,
            without_interface: None,
            peers: BTreeMap::new(),
            addresses: BTreeSet::new(),
            address_busy: BTreeMap::new(),
            address_refreshed: now.time,
            in_sync: None,
            sight: None,
            look: Look { asked: None, next: now.time },
            reach: Reach::default(),
            rights: Rights::new(now.time),
            lease: Lease::default(),
            lease_end: Some(now.time),
            stage: Stage::Idle,
            spent: None,
            followed: false,
            published: None,
            watching: None,
            transferred: None,
            pending: Vec::new(),
            changing: Changing::new(now.time),
            moving: None,
            lost: BTreeMap::new(),
            repairs: 0,
            errors: BTreeMap::new(),
            contended: BTreeMap::new(),
            look_error: None,
        }
    }

    /// Takes in what happened and says what is to be done.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        self.take_in(now, event, &mut out);
        self.follow_orders(now, &mut out);
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => self.stage = Stage::Idle,
            Stage::Leading(leading) => self.stage = self.lead(now, leading, &mut out),
            Stage::Owning(owning) => self.stage = self.own(now, owning, &mut out),
            Stage::Handing(handing) => self.stage = self.hand(now, handing, &mut out),
            Stage::Spent { since } => self.stage = self.spent(now, since, &mut out),
        }
        self.tend_members(now, &mut out);
        self.tell_move_over(&mut out);
        self.watch(now, &mut out);
        self.lease_end = self.lease_deadline().or(self.lease_end);
        self.keep_address(now, &mut out);
        self.look_again(now, &mut out);
        self.rehearse(now, &mut out);
        // What a later effect may do hangs on the gate: it comes first.
        let permit = self.permit(now.time);
        if permit != self.published {
            self.published = permit;
            out.insert(0, Effect::Gate(permit));
        }
        out
    }

    /// When `step` wants a tick at the latest.
    pub fn wake(&self, now: Time) -> Time {
        let busy = !self.pending.is_empty()
            || match &self.stage {
                Stage::Idle => self.watching.is_some(),
                // One that stands back and finds nobody has no time of its own.
                Stage::Leading(leading) if leading.claim_at() > now => {
                    return leading.claim_at().min(now + Duration::from_millis(10));
                }
                Stage::Leading(_) => true,
                Stage::Handing(_) | Stage::Spent { .. } => true,
                Stage::Owning(owning) => owning.is_busy() || !self.claim_done(),
            };
        now + if busy { Duration::from_millis(10) } else { Duration::from_millis(100) }
    }

    fn take_in(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Tick => {}
            Event::Raft(view) => self.take_raft(now, view),
            Event::Acknowledged { from, term, sent, granted } => {
                self.lease.acknowledge(term, from, sent, granted)
            }
            Event::Applied { ledger, index } => {
                if (&ledger.drained, ledger.paused) != (&self.ledger.drained, self.ledger.paused) {
                    let (drained, paused) = (ledger.drained.clone(), ledger.paused.is_some());
                    out.push(Effect::Tell(Story::Orders { drained, paused }));
                }
                self.raft.last_index = self.raft.last_index.max(index);
                self.note_losses(now.time, &ledger);
                (self.ledger, self.applied) = (ledger, index);
                self.note_sync(now.time);
            }
            Event::ProposalFailed(command) => self.proposal_failed(now, &command),
            Event::Health(health) => self.health = health,
            Event::Addresses(present) => self.take_addresses(now, present, out),
            Event::AddressTried(vip) => self.address_tried(now, vip),
            Event::Peer(name, peer) => self.take_peer(now, name, peer),
            Event::Barred(why) => {
                self.reach.interface_read();
                self.barred = why;
            }
            Event::Interface(gone) => self.without_interface = gone,
            Event::Configured(tunable) => self.take_configured(now, tunable),
            Event::Looked { asked, result } => self.take_look(now, asked, result, out),
            Event::Swapped { swap, epoch, outcome } => self.take_swapped(now, swap, epoch, outcome),
            Event::Rehearsed { swap, result } => self.take_rehearsed(now, &swap, result, out),
            Event::Ended { term } => self.take_end(term, out),
            Event::Asked(ask) => self.take_ask(now, ask, out),
            Event::Ordered(order) => self.take_order(now, order, out),
            Event::Enlist(wish) => self.take_enlistment(now, wish, out),
            Event::Changed(outcome) => self.changed(now, outcome, out),
        }
    }

    fn take_raft(&mut self, now: Now, view: RaftView) {
        let before = std::mem::replace(&mut self.raft, view);
        if before.membership != self.raft.membership {
            self.changing.membership_came(now);
        }
        // After a restart Raft names the leader of its stored vote, who may be dead.
        self.followed |= self.raft.heard.is_some();
        if self.raft.role != Role::Leader {
            self.stage = Stage::Idle;
            self.contended.clear();
            self.lease = Lease::default();
        } else if before.role != Role::Leader || before.term != self.raft.term {
            self.lease = Lease::begin(self.raft.term);
            self.stage = if self.spent == Some(self.raft.term) {
                Stage::Spent { since: now.time }
            } else {
                Stage::Leading(Leading::begin(now, &self.raft))
            };
        }
    }

    /// A look that is under way may be of other tables: a new one is asked for.
    fn take_configured(&mut self, now: Now, tunable: Tunable) {
        self.settings.tune(tunable);
        self.look = Look { asked: None, next: now.time };
    }

    /// The proof that this member may call now; `None` outside Owning and outside the lease.
    fn permit(&self, now: Time) -> Option<Permit> {
        let epoch = match &self.stage {
            Stage::Owning(owning) => owning.epoch,
            Stage::Handing(_) | Stage::Spent { .. } if mutant::on(Mutant::ClosedBeforeTransfer) => {
                self.ledger.claim.as_ref()?.epoch
            }
            Stage::Idle | Stage::Leading(_) | Stage::Handing(_) | Stage::Spent { .. } => return None,
        };
        self.permit_for(epoch, now)
    }

    fn permit_for(&self, epoch: Epoch, now: Time) -> Option<Permit> {
        let deadline = self.lease_deadline()?;
        let newest =
            self.ledger.claim.as_ref().is_some_and(|c| {
                c.epoch == epoch && c.member == self.settings.me && c.term == self.raft.term
            });
        let newest = newest || mutant::on(Mutant::NewestClaim);
        (newest && now + self.settings.margin < deadline)
            .then(|| Permit::mint(self.raft.term, epoch, deadline))
    }

    /// `None` for one that does not lead, and where no quorum has acknowledged.
    fn lease_deadline(&self) -> Option<Time> {
        let leads = self.raft.role == Role::Leader;
        leads.then(|| self.lease.deadline(self.settings.my_incarnation, &self.raft.configs))?
    }

    fn claim_done(&self) -> bool {
        self.ledger.claim.as_ref().is_some_and(|c| c.done)
    }

    /// Every route that is to point at the owner, in the order in which they are swapped: the listed
    /// tables, then those that the newest look found by tag.
    fn routes(&self) -> Vec<RouteKey> {
        let mut tables = self.settings.tables.clone();
        let seen = self.sight.iter().flat_map(|(_, s)| &s.tables);
        for table in seen {
            if !tables.contains(table) {
                tables.push(table.clone());
            }
        }
        let vips = &self.settings.vips;
        let all = tables.iter().flat_map(|t| vips.iter().map(|v| RouteKey { table: t.clone(), vip: *v }));
        // What a tag adds beyond that the looks find, and intents of their own put right.
        all.take(ROUTES_MAX).collect()
    }
}

/// What others may know of the judgement: `status` and the metrics are made of it.
impl Decide {
    /// The data directory of this member.
    pub fn incarnation(&self) -> Incarnation {
        self.settings.my_incarnation
    }

    pub fn raft(&self) -> &RaftView {
        &self.raft
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn applied(&self) -> u64 {
        self.applied
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    pub fn peers(&self) -> &BTreeMap<Name, Peer> {
        &self.peers
    }

    pub fn addresses(&self) -> &BTreeSet<Vip> {
        &self.addresses
    }

    pub fn sight(&self) -> Option<&Sight> {
        self.sight.as_ref().map(|(_, s)| s)
    }

    /// When the look that is under way was asked for.
    pub fn look_asked(&self) -> Option<Time> {
        self.look.asked
    }

    /// Why the newest look failed.
    pub fn look_error(&self) -> Option<&str> {
        self.look_error.as_deref()
    }

    /// The newest failure of a swap of this route, since it was last right.
    pub fn route_error(&self, route: &RouteKey) -> Option<&str> {
        self.errors.get(route).map(String::as_str)
    }

    /// Routes that somebody else keeps changing, and how often within the last minute.
    pub fn contended(&self) -> &BTreeMap<RouteKey, usize> {
        &self.contended
    }

    /// Routes put right outside a move since this process started.
    pub fn repairs(&self) -> u64 {
        self.repairs
    }

    /// The open permit as it was last published.
    pub fn open_permit(&self) -> Option<Permit> {
        self.published
    }

    /// A quorum's promises to this leader last beyond `now`.
    pub fn quorum_stands(&self, now: Time) -> bool {
        self.lease.deadline(self.settings.my_incarnation, &self.raft.configs).is_some_and(|end| now < end)
    }

    /// A switchover was begun here and has not ended.
    pub fn is_handing_over(&self) -> bool {
        self.watching.is_some() || matches!(self.stage, Stage::Handing(_))
    }

    /// This member leads and its claim is the newest one.
    pub fn is_owner(&self) -> bool {
        matches!(self.stage, Stage::Owning(_) | Stage::Handing(_))
    }

    /// It is the owner, and a quorum stands behind it at `now`: without one, another may own.
    pub fn owns(&self, now: Time) -> bool {
        self.is_owner() && self.quorum_stands(now)
    }

    /// Why this member may not own; `None` where it may.
    pub fn not_eligible(&self) -> Option<String> {
        let is_drained =
            self.ledger.drained.contains(&self.settings.me) && !mutant::on(Mutant::DrainedLeader);
        let drained = || is_drained.then(|| cause::DRAINED.to_owned());
        self.unable().or_else(drained)
    }

    /// Why this member cannot own, whatever operators ordered.
    pub fn unable(&self) -> Option<String> {
        if self.is_witness(&self.settings.me) {
            return Some("it is a witness".to_owned());
        }
        if self.is_leaving() {
            return Some(cause::LEAVING.to_owned());
        }
        if self.settings.eni.is_none() {
            return Some("its network interface is not known".to_owned());
        }
        let here = self.barred.clone().or_else(|| self.without_interface.clone());
        here.or_else(|| self.reach.no_interface().map(str::to_owned))
    }

    /// Why no member may own, so that the last claim stands. Only a leader can tell.
    pub fn nobody_may_own(&self) -> Option<String> {
        let mine = self.not_eligible().filter(|_| self.raft.role == Role::Leader)?;
        let others = self.best(Want::Any).is_none().then(|| self.why_nobody())?;
        Some(format!("{}: {mine}; {others}", self.settings.me))
    }

    fn is_witness(&self, name: &Name) -> bool {
        self.raft.member(name).is_some_and(|m| m.witness)
    }

    fn term(&self) -> Term {
        self.raft.term
    }
}
