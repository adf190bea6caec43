//! Development tokens.

use std::time::Duration;

use rstest::rstest;
use secrecy::ExposeSecret;
use tierkeep_core::bson::DateTime;
use tierkeep_identity::{IssueError, JwtKeyError, RoleClaim, issue_development_token};

use crate::support::{FixedClock, NOW, SECRET, SUBJECT, secret_keys, verifier};

const HOUR: Duration = Duration::from_hours(1);

#[rstest]
#[case(None)]
#[case(Some(RoleClaim::Hr))]
#[case(Some(RoleClaim::Admin))]
fn an_issued_token_is_believed(#[case] role: Option<RoleClaim>) {
    let subject = SUBJECT.to_uppercase();
    let token =
        issue_development_token(&SECRET.into(), &subject, role, HOUR, &FixedClock(NOW)).unwrap();
    let jwt = verifier(secret_keys())
        .verify(token.expose_secret())
        .unwrap();
    assert_eq!((jwt.subject.as_str(), jwt.role), (SUBJECT, role));
    assert_eq!(jwt.expires_at, DateTime::from_millis((NOW + 3600) * 1000));
}

#[test]
fn no_token_is_issued_with_a_secret_that_no_verifier_takes() {
    let clock = FixedClock(NOW);
    let refused = issue_development_token(&"short".into(), SUBJECT, None, HOUR, &clock);
    let short = JwtKeyError::ShortSecret {
        setting: "SECRET_KEY",
        length_bytes: 5,
    };
    assert_eq!(refused.unwrap_err(), IssueError::Secret(short));
}

#[test]
fn no_token_is_issued_for_a_subject_that_is_no_user() {
    let clock = FixedClock(NOW);
    let refused = issue_development_token(&SECRET.into(), "me@example.org", None, HOUR, &clock);
    assert!(matches!(refused, Err(IssueError::Subject(_))));
}

#[test]
fn no_token_is_issued_that_is_never_valid() {
    let ttl = Duration::from_millis(999);
    let refused = issue_development_token(&SECRET.into(), SUBJECT, None, ttl, &FixedClock(NOW));
    assert_eq!(refused.unwrap_err(), IssueError::TimeToLive(ttl));
}

#[test]
fn a_token_for_ever_is_issued_with_the_last_date() {
    let ttl = Duration::MAX;
    let token = issue_development_token(&SECRET.into(), SUBJECT, None, ttl, &FixedClock(NOW));
    assert!(
        verifier(secret_keys())
            .verify(token.unwrap().expose_secret())
            .is_ok()
    );
}
