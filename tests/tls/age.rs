//! Connections end at an age, so that whose certificate is accepted no more goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use vipd::proto::admin_client::AdminClient;
use vipd::proto::peer_client::PeerClient;
use vipd::proto::{HelloRequest, StatusRequest};
use vipd::raft::{Dial as _, Lazy};
use vipd::rpc::caller::Age;
use vipd::rpc::listen::{routes, serve_operators_until, serve_peers_until};
use vipd::tls::{Credentials, Files, Transport, Whom};

use crate::member::{self, desk, name};
use crate::pki::{Kind, Pki};

const BOUND: Duration = Duration::from_secs(20);

/// In place of an hour.
const AGE: Age = Age { max: Duration::from_millis(500), grace: Duration::from_millis(500) };

struct Ports {
    pki: Pki,
    mine: Arc<Credentials>,
    peer: SocketAddr,
    operators: SocketAddr,
    _member: member::Member,
    _kept: Box<dyn std::any::Any>,
}

async fn ports() -> Ports {
    let pki = Pki::new();
    pki.revoke(&[], 30);
    let files = Files { crl: Some(pki.path("crl.pem")), ..pki.issue("member/az-a") };
    let mine = Arc::new(Credentials::of_member(files, &name("edge"), &name("az-a")).unwrap());
    let transport = Transport::Mutual(Arc::clone(&mine));
    let member = member::new(None).await;
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (peers, persons) = (bind().await, bind().await);
    let (peer, operators) = (peers.local_addr().unwrap(), persons.local_addr().unwrap());
    serve_peers_until(peers, &transport, member.starting.service(), member.starting.lifelines(), AGE);
    let (desk, kept) = desk();
    serve_operators_until(persons, &transport, routes(desk).await.unwrap(), AGE);
    Ports { pki, mine, peer, operators, _member: member, _kept: Box::new(kept) }
}

