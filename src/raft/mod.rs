//! The group: openraft at arm's length. Nothing outside this folder names openraft or sled.
//!
//! ```text
//!   driver --propose, transfer--> Group ---> openraft ---> Network --gRPC--> other members
//!          <--Event::Acknowledged-------------------------'   (append, vote, snapshot)
//!          <--Applied (watch)---- Machine <--'  '--> Store (sled + fdatasync)
//!          <--RaftView (watch)----'
//!   other members --gRPC--> PeerService ---> openraft
//!                 --lifelines--> Lifelines; lifeline::keep holds this member's own: Event::Ended
//! ```

mod beat;
mod change;
pub mod codec;
mod form;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod join;
pub mod lifeline;
mod links;
mod network;
mod passed;
mod removed;
mod reports;
mod serve;
pub mod store;
pub mod types;
pub(crate) mod unpack;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use openraft::async_runtime::WatchReceiver as _;
use openraft::storage::RaftLogStorage;
use openraft::{ServerState, SnapshotPolicy, StepDownPolicy};
use tokio::sync::{Notify, mpsc, watch};

pub use lifeline::{End, Held, Lifelines};
pub use passed::{Passed, Who};
#[cfg(test)]
pub(crate) use reports::REPORT_MAX_BYTES;
pub use reports::{Heard, Reports, SILENT_AFTER};
pub use serve::PeerService;

use self::form::Found;
use self::lifeline::Registry;
pub use links::{CallError, Carrier, Dial, Lazy, Renewal};

use self::links::Links;
use self::store::{Applied, Machine, Stable, StoreError};
use self::types::{Node, Raft, TypeConfig};
use crate::clock;
use crate::config::{Config, Member, Timing};
use crate::decide::{Change, Event, Gate, Promise, RaftView, Refusal, Role};
use crate::ledger::Command;
use crate::model::{Incarnation, Name, Term, Time};
use crate::mutant::{self, Mutant};
use crate::proto;
use crate::refused::Refusals;
use crate::runtime;

/// A snapshot is taken after so many entries; the ledger is small, and a move writes about five.
const SNAPSHOT_EVERY: u64 = 500;

/// How long a proposal may take: beyond it the leader has no quorum.
const PROPOSAL_DEADLINE: Duration = Duration::from_secs(1);

/// Why the group could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Raft's settings: {0}")]
    Settings(String),
    #[error("Raft did not start: {0}")]
    Raft(String),
}

/// Why a command is not known to be in the log. It may get there all the same.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    #[error("no quorum took it within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Raft(String),
}

/// Answers an operator's request that another member passed on.
pub type Desk = Box<dyn Fn(Passed) -> BoxFuture<'static, Answer> + Send + Sync>;
pub type Verb = proto::forward_request::Verb;
pub type Answer = proto::forward_response::Answer;

/// What the transport and the server have in common.
pub struct Shared {
    cluster: Name,
    name: Name,
    me: Incarnation,
    /// The file's list: whom to ask while there is no membership.
    members: Vec<Member>,
    lease_ms: u64,
    store: Arc<dyn Stable>,
    raft: OnceLock<Raft>,
    links: Links,
    gate: Arc<Gate>,
    events: mpsc::Sender<Event>,
    reports: Reports,
    /// Nanoseconds on CLOCK_BOOTTIME; 0: never.
    heard_at: AtomicU64,
    campaigned_at: AtomicU64,
    /// What this member has granted to a leader, as a voter.
    promise: Mutex<Promise>,
    /// The lifelines that others hold to this member, and the one that it holds.
    lifelines: Registry,
    held: AtomicBool,
    /// How long a quarantine lasts that is not the start's.
    quarantine: Duration,
    quarantine_until: AtomicU64,
    led_since: AtomicU64,
    /// Places of memberships in the log: the newest with this member, and the one that is without it.
    included_at: AtomicU64,
    removed_at: AtomicU64,
    /// Who is in the group, as the others say.
    rosters: Mutex<removed::Rosters>,
    applied: watch::Receiver<Applied>,
    /// The view has changed, although openraft's state has not.
    review: Notify,
    answers: Mutex<BTreeMap<Incarnation, Time>>,
    changing: tokio::sync::Mutex<()>,
    desk: OnceLock<Desk>,
    refusals: Refusals,
    /// What there is to wait for before there is a group, in words.
    waits: Arc<watch::Sender<String>>,
}

