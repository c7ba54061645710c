//! The admin port: plain HTTP for probes and metrics. It shows nothing of any tenant and takes no input.

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use rowhouse_telemetry::metrics::Metrics;

use crate::readiness::Readiness;

/// What the routes read.
#[derive(Clone, Debug)]
struct Admin {
    readiness: Readiness,
    metrics: Option<Metrics>,
}

/// `/livez`, `/readyz` and `/metrics`.
pub(crate) fn router(readiness: Readiness, metrics: Option<Metrics>) -> Router {
    Router::new()
        // A process that answers lives. Nothing else counts: a restart mends no database.
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Admin { readiness, metrics })
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    if admin.readiness.is_ready() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        let failed = admin.readiness.failed().join(" ");
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {failed}\n"))
    }
}

async fn metrics_text(State(admin): State<Admin>) -> impl IntoResponse {
    let text = admin.metrics.map(|metrics| metrics.render()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
