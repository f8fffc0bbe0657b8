//! THE loop: events in, `step`, effects out.
//!
//! ```text
//!   raft, acks ---.                          .--> gate
//!   ledger -------|                          |--> propose, transfer   (a task each)
//!   health -------|--> events --> step() ----|--> look, swap          (a task each)
//!   addresses ----|                          |--> address             (a task each)
//!   reports ------|                          '--> answers to operators
//!   operators ----'
//! ```
//!
//! Each task makes one call with a deadline and sends one event; `step` sees to it that there are
//! few. A panic anywhere ends the process (`bin/vipd.rs`).

mod ebb;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use self::ebb::Ebb;
use crate::clock;
use crate::config::{Config, InForce};
use crate::decide::cause::{self, Cause};
use crate::decide::{
    ANSWERS_FOR, Answer, Ask, AskId, AskMode, Asker, Change, Decide, Effect, Enlistment, Event, Gate, Now,
    Order, Peer, Permit, Refusal, Role, Settings, Story, Tunable, Waits, WhilePaused,
};
use crate::ledger::{Kind, Phases};
use crate::metrics::Metrics;
use crate::model::route::{CloudError, Fenced, Outcome, Stamp, Swap};
use crate::model::{Health, Incarnation, Member, Name, RouteTableId, Vip};
use crate::mutant::{self, Mutant};
use crate::net::Interface;
use crate::proto;
use crate::raft::{Group, Heard, SILENT_AFTER};
use crate::rpc::desk::{Plan, Query, Transfer, Wish};
use crate::rpc::http::Standing;
use crate::rpc::picture::{Myself, View, read_health, read_member};
use crate::runtime;
use crate::service::Pulse;
use crate::tls::Credentials;
use crate::vpc::Cloud;

/// Events that may wait: two seconds of acknowledgements from six members at the fastest profile.
pub const EVENTS_MAX: usize = 1024;

/// Operators' requests that may wait; more are held back at the port.
pub const QUERIES_MAX: usize = 64;

/// The hands of one member, and what they are told by.
pub struct Hands<C, N> {
    pub config: InForce,
    pub myself: Myself,
    pub group: Group,
    pub gate: Arc<Gate>,
    pub cloud: Arc<C>,
    pub addresses: N,
    pub metrics: Metrics,
    /// `None` without TLS.
    pub credentials: Option<Arc<Credentials>>,
    /// What the watchdog is fed by.
    pub pulse: Pulse,
    /// The term and claim that requests made elsewhere carry.
    pub stamp: watch::Sender<Stamp>,
    /// To itself: how tasks report.
    pub events: mpsc::Sender<Event>,
}

/// What comes in.
pub struct Inputs {
    pub events: mpsc::Receiver<Event>,
    pub queries: mpsc::Receiver<Query>,
    pub health: watch::Receiver<Health>,
    pub present: watch::Receiver<std::collections::BTreeSet<Vip>>,
    /// Whether `vip.interface` is there.
    pub interface: watch::Receiver<bool>,
    /// What a reload has brought.
    pub config: watch::Receiver<InForce>,
    /// Turns true when the process is to end.
    pub stop: watch::Receiver<bool>,
}

/// Runs one member until it is told to stop; an owner hands over first.
pub struct Driver<C, N> {
    hands: Hands<C, N>,
    decide: Decide,
    waiting: BTreeMap<AskId, Waiting>,
    next_ask: u64,
    told: BTreeMap<Name, Peer>,
    heard: Heard,
    standing: watch::Sender<Standing>,
    stopping: Option<Stopping>,
    pictured: crate::model::Time,
    /// Whom a move waits for that was told.
    waits_for: Option<Name>,
    ebb: Ebb,
}

enum Waiting {
    Operator(oneshot::Sender<Result<Answer, Refusal>>),
    Stop,
}

/// A stop is over when the address is gone too, or at its end.
struct Stopping {
    by: crate::model::Time,
    handed_over: bool,
    /// Another move was under way: ask again then.
    again: Option<crate::model::Time>,
}

