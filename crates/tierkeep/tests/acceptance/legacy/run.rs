//! What a run leaves unchanged: the source, documents changed in tierkeep, erased users; and what it requires.

use bson::doc;
use rstest::rstest;
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_testkit::legacy::{Becomes, FORMS, SECRET};

use super::super::program::{Backend, Deployment};
use super::{Predecessor, import, outcomes, scan, stored};
use crate::acceptance::dump::files;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_the_same_and_writes_nothing(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let source = Predecessor::with(vec![
        ("fast_scan_cache", scan(doc! { "github_token": "gho_x" })),
        ("fast_scan_cache", scan(doc! { "n": 2 })),
        (
            "internal_users",
            scan(doc! { "user_id": "ada", "username": "" }),
        ),
        ("hr_reports", doc! { "_id": "r1" }),
        ("user_rankings", doc! { "github_username": "srie06" }),
    ])
    .await;
    let before = source.everything().await;
    let deployment = source.deployment(backend);
    deployment.json(&["init", "--json"]);
    let mut dry = import(&deployment, &["--dry-run"]);
    assert!(stored(&deployment).await.is_empty());
    assert_eq!(dry["dry_run"], true);
    let mut wet = import(&deployment, &[]);
    for report in [&mut dry, &mut wet] {
        for changing in ["dry_run", "elapsed_ms"] {
            report[changing] = Value::Null;
        }
    }
    assert_eq!(dry, wet);
    assert_eq!(source.everything().await, before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_changes_nothing(#[values(Backend::Sqlite, Backend::Mongo)] backend: Backend) {
    let internal = "internal_507f1f77bcf86cd799439011";
    let source = Predecessor::with(vec![
        ("fast_scan_cache", scan(doc! {})),
        ("internal_users", scan(doc! { "user_id": internal })),
        ("hr_reports", doc! { "_id": "r1" }),
    ])
    .await;
    let deployment = source.deployment(backend);
    let first = import(&deployment, &[]);
    let before = stored(&deployment).await;
    assert_eq!(before.len(), 5);
    let second = import(&deployment, &[]);
    assert_eq!(outcomes(&second), outcomes(&first));
    assert_eq!(stored(&deployment).await, before);
    let found = deployment.json(&["verify-import", "--json"]);
    assert_eq!(found["matched"], 3, "{found}");
    let trail = deployment.json(&["audit", "list", "--json"]);
    assert!(trail.to_string().contains(r#""decision":"import-legacy""#));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_changed_in_tierkeep_and_who_was_erased_stays(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let internal = |n: u8| format!("internal_{n:024x}");
    let mut documents = vec![];
    for n in 1..=3 {
        documents.push(("internal_users", scan(doc! { "user_id": internal(n) })));
        let user = format!("external_user{n}");
        documents.push(("external_users", scan(doc! { "user_id": user })));
    }
    let source = Predecessor::with(documents).await;
    let deployment = source.deployment(backend);
    import(&deployment, &[]);
    for user in [&internal(1), "external_user1"] {
        deployment.json(&["erase", user, "--json"]);
    }
    // Changed in tierkeep: the version continues.
    for (role, user) in [
        (Role::RaseenMainUser, internal(2)),
        (Role::ExternalUsers, "external_user2".to_owned()),
    ] {
        let store = deployment.open(role).await;
        let set = doc! { "metadata.version": 2_i64, "scan_cache.mine": true };
        let changed = store
            .amend(role.users().unwrap(), &[user.into()], &doc! {}, &set)
            .await
            .unwrap();
        assert_eq!(changed, 1);
    }
    let before = stored(&deployment).await;
    // The predecessor changes too.
    for collection in ["internal_users", "external_users"] {
        source
            .database
            .collection::<bson::Document>(collection)
            .update_many(doc! {}, doc! { "$set": { "newer": 1 } })
            .await
            .unwrap();
    }
    let report = import(&deployment, &[]);
    assert_eq!(outcomes(&report), [2, 0, 4, 0], "{report}");
    let after = stored(&deployment).await;
    let touched = |role: Role, id: &str| {
        before.get(&(role, id.to_owned())) != after.get(&(role, id.to_owned()))
    };
    for id in [internal(1), internal(2)] {
        assert!(!touched(Role::RaseenMainUser, &id), "{id}");
        assert!(!touched(Role::RaseenTempUser, &id), "{id}");
    }
    for id in ["external_user1", "external_user2"] {
        assert!(!touched(Role::ExternalUsers, id), "{id}");
    }
    // What was not changed in tierkeep follows the predecessor.
    assert!(touched(Role::ExternalUsers, "external_user3"));
    assert!(touched(Role::RaseenTempUser, &internal(3)));
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let deployment = Deployment::new(Backend::Sqlite);
    for command in ["import-legacy", "verify-import"] {
        let ran = deployment.run(&[command]);
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        let said = String::from_utf8(ran.stderr).unwrap();
        for variable in ["MONGODB_URL", "DATABASE_NAME"] {
            assert!(said.contains(variable), "{said}");
        }
    }
}

#[test]
fn a_predecessor_that_is_away_ends_with_three_and_no_secret_is_told() {
    let url = "mongodb://somebody:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=200";
    let deployment = Deployment::new(Backend::Sqlite)
        .with("MONGODB_URL", url)
        .with("DATABASE_NAME", "git_Evaluator");
    for command in ["import-legacy", "verify-import"] {
        let ran = deployment.run(&[command, "-vv"]);
        assert_eq!(ran.status.code(), Some(3), "{ran:?}");
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(said.contains("git_Evaluator"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_imported_from_a_database_of_tierkeep_s_own() {
    let source = Predecessor::new().await;
    let own = source.deployment(Backend::Mongo);
    own.json(&["init", "--json"]);
    let url = own.environment[Role::ExternalUsers.url_variable()].clone();
    let mut into_itself = source.deployment(Backend::Mongo);
    into_itself.environment = own.environment.clone();
    into_itself
        .environment
        .insert("MONGODB_URL".into(), url.clone());
    into_itself.environment.remove("DATABASE_NAME");
    let mut into_another = source.deployment(Backend::Sqlite).with("MONGODB_URL", &url);
    into_another.environment.remove("DATABASE_NAME");
    for deployment in [into_itself, into_another] {
        let ran = deployment.run(&["import-legacy"]);
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(said.contains("external_users"), "{said}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_document_is_accounted_for_and_no_secret_comes_along(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let (source, becomes) = Predecessor::of_people(FORMS, 1_000).await;
    let before = source.everything().await;
    let deployment = source.deployment(backend);
    let ran = deployment.run(&[
        "-vv",
        "import-legacy",
        "--json",
        "--refused",
        "refused.jsonl",
    ]);
    assert!(ran.status.success(), "{ran:?}");
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let expected = [
        Becomes::Imported,
        Becomes::Merged,
        Becomes::Skipped,
        Becomes::Refused,
    ];
    assert_eq!(
        outcomes(&report),
        expected.map(|it| becomes[&it]),
        "{report}"
    );
    assert!(report["secrets_dropped"].as_u64().unwrap() > 60, "{report}");
    assert_eq!(source.everything().await, before);

    let said = [ran.stdout, ran.stderr].map(|it| String::from_utf8(it).unwrap());
    assert!(!said.concat().contains(SECRET));
    let stored = stored(&deployment).await;
    assert!(!format!("{stored:?}").contains(SECRET));
    for (name, bytes) in files(deployment.dir.path()) {
        let found = bytes
            .windows(SECRET.len())
            .any(|it| it == SECRET.as_bytes());
        assert!(!found, "{name}");
    }
    let found = deployment.json(&["verify-import", "--json"]);
    assert_eq!(found["checked"], found["matched"], "{found}");
    assert_eq!(found["refused"], report["refused"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_report_lists_so_many_refusals_and_the_file_has_them_all() {
    const LISTED: usize = 10_000;
    let source = Predecessor::with(vec![("fast_scan_cache", scan(doc! {}))]).await;
    let nobody: Vec<_> = (0..=LISTED)
        .map(|n| doc! { "_id": i64::try_from(n).unwrap(), "scan_date": "2024-01-01T00:00:00" })
        .collect();
    let collection = source.database.collection("internal_users");
    collection.insert_many(nobody).await.unwrap();
    let deployment = source.deployment(Backend::Sqlite);
    let report = deployment.json(&["import-legacy", "--json", "--refused", "refused.jsonl"]);
    assert_eq!(outcomes(&report), [1, 0, 0, 10_001], "{}", report["skips"]);
    assert_eq!(report["refusals"].as_array().unwrap().len(), LISTED);
    assert_eq!(report["refusals_not_listed"], 1);
    let path = deployment.dir.path().join("refused.jsonl");
    let exported = std::fs::read_to_string(path).unwrap();
    let ids: std::collections::BTreeSet<String> = exported
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string())
        .collect();
    assert_eq!(ids.len(), LISTED + 1);
    let ran = deployment.run(&["import-legacy", "--dry-run"]);
    let said = String::from_utf8(ran.stdout).unwrap();
    let more = "and 9981 more; --json lists 10000, --refused FILE writes all";
    assert!(said.contains(more), "{said}");
}
