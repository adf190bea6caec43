//! What each database holds: counts, sizes, ages and indexes of every collection.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tierkeep::clock::SystemClock;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::Role;
use tierkeep_testkit::documents::seed_user;

use super::program::{Backend, Deployment};

fn of<'a>(contents: &'a Value, database: &str, collection: &str) -> &'a Value {
    let named = |list: &'a Value, name: &str| {
        let mut all = list.as_array().unwrap().iter();
        all.find(|one| one["name"] == name).unwrap()
    };
    named(&named(contents, database)["collections"], collection)
}

#[rstest]
#[case(Backend::Sqlite)]
#[case(Backend::Mongo)]
#[tokio::test(flavor = "multi_thread")]
async fn every_collection_is_counted_measured_and_dated(#[case] backend: Backend) {
    let deployment = Deployment::new(backend);
    deployment.json(&["init", "--json"]);
    let now = SystemClock.now();
    let hours_ago = |hours| clock::before(now, Duration::from_hours(hours));
    let documents = [27, 26, 25].map(|hours| seed_user(hours, hours_ago(u64::from(hours))));
    let temp = deployment.open(Role::RaseenTempUser).await;
    temp.insert("internal_users", &documents).await.unwrap();
    let bytes: usize = documents.iter().map(|one| one.as_bytes().len()).sum();

    let staged = deployment.json(&["status", "--contents", "--json"]);
    let staged = &staged["contents"];
    assert_eq!(staged.as_array().unwrap().len(), Role::ALL.len());
    let users = of(staged, "raseen_temp_user", "internal_users");
    assert_eq!(users["documents"], 3);
    assert_eq!(users["bytes"], bytes);
    assert_eq!(users["oldest"], rfc3339(hours_ago(27)));
    assert_eq!(users["newest"], rfc3339(hours_ago(25)));
    assert!(users["indexes"].as_array().unwrap().len() >= 2, "{users}");
    let none = of(staged, "raseen_main_user", "internal_users");
    assert_eq!(
        json!([
            none["documents"],
            none["bytes"],
            none["oldest"],
            none["newest"]
        ]),
        json!([0, 0, null, null])
    );

    deployment.json(&["migrate", "run", "--json"]);
    let moved = deployment.json(&["status", "--contents", "--json"]);
    let moved = &moved["contents"];
    assert_eq!(
        of(moved, "raseen_temp_user", "internal_users")["documents"],
        0
    );
    for database in ["raseen_main_user", "srie_main_user"] {
        let users = of(moved, database, "internal_users");
        assert_eq!(users["documents"], 3);
        assert_eq!(users["oldest"], rfc3339(hours_ago(27)));
    }
    let records = of(moved, "evaluation_audit", "migration_records");
    assert_eq!(records["documents"], 3);
    let started: jiff::Timestamp = records["oldest"].as_str().unwrap().parse().unwrap();
    assert!(
        started.as_millisecond() >= now.timestamp_millis(),
        "{records}"
    );
    assert!(
        deployment
            .json(&["status", "--json"])
            .get("contents")
            .is_none()
    );
}
