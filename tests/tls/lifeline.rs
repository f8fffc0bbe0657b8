//! Lifelines over TLS: what ends one, and what does not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use vipd::config::Config;
use vipd::decide::{Event, Gate};
use vipd::proto::peer_client::PeerClient;
use vipd::proto::{Envelope, HelloRequest, LifelineGreeting};
use vipd::raft::lifeline::{End, Held, PREFACE, grasp};
use vipd::raft::store::Store;
use vipd::raft::{Group, Lazy, Lifelines, Renewal, Starting};
use vipd::rpc::caller::Age;
use vipd::rpc::listen::serve_peers_until;
use vipd::tls::{Credentials, Port, Transport, Whom, Wire};

use crate::handshake::{member, member_a, name};
use crate::pair::first_leads;
use crate::pki::Pki;

const BOUND: Duration = Duration::from_secs(20);

/// How the leader's side ends it.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// TLS says goodbye, then TCP closes: what any program does that closes its connection.
    NoticeThenFin,
    /// The end of the process: nobody is left to say anything.
    Fin,
    Reset,
    Word,
}

async fn say_notice(wire: &mut Wire) {
    let Wire::Tls(tls) = wire else { panic!("it is TLS") };
    let tokio_rustls::TlsStream::Server(tls) = tls.as_mut() else { panic!("it is the server's end") };
    let (tcp, session) = tls.get_mut();
    session.send_close_notify();
    let mut notice = Vec::new();
    session.write_tls(&mut notice).unwrap();
    tcp.write_all(&notice).await.unwrap();
}

