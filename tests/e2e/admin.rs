//! What others than vipctl ask: gRPC's health and reflection, and load balancers' checks.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use vipd::tls::{Credentials, Files, Whom};

use crate::lab::{BOUND, Lab};
use crate::status::others;

const ADMIN: &str = "vipd.v1.Admin";

#[test]
fn health_and_reflection_answer_on_socket_and_port() {
    let lab = Lab::up("grpc");
    lab.steady();
    let socket = format!("unix:{}", lab.dir.join("az-a").join("admin.sock").display());
    ask(&socket, async { Endpoint::from_shared(socket.clone()).unwrap().connect().await.unwrap() });
    let file = |name: &str| lab.dir.join("pki").join(name);
    let files =
        Files { ca: file("ca.pem"), cert: file("viewer-lab.pem"), key: file("viewer-lab.key"), crl: None };
    let viewer = Arc::new(Credentials::of_person(files).unwrap());
    let connect = tower::service_fn(move |_| {
        let viewer = Arc::clone(&viewer);
        async move { viewer.connect(Whom::AnyMember, "10.0.1.10:7401").await.map(TokioIo::new) }
    });
    let port = Endpoint::from_static("http://az-a");
    lab.within("client", || ask("its port", async { port.connect_with_connector(connect).await.unwrap() }));
}

fn ask(endpoint: &str, connect: impl Future<Output = Channel>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let asked = async {
            let channel = connect.await;
            assert_eq!(health(channel.clone()).await, i32::from(ServingStatus::Serving), "{endpoint}");
            let services = services(channel).await;
            assert!(services.iter().any(|s| s == ADMIN), "{endpoint}: {services:?}");
        };
        tokio::time::timeout(BOUND, asked).await.unwrap();
    });
}

async fn health(channel: Channel) -> i32 {
    let request = HealthCheckRequest { service: ADMIN.to_owned() };
    HealthClient::new(channel).check(request).await.unwrap().into_inner().status
}

async fn services(channel: Channel) -> Vec<String> {
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let requests = tokio_stream::once(list);
    let mut answers =
        ServerReflectionClient::new(channel).server_reflection_info(requests).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    match answer.message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|s| s.name).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_checks_tell_the_owner_from_the_others() {
    let lab = Lab::up("checks");
    let owner = lab.steady();
    let code = |member: &str, path: &str| lab.get(member, "127.0.0.1:9407", path).unwrap().0;
    assert_eq!((code(&owner, "/leader"), code(&owner, "/readyz"), code(&owner, "/livez")), (200, 200, 200));
    for other in others(&owner) {
        assert_eq!((code(other, "/leader"), code(other, "/readyz"), code(other, "/livez")), (503, 200, 200));
    }
    let (_, metrics) = lab.get(&owner, "127.0.0.1:9407", "/metrics").unwrap();
    for line in ["vipd_is_leader 1", "vipd_is_owner 1", "vipd_has_leader 1", "vipd_haproxy_healthy 1"] {
        assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    }
}
