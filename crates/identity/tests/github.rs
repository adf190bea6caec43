//! GitHub, over real HTTP to a stand-in.

use std::time::Duration;

use futures_util::future::join_all;
use rstest::rstest;
use tierkeep_identity::{
    GithubAnswer, GithubOwner, GithubSettings, GithubSettingsError, GithubVerification,
    GithubVerifier, Unreachable,
};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{
    GITHUB_TOKEN, NEVER, OWNER_ID, asked, github, github_settings, github_with, owner_body,
};

fn verifier(server: &MockServer) -> GithubVerifier {
    GithubVerifier::new(&github_settings(server)).unwrap()
}

fn octocat() -> GithubAnswer {
    GithubAnswer::Owner(GithubOwner {
        id: OWNER_ID,
        login: "OctoCat".into(),
    })
}

#[tokio::test]
async fn a_known_token_has_an_owner() {
    let server = github().await;
    assert_eq!(verifier(&server).check(GITHUB_TOKEN).await, octocat());
}

#[tokio::test]
async fn the_question_is_asked_as_github_wants_it() {
    let server = github().await;
    verifier(&server).check(GITHUB_TOKEN).await;
    let request = &server.received_requests().await.unwrap()[0];
    let header = |name: &str| request.headers[name].to_str().unwrap();
    assert_eq!(request.url.path(), "/user");
    assert_eq!(header("authorization"), "Bearer ghp_valid");
    assert_eq!(header("accept"), "application/vnd.github+json");
    assert!(header("user-agent").starts_with("tierkeep/"));
}

#[rstest]
#[case::forbidden(403)]
#[case::not_found(404)]
#[case::too_many(429)]
#[case::broken(500)]
#[case::bad_gateway(502)]
#[case::unavailable(503)]
#[case::no_content(204)]
#[case::not_modified(304)]
#[tokio::test]
async fn only_401_is_a_refusal(#[case] status: u16) {
    let server = github_with(ResponseTemplate::new(status)).await;
    let answer = verifier(&server).check(GITHUB_TOKEN).await;
    assert_eq!(
        answer,
        GithubAnswer::Unreachable(Unreachable::Status(status))
    );

    let server = github_with(ResponseTemplate::new(401)).await;
    assert_eq!(
        verifier(&server).check(GITHUB_TOKEN).await,
        GithubAnswer::Refused
    );
}

#[rstest]
#[case("")]
#[case("<html>sign in</html>")]
#[case("{}")]
#[case(r#"{"login": "octocat"}"#)]
#[case(r#"{"id": 5}"#)]
#[case(r#"{"id": "5", "login": "octocat"}"#)]
#[case(r#"{"id": -5, "login": "octocat"}"#)]
#[case(r#"{"id": 0, "login": "octocat"}"#)]
#[case(r#"{"id": 5, "login": ""}"#)]
#[case(r#"{"id": 5, "login": null}"#)]
#[case(r#"[5, "octocat"]"#)]
#[case(r#"{"id": 5, "login": "octocat""#)]
#[case("null")]
#[tokio::test]
async fn an_answer_that_names_no_owner_is_no_answer(#[case] body: &str) {
    let server = github_with(ResponseTemplate::new(200).set_body_string(body)).await;
    let answer = verifier(&server).check(GITHUB_TOKEN).await;
    assert_eq!(answer, GithubAnswer::Unreachable(Unreachable::Malformed));
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let body = format!(
        r#"{{"id": 5, "login": "octocat", "bio": "{}"}}"#,
        "x".repeat(300_000)
    );
    let server = github_with(ResponseTemplate::new(200).set_body_string(body)).await;
    let answer = verifier(&server).check(GITHUB_TOKEN).await;
    assert_eq!(answer, GithubAnswer::Unreachable(Unreachable::Malformed));
}

#[rstest]
#[case(301)]
#[case(302)]
#[case(307)]
#[case(308)]
#[tokio::test]
async fn a_redirect_is_not_followed(#[case] status: u16) {
    let elsewhere = github_with(owner_body()).await;
    let to = ResponseTemplate::new(status).insert_header("location", elsewhere.uri());
    let server = github_with(to).await;
    let answer = verifier(&server).check(GITHUB_TOKEN).await;
    assert_eq!(
        answer,
        GithubAnswer::Unreachable(Unreachable::Status(status))
    );
    assert_eq!(asked(&elsewhere).await, 0);
}

#[tokio::test]
async fn a_late_answer_is_no_answer() {
    let server = github_with(owner_body().set_delay(NEVER)).await;
    let settings = GithubSettings {
        total_timeout: Duration::from_millis(50),
        ..github_settings(&server)
    };
    let answer = GithubVerifier::new(&settings)
        .unwrap()
        .check(GITHUB_TOKEN)
        .await;
    assert_eq!(answer, GithubAnswer::Unreachable(Unreachable::Timeout));
}

