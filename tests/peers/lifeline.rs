//! Lifelines over real sockets: a follower whose leader is this test, and a leader whose strangers are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::Code;
use tonic::transport::Channel;

use vipd::config::Config;
use vipd::decide::{Event, Gate};
use vipd::model::{Incarnation, Term};
use vipd::proto::peer_client::PeerClient;
use vipd::proto::{
    AppendRequest, Entry, Envelope, LifelineGreeting, LogId, Membership, RaftNode, RaftVote, VoteRequest,
    Voters, entry,
};
use vipd::raft::lifeline::PREFACE;
use vipd::raft::store::{Stable as _, Store};
use vipd::raft::{Group, Lazy, Renewal, Starting};
use vipd::rpc::listen::serve_peers;
use vipd::tls::Transport;

use super::GROUP;
use super::pair::first_leads;

const BOUND: Duration = Duration::from_secs(10);

/// The one that the test plays.
const LEADER: u64 = 99;

fn config(dir: &std::path::Path, me: &str, peers: [SocketAddr; 2], election: [u64; 2]) -> Config {
    let [a, b] = peers;
    let text = format!(
        r#"
cluster = "edge"
member = "{me}"
data_dir = "{}"
[peer]
listen = "127.0.0.1:7400"
[[members]]
name = "az-a"
peer = "{a}"
[[members]]
name = "az-b"
peer = "{b}"
[vip]
addresses = ["192.168.77.10/32"]
[aws]
route_tables = ["rtb-0a"]
[raft]
heartbeat_ms = 100
election_ms = {election:?}
[tls]
insecure = true
"#,
        dir.display(),
    );
    Config::parse(text.as_bytes(), "test", None).expect("a configuration")
}

struct Member {
    group: Group,
    events: mpsc::Receiver<Event>,
    _dir: tempfile::TempDir,
}

/// A member of [`GROUP`], or one that finds its group by itself.
async fn member(
    me: &str,
    listener: TcpListener,
    peers: [SocketAddr; 2],
    election: [u64; 2],
    knows: bool,
) -> Member {
    member_renewing(me, listener, peers, election, knows, Renewal::USUAL).await
}

async fn member_renewing(
    me: &str,
    listener: TcpListener,
    peers: [SocketAddr; 2],
    election: [u64; 2],
    knows: bool,
    renewal: Renewal,
) -> Member {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(&dir.path().join("data"), me, peers, election);
    let open = || {
        let on_fatal = Arc::new(|cause: &str| panic!("{cause}"));
        Store::open(&config.data_dir, &config.cluster, &config.member, on_fatal).expect("a store")
    };
    let store = open();
    if knows {
        store.set_group(GROUP).await.expect("the group is kept");
    }
    let gate = Arc::new(Gate::new(config.timing.margin()));
    let (sender, events) = mpsc::channel(4096);
    let dial = Arc::new(Lazy::new(Transport::Insecure));
    let starting = Starting::renewing(&config, store, dial, gate, sender, renewal).expect("a machine");
    serve_peers(listener, &Transport::Insecure, starting.service(), starting.lifelines());
    let group = starting.start().await.expect("Raft starts");
    Member { group, events, _dir: dir }
}

/// A follower of the test, bound to it for 5 s with each append.
struct Follower {
    member: Member,
    client: PeerClient<Channel>,
    /// Where its lifeline comes to.
    leader: TcpListener,
}

impl Follower {
    async fn start() -> Self {
        Self::renewing(Renewal::USUAL).await
    }

