//! The claims of a payload whose signature holds: owns what they must say. Must never be given a
//! payload before its signature was checked.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tierkeep_core::bson::DateTime;
use tierkeep_core::clock::shifted;
use tierkeep_core::user::UserId;

use super::{JwtRefused, LEEWAY_SECONDS, RoleClaim, VerifiedJwt};

const MILLIS: i64 = 1000;
const ACCESS: &str = "access";

/// The claims that are read, of whatever type they came. A repeated one is an error of the parser.
#[derive(Deserialize)]
pub(super) struct Claims {
    #[serde(rename = "type")]
    kind: Option<Value>,
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iat: Option<Value>,
    iss: Option<Value>,
    aud: Option<Value>,
    github_login: Option<Value>,
    github_id: Option<Value>,
    #[serde(default, deserialize_with = "even_null")]
    role: Option<Value>,
    user_type: Option<Value>,
}

/// A claim that is there counts as there, also when it is `null`.
fn even_null<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// What the claims say, if they hold at `now` for this issuer and audience.
pub(super) fn read(
    claims: &Claims,
    issuer: Option<&str>,
    audience: Option<&str>,
    now: DateTime,
) -> Result<VerifiedJwt, JwtRefused> {
    let expires_at = date(claims.exp.as_ref())?.ok_or(JwtRefused::ExpiryMissing)?;
    if expires_at <= now {
        return Err(JwtRefused::Expired);
    }
    let latest = shifted(now, LEEWAY_SECONDS * MILLIS);
    if date(claims.nbf.as_ref())?.is_some_and(|nbf| nbf > latest) {
        return Err(JwtRefused::NotYetValid);
    }
    let issued_at = date(claims.iat.as_ref())?;
    if issued_at.is_some_and(|iat| iat > latest) {
        return Err(JwtRefused::IssuedInFuture);
    }
    if text(claims.kind.as_ref()) != Some(ACCESS) {
        return Err(JwtRefused::Type);
    }
    if issuer.is_some() && text(claims.iss.as_ref()) != issuer {
        return Err(JwtRefused::Issuer);
    }
    if audience.is_some_and(|wanted| !names(claims.aud.as_ref(), wanted)) {
        return Err(JwtRefused::Audience);
    }
    let subject = text(claims.sub.as_ref()).ok_or(JwtRefused::Subject)?;
    Ok(VerifiedJwt {
        user: UserId::internal(subject).map_err(|_| JwtRefused::Subject)?,
        subject: subject.to_ascii_lowercase(),
        github_login: login(claims.github_login.as_ref())?,
        github_id: account(claims.github_id.as_ref())?,
        role: role(claims),
        issued_at,
        expires_at,
    })
}

fn text(claim: Option<&Value>) -> Option<&str> {
    claim.and_then(Value::as_str)
}

/// The seconds around 1970 in which a float still tells milliseconds apart.
const FLOAT_SECONDS: f64 = 8e12;

/// A time claim: seconds since 1970 in UTC, fractions allowed (RFC 7519, section 2, `NumericDate`), within
/// what a date can express.
fn date(claim: Option<&Value>) -> Result<Option<DateTime>, JwtRefused> {
    let Some(claim) = claim else { return Ok(None) };
    let millis = match (claim.as_i64(), claim.as_f64()) {
        (Some(seconds), _) => seconds.checked_mul(MILLIS),
        (None, Some(seconds)) if seconds.abs() < FLOAT_SECONDS => Some(floor_millis(seconds)),
        (None, _) => None,
    };
    millis
        .map(|millis| Some(DateTime::from_millis(millis)))
        .ok_or(JwtRefused::TimeMalformed)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the seconds were held within range"
)]
fn floor_millis(seconds: f64) -> i64 {
    (seconds * 1000.0).floor() as i64
}

/// Whether `aud` is this text or a list with it (RFC 7519, section 4.1.3).
fn names(aud: Option<&Value>, wanted: &str) -> bool {
    match aud {
        Some(Value::String(one)) => one == wanted,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(wanted)),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    }
}

fn login(claim: Option<&Value>) -> Result<Option<String>, JwtRefused> {
    match claim {
        None => Ok(None),
        Some(claim) => claim
            .as_str()
            .map(|login| Some(login.to_owned()))
            .ok_or(JwtRefused::GithubLogin),
    }
}

fn account(claim: Option<&Value>) -> Result<Option<u64>, JwtRefused> {
    let Some(claim) = claim else { return Ok(None) };
    let id = match claim.as_str() {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        Some(_) => None,
        None => claim.as_u64(),
    };
    id.map(Some).ok_or(JwtRefused::GithubId)
}

/// The role in `role`; only where there is no such claim, the role in `user_type`.
fn role(claims: &Claims) -> Option<RoleClaim> {
    text(claims.role.as_ref().or(claims.user_type.as_ref())).and_then(RoleClaim::parse)
}
