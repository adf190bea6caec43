//! Keys that an identity provider publishes: fetched, replaced, and unavailable.

use futures_util::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_identity::{
    JwtKeyError, JwtKeys, JwtRefused, JwtSettings, JwtVerifier, KeysUnavailable,
};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{
    ED25519, P256, RSA, SUBJECT, Signer, asked, base64url, claims, clock, token, with,
};

fn verifier_of(url: &str) -> Result<JwtVerifier, JwtKeyError> {
    JwtVerifier::new(JwtSettings::new(JwtKeys::JwksUrl(url.to_owned())), clock())
}

fn verifier(server: &MockServer) -> JwtVerifier {
    verifier_of(&format!("{}/jwks?tenant=a", server.uri())).unwrap()
}

fn set(keys: &[Value]) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({ "keys": keys }))
}

async fn publish(server: &MockServer, answer: ResponseTemplate) {
    server.reset().await;
    Mock::given(any()).respond_with(answer).mount(server).await;
}

fn signed(signer: &Signer, kid: &str) -> String {
    signer.sign(json!({ "alg": signer.algorithm(), "kid": kid }), claims())
}

/// As Keycloak, Auth0, Entra, Google and Okta publish them: certificates beside keys, keys for encryption and of other
/// algorithms, keys without `alg` or `use`, and fields that no standard defines.
fn as_published() -> Vec<Value> {
    let dressed = |mut jwk: Value, more: Value| {
        let fields = more.as_object().unwrap().clone();
        jwk.as_object_mut().unwrap().extend(fields);
        jwk
    };
    let certificates = json!({
        "use": "sig", "alg": "RS256", "x5c": ["MIIC"], "x5t": "t", "x5t#S256": "s", "issuer": "https://idp.example/v2.0",
    });
    let mut bare = P256.jwk("p");
    for field in ["use", "alg"] {
        bare.as_object_mut().unwrap().remove(field);
    }
    vec![
        dressed(RSA.jwk("r"), certificates),
        dressed(RSA.jwk("enc"), json!({ "use": "enc", "alg": "RSA-OAEP" })),
        dressed(RSA.jwk("512"), json!({ "alg": "RS512" })),
        bare,
        dressed(
            ED25519.jwk("e"),
            json!({ "alg": "Ed25519", "key_ops": ["verify"] }),
        ),
        dressed(RSA.jwk("wraps"), json!({ "key_ops": ["wrapKey"] })),
        json!({ "kty": "EC", "crv": "P-384", "kid": "p384", "x": "AAAA", "y": "AAAA" }),
        json!({ "kty": "RSA", "kid": "weak", "n": base64url([0xff; 128]), "e": "AQAB" }),
        json!({ "kty": "oct", "kid": "oct", "k": "AAAA" }),
        json!({ "kty": "AKP", "alg": "ML-DSA-65", "kid": "pq", "pub": "AAAA" }),
        json!({ "kid": "no kind" }),
        Value::Null,
    ]
}

#[tokio::test]
async fn keys_are_taken_as_identity_providers_publish_them() {
    let server = MockServer::start().await;
    publish(&server, set(&as_published())).await;
    let verifier = verifier(&server);
    verifier.refresh_keys().await.unwrap();
    for (signer, kid) in [(&RSA, "r"), (&P256, "p"), (&ED25519, "e")] {
        let verified = verifier.verify(&signed(signer, kid)).unwrap();
        assert_eq!(verified.subject, SUBJECT);
    }
    for kid in ["enc", "512", "wraps", "weak"] {
        let refused = verifier.verify(&signed(&RSA, kid)).unwrap_err();
        assert_eq!(refused, JwtRefused::UnknownKey, "{kid}");
    }
    // Neither is a secret that is published one.
    assert_eq!(
        verifier.verify(&token(&claims())),
        Err(JwtRefused::UnknownKey)
    );
    let heard = &server.received_requests().await.unwrap()[0];
    assert_eq!(heard.url.query(), Some("tenant=a"));
}

