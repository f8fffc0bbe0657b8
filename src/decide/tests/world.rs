//! One member with its group, its cloud and its clock. Nothing happens by itself: each test says
//! which of the hands work.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::decide::cause::Cause;
use crate::decide::*;
use crate::ledger::{Command, Ledger};
use crate::model::route::{CloudError, Outcome, Sight, Swap};
use crate::model::*;

pub use super::words::*;

/// Which of the hands work while time runs.
#[derive(Clone, Copy)]
pub struct Hands {
    pub acknowledge: bool,
    pub apply: bool,
    pub look: bool,
    pub swap: bool,
    /// Reads show what a swap did.
    pub fresh: bool,
    pub address: bool,
}

const ALL: Hands =
    Hands { acknowledge: true, apply: true, look: true, swap: true, fresh: true, address: true };

pub struct World {
    pub decide: Decide,
    pub settings: Setup,
    pub ledger: Ledger,
    pub index: u64,
    pub now: Time,
    pub view: RaftView,
    /// What the effects have left open.
    pub gate: Option<Permit>,
    /// Proposed, not yet applied, with the term of the proposal.
    pub log: VecDeque<(Term, Command)>,
    pub air: Vec<(Swap, Permit)>,
    /// DryRuns that were asked and not answered.
    pub dry: Vec<Swap>,
    /// Tables whose routes EC2 lets this member not change.
    pub deny: BTreeSet<RouteTableId>,
    /// Looks that were asked and not answered.
    pub asked: Vec<Time>,
    pub cloud: Sight,
    pub present: BTreeSet<Vip>,
    pub answers: Vec<(AskId, Result<Answer, Refusal>)>,
    pub past: Vec<(Time, Effect)>,
    /// Addresses to be added or removed.
    pub trying: Vec<Effect>,
    pub hands: Hands,
    pub promises: BTreeMap<(Term, Incarnation), Time>,
    pub transferred: BTreeSet<Term>,
    /// The change of the members that has not ended.
    pub change: Option<Change>,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// A follower of b; every route points at eni-b.
    pub fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut w = Self::restarted(change);
        w.follow(0, Some(B));
        w.follow(0, None);
        w
    }

    /// A member that has just started and heard of everybody, but of no leader.
    pub fn restarted(change: impl FnOnce(&mut Setup)) -> Self {
        Self::restarted_without(&[], change)
    }

    /// As [`restarted`](Self::restarted), but some have not reported yet.
    pub fn restarted_without(unheard: &[&str], change: impl FnOnce(&mut Setup)) -> Self {
        let mut settings = setup();
        change(&mut settings);
        settings.own = settings.members[0].clone();
        let now = Time::from_millis(100_000);
        let ids = || (1..).map(Incarnation).zip(&settings.members);
        let view = RaftView {
            role: Role::Follower,
            configs: vec![ids().map(|(id, _)| id).collect()],
            nodes: ids().map(|(id, m)| (id, m.clone())).collect(),
            membership: 1,
            ..RaftView::default()
        };
        let mut cloud = Sight { tables: settings.tables.clone(), ..Sight::default() };
        for t in &settings.tables {
            for vip in &settings.vips {
                let key = RouteKey { table: t.clone(), vip: *vip };
                cloud.routes.insert(key, at("eni-b"));
            }
        }
        let wall = WallMs(0);
        let mut world = Self {
            decide: Decide::new(settings.settings.clone(), Now { time: now, wall }),
            settings,
            ledger: Ledger::default(),
            index: 0,
            now,
            view,
            gate: None,
            log: VecDeque::new(),
            air: Vec::new(),
            dry: Vec::new(),
            deny: BTreeSet::new(),
            asked: Vec::new(),
            cloud,
            present: BTreeSet::new(),
            answers: Vec::new(),
            past: Vec::new(),
            trying: Vec::new(),
            hands: ALL,
            promises: BTreeMap::new(),
            transferred: BTreeSet::new(),
            change: None,
        };
        world.raft(|_| {});
        for m in world.settings.members.clone() {
            if m.name != world.settings.me && !unheard.contains(&m.name.as_str()) {
                world.event(Event::Peer(m.name, healthy()));
            }
        }
        world.answer_looks();
        world
    }

    /// b owned in term 1; this member has just claimed term 2, its lease is fresh and its address
    /// is there: the first swaps are in the air. b left nothing in the air.
    pub fn failed_over() -> Self {
        Self::failed_over_with(|_| {})
    }

    pub fn failed_over_with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut w = Self::with(change);
        w.claimed_by("b", 1, &[]);
        w.lead(2);
        w.acknowledge();
        w.apply_all();
        w.put_addresses();
        w
    }

    /// As [`failed_over`](Self::failed_over), and the move is over, all settled, 16 s ago.
    pub fn steady() -> Self {
        Self::steady_with(|_| {})
    }

    pub fn steady_with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut w = Self::failed_over_with(change);
        w.run(secs(16));
        assert!(w.ledger.claim.as_ref().is_some_and(|c| c.done));
        assert!(w.ledger.unsettled.is_empty() && w.air.is_empty());
        w
    }
}

