//! Anything may come at any time: `invariants` hold after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::world::*;
use crate::decide::*;
use crate::ledger::{Command, Phases};
use crate::model::route::{Outcome, Sight};
use crate::model::*;

const RUNS: u64 = 4000;
const EVENTS: usize = 330;

/// xorshift64* (Vigna 2016): the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

struct Chaos {
    w: World,
    dice: Dice,
    /// The log's newest term: no entry of an older one can follow.
    newest: Term,
    asks: u64,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let (create, release, refresh) = (dice.one_in(2), dice.one_in(2), dice.one_in(2));
        let (failback, hold) = (dice.one_in(2), dice.pick(&[0, 500]));
        let (witness, no_eni, one_vip) = (dice.one_in(20), dice.one_in(20), dice.one_in(2));
        let w = World::restarted(|s| {
            s.create_missing = create;
            if release {
                s.on_quorum_loss = OnQuorumLoss::Release;
            }
            s.refresh_address = refresh.then(|| ms(500));
            s.members[0].witness = witness;
            if no_eni {
                s.eni = None;
            }
            if !one_vip {
                s.vips.push("fd00:77::10/128".parse().expect("a vip"));
            }
            s.min_hold = ms(hold);
            s.failback = failback;
            if failback {
                s.members[1].priority = 200;
            }
        });
        Self { w, dice, newest: Term(0), asks: 0 }
    }

    fn step(&mut self) {
        match self.dice.below(48) {
            0..=6 => self.time(),
            7..=8 => self.raft(),
            9..=14 => self.acknowledged(),
            15..=20 => self.log(),
            21 => self.foreign(),
            22 => self.health(),
            23 => self.peer(),
            24..=26 => self.address(),
            27..=31 => self.looked(),
            32..=36 => self.swapped(),
            37 => self.cloud(),
            38 => self.asked(),
            39 => self.ordered(),
            40..=41 => self.rehearsed(),
            42 => self.configured(),
            43 => {
                let gone = self.dice.one_in(12).then(|| "its interface is gone".to_owned());
                self.w.event(Event::Interface(gone));
            }
            44 => self.enlisted(),
            45..=46 => self.changed(),
            _ => {
                let barred = self.dice.one_in(3).then(|| "drained".to_owned());
                let term = self.w.view.term;
                self.w.event(if barred.is_none() { Event::Ended { term } } else { Event::Tick });
                self.w.event(Event::Barred(barred));
            }
        }
    }

    fn time(&mut self) {
        let by = match self.dice.below(200) {
            0 => secs(16 * 60),
            1..=4 => ms(self.dice.below(12_000)),
            5..=30 => ms(self.dice.below(400)),
            _ => ms(self.dice.below(30)),
        };
        self.w.pass(by);
    }

    fn configured(&mut self) {
        let dice = &mut self.dice;
        let (failback, min_hold) = (self.w.settings.failback, self.w.settings.min_hold);
        let all = ["rtb-1", "rtb-2", "rtb-3"].map(table);
        let tunable = Tunable {
            tables: all.into_iter().filter(|_| !dice.one_in(3)).collect(),
            create_missing: dice.one_in(2),
            reconcile: secs(1 + dice.below(10)),
            on_quorum_loss: dice.pick(&[OnQuorumLoss::Hold, OnQuorumLoss::Release]),
            failback: failback && !dice.one_in(50),
            min_hold: if dice.one_in(4) { ms(dice.below(1000)) } else { min_hold },
        };
        self.w.event(Event::Configured(tunable));
    }

    fn raft(&mut self) {
        let dice = &mut self.dice;
        let (up, who) = (dice.below(4) / 2, dice.below(8));
        let me = self.w.settings.my_incarnation;
        let newest = self.newest;
        let now = self.w.now;
        let joint = dice.below(6);
        let (lag, gone) = (dice.one_in(5), dice.one_in(60));
        self.w.raft(|v| {
            v.term = Term(v.term.0.max(newest.0) + up);
            (v.role, v.leader) = match who {
                0 => (Role::Candidate, None),
                1 => (Role::Follower, Some(B)),
                2 => (Role::Learner, None),
                _ => (Role::Leader, Some(me)),
            };
            v.configs = match joint {
                0 => vec![[ME, B, C].into(), [ME, C, Incarnation(4)].into()],
                1 => vec![[ME, C].into()],
                _ => vec![[ME, B, C].into()],
            };
            v.membership += u64::from(joint < 2);
            v.removed = gone.then_some(v.membership);
            v.heard = Some(now);
            v.last_index += if lag { 40 } else { 0 };
        });
    }

    fn acknowledged(&mut self) {
        let dice = &mut self.dice;
        let event = Event::Acknowledged {
            from: dice.pick(&[B, B, C, Incarnation(4), Incarnation(77)]),
            term: Term((self.w.view.term.0 + 1).saturating_sub(dice.pick(&[0, 1, 1, 1, 1, 2]))),
            sent: self.w.now,
            granted: ms(50 + dice.below(300)),
        };
        // It took a while to come.
        self.w.now = self.w.now + ms(dice.below(20));
        self.w.event(event);
    }

    fn log(&mut self) {
        match self.dice.below(12) {
            0 => drop(self.w.log.pop_front()),
            1 => {
                if let Some((_, command)) = self.w.log.pop_front() {
                    self.w.event(Event::ProposalFailed(command));
                }
            }
            // Failed, it says; and may be applied all the same.
            2 | 4 if !self.w.log.is_empty() => drop(self.w.refuse()),
            3 => {
                let event = Event::Applied { ledger: Arc::new(self.w.ledger.clone()), index: self.w.index };
                self.w.event(event);
            }
            _ => {
                if let Some((term, command)) = self.w.log.pop_front()
                    && term >= self.newest
                {
                    self.newest = term;
                    self.w.apply(term, &command);
                }
            }
        }
    }

    /// What another leader put into the log.
    fn foreign(&mut self) {
        let term = Term(self.w.view.term.0.max(self.newest.0) + 1);
        if self.dice.one_in(3) && self.w.ledger.claim.as_ref().is_some_and(|c| !c.done) {
            let claim = self.w.ledger.claim.clone().expect("a claim");
            let moved = Command::Moved {
                epoch: claim.epoch,
                phases: Phases::default(),
                total_us: 1,
                in_sync: self.dice.one_in(2),
                request_ids: vec![],
            };
            self.w.apply(self.newest, &moved);
            return;
        }
        self.newest = term;
        let who = self.dice.pick(&["b", "c"]);
        self.w.claimed_by(who, term.0, &["rtb-1"]);
    }

    fn some_health(&mut self) -> Health {
        match self.dice.below(4) {
            0 => Health::Unhealthy("down".into()),
            1 => Health::Unknown("no socket".into()),
            _ => Health::Healthy,
        }
    }

    fn health(&mut self) {
        let health = self.some_health();
        self.w.event(Event::Health(health));
    }

    fn peer(&mut self) {
        let health = self.some_health();
        let dice = &mut self.dice;
        let peer = Peer {
            reachable: !dice.one_in(4),
            health,
            applied: dice.below(200),
            quarantined: dice.one_in(10),
            barred: dice.one_in(4).then(|| "drained".to_owned()),
            reached: dice.one_in(16).then_some(self.w.now),
            cut_off: dice.one_in(8).then(|| "no way".to_owned()),
            allowed: dice.one_in(4).then(|| (table("rtb-1"), self.w.now)).into_iter().collect(),
            denied: dice.one_in(8).then(|| (table("rtb-2"), "no".to_owned())).into_iter().collect(),
            says: dice.one_in(2).then(|| (dice.pick(&[B, C]), member("b", dice.pick(&[90, 150]) as u32))),
        };
        let who = dice.pick(&["b", "c"]);
        self.w.event(Event::Peer(name(who), peer));
    }

    fn enlisted(&mut self) {
        if !self.dice.one_in(4) {
            return;
        }
        let who = name(self.dice.pick(&["a", "b", "c", "d"]));
        let new = member(self.dice.pick(&["b", "d", "e"]), 100);
        let what = match self.dice.below(4) {
            0 => Roster::Add(new),
            1 => Roster::Promote(who),
            2 => Roster::Remove(who),
            _ => Roster::Replace { old: who, new },
        };
        self.asks += 1;
        let while_paused = self.dice.pick(&[WhilePaused::Refuse, WhilePaused::Move]);
        let deadline = self.w.now + ms(self.dice.below(3000));
        self.w.event(Event::Enlist(Enlistment { id: AskId(self.asks), what, while_paused, deadline }));
    }

    fn changed(&mut self) {
        if self.w.change.take().is_some() {
            let outcome = if self.dice.one_in(2) { Ok(()) } else { Err(Refusal::Changing) };
            self.w.event(Event::Changed(outcome));
        }
    }

    fn address(&mut self) {
        if self.dice.one_in(3) {
            let some = self.w.settings.vips.clone();
            let some: Vec<Vip> = some.into_iter().filter(|_| self.dice.one_in(2)).collect();
            self.w.addresses(&some);
        } else if self.dice.one_in(6) {
            self.w.event(Event::AddressTried(vip()));
        } else {
            self.w.try_addresses();
        }
    }

    fn looked(&mut self) {
        let asked =
            if self.dice.one_in(10) || self.w.asked.is_empty() { self.w.now } else { self.w.asked.remove(0) };
        let result = match self.dice.below(8) {
            0 => Err(timeout()),
            1 => Ok(self.sight()),
            _ => Ok(self.w.cloud.clone()),
        };
        self.w.event(Event::Looked { asked, result });
    }

    fn sight(&mut self) -> Sight {
        let mut sight = Sight::default();
        for t in ["rtb-1", "rtb-2", "rtb-3"] {
            match self.dice.below(4) {
                0 => drop(sight.absent.insert(table(t))),
                1 => sight.tables.push(table(t)),
                _ => {
                    sight.tables.push(table(t));
                    for vip in self.w.settings.vips.clone() {
                        let route = RouteKey { table: table(t), vip };
                        let seen = self.observed();
                        sight.routes.insert(route, seen);
                    }
                }
            }
        }
        sight
    }

    fn observed(&mut self) -> Observed {
        self.dice.pick(&[
            at("eni-a"),
            at("eni-b"),
            Observed::Active(None),
            Observed::Blackhole(Some(eni("eni-b"))),
            Observed::Missing,
            at("eni-b"),
            Observed::Active(None),
            // Its own interface is gone: it leaves (fault 41), so seldom.
            Observed::Blackhole(Some(eni("eni-a"))),
        ])
    }

    fn swapped(&mut self) {
        if self.w.air.is_empty() {
            return;
        }
        let outcome = match self.dice.below(6) {
            0 => Outcome::Refused(timeout()),
            1 => Outcome::Fenced(Fenced::Closed),
            2 => Outcome::Unknown(timeout()),
            _ => done(),
        };
        let (swap, permit) = self.w.air.remove(0);
        if self.dice.one_in(10) {
            let epoch = Epoch(self.dice.below(self.w.index + 2));
            self.w.event(Event::Swapped { swap, epoch, outcome });
        } else {
            self.w.finish_one(swap, permit, outcome);
        }
    }

    fn cloud(&mut self) {
        let keys: Vec<RouteKey> = self.w.cloud.routes.keys().cloned().collect();
        let (key, seen) = (self.dice.pick(&keys), self.observed());
        self.w.cloud.routes.insert(key, seen);
    }

    fn ordered(&mut self) {
        self.asks += 1;
        let who = name(self.dice.pick(&["a", "a", "b", "c", "x"]));
        // More is taken back than ordered, or nobody would be left.
        let what = match self.dice.below(10) {
            0 => Directive::Drain(who),
            1..=5 => Directive::Undrain(who),
            6 => Directive::Pause,
            _ => Directive::Resume,
        };
        let while_paused = self.dice.pick(&[WhilePaused::Refuse, WhilePaused::Move]);
        self.w.order(self.asks, what, while_paused);
    }

    fn rehearsed(&mut self) {
        for swap in std::mem::take(&mut self.w.dry) {
            let result = match self.dice.below(4) {
                0 => Err(unauthorized(&swap.route.table)),
                1 => Err(timeout()),
                _ => Ok(()),
            };
            self.w.event(Event::Rehearsed { swap, result });
        }
    }

    fn asked(&mut self) {
        self.asks += 1;
        let to = self.dice.pick(&[None, Some("a"), Some("b"), Some("c"), Some("x")]);
        let mode = self.dice.pick(&[AskMode::Do, AskMode::Do, AskMode::DryRun]);
        self.w.ask(self.asks, to, mode);
    }
}

