//! The owner: it swaps at once, reads back, and puts right what is wrong (FENCING.md, F-c).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::plan::{Budget, Churn, Fix, Pace, in_sync, plan};
use super::proposal::Proposal;
use super::{Decide, Effect, Look, Now, PROPOSAL_WAIT, Stage, Story, WARM_EVERY};
use crate::ledger::{Claim, Command, Kind, Phases, REQUEST_IDS_KEPT};
use crate::model::route::{CloudError, Outcome, ROUTES_MAX, Sight, Swap, Verb, create_command};
use crate::model::{EniId, Epoch, Name, Observed, RouteKey, Term, Time, WallMs};
use crate::mutant::{self, Mutant};

/// How long the first swaps wait for the address: it takes well under a millisecond, and a route
/// that points at a member without the address loses the first packets.
const ADDRESS_WAIT: Duration = Duration::from_millis(50);

/// After this a move is over even if a route table does not show it: `status` says degraded. The ledger learns it
/// once more when all do.
const MOVE_ENDS: Duration = Duration::from_secs(5);

/// Reading back is fast for so long after a claim ...
const FAST: Duration = Duration::from_secs(15);

/// ... every second, which is also how soon a look that failed is tried again ...
const AGAIN: Duration = Duration::from_secs(1);

/// ... and for so long where an earlier call may still land: EC2 takes a signature for 15 minutes
/// (AWS SigV4, request expiry).
const SIGNATURE_LIVES: Duration = Duration::from_secs(15 * 60);

/// After a handover that was called off: a log that refuses does so at once, and would be asked again at
/// once for as long as it does.
const LEAVE_AGAIN: Duration = Duration::from_millis(100);

/// What the owner is doing.
#[derive(Debug)]
pub(super) struct Owning {
    pub(super) epoch: Epoch,
    pub(super) term: Term,
    pub(super) since: Time,
    marks: Marks,
    /// Covered by a committed intent, not yet tried.
    to_swap: Vec<Swap>,
    in_the_air: BTreeSet<RouteKey>,
    /// When the newest attempt on a route ended: an older look proves nothing about it.
    ended: BTreeMap<RouteKey, Time>,
    proposed: Option<Proposed>,
    /// Every call on these has ended and it is known how; the ledger does not show it yet.
    settled: BTreeSet<RouteKey>,
    /// Some call ended without an answer, and may land until there is calm: no later call on the
    /// same route settles it.
    unknown: BTreeSet<RouteKey>,
    /// That the move is over, how calls ended, that a handover was called off.
    moved: Proposal,
    outcome: Proposal,
    recall: Proposal,
    calm_at: Time,
    /// It does not hand over of its own accord before: a handover was called off a moment ago.
    leave_at: Time,
    pace: Pace,
    budget: Budget,
    request_ids: Vec<String>,
    /// Every route was right in the newest look.
    in_sync: bool,
    was_in_sync: BTreeSet<RouteKey>,
    /// Whom the VIP is to go back to, and since when that member would do.
    pub(super) preferred: Option<(Name, Time)>,
    churn: Churn,
}

/// An intent on its way through the log.
#[derive(Debug)]
struct Proposed {
    serial: u64,
    swaps: Vec<Swap>,
    at: Time,
}

impl Proposed {
    fn routes(&self) -> impl Iterator<Item = &RouteKey> {
        self.swaps.iter().map(|s| &s.route)
    }
}

/// When each phase of a move ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks {
    lost: Option<Time>,
    campaign: Option<Time>,
    led: Time,
    claimed: Time,
    address: Option<Time>,
    routed: Option<Time>,
    verified: Option<Time>,
}

impl Marks {
    pub(super) fn begin(lost: Option<Time>, campaign: Option<Time>, led: Time) -> Self {
        let campaign = campaign.filter(|c| lost.is_none_or(|l| *c >= l) && *c <= led);
        Self { lost, campaign, led, ..Self::default() }
    }