/// Events.
impl World {
    pub fn event(&mut self, event: Event) -> Vec<Effect> {
        if let Event::Acknowledged { from, term, sent, granted } = &event {
            let until = *sent + *granted * 99 / 100;
            let best = self.promises.entry((*term, *from)).or_insert(until);
            *best = until.max(*best);
        }
        let wall = WallMs(self.now.as_nanos() / 1_000_000);
        let now = Now { time: self.now, wall };
        let effects = self.decide.step(now, event);
        self.carry_out(&effects);
        self.check();
        effects
    }

    pub fn tick(&mut self) -> Vec<Effect> {
        self.event(Event::Tick)
    }

    pub fn raft(&mut self, change: impl FnOnce(&mut RaftView)) -> Vec<Effect> {
        change(&mut self.view);
        self.event(Event::Raft(self.view.clone()))
    }

    pub fn lead(&mut self, term: u64) -> Vec<Effect> {
        self.raft(|v| (v.role, v.term, v.leader) = (Role::Leader, Term(term), Some(ME)))
    }

    pub fn follow(&mut self, term: u64, leader: Option<Incarnation>) -> Vec<Effect> {
        if leader.is_some() {
            self.view.heard = Some(self.now);
        }
        self.raft(|v| (v.role, v.term, v.leader) = (Role::Follower, Term(term), leader))
    }

    /// b acknowledges an append that left just now, for 200 ms.
    pub fn acknowledge(&mut self) -> Vec<Effect> {
        self.event(Event::Acknowledged { from: B, term: self.view.term, sent: self.now, granted: ms(200) })
    }

    pub fn apply(&mut self, term: Term, command: &Command) -> Vec<Effect> {
        self.index += 1;
        self.ledger.apply(self.index, term.0, command);
        self.event(Event::Applied { ledger: Arc::new(self.ledger.clone()), index: self.index })
    }

    pub fn apply_next(&mut self) -> Vec<Effect> {
        let (term, command) = self.log.pop_front().expect("something was proposed");
        self.apply(term, &command)
    }

    /// The log takes no entry of what was proposed last; it stays in `log` and may come all the same.
    pub fn refuse(&mut self) -> Vec<Effect> {
        let (_, command) = self.log.back().cloned().expect("something was proposed");
        self.event(Event::ProposalFailed(command))
    }

    pub fn apply_all(&mut self) -> Vec<Effect> {
        let mut all = Vec::new();
        while !self.log.is_empty() {
            all.extend(self.apply_next());
        }
        all
    }

    pub fn claimed_by(&mut self, who: &str, term: u64, routes: &[&str]) -> Vec<Effect> {
        let claim = Command::Claim {
            member: name(who),
            term: Term(term),
            at: WallMs(0),
            routes: routes.iter().map(|r| route(r)).collect(),
        };
        self.apply(Term(term), &claim)
    }

