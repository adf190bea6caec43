//! Identities, as operators see them: bindings shown and removed, keys from an identity provider, and stored text with
//! terminal escape sequences.

use bson::rawdoc;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::Role;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::program::{Backend, Deployment, Service, github, token};
use crate::tokens::{ED25519, RSA};

const SUBJECT: &str = "507f1f77bcf86cd799439011";

/// The answer of the service to a request with these credentials.
async fn route(service: &Service, jwt: &str) -> (u16, Value) {
    let request = reqwest::Client::new().get(service.url("/v1/route"));
    let request = request
        .bearer_auth(jwt)
        .header("x-github-token", "gho_known");
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// A deployment that asks this GitHub.
fn asking(backend: Backend, github: &MockServer) -> Deployment {
    let mut deployment = Deployment::new(backend);
    deployment.environment.remove("TIERKEEP_GITHUB_VERIFY");
    deployment.with("GITHUB_API_URL", &github.uri())
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_compares_an_account_and_lets_a_user_bind_anew(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let known = github().await;
    let deployment = asking(backend, &known);
    assert!(deployment.run(&["init"]).status.success());
    let user = format!("internal_{SUBJECT}");
    let show = |more: &[&str]| {
        let arguments = [&["identity", "show", SUBJECT, "--json"], more].concat();
        let output = deployment.run(&arguments);
        let shown: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code(), shown)
    };
    let unbound = json!({ "user_id": user, "bound": false, "since": null, "matches": null });
    assert_eq!(show(&["--github-id", "7"]), (Some(0), unbound.clone()));

    let service = deployment.serve();
    let (status, said) = route(&service, &token(SUBJECT)).await;
    assert_eq!((status, &said["user_type"]), (200, &json!("internal")));
    let (code, shown) = show(&[]);
    assert_eq!(
        (code, &shown["bound"], &shown["matches"]),
        (Some(0), &json!(true), &Value::Null)
    );
    assert!(shown["since"].as_str().unwrap().ends_with('Z'), "{shown}");
    let (code, shown) = show(&["--github-id", "7"]);
    assert_eq!((code, &shown["matches"]), (Some(0), &json!(true)));
    let (code, shown) = show(&["--github-id", "8"]);
    assert_eq!((code, &shown["matches"]), (Some(1), &json!(false)));
    let said = deployment.run(&["identity", "show", &user.to_ascii_uppercase()]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("is bound to a GitHub account since 20"),
        "{said}"
    );

    let freed = deployment.json(&["identity", "unbind", &user, "--json"]);
    assert_eq!(freed, json!({ "user_id": user, "unbound": true }));
    assert_eq!(show(&[]), (Some(0), unbound));
    let again = deployment.run(&["identity", "unbind", SUBJECT]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("is not bound"),
        "{again:?}"
    );
    let actions = deployment.json(&["audit", "list", "--kind", "admin_action", "--json"]);
    let text = actions.to_string();
    assert_eq!(text.matches("\"unbind\"").count(), 1, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_provider_publishes_the_keys() {
    let (known, provider) = (github().await, MockServer::start().await);
    let set = json!({ "keys": [RSA.jwk("unused"), ED25519.jwk("k1")] });
    let answer = ResponseTemplate::new(200).set_body_json(set);
    Mock::given(any())
        .respond_with(answer)
        .mount(&provider)
        .await;
    let mut deployment = asking(Backend::Sqlite, &known);
    deployment.environment.remove("SECRET_KEY");
    let url = format!("{}/.well-known/jwks.json", provider.uri());
    let deployment = deployment.with("TIERKEEP_JWKS_URL", &url);
    let service = deployment.serve();
    let expires = SystemClock.now().timestamp_millis() / 1_000 + 60;
    let claims = json!({ "sub": SUBJECT, "type": "access", "exp": expires });
    let signed = |kid: &str| {
        let header = json!({ "alg": "EdDSA", "kid": kid });
        ED25519.sign(header, &claims)
    };
    let (status, said) = route(&service, &signed("k1")).await;
    assert_eq!(
        (status, &said["user_type"]),
        (200, &json!("internal")),
        "{said}"
    );
    let (status, said) = route(&service, &signed("k2")).await;
    assert_eq!(
        (status, &said["code"]),
        (401, &json!("credentials_required"))
    );
    assert_eq!(provider.received_requests().await.unwrap().len(), 1);

    let both = deployment.with("SECRET_KEY", super::program::SECRET);
    let refused = both.run(&["config", "check"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_the_answer_is_503_and_not_401() {
    let known = github().await;
    let mut deployment = asking(Backend::Sqlite, &known);
    deployment.environment.remove("SECRET_KEY");
    let deployment = deployment.with("TIERKEEP_JWKS_URL", "http://127.0.0.1:1/jwks");
    let service = deployment.serve();
    let (status, said) = route(&service, &token(SUBJECT)).await;
    assert_eq!(
        (status, &said["code"]),
        (503, &json!("identity_unavailable"))
    );
    // The same where the JWT alone would tell.
    let client = reqwest::Client::new();
    for path in ["/v1/hr/hr_reports/1", "/v1/admin/overview"] {
        let asked = client.get(service.url(path)).bearer_auth(token(SUBJECT));
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), 503, "{path}");
        assert!(answer.headers().contains_key("retry-after"), "{path}");
        let said: Value = answer.json().await.unwrap();
        assert_eq!(said["code"], "identity_unavailable", "{path}");
    }
}

/// Text with control characters, which must not reach a terminal.
const HOSTILE: &str = "x\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\rx";

/// Stores hostile texts wherever operators look.
async fn plant(deployment: &Deployment) {
    let long = format!("{HOSTILE}{}", "e".repeat(1 << 20));
    let now = SystemClock.now();
    let old = clock::before(now, std::time::Duration::from_hours(30));
    let temp = deployment.open(Role::RaseenTempUser).await;
    let user = format!("internal_{SUBJECT}");
    let documents = [
        rawdoc! { "_id": HOSTILE, "user_id": HOSTILE, "created_at": old },
        rawdoc! { "_id": "other", "user_id": user.as_str(), "user_type": HOSTILE, "created_at": HOSTILE },
    ];
    temp.insert("internal_users", &documents).await.unwrap();
    let audit = deployment.open(Role::EvaluationAudit).await;
    let alert = rawdoc! {
        "_id": "migration_failed/x", "kind": "migration_failed", "subject": HOSTILE, "first_at": now, "last_at": now,
        "count": 1_i64, "resolved_at": null, "message": long.as_str(),
    };
    audit.insert("alerts", &[alert]).await.unwrap();
    let id = bson::oid::ObjectId::new();
    let record = rawdoc! {
        "_id": id, "migration_id": id, "user_id": user.as_str(), "source_db": HOSTILE, "target_db": HOSTILE,
        "backup_db": HOSTILE, "migration_date": now, "status": "failed", "data_size": 1_i64, "retry_count": 3_i32,
        "version": 1_i64, "run_id": HOSTILE, "started_at": now, "finished_at": now, "next_attempt_at": null,
        "error": long.as_str(),
    };
    audit.insert("migration_records", &[record]).await.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_stored_text_steers_a_terminal_or_fills_it(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    assert!(deployment.run(&["init"]).status.success());
    plant(&deployment).await;
    deployment.run(&["migrate", "run"]);
    let user = format!("internal_{SUBJECT}");
    let mut told = 0;
    for command in [
        &["status"][..],
        &["migrate", "status"],
        &["migrate", "run"],
        &["simulate"],
        &["explain", &user],
        &["doctor", "--strict"],
        &["alerts", "list"],
        &["audit", "list"],
        &["verify"],
        &["identity", "show", &user],
        &["explain", HOSTILE],
    ] {
        for form in ["text", "json"] {
            let output = deployment.run(&[command, &["-o", form]].concat());
            let all = [output.stdout, output.stderr].concat();
            let all = String::from_utf8(all).unwrap();
            let steers = |c: &char| c.is_control() && *c != '\n' && *c != '\t';
            let found = all.chars().find(|c| steers(c) || *c == '\u{202e}');
            assert_eq!(found, None, "{command:?} {form}");
            assert!(
                all.len() < 64 << 10,
                "{command:?} {form}: {} bytes",
                all.len()
            );
            told += usize::from(all.contains("owned"));
        }
    }
    assert!(told >= 6, "{told} outputs hold the text");
}
