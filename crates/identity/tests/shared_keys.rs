//! Keys that are replaced while tokens are checked: a token is accepted if the newest keys accept it, and unusable keys
//! change nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tierkeep_identity::{JwtKeyError, JwtKeys, JwtRefused, Look, NewerKeys, SharedKeys};

use crate::support::{
    ED25519, P256, PREVIOUS, SECRET, Signer, claims, header_of, hs256, jwks, secret_keys, token,
    verifier,
};

fn secret(current: &str, previous: Option<&str>) -> JwtKeys {
    JwtKeys::Secret {
        current: current.into(),
        previous: previous.map(Into::into),
    }
}

fn signed(signer: &Signer, kid: &str) -> String {
    let mut header = header_of(signer.algorithm());
    header["kid"] = kid.into();
    signer.sign(header, claims())
}

#[test]
fn a_replaced_key_is_believed_no_longer_and_the_new_one_is() {
    let verifier = verifier(secret(PREVIOUS, None));
    let keys = verifier.shared_keys().unwrap();
    let (old, new) = (
        hs256(header_of("HS256"), claims(), PREVIOUS),
        token(&claims()),
    );
    assert!(verifier.verify(&old).is_ok());
    assert_eq!(verifier.verify(&new), Err(JwtRefused::Signature));
    keys.replace(secret(SECRET, Some(PREVIOUS))).unwrap();
    assert!(verifier.verify(&old).is_ok() && verifier.verify(&new).is_ok());
    keys.replace(secret(SECRET, None)).unwrap();
    assert_eq!(verifier.verify(&old), Err(JwtRefused::Signature));
    assert!(verifier.verify(&new).is_ok());
}

#[test]
fn unfit_keys_leave_the_old_ones_in_use() {
    let verifier = verifier(secret_keys());
    let keys = verifier.shared_keys().unwrap();
    for unfit in [
        secret("short", None),
        JwtKeys::Jwks("{".into()),
        JwtKeys::PublicKeyPem("no key".into()),
        JwtKeys::JwksUrl("https://keys.example.org".into()),
    ] {
        assert!(keys.replace(unfit).is_err());
        assert!(verifier.verify(&token(&claims())).is_ok());
    }
    let error: JwtKeyError = keys.replace(secret("short", None)).unwrap_err();
    assert!(!error.to_string().contains("short"), "{error}");
}

/// Keys that lie ready, and how often was looked for them.
#[derive(Debug)]
struct Ready {
    keys: SharedKeys,
    newer: Mutex<Option<JwtKeys>>,
    looks: AtomicUsize,
}

impl NewerKeys for Ready {
    fn look(&self) -> Look<'_> {
        Box::pin(async {
            self.looks.fetch_add(1, Ordering::Relaxed);
            if let Some(newer) = self.newer.lock().unwrap().take() {
                self.keys.replace(newer).unwrap();
            }
        })
    }
}

#[tokio::test]
async fn a_token_of_newer_keys_is_believed_at_once_and_no_other_causes_a_look() {
    let old = jwks(&[ED25519.jwk("old")]);
    let both = jwks(&[ED25519.jwk("old"), P256.jwk("new")]);
    let verifier = verifier(old);
    let ready = Arc::new(Ready {
        keys: verifier.shared_keys().unwrap(),
        newer: Mutex::new(Some(both)),
        looks: AtomicUsize::new(0),
    });
    let verifier = verifier.with_newer_keys(Arc::clone(&ready) as Arc<dyn NewerKeys>);
    let looks = || ready.looks.load(Ordering::Relaxed);

    assert!(
        verifier
            .verify_with_new_keys(&signed(&ED25519, "old"))
            .await
            .is_ok()
    );
    let mut expired = claims();
    expired["exp"] = 1.into();
    let mut header = header_of("EdDSA");
    header["kid"] = "old".into();
    let expired = ED25519.sign(header, expired);
    assert_eq!(
        verifier.verify_with_new_keys(&expired).await,
        Err(JwtRefused::Expired)
    );
    assert_eq!(looks(), 0);

    // Two at once: one of them finds the keys replaced by the other.
    let new = signed(&P256, "new");
    let (one, other) = tokio::join!(
        verifier.verify_with_new_keys(&new),
        verifier.verify_with_new_keys(&new)
    );
    assert!(one.is_ok() && other.is_ok());
    assert!((1..=2).contains(&looks()));
    assert!(
        verifier
            .verify_with_new_keys(&signed(&ED25519, "old"))
            .await
            .is_ok()
    );
    let unknown = signed(&P256, "unheard of");
    let before = looks();
    assert_eq!(
        verifier.verify_with_new_keys(&unknown).await,
        Err(JwtRefused::UnknownKey)
    );
    assert_eq!(looks(), before + 1);
}
