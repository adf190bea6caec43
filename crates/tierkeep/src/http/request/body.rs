//! Bodies: owns the checks before a body is read, and reading it.
//!
//! Must never hold more of a body than its limit, or wait for one without a deadline.

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tierkeep_core::bson::Document;
use tierkeep_core::content;
use tierkeep_core::user::UserType;

use super::fields;
use crate::http::limits::Limits;
use crate::http::response::offload;
use crate::http::response::problem::causes::BodyError;

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// The largest buffer that a Content-Length alone is believed for.
const BELIEVED_BYTES: usize = 64 * 1024;

/// The format of a request body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum BodyFormat {
    /// A JSON object: `application/json`.
    Json,
    /// A JSON Merge Patch: `application/merge-patch+json` or `application/json`.
    MergePatch,
}

impl BodyFormat {
    fn takes(self, media_type: &str) -> bool {
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        match self {
            Self::Json => is(JSON),
            Self::MergePatch => is(JSON) || is(MERGE_PATCH),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Json => "application/json in UTF-8, without a content encoding",
            Self::MergePatch => {
                "application/merge-patch+json or application/json in UTF-8, without a content encoding"
            }
        }
    }
}

/// The JSON object in the body of a request by this type of user.
///
/// # Errors
/// Checked in this order: [`BodyError::MediaType`], [`BodyError::TooLarge`],
/// [`BodyError::Timeout`], [`BodyError::Invalid`].
pub(in crate::http) async fn object(
    request: Request,
    format: BodyFormat,
    limits: &Limits,
    user_type: UserType,
) -> Result<Document, BodyError> {
    check_type(request.headers(), format)?;
    let limit_bytes = limits.max_body_bytes(user_type);
    let announced = announced_bytes(request.headers());
    if announced.is_some_and(|bytes| bytes > limit_bytes as u64) {
        return Err(BodyError::TooLarge { limit_bytes });
    }
    let reading = collect(request.into_body(), limit_bytes, announced);
    let body = tokio::time::timeout(limits.body_timeout, reading)
        .await
        .map_err(|_| BodyError::Timeout)??;
    let parsed = offload::run(body.len(), move || content::parse(&body));
    Ok(parsed.await??)
}

/// The JSON object in the body of an administrator's request, read into its type; an empty object where there is no body.
///
/// # Errors
/// As of [`object`]; [`BodyError::Invalid`] also for unknown fields and for values that a field does not take.
pub(in crate::http) async fn optional<T: DeserializeOwned>(
    request: Request,
    limits: &Limits,
) -> Result<T, BodyError> {
    let document = if request.body().is_end_stream() {
        Document::new()
    } else {
        object(request, BodyFormat::Json, limits, UserType::Internal).await?
    };
    Ok(fields::read(&document)?)
}

fn check_type(headers: &HeaderMap, format: BodyFormat) -> Result<(), BodyError> {
    let refused = BodyError::MediaType(format.expected());
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return Err(refused);
    };
    let fits = only.to_str().is_ok_and(|text| fits(text, format));
    let plain = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if fits && plain { Ok(()) } else { Err(refused) }
}

fn fits(content_type: &str, format: BodyFormat) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let named = parts.next().is_some_and(|essence| format.takes(essence));
    let utf8 = parts
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .all(|(_, charset)| {
            let charset = charset.trim().trim_matches('"');
            charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
        });
    named && utf8
}

fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn collect(
    body: Body,
    limit_bytes: usize,
    announced: Option<u64>,
) -> Result<Bytes, BodyError> {
    let believed = announced
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or_default();
    let mut collected = Vec::with_capacity(believed.min(BELIEVED_BYTES));
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| BodyError::BrokenOff)?;
        if chunk.len() > limit_bytes - collected.len() {
            return Err(BodyError::TooLarge { limit_bytes });
        }
        collected.extend_from_slice(&chunk);
    }
    Ok(collected.into())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("application/json", true, true)]
    #[case("APPLICATION/JSON; Charset=\"UTF-8\"", true, true)]
    #[case("application/json;charset=utf-8; x=y", true, true)]
    #[case("application/json; charset=iso-8859-1", false, false)]
    #[case("application/merge-patch+json", false, true)]
    #[case("application/json-patch+json", false, false)]
    #[case("application/jsonp", false, false)]
    #[case("text/json", false, false)]
    #[case("", false, false)]
    fn a_body_is_json_in_utf8(
        #[case] content_type: &str,
        #[case] section: bool,
        #[case] patch: bool,
    ) {
        assert_eq!(fits(content_type, BodyFormat::Json), section);
        assert_eq!(fits(content_type, BodyFormat::MergePatch), patch);
    }
}
