//! Following a source that was dropped and filled again, or whose oplog no longer reaches back to the resume token.

use bson::{Bson, doc};
use rstest::rstest;
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};

use super::super::program::{Backend, Deployment};
use super::{Predecessor, scan};

async fn put(source: &Predecessor, name: &str) {
    let fields = doc! { "user_id": format!("external_{name}"), "username": name };
    source.put("external_users", scan(fields)).await;
}

fn followed(deployment: &Deployment) -> Value {
    let report = deployment.json(&["import-legacy", "--follow", "--until-idle", "1s", "--json"]);
    report["followed"]["restarts"].clone()
}

async fn users(deployment: &Deployment) -> Vec<String> {
    let users = deployment.users(Role::ExternalUsers).await;
    let id = |user: &bson::raw::RawDocumentBuf| user.get_str("user_id").unwrap().to_owned();
    users.iter().map(id).collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_dropped_and_filled_again_is_copied_anew_and_followed_on(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let source = Predecessor::new().await;
    put(&source, "first").await;
    let deployment = source.deployment(backend);
    assert!(deployment.run(&["init"]).status.success());
    assert_eq!(followed(&deployment), 0);
    source.database.drop().await.unwrap();
    put(&source, "second").await;
    assert_eq!(followed(&deployment), 1);
    assert_eq!(
        users(&deployment).await,
        ["external_first", "external_second"]
    );
    // The place that was noted then can be taken up.
    put(&source, "third").await;
    assert_eq!(followed(&deployment), 0);
    assert_eq!(users(&deployment).await.len(), 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_taken_up_is_forgotten(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let source = Predecessor::new().await;
    put(&source, "first").await;
    let deployment = source.deployment(backend);
    assert!(deployment.run(&["init"]).status.success());
    assert_eq!(followed(&deployment), 0);
    let audit = deployment.open(Role::EvaluationAudit).await;
    let id = Bson::String(format!("followed:{}", source.database.name()));
    // What no server made.
    let set = doc! { "token": 7 };
    let amended = audit
        .amend(collection::CONTROL, &[id], &doc! {}, &set)
        .await;
    assert_eq!(amended.unwrap(), 1);
    assert_eq!(followed(&deployment), 1);
    assert_eq!(followed(&deployment), 0);
}
