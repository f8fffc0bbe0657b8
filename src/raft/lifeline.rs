//! Lifelines: silent connections whose end shows that the process at the other end has ended
//! (DESIGN.md section 5; docs/decisions/0019).
//!
//! ```text
//!   follower: keep() --preface, envelope, term--> leader: Lifelines::hold()   duplicates the descriptor, leaks it
//!                    <--one byte-----------------
//!                    <--...silence...------------ nothing but the end of the process closes it: FIN
//!   FIN --> Promise::see_end, openraft's lease off --> Event::Ended --> decide --> Group::campaign
//! ```
//!
//! A FIN is the only evidence: a reset, an error or a message is none, and a connection that a living
//! leader has to give up it resets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, pending};
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use openraft::raft::TransferLeaderRequest;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::Shared;
use super::types::{Node, Vote};
use crate::clock;
use crate::decide::Event;
use crate::model::{Incarnation, Term, Time};
use crate::mutant::{self, Mutant};
use crate::proto;
use crate::runtime;
use crate::tls::{Speaker, Wire};

/// What a lifeline begins with: as long as HTTP/2's preface, and nothing that another protocol says.
pub const PREFACE: [u8; 24] = *b"LIFELINE vipd/1\r\n\r\nFIN\r\n";

/// The leader's one byte: it holds the other end.
const HELD: u8 = 6;

/// The longest greeting: a cluster's name and fifty bytes.
const GREETING_MAX: usize = 512;

/// How long the greeting and its answer may take.
const DEADLINE: Duration = Duration::from_secs(1);

/// Lifelines of one incarnation that a leader holds: the one in use, the one that replaces it, and two
/// whose end was lost on the way. One more, and the oldest is reset, which nobody takes for an end.
const HELD_MAX: usize = 4;

/// A lifeline that was not to be had, or broke, is tried again after so long.
const AGAIN: Duration = Duration::from_millis(200);

/// A refused pre-vote is asked for again after so long: the other may not have read its FIN yet.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// For so long. Beyond it the leases decide.
const ASK_FOR: Duration = Duration::from_millis(100);

/// How a lifeline ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The process at the other end has ended, as far as can be told from here.
    Fin,
    /// Anything else: it says nothing.
    Broken,
}

/// A lifeline that is held; resolves when it ends. Dropped, it is let go.
pub type Held = BoxFuture<'static, End>;

/// Greets on a new connection, waits for the leader's byte, and holds on to it.
pub async fn grasp(mut wire: Wire, greeting: Vec<u8>) -> io::Result<Held> {
    let length = u16::try_from(greeting.len()).map_err(io::Error::other)?;
    let words = [&PREFACE[..], &length.to_be_bytes(), &greeting].concat();
    wire.write_all(&words).await?;
    wire.flush().await?;
    if wire.read_u8().await? != HELD {
        return Err(io::Error::other("what answers is no lifeline's other end"));
    }
    Ok(Box::pin(async move {
        let mut byte = [0];
        let read = wire.read(&mut byte).await;
        match read {
            // Nothing is ever said on it.
            Ok(1..) => End::Broken,
            Ok(0) | Err(_) => {
                if wire.is_fin(&read) {
                    End::Fin
                } else {
                    End::Broken
                }
            }
        }
    }))
}

/// The leader's side of the lifelines that other members hold.
#[derive(Clone)]
pub struct Lifelines(pub(super) Arc<Shared>);

/// A lifeline whose greeting is in order, and which is not held yet.
#[derive(Debug)]
pub struct Greeted {
    wire: Wire,
    from: Incarnation,
}

