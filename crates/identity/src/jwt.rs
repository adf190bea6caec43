//! JSON web tokens: owns which tokens are believed and what is read from them.
//!
//! Must never take a key, an address or an algorithm from the token itself, compare with any time but
//! the injected clock's, or say anything of a token's content in an error. The header is read for
//! `alg`, `kid` and `crit` alone, so `jwk`, `jku`, `x5u` and `x5c` cannot matter (RFC 8725, section 3).
//!
//! Where to look next: `keys` (settings to keys), `shared` (keys that may be replaced), `remote` (keys behind a URL), `claims`
//! (what a believed payload must say), `refused` (why a token is not believed), `issue` (development tokens).

mod claims;
mod issue;
mod keys;
mod refused;
mod remote;
mod shared;

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
pub use refused::JwtRefused;
pub use remote::KeysUnavailable;
pub use shared::{Look, NewerKeys, SharedKeys};

use keys::{Algorithm, Key, Keyring};
use remote::RemoteKeys;
use shared::may_be_of_newer_keys;

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

/// The keys in use.
#[derive(Debug)]
enum Keys {
    Shared(SharedKeys),
    Remote(RemoteKeys),
}

/// Believes tokens that a configured key signed and whose claims hold at the clock's time.
pub struct JwtVerifier {
    keys: Keys,
    /// Where newer ones than the shared keys may be.
    newer: Option<Arc<dyn NewerKeys>>,
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
                Keys::Shared(SharedKeys::new(fixed)?)
            }
        };
        Ok(Self {
            keys,
            newer: None,
            issuer,
            audience,
            clock,
        })
    }

    /// The keys in use, so that they can be replaced; `None` where they are fetched from a URL.
    pub fn shared_keys(&self) -> Option<SharedKeys> {
        match &self.keys {
            Keys::Shared(keys) => Some(keys.clone()),
            Keys::Remote(_) => None,
        }
    }

    /// Has newer keys looked for before a token is refused that other keys might believe.
    #[must_use]
    pub fn with_newer_keys(mut self, newer: Arc<dyn NewerKeys>) -> Self {
        self.newer = Some(newer);
        self
    }

    /// Reads a token, or says why it is not believed.
    ///
    /// # Errors
    /// [`JwtRefused`], which holds nothing of the token.
    pub fn verify(&self, token: &str) -> Result<VerifiedJwt, JwtRefused> {
        self.verify_by(self.keys_in_use(), token)
    }

    /// The keys that a token is checked against; none where they could not be fetched yet.
    fn keys_in_use(&self) -> Option<Arc<Keyring>> {
        match &self.keys {
            Keys::Shared(keys) => Some(keys.current()),
            Keys::Remote(remote) => remote.current(),
        }
    }

    fn verify_by(
        &self,
        keys: Option<Arc<Keyring>>,
        token: &str,
    ) -> Result<VerifiedJwt, JwtRefused> {
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

        let keys = keys.ok_or(JwtRefused::NoKeysYet)?;
        checked(&keys, &header, signed, signature)?;
        let payload = object(&payload).ok_or(JwtRefused::Claims)?;
        claims::read(
            &payload,
            self.issuer.as_deref(),
            self.audience.as_deref(),
            self.clock.now(),
        )
    }

    /// Reads a token; where the keys in use do not believe it, newer ones are looked for first: those behind a URL where the
    /// token names a key that is not known, within what they may be; else where [`JwtVerifier::with_newer_keys`] says.
    /// Cancel safe.
    ///
    /// # Errors
    /// As [`JwtVerifier::verify`].
    pub async fn verify_with_new_keys(&self, token: &str) -> Result<VerifiedJwt, JwtRefused> {
        let verified = match &self.keys {
            Keys::Shared(keys) => return self.verify_with_shared(keys, token).await,
            Keys::Remote(_) => self.verify(token),
        };
        let is_unknown = matches!(
            verified,
            Err(JwtRefused::UnknownKey | JwtRefused::NoKeysYet)
        );
        if is_unknown
            && let Keys::Remote(remote) = &self.keys
            && remote.look_for_new().await
        {
            return self.verify(token);
        }
        verified
    }

    async fn verify_with_shared(
        &self,
        keys: &SharedKeys,
        token: &str,
    ) -> Result<VerifiedJwt, JwtRefused> {
        let before = keys.current();
        let verified = self.verify_by(Some(Arc::clone(&before)), token);
        if let (Err(refused), Some(newer)) = (&verified, &self.newer)
            && may_be_of_newer_keys(*refused)
        {
            newer.look().await;
            let now = keys.current();
            // Another request may have replaced them meanwhile.
            if !Arc::ptr_eq(&before, &now) {
                return self.verify_by(Some(now), token);
            }
        }
        verified
    }

    /// Fetches the keys, where they come from a URL.
    ///
    /// # Errors
    /// [`KeysUnavailable`]; the previous keys stay in use.
    pub async fn refresh_keys(&self) -> Result<(), KeysUnavailable> {
        match &self.keys {
            Keys::Shared(_) => Ok(()),
            Keys::Remote(remote) => remote.refresh().await,
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
