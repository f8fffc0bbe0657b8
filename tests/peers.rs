//! The peer port of one real member: who may speak to whom, and when it lends its vote
//! (FENCING.md, holes 1, 2, 6, 7 and 9).

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "peers/lifeline.rs"]
mod lifeline;
#[path = "common/pair.rs"]
mod pair;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::Code;
use tonic::transport::Channel;

use vipd::clock;
use vipd::config::Config;
use vipd::decide::{Gate, Permit};
use vipd::model::{Epoch, GroupId, Incarnation, Term, Time};
use vipd::proto::entry::Payload;
use vipd::proto::peer_client::PeerClient;
use vipd::proto::{
    AppendRequest, Entry, Envelope, HelloRequest, JoinRequest, LogId, Membership, RaftNode, RaftVote,
    SnapshotRequest, TransferRequest, VoteRequest, Voters,
};
use vipd::raft::codec::TERMS_AHEAD_MAX;
use vipd::raft::store::{Stable as _, Store};
use vipd::raft::{Group, Lazy, Starting};
use vipd::rpc::admit::UNKNOWN_MAX;
use vipd::rpc::listen::serve_peers;
use vipd::tls::Transport;

const GROUP: GroupId = GroupId(7);
const LEASE: Duration = Duration::from_millis(1500);

struct Member {
    client: PeerClient<Channel>,
    address: std::net::SocketAddr,
    me: Incarnation,
    gate: Arc<Gate>,
    started: Time,
    group: Group,
    _dir: tempfile::TempDir,
}

fn config(dir: &std::path::Path) -> Config {
    let text = format!(
        r#"
cluster = "edge"
member = "az-a"
data_dir = "{}"
[peer]
listen = "127.0.0.1:7400"
[[members]]
name = "az-a"
peer = "127.0.0.1:7400"
[[members]]
name = "az-b"
peer = "127.0.0.1:1"
[vip]
addresses = ["192.168.77.10/32"]
[aws]
route_tables = ["rtb-0a"]
[raft]
heartbeat_ms = 200
election_ms = [1000, {}]
[tls]
insecure = true
"#,
        dir.display(),
        LEASE.as_millis()
    );
    Config::parse(text.as_bytes(), "test", None).expect("a configuration")
}

fn open(config: &Config) -> Store {
    let on_fatal = Arc::new(|cause: &str| panic!("{cause}"));
    Store::open(&config.data_dir, &config.cluster, &config.member, on_fatal).expect("a store")
}

/// A member of [`GROUP`] that is started for the second time.
async fn restarted() -> Member {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(&dir.path().join("data"));
    let store = open(&config);
    store.set_group(GROUP).await.expect("the group is kept");
    drop(store);
    let store = open(&config);
    assert!(!store.is_fresh());
    let me = store.incarnation();
    let gate = Arc::new(Gate::new(config.timing.margin()));
    // In place of the driver: what it is told leads to nothing.
    let (events, mut told) = mpsc::channel(16);
    tokio::spawn(async move { while told.recv().await.is_some() {} });
    let started = clock::now();
    let starting =
        Starting::new(&config, store, Arc::new(Lazy::new(Transport::Insecure)), Arc::clone(&gate), events)
            .expect("a machine");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    serve_peers(listener, &Transport::Insecure, starting.service(), starting.lifelines());
    let group = starting.start().await.expect("Raft starts");
    tokio::spawn(group.watch());
    let client = PeerClient::connect(format!("http://{address}")).await.expect("a connection");
    Member { client, address, me, gate, started, group, _dir: dir }
}

impl Member {
    fn envelope(&self) -> Envelope {
        Envelope { cluster: "edge".into(), group: GROUP.to_bytes(), from: 99, to: self.me.0 }
    }

    fn vote(&self, envelope: Envelope) -> VoteRequest {
        VoteRequest {
            envelope: Some(envelope),
            vote: Some(RaftVote { term: 5, voted_for: 99, committed: false }),
            last_log_id: Some(LogId { term: 1, index: 1 }),
            leadership_transfer: false,
            ended_term: 0,
        }
    }

    fn quarantine(&self) -> Duration {
        LEASE + LEASE / 20
    }

