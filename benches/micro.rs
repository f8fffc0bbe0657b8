//! What the parts on the way of a failover cost: the store, the judgement, the ledger, the fence.
//!
//! `cargo bench --workspace --profile dev --bench micro`. The store's directory is in $TMPDIR: on a tmpfs its
//! fdatasync costs nothing.
#![allow(clippy::expect_used, clippy::panic, reason = "nothing is measured where anything here fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use vipd::decide::{Decide, Effect, Event, Gate, Now, Peer, RaftView, Role, Settings};
use vipd::ledger::{Command, Ledger};
use vipd::model::route::{Outcome, Sight};
use vipd::model::{
    Epoch, Health, Incarnation, Member as Listed, Name, Observed, OnQuorumLoss, RouteKey, RouteTableId, Term,
    Time, WallMs,
};
use vipd::raft::store::Store;
use vipd::raft::types::{Entry, LogId, TypeConfig};

fn main() {
    divan::main();
}

const ME: Incarnation = Incarnation(1);
const OTHERS: [Incarnation; 2] = [Incarnation(2), Incarnation(3)];
const TERM: Term = Term(2);
const LEASE: Duration = Duration::from_millis(200);

/// Names and ids of this file are well-formed.
fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("well-formed")
}

fn member(name: &str) -> Listed {
    let peer = format!("{name}:7400");
    Listed { name: parsed(name), peer, admin: None, zone: None, priority: 100, witness: false }
}

fn tables(count: usize) -> Vec<RouteTableId> {
    (0..count).map(|n| parsed(&format!("rtb-{n:03}"))).collect()
}

fn routes(count: usize) -> Vec<RouteKey> {
    let vip = parsed("192.168.77.10/32");
    tables(count).into_iter().map(|table| RouteKey { table, vip }).collect()
}

fn claim(member: &str, term: Term, count: usize) -> Command {
    Command::Claim { member: parsed(member), term, at: WallMs(0), routes: routes(count) }
}

/// A member whose hands do at once what `step` asks for.
struct Member {
    decide: Decide,
    ledger: Ledger,
    index: u64,
    now: Time,
    cloud: Sight,
}

impl Member {
    /// A follower; az-b owned in the term before, its routes are there.
    fn follower(count: usize) -> Self {
        let names = ["az-a", "az-b", "az-c"];
        let settings = Settings {
            me: parsed("az-a"),
            my_incarnation: ME,
            own: member("az-a"),
            vips: vec![parsed("192.168.77.10/32")],
            tables: tables(count),
            eni: Some(parsed("eni-a")),
            create_missing: false,
            margin: Duration::from_millis(10),
            election_max: LEASE,
            attempt_timeout: Duration::from_secs(1),
            reconcile: Duration::from_secs(10),
            on_quorum_loss: OnQuorumLoss::Hold,
            failback: false,
            min_hold: Duration::from_secs(10),
            refresh_address: None,
        };
        let now = Time::from_millis(100_000);
        let at_b = Observed::Active(Some(parsed("eni-b")));
        let cloud = Sight {
            tables: tables(count),
            routes: routes(count).into_iter().map(|key| (key, at_b.clone())).collect(),
            ..Sight::default()
        };
        let decide = Decide::new(settings, Now { time: now, wall: WallMs(0) });
        let mut this = Self { decide, ledger: Ledger::default(), index: 0, now, cloud };
        this.event(Event::Raft(this.view(Role::Follower, Term(1), Some(OTHERS[0]))));
        for name in names.into_iter().skip(1) {
            let peer = Peer {
                reachable: true,
                health: Health::Healthy,
                applied: 0,
                quarantined: false,
                barred: None,
                reached: None,
                cut_off: None,
                allowed: BTreeMap::new(),
                denied: BTreeMap::new(),
                says: None,
            };
            this.event(Event::Peer(parsed::<Name>(name), peer));
        }
        this.apply(Term(1), &claim("az-b", Term(1), 0));
        this
    }

    /// Leader and owner of its term, its move over, a minute ago.
    fn owner(count: usize) -> Self {
        let mut this = Self::follower(count);
        this.event(Event::Raft(this.view(Role::Leader, TERM, Some(ME))));
        for _ in 0..600 {
            this.now = this.now + Duration::from_millis(100);
            this.acknowledged();
            this.event(Event::Tick);
        }
        assert!(this.decide.owns(this.now) && this.ledger.claim.as_ref().is_some_and(|c| c.done));
        this
    }

    fn view(&self, role: Role, term: Term, leader: Option<Incarnation>) -> RaftView {
        let all = [ME, OTHERS[0], OTHERS[1]];
        RaftView {
            role,
            term,
            leader,
            configs: vec![all.into()],
            nodes: all.into_iter().zip(["az-a", "az-b", "az-c"].map(member)).collect(),
            membership: 1,
            removed: None,
            last_index: self.index,
            heard: Some(self.now),
            campaigned: None,
        }
    }

    fn acknowledgement(&self) -> Event {
        Event::Acknowledged { from: OTHERS[0], term: TERM, sent: self.now, granted: LEASE }
    }

    fn acknowledged(&mut self) {
        self.event(self.acknowledgement());
    }

    fn apply(&mut self, term: Term, command: &Command) {
        self.index += 1;
        self.ledger.apply(self.index, term.0, command);
        self.event(Event::Applied { ledger: Arc::new(self.ledger.clone()), index: self.index });
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        self.decide.step(Now { time: self.now, wall: WallMs(0) }, event)
    }

