//! Requests in, decisions out.

use futures_util::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_core::identity::{Caller, Decision, InvalidUsername};
use tierkeep_identity::{
    Credentials, Detection, GithubSettings, GithubVerification, HeaderText, JwtRefused,
    JwtRequired, RoleClaim,
};
use wiremock::ResponseTemplate;

use crate::support::{
    GITHUB_TOKEN, OWNER_ID, SUBJECT, asked, bearer, claims, detector, github, github_settings,
    github_with, owner_body, token, with,
};

fn both() -> Credentials {
    with_claims(&claims())
}

fn with_claims(claims: &Value) -> Credentials {
    Credentials {
        authorization: bearer(&token(claims)),
        github_token: vec![GITHUB_TOKEN.into()],
        usernames: vec![],
    }
}

fn named(name: &str, mut credentials: Credentials) -> Credentials {
    credentials.usernames.push(name.into());
    credentials
}

async fn detect(credentials: &Credentials) -> Detection {
    let server = github().await;
    detector(&github_settings(&server), false)
        .detect(credentials)
        .await
}

fn is_internal(decision: &Decision) -> bool {
    matches!(decision, Decision::Caller(Caller { user, ambiguous: false, .. })
        if user.as_str() == format!("internal_{SUBJECT}"))
}

fn reason(decision: &Decision) -> &'static str {
    match decision {
        Decision::CredentialsRequired {
            reason,
            ambiguous: true,
        } => reason,
        Decision::CredentialsRequired {
            ambiguous: false, ..
        }
        | Decision::Caller(_)
        | Decision::IdentityUnavailable
        | Decision::InvalidUsername(_)
        | Decision::AmbiguousIdentity => panic!("{decision:?} wants no other credentials"),
    }
}

#[tokio::test]
async fn both_credentials_make_an_internal_user_with_a_known_owner() {
    let detection = detect(&both()).await;
    assert!(is_internal(&detection.decision));
    let owner = detection.github_owner.unwrap();
    assert_eq!((owner.id, owner.login.as_str()), (OWNER_ID, "OctoCat"));
    assert_eq!(detection.jwt.unwrap().subject, SUBJECT);
}

#[rstest]
#[case("Bearer")]
#[case("bearer")]
#[case("BEARER")]
#[case("BeArEr")]
#[case("Bearer  ")]
#[tokio::test]
async fn the_scheme_is_read_in_any_letter_case(#[case] scheme: &str) {
    let authorization = vec![HeaderText::from(format!("{scheme} {}", token(&claims())))];
    assert!(is_internal(
        &detect(&Credentials {
            authorization,
            ..both()
        })
        .await
        .decision
    ));
}