    async fn renewing(renewal: Renewal) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let leader = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let peers = [address, leader.local_addr().expect("its address")];
        let member = member_renewing("az-a", listener, peers, [4_000, 5_000], true, renewal).await;
        let client = PeerClient::connect(format!("http://{address}")).await.expect("a connection");
        let mut follower = Self { member, client, leader };
        let ids = vec![follower.me(), LEADER];
        let node = |name: &str, peer: SocketAddr| RaftNode {
            name: name.into(),
            peer: peer.to_string(),
            ..Default::default()
        };
        let nodes = [(ids[0], node("az-a", peers[0])), (LEADER, node("az-b", peers[1]))].into();
        let membership = Membership { configs: vec![Voters { ids }], nodes };
        let first = Entry {
            log_id: Some(LogId { term: 1, index: 0 }),
            payload: Some(entry::Payload::Membership(membership)),
        };
        follower.append(vec![first]).await.expect("the first append");
        follower
    }

    fn me(&self) -> u64 {
        self.member.group.incarnation().0
    }

    fn envelope(&self) -> Envelope {
        Envelope { cluster: "edge".into(), group: GROUP.to_bytes(), from: LEADER, to: self.me() }
    }

    async fn append(&mut self, entries: Vec<Entry>) -> Result<(), tonic::Status> {
        let prev_log_id = entries.is_empty().then_some(LogId { term: 1, index: 0 });
        let request = AppendRequest {
            envelope: Some(self.envelope()),
            vote: Some(RaftVote { term: 1, voted_for: LEADER, committed: true }),
            prev_log_id,
            entries,
            leader_commit: Some(LogId { term: 1, index: 0 }),
        };
        let answer = self.client.append(request).await?.into_inner();
        assert_eq!(answer.granted_ms, 5_000, "{answer:?}");
        Ok(())
    }

    /// Whether it would vote for a candidate that has seen the end of `ended_term`.
    async fn would_vote(&mut self, ended_term: u64) -> bool {
        let request = VoteRequest {
            envelope: Some(Envelope { from: 98, ..self.envelope() }),
            vote: Some(RaftVote { term: 2, voted_for: 98, committed: false }),
            last_log_id: Some(LogId { term: 1, index: 0 }),
            leadership_transfer: false,
            ended_term,
        };
        self.client.pre_vote(request).await.expect("an answer").into_inner().granted
    }

    /// The next lifeline, held.
    async fn lifeline(&mut self) -> TcpStream {
        let mut stream = self.asked().await;
        stream.write_all(&[6]).await.expect("the byte");
        stream
    }

    /// The next one that it asks for, not yet held.
    async fn asked(&mut self) -> TcpStream {
        let accept = async {
            loop {
                let (mut stream, _) = self.leader.accept().await.expect("a connection");
                let mut preface = [0; 24];
                // Reports and requests for votes come here too.
                if stream.read_exact(&mut preface).await.is_err() || preface != PREFACE {
                    continue;
                }
                let length = usize::from(stream.read_u16().await.expect("a length"));
                let mut greeting = vec![0; length];
                stream.read_exact(&mut greeting).await.expect("a greeting");
                let greeting = LifelineGreeting::decode(&greeting[..]).expect("a greeting");
                let envelope = greeting.envelope.expect("an envelope");
                assert_eq!((envelope.from, envelope.to, greeting.term), (self.me(), LEADER, 1));
                return stream;
            }
        };
        tokio::time::timeout(BOUND, accept).await.expect("a lifeline")
    }

    async fn held(&self) {
        let held = async {
            while self.member.group.lifelines() != 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(BOUND, held).await.expect("it is held");
    }

    /// The end that it has seen, if it has: waits for one.
    async fn sees_an_end(&mut self) -> Term {
        let seen = async {
            loop {
                if let Event::Ended { term } = self.member.events.recv().await.expect("an event") {
                    return term;
                }
            }
        };
        tokio::time::timeout(BOUND, seen).await.expect("an end")
    }

    fn saw_an_end(&mut self) -> bool {
        std::iter::from_fn(|| self.member.events.try_recv().ok()).any(|e| matches!(e, Event::Ended { .. }))
    }
}

