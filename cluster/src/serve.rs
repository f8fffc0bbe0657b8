//! An HTTP server that is as patient as EC2's: what arrived whole is carried out, though its sender has hung up since.
//!
//! hyper drops a request of which it reads the end of the connection in the same breath, unless it is told that a
//! half-closed connection is one; axum's own `serve` has no switch for it.

use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

/// So long after a connection that could not be taken: there are no descriptors left, and that passes.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Serves until it is dropped. Handlers find the caller's address as `ConnectInfo<SocketAddr>`.
pub async fn http(listener: TcpListener, router: Router) {
    loop {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("http: {error}");
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone().layer(Extension(ConnectInfo(source))));
        tokio::spawn(async move {
            // A connection that breaks is the caller's matter.
            let _ =
                http1::Builder::new().half_close(true).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Bytes;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn what_arrived_whole_is_carried_out_though_its_sender_has_hung_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: ec2\r\nContent-Length: 5\r\n\r\nwhole").await.unwrap();
        drop(stream);
        // Only now: request and end are read in one breath.
        let read = Arc::new(AtomicUsize::new(0));
        let counter = read.clone();
        let router = Router::new().fallback(move |body: Bytes| async move {
            counter.fetch_add(body.len(), Ordering::SeqCst);
        });
        tokio::spawn(http(listener, router));
        let carried_out = async {
            while read.load(Ordering::SeqCst) < 5 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), carried_out).await.unwrap();
    }
}