    pub fn hand_over(&mut self, from: &str, to: &str, term: u64) -> Vec<Effect> {
        let handover = Command::Handover {
            from: name(from),
            to: name(to),
            term: Term(term),
            reason: "asked".into(),
            at: WallMs(0),
        };
        self.apply(Term(term), &handover)
    }

    /// `who` leads, claims, swaps and hands back at once; this member leads again.
    pub fn there_and_back(&mut self, who: &str) {
        let (id, term) = (self.settings.members.iter().position(|m| m.name == name(who)), self.view.term.0);
        let id = id.map(|at| Incarnation(at as u64 + 1));
        self.follow(term + 1, id);
        self.claimed_by(who, term + 1, &[]);
        self.moved(true);
        self.cloud.routes.values_mut().for_each(|to| *to = at(&format!("eni-{who}")));
        let me = self.settings.me.clone();
        self.hand_over(who, me.as_str(), term + 1);
        self.lead(term + 2);
    }

    /// The newest claim's move ends, as its owner says.
    pub fn moved(&mut self, in_sync: bool) -> Vec<Effect> {
        let claim = self.ledger.claim.clone().expect("a claim");
        let moved = Command::Moved {
            epoch: claim.epoch,
            phases: crate::ledger::Phases::default(),
            total_us: 1,
            in_sync,
            request_ids: vec![],
        };
        self.apply(claim.term, &moved)
    }

    pub fn addresses(&mut self, vips: &[Vip]) -> Vec<Effect> {
        self.present = vips.iter().copied().collect();
        self.trying.clear();
        self.event(Event::Addresses(self.present.clone()))
    }

    pub fn put_addresses(&mut self) -> Vec<Effect> {
        let vips = self.settings.vips.clone();
        self.addresses(&vips)
    }

    /// Every look that was asked shows the cloud as it is.
    pub fn answer_looks(&mut self) -> Vec<Effect> {
        let mut all = Vec::new();
        for asked in std::mem::take(&mut self.asked) {
            let result = Ok(self.cloud.clone());
            all.extend(self.event(Event::Looked { asked, result }));
        }
        all
    }

    /// Every DryRun that was asked is answered.
    pub fn answer_rehearsals(&mut self) -> Vec<Effect> {
        let mut all = Vec::new();
        for swap in std::mem::take(&mut self.dry) {
            let denied = self.deny.contains(&swap.route.table);
            let result = if denied { Err(unauthorized(&swap.route.table)) } else { Ok(()) };
            all.extend(self.event(Event::Rehearsed { swap, result }));
        }
        all
    }

    /// Every swap in the air ends so.
    pub fn finish(&mut self, outcome: &Outcome) -> Vec<Effect> {
        let mut all = Vec::new();
        for (swap, permit) in std::mem::take(&mut self.air) {
            all.extend(self.finish_one(swap, permit, outcome.clone()));
        }
        all
    }

    pub fn finish_one(&mut self, swap: Swap, permit: Permit, outcome: Outcome) -> Vec<Effect> {
        if self.hands.fresh && matches!(outcome, Outcome::Done { .. }) {
            let target = Observed::Active(Some(swap.eni.clone()));
            self.cloud.routes.insert(swap.route.clone(), target);
        }
        self.event(Event::Swapped { swap, epoch: permit.epoch(), outcome })
    }

    pub fn ask(&mut self, id: u64, to: Option<&str>, mode: AskMode) -> Vec<Effect> {
        self.ask_by(id, to, mode, Asker::Operator)
    }

    pub fn ask_by(&mut self, id: u64, to: Option<&str>, mode: AskMode, by: Asker) -> Vec<Effect> {
        self.event(Event::Asked(Ask {
            id: AskId(id),
            to: to.map(name),
            reason: "asked".into(),
            mode,
            while_paused: WhilePaused::Refuse,
            by,
            deadline: self.now + secs(10),
        }))
    }

    pub fn order(&mut self, id: u64, what: Directive, while_paused: WhilePaused) -> Vec<Effect> {
        let deadline = self.now + secs(10);
        self.event(Event::Ordered(Order { id: AskId(id), what, while_paused, deadline }))
    }