    /// Until the quarantine is over, at most ten seconds.
    async fn wait_for_quarantine(&mut self) {
        for _ in 0..1000 {
            let request = self.vote(self.envelope());
            match self.client.pre_vote(request).await {
                Err(status) if status.message().contains("quarantine") => {}
                Err(status) => panic!("{status}"),
                Ok(_) => return,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the quarantine does not end");
    }
}

/// Waits for at most ten seconds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within ten seconds");
}

#[tokio::test]
async fn hole_2_a_restarted_member_lends_no_vote_for_a_lease_and_its_margin() {
    let mut m = restarted().await;
    let refused = m.client.vote(m.vote(m.envelope())).await.expect_err("a vote");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("quarantine"), "{refused}");
    let transfer = TransferRequest {
        envelope: Some(m.envelope()),
        from_leader: Some(RaftVote { term: 1, voted_for: 99, committed: true }),
        to: m.me.0,
        last_log_id: None,
    };
    let refused = m.client.transfer(transfer).await.expect_err("a transfer");
    assert!(refused.message().contains("quarantine"), "{refused}");
    m.wait_for_quarantine().await;
    let served_after = clock::now().since(m.started);
    assert!(served_after >= m.quarantine(), "a vote was lent after {served_after:?}");
    assert!(m.client.vote(m.vote(m.envelope())).await.expect("an answer").into_inner().granted);
}

#[tokio::test]
async fn a_leader_with_an_open_permit_votes_for_nobody_and_a_vote_shuts_its_gate() {
    let mut m = restarted().await;
    m.wait_for_quarantine().await;
    let far = clock::now() + Duration::from_secs(60);
    m.gate.set(Some(Permit::for_tests(Term(4), Epoch(9), far)));
    for _ in 0..2 {
        let refused = m.client.vote(m.vote(m.envelope())).await.expect_err("a vote");
        assert!(refused.message().contains("its lease is valid"), "{refused}");
        let refused = m.client.pre_vote(m.vote(m.envelope())).await.expect_err("a pre-vote");
        assert!(refused.message().contains("its lease is valid"), "{refused}");
    }
    let transfer = VoteRequest { leadership_transfer: true, ..m.vote(m.envelope()) };
    assert!(m.client.vote(transfer).await.is_err(), "before a transfer the gate is closed");
    m.gate.set(None);
    assert!(m.client.vote(m.vote(m.envelope())).await.expect("an answer").into_inner().granted);
    // An acknowledgement of term 4 that comes late opens nothing any more.
    let late = Permit::for_tests(Term(4), Epoch(9), far);
    m.gate.set(Some(late));
    assert_eq!(m.gate.check(&late, clock::now()), Err(vipd::decide::Fenced::Closed));
}

#[tokio::test]
async fn hole_9_who_speaks_to_another_cluster_group_or_directory_is_refused() {
    let mut m = restarted().await;
    m.wait_for_quarantine().await;
    let right = m.envelope();
    let wrong = [
        (Envelope { cluster: "other".into(), ..right.clone() }, "cluster"),
        (Envelope { group: GroupId(8).to_bytes(), ..right.clone() }, "group"),
        (Envelope { group: Vec::new(), ..right.clone() }, "group"),
        (Envelope { to: m.me.0 ^ 1, ..right.clone() }, "data directory"),
    ];
    for (envelope, word) in wrong {
        let refused = m.client.vote(m.vote(envelope.clone())).await.expect_err(word);
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains(word), "{word}: {refused}");
        let append = AppendRequest {
            envelope: Some(envelope),
            vote: Some(RaftVote { term: 9, voted_for: 99, committed: true }),
            ..Default::default()
        };
        assert_eq!(m.client.append(append).await.expect_err(word).code(), Code::FailedPrecondition);
    }
    let none = VoteRequest { envelope: None, ..m.vote(right) };
    assert_eq!(m.client.vote(none).await.expect_err("no envelope").code(), Code::FailedPrecondition);
    let hello = HelloRequest { cluster: "other".into(), member: "az-b".into(), incarnation: 1 };
    assert_eq!(m.client.hello(hello).await.expect_err("a stranger").code(), Code::FailedPrecondition);
}

