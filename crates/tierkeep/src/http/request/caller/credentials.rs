//! Credentials: owns which parts of a request the User Type Detector gets.
//!
//! Must never read anything but the two credential headers and `username`.

use axum::extract::Query;
use axum::http::header::{AUTHORIZATION, HeaderName};
use axum::http::{HeaderMap, Uri};
use tierkeep_identity::{Credentials, HeaderText};

/// Carries the GitHub token.
pub(in crate::http) const GITHUB_TOKEN: HeaderName = HeaderName::from_static("x-github-token");
const USERNAME: &str = "username";

/// The credentials and public user names of a request.
pub(super) fn credentials(headers: &HeaderMap, uri: &Uri) -> Credentials {
    let all = |name: HeaderName| {
        headers
            .get_all(name)
            .iter()
            .map(|value| HeaderText::from_bytes(value.as_bytes()))
            .collect()
    };
    // A query that cannot be read counts as an invalid name, not as no name.
    let usernames = match Query::<Vec<(String, String)>>::try_from_uri(uri) {
        Ok(Query(pairs)) => pairs
            .into_iter()
            .filter(|(name, _)| name == USERNAME)
            .map(|(_, value)| value)
            .collect(),
        Err(_) => vec![String::new()],
    };
    Credentials {
        authorization: all(AUTHORIZATION),
        github_token: all(GITHUB_TOKEN),
        usernames,
    }
}
