//! Development tokens: owns what the `token` command issues. Must never be reached by a request.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tierkeep_core::clock::{Clock, after};
use tierkeep_core::user::{InvalidUser, UserId};

use super::keys::{CURRENT_SECRET, check_secret};
use super::{JwtKeyError, RoleClaim, install_crypto_provider};

/// Why no development token can be issued.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IssueError {
    /// The secret cannot be used.
    #[error(transparent)]
    Secret(#[from] JwtKeyError),
    /// The subject is not 24 hex digits.
    #[error(transparent)]
    Subject(#[from] InvalidUser),
    /// The token would never be valid: less than a second of life.
    #[error("time to live of {0:?} is less than a second")]
    TimeToLive(Duration),
    /// The JWT library refused.
    #[error("the token could not be signed")]
    Signing,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
}

/// Issues an HS256 access token for `subject`, valid from the clock's time for `ttl`.
///
/// # Errors
/// [`IssueError`] where the secret, the subject or the time to live cannot be used.
pub fn issue_development_token(
    secret: &SecretString,
    subject: &str,
    role: Option<RoleClaim>,
    ttl: Duration,
    clock: &dyn Clock,
) -> Result<SecretString, IssueError> {
    install_crypto_provider();
    check_secret(CURRENT_SECRET, secret)?;
    UserId::internal(subject)?;
    if ttl < Duration::from_secs(1) {
        return Err(IssueError::TimeToLive(ttl));
    }
    let now = clock.now();
    let claims = Claims {
        sub: &subject.to_ascii_lowercase(),
        kind: "access",
        iat: now.timestamp_millis().div_euclid(1000),
        exp: after(now, ttl).timestamp_millis().div_euclid(1000),
        role: role.map(RoleClaim::as_str),
    };
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    let token = encode(&Header::new(Algorithm::HS256), &claims, &key);
    token
        .map(SecretString::from)
        .map_err(|_| IssueError::Signing)
}
