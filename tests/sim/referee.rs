//! Sees everything from outside, in true time, and asks the invariants. It takes no part: what it knows
//! it knows from messages, from what leaves for EC2, and from what members publish.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use vipd::config::Timing;
use vipd::decide::{Gate, Permit, RaftView, Role};
use vipd::model::route::Swap;
use vipd::model::{EniId, Incarnation, Observed, RouteKey, Term, Time};
use vipd::proto;
use vipd::raft::store::Applied;
use vipd::runtime::simulated::{Host, true_now};

use crate::disk::Disk;
use crate::invariants::{Call, InTheAir, Invariants, Seen};
use crate::seat::eni;

/// One life of one member, as the referee sees it.
pub struct Life {
    pub host: Host,
    pub gate: Arc<Gate>,
    pub me: Incarnation,
    pub timing: Timing,
    pub disk: Disk,
    /// On its own clock.
    pub quarantined_until: Time,
    pub applied: Option<watch::Receiver<Applied>>,
    pub view: RaftView,
    /// How many lives this member had before.
    pub number: u64,
}

impl Life {
    /// What its gate lets pass now.
    fn open(&self) -> Option<Permit> {
        self.gate.current().filter(|permit| self.gate.check(permit, self.host.now()).is_ok())
    }
}

/// A call whose bytes have left.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub serial: u64,
    seat: usize,
    epoch: u64,
}

/// An attempt that has not ended.
struct Attempt {
    call: InTheAir,
    /// On its caller's clock.
    began: Time,
    left: bool,
}

/// A broken property.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub at: Duration,
    pub property: &'static str,
    pub words: String,
}

struct Book {
    names: Vec<String>,
    lives: BTreeMap<usize, Life>,
    invariants: Invariants,
    violations: Vec<Violation>,
    lines: Option<Vec<String>>,
    /// Whether the lines are to have every message.
    messages: bool,
    digest: DefaultHasher,
    calls: u64,
    epochs: u64,
    /// Claims by which another member than before came to own.
    moves: u64,
    /// How often a leader had two sets of voters.
    joint: u64,
    /// How often one died that had.
    joint_deaths: u64,
    /// Of any life, since what it granted may stand after its end.
    longest_lease: Duration,
    attempts: BTreeMap<u64, Attempt>,
    attempts_begun: u64,
    looked: Duration,
    /// Where the newest claim that was applied anywhere wants the routes.
    owner_eni: Option<EniId>,
    newest_term: u64,
    /// The newest term of which each incarnation sent an append.
    led: BTreeMap<Incarnation, Term>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Referee(Arc<Mutex<Book>>);

/// What is kept of the transcript. Its digest is of all that there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transcript {
    Digest,
    /// What happened, in words.
    Lines,
    /// And every message, byte for byte.
    Whole,
}

/// The gRPC frame's head: a flag and a length.
const FRAME_HEAD: usize = 5;

fn message<M: prost::Message + Default>(frame: &[u8]) -> Option<M> {
    M::decode(frame.get(FRAME_HEAD..)?).ok()
}

/// Up to where an append's answer says that the log is the leader's.
fn accepted(asked: &proto::AppendRequest, answer: proto::AppendResponse) -> Option<proto::LogId> {
    use proto::append_response::Result as Answer;
    match answer.result? {
        Answer::Success(_) => asked.entries.last().and_then(|e| e.log_id).or(asked.prev_log_id),
        Answer::Partial(partial) => partial.log_id,
        Answer::Conflict(_) | Answer::HigherVote(_) => None,
    }
}

