//! Keys: owns the way from settings to keys that are fit for checking signatures.
//!
//! Must never accept a key too weak for its algorithm, a private key where a public one belongs, or
//! quote key material in an error.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// The setting of the secret that signs.
pub(super) const CURRENT_SECRET: &str = "SECRET_KEY";
const PREVIOUS_SECRET: &str = "SECRET_KEY_PREVIOUS";
const PEM_FILE: &str = "TIERKEEP_JWT_PUBLIC_KEY_FILE";
const JWKS_FILE: &str = "TIERKEEP_JWKS_FILE";
const JWKS_URL: &str = "TIERKEEP_JWKS_URL";

/// The shortest secret for HS256 (RFC 7518, section 3.2).
const SECRET_MIN_BYTES: usize = 32;
/// The shortest RSA modulus (RFC 7518, section 3.3), and the longest that the cryptography checks.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The named curve P-256 in a public key's DER (RFC 5480, section 2.1.1.1).
const P256_OID: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// Where the keys come from, and with that the algorithm.
#[derive(Clone)]
pub enum JwtKeys {
    /// HS256 with shared secrets of at least 32 bytes.
    Secret {
        /// `SECRET_KEY`: signs and checks.
        current: SecretString,
        /// `SECRET_KEY_PREVIOUS`: only checks, while keys are being rotated.
        previous: Option<SecretString>,
    },
    /// One public key in PEM: RSA gives RS256, P-256 gives ES256, Ed25519 gives `EdDSA`.
    PublicKeyPem(String),
    /// A JWK set (RFC 7517) in JSON; tokens name their key by `kid`.
    Jwks(String),
    /// Where an identity provider publishes its JWK set: https, or http to a loopback address.
    JwksUrl(String),
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret { .. } => "Secret(..)",
            Self::PublicKeyPem(_) => "PublicKeyPem(..)",
            Self::Jwks(_) => "Jwks(..)",
            Self::JwksUrl(_) => "JwksUrl(..)",
        })
    }
}

/// Why a setting gives no usable key. Names the setting, never its value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JwtKeyError {
    /// A shared secret is too short.
    #[error("{setting} has {length_bytes} bytes; at least {SECRET_MIN_BYTES} are required")]
    ShortSecret {
        /// The setting.
        setting: &'static str,
        /// How long its value is.
        length_bytes: usize,
    },
    /// Not one public key in PEM, or not a key of a supported kind.
    #[error("{PEM_FILE}: {0}")]
    Pem(&'static str),
    /// An RSA key is too short or too long.
    #[error("{setting}: RSA key of {bits} bits; 2048 to 8192 are required")]
    RsaSize {
        /// The setting.
        setting: &'static str,
        /// The length of the modulus.
        bits: usize,
    },
    /// The text is no JWK set.
    #[error("{JWKS_FILE}: {0}")]
    Jwks(&'static str),
    /// One key of the set, counted from 1, must not be there.
    #[error("{JWKS_FILE}: key {position}: {reason}")]
    Jwk {
        /// Which key, counted from 1.
        position: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The keys cannot be fetched safely from there.
    #[error("{JWKS_URL} {0}")]
    Url(&'static str),
}

/// The algorithms in use, each fixed by its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// The name in a header's `alg`, compared exactly.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether a JWK means it by this `alg`. RFC 9864, section 2.2, names the curve where RFC 8037 said `EdDSA`.
    fn is_named(self, alg: Option<&str>) -> bool {
        alg == Some(self.as_str()) || (self == Self::EdDsa && alg == Some("Ed25519"))
    }

    pub(super) fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A key and the only algorithm it is used with.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.as_str())
    }
}

/// The configured keys.
#[derive(Debug)]
pub(super) enum Keyring {
    /// Each of these is tried, whatever `kid` says. All have one algorithm.
    Each(Vec<Key>),
    /// Those that `kid` names: several only where their algorithms differ, or while an identity provider replaces one.
    Named(HashMap<String, Vec<Key>>),
}

