//! `/openapi.json`: owns what the OpenAPI document says beyond what stands at each route.

mod parameters;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::response::Response as Answer;
use axum::routing::get;
use axum::{Extension, Router};
use serde_json::{Map, Value};
use tierkeep_core::user::{Section, UserType};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Header, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
};
use utoipa::{IntoResponses, OpenApi as _, ToSchema};

use super::HttpState;
use super::answer;
use super::problem::{Code, Sent};
use crate::metrics::{Metrics, NOBODY};

/// The operations whose body can be left out.
const OPTIONAL_BODIES: [&str; 3] = ["run_migration", "retry_migrations", "verify"];

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "tierkeep",
        description = "Decides who is asking, stores each user's document in the right database and moves \
                       internal users' documents after their retention.\n\nRefusals are problem details (RFC \
                       9457) with a stable `code`. HEAD works wherever GET does; any other method is a 405 \
                       `method_not_allowed` with `Allow`, any other path a 404 `not_found`.",
    ),
    components(schemas(Sent<'static>)),
    paths(show),
    tags(
        (name = "user", description = "Users' documents."),
        (name = "hr", description = "HR records: a JWT with the role hr, and nothing else."),
        (name = "admin", description = "The movement, for administrators: a JWT with the role admin, and nothing else."),
        (name = "health", description = "Whether the service is fit to serve."),
        (name = "about", description = "The service itself."),
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

/// The route that shows the document, which never changes while the service runs.
pub(super) fn router(mut document: OpenApi, sections: &[Section]) -> Router<HttpState> {
    for (path, item) in &mut document.paths.paths {
        for (operation, changes) in operations(item) {
            parameters::describe(operation, changes, sections);
            may_be_left_out(operation);
            add_headers(operation, path.starts_with("/v1/"));
        }
    }
    let text: Arc<str> = written(&document).unwrap_or_default().into();
    Router::new().route("/openapi.json", get(show).layer(Extension(text)))
}

/// The document with the schemas that no type of this crate has.
fn written(document: &OpenApi) -> serde_json::Result<String> {
    let mut document = serde_json::to_value(document)?;
    let schemas: Map<String, Value> = serde_json::from_str(include_str!("openapi/schemas.json"))?;
    if let Some(Value::Object(known)) = document.pointer_mut("/components/schemas") {
        known.extend(schemas);
    }
    serde_json::to_string(&document)
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
    let mut answer = answer::bytes(StatusCode::OK, media_type, text.to_string());
    let revalidated = HeaderValue::from_static("no-cache");
    answer.headers_mut().insert(CACHE_CONTROL, revalidated);
    answer
}

/// Begins to count what each route may answer.
pub(super) fn expect(document: &mut OpenApi, metrics: &Metrics) {
    for (path, item) in &mut document.paths.paths {
        let callers: &[&str] = if path.starts_with("/v1/user") || path == "/v1/route" {
            &[UserType::Internal.as_str(), UserType::External.as_str()]
        } else if path.starts_with("/v1/") {
            &[UserType::Internal.as_str()]
        } else {
            &[NOBODY]
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

/// The operations, and whether each changes anything.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&mut Operation, bool)> {
    let reads = item.get.iter_mut().map(|operation| (operation, false));
    let changes = [
        &mut item.put,
        &mut item.patch,
        &mut item.post,
        &mut item.delete,
    ];
    let changes = changes.into_iter().flatten();
    reads.chain(changes.map(|operation| (operation, true)))
}

/// Says which bodies can be left out. None is ever `null`.
fn may_be_left_out(operation: &mut Operation) {
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

/// Describes the headers that every answer carries, and those of every answer to a user.
fn add_headers(operation: &mut Operation, of_user: bool) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else {
            continue;
        };
        let mut add = |name: &str, about: &str| {
            response
                .headers
                .insert(name.to_owned(), RefOr::T(header(about)));
        };
        add("X-Request-Id", "names the request; accepted or made");
        if of_user {
            add(
                "RateLimit-Policy",
                "the size of the caller's bucket and the seconds that fill it",
            );
            add(
                "RateLimit",
                "how many requests are left, and the seconds until the bucket is full",
            );
            let about = "\"external; ambiguous\" when a public user was named although credentials came along";
            add("Tierkeep-Decision", about);
        }
    }
}

const OF_IDENTITY: &[Code] = &[
    Code::AmbiguousIdentity,
    Code::CredentialsRequired,
    Code::InvalidUsername,
    Code::RateLimited,
    Code::Internal,
    Code::IdentityUnavailable,
];
const OF_READS: &[Code] = &[
    Code::Malformed,
    Code::UserNotFound,
    Code::Conflict,
    Code::VersionMismatch,
    Code::CorruptDocument,
    Code::DatabaseUnavailable,
];
const OF_SECTIONS: &[Code] = &[Code::SectionNotFound, Code::UnknownSection];
const OF_WRITES: &[Code] = &[
    Code::PublicWritesOff,
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
const OF_ERASURES: &[Code] = &[
    Code::Malformed,
    Code::RoleRequired,
    Code::UserNotFound,
    Code::Conflict,
    Code::VersionMismatch,
    Code::DatabaseUnavailable,
    Code::OutcomeUnknown,
];
const OF_REMOVALS: &[Code] = &[Code::RoleRequired, Code::OutcomeUnknown];
const OF_ADMINS: &[Code] = &[
    Code::RateLimited,
    Code::CredentialsRequired,
    Code::RoleRequired,
    Code::UserNotFound,
    Code::Internal,
    Code::DatabaseUnavailable,
];
const OF_HR: &[Code] = &[
    Code::RateLimited,
    Code::CredentialsRequired,
    Code::RoleRequired,
    Code::UnknownCollection,
    Code::Malformed,
    Code::CorruptDocument,
    Code::Internal,
    Code::DatabaseUnavailable,
];
const OF_HR_RECORDS: &[Code] = &[
    Code::RecordNotFound,
    Code::VersionMismatch,
    Code::InvalidContent,
];
const OF_HR_CHANGES: &[Code] = &[Code::Conflict, Code::OutcomeUnknown];
const OF_HR_BODIES: &[Code] = &[
    Code::VersionMismatch,
    Code::InvalidContent,
    Code::RequestTimeout,
    Code::TooLarge,
    Code::UnsupportedMediaType,
];
const OF_DATABASES: &[Code] = &[Code::UnknownDatabase];
const OF_ADMIN_LISTS: &[Code] = &[Code::Malformed];
const OF_ADMIN_WRITES: &[Code] = &[
    Code::Malformed,
    Code::RequestTimeout,
    Code::MoverPaused,
    Code::TooLarge,
    Code::UnsupportedMediaType,
    Code::InvalidContent,
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
    /// The refusals of reading a document.
    ReadRefusals(OF_IDENTITY, OF_READS);
    /// The refusals of reading a section.
    SectionRefusals(OF_IDENTITY, OF_READS, OF_SECTIONS);
    /// The refusals of writing a section.
    WriteRefusals(OF_IDENTITY, OF_WRITES);
    /// The refusals of removing a section.
    RemoveRefusals(OF_IDENTITY, OF_READS, OF_SECTIONS, OF_REMOVALS);
    /// The refusals of erasing a user.
    EraseRefusals(OF_IDENTITY, OF_ERASURES);
    /// The refusals of listing HR records.
    HrListRefusals(OF_HR);
    /// The refusals of reading an HR record.
    HrReadRefusals(OF_HR, OF_HR_RECORDS);
    /// The refusals of writing an HR record.
    HrWriteRefusals(OF_HR, OF_HR_BODIES, OF_HR_CHANGES);
    /// The refusals of removing an HR record.
    HrRemoveRefusals(OF_HR, OF_HR_RECORDS, OF_HR_CHANGES);
    /// The refusals of every route for administrators.
    AdminRefusals(OF_ADMINS);
    /// The refusal of a database that does not exist.
    UnknownDatabase(OF_DATABASES);
    /// The refusals of lists for administrators.
    AdminListRefusals(OF_ADMINS, OF_ADMIN_LISTS);
    /// The refusals of what administrators change.
    AdminWriteRefusals(OF_ADMINS, OF_ADMIN_WRITES);
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
        .content("application/problem+json", content);
    let any = |holds: fn(&Code) -> bool| codes.iter().any(holds);
    if any(|code| code.retry_after_seconds().is_some() || *code == Code::RateLimited) {
        response = response.header("Retry-After", header("seconds"));
    }
    if any(|code| *code == Code::CredentialsRequired) {
        response = response.header("WWW-Authenticate", header("Bearer"));
    }
    if any(|code| *code == Code::VersionMismatch) {
        let about = "the quoted version that counts now, where it is known";
        response = response.header("ETag", header(about));
    }
    response.build()
}

fn header(about: &str) -> Header {
    let mut header = Header::default();
    header.description = Some(about.to_owned());
    header
}