/// Why a lifeline is not held.
#[derive(Debug, thiserror::Error)]
pub enum Unheld {
    #[error("the greeting cannot be read: {0}")]
    Garbled(#[from] prost::DecodeError),
    #[error("{}", .0.message())]
    Stranger(Box<tonic::Status>),
    #[error("{0} is not in this group")]
    NotMember(Incarnation),
    #[error("this member does not lead term {0}")]
    NotLeader(Term),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Lifelines {
    /// Where members are reached: by the membership, and by the file, but for whom the group has removed.
    pub fn addresses(&self) -> BTreeSet<String> {
        let seated = self.0.nodes().into_values().map(|node| node.peer);
        let removed = &self.0.applied.borrow().ledger.removed;
        let listed = self.0.members.iter().filter(|m| !removed.contains(&m.name));
        seated.chain(listed.map(|m| m.peer.clone())).collect()
    }

    /// Who greets, if it may hold on to this member: another member of this group, about the term that
    /// this member leads.
    pub fn admit(&self, speaker: &Speaker, greeting: &[u8]) -> Result<Incarnation, Unheld> {
        let greeting = proto::LifelineGreeting::decode(greeting)?;
        let raft = self.0.admit(speaker, greeting.envelope.as_ref());
        let raft = raft.map_err(|status| Unheld::Stranger(Box::new(status)))?;
        let from = Incarnation(greeting.envelope.map_or(0, |e| e.from));
        if from == self.0.me || !self.0.nodes().contains_key(&from) {
            return Err(Unheld::NotMember(from));
        }
        let metrics = raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.state == ServerState::Leader && metrics.vote.leader_id.term == greeting.term;
        if leads { Ok(from) } else { Err(Unheld::NotLeader(Term(greeting.term))) }
    }

    /// Reads the greeting on `wire`, which has said the preface. Until that is checked whoever greets is a stranger as any
    /// other, and may be dropped: nothing was said to it, so that its connection's end is none.
    pub async fn greet(&self, mut wire: Wire, speaker: &Speaker) -> Option<Greeted> {
        match runtime::timeout(DEADLINE, self.greeted(&mut wire, speaker)).await {
            Ok(Ok(from)) => return Some(Greeted { wire, from }),
            Ok(Err(why)) => tracing::debug!(%why, "a lifeline was refused"),
            Err(_) => tracing::debug!("a lifeline's greeting did not come"),
        }
        None
    }

    /// Holds one lifeline until its other end is gone.
    pub async fn hold(self, greeted: Greeted) {
        let Greeted { mut wire, from } = greeted;
        // Duplicated before the first byte is said: from then on this end closes by a reset only.
        let kept = match wire.tcp().as_fd().try_clone_to_owned() {
            Ok(kept) => Kept(ManuallyDrop::new(kept)),
            Err(error) => return tracing::warn!(%error, "a lifeline cannot be held"),
        };
        match runtime::timeout(DEADLINE, say_held(&mut wire)).await {
            Ok(Ok(())) => {
                tracing::debug!(%from, "holds a lifeline");
                let ours = self.0.lifelines.add(from);
                let mut byte = [0];
                let ended = tokio::select! {
                    // Its holder has let go, or died, or speaks where silence was agreed.
                    read = wire.read(&mut byte) => wire.is_fin(&read),
                    () = ours => false,
                };
                // Who renews it has the new one before it lets go; who follows another lets go of one that leads no more.
                if ended && self.leads() && !self.0.lifelines.holds(from) {
                    self.0.forget(from);
                }
            }
            Ok(Err(error)) => tracing::debug!(%from, %error, "a lifeline broke before it was held"),
            Err(_) => tracing::debug!(%from, "a lifeline was not taken in time"),
        }
        kept.reset();
    }

    fn leads(&self) -> bool {
        let metrics = self.0.raft.get().map(|raft| raft.server_metrics());
        metrics.is_some_and(|metrics| metrics.borrow_watched().state == ServerState::Leader)
    }

    async fn greeted(&self, wire: &mut Wire, speaker: &Speaker) -> Result<Incarnation, Unheld> {
        let length = usize::from(wire.read_u16().await?);
        if length > GREETING_MAX {
            return Err(Unheld::Io(io::Error::other("it is too long")));
        }
        let mut greeting = vec![0; length];
        wire.read_exact(&mut greeting).await?;
        self.admit(speaker, &greeting)
    }
}

async fn say_held(wire: &mut Wire) -> io::Result<()> {
    fault!(wait "lifeline.admitted", error(e) => return Err(e));
    wire.write_all(&[HELD]).await?;
    wire.flush().await
}

/// A second descriptor of a connection (close-on-exec). Dropped, it stays open until the process ends:
/// whatever becomes of the task, or of the whole runtime, the other end reads nothing before that.
struct Kept(ManuallyDrop<OwnedFd>);

impl Kept {
    /// The connection is closed by a reset, once no other descriptor of it is open.
    fn reset(self) {
        let fd = ManuallyDrop::into_inner(self.0);
        // With no time to linger, close(2) sends a reset and never a FIN (socket(7), tcp(7)).
        match rustix::net::sockopt::set_socket_linger(&fd, Some(Duration::ZERO)) {
            Ok(()) => drop(fd),
            // Better one descriptor less than an end that was none.
            Err(_) => std::mem::forget(fd),
        }
    }
}

/// The lifelines that this member holds for others, by incarnation, the oldest first.
#[derive(Default)]
pub(super) struct Registry(Mutex<BTreeMap<Incarnation, VecDeque<oneshot::Sender<()>>>>);

impl Registry {
    /// One more of `from`; resolves when it is to be given up.
    fn add(&self, from: Incarnation) -> impl Future<Output = ()> + Send + use<> {
        let (give_up, given_up) = oneshot::channel();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, lines| {
            lines.retain(|line| !line.is_closed());
            !lines.is_empty()
        });
        let lines = all.entry(from).or_default();
        lines.push_back(give_up);
        if lines.len() > HELD_MAX
            && let Some(oldest) = lines.pop_front()
        {
            let _ = oldest.send(());
        }
        async move {
            if given_up.await.is_err() {
                pending().await
            }
        }
    }

    /// Whether one of `of` is held.
    fn holds(&self, of: Incarnation) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&of).is_some_and(|lines| lines.iter().any(|line| !line.is_closed()))
    }

    /// How many are held.
    pub(super) fn count(&self) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().flatten().filter(|line| !line.is_closed()).count()
    }
}