#[tokio::test]
async fn a_fin_sets_free_and_a_leader_that_lives_is_heard_again_after_a_quarantine() {
    let mut f = Follower::start().await;
    assert!(!f.would_vote(1).await, "bound for 5 s");
    let stream = f.lifeline().await;
    f.held().await;
    drop(stream);
    assert_eq!(f.sees_an_end().await, Term(1));
    assert!(f.would_vote(1).await, "both have seen it");
    assert!(!f.would_vote(0).await, "one alone sets nobody free");
    let refused = f.append(Vec::new()).await.expect_err("an append of the dead");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("has ended"), "{refused}");
    // It asks for votes, by pre-vote: at the leader's address, since there is no other.
    f.member.group.campaign(Term(1), Duration::ZERO).await;
    assert!(f.member.group.view().campaigned.is_some());
    assert_eq!(f.member.group.view().term, Term(1), "nobody answered: no term was begun");

    let healed = async {
        while f.append(Vec::new()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, healed).await.expect("it hears its leader again");
    assert!(f.member.group.in_quarantine());
    let refused = f.client.pre_vote(VoteRequest { envelope: Some(f.envelope()), ..Default::default() }).await;
    assert!(refused.expect_err("a vote").message().contains("quarantine"));
}

#[tokio::test]
async fn a_reset_and_a_word_say_nothing() {
    let mut f = Follower::start().await;
    for broken in ["a reset", "a word"] {
        let mut stream = f.lifeline().await;
        f.held().await;
        if broken == "a reset" {
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option");
        } else {
            stream.write_all(b"!").await.expect("it is said");
        }
        drop(stream);
    }
    // It has come back for another: the two before are over, and nothing has come of them.
    let _stream = f.lifeline().await;
    f.held().await;
    assert!(!f.saw_an_end());
    assert!(!f.would_vote(1).await);
    f.append(Vec::new()).await.expect("it hears its leader");
}

/// Whether the other end has not closed it.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn a_follower_opens_the_next_lifeline_before_it_lets_go_of_the_last() {
    let renewal = Renewal { lifeline: Duration::from_millis(300), ..Renewal::USUAL };
    let mut f = Follower::renewing(renewal).await;
    let mut old = f.lifeline().await;
    for _ in 0..3 {
        // Asked for and not yet held: the old one is, whatever else is served meanwhile.
        let mut new = f.asked().await;
        f.held().await;
        f.append(Vec::new()).await.expect("it hears its leader");
        assert!(is_open(&old), "the old one is held until the new one is");
        new.write_all(&[6]).await.expect("the byte");
        let read = tokio::time::timeout(BOUND, old.read(&mut [0])).await.expect("it is let go of");
        assert!(!matches!(read, Ok(1..)), "{read:?}");
        assert!(is_open(&new));
        old = new;
    }
    assert!(!f.saw_an_end(), "none of that was an end");
    // While the next one is being opened the old one still tells the leader's end.
    let next = f.asked().await;
    drop(old);
    assert_eq!(f.sees_an_end().await, Term(1));
    drop(next);
}