#[tokio::test]
async fn a_server_that_is_gone_gives_no_answer() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let api_url = format!("http://127.0.0.1:{port}");
    let settings = GithubSettings {
        api_url,
        ..GithubSettings::default()
    };
    let answer = GithubVerifier::new(&settings)
        .unwrap()
        .check(GITHUB_TOKEN)
        .await;
    assert_eq!(answer, GithubAnswer::Unreachable(Unreachable::Connection));
}

#[tokio::test]
async fn an_owner_and_a_refusal_are_remembered() {
    let server = github().await;
    let verifier = verifier(&server);
    for _ in 0..5 {
        assert_eq!(verifier.check(GITHUB_TOKEN).await, octocat());
        assert_eq!(verifier.check("ghp_refused").await, GithubAnswer::Refused);
    }
    assert_eq!(asked(&server).await, 2);
}

#[tokio::test]
async fn a_refusal_is_forgotten_before_an_owner() {
    let server = github().await;
    let settings = GithubSettings {
        refusal_ttl: Duration::ZERO,
        ..github_settings(&server)
    };
    let verifier = GithubVerifier::new(&settings).unwrap();
    for _ in 0..3 {
        assert_eq!(verifier.check(GITHUB_TOKEN).await, octocat());
        assert_eq!(verifier.check("ghp_refused").await, GithubAnswer::Refused);
    }
    assert_eq!(asked(&server).await, 1 + 3);
}

#[tokio::test]
async fn an_owner_is_forgotten_after_its_while() {
    let server = github().await;
    let settings = GithubSettings {
        cache_ttl: Duration::ZERO,
        ..github_settings(&server)
    };
    let verifier = GithubVerifier::new(&settings).unwrap();
    for _ in 0..3 {
        assert_eq!(verifier.check(GITHUB_TOKEN).await, octocat());
    }
    assert_eq!(asked(&server).await, 3);
}

#[tokio::test]
async fn an_answer_that_could_not_be_had_is_asked_for_again() {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(2)
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(any())
        .respond_with(owner_body())
        .with_priority(2)
        .mount(&server)
        .await;
    let verifier = verifier(&server);
    for _ in 0..2 {
        let answer = verifier.check(GITHUB_TOKEN).await;
        assert_eq!(answer, GithubAnswer::Unreachable(Unreachable::Status(503)));
    }
    assert_eq!(verifier.check(GITHUB_TOKEN).await, octocat());
    assert_eq!(verifier.check(GITHUB_TOKEN).await, octocat());
    assert_eq!(asked(&server).await, 3);
}

#[tokio::test]
async fn many_who_ask_at_once_share_one_request() {
    let server = github_with(owner_body().set_delay(Duration::from_millis(100))).await;
    let verifier = verifier(&server);
    let answers = join_all((0..100).map(|_| verifier.check(GITHUB_TOKEN))).await;
    assert!(answers.into_iter().all(|answer| answer == octocat()));
    assert_eq!(asked(&server).await, 1);
}

#[tokio::test]
async fn many_who_ask_at_once_share_one_failure() {
    let delay = Duration::from_millis(100);
    let server = github_with(ResponseTemplate::new(500).set_delay(delay)).await;
    let verifier = verifier(&server);
    let answers = join_all((0..100).map(|_| verifier.check(GITHUB_TOKEN))).await;
    let failed = GithubAnswer::Unreachable(Unreachable::Status(500));
    assert!(answers.into_iter().all(|answer| answer == failed));
    assert_eq!(asked(&server).await, 1);
}

#[tokio::test]
async fn one_who_gives_up_does_not_spoil_it_for_others() {
    let server = github_with(owner_body().set_delay(Duration::from_millis(100))).await;
    let verifier = verifier(&server);
    let gives_up = tokio::time::timeout(Duration::from_millis(20), verifier.check(GITHUB_TOKEN));
    let (given_up, answer) = tokio::join!(gives_up, verifier.check(GITHUB_TOKEN));
    assert!(given_up.is_err());
    assert_eq!(answer, octocat());
}

#[tokio::test]
async fn tokens_are_told_apart() {
    let server = github().await;
    let verifier = verifier(&server);
    assert_eq!(verifier.check(GITHUB_TOKEN).await, octocat());
    for other in ["ghp_valie", "ghp_valid2", "ghp_vali", "GHP_VALID"] {
        assert_eq!(
            verifier.check(other).await,
            GithubAnswer::Refused,
            "{other}"
        );
    }
}

