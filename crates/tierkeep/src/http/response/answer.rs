//! Answers of success: owns their headers and how JSON is written.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use axum::http::{Response, StatusCode};
use futures_util::stream;
use serde::Serialize;
use tierkeep_core::content::{Inexact, Shown};
use tierkeep_core::db::Role;
use tierkeep_core::version::Version;
use tokio::time::Instant;

use crate::http::response::problem::causes::InternalError;

/// Names the request, in both directions.
pub(in crate::http) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Says that the answer comes from the backup.
const SOURCE: HeaderName = HeaderName::from_static("tierkeep-source");
/// Names what of the answer would not be stored as it was if it were put back.
const INEXACT: HeaderName = HeaderName::from_static("tierkeep-inexact");

/// The media type of nearly every answer.
pub(in crate::http) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// This value as JSON, with this status.
pub(in crate::http) fn json(
    status: StatusCode,
    value: &impl Serialize,
) -> Result<Response<Body>, InternalError> {
    let body = serde_json::to_vec(value).map_err(|_| InternalError)?;
    Ok(bytes(status, JSON, body))
}

/// What is stored as JSON, with this status, and with the header that names what of it is not exact, where anything is. It is
/// written while it is sent; `held` is dropped after that.
pub(in crate::http) fn shown(
    status: StatusCode,
    mut shown: Shown<'static>,
    held: impl Send + 'static,
) -> Response<Body> {
    let inexact = std::mem::take(&mut shown.inexact);
    let length = shown.length_bytes();
    marked(sent_in(status, shown.into_pieces(), length, held), &inexact)
}

/// This JSON, with this status; `held` is dropped after it was sent.
pub(in crate::http) fn text(
    status: StatusCode,
    text: Vec<u8>,
    held: impl Send + 'static,
) -> Response<Body> {
    const PIECE_BYTES: usize = 64 * 1024;
    let mut rest = Bytes::from(text);
    let length = rest.len();
    let pieces = std::iter::from_fn(move || {
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        (!piece.is_empty()).then_some(piece)
    });
    sent_in(status, pieces, length, held)
}

/// The answer that is sent in these pieces, together so long, to a caller who takes them in time.
fn sent_in<P: Into<Bytes>>(
    status: StatusCode,
    pieces: impl Iterator<Item = P> + Send + 'static,
    length: usize,
    held: impl Send + 'static,
) -> Response<Body> {
    let began = Instant::now();
    let mut sent = 0;
    let pieces = pieces.map(move |piece| {
        let piece: Bytes = piece.into();
        let _held = &held;
        if began.elapsed() > time_for(sent) {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        sent += piece.len();
        Ok(piece)
    });
    let mut answer = bytes(status, JSON, Body::from_stream(stream::iter(pieces)));
    answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    answer
}

/// Until when, after its begin, more of an answer than this must have been taken.
fn time_for(bytes: usize) -> Duration {
    const SLOW_START: Duration = Duration::from_secs(30);
    const SLOWEST_BYTES_A_SECOND: u32 = 32 * 1024;
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    SLOW_START + Duration::from_secs(1) * bytes / SLOWEST_BYTES_A_SECOND
}

/// The answer with the header that names what of it is not exact, where anything is.
pub(in crate::http) fn marked(mut answer: Response<Body>, inexact: &Inexact) -> Response<Body> {
    if !inexact.is_empty()
        && let Ok(named) = HeaderValue::try_from(inexact.to_string())
    {
        answer.headers_mut().insert(INEXACT, named);
    }
    answer
}

/// These bytes, with this status and media type.
pub(in crate::http) fn bytes(
    status: StatusCode,
    media_type: HeaderValue,
    body: impl Into<Body>,
) -> Response<Body> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}

/// The status of a write: 201 where it created something.
pub(in crate::http) fn created_or_ok(created: bool) -> StatusCode {
    if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    }
}

/// The answer with the headers that say which document it is from.
pub(in crate::http) fn from_document(
    answer: Response<Body>,
    version: Option<Version>,
    source: Role,
) -> Response<Body> {
    from_source(tagged(answer, version), source)
}

/// The answer with the header that says that it comes from a backup, where it does.
pub(in crate::http) fn from_source(mut answer: Response<Body>, source: Role) -> Response<Body> {
    if [Role::SrieMainUser, Role::SrieMainHr].contains(&source) {
        let backup = HeaderValue::from_static(source.name());
        answer.headers_mut().insert(SOURCE, backup);
    }
    answer
}

/// 304: the caller's copy is current.
pub(in crate::http) fn not_modified() -> Response<Body> {
    empty(StatusCode::NOT_MODIFIED)
}

/// An answer that says all with its status.
pub(in crate::http) fn empty(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// The answer with the version as its ETag, where there is one.
pub(in crate::http) fn tagged(
    mut answer: Response<Body>,
    version: Option<Version>,
) -> Response<Body> {
    if let Some(tag) = version.and_then(|v| HeaderValue::try_from(format!("\"{v}\"")).ok()) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_held_for_a_text_is_held_until_its_last_piece_was_taken() {
        let held = Arc::new(());
        let whole = vec![b'x'; 200_000];
        let answer = text(StatusCode::OK, whole.clone(), Arc::clone(&held));
        assert_eq!(answer.headers()[CONTENT_LENGTH], "200000");
        let mut pieces = answer.into_body().into_data_stream();
        let mut taken = Vec::new();
        while let Some(piece) = pieces.next().await {
            assert_eq!(Arc::strong_count(&held), 2);
            taken.extend_from_slice(&piece.unwrap());
        }
        drop(pieces);
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(taken, whole);
    }
}