impl Shared {
    fn envelope(&self, to: Incarnation) -> proto::Envelope {
        proto::Envelope {
            cluster: self.cluster.to_string(),
            group: self.store.group().map(|g| g.to_bytes()).unwrap_or_default(),
            from: self.me.0,
            to: to.0,
        }
    }

    fn hello(&self) -> proto::HelloResponse {
        proto::HelloResponse {
            cluster: self.cluster.to_string(),
            member: self.name.to_string(),
            incarnation: self.me.0,
            group: self.store.group().map(|g| g.to_bytes()).unwrap_or_default(),
            members: form::list(&self.members),
            founded: !self.nodes().is_empty(),
        }
    }

    fn is_first(&self) -> bool {
        self.members.first().is_some_and(|m| m.name == self.name)
    }

    fn heard(&self) {
        self.heard_at.store(clock::now().as_nanos(), Ordering::Relaxed);
    }

    fn last_heard(&self) -> Time {
        Time::from_nanos(self.heard_at.load(Ordering::Relaxed))
    }

    /// An attempt begins with its pre-vote, the last that was asked for; after a transfer there is none.
    fn campaigned(&self, pre_vote: bool) {
        let begun = self.campaigned_at.load(Ordering::Relaxed) > self.heard_at.load(Ordering::Relaxed);
        if pre_vote || !begun {
            self.campaigned_at.store(clock::now().as_nanos(), Ordering::Relaxed);
        }
    }

    fn promise(&self) -> MutexGuard<'_, Promise> {
        self.promise.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quarantine_until(&self) -> Time {
        Time::from_nanos(self.quarantine_until.load(Ordering::Relaxed))
    }

    /// When this member's present leadership began; never, where it does not lead.
    fn led_since(&self) -> Time {
        Time::from_nanos(self.led_since.load(Ordering::Relaxed))
    }

    fn note_role(&self, before: &RaftView, view: &RaftView) {
        let led = |v: &RaftView| v.role == Role::Leader;
        if !led(view) {
            self.led_since.store(u64::MAX, Ordering::Relaxed);
        } else if !led(before) || before.term != view.term {
            self.led_since.store(clock::now().as_nanos(), Ordering::Relaxed);
        }
    }

    fn answered(&self, who: Incarnation) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(who, clock::now());
    }

    fn last_answer(&self, who: Incarnation) -> Option<Time> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(&who).copied()
    }

    /// Every node of the membership, learners too.
    fn nodes(&self) -> BTreeMap<Incarnation, Node> {
        let Some(raft) = self.raft.get() else { return BTreeMap::new() };
        let metrics = raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.nodes().map(|(id, node)| (Incarnation(*id), node.clone())).collect()
    }

    /// Whose incarnation it is, where the membership names it.
    fn name_of(&self, who: Incarnation) -> Option<String> {
        let metrics = self.raft.get()?.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.nodes().find(|(id, _)| **id == who.0).map(|(_, node)| node.name.clone())
    }

    fn others(&self) -> Vec<(Incarnation, Node)> {
        self.nodes().into_iter().filter(|(id, _)| *id != self.me).collect()
    }

    fn is_voter(&self) -> bool {
        self.raft.get().is_some_and(|raft| raft.voter_ids().any(|id| id == self.me.0))
    }
}

/// This member's part of the group.
#[derive(Clone)]
pub struct Group {
    shared: Arc<Shared>,
    raft: Raft,
    applied: watch::Receiver<Applied>,
}

/// Before the group is known: the peer port is served, so that members find each other.
pub struct Starting<S> {
    log: S,
    snapshot_every: u64,
    shared: Arc<Shared>,
    timing: Timing,
    /// When this process began: whatever its predecessor granted, it granted before.
    began: Time,
    machine: Machine,
    applied: watch::Receiver<Applied>,
}

