//! `/metrics /livez /readyz /leader`, for Prometheus and load balancers' checks.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::{MEDIA_TYPE, Metrics};

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