    /// Each phase from the end of the one before it. A switchover detects nothing.
    fn phases(&self, kind: Kind) -> (Phases, u64) {
        let us = |from: Time, to: Time| u64::try_from(to.since(from).as_micros()).unwrap_or(u64::MAX);
        let lost = self.lost.unwrap_or(self.led);
        let planned = kind == Kind::Switchover;
        let campaign = if planned { lost } else { self.campaign.unwrap_or(self.led) };
        let address = self.address.unwrap_or(self.claimed).max(self.claimed);
        let routed = self.routed.map(|r| r.max(address));
        let phases = Phases {
            detect: (!planned && self.lost.is_some()).then(|| us(lost, campaign)),
            elect: Some(us(campaign, self.led)),
            claim: Some(us(self.led, self.claimed)),
            address: self.address.map(|_| us(self.claimed, address)),
            route: routed.map(|r| us(address, r)),
            verify: self.verified.map(|v| us(routed.unwrap_or(address), v)),
        };
        let Phases { detect, elect, claim, address, route, verify } = phases;
        (phases, [detect, elect, claim, address, route, verify].into_iter().flatten().sum())
    }
}

impl Owning {
    pub(super) fn begin(now: Now, claim: &Claim, marks: Marks, decide: &Decide) -> Self {
        let mut owning = Self {
            epoch: claim.epoch,
            term: claim.term,
            since: now.time,
            marks: Marks { claimed: now.time, ..marks },
            to_swap: Vec::new(),
            in_the_air: BTreeSet::new(),
            ended: BTreeMap::new(),
            proposed: None,
            settled: BTreeSet::new(),
            unknown: BTreeSet::new(),
            moved: Proposal::new(now.time),
            outcome: Proposal::new(now.time),
            recall: Proposal::new(now.time),
            calm_at: now.time + SIGNATURE_LIVES,
            leave_at: now.time,
            pace: Pace::default(),
            budget: Budget::full(now.time),
            request_ids: Vec::new(),
            in_sync: false,
            was_in_sync: BTreeSet::new(),
            preferred: None,
            churn: Churn::default(),
        };
        // From another member: swap at once, nothing is read first. Otherwise the route is probably
        // right already, and a look decides.
        let unsettled = &decide.ledger.unsettled;
        let intended = || unsettled.keys().filter(|r| unsettled.get(r) == Some(&0));
        match claim.kind {
            Kind::Failover | Kind::Switchover => {
                let order = decide.routes();
                owning.to_swap = order
                    .iter()
                    .filter(|r| intended().any(|i| i == *r))
                    .filter_map(|r| decide.first_swap(r))
                    .collect();
            }
            Kind::First | Kind::Renewal => owning.settled.extend(intended().cloned()),
        }
        owning
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.to_swap.is_empty() || !self.in_the_air.is_empty() || self.proposed.is_some()
    }

    pub(super) fn had_address(&self) -> bool {
        self.marks.address.is_some()
    }

    pub(super) fn calls_in_the_air(&self) -> usize {
        self.in_the_air.len()
    }

    pub(super) fn proposal_failed(&mut self, now: Now, command: &Command) {
        if let Command::Intent { epoch, serial, routes } = command {
            let this = |p: &mut Proposed| *serial == p.serial && p.routes().eq(routes);
            self.proposed.take_if(|p| *epoch == self.epoch && this(p));
        }
        for proposal in [&mut self.moved, &mut self.outcome, &mut self.recall] {
            proposal.failed(now.time, command);
        }
    }

    /// The handover that was announced at `at` in this term is off.
    pub(super) fn recall(&mut self, now: Now, at: WallMs) -> Effect {
        self.recall.propose(now.time, Command::Recall { term: self.term, at })
    }

    /// A handover was called off: the next wish for one waits.
    pub(super) fn stay_a_while(&mut self, now: Now) {
        self.leave_at = now.time + LEAVE_AGAIN;
    }

    /// No more calls under this claim: what was not begun is dropped.
    pub(super) fn quiesce(&mut self) {
        self.to_swap.clear();
        self.proposed = None;
    }
}

impl Decide {
    pub(super) fn first_swap(&self, route: &RouteKey) -> Option<Swap> {
        let missing = self.sight().is_some_and(|s| s.routes.get(route) == Some(&Observed::Missing));
        let verb = match (missing, self.settings.create_missing) {
            (true, true) => Verb::Create,
            (true, false) | (false, _) => Verb::Replace,
        };
        Some(Swap { route: route.clone(), eni: self.settings.eni.clone()?, verb })
    }

