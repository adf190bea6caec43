//! A request is served, the document is stored in the right database, and it moves when it is due.

use std::time::{Duration, Instant};

use bson::doc;
use reqwest::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::{Role, collection};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit};
use tierkeep_testkit::documents::{SeedUser, seed_user};

use super::program::{Backend, Deployment, Service, github, token};

const SUBJECT: &str = "507f1f77bcf86cd799439011";
const HOUR: Duration = Duration::from_hours(1);

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sections_land_in_the_right_database_and_nowhere_else(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let github = github().await;
    let deployment = Deployment::new(backend).with("GITHUB_API_URL", &github.uri());
    let service = deployment.serve();
    let client = reqwest::Client::new();
    let body = r#"{"z":9007199254740993,"a":{"b.c":[1,1.0,null]},"m":-1}"#;
    let external = service.url("/v1/user/scan_cache?username=SRIE06");
    let put = |url: &str| {
        client
            .put(url)
            .header("content-type", "application/json")
            .body(body)
    };
    let answer = put(&external).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let internal = service.url("/v1/user/scan_cache");
    let bearer = format!("Bearer {}", token(SUBJECT));
    let answer = put(&internal)
        .header("authorization", &bearer)
        .header("x-github-token", "gho_something")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["etag"], "\"1\"");
    let receipt: Value = answer.json().await.unwrap();
    assert_eq!(receipt["database"], "raseen_temp_user");
    assert_eq!(receipt["user_id"], format!("internal_{SUBJECT}"));
    for (url, headers) in [(&external, false), (&internal, true)] {
        let mut get = client.get(url);
        if headers {
            get = get
                .header("authorization", &bearer)
                .header("x-github-token", "gho_something");
        }
        let read = get.send().await.unwrap().text().await.unwrap();
        assert_eq!(read, body);
    }
    for role in [
        Role::ExternalUsers,
        Role::RaseenTempUser,
        Role::RaseenMainUser,
        Role::SrieMainUser,
    ] {
        let ids: Vec<String> = deployment
            .users(role)
            .await
            .iter()
            .map(|document| document.get_str("_id").unwrap().to_owned())
            .collect();
        let mut expected: Vec<String> = Vec::new();
        if role == Role::ExternalUsers {
            expected.push("external_srie06".into());
        } else if role == Role::RaseenTempUser {
            expected.push(format!("internal_{SUBJECT}"));
        }
        assert_eq!(ids, expected, "{role}");
    }
}

/// 500 documents 25 hours old, 20 younger ones and 3 malformed ones, as another program writes them.
async fn plant(deployment: &Deployment) {
    let now = SystemClock.now();
    let (old, young) = (clock::before(now, 25 * HOUR), clock::before(now, HOUR));
    let mut seeds: Vec<_> = (0..500)
        .map(|n| {
            let seed = SeedUser::new(n, old);
            if n % 2 == 0 {
                seed.naive_dates().build()
            } else {
                seed.build()
            }
        })
        .collect();
    seeds.extend((500..520).map(|n| seed_user(n, young)));
    seeds.push(Edit::new().unset("created_at").apply(&seed_user(600, old)));
    seeds.push(
        Edit::new()
            .set("created_at", "soon")
            .apply(&seed_user(601, old)),
    );
    seeds.push(
        Edit::new()
            .set("user_id", "nobody")
            .apply(&seed_user(602, old)),
    );
    let temp = deployment.open(Role::RaseenTempUser).await;
    temp.insert("internal_users", &seeds).await.unwrap();
}

