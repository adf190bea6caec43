//! Following a source that was dropped and filled again, or that does not keep its changes back to the noted place.

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
    // Older than any oplog; none of a server's.
    #[values("old", "odd")] how: &str,
) {
    let source = Predecessor::new().await;
    put(&source, "first").await;
    let deployment = source.deployment(backend);
    assert!(deployment.run(&["init"]).status.success());
    assert_eq!(followed(&deployment), 0);
    let audit = deployment.open(Role::EvaluationAudit).await;
    let id = Bson::String(format!("followed:{}", source.database.name()));
    let noted = deployment
        .all(Role::EvaluationAudit, collection::CONTROL)
        .await;
    let noted = noted
        .iter()
        .find(|it| tierkeep_core::document::id(it) == id);
    let token = noted.unwrap().get_document("token").unwrap();
    let token = token.get_str("_data").unwrap().to_owned();
    let spoiled = if how == "old" {
        Bson::from(doc! { "_data": format!("8200000001{}", &token[10..]) })
    } else {
        Bson::from(7)
    };
    let set = doc! { "token": spoiled };
    let amended = audit
        .amend(collection::CONTROL, &[id], &doc! {}, &set)
        .await;
    assert_eq!(amended.unwrap(), 1);
    // A server that still has its oplog from the first entry on can take up any place.
    let can_be_taken_up = how == "old" && has_its_first_entry(&source).await;
    assert_eq!(followed(&deployment), i64::from(!can_be_taken_up));
    assert_eq!(followed(&deployment), 0);
}

/// Whether the oplog of the source's server was never shortened.
async fn has_its_first_entry(source: &Predecessor) -> bool {
    let local = source.database.client().database("local");
    let oplog = local.collection::<bson::Document>("oplog.rs");
    let first = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).await;
    let first = first.unwrap().unwrap();
    let message = first
        .get_document("o")
        .and_then(|entry| entry.get_str("msg"));
    message.is_ok_and(|message| message == "initiating set")
}