    pub(super) fn own(&mut self, now: Now, mut o: Box<Owning>, out: &mut Vec<Effect>) -> Stage {
        if o.marks.address.is_none() && self.has_addresses(now) {
            o.marks.address = Some(now.time);
        }
        self.intent_applied(&mut o);
        // Before anything is taken: what is handed out in the step that closes the gate is fenced.
        let may_leave = now.time >= o.leave_at && self.quorum_stands(now.time);
        let paused = self.ledger.paused.is_some();
        for (reason, want) in self.wishes().filter(|_| may_leave && !paused) {
            if let Some(to) = self.goes_to(now.time, want) {
                return self.begin_handover(now, o, to, reason, out);
            }
        }
        if may_leave && let Some((to, reason)) = self.wants_back(now, &mut o) {
            return self.begin_handover(now, o, to, reason, out);
        }
        self.swap(now, &mut o, out);
        self.conclude(now, &mut o, out);
        Stage::Owning(o)
    }

    fn intent_applied(&self, o: &mut Owning) {
        // An earlier intent that was given up may come through late, with the same serial and other
        // routes: what counts is that the ledger has this one's.
        let committed = |p: &mut Proposed| {
            let covers = |s: &Swap| self.ledger.unsettled.get(&s.route) >= Some(&p.serial);
            p.swaps.iter().all(covers)
        };
        if let Some(p) = o.proposed.take_if(committed) {
            o.to_swap.extend(p.swaps);
        }
    }

    /// Hands the swaps out that an applied intent covers, once the address is there, within EC2's
    /// budget, under a fresh permit.
    fn swap(&mut self, now: Now, o: &mut Owning, out: &mut Vec<Effect>) {
        let ready = o.marks.address.is_some() || now.time.since(o.since) >= ADDRESS_WAIT;
        let Some(permit) = self.permit_for(o.epoch, now.time).filter(|_| ready) else {
            return;
        };
        // A late entry may have settled what waits here: a look decides again.
        let intended =
            |s: &Swap| self.ledger.unsettled.contains_key(&s.route) || mutant::on(Mutant::StillIntended);
        o.to_swap.retain(intended);
        while !o.to_swap.is_empty() && o.budget.take(now.time) {
            let swap = o.to_swap.remove(0);
            o.pace.wrote(&swap.route, now.time);
            o.settled.remove(&swap.route);
            o.in_the_air.insert(swap.route.clone());
            out.push(Effect::Swap(swap, permit));
        }
    }

    /// Ends what is over: intents, the move, the fear of earlier calls.
    fn conclude(&mut self, now: Now, o: &mut Owning, out: &mut Vec<Effect>) {
        let Some(claim) = self.ledger.claim.as_ref().filter(|c| c.epoch == o.epoch) else {
            return;
        };
        let quiet = !o.is_busy();
        let right = o.in_sync && quiet;
        let over = !claim.done && (right || now.time.since(o.since) >= MOVE_ENDS);
        // Whom the VIP left keeps the address until it is known to be right.
        let late = claim.done && right && self.ledger.is_out_of_sync();
        if (over || late) && o.moved.is_due(now.time) {
            let (phases, total_us) = o.marks.phases(claim.kind);
            let moved = Command::Moved {
                epoch: o.epoch,
                phases,
                total_us,
                in_sync: o.in_sync,
                request_ids: o.request_ids.clone(),
            };
            out.push(o.moved.propose(now.time, moved));
        }
        o.settled.retain(|r| self.ledger.unsettled.contains_key(r));
        if o.settled.is_empty() {
            o.outcome = Proposal::new(now.time);
        } else if quiet && claim.done && o.outcome.is_due(now.time) {
            let settled = o.settled.iter().cloned().collect();
            let outcome = Command::Outcome { epoch: o.epoch, serial: claim.serial, settled };
            out.push(o.outcome.propose(now.time, outcome));
        }
        // An owner that hands nothing over has called it off; and the log may be late.
        if let Some(h) = self.ledger.handover.as_ref().filter(|h| h.term == o.term)
            && o.recall.is_due(now.time)
        {
            out.push(o.recall(now, h.at));
        }
        if now.time >= o.calm_at && quiet && (self.ledger.stray || !self.ledger.unsettled.is_empty()) {
            o.calm_at = now.time + SIGNATURE_LIVES;
            o.unknown.clear();
            out.push(Effect::Propose(Command::Calm { epoch: o.epoch }));
        }
    }