#[rstest]
#[case::empty(String::new())]
#[case::space("ghp valid".into())]
#[case::newline("ghp_valid\n".into())]
#[case::second_header("ghp_valid\r\nX-Admin: 1".into())]
#[case::nul("ghp_valid\0".into())]
#[case::other_script("ghp_välid".into())]
#[case::delete("ghp_valid\u{7f}".into())]
#[case::long("g".repeat(1025))]
#[tokio::test]
async fn a_text_that_is_no_token_is_not_asked_about(#[case] token: String) {
    let server = github().await;
    for verification in [GithubVerification::On, GithubVerification::Off] {
        let settings = GithubSettings {
            verification,
            ..github_settings(&server)
        };
        let verifier = GithubVerifier::new(&settings).unwrap();
        assert_eq!(verifier.check(&token).await, GithubAnswer::Malformed);
    }
    assert_eq!(asked(&server).await, 0);
}

#[tokio::test]
async fn the_longest_token_is_asked_about() {
    let server = github().await;
    let answer = verifier(&server).check(&"g".repeat(1024)).await;
    assert_eq!((answer, asked(&server).await), (GithubAnswer::Refused, 1));
}

#[tokio::test]
async fn github_is_not_queried_while_verification_is_off() {
    let server = github().await;
    let settings = GithubSettings {
        verification: GithubVerification::Off,
        ..github_settings(&server)
    };
    let verifier = GithubVerifier::new(&settings).unwrap();
    assert_eq!(verifier.check("anything").await, GithubAnswer::Unverified);
    assert_eq!(asked(&server).await, 0);
}

#[test]
fn an_address_in_clear_text_is_refused_by_name() {
    let api_url = "http://api.github.com".to_owned();
    let settings = GithubSettings {
        api_url,
        ..GithubSettings::default()
    };
    let refused = GithubVerifier::new(&settings).unwrap_err();
    assert_eq!(refused, GithubSettingsError::Insecure);
    assert!(refused.to_string().contains("GITHUB_API_URL"));
}

#[test]
fn the_default_is_the_public_api_with_verification_on() {
    let settings = GithubSettings::default();
    assert_eq!(settings.api_url, "https://api.github.com");
    assert_eq!(settings.verification, GithubVerification::On);
    assert_eq!(settings.cache_ttl, Duration::from_mins(5));
    assert_eq!(settings.refusal_ttl, Duration::from_secs(30));
    assert_eq!(settings.connect_timeout, Duration::from_secs(3));
    assert_eq!(settings.total_timeout, Duration::from_secs(5));
    assert!(GithubVerifier::new(&settings).is_ok());
}

#[rstest]
#[case::retry_after(429, "retry-after", "120")]
#[case::forbidden(403, "retry-after", "120")]
#[tokio::test]
async fn github_is_left_alone_for_as_long_as_it_says(
    #[case] status: u16,
    #[case] name: &str,
    #[case] value: &str,
) {
    let limited = ResponseTemplate::new(status).insert_header(name, value);
    let server = github_with(limited).await;
    let verifier = verifier(&server);
    for _ in 0..3 {
        let GithubAnswer::Limited(wait) = verifier.check(GITHUB_TOKEN).await else {
            panic!("GitHub was not limited");
        };
        assert!((110..=120).contains(&wait.as_secs()), "{wait:?}");
    }
    assert_eq!(asked(&server).await, 1);
    // Another token is another's business.
    verifier.check("ghp_other").await;
    assert_eq!(asked(&server).await, 2);
}

#[tokio::test]
async fn a_caller_over_the_limit_is_not_asked_about_and_a_known_token_is_known() {
    let server = github().await;
    let verifier = verifier(&server);
    let left = std::sync::atomic::AtomicI64::new(2);
    let admit = || {
        let left = left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
        (left > 0).then_some(()).ok_or(Duration::from_secs(9))
    };
    assert_eq!(verifier.check_within(GITHUB_TOKEN, admit).await, octocat());
    let refused = verifier.check_within("ghp_refused", admit).await;
    assert_eq!(refused, GithubAnswer::Refused);
    for token in ["ghp_a", "ghp_b", "ghp_a"] {
        let answer = verifier.check_within(token, admit).await;
        assert_eq!(answer, GithubAnswer::OverLimit(Duration::from_secs(9)));
    }
    assert_eq!(verifier.check_within(GITHUB_TOKEN, admit).await, octocat());
    let malformed = verifier.check_within("", admit).await;
    assert_eq!(malformed, GithubAnswer::Malformed);
    assert_eq!(asked(&server).await, 2);
}
