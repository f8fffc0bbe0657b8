//! Every method of every service, tried with every kind of certificate, on every port.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use vipd::metrics::Metrics;
use vipd::rpc::listen;
use vipd::rpc::roles::{Denied, TABLE, check};
use vipd::tls::{Credentials, Role, Speaker, Transport};

use crate::member::{self, desk, name};
use crate::pki::{Kind, Pki, expired};
use crate::raw::{self, Shown};

const BOUND: Duration = Duration::from_secs(10);

/// The path of every method that is described, ours and the two services of gRPC's own.
pub fn methods() -> Vec<String> {
    let sets = [
        vipd::proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let mut all = Vec::new();
    for file in sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file) {
        for service in &file.service {
            let within = format!("/{}.{}", file.package(), service.name());
            all.extend(service.method.iter().map(|method| format!("{within}/{}", method.name())));
        }
    }
    all.sort();
    all
}

#[test]
fn the_table_has_every_method_and_no_other() {
    let mut listed: Vec<String> = TABLE.iter().map(|(method, _)| (*method).to_owned()).collect();
    listed.sort();
    assert_eq!(listed, methods());
    assert!(TABLE.iter().all(|(_, roles)| !roles.is_empty()));
    // The ports share no role, and neither does a method.
    for (method, roles) in TABLE {
        assert_eq!(method.starts_with("/vipd.v1.Peer/"), roles.contains(&Role::Member), "{method}");
        assert!(!roles.contains(&Role::Member) || roles.len() == 1, "{method}");
    }
}

#[test]
fn whatever_is_not_allowed_is_denied() {
    let speaker = |text: &str| Speaker::Proven(text.parse().unwrap());
    let (alice, eve, b) = (
        speaker("spiffe://edge/operator/alice"),
        speaker("spiffe://edge/viewer/eve"),
        speaker("spiffe://edge/member/az-b"),
    );
    let local = |role| Speaker::Local { role, uid: 1000 };
    for (method, roles) in TABLE {
        let may = |speaker: &Speaker| check(Some(speaker), method).is_ok();
        assert_eq!(may(&alice), roles.contains(&Role::Operator), "{method}");
        assert_eq!(may(&eve), roles.contains(&Role::Viewer), "{method}");
        assert_eq!(may(&b), roles.contains(&Role::Member), "{method}");
        assert_eq!(may(&local(Role::Operator)), roles.contains(&Role::Operator), "{method}");
        assert_eq!(may(&local(Role::Viewer)), roles.contains(&Role::Viewer), "{method}");
        assert!(may(&Speaker::Unproven), "{method}");
        assert_eq!(check(None, method), Err(Denied::Unknown), "{method}");
    }
    for path in ["", "/", "/vipd.v1.Admin/", "/vipd.v1.Admin/getstatus", "/vipd.v1.Admin/GetStatus/", "*"] {
        for speaker in [&alice, &b, &Speaker::Unproven] {
            assert_eq!(check(Some(speaker), path), Err(Denied::NoSuchMethod(path.to_owned())));
        }
    }
}

/// What became of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Came {
    /// No connection: refused by its certificate.
    NoHandshake,
    Denied,
    /// To the service, whatever that said.
    Through,
}

impl Came {
    fn shown(self) -> &'static str {
        match self {
            Came::NoHandshake => "-",
            Came::Denied => "denied",
            Came::Through => "yes",
        }
    }
}