async fn ended_by(ending: Ending) -> End {
    let pki = Pki::new();
    let (a, b) = (member(&pki.issue("member/az-a"), "az-a"), member(&pki.issue("member/az-b"), "az-b"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (held_tx, held) = tokio::sync::oneshot::channel::<()>();
    let leader = async {
        let (mut wire, _) = a.accept(Port::Peer, listener.accept().await.unwrap().0).await.unwrap();
        let mut words = vec![0; PREFACE.len() + 2 + 8];
        wire.read_exact(&mut words).await.unwrap();
        assert!(words.starts_with(&PREFACE) && words.ends_with(b"greeting"), "{words:?}");
        wire.write_all(&[6]).await.unwrap();
        wire.flush().await.unwrap();
        held.await.unwrap();
        match ending {
            Ending::NoticeThenFin => say_notice(&mut wire).await,
            Ending::Fin => {}
            Ending::Reset => {
                rustix::net::sockopt::set_socket_linger(wire.tcp(), Some(Duration::ZERO)).unwrap();
            }
            Ending::Word => {
                wire.write_all(b"!").await.unwrap();
                wire.flush().await.unwrap();
            }
        }
    };
    let follower = async {
        let wire = Transport::Mutual(b).connect(member_a(), &address, BOUND).await.unwrap();
        let line = grasp(wire, b"greeting".to_vec()).await.unwrap();
        held_tx.send(()).unwrap();
        line.await
    };
    tokio::time::timeout(BOUND, async { tokio::join!(leader, follower) }).await.unwrap().1
}

#[tokio::test]
async fn over_tls_only_a_bare_fin_is_an_end() {
    for ending in [Ending::NoticeThenFin, Ending::Reset, Ending::Word] {
        assert_eq!(ended_by(ending).await, End::Broken, "{ending:?}");
    }
    assert_eq!(ended_by(Ending::Fin).await, End::Fin);
}

fn config(dir: &std::path::Path, me: &str, peers: &[SocketAddr]) -> Config {
    let listed: String = ["az-a", "az-b", "az-c", "az-d"]
        .iter()
        .zip(peers)
        .map(|(name, peer)| format!("[[members]]\nname = \"{name}\"\npeer = \"{peer}\"\n"))
        .collect();
    let text = format!(
        "cluster = \"edge\"\nmember = \"{me}\"\ndata_dir = \"{}\"\n[peer]\nlisten = \"127.0.0.1:7400\"\n\
         {listed}[vip]\naddresses = [\"192.168.77.10/32\"]\n[aws]\nroute_tables = [\"rtb-0a\"]\n\
         [raft]\nheartbeat_ms = 100\nelection_ms = [1000, 1500]\n[tls]\ninsecure = true\n",
        dir.join(me).display()
    );
    Config::parse(text.as_bytes(), "test", None).unwrap()
}

pub struct Running {
    pub group: Group,
    events: mpsc::Receiver<Event>,
    pub mine: Arc<Credentials>,
    pub lifelines: Lifelines,
}

/// In place of an hour: the leader's side ends what carries calls at this age.
const AGE: Age = Age { max: Duration::from_millis(600), grace: Duration::from_millis(600) };

/// The members' own lifelines are as old as they usually get: longer than this test.
const RENEWAL: Renewal = Renewal { calls: Duration::from_millis(300), ..Renewal::USUAL };

pub async fn run(
    pki: &Pki,
    dir: &std::path::Path,
    me: &str,
    listener: TcpListener,
    peers: &[SocketAddr],
) -> Running {
    let files = pki.issue(&format!("member/{me}"));
    let mine = Arc::new(Credentials::of_member(files, &name("edge"), &name(me)).unwrap());
    let transport = Transport::Mutual(Arc::clone(&mine));
    let config = config(dir, me, peers);
    let on_fatal = Arc::new(|cause: &str| panic!("{cause}"));
    let store = Store::open(&config.data_dir, &config.cluster, &config.member, on_fatal).unwrap();
    let gate = Arc::new(Gate::new(config.timing.margin()));
    let (tx, events) = mpsc::channel(65_536);
    let dial = Arc::new(Lazy::new(transport.clone()));
    let starting = Starting::renewing(&config, store, dial, gate, tx, RENEWAL).unwrap();
    serve_peers_until(listener, &transport, starting.service(), starting.lifelines(), AGE);
    let lifelines = starting.lifelines();
    Running { group: starting.start().await.unwrap(), events, mine, lifelines }
}

/// Leader, follower, and where the leader listens.
async fn pair(pki: &Pki, dir: &std::path::Path) -> (Running, Running, SocketAddr) {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (a, b) = (bind().await, bind().await);
    let peers = [a.local_addr().unwrap(), b.local_addr().unwrap()];
    let (a, b) = tokio::join!(run(pki, dir, "az-a", a, &peers), run(pki, dir, "az-b", b, &peers));
    if first_leads(&a.group, &b.group, BOUND).await { (a, b, peers[0]) } else { (b, a, peers[1]) }
}

/// A lifeline of the follower's, held by this test, and the group's id.
async fn second_lifeline(leader: &Running, follower: &Running, address: SocketAddr, group: Vec<u8>) -> Held {
    let wire = follower.mine.connect(Whom::AnyMember, &address.to_string()).await.unwrap();
    let envelope = Envelope {
        cluster: "edge".into(),
        group,
        from: follower.group.incarnation().0,
        to: leader.group.incarnation().0,
    };
    let greeting = LifelineGreeting { envelope: Some(envelope), term: leader.group.view().term.0 };
    grasp(wire, greeting.encode_to_vec()).await.expect("it is held")
}

#[tokio::test]
async fn a_lifeline_outlives_the_age_that_ends_the_connections_beside_it() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    let (leader, mut follower, address) = pair(&pki, dir.path()).await;
    let term = leader.group.view().term;
    let (channel, count) = crate::age::channel(Arc::clone(&follower.mine), address);
    let hello = || {
        let who = follower.mine.identity().name.to_string();
        let mut client = PeerClient::new(channel.clone());
        async move {
            let hello = HelloRequest { cluster: "edge".into(), member: who, incarnation: 5 };
            // None: it met the end of its connection. This client opens the next one only then.
            match client.hello(hello).await {
                Err(status) if crate::age::came_too_late(&status) => None,
                answer => Some(answer.expect("an answer").into_inner().group),
            }
        }
    };
    let group = hello().await.expect("an answer");
    let mut line = second_lifeline(&leader, &follower, address, group).await;
    let others_end = async {
        while count.load(Ordering::SeqCst) < 5 {
            hello().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        end = &mut line => panic!("it ended: {end:?}"),
        done = tokio::time::timeout(BOUND, others_end) => done.expect("four others have ended"),
    }
    // The member's own as well, all that time, and the heartbeats went from one connection to the next.
    assert_eq!((leader.group.lifelines(), follower.group.lifelines()), (2, 1));
    assert_eq!((leader.group.view().term, follower.group.view().term), (term, term));
    let ended = std::iter::from_fn(|| follower.events.try_recv().ok());
    assert!(!ended.into_iter().any(|event| matches!(event, Event::Ended { .. })));
}

#[tokio::test]
async fn fault_65_nobody_holds_a_lifeline_in_anothers_name() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    let (leader, follower, address) = pair(&pki, dir.path()).await;
    let (me, it) = (leader.group.incarnation().0, follower.group.incarnation().0);
    let hello = |who: &str| HelloRequest { cluster: "edge".into(), member: who.into(), incarnation: 5 };
    let name_of = |running: &Running| running.mine.identity().name.to_string();
    let (channel, _) = crate::age::channel(Arc::clone(&follower.mine), address);
    let answer = PeerClient::new(channel).hello(hello(&name_of(&follower))).await.unwrap();
    let group = answer.into_inner().group;
    let greets = async |who: &str, from: u64| {
        let files = pki.issue(&format!("member/{who}"));
        let credentials = Credentials::of_member(files, &name("edge"), &name(who)).unwrap();
        let wire = credentials.connect(Whom::AnyMember, &address.to_string()).await.unwrap();
        let envelope = Envelope { cluster: "edge".into(), group: group.clone(), from, to: me };
        let greeting = LifelineGreeting { envelope: Some(envelope), term: leader.group.view().term.0 };
        tokio::time::timeout(BOUND, grasp(wire, greeting.encode_to_vec())).await.expect("an answer")
    };
    let held = leader.group.lifelines();
    let forged = [
        // A member of the CA's that is in no list: as the follower, and as itself.
        ("az-z".to_owned(), it),
        ("az-z".to_owned(), 1234),
        // The leader's own key, as the follower; the follower's, as the leader.
        (name_of(&leader), it),
        (name_of(&follower), me),
    ];
    for (who, from) in forged {
        assert!(greets(&who, from).await.is_err(), "{who} holds a lifeline as {from:016x}");
        assert_eq!(leader.group.lifelines(), held, "{who} as {from:016x}");
    }
    // The same words by whose they are.
    let _line = greets(&name_of(&follower), it).await.expect("it is held");
    assert_eq!(leader.group.lifelines(), held + 1);
}