/// The part of it that a reload may change.
pub fn tunable(config: &Config) -> Tunable {
    Tunable {
        tables: config.aws.route_tables.clone(),
        create_missing: config.aws.create_missing,
        reconcile: config.aws.reconcile,
        on_quorum_loss: config.policy.on_quorum_loss,
        failback: config.policy.failback,
        min_hold: config.policy.min_hold,
    }
}

/// What the judgement of this member goes by.
pub fn settings(config: &Config, me: Incarnation, myself: &Myself) -> Settings {
    let lifetime = config.vip.lifetime_s;
    let Tunable { tables, create_missing, reconcile, on_quorum_loss, failback, min_hold } = tunable(config);
    // A third of it: two refreshes may come late before the kernel takes the address away.
    let third = Duration::from_millis(u64::from(lifetime) * 1000 / 3);
    Settings {
        me: config.member.clone(),
        my_incarnation: me,
        own: own(config, myself),
        vips: config.vip.addresses.clone(),
        tables,
        eni: myself.eni.clone(),
        create_missing,
        margin: config.timing.margin(),
        election_max: config.timing.election_max,
        attempt_timeout: config.aws.attempt_timeout,
        reconcile,
        on_quorum_loss,
        failback,
        min_hold,
        refresh_address: (lifetime > 0).then(|| third.min(REFRESH)),
    }
}

/// How often a lifetime is refreshed at least: by so much earlier than `lifetime_s` after a freeze the kernel may take
/// the address away.
const REFRESH: Duration = Duration::from_secs(1);
/// What this member's file says of it, with its zone from IMDS where the file names none.
fn own(config: &Config, myself: &Myself) -> Member {
    let zone = Some(myself.zone.clone()).filter(|zone| !zone.is_empty());
    let mut own = config.own();
    own.zone = zone.or(own.zone);
    own
}

/// How long after a refused handover the next is asked for.
const STOP_AGAIN: Duration = Duration::from_millis(100);

/// Beside the labels of [`Fenced`], the reason of a call that was dropped half-way, with its lease. Of the others no
/// byte had left; of this one some may have.
pub const DROPPED: &str = "dropped";

/// How long SIGTERM waits for the handover.
pub const STOP_DEADLINE: Duration = Duration::from_secs(10);

impl<C: Cloud, N: Interface> Driver<C, N> {
    pub fn new(hands: Hands<C, N>, decide: Decide, standing: watch::Sender<Standing>) -> Self {
        let [closed, superseded, lease_over] = Fenced::ALL.map(Fenced::label);
        hands.metrics.start_at_zero(&cause::counted(), &[closed, superseded, lease_over, DROPPED]);
        Self {
            hands,
            decide,
            waiting: BTreeMap::new(),
            next_ask: 0,
            told: BTreeMap::new(),
            heard: Heard::new(),
            standing,
            stopping: None,
            pictured: clock::now(),
            waits_for: None,
            ebb: Ebb::default(),
        }
    }

    /// Returns when a stop has been carried out.
    pub async fn run(mut self, mut inputs: Inputs) {
        let mut applied = self.hands.group.applied();
        let mut heard = self.hands.group.reports().heard();
        applied.mark_changed();
        inputs.health.mark_changed();
        inputs.present.mark_changed();
        inputs.interface.mark_changed();
        loop {
            self.hands.pulse.turn();
            let wake = self.decide.wake(clock::now());
            let event = tokio::select! {
                biased;
                Some(event) = inputs.events.recv() => event,
                Ok(()) = applied.changed() => {
                    let a = applied.borrow_and_update().clone();
                    Event::Applied { ledger: a.ledger, index: a.index }
                }
                Ok(()) = inputs.present.changed() => Event::Addresses(inputs.present.borrow_and_update().clone()),
                Ok(()) = inputs.interface.changed() => self.interface(*inputs.interface.borrow_and_update()),
                Ok(()) = inputs.config.changed() => self.configured(inputs.config.borrow_and_update().clone()),
                Ok(()) = inputs.health.changed() => Event::Health(inputs.health.borrow_and_update().clone()),
                Some(query) = inputs.queries.recv() => match self.query(query) {
                    Some(event) => event,
                    None => continue,
                },
                Ok(()) = inputs.stop.changed(), if self.stopping.is_none() => self.stop(),
                Ok(()) = heard.changed() => {
                    self.heard = heard.borrow_and_update().clone();
                    Event::Tick
                }
                () = runtime::sleep(wake.since(clock::now())) => Event::Tick,
            };
            fault!(wait "loop.event");
            // A heartbeat's answer, the commonest event, tells nothing of the others that a report does not.
            if !is_answer(&event) {
                self.peers().into_iter().for_each(|event| self.step(event));
            }
            self.step(event);
            if self.stopping.as_mut().is_some_and(|s| s.again.take_if(|at| clock::now() >= *at).is_some()) {
                let event = self.ask_to_hand_over();
                self.step(event);
            }
            if self.has_stopped() {
                return;
            }
            if self.stop_ends().is_some_and(|end| clock::now() >= end) {
                tracing::warn!(
                    "vipd stops without having handed over within {STOP_DEADLINE:?}: routes may point here still; HAProxy and \
                     the address serve them until another member has moved them"
                );
                return;
            }
        }
    }