pub async fn channel(address: SocketAddr, shown: Option<Shown>) -> Result<Channel, tonic::transport::Error> {
    let config = raw::config(shown, &rustls::version::TLS13);
    let connect = tower::service_fn(move |_| {
        let config = Arc::clone(&config);
        async move {
            let tcp = TcpStream::connect(address).await?;
            let server = ServerName::try_from("vipd").unwrap();
            tokio_rustls::TlsConnector::from(config).connect(server, tcp).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://vipd").connect_with_connector(connect).await
}

/// Calls a method with an empty message: what the service makes of that does not matter here.
async fn call(address: SocketAddr, shown: Option<Shown>, path: &str) -> Came {
    let Ok(channel) = channel(address, shown).await else { return Came::NoHandshake };
    ask(channel, path).await
}

/// The same on the unix socket, as that user.
async fn call_local(socket: &Path, user: LocalUser, path: &str) -> Came {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            let stream = match user {
                LocalUser::Root => std::os::unix::net::UnixStream::connect(&socket)?,
                LocalUser::Nobody => by_nobody(socket),
            };
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream).map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://vipd");
    ask(endpoint.connect_with_connector(connect).await.unwrap(), path).await
}

#[derive(Clone, Copy)]
enum LocalUser {
    Root,
    Nobody,
}

/// The kernel keeps of a connection whose thread's it was that opened it (unix(7)).
fn by_nobody(socket: PathBuf) -> std::os::unix::net::UnixStream {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let opened = std::thread::spawn(move || {
        let (uid, gid) = (rustix::fs::Uid::from_raw(65534), rustix::fs::Gid::from_raw(65534));
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        std::os::unix::net::UnixStream::connect(socket).unwrap()
    });
    opened.join().unwrap()
}

async fn ask(channel: Channel, path: &str) -> Came {
    let mut grpc = tonic::client::Grpc::new(channel);
    if grpc.ready().await.is_err() {
        return Came::NoHandshake;
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    match grpc.server_streaming(Request::new(()), path.parse().unwrap(), codec).await {
        Ok(_) => Came::Through,
        Err(status) if std::error::Error::source(&status).is_some() => Came::NoHandshake,
        Err(status) if is_the_guards(&status) => Came::Denied,
        Err(_) => Came::Through,
    }
}

/// The guard names cause and next step; the peer service does not.
fn is_the_guards(status: &Status) -> bool {
    let failure = vipd::proto::Failure::decode(status.details()).unwrap_or_default();
    let code = matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented);
    code && failure.kind == "refused" && !failure.next.is_empty()
}

/// As a monitor would ask: HTTP/1 is all that port speaks. Through is any answer but that there is no such thing.
async fn post(address: SocketAddr, path: &str) -> Came {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: vipd\r\ncontent-type: application/grpc\r\ncontent-length: 5\r\n\
         connection: close\r\n\r\n\0\0\0\0\0"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    if answer.starts_with("HTTP/1.1 404 ") { Came::Denied } else { Came::Through }
}

/// Where each listener of az-a is, and its unix socket.
pub struct Listeners {
    pub peer: SocketAddr,
    pub operators: SocketAddr,
    pub socket: PathBuf,
    pub metrics: SocketAddr,
    _dir: tempfile::TempDir,
    _kept: Box<dyn Any>,
}

/// An address that nothing listens on.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub async fn listeners(pki: &Pki) -> Listeners {
    let credentials =
        Arc::new(Credentials::of_member(pki.issue("member/az-a"), &name("edge"), &name("az-a")).unwrap());
    let transport = Transport::Mutual(credentials);
    let member = member::new(None).await;
    let peers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = peers.local_addr().unwrap();
    member.serve(peers, &transport);
    let dir = tempfile::tempdir().unwrap();
    let (operators, metrics, socket) = (free(), free(), dir.path().join("admin.sock"));
    let more = format!(
        "[admin]\nlisten = \"{operators}\"\nsocket = \"{}\"\n[metrics]\nlisten = \"{metrics}\"\n",
        socket.display()
    );
    let config = member::config(dir.path(), &more);
    let (desk, kept) = desk();
    listen::operators(&config, &transport, desk).await.unwrap();
    let (stands, standing) = tokio::sync::watch::channel(Default::default());
    listen::monitors(&config, Metrics::new().unwrap(), standing).await.unwrap();
    Listeners { peer, operators, socket, metrics, _dir: dir, _kept: Box::new((kept, stands, member)) }
}

/// The ports of az-a, and who issues certificates for them.
pub struct Scene {
    pub pki: Pki,
    pub az_a: Listeners,
}

impl Scene {
    pub async fn new() -> Self {
        let pki = Pki::new();
        let az_a = listeners(&pki).await;
        Self { pki, az_a }
    }
}

/// One row a method, one column an identity, in the order of the heads.
type Table = BTreeMap<String, Vec<Came>>;

fn print(port: &str, heads: &[&str], table: &Table) {
    println!("\n{port:<60} | {}", heads.join(" | "));
    for (path, row) in table {
        let row = row.iter().zip(heads).map(|(came, head)| format!("{:<w$}", came.shown(), w = head.len()));
        println!("{path:<60} | {}", row.collect::<Vec<_>>().join(" | "));
    }
}

/// Each method, as each of them, on a port with TLS.
async fn tried(port: SocketAddr, identities: &[(&str, Option<Shown>)]) -> Table {
    let mut table = Table::new();
    for path in methods() {
        for (_, shown) in identities {
            let shown = shown.as_ref().map(|(chain, key)| (chain.clone(), key.clone_key()));
            let came = timeout(BOUND, call(port, shown, &path)).await.expect("an answer in time");
            table.entry(path.clone()).or_default().push(came);
        }
    }
    table
}

#[tokio::test]
async fn fault_64_every_method_on_every_port_with_every_identity() {
    let (pki, other) = (Pki::new(), Pki::named("another"));
    let az_a = listeners(&pki).await;
    let raw = |who: &str| Some(pki.raw(&pki.issue(who)));
    let not_ours = |who: &str| Some(other.raw(&other.issue(who)));
    let over = |file: &str, who: &str| Some(pki.raw(&pki.issue_as(file, who, &expired())));
    let elsewhere = |file: &str, role: &str| {
        let kind = Kind { uris: vec![format!("spiffe://core/{role}")], ..Kind::default() };
        Some(pki.raw(&pki.issue_as(file, role, &kind)))
    };
    let identities: [(&str, Option<Shown>); 12] = [
        ("none", None),
        ("operator, other CA", not_ours("operator/alice")),
        ("viewer, other CA", not_ours("viewer/eve")),
        ("member, other CA", not_ours("member/az-b")),
        ("operator, expired", over("old", "operator/alice")),
        ("viewer, expired", over("old-v", "viewer/eve")),
        ("member, expired", over("old-b", "member/az-b")),
        ("operator, other cluster", elsewhere("core", "operator/alice")),
        ("member, other cluster", elsewhere("core-b", "member/az-b")),
        ("viewer", raw("viewer/eve")),
        ("operator", raw("operator/alice")),
        ("member", raw("member/az-b")),
    ];
    let heads: Vec<&str> = identities.iter().map(|(head, _)| *head).collect();
    use Came::{Denied as No, NoHandshake as Out, Through as Yes};

    let table = tried(az_a.peer, &identities).await;
    print("the members' port", &heads, &table);
    for (path, row) in &table {
        assert_eq!(row[..11], [Out; 11], "{path} on the members' port");
        let ours = if path.starts_with("/vipd.v1.Peer/") { Yes } else { No };
        assert_eq!(row[11], ours, "{path} on the members' port, by a member");
    }

    let table = tried(az_a.operators, &identities).await;
    print("the operators' port", &heads, &table);
    for (path, row) in &table {
        assert_eq!(row[..9], [Out; 9], "{path} on the operators' port");
        assert_eq!(row[9..], [of(Role::Viewer, path), of(Role::Operator, path), Out], "{path}");
    }

    // The kernel says who speaks: root is an operator, and whom somebody lets in otherwise a viewer. More: local.rs.
    assert!(rustix::process::geteuid().is_root(), "this test changes users: run it as root");
    for (path, mode) in [(az_a.socket.parent().unwrap(), 0o755), (&az_a.socket, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let (mut local, mut monitor) = (Table::new(), Table::new());
    for path in methods() {
        for (user, role) in [(LocalUser::Root, Role::Operator), (LocalUser::Nobody, Role::Viewer)] {
            let call = call_local(&az_a.socket, user, &path);
            let came = timeout(BOUND, call).await.expect("an answer in time");
            assert_eq!(came, of(role, &path), "{path} on the socket, as {}", role.label());
            local.entry(path.clone()).or_default().push(came);
        }
        let came = timeout(BOUND, post(az_a.metrics, &path)).await.expect("an answer in time");
        assert_eq!(came, No, "{path} on the monitors' port");
        monitor.insert(path, vec![came]);
    }
    print("the unix socket", &["root", "nobody"], &local);
    print("the monitors' port", &["anybody"], &monitor);

    // A method that nobody has described, on either port.
    for (port, who) in [(az_a.peer, "member/az-b"), (az_a.operators, "operator/alice")] {
        assert_eq!(call(port, raw(who), "/vipd.v1.Admin/Anything").await, No);
    }
}

/// What operators and viewers may, written down a second time: not read from the table that is tested.
fn of(role: Role, path: &str) -> Came {
    let (operators, both) = match path {
        p if p.starts_with("/vipd.v1.Peer/") => (false, false),
        "/vipd.v1.Admin/TransferLeader"
        | "/vipd.v1.Admin/Order"
        | "/vipd.v1.Admin/ChangeMembers"
        | "/vipd.v1.Admin/Diagnose" => (true, false),
        _ => (true, true),
    };
    let may = if role == Role::Operator { operators } else { both };
    if may { Came::Through } else { Came::Denied }
}