    pub fn peer(&mut self, who: &str, change: impl FnOnce(&mut Peer)) -> Vec<Effect> {
        let mut peer = healthy();
        change(&mut peer);
        self.event(Event::Peer(name(who), peer))
    }

    pub fn unhealthy(&mut self) -> Vec<Effect> {
        self.event(Event::Health(Health::Unhealthy("down".into())))
    }

    /// Time passes in silence.
    pub fn pass(&mut self, by: Duration) -> Vec<Effect> {
        self.now = self.now + by;
        self.tick()
    }

    /// Time runs, and those hands that work do their work.
    pub fn run(&mut self, by: Duration) {
        self.run_by(by, ms(10));
    }

    /// Time runs, and EC2 answers this member's looks so.
    pub fn looks_fail(&mut self, by: Duration, error: &CloudError) {
        self.hands.look = false;
        let end = self.now + by;
        while self.now < end {
            self.run(ms(10));
            for asked in std::mem::take(&mut self.asked) {
                self.event(Event::Looked { asked, result: Err(error.clone()) });
            }
        }
        self.hands.look = true;
    }

    pub fn run_by(&mut self, by: Duration, step: Duration) {
        let end = self.now + by;
        while self.now < end {
            self.now = (self.now + step).min(end);
            if self.hands.acknowledge && self.view.role == Role::Leader {
                self.acknowledge();
            }
            self.tick();
            self.tend();
        }
    }

    /// What waits for a hand that works; a chain of effects is shorter than ten.
    fn tend(&mut self) {
        for _ in 0..10 {
            if self.hands.address {
                self.try_addresses();
            }
            if self.hands.apply {
                self.apply_all();
            }
            if self.hands.swap {
                self.finish(&done());
            }
            if self.hands.look {
                self.answer_looks();
            }
            self.answer_rehearsals();
        }
    }

    pub fn try_addresses(&mut self) {
        for effect in std::mem::take(&mut self.trying) {
            let vip = match effect {
                Effect::AddAddress(vip, _) if self.present.insert(vip) => vip,
                Effect::RemoveAddress(vip) if self.present.remove(&vip) => vip,
                Effect::AddAddress(vip, _) | Effect::RemoveAddress(vip) => {
                    self.event(Event::AddressTried(vip));
                    continue;
                }
                _ => continue,
            };
            self.event(Event::Addresses(self.present.clone()));
            self.event(Event::AddressTried(vip));
        }
    }
}

/// Questions.
impl World {
    /// What the handover that the ledger has is counted under.
    pub fn cause(&self) -> Cause {
        let handover = self.ledger.handover.as_ref().expect("a handover");
        Cause::of(&handover.from, &handover.reason)
    }

    pub fn open(&self) -> bool {
        self.gate.is_some()
    }

    pub fn claims(&self) -> usize {
        self.told(|e| matches!(e, Effect::Propose(Command::Claim { .. }))).len()
    }

    pub fn stories(&self, fits: impl Fn(&Story) -> bool) -> usize {
        self.told(|e| matches!(e, Effect::Tell(s) if fits(s))).len()
    }

    pub fn transfers(&self) -> Vec<Incarnation> {
        let to = |e: &Effect| match e {
            Effect::Transfer(to) => Some(*to),
            _ => None,
        };
        self.past.iter().filter_map(|(_, e)| to(e)).collect()
    }

    /// When each effect that fits was asked for.
    pub fn told(&self, fits: impl Fn(&Effect) -> bool) -> Vec<Time> {
        let of = self.past.iter().filter(|(_, e)| fits(e));
        of.map(|(t, _)| *t).collect()
    }

    /// Lets time run until it is so, ten seconds at most.
    pub fn until(&mut self, so: impl Fn(&World) -> bool) {
        let end = self.now + secs(10);
        while !so(self) {
            assert!(self.now < end, "it never came");
            self.run(ms(10));
        }
    }

    pub fn claim(&self) -> &crate::ledger::Claim {
        self.ledger.claim.as_ref().expect("a claim")
    }

    pub fn forget(&mut self) {
        self.past.clear();
    }
}