impl Keyring {
    pub(super) fn new(keys: JwtKeys) -> Result<Self, JwtKeyError> {
        match keys {
            JwtKeys::Secret { current, previous } => {
                let mut keys = vec![secret_key(CURRENT_SECRET, &current)?];
                if let Some(previous) = previous {
                    keys.push(secret_key(PREVIOUS_SECRET, &previous)?);
                }
                Ok(Self::Each(keys))
            }
            JwtKeys::PublicKeyPem(pem) => Ok(Self::Each(vec![pem_key(&pem)?])),
            JwtKeys::Jwks(json) => Ok(Self::Named(jwk_set(&json)?)),
            JwtKeys::JwksUrl(_) => Err(JwtKeyError::Url("has to be fetched")),
        }
    }

    /// The keys of a set that an identity provider publishes. Keys of another kind or use, too weak ones and those that have
    /// no place in a set of public keys are passed over; `None` where none is left.
    pub(super) fn published(json: &str) -> Option<Self> {
        let set: Value = serde_json::from_str(json).ok()?;
        let mut named: HashMap<String, Vec<Key>> = HashMap::new();
        for jwk in set.get("keys")?.as_array()? {
            if refusal(jwk).is_none()
                && let Ok(Some((kid, key))) = jwk_key(jwk)
            {
                named.entry(kid).or_default().push(key);
            }
        }
        (!named.is_empty()).then_some(Self::Named(named))
    }

    /// The keys to try for a token with this `kid`; `None` where the token had to name one.
    pub(super) fn candidates(&self, kid: Option<&str>) -> Option<&[Key]> {
        match self {
            Self::Each(keys) => Some(keys),
            Self::Named(keys) => keys.get(kid?).map(Vec::as_slice),
        }
    }
}

/// Refuses a shared secret that is too short for HS256.
pub(super) fn check_secret(
    setting: &'static str,
    secret: &SecretString,
) -> Result<(), JwtKeyError> {
    let length_bytes = secret.expose_secret().len();
    if length_bytes < SECRET_MIN_BYTES {
        return Err(JwtKeyError::ShortSecret {
            setting,
            length_bytes,
        });
    }
    Ok(())
}

fn secret_key(setting: &'static str, secret: &SecretString) -> Result<Key, JwtKeyError> {
    check_secret(setting, secret)?;
    let decoding = DecodingKey::from_secret(secret.expose_secret().as_bytes());
    Ok(Key {
        algorithm: Algorithm::Hs256,
        decoding,
    })
}

fn pem_key(pem: &str) -> Result<Key, JwtKeyError> {
    if pem.contains("PRIVATE KEY-----") {
        return Err(JwtKeyError::Pem(
            "holds a private key instead of a public key",
        ));
    }
    let public = [
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN RSA PUBLIC KEY-----",
    ];
    let blocks = pem.matches("-----BEGIN ").count();
    if blocks != 1 || !public.iter().any(|begin| pem.contains(begin)) {
        return Err(JwtKeyError::Pem(
            "does not hold exactly one public key in PEM",
        ));
    }
    let unreadable = |_| JwtKeyError::Pem("holds a public key that cannot be read");
    if let Ok(decoding) = DecodingKey::from_rsa_pem(pem.as_bytes()) {
        let jwk = Jwk::from_decoding_key(&decoding, None).map_err(unreadable)?;
        check_strength(PEM_FILE, &jwk.algorithm)?;
        return Ok(Key {
            algorithm: Algorithm::Rs256,
            decoding,
        });
    }
    if let Ok(decoding) = DecodingKey::from_ec_pem(pem.as_bytes()) {
        let jwk = Jwk::from_decoding_key(&decoding, None).map_err(unreadable)?;
        if algorithm_of(&jwk.algorithm) != Some(Algorithm::Es256) || !names_p256(pem) {
            return Err(JwtKeyError::Pem(
                "holds an EC key on a curve other than P-256",
            ));
        }
        return Ok(Key {
            algorithm: Algorithm::Es256,
            decoding,
        });
    }
    match DecodingKey::from_ed_pem(pem.as_bytes()) {
        Ok(decoding) => Ok(Key {
            algorithm: Algorithm::EdDsa,
            decoding,
        }),
        Err(_) => Err(JwtKeyError::Pem(
            "does not hold an RSA, P-256 or Ed25519 key",
        )),
    }
}

/// Whether the key names P-256: another curve's points may have the same length.
fn names_p256(pem: &str) -> bool {
    let body: String = pem
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("-----"))
        .collect();
    STANDARD
        .decode(body)
        .is_ok_and(|der| der.windows(P256_OID.len()).any(|window| window == P256_OID))
}