#[tokio::test]
async fn a_lifeline_that_cannot_be_renewed_is_let_go_at_an_age_and_that_is_no_end() {
    let ends = Duration::from_millis(1500);
    let renewal = Renewal { lifeline: Duration::from_millis(300), ends, ..Renewal::USUAL };
    let mut f = Follower::renewing(renewal).await;
    let mut old = f.lifeline().await;
    f.held().await;
    // From here on nothing that it asks for is held: whoever leads keeps the old one and no more.
    let read = tokio::time::timeout(BOUND, old.read(&mut [0])).await.expect("it is let go of");
    assert!(!matches!(read, Ok(1..)), "{read:?}");
    assert!(!f.saw_an_end(), "that was none");
    f.append(Vec::new()).await.expect("it hears its leader");
    assert!(!f.would_vote(1).await, "and is bound to it");
    // Where the leader lets it in again, it is held again. Those that it has given up are still in the queue.
    let mut streams = Vec::new();
    while f.member.group.lifelines() != 1 {
        let mut next = f.asked().await;
        let _ = next.write_all(&[6]).await;
        streams.push(next);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A member that says in answer to each report that the group has removed who reports, and nothing else.
struct Liar;

macro_rules! nothing_else {
    ($($method:ident: $request:ident -> $response:ident),* $(,)?) => {
        #[tonic::async_trait]
        impl vipd::proto::peer_server::Peer for Liar {
            async fn report(
                &self,
                _: tonic::Request<vipd::proto::ReportRequest>,
            ) -> Result<tonic::Response<vipd::proto::ReportResponse>, tonic::Status> {
                let removed_at = Some(1 << 40);
                Ok(tonic::Response::new(vipd::proto::ReportResponse {
                    removed_at,
                    ..Default::default()
                }))
            }
            $(async fn $method(
                &self,
                _: tonic::Request<vipd::proto::$request>,
            ) -> Result<tonic::Response<vipd::proto::$response>, tonic::Status> {
                Err(tonic::Status::unimplemented("it only lies"))
            })*
        }
    };
}

nothing_else! {
    hello: HelloRequest -> HelloResponse,
    form: FormRequest -> FormResponse,
    join: JoinRequest -> JoinResponse,
    append: AppendRequest -> AppendResponse,
    vote: VoteRequest -> VoteResponse,
    pre_vote: VoteRequest -> VoteResponse,
    snapshot: SnapshotRequest -> SnapshotResponse,
    transfer: TransferRequest -> TransferResponse,
    forward: ForwardRequest -> ForwardResponse,
}

#[tokio::test]
async fn fault_65_nobody_is_put_out_by_anothers_word_while_a_leader_has_it() {
    let Follower { member, mut client, leader } = Follower::start().await;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(leader);
    let liar = vipd::proto::peer_server::PeerServer::new(Liar);
    tokio::spawn(tonic::transport::Server::builder().add_service(liar).serve_with_incoming(incoming));
    let append = AppendRequest {
        envelope: Some(Envelope {
            cluster: "edge".into(),
            group: GROUP.to_bytes(),
            from: LEADER,
            to: member.group.incarnation().0,
        }),
        vote: Some(RaftVote { term: 1, voted_for: LEADER, committed: true }),
        prev_log_id: Some(LogId { term: 1, index: 0 }),
        leader_commit: Some(LogId { term: 1, index: 0 }),
        ..AppendRequest::default()
    };
    // It reports once a second: three lies at least.
    let begun = vipd::clock::now();
    while vipd::clock::now().since(begun) < Duration::from_millis(3_500) {
        client.append(append.clone()).await.expect("it hears its leader");
        assert_eq!(member.group.view().removed, None, "it is not put out while it hears a leader");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // It hears none any more: then it is believed, and the lie was told all the time.
    let put_out = async {
        while member.group.view().removed.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, put_out).await.expect("whom no leader has is out");
}

/// Two real members, and which of them leads.
async fn pair() -> (Member, Member, SocketAddr) {
    let a = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let b = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let peers = [a.local_addr().expect("its address"), b.local_addr().expect("its address")];
    let election = [500, 1_000];
    let (a, b) =
        tokio::join!(member("az-a", a, peers, election, false), member("az-b", b, peers, election, false));
    if first_leads(&a.group, &b.group, BOUND).await { (a, b, peers[0]) } else { (b, a, peers[1]) }
}

/// What the other end does with such a greeting.
async fn greet(address: SocketAddr, greeting: &LifelineGreeting) -> (TcpStream, std::io::Result<u8>) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let greeting = greeting.encode_to_vec();
    let length = u16::try_from(greeting.len()).expect("short").to_be_bytes();
    stream.write_all(&[&PREFACE[..], &length, &greeting].concat()).await.expect("it is said");
    let byte = tokio::time::timeout(BOUND, stream.read_u8()).await.expect("an answer, or an end");
    (stream, byte)
}

#[tokio::test]
async fn a_leader_holds_what_its_followers_greet_by_and_lets_go_by_resets_only() {
    let (leader, follower, address) = pair().await;
    let view = leader.group.view();
    let group = {
        let mut client = PeerClient::connect(format!("http://{address}")).await.expect("a connection");
        let hello = vipd::proto::HelloRequest { cluster: "edge".into(), ..Default::default() };
        client.hello(hello).await.expect("an answer").into_inner().group
    };
    let envelope = Envelope {
        cluster: "edge".into(),
        group,
        from: follower.group.incarnation().0,
        to: leader.group.incarnation().0,
    };
    let right = LifelineGreeting { envelope: Some(envelope.clone()), term: view.term.0 };
    let with = |envelope| LifelineGreeting { envelope: Some(envelope), ..right.clone() };
    let wrong = [
        with(Envelope { cluster: "other".into(), ..envelope.clone() }),
        with(Envelope { group: super::GROUP.to_bytes(), ..envelope.clone() }),
        with(Envelope { to: envelope.to ^ 1, ..envelope.clone() }),
        with(Envelope { from: 5, ..envelope.clone() }),
        with(Envelope { from: envelope.to, ..envelope.clone() }),
        LifelineGreeting { term: view.term.0 + 1, ..right.clone() },
        LifelineGreeting { envelope: None, ..right.clone() },
    ];
    for greeting in wrong {
        let (_, byte) = greet(address, &greeting).await;
        assert!(byte.is_err(), "{greeting:?}");
    }
    assert_eq!(leader.group.lifelines(), 1);

    // Four of one incarnation: its own, and three of these. The next ones push the oldest out.
    let mut held = Vec::new();
    for _ in 0..5 {
        let (stream, byte) = greet(address, &right).await;
        assert_eq!(byte.expect("the byte"), 6);
        held.push(stream);
    }
    assert!(leader.group.lifelines() <= 4);
    for stream in &mut held[..1] {
        let ended = tokio::time::timeout(BOUND, stream.read_u8()).await.expect("it is given up");
        let error = ended.expect_err("no byte");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "a reset, no end: {error}");
    }
    // Whoever lets go, or speaks, is let go of.
    held[4].write_all(b"!").await.expect("it is said");
    let error = tokio::time::timeout(BOUND, held[4].read_u8()).await.expect("it is given up");
    assert_eq!(error.expect_err("no byte").kind(), std::io::ErrorKind::ConnectionReset);
    drop(held);
    let only_its_own = async {
        while leader.group.lifelines() > 1 || follower.group.lifelines() != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, only_its_own).await.expect("the others are gone");
    assert_eq!(leader.group.view().term, view.term, "nothing was elected by all that");
}

#[tokio::test]
async fn the_other_end_stays_open_when_the_task_that_holds_it_is_gone() {
    // The leader's whole runtime ends, its process does not.
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (leader, follower, address) = pair().await;
            let hello = vipd::proto::HelloRequest { cluster: "edge".into(), ..Default::default() };
            let mut client = PeerClient::connect(format!("http://{address}")).await.expect("a connection");
            let group = client.hello(hello).await.expect("an answer").into_inner().group;
            let from = follower.group.incarnation().0;
            let Incarnation(to) = leader.group.incarnation();
            let envelope = Envelope { cluster: "edge".into(), group, from, to };
            let term = leader.group.view().term.0;
            tell.send((address, LifelineGreeting { envelope: Some(envelope), term })).expect("it waits");
            let _ = stopped.await;
        });
    });
    let (address, greeting) =
        tokio::task::spawn_blocking(move || told.recv().expect("a pair")).await.expect("no panic");
    let (mut stream, byte) = greet(address, &greeting).await;
    assert_eq!(byte.expect("the byte"), 6);
    stop.send(()).expect("it runs");
    tokio::task::spawn_blocking(move || running.join().expect("no panic")).await.expect("no panic");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    let read = tokio::time::timeout(Duration::from_millis(300), stream.read_u8()).await;
    assert!(read.is_err(), "it ended before its process: {read:?}");
}
