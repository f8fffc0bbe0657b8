//! Who may only look takes no operator's place.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use vipd::proto::StatusRequest;
use vipd::proto::admin_client::AdminClient;
use vipd::rpc::listen::{routes, serve_operators};
use vipd::tls::{Credentials, Transport, Whom};

use crate::member::{desk, name};
use crate::pki::Pki;

const BOUND: Duration = Duration::from_secs(20);

/// Of one address, and those of them that are kept for operators (`rpc/limits.rs`).
const PLACES: usize = 16;
const KEPT: usize = 8;

/// One connection, by which the desk was reached; `None` where there is no place.
async fn asks(mine: &Arc<Credentials>, address: &str) -> Option<Channel> {
    let (mine, address) = (Arc::clone(mine), address.to_owned());
    let connect = tower::service_fn(move |_| {
        let (mine, address) = (Arc::clone(&mine), address.clone());
        async move { mine.connect(Whom::AnyMember, &address).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://vipd").connect_with_connector_lazy(connect);
    let mut client = AdminClient::new(channel.clone());
    let asked = tokio::time::timeout(BOUND, client.get_status(StatusRequest::default()));
    let answer = asked.await.expect("an answer, or an end");
    // The desk belongs to no group, and says so.
    answer.is_err_and(|status| status.code() == Code::Aborted).then_some(channel)
}

#[tokio::test]
async fn a_viewer_takes_no_operators_place() {
    let pki = Pki::new();
    let mine = Credentials::of_member(pki.issue("member/az-a"), &name("edge"), &name("az-a")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (desk, _kept) = desk();
    serve_operators(listener, &Transport::Mutual(Arc::new(mine)), routes(desk).await.unwrap());

    let viewer = Arc::new(Credentials::of_person(pki.issue("viewer/eve")).unwrap());
    let operator = Arc::new(Credentials::of_person(pki.issue("operator/alice")).unwrap());
    let mut held = Vec::new();
    while let Some(channel) = asks(&viewer, &address).await {
        held.push(channel);
        assert!(held.len() <= PLACES);
    }
    assert_eq!(held.len(), PLACES - KEPT);
    for _ in 0..KEPT {
        held.push(asks(&operator, &address).await.expect("a place for an operator"));
    }
    assert!(asks(&operator, &address).await.is_none(), "an address has so many, whoever it is");
}
