//! `/openapi.json`: owns what the OpenAPI document says beyond what stands at each route.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::routing::get;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Header, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi as _, ToSchema};

use super::HttpState;
use super::answer::{self, REQUEST_ID};
use super::caller::GITHUB_TOKEN;
use super::problem::{Code, Sent};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "tierkeep",
        description = "Decides who is asking, stores each user's document in the right database and moves \
                       internal users' documents after their retention.\n\nErrors are problem details (RFC \
                       9457) with a stable `code`. Every answer carries `X-Request-Id`, accepted or made. \
                       HEAD works wherever GET does.",
    ),
    components(schemas(Sent<'static>)),
    tags(
        (name = "user", description = "Users' documents."),
        (name = "health", description = "Whether the service is fit to serve."),
    ),
)]
struct Document;

/// The document before the routes add themselves.
pub(super) fn document() -> OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    for (name, scheme) in schemes() {
        components.add_security_scheme(name, scheme);
    }
    document
}

fn schemes() -> [(&'static str, SecurityScheme); 3] {
    let key = |name: &str, about: &str| ApiKeyValue::with_description(name, about);
    let jwt = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "An access token; with the GitHub token it makes the caller internal.",
        ));
    let github = key(GITHUB_TOKEN.as_str(), "A GitHub token of the JWT's owner.");
    let username = key(
        "username",
        "The name of a public user; makes the caller external.",
    );
    [
        ("jwt", SecurityScheme::Http(jwt.build())),
        (
            "github_token",
            SecurityScheme::ApiKey(ApiKey::Header(github)),
        ),
        ("username", SecurityScheme::ApiKey(ApiKey::Query(username))),
    ]
}

/// The route that shows the finished document, which never changes while the service runs.
pub(super) fn router(document: &OpenApi) -> Router<HttpState> {
    let text = document.to_json().unwrap_or_default();
    Router::new().route(
        "/openapi.json",
        get(async || {
            let media_type = HeaderValue::from_static("application/json");
            let mut answer = answer::bytes(StatusCode::OK, media_type, text);
            let cached = HeaderValue::from_static("no-cache");
            answer.headers_mut().insert(CACHE_CONTROL, cached);
            answer
        }),
    )
}

const OF_IDENTITY: &[Code] = &[
    Code::AmbiguousIdentity,
    Code::CredentialsRequired,
    Code::InvalidUsername,
    Code::Internal,
    Code::IdentityUnavailable,
];
const OF_READS: &[Code] = &[
    Code::Malformed,
    Code::UserNotFound,
    Code::SectionNotFound,
    Code::UnknownSection,
    Code::Conflict,
    Code::VersionMismatch,
    Code::DatabaseUnavailable,
];
const OF_WRITES: &[Code] = &[
    Code::Malformed,
    Code::UnknownSection,
    Code::RequestTimeout,
    Code::Conflict,
    Code::VersionMismatch,
    Code::TooLarge,
    Code::UnsupportedMediaType,
    Code::InvalidContent,
    Code::DatabaseUnavailable,
    Code::OutcomeUnknown,
];
const OF_REMOVALS: &[Code] = &[
    Code::Malformed,
    Code::RoleRequired,
    Code::UserNotFound,
    Code::SectionNotFound,
    Code::UnknownSection,
    Code::Conflict,
    Code::VersionMismatch,
    Code::DatabaseUnavailable,
    Code::OutcomeUnknown,
];

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident($($codes:expr),*);)*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                by_status([$($codes),*].into_iter().flatten().copied())
            }
        }
    )*};
}

refusals! {
    /// The refusals of every route that asks who is asking.
    IdentityRefusals(OF_IDENTITY);
    /// The refusals of a read.
    ReadRefusals(OF_IDENTITY, OF_READS);
    /// The refusals of a write.
    WriteRefusals(OF_IDENTITY, OF_WRITES);
    /// The refusals of a removal.
    RemoveRefusals(OF_IDENTITY, OF_REMOVALS);
}

fn by_status(codes: impl Iterator<Item = Code>) -> BTreeMap<String, RefOr<Response>> {
    let mut grouped: BTreeMap<String, BTreeSet<Code>> = BTreeMap::new();
    for code in codes {
        let status = code.status().as_str().to_owned();
        grouped.entry(status).or_default().insert(code);
    }
    grouped
        .into_iter()
        .map(|(status, codes)| (status, RefOr::T(refusal(&codes))))
        .collect()
}

fn refusal(codes: &BTreeSet<Code>) -> Response {
    let described: Vec<String> = codes
        .iter()
        .map(|code| format!("`{}`: {}", code.as_str(), code.title()))
        .collect();
    let schema = RefOr::Ref(Ref::from_schema_name(Sent::name()));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let mut response = ResponseBuilder::new()
        .description(described.join("; "))
        .content("application/problem+json", content)
        .header(REQUEST_ID.as_str(), header("names the request"));
    let any = |holds: fn(&Code) -> bool| codes.iter().any(holds);
    if any(|code| code.retry_after_seconds().is_some()) {
        response = response.header(name(&RETRY_AFTER), header("seconds"));
    }
    if any(|code| code.status() == StatusCode::UNAUTHORIZED) {
        response = response.header(name(&WWW_AUTHENTICATE), header("Bearer"));
    }
    response.build()
}

fn name(header: &HeaderName) -> &str {
    header.as_str()
}

fn header(about: &str) -> Header {
    let mut header = Header::default();
    header.description = Some(about.to_owned());
    header
}
