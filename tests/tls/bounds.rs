//! What each port bears, at its edge: one more byte, connection or second is too much.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use vipd::proto::{AppendRequest, Entry};

use crate::raw;
use crate::roles::{Scene, channel, methods};

const BOUND: Duration = Duration::from_secs(20);

/// Of docs/SECURITY.md, written down a second time.
const PEER_MESSAGE: usize = 4 << 20;
/// Of those without entries and without a ledger.
const SHORT_MESSAGE: usize = 64 << 10;
const OPERATOR_MESSAGE: usize = 64 << 10;
/// Of gRPC's own services.
const NAMES_MESSAGE: usize = 4 << 10;
const PLACES: usize = 16;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Of the members' port, and of the operators' and their socket.
const FIRST_BYTE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];
const WHOLE: Duration = Duration::from_secs(5);
const HEAD: Duration = Duration::from_secs(10);

impl Scene {
    /// Each port with TLS, and who is let in there.
    fn ports(&self) -> [(SocketAddr, &'static str); 2] {
        [(self.az_a.peer, "member/az-b"), (self.az_a.operators, "operator/alice")]
    }

    async fn shake(&self, port: SocketAddr, who: &str) -> TlsStream<TcpStream> {
        let shown = Some(self.pki.raw(&self.pki.issue(who)));
        let config = raw::config(shown, &rustls::version::TLS13);
        let server = ServerName::try_from("vipd").unwrap();
        let tcp = TcpStream::connect(port).await.unwrap();
        TlsConnector::from(config).connect(server, tcp).await.unwrap()
    }

    async fn to(&self, port: SocketAddr, who: &str) -> Channel {
        let shown = Some(self.pki.raw(&self.pki.issue(who)));
        channel(port, shown).await.unwrap()
    }
}

/// Whether a request with this message is answered anything, or with what it is refused.
async fn ask<M>(channel: &Channel, path: &str, message: M) -> Result<bool, Status>
where
    M: prost::Message + Default + Send + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<M, ()>::default();
    let answer = async {
        let answers = grpc.server_streaming(Request::new(message), path.parse().unwrap(), codec).await?;
        Ok(answers.into_inner().message().await?.is_some())
    };
    timeout(BOUND, answer).await.expect("an answer")
}

/// A field that no message has: it is read over.
#[derive(Clone, PartialEq, prost::Message)]
struct Filler {
    #[prost(string, tag = "99")]
    text: String,
}

impl Filler {
    /// A message of so many bytes.
    fn of(bytes: usize) -> Self {
        let of = |bytes: usize| Self { text: "x".repeat(bytes) };
        let rest = prost::Message::encoded_len(&of(bytes)) - bytes;
        let message = of(bytes - rest);
        assert_eq!(prost::Message::encoded_len(&message), bytes);
        message
    }
}

fn longest(path: &str) -> usize {
    match path {
        "/vipd.v1.Peer/Append" | "/vipd.v1.Peer/Snapshot" => PEER_MESSAGE,
        p if p.starts_with("/vipd.v1.Peer/") => SHORT_MESSAGE,
        p if p.starts_with("/vipd.v1.Admin/") => OPERATOR_MESSAGE,
        _ => NAMES_MESSAGE,
    }
}

#[tokio::test]
async fn fault_66_a_message_is_taken_up_to_its_methods_bound_and_no_further() {
    let scene = Scene::new().await;
    let [(peer, member), (operators, operator)] = scene.ports();
    let (peer, operators) = (scene.to(peer, member).await, scene.to(operators, operator).await);
    for path in methods() {
        let port = if path.starts_with("/vipd.v1.Peer/") { &peer } else { &operators };
        for more in [0, 1] {
            let refused = match ask(port, &path, Filler::of(longest(&path) + more)).await {
                Err(status) => status.code() == Code::OutOfRange,
                // gRPC's own service says nothing of what it could not read, and ends.
                Ok(answered) => !answered,
            };
            assert_eq!(refused, more == 1, "{path}: {more} more than {}", longest(&path));
        }
    }
}