/// Whom this member follows.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Followed {
    term: Term,
    leader: Incarnation,
    node: Node,
}

/// The one lifeline of a follower.
struct Line {
    term: Term,
    renew: Time,
    /// When it is let go, although no other could be opened.
    ends: Time,
    end: Held,
}

/// Holds a lifeline to whoever leads, until the process ends.
pub(super) async fn keep(shared: Arc<Shared>) {
    let Some(raft) = shared.raft.get().cloned() else { return };
    let mut changes = raft.server_metrics();
    let mut line: Option<Line> = None;
    let mut not_before = (Term(0), clock::now());
    loop {
        let followed = shared.followed();
        // One that grows too old without another is let go, and that says nothing of the leader. Attempts to renew it
        // turn this loop until then.
        if followed.is_none() || line.as_ref().is_some_and(|line| clock::now() >= line.ends) {
            line = None;
        }
        let held = line.as_ref().map(|line| (line.term, line.renew));
        let due = followed.as_ref().map(|f| due(f.term, held, not_before));
        shared.held.store(line.is_some(), Ordering::Relaxed);
        tokio::select! {
            biased;
            end = ended(&mut line) => {
                not_before = lost(&shared, &mut line, end).await;
                continue;
            }
            changed = changes.changed() => if changed.is_err() { return } else { continue },
            () = runtime::sleep(due.unwrap_or_default().since(clock::now())), if due.is_some() => {}
        }
        let Some(followed) = followed else { continue };
        // What is begun is not given up for a change: its other end would read that this process has ended. The new one
        // is open before the old one closes; until then the old one is listened to.
        tokio::select! {
            biased;
            end = ended(&mut line) => not_before = lost(&shared, &mut line, end).await,
            opened = open(&shared, &followed) => {
                not_before = (followed.term, clock::now() + AGAIN);
                if let Some(end) = opened {
                    let (now, renewal) = (clock::now(), shared.links.renewal);
                    let (renew, ends) = (now + renewal.lifeline, now + renewal.ends);
                    line = Some(Line { term: followed.term, renew, ends, end });
                }
            }
        }
    }
}

/// When a lifeline to the leader of `term` is asked for, by the one that is held and when that is to be renewed, and by
/// the term of the last attempt, or of the last line that ended, and until when that term waits. A new leader is held at once.
fn due(term: Term, held: Option<(Term, Time)>, not_before: (Term, Time)) -> Time {
    let of_term = |it: &(Term, Time)| it.0 == term;
    let wait = Some(not_before).filter(of_term).map_or(Time::default(), |(_, until)| until);
    held.filter(of_term).map_or(wait, |(_, renew)| renew.max(wait))
}

/// The line has ended: what that says of the leader, and when the next may be asked for.
async fn lost(shared: &Arc<Shared>, line: &mut Option<Line>, end: End) -> (Term, Time) {
    let term = line.take().map_or(Term(0), |l| l.term);
    let not_before = (term, clock::now() + AGAIN);
    if end == End::Fin || mutant::on(Mutant::ResetIsFin) {
        shared.leader_ended(term).await;
    } else {
        tracing::debug!(%term, "the lifeline to the leader broke");
    }
    not_before
}

async fn ended(line: &mut Option<Line>) -> End {
    match line {
        Some(line) => (&mut line.end).await,
        None => pending().await,
    }
}

