//! The listeners: each is bound before this returns, and served until the process ends.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Server;
use tower::layer::util::{Identity, Stack};

use super::admin;
use super::admit;
use super::brief::BriefLayer;
use super::caller::Age;
use super::desk::Desk;
use super::guard::GuardLayer;
use super::http::{self, Standing, router};
use super::keeper::Keeper;
use super::limits::{self, Bounds};
use super::local::{Doorman, SocketError};
use super::meter::MeterLayer;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::proto;
use crate::proto::peer_server::PeerServer;
use crate::raft::PeerService;
use crate::raft::lifeline::Lifelines;
use crate::tls::Transport;

/// Why a port or socket is not served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "cannot listen on {address} ({key}): {source}; is another process there, or is the address not this host's?"
    )]
    Tcp { key: &'static str, address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Unix(#[from] SocketError),
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError::Tcp { key, address, source })
}

type Layers = Stack<MeterLayer, Stack<GuardLayer, Stack<BriefLayer, Identity>>>;

/// Of every port and socket: whoever calls passes the guard first, what he sends is metered, and a refusal is short.
fn server(bounds: &Bounds, age: Age) -> Server<Layers> {
    Server::builder()
        .max_connection_age(age.max)
        .max_concurrent_streams(bounds.streams)
        .initial_stream_window_size(bounds.stream_window_bytes)
        .initial_connection_window_size(bounds.connection_window_bytes)
        .http2_max_header_list_size(limits::HEADERS_MAX_BYTES)
        .http2_max_pending_accept_reset_streams(Some(limits::RESETS_PENDING_MAX))
        .http2_max_local_error_reset_streams(Some(limits::RESETS_OF_ERRORS_MAX))
        .timeout(limits::REQUEST_DEADLINE)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(limits::KEEPALIVE))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE))
        .layer(BriefLayer)
        .layer(GuardLayer::default())
        .layer(MeterLayer::new(bounds))
}

/// Serves the peer port: calls and lifelines.
pub async fn peers(
    config: &Config,
    transport: &Transport,
    service: PeerServer<PeerService>,
    lifelines: Lifelines,
) -> Result<(), ListenError> {
    let listener = bind("peer.listen", config.peer_listen).await?;
    let keeper = Keeper::new(limits::PEERS);
    let known = lifelines.clone();
    tokio::spawn(limits::know_members(keeper.clone(), move || known.addresses()));
    serve_members(listener, transport, service, lifelines, keeper, Age::USUAL);
    Ok(())
}

/// Serves the peer port that is bound already, to members whose addresses are not known.
pub fn serve_peers(
    listener: TcpListener,
    transport: &Transport,
    service: PeerServer<PeerService>,
    lifelines: Lifelines,
) {
    serve_peers_until(listener, transport, service, lifelines, Age::USUAL);
}

/// As [`serve_peers`], and no connection but a lifeline gets older.
pub fn serve_peers_until(
    listener: TcpListener,
    transport: &Transport,
    service: PeerServer<PeerService>,
    lifelines: Lifelines,
    age: Age,
) {
    serve_members(listener, transport, service, lifelines, Keeper::new(limits::PEERS), age);
}

fn serve_members(
    listener: TcpListener,
    transport: &Transport,
    service: PeerServer<PeerService>,
    lifelines: Lifelines,
    keeper: Keeper,
    age: Age,
) {
    let calls = admit::members(listener, transport, keeper, lifelines, age);
    tokio::spawn(async move {
        let server = &mut server(&limits::PEER_BOUNDS, age);
        panic_on_end("peer", server.add_service(service).serve_with_incoming(calls).await);
    });
}

/// A port that is served no more would leave the member half alive.
#[allow(clippy::panic, reason = "FAULTS 5: the process ends whole")]
fn panic_on_end(port: &str, served: Result<(), tonic::transport::Error>) {
    panic!("the {port} port is no longer served: {served:?}");
}

/// Serves the operators' TCP port and unix socket, with gRPC's health and reflection services.
pub async fn operators(config: &Config, transport: &Transport, desk: Desk) -> Result<(), ListenError> {
    let routes = routes(desk).await?;
    if let Some(address) = config.admin_listen {
        serve_operators(bind("admin.listen", address).await?, transport, routes.clone());
    }
    if let Some(path) = &config.admin_socket {
        let doorman = Doorman::new(config.admin_group.as_deref())?;
        let listener = doorman.listen(path, config.admin_group.as_deref())?;
        tokio::spawn(async move {
            let calls = admit::local(listener, doorman);
            let server = &mut server(&limits::OPERATOR_BOUNDS, Age::USUAL);
            panic_on_end("operators' unix", server.add_routes(routes).serve_with_incoming(calls).await);
        });
    }
    Ok(())
}

/// What operators may ask.
pub async fn routes(desk: Desk) -> Result<Routes, ListenError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<proto::admin_server::AdminServer<admin::AdminService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let (health, reflection) = (
        health.max_decoding_message_size(limits::NAMES_MAX_BYTES),
        reflection.max_decoding_message_size(limits::NAMES_MAX_BYTES),
    );
    Ok(Routes::new(admin::service(desk)).add_service(health).add_service(reflection))
}

/// Serves the operators' port that is bound already.
pub fn serve_operators(listener: TcpListener, transport: &Transport, routes: Routes) {
    serve_operators_until(listener, transport, routes, Age::USUAL);
}

/// As [`serve_operators`], and no connection gets older.
pub fn serve_operators_until(listener: TcpListener, transport: &Transport, routes: Routes, age: Age) {
    let calls = admit::operators(listener, transport, age);
    tokio::spawn(async move {
        let server = &mut server(&limits::OPERATOR_BOUNDS, age);
        panic_on_end("operators'", server.add_routes(routes).serve_with_incoming(calls).await);
    });
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
    tokio::spawn(http::serve(listener, routes));
    Ok(())
}
