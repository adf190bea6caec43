//! Forms: owns how they are read, and that a form of a session carries its token.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Form, FromRequest};
use axum::http::{Request, StatusCode};

use crate::http::response::problem::Problem;

/// The largest form; the largest JWT that is looked at fits in.
pub(super) const MOST_BYTES: usize = 32 * 1024;
/// The longest time that a form takes to arrive.
const LONGEST: Duration = Duration::from_secs(10);
/// The field that carries the token.
const CSRF: &str = "csrf";

/// The fields of a form.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Problem`] where it is too large, or no form.
    pub(super) async fn read(request: Request<Body>) -> Result<Self, Problem> {
        let read = Form::<Vec<(String, String)>>::from_request(request, &());
        let Ok(read) = tokio::time::timeout(LONGEST, read).await else {
            return Err(Problem::BodyTimeout);
        };
        read.map(|Form(fields)| Self(fields))
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::BodyTooLarge {
                    limit_bytes: MOST_BYTES,
                },
                StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                    Problem::UnsupportedMediaType("application/x-www-form-urlencoded")
                }
                _ => Problem::Malformed("the form cannot be read"),
            })
    }

    /// The value of the first field of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let field = self.0.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_str())
    }

    /// Whether the form is one that was given out with this token. None is given out with an empty one.
    pub(super) fn carries(&self, token: &str) -> bool {
        !token.is_empty() && self.get(CSRF).is_some_and(|given| same(given, token))
    }
}

/// Whether two secrets are the same, in a time that says nothing about where they differ.
pub(super) fn same(one: &str, other: &str) -> bool {
    blake3::hash(one.as_bytes()) == blake3::hash(other.as_bytes())
}
