//! JSON web tokens: owns which tokens are believed and what is read from them.
//!
//! Must never take a key, an address or an algorithm from the token itself, compare with any time but
//! the injected clock's, or say anything of a token's content in an error. The header is read for
//! `alg`, `kid` and `crit` alone, so `jwk`, `jku`, `x5u` and `x5c` cannot matter (RFC 8725, section 3).
//!
//! Where to look next: `keys` (settings to keys), `remote` (keys behind a URL), `claims` (what a believed payload must say),
//! `issue` (development tokens).

mod claims;
mod issue;
mod keys;
mod remote;

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use tierkeep_core::bson::DateTime;
use tierkeep_core::clock::Clock;
use tierkeep_core::user::UserId;

pub use issue::{IssueError, issue_development_token};
pub use keys::{JwtKeyError, JwtKeys};
pub use remote::KeysUnavailable;

use keys::{Algorithm, Key, Keyring};
use remote::RemoteKeys;

/// The longest token that is looked at.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// How far `nbf` and `iat` may lie ahead of the clock.
pub const LEEWAY_SECONDS: i64 = 60;

/// Chooses the cryptography of the JWT library for this process.
///
/// May be called any number of times, from any thread; a provider chosen earlier stays. Every
/// constructor here calls it, because the library panics at its first use without one.
pub fn install_crypto_provider() {
    // The error only says that one is installed already.
    let _ = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

/// Which tokens to believe.
#[derive(Clone, Debug)]
pub struct JwtSettings {
    /// The keys, and with them the one algorithm of each.
    pub keys: JwtKeys,
    /// The only accepted `iss`; `None` leaves the claim unchecked.
    pub issuer: Option<String>,
    /// The `aud` that must be among the token's; `None` leaves the claim unchecked.
    pub audience: Option<String>,
}

impl JwtSettings {
    /// Settings with these keys, and `iss` and `aud` unchecked.
    pub fn new(keys: JwtKeys) -> Self {
        Self {
            keys,
            issuer: None,
            audience: None,
        }
    }
}

/// A role that a token grants. Admin does not imply HR.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RoleClaim {
    /// May use the HR routes.
    Hr,
    /// May use the admin routes.
    Admin,
}

impl RoleClaim {
    /// `hr` or `admin`, as in the claim.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hr => "hr",
            Self::Admin => "admin",
        }
    }

    /// The role of exactly this text; any other text is no role.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Hr, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

impl fmt::Display for RoleClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a believed token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedJwt {
    /// The internal user that `sub` names.
    pub user: UserId,
    /// `sub` itself: 24 lower-case hex digits.
    pub subject: String,
    /// The GitHub account by name, as claimed; compare without letter case.
    pub github_login: Option<String>,
    /// The GitHub account by number, as claimed.
    pub github_id: Option<u64>,
    /// The role, where one is granted.
    pub role: Option<RoleClaim>,
    /// When the token was issued, where it says so.
    pub issued_at: Option<DateTime>,
    /// When the token ceases to be believed.
    pub expires_at: DateTime,
}

impl VerifiedJwt {
    /// Whether the token grants exactly this role.
    pub fn has_role(&self, role: RoleClaim) -> bool {
        self.role == Some(role)
    }
}

/// Why a token is not believed. Holds nothing of the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JwtRefused {
    /// Longer than [`MAX_TOKEN_BYTES`].
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

/// The keys in use.
#[derive(Debug)]
enum Keys {
    Fixed(Keyring),
    Remote(RemoteKeys),
}

