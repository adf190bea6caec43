//! A predecessor whose data is in several databases, half of it still in the first one.

use bson::{Document, doc};
use rstest::rstest;
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::Role;

use super::super::program::{Backend, Deployment, mongo_url};
use super::{LONG_AGO, Predecessor, SUBJECT, at, import, outcomes, scan, stored};

/// `deployment` reads `source`, too.
fn beside(deployment: Deployment, variable: &str, source: &Predecessor) -> Deployment {
    deployment.with(variable, &mongo_url(source.database.name()))
}

fn record(id: &str, seconds: i64) -> Document {
    doc! { "_id": id, "seconds": seconds, "updated_at": at(LONG_AGO + seconds) }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn several_databases_are_read_as_one(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let internal = format!("internal_{SUBJECT}");
    let of = |round: i64| {
        let seconds = at(LONG_AGO + round);
        scan(doc! { "user_id": &internal, "scan_date": seconds, "round": round })
    };
    let first = Predecessor::with(vec![
        ("internal_users", of(1)),
        ("external_users", scan(doc! {})),
        ("notes", doc! { "x": 1 }),
    ]);
    let main = Predecessor::with(vec![("internal_users", of(3))]);
    let srie = Predecessor::with(vec![("internal_users", of(2))]);
    let main_hr = Predecessor::with(vec![
        ("hr_candidates", record("a", 1)),
        ("hr_candidates", record("b", 5)),
    ]);
    // A backup in which one record is newer, and another is the only copy.
    let srie_hr = Predecessor::with(vec![
        ("hr_candidates", record("a", 2)),
        ("hr_candidates", record("b", 5)),
        ("hr_candidates", record("c", 1)),
        ("hr_candidates", record("not a record", 1)),
    ]);
    let (first, main, srie) = tokio::join!(first, main, srie);
    let (main_hr, srie_hr) = tokio::join!(main_hr, srie_hr);
    let mut deployment = first.deployment(backend);
    deployment = beside(deployment, "LEGACY_RASEEN_MAIN_USER_DB_URL", &main);
    deployment = beside(deployment, "LEGACY_SRIE_MAIN_USER_DB_URL", &srie);
    deployment = beside(deployment, "LEGACY_RASEEN_MAIN_HR_DB_URL", &main_hr);
    deployment = beside(deployment, "LEGACY_SRIE_MAIN_HR_DB_URL", &srie_hr);
    for _ in 0..2 {
        let report = import(&deployment, &[]);
        assert_eq!(outcomes(&report), [5, 4, 1, 1], "{report}");
        // The database of each document is reported.
        let collection =
            |name: &str, one: &Predecessor| Value::from(format!("{}.{name}", one.database.name()));
        assert_eq!(
            report["refusals"][0]["collection"],
            collection("hr_candidates", &srie_hr)
        );
        assert_eq!(
            report["skips"][0]["collection"],
            collection("notes", &first)
        );
    }
    let stored = stored(&deployment).await;
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        let document = &stored[&(role, internal.clone())];
        let scan = document.get_document("scan_cache").unwrap();
        assert_eq!(scan.get_i64("round").unwrap(), 3);
        assert_eq!(
            document.get_datetime("created_at").unwrap(),
            at(LONG_AGO + 1)
        );
    }
    for (id, seconds) in [("a", 2), ("b", 5), ("c", 1)] {
        for role in [Role::RaseenMainHr, Role::SrieMainHr] {
            let record = &stored[&(role, id.to_owned())];
            assert_eq!(record.get_i64("seconds").unwrap(), seconds, "{role} {id}");
        }
    }
    let found = deployment.json(&["verify-import", "--json"]);
    assert_eq!(
        (&found["checked"], &found["matched"]),
        (&5.into(), &5.into())
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_split_database_alone_is_enough(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let external = Predecessor::with(vec![("external_users", scan(doc! {}))]).await;
    let deployment = Deployment::new(backend);
    let deployment = beside(deployment, "LEGACY_EXTERNAL_USERS_DB_URL", &external);
    assert_eq!(outcomes(&import(&deployment, &[])), [1, 0, 0, 0]);
}
