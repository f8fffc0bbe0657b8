//! The handshake on both ports, with every kind of certificate on either side.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use vipd::model::Name;
use vipd::tls::{ConnectError, Credentials, Files, Port, Refusal, Speaker, Transport, Whom, Wire, refusal};

use crate::pki::{Kind, Pki, expired};

const BOUND: Duration = Duration::from_secs(10);

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn member(files: &Files, who: &str) -> Arc<Credentials> {
    Arc::new(Credentials::of_member(files.clone(), &name("edge"), &name(who)).unwrap())
}

/// What each end made of the other. The client reads: only then does it know whether it was let in.
pub async fn meet(
    server: &Arc<Credentials>,
    port: Port,
    client: Arc<Credentials>,
    whom: Whom,
) -> (Result<Speaker, String>, Result<(), String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut wire, speaker) = server.accept(port, stream).await.map_err(|e| e.to_string())?;
        wire.write_all(b"x").await.map_err(|e| e.to_string())?;
        wire.flush().await.map_err(|e| e.to_string())?;
        Ok(speaker)
    };
    let call = async {
        let told = |e: &(dyn std::error::Error + 'static)| match refusal(e) {
            Some(Refusal::Mine(why)) => format!("refused by me: {why}"),
            Some(Refusal::Theirs(why)) => format!("refused by them: {why}"),
            None => e.to_string(),
        };
        let transport = Transport::Mutual(client);
        let mut wire = transport.connect(whom, &address, BOUND).await.map_err(|e| told(&e))?;
        wire.read_exact(&mut [0]).await.map_err(|e| told(&e))?;
        Ok(())
    };
    tokio::time::timeout(BOUND, async { tokio::join!(serve, call) }).await.unwrap()
}

pub fn member_a() -> Whom {
    Whom::Member(name("az-a"))
}

#[tokio::test]
async fn each_port_takes_its_own_roles() {
    let pki = Pki::new();
    let server = member(&pki.issue("member/az-a"), "az-a");
    let person = |who: &str| Arc::new(Credentials::of_person(pki.issue(who)).unwrap());
    let (b, alice, eve) =
        (member(&pki.issue("member/az-b"), "az-b"), person("operator/alice"), person("viewer/eve"));
    for (port, client, whom, allowed) in [
        (Port::Peer, &b, member_a(), true),
        (Port::Operators, &alice, Whom::AnyMember, true),
        (Port::Operators, &eve, Whom::AnyMember, true),
    ] {
        let (speaker, told) = meet(&server, port, Arc::clone(client), whom).await;
        assert_eq!(told.is_ok(), allowed);
        assert_eq!(speaker, Ok(Speaker::Proven(client.identity())));
    }
}

#[tokio::test]
async fn fault_64_a_role_on_the_other_port_is_refused_in_the_handshake() {
    let pki = Pki::new();
    let server = member(&pki.issue("member/az-a"), "az-a");
    let person = |who: &str| Arc::new(Credentials::of_person(pki.issue(who)).unwrap());
    for (port, client) in [
        (Port::Operators, member(&pki.issue("member/az-b"), "az-b")),
        (Port::Peer, person("operator/alice")),
        (Port::Peer, person("viewer/eve")),
    ] {
        let (speaker, told) = meet(&server, port, Arc::clone(&client), member_a()).await;
        let why = speaker.expect_err("is refused");
        assert!(why.contains(&format!("{} has no business on the", client.identity())), "{why}");
        assert_eq!(
            told,
            Err("refused by them: it is of another cluster, or of a role that this port does not take".into())
        );
    }
}

#[tokio::test]
async fn fault_64_a_certificate_of_another_ca_or_cluster_or_one_that_is_over() {
    let (pki, other, namesake) = (Pki::new(), Pki::named("another"), Pki::new());
    let server = member(&pki.issue("member/az-a"), "az-a");
    // Of the other CA, but trusting this one, so that it is the server who refuses.
    let stranger = Files { ca: pki.path("ca.pem"), ..other.issue("member/az-b") };
    let foreign = Kind { uris: vec!["spiffe://other/member/az-b".into()], ..Kind::default() };
    for (client, why) in [
        (pki.raw(&stranger), "it is of another CA"),
        (pki.raw(&namesake.issue("member/az-b")), "it is of another CA of the same name, or not sound"),
        (pki.raw(&pki.issue_as("old", "member/az-b", &expired())), "it is over, or not valid yet"),
        (
            pki.raw(&pki.issue_as("foreign", "", &foreign)),
            "it is of another cluster, or of a role that this port does not take",
        ),
    ] {
        let (speaker, told) = crate::raw::meet(&server, Port::Peer, Some(client)).await;
        assert!(speaker.is_err(), "{why}");
        assert_eq!(told, Err(why.to_owned()));
    }
    let (speaker, told) = crate::raw::meet(&server, Port::Peer, None).await;
    assert!(speaker.is_err());
    assert_eq!(told, Err("none was shown".to_owned()));
}