    fn event(&mut self, event: Event) {
        for effect in self.step(event) {
            match effect {
                Effect::Propose(command) => self.apply(TERM, &command),
                Effect::Look => self.event(Event::Looked { asked: self.now, result: Ok(self.cloud.clone()) }),
                Effect::Swap(swap, permit) => {
                    let target = Observed::Active(Some(swap.eni.clone()));
                    self.cloud.routes.insert(swap.route.clone(), target);
                    let outcome = Outcome::Done { request_id: None };
                    self.event(Event::Swapped { swap, epoch: permit.epoch(), outcome });
                }
                Effect::AddAddress(vip, _) => self.event(Event::Addresses(BTreeSet::from([vip]))),
                Effect::RemoveAddress(_) => self.event(Event::Addresses(BTreeSet::new())),
                Effect::Gate(_)
                | Effect::Rehearse(_)
                | Effect::Transfer(_)
                | Effect::Campaign { .. }
                | Effect::Change(_)
                | Effect::Answer(..)
                | Effect::Tell(_) => {}
            }
        }
    }
}

/// The commonest event of an owner: each heartbeat's answer, some sixty a second.
#[divan::bench(args = [3, 50])]
fn step_owner_acknowledged(bencher: Bencher<'_, '_>, tables: usize) {
    let mut owner = Member::owner(tables);
    bencher.bench_local(|| {
        // Two followers answer a heartbeat each 30 ms.
        owner.now = owner.now + Duration::from_millis(15);
        let effects = owner.step(black_box(owner.acknowledgement()));
        assert!(matches!(effects.first(), Some(Effect::Gate(Some(_)))), "each one prolongs the permit");
        effects
    });
}

#[divan::bench(args = [3, 50])]
fn step_owner_tick(bencher: Bencher<'_, '_>, tables: usize) {
    let mut owner = Member::owner(tables);
    bencher.bench_local(|| owner.step(black_box(Event::Tick)));
}

/// The step of a failover: the claim is applied, the gate opens, every swap goes out.
#[divan::bench(args = [3, 50])]
fn step_claim_applied(bencher: Bencher<'_, '_>, tables: usize) {
    bencher
        .with_inputs(|| {
            let mut member = Member::follower(tables);
            let view = member.view(Role::Leader, TERM, Some(ME));
            member.step(Event::Raft(view));
            member.step(member.acknowledgement());
            member.step(Event::Addresses(BTreeSet::from([parsed("192.168.77.10/32")])));
            member.ledger.apply(member.index + 1, TERM.0, &claim("az-a", TERM, tables));
            let event = Event::Applied { ledger: Arc::new(member.ledger.clone()), index: member.index + 1 };
            (member, event)
        })
        .bench_local_values(|(mut member, event)| {
            let effects = member.step(event);
            let swaps = effects.iter().filter(|e| matches!(e, Effect::Swap(..))).count();
            assert_eq!(swaps, tables);
            (member, effects)
        });
}

/// A whole failover's entries: claim, outcome, move.
#[divan::bench(args = [3, 50])]
fn ledger_apply_failover(bencher: Bencher<'_, '_>, tables: usize) {
    let mut full = Ledger::default();
    for term in 1..=256 {
        full.apply(term, term, &claim(if term % 2 == 0 { "az-a" } else { "az-b" }, Term(term), tables));
    }
    let epoch = Epoch(257);
    let commands = [
        claim("az-b", Term(257), tables),
        Command::Outcome { epoch, serial: 0, settled: routes(tables) },
        Command::Moved {
            epoch,
            phases: vipd::ledger::Phases::default(),
            total_us: 300_000,
            in_sync: true,
            request_ids: Vec::new(),
        },
    ];
    bencher.with_inputs(|| full.clone()).bench_local_values(|mut ledger| {
        for (index, command) in (257..).zip(&commands) {
            ledger.apply(index, 257, command);
        }
        assert!(ledger.unsettled.is_empty());
        ledger
    });
}

/// Once for every poll of a swap's body.
#[divan::bench]
fn gate_check(bencher: Bencher<'_, '_>) {
    let owner = Member::owner(3);
    let permit = owner.decide.open_permit().expect("an owner's");
    let gate = Gate::new(Duration::from_millis(10));
    gate.set(Some(permit));
    let now = owner.now;
    assert_eq!(gate.check(&permit, now), Ok(()));
    bencher.bench_local(|| gate.check(black_box(&permit), black_box(now)));
}

/// One claim, appended, flushed and synced, as a follower does it before it answers.
#[divan::bench(args = [3, 50], sample_count = 300, sample_size = 1)]
fn store_append_fdatasync(bencher: Bencher<'_, '_>, tables: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let fatal = Arc::new(|cause: &str| panic!("{cause}"));
    let mut store =
        Store::open(&dir.path().join("data"), &parsed("edge"), &parsed("az-a"), fatal).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut index = 0;
    bencher.bench_local(|| {
        let payload = EntryPayload::Normal(claim("az-a", TERM, tables));
        let entry = Entry { log_id: LogId::new_term_index(TERM.0, index), payload };
        index += 1;
        runtime.block_on(async {
            let (tx, rx) = TypeConfig::oneshot();
            store.append([entry], IOFlushed::signal(tx)).await.expect("taken");
            rx.await.expect("an answer").expect("saved");
        });
    });
}