async fn open(shared: &Shared, followed: &Followed) -> Option<Held> {
    let Followed { term, leader, node } = followed;
    fault!(wait "lifeline.open");
    let greeting = proto::LifelineGreeting { envelope: Some(shared.envelope(*leader)), term: term.0 };
    let opening = shared.links.lifeline(&node.name, &node.peer, greeting.encode_to_vec());
    match runtime::timeout(DEADLINE, opening).await {
        Ok(Ok(held)) => return Some(held),
        Ok(Err(error)) => tracing::debug!(leader = %node.name, %error, "no lifeline to the leader"),
        Err(_) => tracing::debug!(leader = %node.name, "no lifeline to the leader in time"),
    }
    None
}

impl Shared {
    fn followed(&self) -> Option<Followed> {
        let metrics = self.raft.get()?.server_metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader.filter(|l| *l != self.me.0 && metrics.vote.committed)?;
        let (_, node) = metrics.membership_config.nodes().find(|(id, _)| **id == leader)?;
        let term = Term(metrics.vote.leader_id.term);
        if self.promise().distrusts(term) {
            return None;
        }
        Some(Followed { term, leader: Incarnation(leader), node: node.clone() })
    }

    /// The lifeline of `term` read a FIN. Where this member follows that leader and is in no quarantine,
    /// its lease for it is off, and the judgement is told.
    async fn leader_ended(&self, term: Term) {
        let Some(raft) = self.raft.get() else { return };
        let Some(leader) = self.followed().filter(|f| f.term == term).map(|f| f.leader) else { return };
        let now = clock::now();
        if now < self.quarantine_until() || !self.promise().see_end(term, now) {
            return;
        }
        fault!(wait "lifeline.ended");
        tracing::warn!(%term, %leader, "the leader's process has ended");
        self.forget(leader);
        // `to` the dead leader: openraft only takes the lease off this vote, for good (openraft
        // raft_core.rs, HandleTransferLeader). Never `to` this member, which would campaign without asking.
        let vote = Vote::new_committed(term.0, leader.0);
        let request = TransferLeaderRequest::new(vote, leader.0, None);
        if let Err(error) = raft.handle_transfer_leader(request).await {
            return tracing::warn!(%error, "the leader's end was not taken in");
        }
        let _ = self.events.send(Event::Ended { term }).await;
    }

    /// What the process of `whom` said of itself holds no more: nothing is handed over to it.
    fn forget(&self, whom: Incarnation) {
        if let Some(node) = self.nodes().get(&whom) {
            self.reports.forget(&node.name);
        }
    }

    /// A leader that was thought to have ended is heard: this member was wrong. It goes through the
    /// quarantine, as after a start: no vote, no pre-vote, no campaign for a lease and its margin.
    pub(super) fn was_wrong(self: &Arc<Self>, term: Term) {
        let Some(raft) = self.raft.get() else { return };
        tracing::warn!(%term, "the leader lives: its lifeline ended without it");
        raft.runtime_config().elect(false);
        let until = clock::now() + self.quarantine;
        self.quarantine_until.store(until.as_nanos(), Ordering::Relaxed);
        runtime::spawn(super::end_quarantine(Arc::clone(self), until));
    }

    /// Asks for votes after `after`, and again while they are refused, as long as this member knows no
    /// more than that the leader of `term` has ended.
    pub(super) async fn campaign(&self, term: Term, after: Duration) {
        runtime::sleep(after).await;
        let Some(raft) = self.raft.get() else { return };
        let until = clock::now() + ASK_FOR;
        loop {
            // Through openraft's own queue: a vote that is being saved is seen when it is saved.
            let vote = raft.with_raft_state(|state| *state.vote_ref()).await;
            let still = vote.is_ok_and(|v| v.committed && v.leader_id.term == term.0);
            let now = clock::now();
            let barred = now < self.quarantine_until() || self.removed_at().is_some();
            if !still || now >= until || barred || self.promise().end(now) != term {
                return;
            }
            fault!(wait "lifeline.campaign");
            if raft.trigger().elect(true).await.is_err() {
                return;
            }
            runtime::sleep(ASK_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_waits_after_what_failed_in_it_and_a_new_leader_is_held_at_once() {
        let [now, again, renew] = [100, 300, 45_000].map(Time::from_millis);
        let of = |term| (Term(term), again);
        assert_eq!(due(Term(7), None, of(7)), again, "it failed, or broke");
        assert!(due(Term(8), None, of(7)) <= now, "the leader of term 7 has ended");
        assert_eq!(due(Term(7), Some((Term(7), renew)), of(7)), renew);
        assert_eq!(due(Term(7), Some((Term(7), now)), of(7)), again, "its renewal failed");
        assert!(due(Term(8), Some((Term(7), renew)), of(7)) <= now, "what is held is the old one's");
    }
}