/// A vote says who asks; so does its envelope.
#[tokio::test]
async fn hole_9_nobody_speaks_in_anothers_name() {
    let mut m = restarted().await;
    m.wait_for_quarantine().await;
    let other = Envelope { from: 98, ..m.envelope() };
    let leads = Some(RaftVote { term: 5, voted_for: 99, committed: true });
    let append = AppendRequest { envelope: Some(other.clone()), vote: leads, ..Default::default() };
    let snapshot = SnapshotRequest { envelope: Some(other.clone()), vote: leads, ..Default::default() };
    let transfer = TransferRequest {
        envelope: Some(other.clone()),
        from_leader: leads,
        to: m.me.0,
        last_log_id: Some(LogId { term: 1, index: 1 }),
    };
    let refusals = [
        m.client.vote(m.vote(other.clone())).await.err(),
        m.client.pre_vote(m.vote(other)).await.err(),
        m.client.append(append).await.err(),
        m.client.snapshot(snapshot).await.err(),
        m.client.transfer(transfer).await.err(),
    ];
    for refused in refusals {
        let refused = refused.expect("refused");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("speaks in the name of"), "{refused}");
    }
    assert!(m.client.vote(m.vote(m.envelope())).await.expect("an answer").into_inner().granted);
}

/// FENCING.md, section 2: a transfer breaks the promises to earlier leaders too, an ordinary vote does not, and what
/// was promised before comes back by no late append.
#[tokio::test]
async fn hole_7_a_transfer_breaks_an_earlier_promise_and_an_ordinary_vote_does_not() {
    let mut m = restarted().await;
    m.wait_for_quarantine().await;
    let append = AppendRequest {
        envelope: Some(m.envelope()),
        vote: Some(RaftVote { term: 4, voted_for: 99, committed: true }),
        ..Default::default()
    };
    let bound = m.client.append(append.clone()).await.expect("an answer").into_inner();
    assert_eq!(bound.granted_ms, u64::try_from(LEASE.as_millis()).expect("small"));
    let mut asked = m.vote(Envelope { from: 98, ..m.envelope() });
    asked.vote = Some(RaftVote { term: 6, voted_for: 98, committed: false });
    let answer = m.client.vote(asked.clone()).await.expect("an answer").into_inner();
    assert!(!answer.granted, "it is bound to the leader of term 4");
    // 98 was handed the leadership by that of term 5, of which this member has heard nothing.
    asked.leadership_transfer = true;
    assert!(m.client.vote(asked).await.expect("an answer").into_inner().granted);
    let late = m.client.append(append).await.map(|answer| answer.into_inner().granted_ms);
    assert!(late.as_ref().map_or(true, |granted_ms| *granted_ms == 0), "bound to term 4 again: {late:?}");
}

/// The leader 99 of term 4 says who the members are, as the log's entry `index`, and that it is committed.
fn members_are(m: &Member, index: u64, ids: &[u64]) -> AppendRequest {
    let node = |id: &u64| {
        let (name, peer) = (format!("az-{id}"), format!("127.0.0.1:{}", 1 + id % 7));
        (*id, RaftNode { name, peer, ..Default::default() })
    };
    let membership =
        Membership { configs: vec![Voters { ids: ids.to_vec() }], nodes: ids.iter().map(node).collect() };
    let at = |index| LogId { term: 4, index };
    AppendRequest {
        envelope: Some(m.envelope()),
        vote: Some(RaftVote { term: 4, voted_for: 99, committed: true }),
        prev_log_id: index.checked_sub(1).map(at),
        entries: vec![Entry { log_id: Some(at(index)), payload: Some(Payload::Membership(membership)) }],
        leader_commit: Some(at(index)),
    }
}

