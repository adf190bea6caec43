//! Starting: owns the responses until the databases are open.
//!
//! Must never keep a request waiting for the start, or pass one to a database that was not checked.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use tower::ServiceExt;

use crate::http::limits::Limits;
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::response::problem::causes::InternalError;
use crate::http::routes::health::{self, Health};
use crate::http::routes::metrics as exposition;
use crate::http::server::layers;
use crate::metrics::Metrics;

/// Passes every request to `opened` as soon as it is set. Until then `/health/live` answers, `/health/ready`
/// says `starting`, `/metrics` tells what is known, and everything else is 503.
pub fn starting(opened: Arc<OnceLock<Router>>, metrics: Metrics) -> Router {
    let known = metrics.clone();
    let routes = Router::new()
        .route("/health/live", get(health::live_without_databases))
        .route("/health/ready", get(ready))
        .route("/metrics", get(async move || exposition::text(&known)))
        .fallback(async || Problem::Starting);
    let starting = layers::around(routes, Limits::default(), metrics);
    Router::new().fallback(async move |request: Request| {
        let router = opened.get().unwrap_or(&starting).clone();
        // Routers answer every request; they have no error.
        match router.oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    })
}

async fn ready() -> Result<Response, InternalError> {
    let health = Health::starting();
    answer::json(health.code(), &health)
}
