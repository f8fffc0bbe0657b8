//! The listeners: each is bound before this returns, and served until the process ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;

use super::admin;
use super::desk::Desk;
use super::http::{Standing, router};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::proto;
use crate::proto::peer_server::PeerServer;
use crate::raft::PeerService;

/// Streams that one connection may have open: a member uses fewer than ten, an operator one.
const STREAMS_MAX: u32 = 64;

/// HTTP/2 keepalive: a half-open connection is noticed within two of these.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Why a port or socket is not served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "cannot listen on {address} ({key}): {source}; is another process there, or is the address not this host's?"
    )]
    Tcp { key: &'static str, address: SocketAddr, source: io::Error },
    #[error("cannot listen on {} ({key}): {source}; the directory must exist and be writable", .path.display())]
    Unix { key: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "TLS is not in this version yet: set [tls] insecure = true and leave ca, cert and key away, on a network that only members and operators reach"
    )]
    Tls,
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError::Tcp { key, address, source })
}

fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
}

/// Serves the peer port.
pub async fn peers(config: &Config, service: PeerServer<PeerService>) -> Result<(), ListenError> {
    assert!(config.tls.insecure, "the program refuses to start with TLS, which it does not have");
    let listener = bind("peer.listen", config.peer_listen).await?;
    tokio::spawn(async move {
        let served = server().add_service(service).serve_with_incoming(incoming(listener)).await;
        panic_on_end("peer", served);
    });
    Ok(())
}

/// A listener's connections, without Nagle's delay: a vote is a small message.
fn incoming(listener: TcpListener) -> impl tokio_stream::Stream<Item = io::Result<tokio::net::TcpStream>> {
    use tokio_stream::StreamExt as _;
    TcpListenerStream::new(listener).map(|stream| stream.inspect(|s| drop(s.set_nodelay(true))))
}

/// A port that is served no more would leave the member half alive.
#[allow(clippy::panic, reason = "FAULTS 5: the process ends whole")]
fn panic_on_end(port: &str, served: Result<(), tonic::transport::Error>) {
    panic!("the {port} port is no longer served: {served:?}");
}

/// Serves the operators' TCP port and unix socket, with gRPC's health and reflection services.
pub async fn operators(config: &Config, desk: Desk) -> Result<(), ListenError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<proto::admin_server::AdminServer<admin::AdminService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let routes =
        tonic::service::Routes::new(admin::service(desk)).add_service(health).add_service(reflection);
    if let Some(address) = config.admin_listen {
        let listener = bind("admin.listen", address).await?;
        let routes = routes.clone();
        tokio::spawn(async move {
            let served = server().add_routes(routes).serve_with_incoming(incoming(listener)).await;
            panic_on_end("operators'", served);
        });
    }
    if let Some(path) = config.admin_socket.clone() {
        let listener = socket(&path)?;
        tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            let served = server().add_routes(routes).serve_with_incoming(incoming).await;
            panic_on_end("operators' unix", served);
        });
    }
    Ok(())
}

/// The data directory's lock says that no other daemon of this member runs, so a socket that is
/// there was left behind.
fn socket(path: &std::path::Path) -> Result<UnixListener, ListenError> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |source| ListenError::Unix { key: "admin.socket", path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Its owner and group; the directory's mode keeps others out until this line.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Serves the HTTP port, if the file has one.
pub async fn monitors(
    config: &Config,
    metrics: Metrics,
    standing: watch::Receiver<Standing>,
) -> Result<(), ListenError> {
    let Some(address) = config.metrics_listen else { return Ok(()) };
    let listener = bind("metrics.listen", address).await?;
    let routes = router(metrics, standing);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the metrics port is no longer served");
        }
    });
    Ok(())
}
