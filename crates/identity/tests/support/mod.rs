//! A manual clock, tokens written by hand, generated keys and a stand-in for GitHub.

pub(crate) mod hostile;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaPublicKeyComponents,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tierkeep_core::bson::DateTime;
use tierkeep_core::clock::Clock;
use tierkeep_identity::{
    GithubSettings, GithubVerifier, HeaderText, JwtKeys, JwtSettings, JwtVerifier, UserTypeDetector,
};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// The time of the manual clock, in seconds since 1970.
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const SUBJECT: &str = "507f1f77bcf86cd799439011";
pub(crate) const SECRET: &str = "a secret of the tests, 32 bytes+.";
pub(crate) const PREVIOUS: &str = "the secret before, also 32 bytes.";
pub(crate) const GITHUB_TOKEN: &str = "ghp_valid";
pub(crate) const OWNER_ID: u64 = 583_231;

#[derive(Debug)]
pub(crate) struct FixedClock(pub(crate) i64);

impl Clock for FixedClock {
    fn now(&self) -> DateTime {
        DateTime::from_millis(self.0 * 1000)
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock(NOW))
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Claims that hold.
pub(crate) fn claims() -> Value {
    json!({"sub": SUBJECT, "type": "access", "iat": NOW - 60, "exp": NOW + 3600})
}

pub(crate) fn with(key: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[key] = value.into();
    claims
}

pub(crate) fn without(key: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(key);
    claims
}

pub(crate) fn header_of(algorithm: &str) -> Value {
    json!({"alg": algorithm, "typ": "JWT"})
}

/// Header and payload, encoded and not yet signed.
#[expect(
    clippy::needless_pass_by_value,
    reason = "callers make the text on the spot"
)]
pub(crate) fn unsigned(header: impl ToString, payload: impl ToString) -> String {
    format!(
        "{}.{}",
        base64url(header.to_string()),
        base64url(payload.to_string())
    )
}

pub(crate) fn with_signature(message: &str, signature: impl AsRef<[u8]>) -> String {
    format!("{message}.{}", base64url(signature))
}

pub(crate) fn hmac_signed(
    algorithm: hmac::Algorithm,
    header: impl ToString,
    payload: impl ToString,
    secret: impl AsRef<[u8]>,
) -> String {
    let message = unsigned(header, payload);
    let key = hmac::Key::new(algorithm, secret.as_ref());
    with_signature(&message, hmac::sign(&key, message.as_bytes()))
}

pub(crate) fn hs256(header: impl ToString, payload: impl ToString, secret: &str) -> String {
    hmac_signed(hmac::HMAC_SHA256, header, payload, secret)
}

/// A token with these claims that the secret verifier's current key signed.
pub(crate) fn token(claims: &Value) -> String {
    hs256(header_of("HS256"), claims, SECRET)
}

pub(crate) fn secret_keys() -> JwtKeys {
    JwtKeys::Secret {
        current: SECRET.into(),
        previous: Some(PREVIOUS.into()),
    }
}

pub(crate) fn verifier(keys: JwtKeys) -> JwtVerifier {
    JwtVerifier::new(JwtSettings::new(keys), clock()).unwrap()
}

pub(crate) fn pem(der: &[u8]) -> String {
    pem_of("PUBLIC KEY", der)
}

pub(crate) fn pem_of(tag: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {tag}-----\n{}\n-----END {tag}-----\n",
        lines.join("\n")
    )
}

/// An issuer that signs with a private key.
pub(crate) enum Signer {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

pub(crate) static RSA: LazyLock<Signer> =
    LazyLock::new(|| Signer::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())));
pub(crate) static P256: LazyLock<Signer> = LazyLock::new(|| {
    Signer::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
});
pub(crate) static ED25519: LazyLock<Signer> =
    LazyLock::new(|| Signer::Ed25519(Ed25519KeyPair::generate().unwrap()));

impl Signer {
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Rsa(pair) => pair.public_key().as_der().unwrap(),
            Self::P256(pair) => pair.public_key().as_der().unwrap(),
            Self::Ed25519(pair) => pair.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    pub(crate) fn pem(&self) -> String {
        pem(&self.der())
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let der = self.der();
        let last = |count: usize| &der[der.len() - count..];
        match self {
            Self::Rsa(pair) => {
                let parts = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256",
                    "n": base64url(parts.n), "e": base64url(parts.e)})
            }
            Self::P256(_) => json!({"kty": "EC", "crv": "P-256", "kid": kid,
                "x": base64url(&last(64)[..32]), "y": base64url(last(32))}),
            Self::Ed25519(_) => json!({"kty": "OKP", "crv": "Ed25519", "kid": kid,
                "x": base64url(last(32))}),
        }
    }

    pub(crate) fn sign(&self, header: impl ToString, payload: impl ToString) -> String {
        let message = unsigned(header, payload);
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    message.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                signature
            }
            Self::P256(pair) => pair
                .sign(&random, message.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Self::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        with_signature(&message, signature)
    }
}

pub(crate) fn jwks(keys: &[Value]) -> JwtKeys {
    JwtKeys::Jwks(json!({"keys": keys}).to_string())
}

pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// Settings that ask this server.
pub(crate) fn github_settings(server: &MockServer) -> GithubSettings {
    GithubSettings {
        api_url: server.uri(),
        ..GithubSettings::default()
    }
}

pub(crate) fn owner_body() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({
        "login": "OctoCat", "id": OWNER_ID, "name": "unread", "plan": {"name": "unread"},
    }))
}

/// A GitHub that knows [`GITHUB_TOKEN`] and no other token.
pub(crate) async fn github() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/user"))
        .and(header(
            "authorization",
            format!("Bearer {GITHUB_TOKEN}").as_str(),
        ))
        .respond_with(owner_body())
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .and(path("/user"))
        .respond_with(ResponseTemplate::new(401))
        .with_priority(2)
        .mount(&server)
        .await;
    server
}

/// A GitHub that answers everything with this.
pub(crate) async fn github_with(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(answer)
        .mount(&server)
        .await;
    server
}

pub(crate) async fn asked(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

pub(crate) fn detector(github: &GithubSettings, strict: bool) -> UserTypeDetector {
    let github = GithubVerifier::new(github).unwrap();
    UserTypeDetector::new(verifier(secret_keys()), github, strict)
}

pub(crate) fn bearer(token: &str) -> Vec<HeaderText> {
    vec![HeaderText::from(format!("Bearer {token}"))]
}

/// Longer than any test waits.
pub(crate) const NEVER: Duration = Duration::from_mins(1);
