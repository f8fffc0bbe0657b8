//! Against sockets that say nothing.

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
    let deadline = Duration::from_millis(100);
    links.call("az-b", address, deadline, |mut c| async move { c.hello(HelloRequest::default()).await }).await
}

#[tokio::test]
async fn fault_31_a_half_open_connection_is_noticed_and_replaced() {
    let (address, accepted) = silent().await;
    let (address, links) =
        (address.to_string(), Links::new(Arc::new(Lazy(Transport::Insecure)), HelloRequest::default()));
    let began = clock::now();
    while accepted.load(Ordering::SeqCst) < 2 {
        assert!(matches!(hello(&links, &address).await, Err(CallError::Timeout(_))));
        let waited = clock::now().since(began);
        assert!(waited < Duration::from_secs(10), "not replaced after {waited:?}");
    }
    let replaced = clock::now().since(began);
    assert!(replaced >= DEAD_AFTER, "a slow answer is no dead connection: {replaced:?}");
}
