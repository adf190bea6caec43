//! The layers around every request: owns request ids, the log line, panics, deadlines and the headers of every
//! response.
//!
//! Must never log a header's value, a query or a body. The 🔐/🌐 marker is made by the log layer from
//! `user_type`.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, COOKIE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use tierkeep_core::identity::AMBIGUOUS;
use tierkeep_core::user::UserId;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, debug, error, info, info_span};

use crate::http::limits::Limits;
use crate::http::request::caller::GITHUB_TOKEN;
use crate::http::request::context::{RequestContext, Subject};
use crate::http::response::answer::REQUEST_ID;
use crate::http::response::problem::Problem;
use crate::http::server::table::AtWork;
use crate::http::server::to_its_end::ToItsEnd;
use crate::http::server::{drain_body, framing};
use crate::http::ui;
use crate::metrics::{Metrics, NO_USER_TYPE};

const DECISION: HeaderName = HeaderName::from_static("tierkeep-decision");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The route of a request that matched none.
const NO_ROUTE: &str = "-";

/// What surrounds each request.
#[derive(Debug)]
struct Surroundings {
    request_timeout: Duration,
    metrics: Metrics,
}

/// The routes with everything that surrounds them.
pub(in crate::http) fn around(routes: Router, limits: Limits, metrics: Metrics) -> Router {
    let surroundings = Arc::new(Surroundings {
        request_timeout: limits.request_timeout,
        metrics,
    });
    // One layer: each costs every request a copy of the service below it and two allocations.
    routes.layer(from_fn_with_state(surroundings, surround))
}

async fn surround(
    State(surroundings): State<Arc<Surroundings>>,
    mut request: Request,
    next: Next,
) -> Response {
    let at_work = request.extensions_mut().remove::<Arc<AtWork>>();
    hide_credentials(request.headers_mut());
    ToItsEnd::of(async move {
        let answer = observed(&surroundings, request, next).await;
        drop(at_work);
        answer
    })
    .await
}

/// Marks what must not be printed.
fn hide_credentials(headers: &mut HeaderMap) {
    for (name, value) in headers.iter_mut() {
        if [AUTHORIZATION, COOKIE, GITHUB_TOKEN].contains(name) {
            value.set_sensitive(true);
        }
    }
}

/// Answers a request, with its headers, its span, its log line and its part of the metrics.
async fn observed(surroundings: &Surroundings, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let context = Arc::new(RequestContext::begin(request.headers()));
    request.extensions_mut().insert(Arc::clone(&context));
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let span = info_span!(
        "http.request",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.response.status_code = Empty,
        request_id = context.request_id_text(),
        %method,
        route,
    );

    let answering = answered(surroundings.request_timeout, request, next);
    let mut answer = answering.instrument(span.clone()).await;
    add_headers(answer.headers_mut(), &context);
    let (status, took) = (answer.status(), started.elapsed());
    let user_type = context.subject().map(|subject| subject.user_type.as_str());
    surroundings.metrics.request(
        user_type.unwrap_or(NO_USER_TYPE),
        route,
        status.as_str(),
        took,
    );
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    span.in_scope(|| log(&context, &method, route, status, took));
    answer
}

/// The answer to a request; a refusal of a page is a page.
async fn answered(longest: Duration, request: Request, next: Next) -> Response {
    let is_page = ui::is_page(request.uri().path());
    let answer = if let Some(refused) = framing::refusal(&request) {
        refused
    } else {
        routed(longest, request, next).await
    };
    if is_page {
        ui::shown_as_page(answer).await
    } else {
        answer
    }
}

/// The answer of the request's route, which ends in a refusal where it takes too long or panics.
async fn routed(longest: Duration, request: Request, next: Next) -> Response {
    let reads = request.method().is_safe();
    let answering = AssertUnwindSafe(next.run(drain_body::draining(request))).catch_unwind();
    match tokio::time::timeout(longest, answering).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(thrown)) => panicked(thrown),
        Err(_) if reads => Problem::ReadTimeout.into_response(),
        Err(_) => Problem::WriteTimeout.into_response(),
    }
}

fn add_headers(headers: &mut HeaderMap, context: &RequestContext) {
    headers.insert(REQUEST_ID, context.request_id().clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if let Some(allowance) = context.allowance() {
        for (name, value) in [
            (RATE_LIMIT_POLICY, allowance.policy_header()),
            (RATE_LIMIT, allowance.header()),
        ] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
    let ambiguous = |subject: &Subject| subject.ambiguous && subject.user.is_some();
    if context.subject().is_some_and(ambiguous) {
        headers.insert(DECISION, HeaderValue::from_static(AMBIGUOUS));
    }
}

/// One line for each request of a user; probes, requests to no route, and refusals that repeat are logged at debug level.
fn log(context: &RequestContext, method: &Method, route: &str, status: StatusCode, took: Duration) {
    let latency_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let request_id = context.request_id_text();
    let status = status.as_u16();
    let Some(subject) = context.subject().filter(|_| !context.is_repeated()) else {
        debug!(%method, route, status, latency_ms, request_id, "request");
        return;
    };
    info!(
        user_id = subject.user.as_ref().map(UserId::as_str),
        user_type = subject.user_type.as_str(),
        %method,
        route,
        status,
        latency_ms,
        request_id,
        "request",
    );
}

/// The panic's own text may quote a document, so it stays with the panic hook.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    error!("a request ended in a panic");
    Problem::Internal.into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    /// The body of what is answered to a request to `path` that ends in a panic.
    async fn panicking(path: &'static str) -> String {
        let panics = get(async || -> StatusCode { panic!("secret") });
        let router = around(
            Router::new().route(path, panics),
            Limits::default(),
            Metrics::new(),
        );
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(answer.headers().contains_key(REQUEST_ID));
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX)
            .await
            .unwrap();
        String::from_utf8(body.into()).unwrap()
    }

    #[tokio::test]
    async fn a_request_runs_to_its_end_when_its_caller_is_gone() {
        let (tells, mut told) = tokio::sync::mpsc::unbounded_channel();
        let go = Arc::new(tokio::sync::Notify::new());
        let until = Arc::clone(&go);
        let slow = get(async move || {
            tells.send("begun").unwrap();
            until.notified().await;
            tells.send("ended").unwrap();
        });
        let router = around(
            Router::new().route("/", slow),
            Limits::default(),
            Metrics::new(),
        );
        let request = Request::builder().uri("/").body(Body::empty()).unwrap();
        let asked = tokio::spawn(router.oneshot(request));
        assert_eq!(told.recv().await, Some("begun"));
        asked.abort();
        assert!(asked.await.is_err());
        go.notify_one();
        assert_eq!(told.recv().await, Some("ended"));
    }

    #[tokio::test]
    async fn a_panic_behind_a_page_is_a_page_that_does_not_quote_it() {
        let body = panicking("/ui/").await;
        assert!(
            body.starts_with("<!doctype html>") && !body.contains("secret"),
            "{body}"
        );
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_that_does_not_quote_it() {
        let body = panicking("/").await;
        assert!(
            body.contains("\"code\":\"internal\"") && !body.contains("secret"),
            "{body}"
        );
    }
}
