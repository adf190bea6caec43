//! Two processes whose clocks are an hour apart: nothing moves early or late, nothing is lost, and users see one order.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tierkeep::clock::SystemClock;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::Role;
use tierkeep_testkit::ManualClock;
use tierkeep_testkit::documents::native_user;
use tokio::time::{Instant, sleep};

use super::super::program::{Backend, Deployment, SECRET, SERVE, Service, github};
use super::{INTERVAL, PATIENCE};

const MINUTE_MS: i64 = 60_000;
const SUBJECT: &str = "507f1f77bcf86cd799439011";

/// A command of a process whose clock is ahead by this.
fn serve(deployment: &Deployment, ahead_ms: i64) -> Service {
    let mut command = deployment.command(SERVE);
    command.env("CLOCK_AHEAD_MS", ahead_ms.to_string());
    Deployment::serve_by(command)
}

/// A JWT that is valid by both clocks.
fn token() -> String {
    let hour = Duration::from_hours(1);
    let clock = ManualClock::new(clock::before(SystemClock.now(), hour));
    let issued =
        tierkeep_identity::issue_development_token(&SECRET.into(), SUBJECT, None, 3 * hour, &clock);
    issued.unwrap().expose_secret().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_between_two_processes_is_nothing_that_users_see() {
    let github = github().await;
    let deployment = Deployment::new(Backend::Mongo)
        .with("GITHUB_API_URL", &github.uri())
        .with("TIERKEEP_SCAN_INTERVAL", "1s");
    deployment.json(&["init", "--json"]);
    let now = SystemClock.now();
    let staged = |n, age| native_user(n, 1).dated(clock::before(now, age)).build();
    // By the clock that is ahead this one is due; by that of the server it is not.
    let young = staged(1, Duration::from_mins(23 * 60 + 45));
    let mut documents = vec![young.clone()];
    // By the clock that is behind these are not due; by that of the server they are.
    documents.extend((2..6).map(|n| staged(n, Duration::from_mins(24 * 60 + 15))));
    let temp = deployment.open(Role::RaseenTempUser).await;
    temp.insert("internal_users", &documents).await.unwrap();

    let services = [30, -30].map(|minutes| serve(&deployment, minutes * MINUTE_MS));
    let began = Instant::now();
    while deployment.users(Role::RaseenMainUser).await.len() < 4
        || deployment.users(Role::RaseenTempUser).await.len() > 1
    {
        assert!(began.elapsed() < PATIENCE, "what is due does not move");
        sleep(INTERVAL).await;
    }
    let ahead = |arguments: &[&str]| {
        let mut command = deployment.command(arguments);
        command.env("CLOCK_AHEAD_MS", (30 * MINUTE_MS).to_string());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let found = ahead(&["doctor", "--json"]);
    assert!(found.contains("s behind the clock of this host"), "{found}");
    let run: Value = serde_json::from_str(&ahead(&["migrate", "run", "--json"])).unwrap();
    assert_eq!(
        (&run["due"], &run["moved"]),
        (&json!(0), &json!(0)),
        "{run}"
    );
    assert_eq!(deployment.users(Role::RaseenTempUser).await, [young]);
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        assert_eq!(deployment.users(role).await.len(), 4, "{role}");
    }

    // Writes through both in turn are one after the other, and both read the last.
    let client = Client::new();
    let token = token();
    let by = |asked: reqwest::RequestBuilder| {
        let asked = asked.bearer_auth(&token);
        asked.header("x-github-token", "gho_something")
    };
    let mut versions = Vec::new();
    for n in 0..6 {
        let url = services[n % 2].url("/v1/user/scan_cache");
        let patch = by(client.patch(url)).header("content-type", "application/merge-patch+json");
        let patch = patch.body(json!({ format!("w{n}"): n }).to_string());
        let answer = patch.send().await.unwrap();
        let status = answer.status();
        assert!(
            [StatusCode::OK, StatusCode::CREATED].contains(&status),
            "{n}: {status}: {}",
            answer.text().await.unwrap()
        );
        let receipt: Value = answer.json().await.unwrap();
        versions.push(receipt["version"].as_i64().unwrap());
        for service in &services {
            let read = by(client.get(service.url("/v1/user/scan_cache")));
            let read: Value = read.send().await.unwrap().json().await.unwrap();
            for written in 0..=n {
                assert_eq!(read[format!("w{written}")], written, "{read}");
            }
        }
    }
    assert_eq!(versions, [1, 2, 3, 4, 5, 6]);
}
