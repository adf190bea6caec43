//! Which keys are accepted, and which algorithm each determines.

use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_identity::{JwtKeyError, JwtKeys, JwtRefused, JwtSettings, JwtVerifier};

use crate::support::{
    ED25519, P256, PREVIOUS, RSA, SECRET, SUBJECT, Signer, base64url, claims, clock, header_of,
    hs256, jwks, pem_of, secret_keys, token, verifier,
};

fn refused(keys: JwtKeys) -> JwtKeyError {
    JwtVerifier::new(JwtSettings::new(keys), clock()).unwrap_err()
}

fn signers() -> [&'static Signer; 3] {
    [&RSA, &P256, &ED25519]
}

#[test]
fn tokens_of_the_current_and_the_previous_secret_are_believed() {
    let rotated = verifier(secret_keys());
    for secret in [SECRET, PREVIOUS] {
        let token = hs256(header_of("HS256"), claims(), secret);
        assert_eq!(rotated.verify(&token).unwrap().subject, SUBJECT);
    }
}

#[test]
fn the_previous_secret_is_forgotten_once_it_is_not_configured() {
    let alone = verifier(JwtKeys::Secret {
        current: SECRET.into(),
        previous: None,
    });
    let token = hs256(header_of("HS256"), claims(), PREVIOUS);
    assert_eq!(alone.verify(&token), Err(JwtRefused::Signature));
}

#[test]
fn a_secret_of_31_bytes_is_refused_by_name_and_length() {
    let short = "x".repeat(31);
    let current = JwtKeys::Secret {
        current: short.clone().into(),
        previous: None,
    };
    let previous = JwtKeys::Secret {
        current: SECRET.into(),
        previous: Some(short.into()),
    };
    assert_eq!(
        refused(current).to_string(),
        "SECRET_KEY has 31 bytes; at least 32 are required"
    );
    assert_eq!(
        refused(previous).to_string(),
        "SECRET_KEY_PREVIOUS has 31 bytes; at least 32 are required"
    );
}

#[test]
fn a_secret_is_measured_in_bytes() {
    let keys = JwtKeys::Secret {
        current: "é".repeat(16).into(),
        previous: None,
    };
    assert!(JwtVerifier::new(JwtSettings::new(keys), clock()).is_ok());
}

#[test]
fn a_public_key_fixes_the_algorithm() {
    for signer in signers() {
        let verifier = verifier(JwtKeys::PublicKeyPem(signer.pem()));
        for other in signers() {
            let token = other.sign(header_of(other.algorithm()), claims());
            let expected = if other.algorithm() == signer.algorithm() {
                Ok(SUBJECT.to_owned())
            } else {
                Err(JwtRefused::Algorithm)
            };
            assert_eq!(verifier.verify(&token).map(|jwt| jwt.subject), expected);
        }
        assert_eq!(
            verifier.verify(&token(&claims())),
            Err(JwtRefused::Algorithm)
        );
    }
}

#[test]
fn an_rsa_key_in_the_older_wrapping_is_taken() {
    let der = RSA.der();
    // The older form is the content of the newer one's bit string, behind a header of 24 bytes.
    let verifier = verifier(JwtKeys::PublicKeyPem(pem_of("RSA PUBLIC KEY", &der[24..])));
    assert!(
        verifier
            .verify(&RSA.sign(header_of("RS256"), claims()))
            .is_ok()
    );
}

#[rstest]
#[case::rsa_1024(include_str!("keys/test_only_rsa_1024_public.pem"), "RSA key of 1024 bits")]
#[case::p384(include_str!("keys/test_only_p384_public.pem"), "a curve other than P-256")]
#[case::secp256k1(include_str!("keys/test_only_secp256k1_public.pem"), "a curve other than P-256")]
#[case::ed448(include_str!("keys/test_only_ed448_public.pem"), "not hold an RSA, P-256 or Ed25519 key")]
#[case::private(
    "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
    "a private key instead of a public key"
)]
#[case::rsa_private(
    "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----",
    "a private key instead of a public key"
)]
#[case::certificate(
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    "exactly one public key"
)]
#[case::empty("", "exactly one public key")]
#[case::text("0123456789abcdef0123456789abcdef", "exactly one public key")]
#[case::garbage(
    "-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----",
    "not hold an RSA, P-256"
)]
#[case::no_key(
    "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----",
    "not hold an RSA, P-256"
)]
#[case::no_rsa(
    "-----BEGIN RSA PUBLIC KEY-----\nMAA=\n-----END RSA PUBLIC KEY-----",
    "not hold an RSA, P-256"
)]
fn an_unfit_public_key_is_refused_by_name(#[case] pem: &str, #[case] expected: &str) {
    let message = refused(JwtKeys::PublicKeyPem(pem.to_owned())).to_string();
    assert!(
        message.starts_with("TIERKEEP_JWT_PUBLIC_KEY_FILE: "),
        "{message}"
    );
    assert!(message.contains(expected), "{message}");
}

