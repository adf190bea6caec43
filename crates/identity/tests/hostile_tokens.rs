//! Forged and malformed tokens: none is accepted, none causes a panic.

use aws_lc_rs::hmac;
use proptest::prelude::*;
use serde_json::json;
use tierkeep_identity::{JwtKeys, JwtRefused, JwtVerifier};

use crate::support::hostile::{Hostile, all, headed, saying};
use crate::support::{
    ED25519, P256, RSA, SUBJECT, claims, header_of, hmac_signed, jwks, secret_keys, token,
    unsigned, verifier, with_signature,
};

#[test]
fn no_hostile_token_is_believed() {
    let verifier = verifier(secret_keys());
    assert!(
        verifier.verify(&token(&claims())).is_ok(),
        "an honest token is"
    );
    let list = all();
    assert!(list.len() >= 40, "{} hostile tokens", list.len());
    let astray: Vec<_> = list
        .iter()
        .map(|hostile| (hostile, verifier.verify(&hostile.token)))
        .filter(|(hostile, answer)| *answer != Err(hostile.expected))
        .map(|(hostile, answer)| (hostile.what, hostile.expected, answer))
        .collect();
    assert!(astray.is_empty(), "what, expected, found: {astray:#?}");
}

#[test]
fn no_hostile_token_is_believed_by_verifiers_of_public_keys() {
    let verifiers: [JwtVerifier; 4] = [
        verifier(JwtKeys::PublicKeyPem(RSA.pem())),
        verifier(JwtKeys::PublicKeyPem(P256.pem())),
        verifier(JwtKeys::PublicKeyPem(ED25519.pem())),
        verifier(jwks(&[RSA.jwk("r"), P256.jwk("p"), ED25519.jwk("e")])),
    ];
    for Hostile { what, token, .. } in all() {
        for verifier in &verifiers {
            // The list's one RSA signature belongs to a key that the first of these knows.
            let known = what == "RS256" && verifier.verify(&token).is_ok();
            assert!(known || verifier.verify(&token).is_err(), "{what}");
        }
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    for signer in [&*RSA, &*P256, &*ED25519] {
        let (pem, der) = (signer.pem(), signer.der());
        let verifiers = [
            (
                verifier(JwtKeys::PublicKeyPem(pem.clone())),
                JwtRefused::Algorithm,
            ),
            (verifier(jwks(&[signer.jwk("k")])), JwtRefused::Algorithm),
        ];
        for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), &der] {
            let confused = |alg: &str| {
                let header = json!({"alg": alg, "kid": "k"});
                hmac_signed(hmac::HMAC_SHA256, header, claims(), secret)
            };
            for (verifier, expected) in &verifiers {
                assert_eq!(verifier.verify(&confused("HS256")), Err(*expected));
                let honest_name = verifier.verify(&confused(signer.algorithm()));
                assert_eq!(honest_name, Err(JwtRefused::Signature));
            }
        }
    }
}

#[test]
fn an_embedded_public_key_is_not_used() {
    let signed_by_theirs = ED25519.sign(
        json!({"alg": "EdDSA", "kid": "e", "jwk": ED25519.jwk("e"), "jku": "https://keys.example"}),
        claims(),
    );
    let other = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let ours = crate::support::Signer::Ed25519(other);
    let by_pem = verifier(JwtKeys::PublicKeyPem(ours.pem()));
    assert_eq!(by_pem.verify(&signed_by_theirs), Err(JwtRefused::Signature));
    let by_set = verifier(jwks(&[ours.jwk("e")]));
    assert_eq!(by_set.verify(&signed_by_theirs), Err(JwtRefused::Signature));
}

#[test]
fn header_fields_that_are_not_read_change_nothing() {
    let header = json!({
        "alg": "HS256", "typ": "at+jwt", "kid": "any", "x": vec![json!([]); 100],
        "jwk": {"kty": 5}, "jku": ["http://127.0.0.1"], "x5u": {}, "x5c": "AAAA",
    });
    assert!(verifier(secret_keys()).verify(&headed(&header)).is_ok());
}

#[test]
fn an_ecdsa_signature_of_zeros_is_refused() {
    let verifier = verifier(JwtKeys::PublicKeyPem(P256.pem()));
    for signature in [vec![0; 64], vec![], vec![0; 32], vec![0xff; 64]] {
        let forged = with_signature(&unsigned(header_of("ES256"), claims()), signature);
        assert_eq!(verifier.verify(&forged), Err(JwtRefused::Signature));
    }
}

#[test]
fn refusals_are_fixed_texts() {
    for Hostile {
        token, expected, ..
    } in all()
    {
        let reason = expected.to_string();
        assert!(!reason.contains(SUBJECT) && (token.len() < 8 || !reason.contains(&token)));
        assert!(reason.starts_with("the JWT") || reason.starts_with("a time in the JWT"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_token_changed_in_one_place_is_believed(
        at in any::<prop::sample::Index>(),
        with in prop::char::range('!', '~'),
    ) {
        let honest = token(&claims());
        let at = at.index(honest.len());
        prop_assume!(!honest[at..].starts_with(with));
        let changed = format!("{}{with}{}", &honest[..at], &honest[at + 1..]);
        prop_assert!(verifier(secret_keys()).verify(&changed).is_err());
    }

    #[test]
    fn text_without_a_valid_signature_is_refused(text in "\\PC{0,60}(\\.\\PC{0,60}){0,4}") {
        prop_assert!(verifier(secret_keys()).verify(&text).is_err());
    }

    #[test]
    fn no_signed_payload_panics(text in "\\PC{0,80}") {
        prop_assert!(verifier(secret_keys()).verify(&saying(&text)).is_err());
    }
}
