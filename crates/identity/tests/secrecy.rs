//! No secret is printed by anything that can be printed.

use std::fmt::Debug;
use std::time::Duration;

use tierkeep_identity::{
    Credentials, GithubSettings, GithubVerifier, HeaderText, JwtKeys, JwtSettings, JwtVerifier,
    UserTypeDetector, issue_development_token,
};

use crate::support::{FixedClock, GITHUB_TOKEN, NOW, P256, SECRET, SUBJECT, bearer, clock};
use crate::support::{claims, detector, github, github_settings, jwks, token};

const MARK: &str = "hunter2";

fn says_nothing(what: &(impl Debug + ?Sized), secrets: &[&str]) {
    for text in [format!("{what:?}"), format!("{what:#?}")] {
        for secret in secrets {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

fn marked() -> String {
    format!("{MARK}{}", "x".repeat(40))
}

#[test]
fn keys_and_verifiers_do_not_print_secrets() {
    let keys = JwtKeys::Secret {
        current: marked().into(),
        previous: Some(marked().into()),
    };
    says_nothing(&keys, &[MARK]);
    let settings = JwtSettings::new(keys);
    says_nothing(&settings, &[MARK]);
    says_nothing(&JwtVerifier::new(settings, clock()).unwrap(), &[MARK]);
    says_nothing(&JwtKeys::PublicKeyPem(marked()), &[MARK]);
    says_nothing(&JwtKeys::Jwks(marked()), &[MARK]);
}

#[test]
fn errors_about_keys_do_not_quote_them() {
    let mut oct = P256.jwk(MARK);
    oct["k"] = MARK.into();
    let unusable = [
        JwtKeys::Secret {
            current: MARK.into(),
            previous: None,
        },
        JwtKeys::Secret {
            current: marked().into(),
            previous: Some(MARK.into()),
        },
        JwtKeys::PublicKeyPem(marked()),
        JwtKeys::PublicKeyPem(format!(
            "-----BEGIN PUBLIC KEY-----\n{MARK}\n-----END PUBLIC KEY-----"
        )),
        JwtKeys::Jwks(marked()),
        JwtKeys::Jwks(format!(r#"{{"keys": ["{MARK}"]}}"#)),
        jwks(&[oct]),
        jwks(&[P256.jwk(MARK), P256.jwk(MARK)]),
    ];
    for keys in unusable {
        let error = JwtVerifier::new(JwtSettings::new(keys), clock()).unwrap_err();
        says_nothing(&error, &[MARK]);
        assert!(!error.to_string().contains(MARK), "{error}");
    }
    let clock = FixedClock(NOW);
    let ttl = Duration::from_mins(1);
    let error = issue_development_token(&MARK.into(), SUBJECT, None, ttl, &clock).unwrap_err();
    says_nothing(&error, &[MARK]);
}

#[test]
fn an_issued_token_does_not_print() {
    let ttl = Duration::from_mins(1);
    let token = issue_development_token(&SECRET.into(), SUBJECT, None, ttl, &FixedClock(NOW));
    says_nothing(&token.unwrap(), &["eyJ"]);
}

#[test]
fn credentials_do_not_print() {
    let credentials = Credentials {
        authorization: bearer(&marked()),
        github_token: vec![HeaderText::from(marked()), HeaderText::from_bytes(marked())],
        usernames: vec!["srie06".into()],
    };
    says_nothing(&credentials, &[MARK, "104, 117, 110, 116, 101, 114"]);
    assert!(
        format!("{credentials:?}").contains("srie06"),
        "the public name is no secret"
    );
}

#[test]
fn an_address_with_a_password_is_refused_without_quoting_it() {
    let api_url = format!("https://me:{MARK}@api.github.com");
    let error = GithubVerifier::new(&GithubSettings {
        api_url,
        ..GithubSettings::default()
    });
    let error = error.unwrap_err();
    says_nothing(&error, &[MARK]);
    assert!(!error.to_string().contains(MARK));
}

#[tokio::test]
async fn a_detector_that_has_seen_tokens_does_not_print_them() {
    let server = github().await;
    let detector: UserTypeDetector = detector(&github_settings(&server), false);
    let jwt = token(&claims());
    let credentials = Credentials {
        authorization: bearer(&jwt),
        github_token: vec![GITHUB_TOKEN.into()],
        usernames: vec![],
    };
    let detection = detector.detect(&credentials).await;
    let secrets = [jwt.as_str(), "eyJ", GITHUB_TOKEN, SECRET];
    says_nothing(&detection, &secrets);
    says_nothing(&detector, &secrets);
}
