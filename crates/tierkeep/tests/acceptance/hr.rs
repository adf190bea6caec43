//! HR records through the built binary: the backup away, and `kill -9` in between.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use reqwest::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, State};
use tierkeep_core::hr::{self, BackupStatus};
use tierkeep_identity::RoleClaim;

use super::program::{Backend, Deployment, Service, token_of};

const AWAY: &str = "mongodb://127.0.0.1:1/away?serverSelectionTimeoutMS=200";
const COLLECTION: &str = "hr_candidates";
const SUBJECT: &str = "507f1f77bcf86cd799439011";
/// How long delivery may take, and how often is looked.
const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(20);

struct Hr {
    client: reqwest::Client,
    token: String,
}

impl Hr {
    fn new() -> Self {
        Self {
            client: reqwest::Client::new(),
            token: token_of(SUBJECT, Some(RoleClaim::Hr)),
        }
    }

    async fn put(&self, service: &Service, id: &str, n: i32) -> Option<(StatusCode, Value)> {
        let url = service.url(&format!("/v1/hr/{COLLECTION}/{id}"));
        let put = self.client.put(url).bearer_auth(&self.token);
        let answer = put.json(&json!({ "n": n })).send().await.ok()?;
        let status = answer.status();
        Some((status, answer.json().await.ok()?))
    }

    async fn delete(&self, service: &Service, id: &str) -> StatusCode {
        let url = service.url(&format!("/v1/hr/{COLLECTION}/{id}"));
        let delete = self.client.delete(url).bearer_auth(&self.token);
        delete.send().await.unwrap().status()
    }
}

async fn both(deployment: &Deployment) -> (Vec<RawDocumentBuf>, Vec<RawDocumentBuf>) {
    (
        deployment.all(Role::RaseenMainHr, COLLECTION).await,
        deployment.all(Role::SrieMainHr, COLLECTION).await,
    )
}

/// Waits until both hold the same, all of it completed.
async fn delivered(deployment: &Deployment) -> Vec<RawDocumentBuf> {
    let mut waited = Duration::ZERO;
    loop {
        let (main, srie) = both(deployment).await;
        let completed = main
            .iter()
            .all(|record| BackupStatus::of(record) == Some(BackupStatus::Completed));
        if completed && main == srie {
            return main;
        }
        assert!(waited < PATIENCE, "not delivered: {main:?} {srie:?}");
        tokio::time::sleep(INTERVAL).await;
        waited += INTERVAL;
    }
}

fn standing(records: &[RawDocumentBuf]) -> BTreeMap<String, Option<(i32, i64)>> {
    let one = |record: &RawDocumentBuf| {
        assert!(hr::is_sound(record), "{record:?}");
        let version = document::version(record).unwrap().get();
        let live = document::state(record) == Some(State::Live);
        let n = live.then(|| (record.get_i32("n").unwrap(), version));
        (record.get_str("_id").unwrap().to_owned(), n)
    };
    records.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_pending_is_delivered_once_after_an_outage_with_kills_in_between() {
    let mut deployment =
        Deployment::new(Backend::Mongo).with("TIERKEEP_RECONCILE_INTERVAL", "50ms");
    deployment.json(&["init", "--json"]);
    let hr = Hr::new();
    let service = deployment.serve();
    for id in ["a", "b"] {
        let (status, record) = hr.put(&service, id, 1).await.unwrap();
        assert_eq!(status, StatusCode::CREATED);
        assert_eq!(
            record["metadata"],
            json!({ "version": 1, "backup_status": "completed" })
        );
    }
    drop(service);

    let variable = Role::SrieMainHr.url_variable().to_owned();
    let there = deployment
        .environment
        .insert(variable.clone(), AWAY.into())
        .unwrap();
    deployment
        .environment
        .insert("TIERKEEP_CONNECT_RETRIES".into(), "0".into());
    for round in 0..3 {
        let mut service = deployment.serve();
        for (id, n) in [("a", 10 + round), ("c", 20 + round)] {
            let (status, record) = hr.put(&service, id, n).await.unwrap();
            assert!(status.is_success(), "{record}");
            assert_eq!(record["metadata"]["backup_status"], "pending");
        }
        if round == 1 {
            assert_eq!(hr.delete(&service, "b").await, StatusCode::NO_CONTENT);
        }
        service.kill();
    }
    deployment.environment.insert(variable, there);
    let (_, srie) = both(&deployment).await;
    assert_eq!(standing(&srie)["b"], Some((1, 1)), "nothing came through");

    let service = deployment.serve();
    let main = delivered(&deployment).await;
    let expected = [("a", Some((12, 4))), ("b", None), ("c", Some((22, 3)))];
    assert_eq!(
        standing(&main),
        expected.map(|(id, n)| (id.to_owned(), n)).into()
    );
    let (status, record) = hr.put(&service, "c", 30).await.unwrap();
    assert_eq!(
        (status, &record["metadata"]["version"]),
        (StatusCode::OK, &json!(4))
    );
    delivered(&deployment).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killing_serve_between_main_and_backup_loses_no_acknowledged_record(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend).with("TIERKEEP_RECONCILE_INTERVAL", "50ms");
    deployment.json(&["init", "--json"]);
    let mut acknowledged = BTreeMap::new();
    for round in 0..4 {
        let mut service = deployment.serve();
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let base = service.base.clone();
        let writer = tokio::spawn(async move {
            let hr = Hr::new();
            for n in 1.. {
                let url = format!("{base}/v1/hr/{COLLECTION}/r{round}");
                let put = hr.client.put(url).bearer_auth(&hr.token);
                let Ok(answer) = put.json(&json!({ "n": n })).send().await else {
                    return;
                };
                assert!(answer.status().is_success());
                if told.send(n).is_err() {
                    return;
                }
            }
        });
        let mut last = 0;
        while last < 10 + round {
            last = heard.recv().await.unwrap();
        }
        service.kill();
        writer.await.unwrap();
        while let Ok(n) = heard.try_recv() {
            last = n;
        }
        acknowledged.insert(format!("r{round}"), last);
    }
    let _service = deployment.serve();
    let main = standing(&delivered(&deployment).await);
    for (id, last) in acknowledged {
        let (n, version) = main[&id].unwrap();
        // One more may have been stored without its answer.
        assert!(n == last || n == last + 1, "{id}: {n} against {last}");
        assert_eq!(version, i64::from(n), "{id}");
    }
}