impl<S: RaftLogStorage<TypeConfig> + Stable + Clone> Starting<S> {
    /// Prepares this member; nothing is sent yet but by `dial`. Acknowledgements go to `events`.
    pub fn new(
        config: &Config,
        log: S,
        dial: Arc<dyn Dial>,
        gate: Arc<Gate>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, StartError> {
        Self::renewing(config, log, dial, gate, events, Renewal::USUAL)
    }

    /// As [`new`](Self::new), with connections that are replaced at these ages.
    pub fn renewing(
        config: &Config,
        log: S,
        dial: Arc<dyn Dial>,
        gate: Arc<Gate>,
        events: mpsc::Sender<Event>,
        renewal: Renewal,
    ) -> Result<Self, StartError> {
        let store: Arc<dyn Stable> = Arc::new(log.clone());
        let machine = Machine::new(Arc::clone(&store))?;
        let applied = machine.applied();
        let greeting = proto::HelloRequest {
            cluster: config.cluster.to_string(),
            member: config.member.to_string(),
            incarnation: store.incarnation().0,
        };
        let shared = Shared {
            cluster: config.cluster.clone(),
            name: config.member.clone(),
            me: store.incarnation(),
            members: config.members.clone(),
            lease_ms: ms(config.timing.lease()),
            store,
            raft: OnceLock::new(),
            links: Links::new(dial, greeting, renewal),
            gate,
            events,
            reports: Reports::default(),
            heard_at: AtomicU64::new(0),
            campaigned_at: AtomicU64::new(0),
            promise: Mutex::default(),
            lifelines: Registry::default(),
            held: AtomicBool::new(false),
            quarantine: config.timing.lease() + config.timing.margin(),
            quarantine_until: AtomicU64::new(u64::MAX),
            led_since: AtomicU64::new(u64::MAX),
            included_at: AtomicU64::new(0),
            removed_at: AtomicU64::new(0),
            rosters: Mutex::default(),
            applied: applied.clone(),
            review: Notify::new(),
            answers: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            desk: OnceLock::new(),
            refusals: Refusals::default(),
            waits: Arc::new(watch::Sender::new("vipd has just started".to_owned())),
        };
        Ok(Self {
            log,
            snapshot_every: SNAPSHOT_EVERY,
            shared: Arc::new(shared),
            timing: config.timing,
            began: clock::now(),
            machine,
            applied,
        })
    }

    /// Takes a snapshot after so many entries instead, and keeps as many of them.
    pub fn snapshot_every(self, entries: u64) -> Self {
        Self { snapshot_every: entries, ..self }
    }

    /// What answers on the peer port.
    pub fn service(&self) -> proto::peer_server::PeerServer<PeerService> {
        proto::peer_server::PeerServer::new(PeerService(Arc::clone(&self.shared)))
            .max_decoding_message_size(links::MESSAGE_MAX)
            .max_encoding_message_size(links::MESSAGE_MAX)
    }

    /// What answers lifelines on the peer port.
    pub fn lifelines(&self) -> Lifelines {
        Lifelines(Arc::clone(&self.shared))
    }

    /// Where it is written what this member waits for while it is in no group; whoever starts it may write too.
    pub fn waits(&self) -> Arc<watch::Sender<String>> {
        Arc::clone(&self.shared.waits)
    }

    /// Finds or founds the group, then starts Raft. Waits for as long as there is no group; says
    /// what it waits for.
    pub async fn start(self) -> Result<Group, StartError> {
        let (shared, mut log) = (self.shared, self.log);
        let fresh = shared.store.is_fresh();
        // Before anything is granted the longest lease is on disk: the next start's quarantine
        // counts it (FENCING.md, hole 3).
        let stored = if mutant::on(Mutant::LongestLease) { 0 } else { shared.store.longest_lease_ms() };
        let longest = stored.max(shared.lease_ms);
        shared.store.raise_longest_lease_ms(shared.lease_ms).await?;
        fault!(wait "raft.lease.saved");
        let quarantine =
            if fresh { Duration::ZERO } else { Duration::from_millis(longest) + self.timing.margin() };
        let until = self.began + quarantine;
        shared.quarantine_until.store(until.as_nanos(), Ordering::Relaxed);

        let found = form::find_group(&shared, shared.store.log_is_empty()).await?;
        let settings = Arc::new(settings(&shared, &self.timing, self.snapshot_every)?);
        let factory = network::Factory(Arc::clone(&shared));
        let raft = Raft::new(shared.me.0, settings, factory, log.clone(), self.machine)
            .await
            .map_err(|e| StartError::Raft(e.to_string()))?;
        // `OnceLock::set` fails only if it was set before: this is the only place.
        let _ = shared.raft.set(raft.clone());
        runtime::spawn(end_quarantine(Arc::clone(&shared), until));
        runtime::spawn(beat::run(Arc::clone(&shared), raft.clone(), self.timing));
        if let Found::Founder(nodes) = found {
            // The first vote is on disk before the first entry (hole 8).
            let nobody = types::Vote::new(0, shared.me.0);
            log.save_vote(&nobody).await.map_err(|e| StartError::Raft(e.to_string()))?;
            raft.initialize(nodes).await.map_err(|e| StartError::Raft(e.to_string()))?;
        } else {
            runtime::spawn(join::until_taken_in(Arc::clone(&shared)));
        }
        runtime::spawn(reports::run(Arc::clone(&shared)));
        runtime::spawn(lifeline::keep(Arc::clone(&shared)));
        Ok(Group { shared, raft, applied: self.applied })
    }
}

/// No campaign before the quarantine's end (FENCING.md, hole 2).
async fn end_quarantine(shared: Arc<Shared>, until: Time) {
    if !mutant::on(Mutant::QuarantineCampaign) {
        runtime::sleep(until.since(clock::now())).await;
    }
    fault!(wait "raft.quarantine.end");
    // Another may have begun meanwhile.
    if shared.quarantine_until() == until {
        shared.allow_elections();
    }
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

fn settings(shared: &Shared, timing: &Timing, snapshot_every: u64) -> Result<openraft::Config, StartError> {
    let settings = openraft::Config {
        cluster_name: shared.cluster.to_string(),
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: ms(timing.election_min),
        election_timeout_max: ms(timing.election_max),
        enable_pre_vote: Some(true),
        // A restarted leader would resume its old term with a second life (hole 1).
        enable_leader_restore: Some(mutant::on(Mutant::LeaderRestore)),
        removed_leader_step_down: StepDownPolicy::Never,
        enable_elect: false,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
        max_in_snapshot_log_to_keep: snapshot_every,
        ..openraft::Config::default()
    };
    settings.validate().map_err(|e| StartError::Settings(e.to_string()))
}

impl Group {
    pub fn incarnation(&self) -> Incarnation {
        self.shared.me
    }

    /// Neither votes nor takes the leadership yet (FENCING.md, hole 2).
    pub fn in_quarantine(&self) -> bool {
        clock::now() < self.shared.quarantine_until()
    }

    /// What is told of this member, and what the others tell.
    pub fn reports(&self) -> &Reports {
        &self.shared.reports
    }

    /// The ledger, after each applied batch of entries.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.clone()
    }

    /// Appends to the log, if this member leads. The ledger shows it when it is applied.
    pub async fn propose(&self, command: Command) -> Result<(), ProposeError> {
        codec::command_bytes(&command).map_err(|e| ProposeError::Raft(e.to_string()))?;
        fault!(wait "raft.propose", error(e) => return Err(ProposeError::Raft(e.to_string())));
        match runtime::timeout(PROPOSAL_DEADLINE, self.raft.client_write(command)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(ProposeError::Raft(error.to_string())),
            Err(_) => Err(ProposeError::Timeout(PROPOSAL_DEADLINE)),
        }
    }

    /// Who answers what other members pass on. Set once.
    pub fn set_desk(&self, desk: Desk) {
        let _ = self.shared.desk.set(desk);
    }

    /// Passes an operator's request on to the leader. `None`: there is no other leader, it did not answer
    /// within `deadline`, or the group has removed this member.
    pub async fn forward(&self, verb: Verb, who: &Who, deadline: Duration) -> Option<Answer> {
        if self.shared.removed_at().is_some() {
            return None;
        }
        let leader = self.view().leader.filter(|l| *l != self.shared.me)?;
        let node = self.shared.nodes().remove(&leader)?;
        self.pass_on(leader, &node, verb, who, deadline).await
    }

    /// The other members of the group, learners too.
    pub fn others(&self) -> Vec<Name> {
        self.shared.others().into_iter().filter_map(|(_, node)| node.name.parse().ok()).collect()
    }

    /// Asks one member. `None`: it is no other member, or did not answer within `deadline`.
    pub async fn ask(&self, name: &Name, verb: Verb, who: &Who, deadline: Duration) -> Option<Answer> {
        let (id, node) = self.shared.others().into_iter().find(|(_, node)| node.name == name.as_str())?;
        self.pass_on(id, &node, verb, who, deadline).await
    }

    async fn pass_on(
        &self,
        to: Incarnation,
        node: &Node,
        verb: Verb,
        who: &Who,
        deadline: Duration,
    ) -> Option<Answer> {
        let request = proto::ForwardRequest {
            envelope: Some(self.shared.envelope(to)),
            verb: Some(verb),
            who: who.name.clone(),
            role: who.role.clone(),
        };
        let answer = self
            .shared
            .links
            .call(&node.name, &node.peer, deadline, |mut c| async move { c.forward(request).await })
            .await;
        answer
            .inspect_err(|e| tracing::debug!(member = %node.name, error = %e, "a request was not answered"))
            .ok()?
            .answer
    }

    /// Pulls the trigger: `to` is told to campaign, the voters drop their leases for this leader.
    pub async fn transfer(&self, to: Incarnation) -> Result<(), ProposeError> {
        fault!(wait "raft.transfer", error(e) => return Err(ProposeError::Raft(e.to_string())));
        self.raft.trigger().transfer_leader(to.0).await.map_err(|e| ProposeError::Raft(e.to_string()))
    }

    /// Asks for votes after `after`, since the leader of `term` has ended.
    pub async fn campaign(&self, term: Term, after: Duration) {
        self.shared.campaign(term, after).await;
    }

    /// Of how many lifelines this member is one end.
    pub fn lifelines(&self) -> usize {
        self.shared.lifelines.count() + usize::from(self.shared.held.load(Ordering::Relaxed))
    }

    /// When an append of another leader last came in.
    pub fn heard(&self) -> Option<Time> {
        Some(self.shared.last_heard()).filter(|at| *at > Time::default())
    }

    /// Changes the membership, if this member leads.
    pub async fn change(&self, change: Change) -> Result<(), Refusal> {
        change::make(&self.shared, change).await
    }

    /// Raft's state now.
    pub fn view(&self) -> RaftView {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = &metrics.membership_config;
        let nodes = membership.nodes().filter_map(|(id, n)| Some((Incarnation(*id), n.member()?))).collect();
        let configs = membership.get_joint_config().iter();
        let campaigned = self.shared.campaigned_at.load(Ordering::Relaxed);
        RaftView {
            role: match metrics.state {
                // Until its own vote is on disk, a new leader takes no proposal.
                ServerState::Leader if metrics.current_leader == Some(self.shared.me.0) => Role::Leader,
                ServerState::Leader => Role::Candidate,
                ServerState::Candidate => Role::Candidate,
                ServerState::Follower => Role::Follower,
                ServerState::Learner | ServerState::Shutdown => Role::Learner,
            },
            term: Term(metrics.vote.leader_id.term),
            leader: metrics.current_leader.map(Incarnation),
            configs: configs.map(|c| c.iter().map(|id| Incarnation(*id)).collect()).collect(),
            nodes,
            membership: removed::place(membership),
            removed: self.shared.removed_at().map(|at| at - 1),
            last_index: self.raft.data_metrics().borrow_watched().last_log.map_or(0, |id| id.index),
            heard: self.heard(),
            campaigned: (campaigned > 0).then(|| Time::from_nanos(campaigned)),
        }
    }

    /// Sends the view now and whenever Raft's role, term, leader or membership change; ends with an
    /// error when Raft has stopped.
    pub fn watch(&self) -> impl Future<Output = String> + Send + use<> {
        let this = self.clone();
        async move {
            let mut changes = this.raft.server_metrics();
            let mut before = RaftView::default();
            loop {
                this.shared.look_for_myself();
                let view = this.view();
                this.shared.note_role(&before, &view);
                before = view.clone();
                fault!(wait "raft.view");
                if this.shared.events.send(Event::Raft(view)).await.is_err() {
                    return "the driver has stopped".to_owned();
                }
                let ended = tokio::select! {
                    changed = changes.changed() => changed.is_err(),
                    () = this.shared.review.notified() => false,
                };
                if ended {
                    let state = this.raft.metrics().borrow_watched().running_state.clone();
                    return state.err().map_or_else(|| "Raft has stopped".to_owned(), |e| e.to_string());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