    /// Once a claim, be it handed over meanwhile.
    pub(super) fn tell_move_over(&mut self, out: &mut Vec<Effect>) {
        let mine = self.ledger.claim.as_ref().filter(|c| Some(c.epoch) == self.moving);
        if let Some(claim) = mine.filter(|c| c.done) {
            let recorded = self.ledger.last_move().filter(|m| m.epoch == claim.epoch);
            let phases = recorded.map(|m| m.phases).unwrap_or_default();
            out.push(Effect::Tell(Story::MoveOver { kind: claim.kind, phases }));
            self.moving = None;
        }
    }

    pub(super) fn take_swapped(&mut self, now: Now, swap: Swap, epoch: Epoch, outcome: Outcome) {
        let o = match &mut self.stage {
            Stage::Owning(o) => o,
            Stage::Handing(h) => &mut h.owning,
            Stage::Idle | Stage::Leading(_) | Stage::Spent { .. } => return,
        };
        if o.epoch != epoch || !o.in_the_air.remove(&swap.route) {
            return;
        }
        o.ended.insert(swap.route.clone(), now.time);
        match outcome {
            Outcome::Done { request_id } => {
                o.settled.insert(swap.route.clone());
                // More would not be kept, and might not fit into the log.
                let room = REQUEST_IDS_KEPT.saturating_sub(o.request_ids.len());
                o.request_ids.extend(request_id.into_iter().take(room));
                self.rights.allowed(now.time, &swap.route.table);
                self.errors.remove(&swap.route);
            }
            Outcome::Refused(error) => {
                o.settled.insert(swap.route.clone());
                match &error {
                    CloudError::Throttled { .. } => o.pace.throttled(&swap.route),
                    CloudError::NotFound { code, .. } if code.starts_with("InvalidNetworkInterfaceID") => {
                        self.reach.interface_gone(now.time, &swap.eni, code);
                    }
                    CloudError::Unauthorized { .. } => {
                        self.rights.denied(now.time, &swap.route.table, error.to_string());
                    }
                    _ => {}
                }
                self.errors.insert(swap.route, error.to_string());
            }
            Outcome::Fenced(why) => {
                o.settled.insert(swap.route.clone());
                self.errors.insert(swap.route, why.to_string());
            }
            Outcome::Unknown(error) => {
                o.calm_at = now.time + SIGNATURE_LIVES;
                o.unknown.insert(swap.route.clone());
                self.errors.insert(swap.route, error.to_string());
            }
        }
        o.settled.retain(|r| !o.unknown.contains(r));
        if o.in_the_air.is_empty() && o.to_swap.is_empty() {
            if o.marks.routed.is_none() {
                o.marks.routed = Some(now.time);
            }
            // Read back at once; a look that was asked before the swap ended proves nothing.
            self.look.next = now.time;
        }
    }

    pub(super) fn take_look(
        &mut self,
        now: Now,
        asked: Time,
        result: Result<Sight, CloudError>,
        out: &mut Vec<Effect>,
    ) {
        if self.look.asked.take_if(|at| *at == asked).is_none() {
            return;
        }
        match result {
            Ok(sight) => self.take_sight(now, asked, sight, out),
            Err(error) => {
                self.reach.failed(asked, &error);
                self.look_error = Some(error.to_string());
            }
        }
        // A swap that ended meanwhile has made the next look due at once. Otherwise what was just
        // seen says how soon.
        if self.look.next <= asked {
            self.look.next = asked + self.look_gap(now);
        }
    }

