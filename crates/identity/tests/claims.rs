//! The claims that a valid token must have, and what is read from them.

use std::process::Command;
use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_core::bson::DateTime;
use tierkeep_identity::{JwtRefused, JwtSettings, JwtVerifier, RoleClaim, VerifiedJwt};

use crate::support::{
    FixedClock, NOW, SUBJECT, claims, clock, secret_keys, token, verifier, with, without,
};

fn read(claims: &Value) -> Result<VerifiedJwt, JwtRefused> {
    verifier(secret_keys()).verify(&token(claims))
}

#[test]
fn a_token_names_its_internal_user_and_its_times() {
    let jwt = read(&claims()).unwrap();
    assert_eq!(jwt.user.as_str(), format!("internal_{SUBJECT}"));
    assert_eq!(jwt.subject, SUBJECT);
    assert_eq!(
        jwt.issued_at,
        Some(DateTime::from_millis((NOW - 60) * 1000))
    );
    assert_eq!(jwt.expires_at, DateTime::from_millis((NOW + 3600) * 1000));
    assert_eq!(
        (jwt.github_login, jwt.github_id, jwt.role),
        (None, None, None)
    );
}

#[test]
fn a_subject_in_upper_case_is_the_same_user() {
    let jwt = read(&with("sub", SUBJECT.to_uppercase())).unwrap();
    assert_eq!(jwt, read(&claims()).unwrap());
}

#[test]
fn a_token_without_issue_time_is_believed() {
    assert_eq!(read(&without("iat")).unwrap().issued_at, None);
}

/// Everything here is also run under other time zones.
mod times {
    use super::*;

    #[rstest]
    #[case::expires_in_a_second("exp", NOW + 1, Ok(()))]
    #[case::expires_now("exp", NOW, Err(JwtRefused::Expired))]
    #[case::expired_a_second_ago("exp", NOW - 1, Err(JwtRefused::Expired))]
    #[case::expired_hours_ago("exp", NOW - 6 * 3600, Err(JwtRefused::Expired))]
    #[case::expires_at_the_last_date("exp", i64::MAX / 1000, Ok(()))]
    #[case::expires_after_the_last_date("exp", i64::MAX, Err(JwtRefused::TimeMalformed))]
    #[case::valid_from_now("nbf", NOW, Ok(()))]
    #[case::valid_within_the_leeway("nbf", NOW + 60, Ok(()))]
    #[case::valid_beyond_the_leeway("nbf", NOW + 61, Err(JwtRefused::NotYetValid))]
    #[case::valid_in_hours("nbf", NOW + 5 * 3600, Err(JwtRefused::NotYetValid))]
    #[case::issued_within_the_leeway("iat", NOW + 60, Ok(()))]
    #[case::issued_beyond_the_leeway("iat", NOW + 61, Err(JwtRefused::IssuedInFuture))]
    #[case::issued_long_ago("iat", 0, Ok(()))]
    fn time_claims_are_held_against_the_clock(
        #[case] claim: &str,
        #[case] seconds: i64,
        #[case] expected: Result<(), JwtRefused>,
    ) {
        assert_eq!(read(&with(claim, seconds)).map(drop), expected);
    }

    #[test]
    fn fractions_of_a_second_count() {
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds of this century fit a float"
        )]
        let now = NOW as f64;
        assert!(read(&with("exp", now + 0.5)).is_ok());
        assert_eq!(
            read(&with("exp", now - 0.5)).map(drop),
            Err(JwtRefused::Expired)
        );
        assert_eq!(
            read(&with("nbf", now + 60.5)).map(drop),
            Err(JwtRefused::NotYetValid)
        );
    }

    #[test]
    fn the_same_token_is_believed_until_the_clock_reaches_its_expiry() {
        let token = token(&claims());
        for (seconds, believed) in [(NOW, true), (NOW + 3599, true), (NOW + 3600, false)] {
            let clock = Arc::new(FixedClock(seconds));
            let verifier = JwtVerifier::new(JwtSettings::new(secret_keys()), clock).unwrap();
            assert_eq!(verifier.verify(&token).is_ok(), believed, "at {seconds}");
        }
    }
}

#[rstest]
#[case("UTC")]
#[case("Asia/Kolkata")]
#[case("America/Los_Angeles")]
fn time_claims_are_held_against_the_clock_in_every_time_zone(#[case] zone: &str) {
    let run = Command::new(std::env::current_exe().unwrap())
        .arg("claims::times::")
        .env("TZ", zone)
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{report}");
    assert!(report.contains("15 passed"), "{report}");
}

