//! `/metrics`: the numbers of the service, as Prometheus reads them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::HeaderValue;
use axum::response::Response;

use crate::http::response::answer;
use crate::http::state::HttpState;
use crate::metrics::Metrics;

/// The version of the text format.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Metrics in the text format of Prometheus. No label holds a value that a caller chose.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    operation_id = "metrics",
    responses((status = 200, description = "all series", body = String, content_type = "text/plain")),
)]
pub(in crate::http) async fn get(State(state): State<HttpState>) -> Response {
    let metrics = &state.metrics;
    metrics.take(state.mover.service.engine());
    for row in state.health.findings().await.databases {
        metrics.is_up(row.name, row.error.is_none());
    }
    text(metrics)
}

/// What is known before the databases are open.
pub(in crate::http) fn text(metrics: &Metrics) -> Response {
    answer::bytes(StatusCode::OK, TEXT, metrics.render())
}