/// A channel that connects again by itself, and how often it did.
pub fn channel(mine: impl Into<Arc<Credentials>>, address: SocketAddr) -> (Channel, Arc<AtomicUsize>) {
    let (mine, count) = (mine.into(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let connect = tower::service_fn(move |_| {
        let (mine, count) = (Arc::clone(&mine), Arc::clone(&counted));
        async move {
            let wire = mine.connect(Whom::AnyMember, &address.to_string()).await?;
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, vipd::tls::ConnectError>(TokioIo::new(wire))
        }
    });
    (Endpoint::from_static("http://vipd").connect_with_connector_lazy(connect), count)
}

/// An error with what lies under it.
fn in_full(status: &Status) -> String {
    let mut words = status.to_string();
    let mut next = std::error::Error::source(status);
    while let Some(error) = next {
        words = format!("{words}: {error}");
        next = error.source();
    }
    words
}

/// Whether a call met the end of its connection and was not sent: this client opens the next one only then.
/// Members open theirs before (`raft/links/tests.rs`).
pub fn came_too_late(status: &Status) -> bool {
    status.code() == Code::Cancelled && in_full(status).contains("connection closed")
}

/// Calls until so many connections were used, or one fails.
async fn calls<F>(count: &AtomicUsize, connections: usize, mut call: impl FnMut() -> F) -> Result<(), Status>
where
    F: Future<Output = Result<(), Status>>,
{
    let begun = Instant::now();
    while count.load(Ordering::SeqCst) < connections {
        assert!(begun.elapsed() < BOUND, "{} connections", count.load(Ordering::SeqCst));
        match call().await {
            Err(status) if !came_too_late(&status) => return Err(status),
            Ok(()) | Err(_) => {}
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn greet(channel: &Channel, who: &str) -> Result<(), Status> {
    let hello = HelloRequest { cluster: "edge".into(), member: who.into(), incarnation: 5 };
    PeerClient::new(channel.clone()).hello(hello).await.map(drop)
}

/// The desk belongs to no group, and says so: it was reached.
async fn ask(channel: &Channel) -> Result<(), Status> {
    match AdminClient::new(channel.clone()).get_status(StatusRequest::default()).await {
        Err(status) if status.code() == Code::Aborted => Ok(()),
        other => other.map(drop),
    }
}

#[tokio::test]
async fn both_ports_let_no_connection_grow_old_and_calls_go_on() {
    let ports = ports().await;
    let b = Credentials::of_member(ports.pki.issue("member/az-b"), &name("edge"), &name("az-b")).unwrap();
    let alice = Credentials::of_person(ports.pki.issue("operator/alice")).unwrap();
    let (peer, connected) = channel(b, ports.peer);
    calls(&connected, 4, || greet(&peer, "az-b")).await.expect("no call fails");
    let (operators, connected) = channel(alice, ports.operators);
    calls(&connected, 4, || ask(&operators)).await.expect("no call fails");
}

/// What it says by then: the other end refuses the certificate.
async fn is_let_in_no_more<F>(mut call: impl FnMut() -> F, why: &str)
where
    F: Future<Output = Result<(), Status>>,
{
    let begun = Instant::now();
    let status = loop {
        assert!(begun.elapsed() < BOUND, "it is let in as before");
        if let Err(status) = call().await
            && !came_too_late(&status)
        {
            break status;
        }
        tokio::task::yield_now().await;
    };
    let words = in_full(&status);
    assert!(words.contains(why), "{words}");
}

#[tokio::test]
async fn fault_64_who_is_taken_back_or_over_goes_when_the_connection_ends() {
    let ports = ports().await;
    let kind = |serial, ends_in_s| Kind { serial: Some(serial), ends_in_s, ..Kind::default() };
    let member = |who: &str, kind: &Kind| {
        let files = ports.pki.issue_as(who, &format!("member/{who}"), kind);
        Credentials::of_member(files, &name("edge"), &name(who)).unwrap()
    };
    let (b, _) = channel(member("az-b", &kind(11, None)), ports.peer);
    let (c, _) = channel(member("az-c", &kind(12, None)), ports.peer);
    let files = ports.pki.issue_as("alice", "operator/alice", &kind(13, None));
    let (alice, _) = channel(Credentials::of_person(files).unwrap(), ports.operators);
    for (who, channel) in [("az-b", &b), ("az-c", &c)] {
        greet(channel, who).await.expect("is let in");
    }
    ask(&alice).await.expect("is let in");
    // Made and shown at once: it ends soon, and not before it was let in.
    let (over, _) = channel(member("az-b", &kind(14, Some(5))), ports.peer);
    greet(&over, "az-b").await.expect("is let in");

    ports.pki.revoke(&[12, 13], 30);
    ports.mine.reload().unwrap();
    is_let_in_no_more(|| greet(&c, "az-c"), "it is revoked").await;
    is_let_in_no_more(|| ask(&alice), "it is revoked").await;
    is_let_in_no_more(|| greet(&over, "az-b"), "it is over").await;
    is_let_in(&b, "az-b").await;
}

#[tokio::test]
async fn fault_64_whom_this_member_has_called_goes_although_it_closes_nothing() {
    let pki = Pki::new();
    pki.revoke(&[], 30);
    let files = pki.issue_as("az-a", "member/az-a", &Kind { serial: Some(21), ..Kind::default() });
    let theirs = Credentials::of_member(files, &name("edge"), &name("az-a")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let member = member::new(None).await;
    // It lets connections grow older than this test.
    member.serve(listener, &Transport::Mutual(Arc::new(theirs)));

    let files = Files { crl: Some(pki.path("crl.pem")), ..pki.issue("member/az-b") };
    let mine = Arc::new(Credentials::of_member(files, &name("edge"), &name("az-b")).unwrap());
    let closed_at = AGE.max + AGE.grace;
    let carrier =
        Lazy::closing(Transport::Mutual(Arc::clone(&mine)), closed_at).dial("az-a", &address).unwrap();
    let greet = || {
        let mut client = PeerClient::new(carrier.clone());
        async move {
            let hello = HelloRequest { cluster: "edge".into(), member: "az-b".into(), incarnation: 5 };
            client.hello(hello).await.map(drop)
        }
    };
    let begun = Instant::now();
    greet().await.expect("is called");
    pki.revoke(&[21], 30);
    mine.reload().unwrap();
    loop {
        assert!(begun.elapsed() < BOUND, "it is called as before");
        let Err(status) = greet().await else { continue };
        let (words, took) = (in_full(&status), begun.elapsed());
        assert!(took >= closed_at, "it had its time: {took:?}: {words}");
        if words.contains("it is revoked") {
            break;
        }
        // A call that is under way then is lost with the connection, and the next may meet its end.
        assert!(words.contains("timed out") || words.contains("connection closed"), "{words}");
    }
}

async fn is_let_in(channel: &Channel, who: &str) {
    let begun = Instant::now();
    while let Err(status) = greet(channel, who).await {
        assert!(came_too_late(&status) && begun.elapsed() < BOUND, "{}", in_full(&status));
    }
}

/// The beginning of HTTP/2, and settings that set nothing (RFC 9113, sections 3.4 and 6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A PING, which has to be answered (RFC 9113, section 6.7).
const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// What is sent here and not read fills it soon.
fn little_room() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket
}

/// Says something that has to be answered for as long as it is taken, and reads no answer: until the other end, whose
/// answers are taken no more, closes. How long that took.
async fn reads_nothing(mut wire: impl AsyncWrite + Unpin) -> Duration {
    let (begun, pings) = (Instant::now(), PING.repeat(1_000));
    let mut waited = Duration::ZERO;
    let closed = async {
        loop {
            let asked = Instant::now();
            let said = async {
                wire.write_all(&pings).await?;
                wire.flush().await
            };
            let gone = said.await.is_err();
            waited = waited.max(asked.elapsed());
            if gone {
                return;
            }
        }
    };
    tokio::time::timeout(BOUND, closed).await.expect("it is closed");
    assert!(waited > AGE.max / 5, "the other end could write all the time: {waited:?}");
    begun.elapsed()
}

#[tokio::test]
async fn who_takes_no_answer_holds_no_connection_open() {
    let member = member::new(None).await;
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (peers, persons) = (bind().await, bind().await);
    let ports = [peers.local_addr().unwrap(), persons.local_addr().unwrap()];
    let transport = Transport::Insecure;
    serve_peers_until(peers, &transport, member.starting.service(), member.starting.lifelines(), AGE);
    let (desk, _kept) = desk();
    serve_operators_until(persons, &transport, routes(desk).await.unwrap(), AGE);
    for port in ports {
        let mut wire = little_room().connect(port).await.unwrap();
        wire.write_all(&[PREFACE, &SETTINGS].concat()).await.unwrap();
        let took = reads_nothing(wire).await;
        assert!(took >= AGE.max, "it had its time: {took:?}");
    }
}

#[tokio::test]
async fn who_is_called_and_takes_nothing_is_let_go() {
    let socket = little_room();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let carrier = Lazy::closing(Transport::Insecure, AGE.max).dial("az-a", &address).unwrap();
    let call = tokio::spawn(async move {
        let hello = HelloRequest { cluster: "edge".into(), member: "az-b".into(), incarnation: 5 };
        PeerClient::new(carrier).hello(hello).await.map(drop)
    });
    let (mut wire, _) = listener.accept().await.unwrap();
    wire.write_all(&SETTINGS).await.unwrap();
    let took = reads_nothing(wire).await;
    assert!(took >= AGE.max / 2, "it had its time: {took:?}");
    call.await.unwrap().expect_err("it was never answered");
}

#[tokio::test]
async fn a_call_that_does_not_end_holds_no_connection_open() {
    let ports = ports().await;
    let b = Credentials::of_member(ports.pki.issue("member/az-b"), &name("edge"), &name("az-b")).unwrap();
    let mut wire = b.connect(Whom::AnyMember, &ports.peer.to_string()).await.unwrap();
    // HTTP/2's preface, empty settings, and a request whose body does not come (RFC 9113).
    let path = b"/vipd.v1.Peer/Hello";
    let mut head = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    head.extend_from_slice(path);
    head.extend([0x01, 4]);
    head.extend_from_slice(b"vipd");
    let mut words = PREFACE.to_vec();
    words.extend(SETTINGS);
    words.extend([0, 0, u8::try_from(head.len()).unwrap(), 1, 4, 0, 0, 0, 1]);
    words.extend(head);
    wire.write_all(&words).await.unwrap();
    let (begun, mut said) = (Instant::now(), Vec::new());
    let ended = async {
        let mut bytes = [0; 1024];
        while let Ok(n @ 1..) = wire.read(&mut bytes).await {
            said.extend_from_slice(&bytes[..n]);
        }
    };
    tokio::time::timeout(BOUND, ended).await.expect("it ends");
    let took = begun.elapsed();
    assert!(took >= AGE.max, "it had its time: {took:?}");
    // By no other deadline: a request has 5 s to be whole, and is answered where they are over.
    let on_streams = frames(&said).into_iter().filter(|(_, stream)| *stream != 0).collect::<Vec<_>>();
    assert_eq!(on_streams, [], "the call was answered after {took:?}");
}

/// Kind and stream of each frame of HTTP/2 (RFC 9113, section 4.1), the whole ones.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u32)> {
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        all.push((head[3], u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]])));
        bytes = rest.get(length..).unwrap_or_default();
    }
    all
}
