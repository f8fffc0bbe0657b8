//! Every method of every service, tried with every kind of certificate, on the real ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use vipd::rpc::listen::{routes, serve_operators};
use vipd::rpc::roles::{Denied, TABLE, check};
use vipd::tls::{Credentials, Role, Speaker, Transport};

use crate::member::{self, desk, name};
use crate::pki::{Pki, expired};
use crate::raw::{self, Shown};

const BOUND: Duration = Duration::from_secs(10);

/// As much of descriptor.proto as names methods.
#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(message, repeated, tag = "1")]
    file: Vec<File>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    service: Vec<Service>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<Method>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
}

/// The path of every method that is described, ours and the two services of gRPC's own.
fn methods() -> Vec<String> {
    let sets = [
        vipd::proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let mut all = Vec::new();
    for file in sets.into_iter().flat_map(|set| Files::decode(set).unwrap().file) {
        for service in &file.service {
            let path = |m: &Method| format!("/{}.{}/{}", file.package, service.name, m.name);
            all.extend(service.method.iter().map(path));
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

async fn channel(address: SocketAddr, shown: Option<Shown>) -> Result<Channel, tonic::transport::Error> {
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

#[tokio::test]
async fn fault_64_every_method_with_every_identity() {
    let (pki, other) = (Pki::new(), Pki::named("another"));
    let credentials =
        Arc::new(Credentials::of_member(pki.issue("member/az-a"), &name("edge"), &name("az-a")).unwrap());
    let transport = Transport::Mutual(credentials);
    let member = member::new(None).await;
    let (peers, operators) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (peer_port, operators_port) = (peers.local_addr().unwrap(), operators.local_addr().unwrap());
    member.serve(peers, &transport);
    let (desk, _kept) = desk();
    serve_operators(operators, &transport, routes(desk).await.unwrap());

    let raw = |who: &str| Some(pki.raw(&pki.issue(who)));
    let identities: [(&str, Option<Shown>); 8] = [
        ("none", None),
        ("wrong CA", Some(other.raw(&other.issue("operator/alice")))),
        ("wrong CA, member", Some(other.raw(&other.issue("member/az-b")))),
        ("expired operator", Some(pki.raw(&pki.issue_as("old", "operator/alice", &expired())))),
        ("expired member", Some(pki.raw(&pki.issue_as("old-b", "member/az-b", &expired())))),
        ("viewer", raw("viewer/eve")),
        ("operator", raw("operator/alice")),
        ("member", raw("member/az-b")),
    ];
    let mut table: BTreeMap<String, Vec<Came>> = BTreeMap::new();
    for path in methods() {
        let port = if path.starts_with("/vipd.v1.Peer/") { peer_port } else { operators_port };
        for (_, shown) in &identities {
            let shown = shown.as_ref().map(|(chain, key)| (chain.clone(), key.clone_key()));
            let came =
                tokio::time::timeout(BOUND, call(port, shown, &path)).await.expect("an answer in time");
            table.entry(path.clone()).or_default().push(came);
        }
    }
    let heads: Vec<&str> = identities.iter().map(|(head, _)| *head).collect();
    println!("{:<60} | {}", "method", heads.join(" | "));
    for (path, row) in &table {
        let row = row.iter().zip(&heads).map(|(came, head)| format!("{:<w$}", came.shown(), w = head.len()));
        println!("{path:<60} | {}", row.collect::<Vec<_>>().join(" | "));
    }
    use Came::{Denied as No, NoHandshake as Out, Through as Yes};
    for (path, row) in &table {
        let expected = match path.as_str() {
            p if p.starts_with("/vipd.v1.Peer/") => [Out, Out, Out, Out, Out, Out, Out, Yes],
            "/vipd.v1.Admin/TransferLeader"
            | "/vipd.v1.Admin/Order"
            | "/vipd.v1.Admin/ChangeMembers"
            | "/vipd.v1.Admin/Diagnose" => [Out, Out, Out, Out, Out, No, Yes, Out],
            _ => [Out, Out, Out, Out, Out, Yes, Yes, Out],
        };
        assert_eq!(row[..], expected, "{path}");
    }
    // A method that nobody has described, on either port.
    for (port, who) in [(peer_port, "member/az-b"), (operators_port, "operator/alice")] {
        assert_eq!(call(port, raw(who), "/vipd.v1.Admin/Anything").await, No);
    }
}