#[rstest]
#[case::role_hr(json!({"role": "hr"}), Some(RoleClaim::Hr))]
#[case::role_admin(json!({"role": "admin"}), Some(RoleClaim::Admin))]
#[case::user_type_hr(json!({"user_type": "hr"}), Some(RoleClaim::Hr))]
#[case::user_type_admin(json!({"user_type": "admin"}), Some(RoleClaim::Admin))]
#[case::developer(json!({"user_type": "developer"}), None)]
#[case::developer_role(json!({"role": "developer"}), None)]
#[case::internal(json!({"user_type": "internal"}), None)]
#[case::another_role_hides_the_user_type(json!({"role": "user", "user_type": "admin"}), None)]
#[case::a_null_role_hides_the_user_type(json!({"role": null, "user_type": "admin"}), None)]
#[case::the_role_wins(json!({"role": "hr", "user_type": "admin"}), Some(RoleClaim::Hr))]
#[case::upper_case(json!({"role": "Admin"}), None)]
#[case::spaces(json!({"role": " admin"}), None)]
#[case::list(json!({"role": ["admin"]}), None)]
#[case::object(json!({"role": {"$ne": null}}), None)]
#[case::truth(json!({"role": true, "is_admin": true, "admin": true}), None)]
#[case::plural(json!({"roles": ["admin"], "scope": "admin"}), None)]
fn roles_are_exactly_hr_and_admin(#[case] extra: Value, #[case] expected: Option<RoleClaim>) {
    let mut claims = claims();
    for (key, value) in extra.as_object().unwrap() {
        claims[key] = value.clone();
    }
    assert_eq!(read(&claims).unwrap().role, expected);
}

#[test]
fn admin_does_not_imply_hr() {
    let admin = read(&with("role", "admin")).unwrap();
    assert!(admin.has_role(RoleClaim::Admin) && !admin.has_role(RoleClaim::Hr));
}

#[rstest]
#[case("github_login", json!("OctoCat"), Ok((Some("OctoCat"), None)))]
#[case("github_login", json!(null), Ok((None, None)))]
#[case("github_login", json!(5), Err(JwtRefused::GithubLogin))]
#[case("github_login", json!({"$ne": ""}), Err(JwtRefused::GithubLogin))]
#[case("github_id", json!(583_231), Ok((None, Some(583_231))))]
#[case("github_id", json!("583231"), Ok((None, Some(583_231))))]
#[case("github_id", json!(null), Ok((None, None)))]
#[case("github_id", json!(""), Err(JwtRefused::GithubId))]
#[case("github_id", json!("+5"), Err(JwtRefused::GithubId))]
#[case("github_id", json!("5x"), Err(JwtRefused::GithubId))]
#[case("github_id", json!(-5), Err(JwtRefused::GithubId))]
#[case("github_id", json!(5.5), Err(JwtRefused::GithubId))]
#[case("github_id", json!("99999999999999999999999"), Err(JwtRefused::GithubId))]
#[case("github_id", json!([5]), Err(JwtRefused::GithubId))]
fn the_claims_about_github_are_read_or_refused(
    #[case] claim: &str,
    #[case] value: Value,
    #[case] expected: Result<(Option<&str>, Option<u64>), JwtRefused>,
) {
    let read = read(&with(claim, value));
    let read = read
        .as_ref()
        .map(|jwt| (jwt.github_login.as_deref(), jwt.github_id));
    assert_eq!(read.map_err(|why| *why), expected);
}

#[rstest]
#[case(json!({"iss": "us", "aud": "tierkeep"}), Ok(()))]
#[case(json!({"iss": "us", "aud": ["other", "tierkeep"]}), Ok(()))]
#[case(json!({"iss": "them", "aud": "tierkeep"}), Err(JwtRefused::Issuer))]
#[case(json!({"iss": ["us"], "aud": "tierkeep"}), Err(JwtRefused::Issuer))]
#[case(json!({"aud": "tierkeep"}), Err(JwtRefused::Issuer))]
#[case(json!({"iss": "us"}), Err(JwtRefused::Audience))]
#[case(json!({"iss": "us", "aud": "other"}), Err(JwtRefused::Audience))]
#[case(json!({"iss": "us", "aud": []}), Err(JwtRefused::Audience))]
#[case(json!({"iss": "us", "aud": [["tierkeep"]]}), Err(JwtRefused::Audience))]
#[case(json!({"iss": "us", "aud": {"tierkeep": true}}), Err(JwtRefused::Audience))]
fn issuer_and_audience_are_checked_where_configured(
    #[case] extra: Value,
    #[case] expected: Result<(), JwtRefused>,
) {
    let settings = JwtSettings {
        keys: secret_keys(),
        issuer: Some("us".into()),
        audience: Some("tierkeep".into()),
    };
    let mut claims = claims();
    for (key, value) in extra.as_object().unwrap() {
        claims[key] = value.clone();
    }
    let token = token(&claims);
    let checked = JwtVerifier::new(settings, clock())
        .unwrap()
        .verify(&token)
        .map(drop);
    assert_eq!(checked, expected);
    assert!(
        read(&claims).is_ok(),
        "neither is looked at where it is not configured"
    );
}
