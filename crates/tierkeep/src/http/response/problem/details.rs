//! How a refusal is sent: owns its JSON (RFC 9457) and its headers.

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::http::header::{ETAG, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tierkeep_engine::{HrError, UsersError};
use utoipa::ToSchema;

use super::Problem;
use crate::http::response::answer;

/// An error: problem details (RFC 9457).
#[derive(Serialize, ToSchema, Debug)]
#[schema(as = Problem)]
pub(in crate::http) struct ProblemDetails<'a> {
    /// The page about the code.
    #[serde(rename = "type")]
    #[schema(format = "uri")]
    kind: String,
    /// What the code means.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// The reason for this error.
    detail: Cow<'a, str>,
    /// The stable name.
    code: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = self.code();
        let details = ProblemDetails {
            kind: code.page(),
            title: code.title(),
            status: code.status().as_u16(),
            detail: self.detail().into(),
            code: code.as_str(),
        };
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let media_type = HeaderValue::from_static("application/problem+json");
        let mut answer = answer::bytes(code.status(), media_type, body);
        if let Some(seconds) = code.retry_after_seconds() {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if let Some(seconds) = self.own_wait_seconds() {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if code.status() == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        if let Self::Users(UsersError::Mismatch {
            current: Some(version),
        })
        | Self::Hr(HrError::Mismatch {
            current: Some(version),
        }) = self
            && let Ok(tag) = HeaderValue::try_from(format!("\"{version}\""))
        {
            answer.headers_mut().insert(ETAG, tag);
        }
        answer
    }
}
