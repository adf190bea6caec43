//! Bodies: owns the checks before a body is read, and reading it.
//!
//! Must never hold more of a body than its limit or than was reserved for it, or wait for one without a deadline.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tierkeep_core::bson::Document;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::content::{self, InvalidBody};
use tierkeep_core::user::{UserId, UserType};
use tokio::time::{Instant, timeout_at};

use super::fields;
use crate::http::limits::budget::{Holder, Reservation};
use crate::http::limits::memory::BodyMemory;
use crate::http::response::offload;
use crate::http::response::problem::causes::BodyError;
use crate::http::state::HttpState;

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// The most bytes of a body that says what an administrator wants.
const COMMAND_BYTES: usize = 256 * 1024;
/// How slowly a body may arrive, after a while that is always granted.
const SLOWEST_BYTES_A_SECOND: u32 = 8 * 1024;
const SLOW_START: Duration = Duration::from_secs(10);

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

/// A body that has arrived, and the memory that it holds.
#[derive(Debug)]
pub(in crate::http) struct ReceivedBody {
    bytes: Vec<u8>,
    holder: Holder,
    held: Reservation,
}

/// The object in a body, in the form in which it is stored, and the memory that it takes to write it.
#[derive(Debug)]
pub(in crate::http) struct ParsedBody {
    /// The object.
    pub(in crate::http) document: RawDocumentBuf,
    /// To be kept until the answer is out.
    pub(in crate::http) held: Reservation,
}

/// Receives the body of a request of `holder`, whose memory is reserved before any of it is read.
///
/// # Errors
/// Checked in this order: [`BodyError::MediaType`], [`BodyError::ContentRange`], [`BodyError::TooLarge`],
/// [`BodyError::NoMemory`], [`BodyError::Timeout`].
pub(in crate::http) async fn receive(
    request: Request,
    format: BodyFormat,
    state: &HttpState,
    holder: Holder,
) -> Result<ReceivedBody, BodyError> {
    let limit_bytes = state.limits.max_body_bytes(holder.user_type);
    at_most(limit_bytes, request, format, (state, holder)).await
}

async fn at_most(
    limit_bytes: usize,
    request: Request,
    format: BodyFormat,
    (state, holder): (&HttpState, Holder),
) -> Result<ReceivedBody, BodyError> {
    check_type(request.headers(), format)?;
    if request.headers().contains_key(CONTENT_RANGE) {
        return Err(BodyError::ContentRange);
    }
    let announced = announced_bytes(request.headers());
    if announced.is_some_and(|bytes| bytes > limit_bytes as u64) {
        return Err(BodyError::TooLarge { limit_bytes });
    }
    let announced = announced.and_then(|bytes| usize::try_from(bytes).ok());
    let reserved = announced.unwrap_or(limit_bytes);
    let held = state.memory.receive(holder, reserved).await?;
    let most = Most {
        bytes: limit_bytes,
        time: state.limits.body_timeout,
    };
    let bytes = collect(request.into_body(), most, announced.unwrap_or(0)).await?;
    Ok(ReceivedBody {
        bytes,
        holder,
        held,
    })
}

impl ReceivedBody {
    /// The JSON object in the body; `user` is whose document it is written to.
    ///
    /// # Errors
    /// [`BodyError::NoMemory`], [`BodyError::Invalid`].
    pub(in crate::http) async fn parse(
        self,
        memory: &BodyMemory,
        user: Option<&UserId>,
    ) -> Result<ParsedBody, BodyError> {
        let Self {
            bytes,
            holder,
            held: received,
        } = self;
        let held = memory.write(holder, user, &bytes).await?;
        // A thread that parses goes on when its request has ended, and the memory stays reserved as long.
        let parsed = offload::run(bytes.len(), move || {
            let document = content::parse(&bytes);
            drop((bytes, received));
            document.map(|document| (document, held))
        });
        let (document, mut held) = parsed.await??;
        memory.parsed(&mut held, user, document.as_bytes().len());
        Ok(ParsedBody { document, held })
    }
}

/// The JSON object in the body of an administrator's request, read into its type; an empty object where there is no body.
///
/// # Errors
/// As of [`receive`] and [`ReceivedBody::parse`]; [`BodyError::Invalid`] also for unknown fields and for values that a field
/// does not take.
pub(in crate::http) async fn optional<T: DeserializeOwned>(
    request: Request,
    state: &HttpState,
) -> Result<T, BodyError> {
    if request.body().is_end_stream() {
        return Ok(fields::read(&Document::new())?);
    }
    let address = state
        .traffic
        .address(request.extensions(), request.headers());
    let holder = state.traffic.holder(UserType::Internal, address);
    let limit_bytes = state.limits.max_body_internal_bytes.min(COMMAND_BYTES);
    let received = at_most(limit_bytes, request, BodyFormat::Json, (state, holder)).await?;
    let parsed = received.parse(&state.memory, None).await?;
    let document = Document::try_from(&*parsed.document)
        .map_err(|_| InvalidBody::Content("the body cannot be read".into()))?;
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

/// What a body may have at most.
struct Most {
    bytes: usize,
    time: Duration,
}

async fn collect(body: Body, most: Most, announced: usize) -> Result<Vec<u8>, BodyError> {
    let limit_bytes = most.bytes;
    let began = Instant::now();
    let mut collected = Vec::with_capacity(announced);
    let mut chunks = body.into_data_stream();
    loop {
        let time = most.time.min(time_for(collected.len()));
        let Ok(chunk) = timeout_at(began + time, chunks.next()).await else {
            return Err(BodyError::Timeout);
        };
        let Some(chunk) = chunk else {
            return Ok(collected);
        };
        let chunk = chunk.map_err(|_| BodyError::BrokenOff)?;
        if chunk.len() > limit_bytes - collected.len() {
            return Err(BodyError::TooLarge { limit_bytes });
        }
        collected.extend_from_slice(&chunk);
    }
}

/// Until when, after its begin, more than this must have arrived.
fn time_for(bytes: usize) -> Duration {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    SLOW_START + Duration::from_secs(1) * bytes / SLOWEST_BYTES_A_SECOND
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