#[rstest]
#[case::empty("")]
#[case::scheme_alone("Bearer")]
#[case::scheme_and_space("Bearer ")]
#[case::basic("Basic dXNlcjpwdw==")]
#[case::no_scheme("eyJhbGciOiJIUzI1NiJ9.e30.AAAA")]
#[case::colon("Bearer: abc")]
#[case::two_tokens("Bearer abc def")]
#[case::comma("Bearer abc, Bearer def")]
#[case::tab("Bearer\tabc")]
#[case::other_script("Bearer ключ")]
#[tokio::test]
async fn another_authorization_is_an_invalid_one(#[case] header: &str) {
    let credentials = Credentials {
        authorization: vec![header.into()],
        ..both()
    };
    let decision = detect(&credentials).await.decision;
    let reason = reason(&decision);
    assert!(
        reason.contains("bearer token") || reason.contains("malformed"),
        "{reason}"
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_are_an_invalid_credential() {
    let junk = || vec![HeaderText::from_bytes(*b"Bearer \xff\xfe\x00")];
    let in_jwt = Credentials {
        authorization: junk(),
        ..both()
    };
    assert!(reason(&detect(&in_jwt).await.decision).contains("bearer token"));
    let in_github = Credentials {
        github_token: junk(),
        ..both()
    };
    assert_eq!(
        reason(&detect(&in_github).await.decision),
        "the GitHub token is malformed"
    );
}

#[tokio::test]
async fn a_header_sent_twice_is_an_invalid_credential_even_with_one_value() {
    let twice = |header: &[HeaderText]| [header, header].concat();
    let jwt = Credentials {
        authorization: twice(&both().authorization),
        ..both()
    };
    assert!(reason(&detect(&jwt).await.decision).contains("more than one Authorization"));
    let github = Credentials {
        github_token: twice(&both().github_token),
        ..both()
    };
    assert!(reason(&detect(&github).await.decision).contains("more than one X-GitHub-Token"));
}

#[rstest]
#[case::login(json!({"github_login": "OctoCat"}), true)]
#[case::login_in_another_case(json!({"github_login": "octocat"}), true)]
#[case::login_in_capitals(json!({"github_login": "OCTOCAT"}), true)]
#[case::id(json!({"github_id": OWNER_ID}), true)]
#[case::id_as_text(json!({"github_id": OWNER_ID.to_string()}), true)]
#[case::both(json!({"github_id": OWNER_ID, "github_login": "octocat"}), true)]
#[case::another_login(json!({"github_login": "hubot"}), false)]
#[case::empty_login(json!({"github_login": ""}), false)]
#[case::another_id(json!({"github_id": OWNER_ID + 1}), false)]
#[case::right_id_wrong_login(json!({"github_id": OWNER_ID, "github_login": "hubot"}), false)]
#[case::wrong_id_right_login(json!({"github_id": 1, "github_login": "octocat"}), false)]
#[tokio::test]
async fn the_token_must_belong_to_the_account_that_the_jwt_names(
    #[case] extra: Value,
    #[case] matches: bool,
) {
    let mut claims = claims();
    for (key, value) in extra.as_object().unwrap() {
        claims[key] = value.clone();
    }
    let detection = detect(&with_claims(&claims)).await;
    assert_eq!(is_internal(&detection.decision), matches);
    assert_eq!(detection.github_owner.is_some(), matches);
    if !matches {
        assert!(reason(&detection.decision).contains("a different account"));
    }
}

#[tokio::test]
async fn github_is_asked_only_where_its_answer_matters() {
    let server = github().await;
    let detector = detector(&github_settings(&server), false);
    let expired = with_claims(&with("exp", 0));
    let without_jwt = Credentials {
        authorization: vec![],
        ..both()
    };
    let basic = Credentials {
        authorization: vec!["Basic abc".into()],
        ..both()
    };
    let without_github = Credentials {
        github_token: vec![],
        ..both()
    };
    let unasked = [
        Credentials::default(),
        named("srie06", both()),
        named("not a name", both()),
        named("srie06", named("srie06", both())),
        expired,
        without_jwt,
        basic,
        without_github,
    ];
    for credentials in unasked {
        assert!(!is_internal(&detector.detect(&credentials).await.decision));
    }
    assert_eq!(asked(&server).await, 0);
    assert!(is_internal(&detector.detect(&both()).await.decision));
    assert_eq!(asked(&server).await, 1);
}

#[tokio::test]
async fn many_requests_at_once_ask_github_once() {
    let answer = owner_body().set_delay(std::time::Duration::from_millis(100));
    let server = github_with(answer).await;
    let (detector, credentials) = (detector(&github_settings(&server), false), both());
    let detections = join_all((0..100).map(|_| detector.detect(&credentials))).await;
    assert!(
        detections
            .iter()
            .all(|detection| is_internal(&detection.decision))
    );
    assert_eq!(asked(&server).await, 1);
}

#[rstest]
#[case(403)]
#[case(429)]
#[case(500)]
#[tokio::test]
async fn a_valid_jwt_waits_while_github_is_away(#[case] status: u16) {
    let server = github_with(ResponseTemplate::new(status)).await;
    let detector = detector(&github_settings(&server), false);
    let detection = detector.detect(&both()).await;
    assert_eq!(detection.decision, Decision::IdentityUnavailable);
    assert_eq!(detection.github_owner, None);

    let public = detector.detect(&named("srie06", both())).await.decision;
    assert!(
        matches!(public, Decision::Caller(caller) if caller.ambiguous),
        "public data is served"
    );
    let expired = detector
        .detect(&with_claims(&with("exp", 0)))
        .await
        .decision;
    assert_eq!(reason(&expired), "the JWT has expired");
}

#[tokio::test]
async fn a_public_user_needs_no_credentials() {
    let credentials = named("SRIE06", Credentials::default());
    let Decision::Caller(caller) = detect(&credentials).await.decision else {
        panic!("the request names a public user");
    };
    assert_eq!(
        (caller.user.as_str(), caller.ambiguous),
        ("external_srie06", false)
    );
}

#[tokio::test]
async fn a_public_name_beside_credentials_is_ambiguous_and_strictly_refused() {
    let server = github().await;
    let credentials = named("srie06", both());
    let lenient = detector(&github_settings(&server), false)
        .detect(&credentials)
        .await;
    assert!(matches!(lenient.decision, Decision::Caller(caller)
        if caller.ambiguous && caller.user.as_str() == "external_srie06"));
    assert!(
        lenient.jwt.is_some(),
        "whose credentials came along is known to the audit"
    );
    let strict = detector(&github_settings(&server), true)
        .detect(&credentials)
        .await;
    assert_eq!(strict.decision, Decision::AmbiguousIdentity);
}

#[rstest]
#[case("")]
#[case("a.b")]
#[case("a b")]
#[case("a\0")]
#[case("../admin")]
#[case("{\"$ne\":null}")]
#[case("internal_507f1f77bcf86cd799439011_and_more_letters")]
#[case("имя")]
#[tokio::test]
async fn a_malformed_name_is_told_whatever_came_along(#[case] name: &str) {
    for credentials in [Credentials::default(), both(), with_claims(&with("exp", 0))] {
        let decision = detect(&named(name, credentials)).await.decision;
        assert!(matches!(
            decision,
            Decision::InvalidUsername(InvalidUsername::Malformed(_))
        ));
    }
}

#[tokio::test]
async fn a_repeated_name_is_told_whatever_came_along() {
    for credentials in [Credentials::default(), both()] {
        let twice = named("srie06", named("srie06", credentials));
        let decision = detect(&twice).await.decision;
        assert_eq!(
            decision,
            Decision::InvalidUsername(InvalidUsername::Repeated)
        );
    }
}

#[tokio::test]
async fn nothing_sent_is_not_ambiguous() {
    let decision = detect(&Credentials::default()).await.decision;
    let nobody = Decision::CredentialsRequired {
        ambiguous: false,
        reason: "the JWT is missing",
    };
    assert_eq!(decision, nobody);
}

#[tokio::test]
async fn any_well_formed_token_suffices_while_verification_is_off() {
    let settings = GithubSettings {
        verification: GithubVerification::Off,
        ..GithubSettings::default()
    };
    let detector = detector(&settings, false);
    let named_account = with_claims(&with("github_login", "somebody"));
    let detection = detector.detect(&named_account).await;
    assert!(is_internal(&detection.decision));
    assert_eq!(detection.github_owner, None);

    let without_github = Credentials {
        github_token: vec![],
        ..both()
    };
    assert_eq!(
        reason(&detector.detect(&without_github).await.decision),
        "the GitHub token is missing"
    );
    let malformed = Credentials {
        github_token: vec!["a b".into()],
        ..both()
    };
    assert_eq!(
        reason(&detector.detect(&malformed).await.decision),
        "the GitHub token is malformed"
    );
}

#[tokio::test]
async fn routes_with_a_role_need_the_jwt_alone() {
    let detector = detector(&GithubSettings::default(), false);
    let hr = bearer(&token(&with("role", "hr")));
    assert!(detector.role(&hr).await.unwrap().has_role(RoleClaim::Hr));
    let plain = detector.role(&bearer(&token(&claims()))).await.unwrap();
    assert_eq!(plain.role, None);

    let expired = bearer(&token(&with("exp", 0)));
    let refusals = [
        (vec![], JwtRequired::Missing),
        ([hr.clone(), hr].concat(), JwtRequired::Repeated),
        (vec!["Basic abc".into()], JwtRequired::NotBearer),
        (expired, JwtRequired::Refused(JwtRefused::Expired)),
    ];
    for (authorization, expected) in refusals {
        let refused = detector.role(&authorization).await.unwrap_err();
        assert_eq!(refused, expected);
        assert_eq!(refused.to_string(), refused.reason());
    }
}