async fn assert_moved(deployment: &Deployment, before: &[bson::raw::RawDocumentBuf]) {
    let temp = deployment.users(Role::RaseenTempUser).await;
    assert_eq!(temp.len(), 23);
    assert!(
        temp.iter().all(|document| before.contains(document)),
        "what stays is untouched"
    );
    let main = deployment.users(Role::RaseenMainUser).await;
    assert_eq!(main.len(), 500);
    assert_eq!(main, deployment.users(Role::SrieMainUser).await);
    for copy in &main {
        let user = document::user_id(copy).unwrap();
        assert_eq!(copy.get_str("_id").unwrap(), user);
        let original = before
            .iter()
            .find(|d| document::user_id(d) == Some(user))
            .unwrap();
        for section in ["scan_cache", "analysis_progress"] {
            assert_eq!(
                copy.get_document(section).unwrap(),
                original.get_document(section).unwrap()
            );
        }
        assert_eq!(Digest::claimed_by(copy), Some(Digest::of(copy)));
        assert!(copy.get_datetime("created_at").is_ok());
    }
    let records = deployment
        .all(Role::EvaluationAudit, collection::MIGRATION_RECORDS)
        .await;
    assert_eq!(records.len(), 500);
    for record in &records {
        assert_eq!(record.get_str("status").unwrap(), "completed");
        assert_eq!(record.get_str("source_db").unwrap(), "raseen_temp_user");
        assert_eq!(record.get_str("target_db").unwrap(), "raseen_main_user");
        assert_eq!(record.get_str("backup_db").unwrap(), "srie_main_user");
        assert!(record.get_i64("data_size").unwrap() > 0);
        assert_eq!(record.get_i32("retry_count").unwrap(), 0);
        assert!(record.get_object_id("migration_id").is_ok());
        assert!(record.get_datetime("migration_date").is_ok());
    }
}

/// A move that would take most of a minute, looked at while it runs.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_move_of_what_another_program_wrote_shows_how_far_it_is(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    plant(&deployment).await;
    let slow = ["migrate", "run", "--max-rate", "10"];
    // Ended when it is dropped.
    let run = Service::of(deployment.command(&slow).spawn().unwrap(), String::new());
    let began = Instant::now();
    let shown = loop {
        let status = deployment.run(&["status"]);
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        let line = status.lines().find(|line| line.contains("moving, by "));
        if let Some(line) = line.filter(|line| line.contains(" left")) {
            break line.to_owned();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    drop(run);
    let moved = shown
        .split(", ")
        .find_map(|part| part.strip_suffix(" moved"));
    assert!(moved.unwrap().parse::<u64>().is_ok(), "{shown}");
    assert!(shown.contains("/s, "), "{shown}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn migrate_run_moves_what_another_program_wrote(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    plant(&deployment).await;
    let before = deployment.users(Role::RaseenTempUser).await;
    let dry = deployment.json(&["migrate", "run", "--dry-run", "--json"]);
    assert_eq!(
        (&dry["due"], &dry["moved"], &dry["dry_run"]),
        (&json!(500), &json!(0), &json!(true))
    );
    assert_eq!(deployment.users(Role::RaseenTempUser).await, before);
    let run = deployment.json(&["migrate", "run", "--json"]);
    assert_eq!(run["moved"], 500, "{run}");
    assert_eq!(
        (&run["failed"], &run["quarantined"]),
        (&json!(0), &json!(3))
    );
    assert_moved(&deployment, &before).await;
    let again = deployment.json(&["migrate", "run", "--json"]);
    assert_eq!((&again["moved"], &again["due"]), (&json!(0), &json!(0)));
    assert_eq!(again["quarantined"], 3);
    let status = deployment.json(&["status", "--json"]);
    assert_eq!(
        (&status["due"], &status["quarantined"]),
        (&json!(0), &json!(3))
    );
    let user = SeedUser::new(1, SystemClock.now()).user_id();
    let explained = deployment.json(&["explain", &user, "--json"]);
    assert_eq!(explained["authoritative"], "raseen_main_user");
    assert_eq!(explained["records"][0]["status"], "completed");
    assert_eq!(explained["copies"].as_array().unwrap().len(), 2);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn serve_alone_moves_what_is_due_within_its_scan_interval(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend).with("TIERKEEP_SCAN_INTERVAL", "1s");
    plant(&deployment).await;
    let before = deployment.users(Role::RaseenTempUser).await;
    let _service = deployment.serve();
    let deadline = Instant::now() + Duration::from_mins(1);
    let records = || async {
        let when = doc! { "status": "completed" };
        let audit = deployment.open(Role::EvaluationAudit).await;
        let query = tierkeep_core::store::Query::Equal(when);
        audit
            .count(collection::MIGRATION_RECORDS, &query)
            .await
            .unwrap()
    };
    while records().await < 500 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_moved(&deployment, &before).await;
}
