//! `/metrics /livez /readyz /leader`, for Prometheus and load balancers' checks.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::keeper::{Keeper, Places};
use crate::metrics::{MEDIA_TYPE, Metrics};

/// Monitors are few, ask every few seconds and are answered at once. No address is a member's here.
const PLACES: Places = Places { strangers: 64, stranger: 16, member: 0, kept_part: 1 };

/// The head of a request for four paths; hyper takes no smaller bound.
const HEAD_MAX_BYTES: usize = 8 * 1024;
const HEADERS_MAX: usize = 32;

/// How long a head may take, and how long a connection may be idle: a scrape every few seconds keeps its
/// own, a slower one opens another.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection may last, whoever does not read its answers.
const CONNECTION_MAX: Duration = Duration::from_secs(60);

/// After an error of accept(2): it may be for want of descriptors, and would come again at once.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves the routes until the process ends.
pub(super) async fn serve(listener: TcpListener, routes: Router) {
    let keeper = Keeper::new(PLACES);
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the metrics port accepts no connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = keeper.admit(from.ip()) else { continue };
        let routes = routes.clone();
        // Requests may come one behind the other, and hyper answers them in one go as long as the answers find room
        // in the socket: for half a second, on the thread on which heartbeats wait. So each waits for its turn.
        let service = service_fn(move |request| {
            let routes = routes.clone();
            async move {
                tokio::task::yield_now().await;
                routes.oneshot(request).await
            }
        });
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .max_headers(HEADERS_MAX)
                .max_buf_size(HEAD_MAX_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
            drop(place);
        });
    }
}

/// What the checks answer by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// This member follows or leads a group.
    pub ready: bool,
    pub owner: bool,
}

/// The routes. `/livez` answers while the process runs, `/readyz` once it is in a group with a
/// leader, `/leader` on the owner only (200, else 503).
pub fn router(metrics: Metrics, standing: watch::Receiver<Standing>) -> Router {
    let ready = standing.clone();
    let check =
        |ok: bool| if ok { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "no\n") };
    Router::new()
        .route("/metrics", get(move || async move { scrape(&metrics) }))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { check(ready.borrow().ready) }))
        .route("/leader", get(move || async move { check(standing.borrow().owner) }))
}

fn scrape(metrics: &Metrics) -> Response {
    match metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