#[test]
fn two_public_keys_in_one_file_are_refused() {
    let both = format!("{}{}", P256.pem(), ED25519.pem());
    assert!(matches!(
        refused(JwtKeys::PublicKeyPem(both)),
        JwtKeyError::Pem(_)
    ));
}

#[test]
fn a_key_of_a_set_is_chosen_by_kid_and_fixes_the_algorithm() {
    let set = [RSA.jwk("r"), P256.jwk("p"), ED25519.jwk("e")];
    let verifier = verifier(jwks(&set));
    for (signer, kid) in signers().into_iter().zip(["r", "p", "e"]) {
        for named in ["r", "p", "e"] {
            let header = json!({"alg": signer.algorithm(), "kid": named});
            let expected = if named == kid {
                Ok(())
            } else {
                Err(JwtRefused::Algorithm)
            };
            assert_eq!(
                verifier.verify(&signer.sign(header, claims())).map(drop),
                expected
            );
        }
    }
}

#[rstest]
#[case::none(json!({"alg": "ES256"}))]
#[case::null(json!({"alg": "ES256", "kid": null}))]
#[case::unknown(json!({"alg": "ES256", "kid": "P"}))]
#[case::path(json!({"alg": "ES256", "kid": "../../dev/null"}))]
#[case::empty(json!({"alg": "ES256", "kid": ""}))]
fn a_token_that_names_no_key_of_the_set_is_refused(#[case] header: Value) {
    let verifier = verifier(jwks(&[P256.jwk("p")]));
    assert_eq!(
        verifier.verify(&P256.sign(header, claims())),
        Err(JwtRefused::UnknownKey)
    );
}

#[test]
fn keys_of_a_set_that_are_not_understood_are_ignored() {
    let mut for_encryption = RSA.jwk("enc");
    for_encryption["use"] = json!("enc");
    let mut other_algorithm = RSA.jwk("ps");
    other_algorithm["alg"] = json!("PS256");
    let mut nameless = ED25519.jwk("x");
    nameless.as_object_mut().unwrap().remove("kid");
    let exotic = json!({"kty": "OKP", "crv": "X25519", "kid": "x", "x": "AAAA"});
    let p384 = json!({"kty": "EC", "crv": "P-384", "kid": "3", "x": "AAAA", "y": "AAAA"});
    let unreadable = json!({"kty": "EC", "crv": "P-256", "kid": "u", "x": "!", "y": "!"});
    let useless = [
        for_encryption,
        other_algorithm,
        nameless,
        exotic,
        p384,
        unreadable,
    ];

    let mut set = useless.to_vec();
    set.push(P256.jwk("p"));
    let header = json!({"alg": "ES256", "kid": "p"});
    assert!(
        verifier(jwks(&set))
            .verify(&P256.sign(header, claims()))
            .is_ok()
    );
    for kid in ["enc", "ps"] {
        let token = RSA.sign(json!({"alg": "RS256", "kid": kid}), claims());
        assert_eq!(
            verifier(jwks(&set)).verify(&token),
            Err(JwtRefused::UnknownKey)
        );
    }
    assert!(matches!(refused(jwks(&useless)), JwtKeyError::Jwks(_)));
}

#[rstest]
#[case::symmetric(json!({"kty": "oct", "kid": "o", "k": "AAAA"}), "symmetric key")]
#[case::symmetric_in_disguise(json!({"kty": "RSA", "kid": "o", "k": "AAAA"}), "symmetric key")]
#[case::private(json!({"kty": "OKP", "crv": "Ed25519", "kid": "o", "x": "AA", "d": "AA"}), "private")]
#[case::repeated(P256.jwk("p"), "same kid as another key")]
#[case::short(json!({"kty": "RSA", "kid": "s", "n": base64url([0xff; 128]), "e": "AQAB"}), "1024 bits")]
#[case::padded(
    json!({"kty": "RSA", "kid": "s", "n": base64url([[0; 128], [0xff; 128]].concat()), "e": "AQAB"}),
    "1024 bits"
)]
#[case::empty(json!({"kty": "RSA", "kid": "s", "n": "", "e": "AQAB"}), "0 bits")]
fn an_unfit_key_spoils_the_set(#[case] key: Value, #[case] expected: &str) {
    let message = refused(jwks(&[P256.jwk("p"), key])).to_string();
    assert!(message.starts_with("TIERKEEP_JWKS_FILE: "), "{message}");
    assert!(message.contains(expected), "{message}");
}

#[rstest]
#[case("")]
#[case("no JSON")]
#[case("[]")]
#[case("{}")]
#[case(r#"{"keys": {}}"#)]
#[case(r#"{"keys": []}"#)]
#[case(r#"{"keys": [5, null, "x"]}"#)]
fn a_text_that_is_no_set_of_keys_is_refused(#[case] json: &str) {
    assert!(matches!(
        refused(JwtKeys::Jwks(json.to_owned())),
        JwtKeyError::Jwks(_)
    ));
}
