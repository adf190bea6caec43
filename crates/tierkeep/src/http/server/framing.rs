//! Heads of requests: owns what is wrong with one by RFC 9112 and RFC 9110 that the library below lets through.
//!
//! A request that two programs on its way read differently is refused: what one takes for a body may be a request to the other.

use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode, Version};
use axum::response::{IntoResponse as _, Response};

use crate::http::response::answer;
use crate::http::response::problem::Problem;

/// The most bytes of a request's head, its URL among them. Beyond: 431.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

/// What is wrong with the head of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HeadFault {
    /// It cannot be read in one way alone.
    Malformed(&'static str),
    /// It is too large.
    TooLarge,
}

/// What is wrong with this head, if anything is.
pub(super) fn fault<B>(request: &Request<B>) -> Option<HeadFault> {
    let headers = request.headers();
    if bytes(request) > HEAD_BYTES {
        return Some(HeadFault::TooLarge);
    }
    let is_old = request.version() <= Version::HTTP_10;
    host(headers, is_old)
        .or_else(|| coding(headers, is_old))
        .map(HeadFault::Malformed)
}

fn bytes<B>(request: &Request<B>) -> usize {
    /// The method, the version and the ends of the first and the last line.
    const FIRST_LINE: usize = 24;
    /// A colon, a space and the end of a line.
    const LINE: usize = 4;
    let path = request.uri().path_and_query();
    let path = path.map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter();
    let lines = headers.map(|(name, value)| name.as_str().len() + value.len() + LINE);
    FIRST_LINE + path + lines.sum::<usize>()
}

/// RFC 9112, section 3.2.
fn host(headers: &HeaderMap, is_old: bool) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if is_old => None,
        (None, _) => Some("HTTP/1.1 requires a Host header"),
        (Some(_), Some(_)) => Some("the request has more than one Host header"),
        (Some(only), None) if is_host(only) => None,
        (Some(_), None) => Some("the Host header is not a valid host"),
    }
}

/// A host and a port (RFC 3986, section 3.2), or nothing, as for a URL without one.
fn is_host(value: &HeaderValue) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    value.as_bytes().iter().all(is_part)
}

/// RFC 9112, sections 6.1 and 6.3.
fn coding(headers: &HeaderMap, is_old: bool) -> Option<&'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next()?;
    if is_old {
        return Some("HTTP/1.0 does not support Transfer-Encoding");
    }
    if codings.next().is_some() || !first.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Some("the only supported Transfer-Encoding is chunked, once");
    }
    let has_length = headers.contains_key(CONTENT_LENGTH);
    has_length.then_some("send either Content-Length or Transfer-Encoding, not both")
}

/// The refusal of a request whose head was found at fault, which ends its connection.
pub(super) fn refusal(request: &Request) -> Option<Response> {
    let mut refused = match request.extensions().get::<HeadFault>()? {
        HeadFault::Malformed(why) => Problem::Malformed(why).into_response(),
        HeadFault::TooLarge => answer::empty(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    };
    let close = HeaderValue::from_static("close");
    refused.headers_mut().insert(CONNECTION, close);
    Some(refused)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Version::HTTP_11, &[("host", "x")], None)]
    #[case(Version::HTTP_11, &[("host", "[2001:db8::1]:8080")], None)]
    #[case(Version::HTTP_11, &[("host", "")], None)]
    #[case(Version::HTTP_11, &[], Some("Host"))]
    #[case(Version::HTTP_11, &[("host", "x"), ("host", "x")], Some("Host"))]
    #[case(Version::HTTP_11, &[("host", "x/y")], Some("Host"))]
    #[case(Version::HTTP_11, &[("host", "x y")], Some("Host"))]
    #[case(Version::HTTP_11, &[("host", "user@x")], Some("Host"))]
    #[case(Version::HTTP_10, &[], None)]
    #[case(Version::HTTP_11, &[("host", "x"), ("transfer-encoding", "Chunked")], None)]
    #[case(Version::HTTP_11, &[("host", "x"), ("transfer-encoding", "gzip, chunked")], Some("chunked"))]
    #[case(Version::HTTP_11, &[("host", "x"), ("transfer-encoding", "chunked, chunked")], Some("chunked"))]
    #[case(Version::HTTP_11, &[("host", "x"), ("transfer-encoding", "identity")], Some("chunked"))]
    #[case(
        Version::HTTP_11,
        &[("host", "x"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        Some("chunked")
    )]
    #[case(Version::HTTP_10, &[("transfer-encoding", "chunked")], Some("HTTP/1.0"))]
    #[case(
        Version::HTTP_11,
        &[("host", "x"), ("transfer-encoding", "chunked"), ("content-length", "3")],
        Some("not both")
    )]
    fn a_head_is_read_in_one_way_or_refused(
        #[case] version: Version,
        #[case] headers: &[(&str, &str)],
        #[case] named: Option<&str>,
    ) {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let fault = fault(&request.body(()).unwrap());
        match (fault, named) {
            (None, None) => {}
            (Some(HeadFault::Malformed(why)), Some(named)) => assert!(why.contains(named), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_head_ends_at_its_size() {
        let of = |bytes: usize| {
            let request = Request::builder().header("host", "x");
            fault(&request.header("a", "b".repeat(bytes)).body(()).unwrap())
        };
        assert_eq!(of(HEAD_BYTES - 100), None);
        assert_eq!(of(HEAD_BYTES), Some(HeadFault::TooLarge));
    }
}