fn kind_of(effect: &Effect) -> &'static str {
    match effect {
        Effect::Gate(Some(_)) => "gate opens",
        Effect::Gate(None) => "gate closes",
        Effect::Propose(Command::Claim { .. }) => "claim",
        Effect::Propose(Command::Intent { .. }) => "intent",
        Effect::Propose(Command::Outcome { .. }) => "outcome",
        Effect::Propose(Command::Moved { .. }) => "moved",
        Effect::Propose(Command::Handover { .. }) => "handover",
        Effect::Propose(Command::Recall { .. }) => "recall",
        Effect::Propose(Command::Calm { .. }) => "calm",
        Effect::Propose(
            Command::Drain { .. } | Command::Undrain { .. } | Command::Pause { .. } | Command::Resume,
        ) => "order",
        Effect::Look => "look",
        Effect::Swap(..) => "swap",
        Effect::Rehearse(_) => "rehearse",
        Effect::AddAddress(..) => "add address",
        Effect::RemoveAddress(_) => "remove address",
        Effect::Transfer(_) => "transfer",
        Effect::Campaign { .. } => "campaign",
        Effect::Change(Change::Finish) => "finish",
        Effect::Change(Change::Describe(..)) => "describe",
        Effect::Change(_) => "change",
        Effect::Answer(_, Ok(Answer::Kept)) => "kept",
        Effect::Answer(_, Ok(_)) => "answer",
        Effect::Answer(_, Err(Refusal::CalledOff(..))) => "called off",
        Effect::Answer(_, Err(Refusal::Elsewhere(..))) => "elsewhere",
        Effect::Answer(_, Err(_)) => "refused",
        Effect::Tell(Story::Repair { .. }) => "repair",
        Effect::Tell(Story::HandingOver { reason, .. }) if reason.starts_with("failback") => "failback",
        Effect::Tell(_) => "story",
    }
}

#[test]
fn whatever_comes_in_whatever_order_the_invariants_hold() {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 1..=RUNS {
        let mut chaos = Chaos::new(seed);
        // A failing run names its seed.
        let guard = Seed(seed);
        for _ in 0..EVENTS {
            chaos.step();
            for (_, effect) in chaos.w.past.drain(..) {
                *seen.entry(kind_of(&effect)).or_default() += 1;
            }
        }
        std::mem::forget(guard);
    }
    // A run whose faults did not happen proves nothing.
    let all: BTreeSet<&str> = [
        "gate opens",
        "gate closes",
        "claim",
        "intent",
        "outcome",
        "moved",
        "handover",
        "recall",
        "calm",
        "order",
        "kept",
        "failback",
        "look",
        "swap",
        "add address",
        "remove address",
        "transfer",
        "answer",
        "called off",
        "elsewhere",
        "refused",
        "repair",
        "change",
        "describe",
        "story",
    ]
    .into();
    for kind in all {
        let times = seen.get(kind).copied().unwrap_or(0);
        assert!(times >= 20, "{kind} came {times} times: {seen:?}");
    }
}

/// Says which seed it was, if its run panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        eprintln!("seed {}", self.0);
    }
}
