//! Why a token is not believed: owns the reasons and their texts, which hold nothing of a token.

use std::fmt;

/// Why a token is not believed. Holds nothing of the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JwtRefused {
    /// Longer than [`MAX_TOKEN_BYTES`](super::MAX_TOKEN_BYTES).
    TooLong,
    /// Not three parts of unpadded base64url.
    Malformed,
    /// The header is no JSON object with a text `alg`.
    Header,
    /// The header demands an extension (RFC 7515, section 4.1.11); none is supported.
    Critical,
    /// Another algorithm than the key's.
    Algorithm,
    /// No configured key has this `kid`, or the token names none.
    UnknownKey,
    /// The keys could not be fetched since the program began, so that no token can be checked.
    NoKeysYet,
    /// No configured key made this signature.
    Signature,
    /// The payload is no JSON object, or repeats a claim.
    Claims,
    /// `exp` is missing.
    ExpiryMissing,
    /// `exp`, `nbf` or `iat` is no number of seconds that a date can express.
    TimeMalformed,
    /// `exp` has passed.
    Expired,
    /// `nbf` lies ahead.
    NotYetValid,
    /// `iat` lies ahead.
    IssuedInFuture,
    /// `type` is not `access`.
    Type,
    /// `iss` is not the configured one.
    Issuer,
    /// `aud` does not include the configured one.
    Audience,
    /// `sub` is not 24 hex digits.
    Subject,
    /// `github_login` is no text.
    GithubLogin,
    /// `github_id` is neither a number nor a numeric text.
    GithubId,
}

impl JwtRefused {
    /// The reason as a fixed text, fit for logs and answers.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "the JWT is too long",
            Self::Malformed => "the JWT is malformed",
            Self::Header => "the JWT's header is malformed",
            Self::Critical => "the JWT's header requires an unsupported extension",
            Self::Algorithm => "the JWT's algorithm is not the configured one",
            Self::UnknownKey => "the JWT's kid is not that of a configured key",
            Self::NoKeysYet => "the keys that verify JWTs have not been fetched yet",
            Self::Signature => "the JWT's signature is invalid",
            Self::Claims => "the JWT's payload is malformed",
            Self::ExpiryMissing => "the JWT has no expiry",
            Self::TimeMalformed => "a time in the JWT is malformed",
            Self::Expired => "the JWT has expired",
            Self::NotYetValid => "the JWT is not valid yet",
            Self::IssuedInFuture => "the JWT was issued in the future",
            Self::Type => "the JWT is not an access token",
            Self::Issuer => "the JWT's issuer is not the configured one",
            Self::Audience => "the JWT's audience is not the configured one",
            Self::Subject => "the JWT's subject is not 24 hexadecimal digits",
            Self::GithubLogin => "the JWT's github_login is malformed",
            Self::GithubId => "the JWT's github_id is malformed",
        }
    }
}

impl fmt::Display for JwtRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for JwtRefused {}
