//! Answers of success: owns their headers and how JSON is written.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use axum::http::{Response, StatusCode};
use serde::Serialize;
use tierkeep_core::content::{Inexact, Shown, rfc3339};
use tierkeep_core::db::Role;
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_engine::{Found, Receipt};
use utoipa::ToSchema;

use super::problem::Problem;

/// Names the request, in both directions.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Says that the answer comes from the backup.
const SOURCE: HeaderName = HeaderName::from_static("tierkeep-source");
/// Names what of the answer would not be stored as it was if it were put back.
const INEXACT: HeaderName = HeaderName::from_static("tierkeep-inexact");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a write answers.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct Changed<'a> {
    /// The user's id, with its prefix.
    user_id: &'a str,
    /// The document's version after the write; the same as the ETag.
    version: i64,
    /// The database that holds the document.
    database: &'static str,
    /// When the content changed, RFC 3339.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// This value as JSON, with this status.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Result<Response<Body>, Problem> {
    let body = serde_json::to_vec(value).map_err(|_| Problem::Internal)?;
    Ok(bytes(status, JSON, body))
}

/// What is stored as JSON, with this status, and with the header that names what of it is not exact, where anything is.
pub(super) fn shown(status: StatusCode, shown: &Shown) -> Result<Response<Body>, Problem> {
    Ok(marked(json(status, &shown.value)?, &shown.inexact))
}

/// The answer with the header that names what of it is not exact, where anything is.
pub(super) fn marked(mut answer: Response<Body>, inexact: &Inexact) -> Response<Body> {
    if !inexact.is_empty()
        && let Ok(named) = HeaderValue::try_from(inexact.to_string())
    {
        answer.headers_mut().insert(INEXACT, named);
    }
    answer
}

/// These bytes, with this status and media type.
pub(super) fn bytes(
    status: StatusCode,
    media_type: HeaderValue,
    body: impl Into<Body>,
) -> Response<Body> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}

/// What a write did: 201 where the user is new.
pub(super) fn changed(user: &UserId, receipt: &Receipt) -> Result<Response<Body>, Problem> {
    let status = if receipt.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let changed = Changed {
        user_id: user.as_str(),
        version: receipt.version.get(),
        database: receipt.database.name(),
        updated_at: rfc3339(receipt.updated_at),
    };
    Ok(tagged(json(status, &changed)?, Some(receipt.version)))
}

/// The answer with the headers that say which document it is from.
pub(super) fn from_document(answer: Response<Body>, found: &Found) -> Response<Body> {
    from_source(tagged(answer, found.version()), found.source)
}

/// The answer with the header that says that it comes from a backup, where it does.
pub(super) fn from_source(mut answer: Response<Body>, source: Role) -> Response<Body> {
    if [Role::SrieMainUser, Role::SrieMainHr].contains(&source) {
        let backup = HeaderValue::from_static(source.name());
        answer.headers_mut().insert(SOURCE, backup);
    }
    answer
}

/// 304: the caller's copy is still right.
pub(super) fn not_modified() -> Response<Body> {
    empty(StatusCode::NOT_MODIFIED)
}

/// An answer that says all with its status.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// The answer with the version as its ETag, where there is one.
pub(super) fn tagged(mut answer: Response<Body>, version: Option<Version>) -> Response<Body> {
    if let Some(tag) = version.and_then(|v| HeaderValue::try_from(format!("\"{v}\"")).ok()) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}