    fn take_sight(&mut self, now: Now, asked: Time, sight: Sight, out: &mut Vec<Effect>) {
        self.look_error = None;
        self.reach.answered(now.time);
        if let Some(eni) = &self.settings.eni {
            self.reach.take_sight(now.time, eni, &sight);
        }
        let fixes = self
            .settings
            .eni
            .as_ref()
            .map(|eni| plan(&sight, &self.settings.vips, eni, self.settings.create_missing))
            .unwrap_or_default();
        let all_right = in_sync(&fixes, &sight);
        self.sight = Some((asked, sight));
        self.forget_rights();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Owning(mut o) => {
                self.mend(now, asked, &mut o, fixes, all_right, out);
                Stage::Owning(o)
            }
            other @ (Stage::Idle | Stage::Leading(_) | Stage::Handing(_) | Stage::Spent { .. }) => other,
        };
    }

    fn how_to_create(&self, route: &RouteKey) -> String {
        let eni = self.settings.eni.as_ref().map_or("ENI", EniId::as_str);
        let command = create_command(route.table.as_str(), &route.vip.to_string(), eni);
        format!("the route is missing; create it with {command}, or set aws.create_missing = true")
    }

    /// Desired against observed, by a look that was asked at `asked`.
    fn mend(
        &mut self,
        now: Now,
        asked: Time,
        o: &mut Owning,
        fixes: Vec<(RouteKey, Fix)>,
        all_right: bool,
        out: &mut Vec<Effect>,
    ) {
        let stale = |o: &Owning, r: &RouteKey| {
            o.in_the_air.contains(r) || o.ended.get(r).is_some_and(|at| asked < *at)
        };
        o.in_sync = all_right && !o.is_busy() && fixes.iter().all(|(r, _)| !stale(o, r));
        if o.in_sync && o.marks.verified.is_none() {
            o.marks.verified = Some(now.time);
        }
        let mut swaps = Vec::new();
        for (route, fix) in fixes {
            match fix {
                Fix::None => {
                    self.errors.remove(&route);
                    o.churn.right(&route);
                    o.was_in_sync.insert(route);
                }
                Fix::Missing => {
                    let words = self.how_to_create(&route);
                    if self.errors.insert(route.clone(), words.clone()).is_none() {
                        out.push(Effect::Tell(Story::RouteMissing { route, words }));
                    }
                }
                Fix::Swap(swap) => {
                    if !stale(o, &route) && o.churn.wrong(&route, now.time) {
                        out.push(Effect::Tell(Story::Contended { route: route.clone(), times: Churn::MANY }));
                    }
                    if !stale(o, &route) && o.pace.allows(&route, now.time) {
                        swaps.push(swap);
                    }
                }
            }
        }
        self.contended = o.churn.contended(now.time);
        // An intent is one log entry; the next look finds the rest.
        swaps.truncate(ROUTES_MAX);
        if swaps.is_empty() || o.is_busy() {
            return;
        }
        for swap in swaps.iter().filter(|s| o.was_in_sync.contains(&s.route)) {
            self.repairs += 1;
            out.push(Effect::Tell(Story::Repair { swap: swap.clone() }));
        }
        if mutant::on(Mutant::Intent) {
            return o.to_swap.extend(swaps);
        }
        let serial = self.ledger.claim.as_ref().map_or(0, |c| c.serial) + 1;
        let routes = swaps.iter().map(|s| s.route.clone()).collect();
        out.push(Effect::Propose(Command::Intent { epoch: o.epoch, serial, routes }));
        o.proposed = Some(Proposed { serial, swaps, at: now.time });
    }

    /// How long after a look the next one is due (FENCING.md, F-c).
    fn look_gap(&self, now: Now) -> Duration {
        let Stage::Owning(o) = &self.stage else {
            return if self.reach.is_in_doubt() { AGAIN } else { WARM_EVERY };
        };
        if mutant::on(Mutant::ReadBack) {
            return SIGNATURE_LIVES;
        }
        let stray = self.ledger.stray && !mutant::on(Mutant::Stray);
        let lost = self.reach.is_in_doubt() || self.cut_off().is_some();
        let age = now.time.since(o.since);
        if age < Duration::from_millis(500) {
            Duration::from_millis(250)
        } else if age < Duration::from_secs(1) {
            Duration::from_millis(500)
        } else if age < FAST || (stray && age < SIGNATURE_LIVES) || !o.in_sync || lost {
            AGAIN
        } else {
            self.settings.reconcile
        }
    }

    pub(super) fn look_again(&mut self, now: Now, out: &mut Vec<Effect>) {
        if let Stage::Owning(o) = &mut self.stage {
            // An intent that neither failed nor was applied is proposed anew by the next look.
            o.proposed.take_if(|p| now.time.since(p.at) >= PROPOSAL_WAIT);
        }
        // The adapter ends every look within two attempts' time (one for each way to name tables);
        // one that never came back is not waited for.
        let lost = self.settings.attempt_timeout * 3;
        let free = self.look.asked.is_none_or(|at| now.time.since(at) >= lost);
        if free && now.time >= self.look.next {
            self.look = Look { asked: Some(now.time), next: now.time };
            out.push(Effect::Look);
        }
    }
}