impl Referee {
    pub fn new(names: Vec<String>, transcript: Transcript) -> Self {
        Self(Arc::new(Mutex::new(Book {
            names,
            lives: BTreeMap::new(),
            invariants: Invariants::default(),
            violations: Vec::new(),
            lines: (transcript != Transcript::Digest).then(Vec::new),
            messages: transcript == Transcript::Whole,
            digest: DefaultHasher::new(),
            calls: 0,
            epochs: 0,
            moves: 0,
            joint: 0,
            joint_deaths: 0,
            longest_lease: Duration::ZERO,
            attempts: BTreeMap::new(),
            attempts_begun: 0,
            looked: Duration::ZERO,
            owner_eni: None,
            newest_term: 0,
            led: BTreeMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line of the transcript.
    pub fn say(&self, words: &str) {
        self.lock().say(words);
    }

    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// Notes a broken property that somebody else has found.
    pub fn violated(&self, property: &'static str, words: String) {
        self.lock().violated(property, words);
    }

    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How many claims were applied.
    pub fn claims(&self) -> u64 {
        self.lock().epochs
    }

    /// How often the VIP went from one member to another.
    pub fn moves(&self) -> u64 {
        self.lock().moves
    }

    /// How often a leader came to have two sets of voters, and how often one that had them died.
    pub fn joint(&self) -> (u64, u64) {
        let book = self.lock();
        (book.joint, book.joint_deaths)
    }

    /// Entries that were applied here, and how often a member's ledger was gone on from.
    pub fn replayed(&self) -> (u64, u64) {
        self.lock().invariants.replayed()
    }

    /// What each living member knows of Raft, by seat.
    pub fn views(&self) -> Vec<(usize, RaftView)> {
        self.lock().lives.iter().map(|(seat, life)| (*seat, life.view.clone())).collect()
    }

    pub fn newest_term(&self) -> u64 {
        self.lock().newest_term
    }

    /// The transcript's digest, and its lines if they were kept.
    pub fn transcript(&self) -> (u64, Vec<String>) {
        let book = self.lock();
        (book.digest.finish(), book.lines.clone().unwrap_or_default())
    }

    pub fn begins(&self, seat: usize, life: Life) {
        let mut book = self.lock();
        let words = format!("{} begins life {} as {}", book.names[seat], life.number, life.me);
        book.say(&words);
        book.longest_lease = book.longest_lease.max(life.timing.lease());
        book.see(&Seen::Begins { seat, me: life.me, quarantined_until: life.quarantined_until });
        book.lives.insert(seat, life);
    }

    pub fn ends(&self, seat: usize) {
        let mut book = self.lock();
        book.attempts.retain(|_, attempt| attempt.call.seat != seat);
        let Some(life) = book.lives.remove(&seat) else { return };
        book.joint_deaths += u64::from(life.view.role == Role::Leader && life.view.is_joint());
        if let Some(term) = book.led.get(&life.me).copied() {
            book.see(&Seen::Dies { leader: life.me, term });
        }
    }

    pub fn applies_by(&self, seat: usize, mut applied: watch::Receiver<Applied>) {
        if let Some(life) = self.lock().lives.get_mut(&seat) {
            applied.mark_changed();
            life.applied = Some(applied);
        }
    }

    /// What `seat` has applied, and its role; `None` where it has not come so far.
    pub fn member(&self, seat: usize) -> Option<(Applied, Role)> {
        let book = self.lock();
        let life = book.lives.get(&seat)?;
        Some((life.applied.as_ref()?.borrow().clone(), life.view.role))
    }

    /// A view on its way to the member's judgement.
    pub fn raft(&self, seat: usize, view: &RaftView) {
        let mut book = self.lock();
        let Some(life) = book.lives.get_mut(&seat) else { return };
        let news = (life.view.role, life.view.term, life.view.leader) != (view.role, view.term, view.leader);
        let joint = view.role == Role::Leader && view.is_joint() && !life.view.is_joint();
        life.view = view.clone();
        let (me, number, disk) = (life.me, life.number, life.disk.clone());
        book.newest_term = book.newest_term.max(view.term.0);
        book.joint += u64::from(joint);
        if news {
            let words = format!("{} is {:?} in term {}", book.names[seat], view.role, view.term);
            book.say(&words);
        }
        if view.role == Role::Leader {
            book.see(&Seen::Leads { me, life: number, term: view.term, disk: &disk });
        }
    }

    /// Whether the passing of time alone may break something: a call is in the air.
    pub fn counts_time(&self) -> bool {
        !self.lock().attempts.is_empty()
    }

    /// What each living member's ledger is now, and whose permits are open. Called often.
    pub fn look(&self) {
        let mut book = self.lock();
        let mut open = Vec::new();
        let mut applied = Vec::new();
        for (seat, life) in &mut book.lives {
            open.extend(life.open().map(|permit| (*seat, permit)));
            if let Some(rx) = life.applied.as_mut().filter(|rx| rx.has_changed().unwrap_or(false)) {
                applied.push((*seat, rx.borrow_and_update().clone(), life.disk.clone()));
            }
        }
        book.see(&Seen::Open { permits: &open });
        book.look_at_attempts();
        for (seat, applied, disk) in applied {
            book.see(&Seen::Applied { seat, applied: &applied, disk: &disk });
            let epoch = applied.ledger.claim.as_ref().map_or(0, |c| c.epoch.0);
            if epoch > book.invariants.newest_epoch {
                book.invariants.newest_epoch = epoch;
                book.epochs += 1;
                let owner = applied.ledger.owner().map_or_else(String::new, ToString::to_string);
                book.say(&format!("{owner} owns, epoch {epoch}"));
                let seat = book.names.iter().position(|name| *name == owner);
                let new = seat.map(|seat| eni(seat).parse().expect("an ENI's id"));
                let old = std::mem::replace(&mut book.owner_eni, new);
                book.moves += u64::from(old.is_some() && old != book.owner_eni);
            }
        }
    }

    /// A request leaves `seat`. The moment on its clock.
    pub fn request_leaves(&self, seat: usize, path: &str, frame: &[u8]) -> Time {
        let mut book = self.lock();
        let Some(life) = book.lives.get(&seat) else { return Time::default() };
        let (now, me, open) = (life.host.now(), life.me, life.open());
        book.note("asks", seat, path, frame);
        match path.rsplit('/').next() {
            Some(kind @ ("Vote" | "PreVote")) => {
                let request = message::<proto::VoteRequest>(frame).unwrap_or_default();
                book.see(&Seen::CallsDead { member: me, term: Term(request.ended_term) });
                if let (Some(vote), "Vote") = (request.vote, kind) {
                    let who = Incarnation(vote.voted_for);
                    let term = Term(vote.term);
                    let by_transfer = request.leadership_transfer;
                    book.see(&Seen::Votes { voter: who, term, candidate: who, open, by_transfer });
                }
            }
            Some("Append") => {
                if let Some(vote) = message::<proto::AppendRequest>(frame).and_then(|r| r.vote) {
                    let newest = book.led.entry(me).or_default();
                    *newest = Term(vote.term).max(*newest);
                }
            }
            Some("Transfer") => {
                let request = message::<proto::TransferRequest>(frame).unwrap_or_default();
                if let Some(vote) = request.from_leader {
                    let (term, to) = (Term(vote.term), Incarnation(request.to));
                    let words = format!("{} transfers term {term}", book.names[seat]);
                    book.say(&words);
                    let in_the_air = book.in_the_air(seat, term, now);
                    book.see(&Seen::Transfers { leader: Incarnation(vote.voted_for), term, to, in_the_air });
                }
            }
            Some(_) | None => {}
        }
        now
    }

    /// What the gate of `seat` lets pass now.
    pub fn open(&self, seat: usize) -> Option<Permit> {
        self.lock().lives.get(&seat)?.open()
    }

    /// `seat` has answered, at this moment, what left its sender at `left`. `open`: its permit as it was asked.
    pub fn answered(
        &self,
        seat: usize,
        path: &str,
        asked: &[u8],
        answer: &[u8],
        left: Duration,
        open: Option<Permit>,
    ) {
        let mut book = self.lock();
        let Some(life) = book.lives.get(&seat) else { return };
        let (me, host, disk, open) = (life.me, life.host.clone(), life.disk.clone(), open.or(life.open()));
        book.note("answers", seat, path, answer);
        match path.rsplit('/').next() {
            Some("Vote") => {
                let granted = message::<proto::VoteResponse>(answer).is_some_and(|r| r.granted);
                let asked = message::<proto::VoteRequest>(asked).unwrap_or_default();
                let by_transfer = asked.leadership_transfer;
                if let (Some(vote), true) = (asked.vote, granted) {
                    let (term, candidate) = (Term(vote.term), Incarnation(vote.voted_for));
                    let words = format!("{} votes for {candidate} in term {term}", book.names[seat]);
                    book.say(&words);
                    book.see(&Seen::Votes { voter: me, term, candidate, open, by_transfer });
                }
            }
            Some("Append") => {
                let answer = message::<proto::AppendResponse>(answer).unwrap_or_default();
                let asked = message::<proto::AppendRequest>(asked).unwrap_or_default();
                let granted_ms = answer.granted_ms;
                if let Some(id) = accepted(&asked, answer) {
                    book.see(&Seen::Appended { me, index: id.index, term: id.term, disk: &disk });
                }
                if let (Some(vote), true) = (asked.vote, granted_ms > 0) {
                    // What the leader counts on. An answer that waited for the disk binds no longer.
                    let until = left + host.truly(Duration::from_millis(granted_ms));
                    let leader = Incarnation(vote.voted_for);
                    book.see(&Seen::Promises { voter: me, leader, term: Term(vote.term), until });
                }
            }
            Some(_) | None => {}
        }
    }

    /// The answer to what left `seat` at `sent` is there.
    pub fn answer_arrives(&self, seat: usize, path: &str, asked: &[u8], answer: &[u8], sent: Time) {
        if !path.ends_with("/Append") {
            return;
        }
        let granted_ms = message::<proto::AppendResponse>(answer).map_or(0, |r| r.granted_ms);
        let Some(request) = message::<proto::AppendRequest>(asked) else { return };
        if let (Some(envelope), Some(vote), 1..) = (request.envelope, request.vote, granted_ms) {
            let granted = Duration::from_millis(granted_ms);
            let (voter, term) = (Incarnation(envelope.to), Term(vote.term));
            self.lock().see(&Seen::Acknowledged { seat, voter, term, sent, granted });
        }
    }

    /// `seat` begins to call. Under which number the attempt is known.
    pub fn attempt_begins(&self, seat: usize, permit: Permit, timeout: Duration) -> u64 {
        let mut book = self.lock();
        let Some(began) = book.lives.get(&seat).map(|life| life.host.now()) else { return 0 };
        let lease = book.longest_lease;
        book.attempts_begun += 1;
        if book.attempts.is_empty() {
            // Its time counts from now: nobody has looked for a while.
            book.looked = true_now();
        }
        let number = book.attempts_begun;
        let call = InTheAir { seat, permit, age: Duration::ZERO, shut_for: Duration::ZERO, timeout, lease };
        book.attempts.insert(number, Attempt { call, began, left: false });
        number
    }

    /// However it ended.
    pub fn attempt_ends(&self, number: u64) {
        self.lock().attempts.remove(&number);
    }

    /// The bytes of attempt `number`, which was handed out at `began`, leave for EC2, at this moment.
    pub fn bytes_leave(
        &self,
        seat: usize,
        number: u64,
        swap: &Swap,
        permit: Permit,
        gate: &Gate,
        began: Time,
    ) -> Sent {
        let mut book = self.lock();
        book.calls += 1;
        if let Some(attempt) = book.attempts.get_mut(&number) {
            attempt.left = true;
        }
        let sent = Sent { serial: book.calls, seat, epoch: permit.epoch().0 };
        let words = format!(
            "{} calls {} -> {}, term {} epoch {}",
            book.names[seat],
            swap.route.table,
            swap.eni,
            permit.term(),
            permit.epoch()
        );
        book.say(&words);
        let Some(life) = book.lives.get(&seat) else {
            book.violated("a dead member calls", words);
            return sent;
        };
        let now = life.host.now();
        let (view, timing, me) = (life.view.clone(), life.timing, life.me);
        let applied = life.applied.as_ref().map(|rx| rx.borrow().clone()).unwrap_or_default();
        let name = book.names[seat].clone();
        let checked = gate.check(&permit, now);
        book.see(&Seen::Called(Call {
            seat,
            me,
            name: &name,
            swap,
            permit,
            began,
            now,
            margin: timing.margin(),
            view: &view,
            ledger: &applied.ledger,
            gate: checked,
        }));
        sent
    }

    pub fn executed(&self, sent: &Sent) {
        let mut book = self.lock();
        let words =
            format!("EC2 executes call {} of {} epoch {}", sent.serial, book.names[sent.seat], sent.epoch);
        book.say(&words);
    }

    /// Whether that call, done now, would turn a route away from the newest owner.
    pub fn misleads(&self, swap: &Swap, is: Option<&Observed>) -> bool {
        let right = |eni: &EniId| Some(eni) == self.lock().owner_eni.as_ref();
        let was_right = matches!(is, Some(Observed::Active(Some(eni))) if right(eni));
        was_right && !right(&swap.eni)
    }

    pub fn route_is(&self, route: &RouteKey, eni: &EniId) {
        self.say(&format!("{} is {eni}", route.table));
    }

    /// From here on the world is whole ...
    pub fn calm(&self) {
        self.lock().see(&Seen::Calm);
    }

    /// ... until here.
    pub fn stir(&self) {
        self.lock().see(&Seen::Stir);
    }
}

impl Book {
    fn say(&mut self, words: &str) {
        let mut line = String::new();
        let _ = write!(line, "{:>13.6} {words}", true_now().as_secs_f64());
        line.hash(&mut self.digest);
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    /// The calls of `seat` in `term` whose bytes have left and whose time is not over.
    fn in_the_air(&self, seat: usize, term: Term, now: Time) -> usize {
        let waited_for = |a: &&Attempt| {
            let own = a.call.seat == seat && a.call.permit.term() == term;
            own && a.left && now.since(a.began) < a.call.timeout
        };
        self.attempts.values().filter(waited_for).count()
    }

    fn look_at_attempts(&mut self) {
        let now = true_now();
        let passed = now - std::mem::replace(&mut self.looked, now);
        if self.attempts.is_empty() {
            return;
        }
        let mut attempts = std::mem::take(&mut self.attempts);
        for Attempt { call, .. } in attempts.values_mut() {
            let Some(life) = self.lives.get(&call.seat).filter(|life| !life.host.is_frozen()) else {
                continue;
            };
            let (term, epoch, now) = (call.permit.term(), call.permit.epoch(), life.host.now());
            let open = life.gate.current();
            let open = open.is_some_and(|p| (p.term(), p.epoch()) == (term, epoch) && now < p.deadline());
            call.age += passed;
            call.lease = self.longest_lease;
            call.shut_for = if open { Duration::ZERO } else { call.shut_for + passed };
            self.see(&Seen::InTheAir(call));
        }
        self.attempts = attempts;
    }

    /// A message, in the digest always, and as a line where every message is wanted.
    fn note(&mut self, what: &str, seat: usize, path: &str, bytes: &[u8]) {
        (true_now(), seat, path, bytes).hash(&mut self.digest);
        if let Some(lines) = self.lines.as_mut().filter(|_| self.messages) {
            let mut line = format!("{:>13.6} {} {what} {path} ", true_now().as_secs_f64(), self.names[seat]);
            for byte in bytes {
                let _ = write!(line, "{byte:02x}");
            }
            lines.push(line);
        }
    }

    fn see(&mut self, seen: &Seen<'_>) {
        for (property, words) in self.invariants.see(true_now(), seen) {
            self.violated(property, words);
        }
    }

    fn violated(&mut self, property: &'static str, words: String) {
        self.say(&format!("VIOLATION {property}: {words}"));
        // The first tells most; a thousand tell no more. One property that is broken all the time hides no other.
        if self.violations.iter().filter(|v| v.property == property).count() < 5 {
            self.violations.push(Violation { at: true_now(), property, words });
        }
    }
}