/// Believes tokens that a configured key signed and whose claims hold at the clock's time.
pub struct JwtVerifier {
    keys: Keys,
    issuer: Option<String>,
    audience: Option<String>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier")
            .field("keys", &self.keys)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl JwtVerifier {
    /// A verifier for these settings, on this clock.
    ///
    /// # Errors
    /// [`JwtKeyError`] names the setting that cannot be used and why, never a key's value.
    pub fn new(settings: JwtSettings, clock: Arc<dyn Clock>) -> Result<Self, JwtKeyError> {
        install_crypto_provider();
        let JwtSettings {
            keys,
            issuer,
            audience,
        } = settings;
        let keys = match keys {
            JwtKeys::JwksUrl(url) => Keys::Remote(RemoteKeys::new(&url)?),
            fixed @ (JwtKeys::Secret { .. } | JwtKeys::PublicKeyPem(_) | JwtKeys::Jwks(_)) => {
                Keys::Fixed(Keyring::new(fixed)?)
            }
        };
        Ok(Self {
            keys,
            issuer,
            audience,
            clock,
        })
    }

    /// Reads a token, or says why it is not believed.
    ///
    /// # Errors
    /// [`JwtRefused`], which holds nothing of the token.
    pub fn verify(&self, token: &str) -> Result<VerifiedJwt, JwtRefused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtRefused::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtRefused::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtRefused::Malformed)?;
        if payload.contains('.') {
            return Err(JwtRefused::Malformed);
        }
        let header: Header = object(&decoded(header)?).ok_or(JwtRefused::Header)?;
        if header.crit {
            return Err(JwtRefused::Critical);
        }
        let payload = decoded(payload)?;

        self.check_signature(&header, signed, signature)?;
        let payload = object(&payload).ok_or(JwtRefused::Claims)?;
        claims::read(
            &payload,
            self.issuer.as_deref(),
            self.audience.as_deref(),
            self.clock.now(),
        )
    }

    /// Reads a token; where it names a key that is not known and keys come from a URL, these are fetched first, within what
    /// they may be. Cancel safe.
    ///
    /// # Errors
    /// As [`JwtVerifier::verify`].
    pub async fn verify_with_new_keys(&self, token: &str) -> Result<VerifiedJwt, JwtRefused> {
        let verified = self.verify(token);
        let is_unknown = matches!(
            verified,
            Err(JwtRefused::UnknownKey | JwtRefused::NoKeysYet)
        );
        let Keys::Remote(remote) = &self.keys else {
            return verified;
        };
        if is_unknown && remote.look_for_new().await {
            return self.verify(token);
        }
        verified
    }

    /// Fetches the keys, where they come from a URL.
    ///
    /// # Errors
    /// [`KeysUnavailable`]; the previous keys stay in use.
    pub async fn refresh_keys(&self) -> Result<(), KeysUnavailable> {
        match &self.keys {
            Keys::Fixed(_) => Ok(()),
            Keys::Remote(remote) => remote.refresh().await,
        }
    }

    fn check_signature(
        &self,
        header: &Header,
        signed: &str,
        signature: &str,
    ) -> Result<(), JwtRefused> {
        match &self.keys {
            Keys::Fixed(keys) => checked(keys, header, signed, signature),
            Keys::Remote(remote) => {
                let keys = remote.current().ok_or(JwtRefused::NoKeysYet)?;
                checked(&keys, header, signed, signature)
            }
        }
    }
}

fn checked(
    keys: &Keyring,
    header: &Header,
    signed: &str,
    signature: &str,
) -> Result<(), JwtRefused> {
    let candidates = keys
        .candidates(header.kid.as_deref())
        .ok_or(JwtRefused::UnknownKey)?;
    let mut of_algorithm = candidates
        .iter()
        .filter(|key| header.alg == key.algorithm.as_str())
        .peekable();
    if of_algorithm.peek().is_none() {
        return Err(JwtRefused::Algorithm);
    }
    let is_right = |key: &Key| {
        let algorithm = Algorithm::library(key.algorithm);
        crypto::verify(signature, signed.as_bytes(), &key.decoding, algorithm).unwrap_or(false)
    };
    if of_algorithm.any(is_right) {
        Ok(())
    } else {
        Err(JwtRefused::Signature)
    }
}

/// The only fields of a header that are read.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
}

/// True for any value at all, `null` included.
fn is_present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(value).map(|_| true)
}

fn decoded(part: &str) -> Result<Vec<u8>, JwtRefused> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| JwtRefused::Malformed)
}

/// Reads a JSON object; serde alone would read a struct from an array too.
fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(json).ok()
}