#[tokio::test]
async fn hole_9_a_removed_member_lends_no_vote_and_takes_no_transfer() {
    let mut m = restarted().await;
    m.wait_for_quarantine().await;
    m.client.append(members_are(&m, 0, &[98, 99, m.me.0])).await.expect("it is taken in");
    until("it knows that it is in", || m.group.view().membership == 1).await;
    m.client.append(members_are(&m, 1, &[98, 99])).await.expect("and removed");
    until("it knows that it is out", || m.group.view().removed == Some(1)).await;
    // A transfer sets free from the promise to the leader: what refuses it is the removal alone.
    let mut asked = m.vote(m.envelope());
    asked.last_log_id = Some(LogId { term: 4, index: 1 });
    asked.leadership_transfer = true;
    let mut refusals = vec![m.client.pre_vote(asked.clone()).await.expect_err("a pre-vote")];
    refusals.push(m.client.vote(asked).await.expect_err("a vote"));
    let transfer = TransferRequest {
        envelope: Some(m.envelope()),
        from_leader: Some(RaftVote { term: 4, voted_for: 99, committed: true }),
        to: m.me.0,
        last_log_id: Some(LogId { term: 4, index: 1 }),
    };
    refusals.push(m.client.transfer(transfer).await.expect_err("a transfer"));
    for refused in refusals {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("the group has removed this member"), "{refused}");
    }
    // Taken in again, it votes again.
    m.client.append(members_are(&m, 2, &[98, 99, m.me.0])).await.expect("it is taken in again");
    until("it knows that it is in again", || m.group.view().removed.is_none()).await;
    let mut again = m.vote(m.envelope());
    (again.last_log_id, again.leadership_transfer) = (Some(LogId { term: 4, index: 2 }), true);
    assert!(m.client.vote(again).await.expect("an answer").into_inner().granted);
}

/// With openraft's own leader ids the second would be granted: they allow several leaders in one term.
#[tokio::test]
async fn hole_1_a_term_has_one_vote_whoever_asks() {
    let mut m = restarted().await;
    m.wait_for_quarantine().await;
    assert!(m.client.vote(m.vote(m.envelope())).await.expect("an answer").into_inner().granted);
    for other in [98, 100, u64::MAX] {
        let mut request = m.vote(Envelope { from: other, ..m.envelope() });
        request.vote = Some(RaftVote { term: 5, voted_for: other, committed: false });
        let answer = m.client.vote(request).await.expect("an answer").into_inner();
        assert!(!answer.granted, "{other} in the term of 99");
        assert_eq!(answer.vote.map(|v| (v.term, v.voted_for)), Some((5, 99)));
    }
}

