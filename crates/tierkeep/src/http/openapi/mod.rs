//! `/openapi.json`: owns the parts of the OpenAPI document that are not declared at each route.
//!
//! Where to look: `schema` (schemas of bodies), `refusals` (responses with problem details), `parameters` (parameters that
//! several routes share).

mod parameters;
pub(in crate::http) mod refusals;
pub(in crate::http) mod schema;

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::response::Response as Answer;
use axum::routing::get;
use axum::{Extension, Router};
use tierkeep_core::user::{Section, UserType};
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr, Required};

use crate::http::response::answer;
use crate::http::response::problem::ProblemDetails;
use crate::metrics::{Metrics, NO_USER_TYPE};

/// The operations whose body is optional.
const OPTIONAL_BODIES: [&str; 3] = ["run_migration", "retry_migrations", "verify"];

/// What an operation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    /// It reads.
    Reads,
    /// It changes something.
    Changes,
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "tierkeep",
        description = "Identifies callers, stores each user's document in the right database and moves internal users' \
                       documents when their retention has passed.\n\nErrors are problem details (RFC 9457) with a \
                       stable `code`. HEAD works wherever GET does; any other method is a 405 \
                       `method_not_allowed` with `Allow`, any other path a 404 `not_found`.",
    ),
    components(schemas(ProblemDetails<'static>)),
    paths(show),
    tags(
        (name = "user", description = "Users' documents."),
        (name = "hr", description = "HR records; these routes need only a JWT with the role hr."),
        (name = "admin", description = "Administration; these routes need only a JWT with the role admin."),
        (name = "health", description = "Health of the service."),
        (name = "about", description = "The service itself."),
    ),
)]
struct Document;

/// The document, before routes are added.
pub(in crate::http) fn document() -> OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    for (name, scheme) in schemes() {
        components.add_security_scheme(name, scheme);
    }
    document
}

fn schemes() -> [(&'static str, SecurityScheme); 2] {
    let jwt = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "An access token; with the GitHub token it makes the caller internal.",
        ));
    let about = "A GitHub token of the JWT's owner.";
    let github = ApiKeyValue::with_description("X-GitHub-Token", about);
    [
        ("jwt", SecurityScheme::Http(jwt.build())),
        (
            "github_token",
            SecurityScheme::ApiKey(ApiKey::Header(github)),
        ),
    ]
}

/// The route of the document, which does not change while the service runs.
pub(in crate::http) fn router<S: Clone + Send + Sync + 'static>(
    mut document: OpenApi,
    sections: &[Section],
) -> Router<S> {
    for (path, item) in &mut document.paths.paths {
        for (operation, effect) in operations(item) {
            parameters::describe(operation, effect, sections);
            mark_required(operation);
            add_headers(operation, path);
        }
    }
    let text: Arc<str> = document.to_json().unwrap_or_default().into();
    Router::new().route("/openapi.json", get(show).layer(Extension(text)))
}

/// The text of the document; an answer that waits to be read holds no copy of it.
struct Shared(Arc<str>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "about",
    operation_id = "openapi",
    responses((status = 200, description = "the OpenAPI document", body = Object)),
)]
async fn show(Extension(text): Extension<Arc<str>>) -> Answer {
    let media_type = HeaderValue::from_static("application/json");
    let mut answer = answer::bytes(StatusCode::OK, media_type, Bytes::from_owner(Shared(text)));
    let revalidated = HeaderValue::from_static("no-cache");
    answer.headers_mut().insert(CACHE_CONTROL, revalidated);
    answer
}

/// Creates the counters of every status that a route can answer.
pub(in crate::http) fn expect(document: &mut OpenApi, metrics: &Metrics) {
    for (path, item) in &mut document.paths.paths {
        let callers: &[&str] = if path.starts_with("/v1/user") || path == "/v1/route" {
            &[UserType::Internal.as_str(), UserType::External.as_str()]
        } else if path.starts_with("/v1/") {
            &[UserType::Internal.as_str()]
        } else {
            &[NO_USER_TYPE]
        };
        for (operation, _) in operations(item) {
            for status in operation.responses.responses.keys() {
                for caller in callers {
                    metrics.expect_request(caller, path, status);
                }
            }
        }
    }
}

/// The operations of a path, and what each does.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&mut Operation, Effect)> {
    let reads = item.get.iter_mut();
    let reads = reads.map(|operation| (operation, Effect::Reads));
    let changes = [
        &mut item.put,
        &mut item.patch,
        &mut item.post,
        &mut item.delete,
    ];
    let changes = changes.into_iter().flatten();
    reads.chain(changes.map(|operation| (operation, Effect::Changes)))
}

/// Marks bodies as required or optional. None of them can be `null`.
fn mark_required(operation: &mut Operation) {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        let optional = OPTIONAL_BODIES.contains(&id);
        body.required = Some(if optional {
            Required::False
        } else {
            Required::True
        });
    }
}

/// Describes the headers of every response, and those of every response to a user.
fn add_headers(operation: &mut Operation, path: &str) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else {
            continue;
        };
        let mut add = |name: &str, about: &str| {
            response
                .headers
                .insert(name.to_owned(), RefOr::T(refusals::header(about)));
        };
        add(
            "X-Request-Id",
            "the id of the request, taken from the request or generated",
        );
        if path.starts_with("/v1/") {
            add(
                "RateLimit-Policy",
                "the size of the caller's bucket, and the seconds in which it refills",
            );
            add(
                "RateLimit",
                "the number of remaining requests, and the seconds until the bucket is full",
            );
            let about = "\"external; ambiguous\" if the request names a public user and also carries credentials";
            add("Tierkeep-Decision", about);
        }
    }
}