/// Why a key must not be in a set of public keys.
fn refusal(jwk: &Value) -> Option<&'static str> {
    if jwk.get("kty").and_then(Value::as_str) == Some("oct") || jwk.get("k").is_some() {
        Some("a set of public keys must not have a symmetric key")
    } else if jwk.get("d").is_some() {
        Some("holds a private key instead of a public key")
    } else {
        None
    }
}

fn jwk_set(json: &str) -> Result<HashMap<String, Vec<Key>>, JwtKeyError> {
    let set: Value = serde_json::from_str(json).map_err(|_| JwtKeyError::Jwks("is not JSON"))?;
    let keys = set
        .get("keys")
        .and_then(Value::as_array)
        .ok_or(JwtKeyError::Jwks("has no list of keys"))?;
    let mut named: HashMap<String, Vec<Key>> = HashMap::new();
    for (position, jwk) in (1..).zip(keys) {
        let refused = |reason| JwtKeyError::Jwk { position, reason };
        if let Some(reason) = refusal(jwk) {
            return Err(refused(reason));
        }
        let Some((kid, key)) = jwk_key(jwk)? else {
            // RFC 7517, section 5: keys that are not understood are ignored.
            tracing::warn!(
                position,
                "key of the JWK set is ignored: without kid or unsupported"
            );
            continue;
        };
        // RFC 7517, section 4.5: keys of different kinds may share a kid.
        let of_kid = named.entry(kid).or_default();
        if of_kid.iter().any(|other| other.algorithm == key.algorithm) {
            return Err(refused("has the same kid as another key"));
        }
        of_kid.push(key);
    }
    if named.is_empty() {
        return Err(JwtKeyError::Jwks(
            "has no key with a kid for RS256, ES256 or EdDSA",
        ));
    }
    Ok(named)
}

/// The key and its `kid`; `None` where it cannot check signatures of a supported algorithm.
fn jwk_key(jwk: &Value) -> Result<Option<(String, Key)>, JwtKeyError> {
    let field = |name| jwk.get(name).and_then(Value::as_str);
    let Some(kid) = field("kid") else {
        return Ok(None);
    };
    let Ok(parsed) = serde_json::from_value::<Jwk>(jwk.clone()) else {
        return Ok(None);
    };
    let Some(algorithm) = algorithm_of(&parsed.algorithm) else {
        return Ok(None);
    };
    let other_use = field("use").is_some_and(|purpose| purpose != "sig");
    let operations = jwk.get("key_ops").and_then(Value::as_array);
    let verifies = operations.is_none_or(|all| all.iter().any(|it| it == "verify"));
    let other_algorithm = jwk.get("alg").is_some() && !algorithm.is_named(field("alg"));
    if other_use || !verifies || other_algorithm {
        return Ok(None);
    }
    check_strength(JWKS_FILE, &parsed.algorithm)?;
    let decoding = DecodingKey::from_jwk(&parsed).ok();
    Ok(decoding.map(|decoding| {
        (
            kid.to_owned(),
            Key {
                algorithm,
                decoding,
            },
        )
    }))
}

/// The one algorithm for a key of these parameters.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's enum is open: kinds it adds are unsupported until named here"
)]
fn algorithm_of(parameters: &AlgorithmParameters) -> Option<Algorithm> {
    match parameters {
        AlgorithmParameters::RSA(_) => Some(Algorithm::Rs256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Some(Algorithm::Es256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Some(Algorithm::EdDsa)
        }
        _ => None,
    }
}

fn check_strength(
    setting: &'static str,
    parameters: &AlgorithmParameters,
) -> Result<(), JwtKeyError> {
    let AlgorithmParameters::RSA(key) = parameters else {
        return Ok(());
    };
    let modulus = URL_SAFE_NO_PAD.decode(&key.n).unwrap_or_default();
    let zeros: usize = modulus
        .iter()
        .position(|byte| *byte != 0)
        .map_or(modulus.len() * 8, |first| {
            first * 8 + modulus[first].leading_zeros() as usize
        });
    let bits = modulus.len() * 8 - zeros;
    if RSA_BITS.contains(&bits) {
        Ok(())
    } else {
        Err(JwtKeyError::RsaSize { setting, bits })
    }
}
