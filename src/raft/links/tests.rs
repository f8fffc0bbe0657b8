//! Against sockets that say nothing, and against servers that let no connection grow old, or hold on to one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;

use super::*;
use crate::proto::HelloRequest;

/// Accepts and never answers, as the other end of a half-open connection does.
async fn silent() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    (address, accepted)
}

async fn hello(links: &Links, address: &str) -> Result<crate::proto::HelloResponse, CallError> {
    hello_within(links, address, Duration::from_millis(100)).await
}

async fn hello_within(
    links: &Links,
    address: &str,
    deadline: Duration,
) -> Result<crate::proto::HelloResponse, CallError> {
    links.call("az-b", address, deadline, |mut c| async move { c.hello(HelloRequest::default()).await }).await
}

#[tokio::test]
async fn fault_31_a_half_open_connection_is_noticed_and_replaced() {
    let (address, accepted) = silent().await;
    let (address, links) = (
        address.to_string(),
        Links::new(Arc::new(Lazy::new(Transport::Insecure)), HelloRequest::default(), Renewal::USUAL),
    );
    let began = clock::now();
    while accepted.load(Ordering::SeqCst) < 2 {
        assert!(matches!(hello(&links, &address).await, Err(CallError::Timeout(_))));
        let waited = clock::now().since(began);
        assert!(waited < Duration::from_secs(10), "not replaced after {waited:?}");
    }
    let replaced = clock::now().since(began);
    assert!(replaced >= DEAD_AFTER, "a slow answer is no dead connection: {replaced:?}");
}

/// A network on which it takes long to connect: longer than any call has.
#[derive(Clone)]
struct Far(Arc<AtomicUsize>);

const FAR: Duration = Duration::from_secs(1);

/// What a call has.
const CALL: Duration = Duration::from_millis(500);

impl Dial for Far {
    fn dial(&self, _: &str, address: &str) -> Result<Carrier, CallError> {
        let (address, count) = (address.to_owned(), Arc::clone(&self.0));
        let connect = tower::service_fn(move |_| {
            let (address, count) = (address.clone(), Arc::clone(&count));
            async move {
                tokio::time::sleep(FAR).await;
                count.fetch_add(1, Ordering::SeqCst);
                let stream = tokio::net::TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        let channel = Endpoint::from_static("http://az-b").connect_with_connector_lazy(connect);
        let failed = |e: tonic::transport::Error| tonic::Status::unavailable(in_full(&e));
        Ok(BoxCloneSyncService::new(tower::ServiceExt::map_err(channel, failed)))
    }

    fn lifeline(&self, _: &str, _: &str, _: Vec<u8>) -> BoxFuture<'static, Result<Held, CallError>> {
        unreachable!("none is asked for")
    }
}

fn greeting() -> HelloRequest {
    HelloRequest { cluster: "edge".into(), member: "az-b".into(), incarnation: 5 }
}

async fn serve(
    starting: &crate::raft::Starting<crate::raft::store::Store>,
    mut server: tonic::transport::Server,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let known = tonic::service::interceptor::InterceptedService::new(
        starting.service(),
        |mut request: tonic::Request<()>| {
            request.extensions_mut().insert(crate::tls::Speaker::Unproven);
            Ok(request)
        },
    );
    tokio::spawn(server.add_service(known).serve_with_incoming(accepted));
    address
}

#[tokio::test]
async fn an_old_connection_is_replaced_and_no_call_waits_for_the_new_one() {
    let (events, _) = tokio::sync::mpsc::channel(1);
    let (starting, _dir) = crate::raft::tests::starting(Arc::new(Lazy::new(Transport::Insecure)), events);
    let server = tonic::transport::Server::builder().max_connection_age(Duration::from_secs(3));
    let address = serve(&starting, server).await.to_string();

    let connected = Arc::new(AtomicUsize::new(0));
    let renewal = Renewal { calls: Duration::from_millis(500), ..Renewal::USUAL };
    let links = Links::new(Arc::new(Far(Arc::clone(&connected))), greeting(), renewal);
    let until = clock::now() + Duration::from_secs(20);
    while !matches!(hello_within(&links, &address, CALL).await, Ok(_) | Err(CallError::Status(_))) {
        assert!(clock::now() < until, "the first connection");
    }
    let mut calls = 0;
    while connected.load(Ordering::SeqCst) < 5 {
        assert!(clock::now() < until, "{} connections", connected.load(Ordering::SeqCst));
        let answer = hello_within(&links, &address, CALL).await;
        assert!(matches!(answer, Ok(_) | Err(CallError::Status(_))), "call {calls}: {answer:?}");
        calls += 1;
    }
}

/// A member behind one who holds on to the first connection, whatever its age, and lets no other in: where, the sender
/// that goes when the first has ended, and what is to be kept until then.
async fn holds_on_to_the_first() -> (String, tokio::sync::oneshot::Receiver<()>, impl Sized) {
    let (events, _) = tokio::sync::mpsc::channel(1);
    let member = crate::raft::tests::starting(Arc::new(Lazy::new(Transport::Insecure)), events);
    let server = serve(&member.0, tonic::transport::Server::builder()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let mut behind = tokio::net::TcpStream::connect(server).await.unwrap();
        tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut first, &mut behind).await;
            drop(ended);
        });
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    (address.to_string(), end, member)
}

const BOUND: Duration = Duration::from_secs(20);

/// None of these is reached within a test.
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_old_connection_is_let_go_although_no_new_one_can_be_opened() {
    let (address, end, _member) = holds_on_to_the_first().await;
    let renewal =
        Renewal { calls: Duration::from_millis(200), ends: Duration::from_millis(600), ..Renewal::USUAL };
    let dial = Arc::new(Lazy::closing(Transport::Insecure, NEVER));
    let links = Links::new(dial, greeting(), renewal);
    let call = || links.call("az-b", &address, BOUND, |mut c| async move { c.hello(greeting()).await });
    let began = clock::now();
    call().await.expect("the first connection");
    while call().await.is_ok() {
        assert!(clock::now().since(began) < BOUND, "it is used as before");
    }
    let held = clock::now().since(began);
    assert!(held >= renewal.ends, "until then it is used, although it could not be renewed: {held:?}");
    let _ = tokio::time::timeout(BOUND, end).await.expect("and this end closes it");
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_any_more_is_closed_at_its_age() {
    let (address, end, _member) = holds_on_to_the_first().await;
    let dial = Lazy::closing(Transport::Insecure, Duration::from_millis(500));
    let mut client = PeerClient::new(dial.dial("az-b", &address).unwrap());
    client.hello(greeting()).await.expect("the first connection");
    let _ = tokio::time::timeout(BOUND, end).await.expect("this end closes it");
    assert!(client.hello(greeting()).await.is_err(), "no other was to be had");
}
