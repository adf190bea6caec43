//! `kill -9` at any moment.

use std::time::Duration;

use rand::RngExt;
use reqwest::StatusCode;
use rstest::rstest;
use serde_json::json;
use tierkeep::clock::SystemClock;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::{Role, collection};
use tierkeep_core::digest::Digest;
use tierkeep_core::document;
use tierkeep_testkit::documents::seed_user;

use super::program::{Backend, Deployment};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killing_migrate_run_loses_doubles_and_alters_nothing(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    const DOCUMENTS: u32 = 400;
    let deployment = Deployment::new(backend)
        .with("TIERKEEP_BATCH_DOCUMENTS", "20")
        .with("TIERKEEP_BATCHES_IN_FLIGHT", "2");
    let old = clock::before(SystemClock.now(), Duration::from_hours(25));
    let temp = deployment.open(Role::RaseenTempUser).await;
    let mut random = rand::rng();
    let mut killed = 0;
    for round in 0..20 {
        // Each round brings more, so that every kill finds work.
        let seeds: Vec<_> = (round * DOCUMENTS / 20..(round + 1) * DOCUMENTS / 20)
            .map(|n| seed_user(n, old))
            .collect();
        temp.insert("internal_users", &seeds).await.unwrap();
        let mut run = deployment
            .command(&["migrate", "run", "--json", "-q"])
            .spawn()
            .unwrap();
        let wait = Duration::from_millis(random.random_range(5..250));
        tokio::time::sleep(wait).await;
        killed += i32::from(run.try_wait().unwrap().is_none());
        run.kill().ok();
        run.wait().unwrap();
    }
    assert!(killed >= 5, "only {killed} of 20 runs were still at work");
    let run = deployment.json(&["migrate", "run", "--json"]);
    assert_eq!(
        (&run["failed"], &run["quarantined"]),
        (&json!(0), &json!(0)),
        "{run}"
    );
    assert!(deployment.users(Role::RaseenTempUser).await.is_empty());
    let main = deployment.users(Role::RaseenMainUser).await;
    assert_eq!(main.len(), DOCUMENTS as usize);
    assert_eq!(main, deployment.users(Role::SrieMainUser).await);
    for n in 0..DOCUMENTS {
        let seed = seed_user(n, old);
        let user = document::user_id(&seed);
        let copy = main.iter().find(|d| document::user_id(d) == user).unwrap();
        assert_eq!(
            copy.get_document("scan_cache").unwrap(),
            seed.get_document("scan_cache").unwrap()
        );
        assert_eq!(Digest::claimed_by(copy), Some(Digest::of(copy)));
    }
    let records = deployment
        .all(Role::EvaluationAudit, collection::MIGRATION_RECORDS)
        .await;
    assert_eq!(records.len(), DOCUMENTS as usize);
    assert!(
        records
            .iter()
            .all(|record| record.get_str("status").unwrap() == "completed")
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killing_serve_loses_no_acknowledged_write_and_the_command_line_works_beside_it(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    let mut service = deployment.serve();
    let client = reqwest::Client::new();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let url = service.url(&format!("/v1/user/scan_cache?username=writer{writer}"));
        let client = client.clone();
        writers.spawn(async move {
            let mut acknowledged = 0;
            for n in 1.. {
                let body = json!({ "n": n });
                let Ok(answer) = client.put(&url).json(&body).send().await else {
                    break;
                };
                if ![StatusCode::OK, StatusCode::CREATED].contains(&answer.status()) {
                    break;
                }
                acknowledged = n;
            }
            (writer, acknowledged)
        });
    }
    for _ in 0..3 {
        assert!(deployment.run(&["status", "--json"]).status.success());
        assert!(
            deployment
                .run(&["migrate", "run", "--json"])
                .status
                .success()
        );
        assert!(
            deployment
                .run(&["explain", "writer1", "--json"])
                .status
                .success()
        );
    }
    service.kill();
    let users = deployment.users(Role::ExternalUsers).await;
    while let Some(writer) = writers.join_next().await {
        let (writer, acknowledged) = writer.unwrap();
        assert!(acknowledged > 0, "writer {writer} never wrote");
        let id = format!("external_writer{writer}");
        let found = users
            .iter()
            .find(|d| document::user_id(d) == Some(&id))
            .unwrap();
        let n = found
            .get_document("scan_cache")
            .unwrap()
            .get_i32("n")
            .unwrap();
        // One more may have been stored without its answer.
        assert!(
            n == acknowledged || n == acknowledged + 1,
            "{n} against {acknowledged}"
        );
        assert_eq!(document::version(found).unwrap().get(), i64::from(n));
    }
    let again = deployment.serve();
    let answer = client
        .get(again.url("/v1/user/scan_cache?username=writer0"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}
