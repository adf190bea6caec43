//! The request context: owns what becomes known about a request between its arrival and its log line.
//!
//! Must never hold a token, a query or a body.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::HeaderMap;
use axum::http::header::HeaderValue;
use tierkeep_core::user::{UserId, UserType};
use uuid::Uuid;

use crate::http::limits::bucket::Allowance;
use crate::http::response::answer::REQUEST_ID;

/// The longest request id that is accepted.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// What is known about one request. The layers create it and log it; the extractors fill it.
#[derive(Debug)]
pub(in crate::http) struct RequestContext {
    request_id: HeaderValue,
    subject: OnceLock<Subject>,
    allowance: OnceLock<Allowance>,
    repeated: AtomicBool,
}

/// The user that a request is served or refused for.
#[derive(Clone, Debug)]
pub(in crate::http) struct Subject {
    /// The user type, for the marker of log lines.
    pub(in crate::http) user_type: UserType,
    /// The user, where there is one to address.
    pub(in crate::http) user: Option<UserId>,
    /// The request names a public user and also carries credentials.
    pub(in crate::http) ambiguous: bool,
}

impl RequestContext {
    /// A context for a request with these headers. Its id is the caller's own where that is valid, else a new one.
    pub(in crate::http) fn begin(headers: &HeaderMap) -> Self {
        Self {
            request_id: accepted(headers).unwrap_or_else(made),
            subject: OnceLock::new(),
            allowance: OnceLock::new(),
            repeated: AtomicBool::new(false),
        }
    }

    /// Notes the subject; the first one stays.
    pub(in crate::http) fn note(&self, subject: Subject) {
        self.subject.get_or_init(|| subject);
    }

    /// The subject, once an extractor has noted it.
    pub(in crate::http) fn subject(&self) -> Option<&Subject> {
        self.subject.get()
    }

    /// Notes what is left of the caller's bucket; the first note stays.
    pub(in crate::http) fn allow(&self, allowance: Allowance) {
        self.allowance.get_or_init(|| allowance);
    }

    /// What is left of the caller's bucket, once the request was counted.
    pub(in crate::http) fn allowance(&self) -> Option<&Allowance> {
        self.allowance.get()
    }

    /// Notes that the request was refused like others of its address before: a line about those speaks for it.
    pub(in crate::http) fn repeats(&self) {
        self.repeated.store(true, Ordering::Relaxed);
    }

    /// Whether a line about others speaks for this request.
    pub(in crate::http) fn is_repeated(&self) -> bool {
        self.repeated.load(Ordering::Relaxed)
    }

    /// The id as a header.
    pub(in crate::http) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// The id as a text.
    pub(in crate::http) fn request_id_text(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }
}

/// The caller's own id: one header of 1 to 128 visible ASCII characters.
fn accepted(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut all = headers.get_all(REQUEST_ID).iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return None;
    };
    let fits = (1..=MAX_REQUEST_ID_BYTES).contains(&only.len());
    let visible = only.as_bytes().iter().all(u8::is_ascii_graphic);
    (fits && visible).then(|| only.clone())
}

fn made() -> HeaderValue {
    let id = Uuid::now_v7().hyphenated().to_string();
    HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn id_for(sent: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for value in sent {
            headers.append(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        }
        RequestContext::begin(&headers).request_id_text().to_owned()
    }

    #[test]
    fn a_fit_request_id_is_kept() {
        assert_eq!(id_for(&[b"a-1/{}~"]), "a-1/{}~");
        assert_eq!(id_for(&[&[b'x'; 128]]), "x".repeat(128));
    }

    #[rstest]
    #[case(&[])]
    #[case(&[b"" as &[u8]])]
    #[case(&[b"a b" as &[u8]])]
    #[case(&[b"a\tb" as &[u8]])]
    #[case(&["caf\u{e9}".as_bytes()])]
    #[case(&[&[b'x'; 129] as &[u8]])]
    #[case(&[b"one" as &[u8], b"two"])]
    fn any_other_request_id_is_replaced(#[case] sent: &[&[u8]]) {
        let id: Uuid = id_for(sent).parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
    }
}