/// openraft's default answer is yes.
#[tokio::test]
async fn hole_6_a_pre_vote_is_answered_as_a_vote_would_be_and_changes_nothing() {
    let mut m = restarted().await;
    m.wait_for_quarantine().await;
    let asked = m.vote(m.envelope());
    let answer = m.client.pre_vote(asked.clone()).await.expect("an answer").into_inner();
    assert!(answer.granted);
    assert_eq!(answer.vote.map(|v| v.term), Some(0), "a pre-vote is no vote");
    // Whoever follows a leader says no, as long as its promise lasts.
    let append = AppendRequest {
        envelope: Some(m.envelope()),
        vote: Some(RaftVote { term: 4, voted_for: 99, committed: true }),
        ..Default::default()
    };
    let sent = clock::now();
    let accepted = m.client.append(append).await.expect("an answer").into_inner();
    assert_eq!(accepted.granted_ms, u64::try_from(LEASE.as_millis()).expect("small"));
    let mut rival = m.vote(Envelope { from: 98, ..m.envelope() });
    rival.vote = Some(RaftVote { term: 5, voted_for: 98, committed: false });
    let answer = m.client.pre_vote(rival.clone()).await.expect("an answer").into_inner();
    assert!(!answer.granted, "a promise stands");
    for _ in 0..1000 {
        if m.client.pre_vote(rival.clone()).await.expect("an answer").into_inner().granted {
            let after = clock::now().since(sent);
            return assert!(after >= LEASE, "granted after {after:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the promise does not end");
}

#[tokio::test]
async fn one_that_does_not_lead_takes_nobody_in() {
    let mut m = restarted().await;
    let request = JoinRequest {
        cluster: "edge".into(),
        group: GROUP.to_bytes(),
        member: "az-b".into(),
        incarnation: 5,
    };
    let answer = m.client.join(request).await.expect("an answer").into_inner();
    assert!(!answer.taken_in);
    assert!(answer.reason.contains("not the leader"), "{}", answer.reason);
}

#[tokio::test]
async fn fault_65_a_term_beyond_reach_is_not_adopted() {
    let mut m = restarted().await;
    m.wait_for_quarantine().await;
    let envelope = Some(m.envelope());
    for term in [u64::MAX, u64::MAX - 1, (1 << 48) + 1] {
        let of = |committed| Some(RaftVote { term, voted_for: 99, committed });
        let beyond = LogId { term, index: 1 };
        let refused = |status: tonic::Status| assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let vote = VoteRequest { vote: of(false), ..m.vote(m.envelope()) };
        refused(m.client.vote(vote.clone()).await.expect_err("a vote"));
        refused(m.client.pre_vote(vote).await.expect_err("a vote"));
        let log = VoteRequest { last_log_id: Some(beyond), ..m.vote(m.envelope()) };
        refused(m.client.vote(log).await.expect_err("a log"));
        let append = AppendRequest { envelope: envelope.clone(), vote: of(true), ..AppendRequest::default() };
        refused(m.client.append(append.clone()).await.expect_err("a leader"));
        let fair = Some(RaftVote { term: 5, voted_for: 99, committed: true });
        for odd in [
            AppendRequest { prev_log_id: Some(beyond), ..append.clone() },
            AppendRequest { leader_commit: Some(beyond), ..append.clone() },
        ] {
            refused(
                m.client.append(AppendRequest { vote: fair, ..odd }).await.expect_err("a place in the log"),
            );
        }
        let snapshot =
            SnapshotRequest { envelope: envelope.clone(), vote: of(true), ..SnapshotRequest::default() };
        refused(m.client.snapshot(snapshot).await.expect_err("a snapshot"));
        let transfer = TransferRequest {
            envelope: envelope.clone(),
            from_leader: of(true),
            to: m.me.0,
            ..TransferRequest::default()
        };
        refused(m.client.transfer(transfer).await.expect_err("a transfer"));
        // An end of a term that nobody can have led sets nobody free of anything, and is no vote.
        let ended = VoteRequest { ended_term: term, ..m.vote(m.envelope()) };
        m.client.pre_vote(ended).await.expect("an answer");
        let answer = m.client.pre_vote(m.vote(m.envelope())).await.expect("an answer").into_inner();
        assert_eq!((answer.vote.expect("its vote").term, m.group.view().term.0), (0, 0));
    }
}

#[tokio::test]
async fn fault_65_a_member_in_a_group_takes_no_leap_of_terms() {
    let mut m = restarted().await;
    m.wait_for_quarantine().await;
    assert!(m.client.vote(m.vote(m.envelope())).await.expect("an answer").into_inner().granted, "term 5");
    let envelope = m.envelope();
    let append = |term| AppendRequest {
        envelope: Some(envelope.clone()),
        vote: Some(RaftVote { term, voted_for: 99, committed: true }),
        ..AppendRequest::default()
    };
    for term in [6 + TERMS_AHEAD_MAX, 1 << 48] {
        let refused = m.client.append(append(term)).await.expect_err("a leap");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert_eq!(m.group.view().term.0, 5);
    }
    m.client.append(append(5 + TERMS_AHEAD_MAX)).await.expect("an answer");
    assert_eq!(m.group.view().term.0, 5 + TERMS_AHEAD_MAX);
}

/// What comes back on `stream` until it ends, within ten seconds.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes));
    // A connection that is closed with unread bytes is reset: also an end.
    let _ = read.await.expect("it is closed");
    bytes
}

#[tokio::test]
async fn what_is_neither_a_call_nor_a_lifeline_is_closed_without_a_word() {
    let m = restarted().await;
    for words in [&b"GET / HTTP/1.1\r\nHost: az-a\r\n\r\n"[..], &[0; 24], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!"]
    {
        let mut stream = TcpStream::connect(m.address).await.expect("a connection");
        stream.write_all(words).await.expect("they are sent");
        assert_eq!(rest(&mut stream).await, b"");
    }
    // Silent, or silent after a beginning: until the deadline.
    for words in [&b""[..], b"PRI * HTTP/2.0"] {
        let mut stream = TcpStream::connect(m.address).await.expect("a connection");
        stream.write_all(words).await.expect("they are sent");
        assert_eq!(rest(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn fault_66_connections_that_say_nothing_keep_no_member_out() {
    let mut m = restarted().await;
    m.wait_for_quarantine().await;
    let mut silent = Vec::new();
    for _ in 0..UNKNOWN_MAX + 20 {
        silent.push(TcpStream::connect(m.address).await.expect("a connection"));
    }
    let mut late = PeerClient::connect(format!("http://{}", m.address)).await.expect("a connection");
    assert!(late.pre_vote(m.vote(m.envelope())).await.is_ok());
    for stream in silent.iter_mut().take(10) {
        assert_eq!(rest(stream).await, b"", "those that were silent for longest are closed");
    }
}