    fn step(&mut self, event: Event) {
        let quiet = is_answer(&event);
        let now = Now { time: clock::now(), wall: clock::wall() };
        self.ebb.note(now.time, self.decide.open_permit().map(|p| p.deadline()));
        for effect in self.decide.step(now, event) {
            self.carry_out(effect);
        }
        if !quiet {
            self.publish();
            self.publish_picture();
        }
    }

    fn interface(&self, is_there: bool) -> Event {
        let name = &self.hands.config.config.vip.interface;
        let gone = || format!("its interface {name} is gone or renamed: ip link lists those that are there");
        Event::Interface((!is_there).then(gone))
    }

    fn configured(&mut self, newer: InForce) -> Event {
        self.hands.config = newer;
        Event::Configured(tunable(&self.hands.config.config))
    }

    fn view(&self) -> View<'_> {
        View {
            config: &self.hands.config.config,
            refused: self.hands.config.refused.as_deref(),
            restart: &self.hands.config.restart,
            myself: &self.hands.myself,
            decide: &self.decide,
            heard: &self.heard,
            leader_heard: self.hands.group.heard(),
            quarantined: self.hands.group.in_quarantine(),
            now: clock::now(),
            certificate: self.hands.credentials.as_ref().map(|c| c.validity().1),
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Gate(permit) => {
                fault!("loop.gate");
                self.hands.gate.set(permit);
            }
            Effect::Propose(command) => {
                let (group, events) = (self.hands.group.clone(), self.hands.events.clone());
                runtime::spawn(async move {
                    tracing::debug!(%command, "propose");
                    if let Err(error) = group.propose(command.clone()).await {
                        tracing::debug!(%error, "the log took no entry");
                        let _ = events.send(Event::ProposalFailed(command)).await;
                    }
                });
            }
            Effect::Look => self.look(),
            Effect::Swap(swap, permit) => self.swap(swap, permit),
            Effect::Rehearse(swap) => self.rehearse(swap),
            Effect::AddAddress(vip, permit) => {
                let (net, events) = (self.hands.addresses.clone(), self.hands.events.clone());
                runtime::spawn(async move {
                    if let Err(error) = net.add(vip, &permit).await {
                        tracing::error!(%vip, %error, "address not added");
                    }
                    let _ = events.send(Event::AddressTried(vip)).await;
                });
            }
            Effect::RemoveAddress(vip) => {
                let (net, events) = (self.hands.addresses.clone(), self.hands.events.clone());
                runtime::spawn(async move {
                    if let Err(error) = net.remove(vip).await {
                        tracing::error!(%vip, %error, "address not removed");
                    }
                    let _ = events.send(Event::AddressTried(vip)).await;
                });
            }
            Effect::Transfer(to) => {
                let group = self.hands.group.clone();
                runtime::spawn(async move {
                    if let Err(error) = group.transfer(to).await {
                        tracing::error!(%error, "the transfer was not triggered");
                    }
                });
            }
            Effect::Campaign { term, after } => {
                let group = self.hands.group.clone();
                runtime::spawn(async move { group.campaign(term, after).await });
            }
            Effect::Change(change) => self.change(change),
            Effect::Answer(id, answer) => self.answer(id, answer),
            Effect::Tell(story) => self.tell(story),
        }
    }

    fn change(&self, change: Change) {
        let (group, events) = (self.hands.group.clone(), self.hands.events.clone());
        runtime::spawn(async move {
            let outcome = group.change(change).await;
            // Who is told that it is done is to see it.
            let _ = events.send(Event::Raft(group.view())).await;
            let _ = events.send(Event::Changed(outcome)).await;
        });
    }

    fn stamp(&self) -> Stamp {
        let epoch = self.decide.ledger().claim.as_ref().map(|c| c.epoch).unwrap_or_default();
        Stamp { term: self.decide.raft().term, epoch }
    }

    fn look(&self) {
        let (cloud, events, stamp) = (Arc::clone(&self.hands.cloud), self.hands.events.clone(), self.stamp());
        let asked = clock::now();
        // `step` asked a moment ago on the same clock: the look counts from then.
        let asked_of = self.decide.look_asked().unwrap_or(asked);
        runtime::spawn(async move {
            fault!(wait "loop.look");
            let result = cloud.look(stamp).await;
            fault!(wait "loop.looked");
            if let Err(error) = &result {
                tracing::warn!(%error, "the route tables could not be read");
            }
            let _ = events.send(Event::Looked { asked: asked_of, result }).await;
        });
    }

    fn swap(&self, swap: Swap, permit: Permit) {
        let (cloud, gate) = (Arc::clone(&self.hands.cloud), Arc::clone(&self.hands.gate));
        let (events, metrics) = (self.hands.events.clone(), self.hands.metrics.clone());
        runtime::spawn(async move {
            let epoch = permit.epoch();
            fault!(wait "loop.swap");
            let call = cloud.swap(swap.clone(), permit, Arc::clone(&gate));
            let outcome = tokio::select! {
                biased;
                outcome = call => outcome,
                // What is in the air when the lease ends is dropped; EC2 may have it all the same.
                () = lease_ends(&gate, permit) => {
                    metrics.fenced(DROPPED);
                    Outcome::Unknown(CloudError::Dropped { action: swap.verb.action() })
                }
            };
            match &outcome {
                Outcome::Done { request_id } => {
                    let request_id = request_id.as_deref().unwrap_or("");
                    tracing::info!(table = %swap.route.table, vip = %swap.route.vip, eni = %swap.eni, request_id, "route swapped");
                }
                Outcome::Refused(error) | Outcome::Unknown(error) => {
                    tracing::warn!(table = %swap.route.table, vip = %swap.route.vip, %error, "route not swapped");
                }
                Outcome::Fenced(why) => {
                    metrics.fenced(why.label());
                    tracing::warn!(table = %swap.route.table, vip = %swap.route.vip, %why, "call stopped by the fence");
                }
            }
            fault!(wait "loop.swapped");
            let _ = events.send(Event::Swapped { swap, epoch, outcome }).await;
        });
    }

    fn rehearse(&self, swap: Swap) {
        let (cloud, events, stamp) = (Arc::clone(&self.hands.cloud), self.hands.events.clone(), self.stamp());
        runtime::spawn(async move {
            fault!(wait "loop.rehearse");
            let result = cloud.rehearse(swap.clone(), stamp).await;
            if let Err(error) = &result {
                tracing::debug!(table = %swap.route.table, %error, "a DryRun was not answered by a yes");
            }
            let _ = events.send(Event::Rehearsed { swap, result }).await;
        });
    }

    fn query(&mut self, query: Query) -> Option<Event> {
        match query {
            Query::Status(reply) => {
                let _ = reply.send(self.view().status());
                None
            }
            Query::History(limit, reply) => {
                let _ = reply.send(self.view().history(limit));
                None
            }
            Query::Transfer(transfer, reply) => Some(self.ask(transfer, Waiting::Operator(reply))),
            Query::Order(Wish { what, while_paused, wait }, reply) => {
                let id = self.wait_for(Waiting::Operator(reply));
                Some(Event::Ordered(Order { id, what, while_paused, deadline: clock::now() + wait }))
            }
            Query::Enlist(Plan { what, while_paused, wait }, reply) => {
                let id = self.wait_for(Waiting::Operator(reply));
                Some(Event::Enlist(Enlistment { id, what, while_paused, deadline: clock::now() + wait }))
            }
        }
    }

    fn wait_for(&mut self, who: Waiting) -> AskId {
        let id = AskId(self.next_ask);
        self.next_ask += 1;
        self.waiting.insert(id, who);
        id
    }

    fn ask(&mut self, transfer: Transfer, who: Waiting) -> Event {
        let id = self.wait_for(who);
        let Transfer { to, reason, mode, while_paused, by, wait } = transfer;
        Event::Asked(Ask { id, to, reason, mode, while_paused, by, deadline: clock::now() + wait })
    }

    fn answer(&mut self, id: AskId, answer: Result<Answer, Refusal>) {
        fault!("loop.answer");
        let mine = self.decide.ledger().owner() == Some(&self.hands.config.config.member);
        match self.waiting.remove(&id) {
            Some(Waiting::Operator(reply)) => {
                let _ = reply.send(answer);
            }
            Some(Waiting::Stop) => {
                let Some(stopping) = &mut self.stopping else { return };
                match answer {
                    Ok(_) => tracing::info!("handed over"),
                    Err(Refusal::UnderWay(to)) => {
                        tracing::info!(%to, "a move is under way: waiting for its end");
                        stopping.again = Some(clock::now() + STOP_AGAIN);
                        return;
                    }
                    // Elected or handing over a moment ago: its own claim, or another's, comes.
                    Err(Refusal::NoClaim) => return stopping.again = Some(clock::now() + STOP_AGAIN),
                    Err(Refusal::NotLeader) if mine => {
                        return stopping.again = Some(clock::now() + STOP_AGAIN);
                    }
                    Err(Refusal::NotLeader) => {}
                    Err(refusal) => tracing::warn!(%refusal, "stopping without a handover"),
                }
                stopping.handed_over = true;
            }
            None => {}
        }
    }

    /// SIGTERM: an owner hands over, waits until the route has moved and its address is gone.
    fn stop(&mut self) -> Event {
        tracing::info!("stopping");
        fault!("loop.stop");
        self.stopping = Some(Stopping { by: clock::now() + STOP_DEADLINE, handed_over: false, again: None });
        self.ask_to_hand_over()
    }

    fn ask_to_hand_over(&mut self) -> Event {
        let reason = Cause::Stop.words(&self.hands.config.config.member, "");
        let while_paused = WhilePaused::Move;
        let (mode, by, wait) = (AskMode::Do, Asker::Member, STOP_DEADLINE);
        let transfer = Transfer { to: None, reason, mode, while_paused, by, wait };
        self.ask(transfer, Waiting::Stop)
    }

    fn has_stopped(&self) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        let mine = self.decide.ledger().owner() == Some(&self.hands.config.config.member);
        let released = mine || self.decide.addresses().is_empty();
        stopping.handed_over && released
    }

    /// When it stops, whatever is not over. Where every route has moved by then, the address still has the second in
    /// which it answers.
    fn stop_ends(&self) -> Option<crate::model::Time> {
        let stopping = self.stopping.as_ref()?;
        let moved = stopping.handed_over && !self.decide.ledger().is_out_of_sync();
        Some(stopping.by + if moved { ANSWERS_FOR * 2 } else { Duration::ZERO })
    }

    /// What changed in what is known of the others.
    fn peers(&mut self) -> Vec<Event> {
        let now = clock::now();
        let mut changed = Vec::new();
        let gone = |name: &&Name| !self.heard.contains_key(*name);
        for name in self.told.keys().filter(gone).cloned().collect::<Vec<_>>() {
            // It has left the group; one that comes by that name is another.
            let last = self.told.remove(&name).into_iter();
            changed.extend(last.map(|p| Event::Peer(name.clone(), Peer { reachable: false, ..p })));
        }
        for (name, (at, member)) in &self.heard {
            let peer = Peer {
                reachable: now.since(*at) < SILENT_AFTER,
                health: read_health(member),
                applied: member.applied,
                quarantined: member.quarantined,
                barred: Some(member.not_eligible.clone()).filter(|why| !why.is_empty()),
                reached: member.cloud_seen_ms.map(|ms| at.before(Duration::from_millis(ms))),
                cut_off: Some(member.cloud_error.clone()).filter(|why| !why.is_empty()),
                allowed: rights(member)
                    .filter(|(_, right)| right.allowed)
                    .map(|(table, right)| (table, at.before(Duration::from_millis(right.age_ms))))
                    .collect(),
                denied: rights(member)
                    .filter(|(_, right)| !right.allowed)
                    .map(|(table, right)| (table, right.error.clone()))
                    .collect(),
                says: read_member(member),
            };
            if self.told.get(name) != Some(&peer) {
                self.told.insert(name.clone(), peer.clone());
                changed.push(Event::Peer(name.clone(), peer));
            }
        }
        changed
    }

    /// Reports, checks and gauges follow the judgement.
    fn publish(&self) {
        self.hands.group.reports().set(self.view().me());
        let d = &self.decide;
        let has_leader = self.view().has_quorum();
        let owns = d.owns(clock::now());
        let standing = Standing { ready: has_leader, owner: owns };
        self.standing.send_if_modified(|old| std::mem::replace(old, standing) != standing);
        let m = &self.hands.metrics;
        m.term.set(i64::try_from(d.raft().term.0).unwrap_or(i64::MAX));
        m.is_leader.set(i64::from(d.raft().role == Role::Leader));
        m.is_owner.set(i64::from(owns));
        m.lifelines.set(i64::try_from(self.hands.group.lifelines()).unwrap_or(i64::MAX));
        m.has_leader.set(i64::from(has_leader));
        m.haproxy_healthy.set(i64::from(!d.health().is_unhealthy()));
        m.haproxy_known.set(i64::from(!matches!(d.health(), Health::Unknown(_))));
        m.may_own.set(i64::from(d.not_eligible().is_none()));
        m.is_witness.set(i64::from(self.hands.config.config.own().witness));
        m.paused.set(i64::from(d.ledger().paused.is_some()));
        m.config_refused.set(i64::from(self.hands.config.refused.is_some()));
        let left = d.open_permit().map_or(Duration::ZERO, |p| p.deadline().since(clock::now()));
        m.lease_remaining.set(left.as_secs_f64());
        m.lease_lowest.set(self.ebb.lowest().unwrap_or_default().as_secs_f64());
        let stamp = self.stamp();
        self.hands.stamp.send_if_modified(|old| std::mem::replace(old, stamp) != stamp);
    }

    /// The gauges by member and by route, once a second: they are made of the whole picture.
    fn publish_picture(&mut self) {
        let now = clock::now();
        if now.since(self.pictured) < Duration::from_secs(1) {
            return;
        }
        self.pictured = now;
        self.tell_waits(now);
        if let Some(credentials) = &self.hands.credentials {
            #[allow(
                clippy::cast_precision_loss,
                reason = "a certificate is valid for less than 2^52 seconds"
            )]
            self.hands.metrics.certificate_expiry(credentials.seconds_left() as f64);
        }
        let status = self.view().status();
        // Nobody reads in between: one thread serves /metrics too, and here nothing is awaited.
        self.hands.metrics.forget_picture();
        for member in &status.members {
            self.hands.metrics.peer_lag(&member.name, member.lag);
        }
        let learners = status.members.iter().filter_map(|member| member.learner_for_s);
        let longest = learners.max().unwrap_or_default();
        self.hands.metrics.learner_for.set(i64::try_from(longest).unwrap_or(i64::MAX));
        for vip in &status.vips {
            for route in &vip.routes {
                self.hands.metrics.route_in_sync(&vip.address, &route.route_table, route.in_sync);
            }
        }
    }

    /// Once for each member that the VIP waits to go back to.
    fn tell_waits(&mut self, now: crate::model::Time) {
        let waits = self.decide.waits(now);
        let to = waits.as_ref().map(|w| w.to.clone());
        if self.waits_for == to {
            return;
        }
        if let Some(Waits { to, left, reason }) = waits {
            tracing::info!(%to, left_s = left.as_secs(), %reason, "a move waits for policy.min_hold_s");
        }
        self.waits_for = to;
    }

    fn tell(&mut self, story: Story) {
        match story {
            Story::MembersChanged { change, outcome: Ok(()) } => {
                tracing::info!(?change, "the members have changed")
            }
            Story::MembersChanged { change, outcome: Err(why) } => {
                tracing::warn!(?change, %why, "the members have not changed")
            }
            Story::Claiming { term } => tracing::info!(%term, "elected: claiming the VIP"),
            Story::LeaderEnded { term, place } => {
                tracing::info!(%term, place, "the leader's process has ended: asking for votes");
            }
            Story::Owning { term, epoch } => tracing::info!(%term, %epoch, "this member owns the VIP"),
            Story::StandsBack { reason, to: Some(to) } => tracing::warn!(%reason, %to, "stands back"),
            Story::StandsBack { reason, to: None } => {
                tracing::warn!(%reason, "stands back, but no other member may own")
            }
            Story::HandingOver { to, reason } => tracing::info!(%to, %reason, "handing over"),
            Story::TransferTriggered { to } => tracing::info!(%to, "leadership is being transferred"),
            Story::Repair { swap } => {
                self.hands.metrics.repairs.inc();
                tracing::warn!(table = %swap.route.table, vip = %swap.route.vip, "the route was changed by someone else: putting it right");
            }
            Story::RouteMissing { route, words } => {
                tracing::error!(table = %route.table, vip = %route.vip, "{words}");
            }
            Story::Denied { table, why } => {
                tracing::error!(%table, %why, "EC2 does not let this member change the routes of a table");
            }
            Story::Contended { route, times } => {
                tracing::error!(table = %route.table, vip = %route.vip, times, "the route was changed by someone else again and again within a minute: it is put right ever more slowly");
            }
            Story::MoveOver { kind, phases } => self.move_over(kind, phases),
            Story::AddressLost { vip } => {
                self.hands.metrics.address_repairs.inc();
                tracing::warn!(%vip, "someone else took the address away: it is put back");
            }
            Story::Released { vip } => tracing::info!(%vip, "address released"),
            Story::Orders { drained, paused } => {
                let drained: Vec<_> = drained.iter().map(Name::as_str).collect();
                tracing::info!(?drained, paused, "the operators' orders have changed");
            }
        }
    }

    fn move_over(&self, kind: Kind, phases: Phases) {
        if kind == Kind::Renewal {
            return;
        }
        if let Some(last) = self.decide.ledger().last_move() {
            tracing::info!(kind = kind.label(), reason = %last.reason, "the move is over");
            self.hands.metrics.moved(kind.label(), cause::label(last));
        }
        let Phases { detect, elect, claim, address, route, verify } = phases;
        let named = [
            ("detect", detect),
            ("elect", elect),
            ("claim", claim),
            ("address", address),
            ("route", route),
            ("verify", verify),
        ];
        for (phase, us) in named {
            if let Some(us) = us {
                self.hands.metrics.phase(phase, Duration::from_micros(us));
            }
        }
    }
}

/// A report's rights, by table.
fn rights(member: &proto::Member) -> impl Iterator<Item = (RouteTableId, &proto::Right)> {
    member.rights.iter().filter_map(|right| Some((right.route_table.parse().ok()?, right)))
}

/// A heartbeat's answer: it moves the lease and nothing that is shown.
fn is_answer(event: &Event) -> bool {
    matches!(event, Event::Acknowledged { .. })
}

/// Returns when `permit`'s term and claim no longer hold the gate open. The gate's deadline moves on
/// with each acknowledgement.
async fn lease_ends(gate: &Gate, permit: Permit) {
    if mutant::on(Mutant::DropInAir) {
        return std::future::pending().await;
    }
    let mut until = permit.deadline();
    loop {
        // A sleep until the end of a lone voter's lease would overflow the timer.
        let nap = until.since(clock::now()).min(Duration::from_secs(60));
        runtime::sleep(nap).await;
        match gate.current() {
            Some(open)
                if (open.term(), open.epoch()) == (permit.term(), permit.epoch())
                    && clock::now() < open.deadline() =>
            {
                until = open.deadline();
            }
            Some(_) | None => return,
        }
    }
}