#[tokio::test]
async fn fault_64_a_client_takes_no_other_server_than_the_member_it_means() {
    let (pki, other) = (Pki::new(), Pki::named("another"));
    let b = member(&pki.issue("member/az-b"), "az-b");
    let c = member(&pki.issue("member/az-c"), "az-c");
    let (_, told) = meet(&c, Port::Peer, Arc::clone(&b), member_a()).await;
    let why = told.expect_err("another member");
    assert!(why.contains("spiffe://edge/member/az-c answers, not member/az-a"), "{why}");
    let stranger = member(&other.issue("member/az-a"), "az-a");
    let (_, told) = meet(&stranger, Port::Peer, Arc::clone(&b), member_a()).await;
    assert!(told.expect_err("another CA").contains("it is of another CA"));
    // An operator's certificate serves nothing, whatever purposes it is for.
    let alice = Arc::new(Credentials::of_person(pki.issue("operator/alice")).unwrap());
    let (_, told) = meet(&alice, Port::Peer, b, Whom::AnyMember).await;
    assert!(told.expect_err("an operator").contains("operator/alice answers, not a member"));
}

#[tokio::test]
async fn only_tls_1_3_is_spoken_and_nobody_comes_back_without_a_certificate() {
    let pki = Pki::new();
    let server = member(&pki.issue("member/az-a"), "az-a");
    let client = pki.raw(&pki.issue("member/az-b"));
    assert_eq!(crate::raw::meet_by_tls_1_2(&server, client).await, Err("TLS 1.3 is needed".to_owned()));
    // The same client again: the second time it would resume, if it could.
    for kind in crate::raw::meet_twice(&server, pki.raw(&pki.issue("member/az-c"))).await {
        assert_eq!(kind, Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_close_notify_is_no_fin_and_a_fin_is_one() {
    let pki = Pki::new();
    let (a, b) = (member(&pki.issue("member/az-a"), "az-a"), member(&pki.issue("member/az-b"), "az-b"));
    for with_notice in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = async {
            let (mut wire, _) = a.accept(Port::Peer, listener.accept().await.unwrap().0).await.unwrap();
            if with_notice {
                // A shutdown says close_notify, and then closes this direction.
                let Wire::Tls(tls) = &mut wire else { panic!("it is TLS") };
                let tokio_rustls::TlsStream::Server(tls) = tls.as_mut() else {
                    panic!("it is the server's end")
                };
                let (tcp, session) = tls.get_mut();
                session.send_close_notify();
                let mut notice = Vec::new();
                session.write_tls(&mut notice).unwrap();
                tcp.write_all(&notice).await.unwrap();
                return Some(wire);
            }
            None
        };
        let transport = Transport::Mutual(Arc::clone(&b));
        let call = async {
            let mut wire = transport.connect(member_a(), &address, BOUND).await.unwrap();
            let read = wire.read(&mut [0]).await;
            wire.is_fin(&read)
        };
        let (held, fin) = tokio::time::timeout(BOUND, async { tokio::join!(serve, call) }).await.unwrap();
        assert_eq!(fin, !with_notice, "close_notify sent: {with_notice}");
        drop(held);
    }
}

#[tokio::test]
async fn a_port_without_tls_is_named_as_one() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1024]).await;
    });
    let transport = Transport::Mutual(member(&pki.issue("member/az-b"), "az-b"));
    let error = transport.connect(member_a(), &address, BOUND).await.expect_err("no TLS");
    assert!(matches!(error, ConnectError::Handshake(_)));
    assert!(error.to_string().contains("no TLS"), "{error}");
}