#[tokio::test]
async fn a_key_that_is_new_is_fetched_at_its_first_token_and_no_token_makes_it_fetched_often() {
    let server = MockServer::start().await;
    publish(&server, set(&[RSA.jwk("old")])).await;
    let verifier = verifier(&server);
    // No token is accepted before there are keys, and requests at once share one fetch.
    assert_eq!(
        verifier.verify(&signed(&RSA, "old")),
        Err(JwtRefused::NoKeysYet)
    );
    let old = signed(&RSA, "old");
    let all = join_all((0..50).map(|_| verifier.verify_with_new_keys(&old))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(asked(&server).await, 1);

    publish(&server, set(&[P256.jwk("new")])).await;
    for n in 0..50 {
        let unknown = signed(&P256, &format!("kid-{n}"));
        let refused = verifier.verify_with_new_keys(&unknown).await.unwrap_err();
        assert_eq!(refused, JwtRefused::UnknownKey);
    }
    // It was fetched lately, so that the new key waits for the next hour or half a minute.
    assert_eq!(asked(&server).await, 0);
    verifier.refresh_keys().await.unwrap();
    let new = signed(&P256, "new");
    assert!(verifier.verify_with_new_keys(&new).await.is_ok());
    assert_eq!(verifier.verify(&old), Err(JwtRefused::UnknownKey));
    // A token that is wrong for another reason fetches nothing.
    let expired = P256.sign(json!({ "alg": "ES256", "kid": "new" }), with("exp", 0));
    let refused = verifier.verify_with_new_keys(&expired).await.unwrap_err();
    assert_eq!(refused, JwtRefused::Expired);
    assert_eq!(asked(&server).await, 1);
}

#[rstest]
#[case::status(ResponseTemplate::new(503), KeysUnavailable::Status(503))]
#[case::redirect(
    ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/"),
    KeysUnavailable::Status(302)
)]
#[case::no_json(ResponseTemplate::new(200).set_body_string("<html>"), KeysUnavailable::NoKeys)]
#[case::no_set(ResponseTemplate::new(200).set_body_string("[]"), KeysUnavailable::NoKeys)]
#[case::empty(set(&[]), KeysUnavailable::NoKeys)]
#[case::useless(set(&[json!({ "kty": "oct", "kid": "o", "k": "AAAA" })]), KeysUnavailable::NoKeys)]
#[case::endless(
    ResponseTemplate::new(200).set_body_string("x".repeat(600_000)),
    KeysUnavailable::NoKeys
)]
#[tokio::test]
async fn the_last_good_set_stays_in_use(
    #[case] answer: ResponseTemplate,
    #[case] expected: KeysUnavailable,
) {
    let server = MockServer::start().await;
    publish(&server, set(&[RSA.jwk("r")])).await;
    let verifier = verifier(&server);
    verifier.refresh_keys().await.unwrap();
    publish(&server, answer).await;
    let refused = verifier.refresh_keys().await.unwrap_err();
    assert_eq!(refused, expected);
    assert!(!refused.to_string().contains("127.0.0.1"), "{refused}");
    assert!(verifier.verify(&signed(&RSA, "r")).is_ok());
}

#[rstest]
#[case("http://idp.example/jwks", "must be https")]
#[case("http://10.0.0.1/jwks", "must be https")]
#[case("https://me:pw@idp.example/jwks", "must not have a user")]
#[case("ftp://127.0.0.1/jwks", "is not a URL of a server")]
#[case("idp.example/jwks", "is not a URL of a server")]
#[case("", "is not a URL of a server")]
fn keys_come_from_https_or_this_machine_only(#[case] url: &str, #[case] expected: &str) {
    let refused = verifier_of(url).unwrap_err().to_string();
    assert!(refused.starts_with("TIERKEEP_JWKS_URL "), "{refused}");
    assert!(refused.contains(expected), "{refused}");
    assert!(!refused.contains("pw"), "{refused}");
    for fit in [
        "https://idp.example/jwks",
        "http://localhost:9/jwks",
        "http://[::1]:9",
    ] {
        assert!(verifier_of(fit).is_ok(), "{fit}");
    }
}
