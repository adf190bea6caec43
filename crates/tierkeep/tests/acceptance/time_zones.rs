//! The machine's time zone changes no answer: neither what is due, nor which JWT is valid.

use std::time::Duration;

use reqwest::StatusCode;
use rstest::rstest;
use serde_json::Value;
use tierkeep::clock::SystemClock;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::Role;
use tierkeep_testkit::ManualClock;
use tierkeep_testkit::documents::SeedUser;

use super::program::{Backend, Deployment, SECRET, github, token};

const DAY: Duration = Duration::from_hours(24);
const MARGIN: Duration = Duration::from_mins(10);

/// A JWT that expired `ago`.
fn expired(subject: &str, ago: Duration) -> String {
    use secrecy::ExposeSecret;
    let ttl = Duration::from_secs(1);
    let then = ManualClock::new(clock::before(SystemClock.now(), ago + ttl));
    tierkeep_identity::issue_development_token(&SECRET.into(), subject, None, ttl, &then)
        .unwrap()
        .expose_secret()
        .to_owned()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_the_same_in_every_time_zone(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values("UTC", "Asia/Kolkata", "America/Los_Angeles")] zone: &str,
) {
    let github = github().await;
    let deployment = Deployment::new(backend)
        .with("TZ", zone)
        .with("GITHUB_API_URL", &github.uri());
    deployment.json(&["init", "--json"]);
    let now = SystemClock.now();
    // Dates as BSON, and as texts without a zone; a little more and a little less than a day old.
    let old = clock::before(now, DAY + MARGIN);
    let young = clock::before(now, DAY.saturating_sub(MARGIN));
    let documents = [
        SeedUser::new(0, old).build(),
        SeedUser::new(1, young).build(),
        SeedUser::new(2, old).naive_dates().build(),
        SeedUser::new(3, young).naive_dates().build(),
    ];
    let temp = deployment.open(Role::RaseenTempUser).await;
    temp.insert("internal_users", &documents).await.unwrap();
    let run = deployment.json(&["migrate", "run", "--json"]);
    assert_eq!((&run["moved"], &run["quarantined"]), (&2.into(), &0.into()));
    for n in [1, 3] {
        let user = SeedUser::new(n, young).user_id();
        let explained = deployment.json(&["explain", &user, "--json"]);
        let due = tierkeep_core::content::rfc3339(clock::after(young, DAY));
        let date = |text: &Value| text.as_str().unwrap()[..19].to_owned();
        assert_eq!(date(&explained["due_at"]), due[..19], "{explained}");
    }

    let service = deployment.serve();
    let subject = "507f1f77bcf86cd799439011";
    let ask = |jwt: String| {
        let request = reqwest::Client::new().get(service.url("/v1/route"));
        let request = request.bearer_auth(jwt).header("x-github-token", "gho_any");
        async { request.send().await.unwrap().status() }
    };
    assert_eq!(ask(token(subject)).await, StatusCode::OK);
    for ago in [Duration::from_secs(2), Duration::from_hours(8)] {
        assert_eq!(ask(expired(subject, ago)).await, StatusCode::UNAUTHORIZED);
    }
}