/// Two bytes each on the wire, and seventy in memory.
#[tokio::test]
async fn fault_66_a_message_that_unpacks_is_refused_unread() {
    let scene = Scene::new().await;
    let [(peer, member), _] = scene.ports();
    let peer = scene.to(peer, member).await;
    let append = AppendRequest { entries: vec![Entry::default(); 2_000_000], ..AppendRequest::default() };
    let refused = ask(&peer, "/vipd.v1.Peer/Append", append).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    assert!(refused.message().contains("fields"), "{refused}");
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The settings that an HTTP/2 server begins with (RFC 9113, section 6.5); `None` where it closes the connection.
async fn settings(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<(u16, u32)>> {
    let mut head = [0; 9];
    timeout(BOUND, stream.read_exact(&mut head)).await.expect("an answer").ok()?;
    assert_eq!(head[3], 4, "not settings: {head:?}");
    let mut payload = vec![0; usize::from(head[2])];
    stream.read_exact(&mut payload).await.ok()?;
    let one =
        |of: &[u8]| (u16::from_be_bytes([of[0], of[1]]), u32::from_be_bytes([of[2], of[3], of[4], of[5]]));
    Some(payload.chunks_exact(6).map(one).collect())
}

#[tokio::test]
async fn fault_66_each_port_says_how_many_streams_and_headers_it_takes() {
    let scene = Scene::new().await;
    let mut all = Vec::new();
    for (port, who) in scene.ports() {
        let mut stream = scene.shake(port, who).await;
        stream.write_all(PREFACE).await.unwrap();
        all.push(settings(&mut stream).await.unwrap());
    }
    let mut stream = UnixStream::connect(&scene.az_a.socket).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    all.push(settings(&mut stream).await.unwrap());
    for (settings, streams) in all.iter().zip([64, 16, 16]) {
        // SETTINGS_MAX_CONCURRENT_STREAMS, SETTINGS_MAX_HEADER_LIST_SIZE
        assert!(settings.contains(&(3, streams)) && settings.contains(&(6, 8 * 1024)), "{settings:?}");
    }
}

#[tokio::test]
async fn fault_66_one_address_has_its_places_on_each_port_and_no_more() {
    let scene = Scene::new().await;
    for (port, who) in scene.ports() {
        let mut held = Vec::new();
        for _ in 0..PLACES {
            let mut stream = scene.shake(port, who).await;
            stream.write_all(PREFACE).await.unwrap();
            assert!(settings(&mut stream).await.is_some(), "{} are held of {who}", held.len());
            held.push(stream);
        }
        let mut one_more = scene.shake(port, who).await;
        let _ = one_more.write_all(PREFACE).await;
        assert_eq!(settings(&mut one_more).await, None, "one more of {who}");
        // Its place is free once it is gone.
        held.pop();
        let freed = Instant::now();
        loop {
            let mut again = scene.shake(port, who).await;
            let _ = again.write_all(PREFACE).await;
            if settings(&mut again).await.is_some() {
                break;
            }
            assert!(freed.elapsed() < BOUND, "the place of {who} is not free again");
        }
    }
}

/// How long until the other end closes it.
async fn ends(mut stream: impl AsyncRead + Unpin) -> Duration {
    let begun = Instant::now();
    let mut byte = [0; 64];
    // What it says by the way does not matter.
    while timeout(BOUND, stream.read(&mut byte)).await.expect("it ends").is_ok_and(|n| n > 0) {}
    begun.elapsed()
}

async fn begun(port: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(port).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

#[tokio::test]
async fn fault_66_what_does_not_go_on_ends_in_its_time() {
    let scene = Scene::new().await;
    let (peer, operators) = (scene.az_a.peer, scene.az_a.operators);
    // The beginning of a ClientHello (RFC 8446, section 4.1.2); a head of HTTP/1 without its end.
    let (hello, head) = (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &b"GET /livez HTTP/1.1\r\n"[..]);
    let not_whole = async |port: SocketAddr, who: &str, path: &'static str| {
        let shown = Some(scene.pki.raw(&scene.pki.issue(who)));
        let mut grpc = tonic::client::Grpc::new(channel(port, shown).await.unwrap());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let request = Request::new(futures_util::stream::pending::<()>());
        let begun = Instant::now();
        let answer = timeout(BOUND, grpc.client_streaming(request, path.parse().unwrap(), codec)).await;
        let status = answer.expect("an answer").map(drop).expect_err("never whole");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!(status.message().contains("not whole"), "{status}");
        begun.elapsed()
    };
    let (took, whole) = tokio::join!(
        join_all([
            ends(begun(peer, hello).await),
            ends(begun(operators, hello).await),
            ends(begun(scene.az_a.metrics, head).await),
        ]),
        async {
            tokio::join!(
                ends(scene.shake(peer, "member/az-b").await),
                ends(scene.shake(operators, "operator/alice").await),
                ends(UnixStream::connect(&scene.az_a.socket).await.unwrap()),
                not_whole(peer, "member/az-c", "/vipd.v1.Peer/Append"),
                not_whole(operators, "viewer/eve", "/vipd.v1.Admin/GetStatus"),
            )
        }
    );
    let all = [
        ("a handshake of the members' port", took[0], HANDSHAKE),
        ("a handshake of the operators' port", took[1], HANDSHAKE),
        ("a head of the monitors' port", took[2], HEAD),
        ("a silent member", whole.0, FIRST_BYTE[0]),
        ("a silent operator", whole.1, FIRST_BYTE[1]),
        ("a silent process on the socket", whole.2, FIRST_BYTE[1]),
        ("a request of a member", whole.3, WHOLE),
        ("a request of an operator", whole.4, WHOLE),
    ];
    for (what, took, deadline) in all {
        let slack = Duration::from_millis(200);
        assert!(
            took >= deadline - slack && took < deadline + BOUND / 5,
            "{what}: {took:?}, not {deadline:?}"
        );
    }
}
