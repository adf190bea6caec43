//! An operator pauses the mover, resumes it, and retries failed moves.

use std::time::Duration;

use bson::doc;
use bson::raw::RawDocumentBuf;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::Role;
use tierkeep_core::document::Edit;
use tierkeep_core::store::{Change, CollectionLayout, Guard, IndexLayout, Layout};
use tierkeep_testkit::documents::{SeedUser, seed_user};

use super::program::{Backend, Deployment};

const HOUR: Duration = Duration::from_hours(1);

/// Documents of these numbers, 25 hours old, as another program writes them; each has its number in `n`.
async fn plant(deployment: &Deployment, numbers: std::ops::Range<u32>) {
    let old = clock::before(SystemClock.now(), 25 * HOUR);
    let documents: Vec<_> = numbers
        .map(|n| Edit::new().set("n", i64::from(n)).apply(&seed_user(n, old)))
        .collect();
    let temp = deployment.open(Role::RaseenTempUser).await;
    temp.insert("internal_users", &documents).await.unwrap();
}

fn id(n: u32) -> String {
    SeedUser::new(n, SystemClock.now()).user_id()
}

/// Makes srie refuse document `n` for its own reasons.
async fn obstruct(deployment: &Deployment, n: u32) {
    let srie = deployment.open(Role::SrieMainUser).await;
    let unique = IndexLayout::over(&["n"]).unique();
    let users = CollectionLayout {
        name: "internal_users".into(),
        indexes: vec![unique],
        keeps_out: None,
    };
    let layout = Layout {
        collections: vec![users],
    };
    srie.prepare(&layout).await.unwrap();
    let squatter = doc! { "_id": "squatter", "n": i64::from(n) };
    let squatter = RawDocumentBuf::try_from(&squatter).unwrap();
    srie.insert("internal_users", &[squatter]).await.unwrap();
}

async fn clear(deployment: &Deployment) {
    let srie = deployment.open(Role::SrieMainUser).await;
    let any = Guard::Fields(doc! {});
    srie.write("internal_users", &"squatter".into(), &any, &Change::Remove)
        .await
        .unwrap();
}

/// What a command says: its exit code, stdout and stderr.
fn said(deployment: &Deployment, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = deployment.run(arguments);
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_in_every_process_until_it_is_resumed(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend).with("TIERKEEP_SCAN_INTERVAL", "100ms");
    let paused = deployment.json(&["migrate", "pause", "--json"]);
    assert_eq!(paused, json!({ "paused": true, "changed": true }));
    plant(&deployment, 0..20).await;
    let service = deployment.serve();
    let run = deployment.json(&["migrate", "run", "--json"]);
    assert_eq!((&run["paused"], &run["moved"]), (&json!(true), &json!(0)));
    let (code, text, _) = said(&deployment, &["migrate", "run"]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("nothing was moved; resume with: tierkeep migrate resume"),
        "{text}"
    );
    let dry = deployment.json(&["migrate", "run", "--dry-run", "--json"]);
    assert_eq!((&dry["due"], &dry["paused"]), (&json!(20), &json!(false)));
    let (_, text, _) = said(&deployment, &["migrate", "status"]);
    assert!(text.contains("paused"), "{text}");
    let (_, text, _) = said(&deployment, &["migrate", "pause"]);
    assert!(text.starts_with("already paused"), "{text}");
    assert_eq!(deployment.users(Role::RaseenTempUser).await.len(), 20);

    let resumed = deployment.json(&["migrate", "resume", "--json"]);
    assert_eq!(resumed, json!({ "paused": false, "changed": true }));
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while !deployment.users(Role::RaseenTempUser).await.is_empty() {
        assert!(
            std::time::Instant::now() < deadline,
            "the service goes on by itself"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(service);
    let (_, text, _) = said(&deployment, &["migrate", "resume"]);
    assert_eq!(text, "it was not paused\n");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_move_is_tried_again_when_an_operator_says_so(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend).with("TIERKEEP_RETRY_BACKOFF", "0s");
    deployment.json(&["init", "--json"]);
    plant(&deployment, 1..4).await;
    obstruct(&deployment, 2).await;
    for _ in 0..4 {
        let output = deployment.run(&["migrate", "run", "--json"]);
        assert_eq!(output.status.code(), Some(1), "attempts fail");
        let run: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(run["failed"], 1);
    }
    let run = deployment.json(&["migrate", "run", "--json"]);
    assert_eq!((&run["failed"], &run["deferred"]), (&json!(0), &json!(1)));
    let status = deployment.json(&["migrate", "status", "--json"]);
    assert_eq!(status["failed"], 1);
    assert_eq!(status["failures"][0]["user_id"], id(2));
    let (_, text, _) = said(&deployment, &["migrate", "status"]);
    assert!(text.contains(&format!("  {}: ", id(2))), "{text}");

    let other = deployment.json(&["migrate", "retry", "--user", &id(1), "--json"]);
    assert_eq!(other, json!({ "retried": 0 }));
    let nobody = "internal_ffffffffffffffffffffffff";
    let (code, text, complaint) = said(&deployment, &["migrate", "retry", "--user", nobody]);
    assert_eq!((code, text.as_str()), (Some(1), ""));
    assert!(complaint.contains(nobody), "{complaint}");
    let (code, _, complaint) = said(&deployment, &["migrate", "retry"]);
    assert_eq!(code, Some(2));
    assert!(complaint.contains("help: give --user ID"), "{complaint}");

    let one = deployment.json(&["migrate", "retry", "--user", &id(2), "--json"]);
    assert_eq!(one, json!({ "retried": 1 }));
    clear(&deployment).await;
    let run = deployment.json(&["migrate", "run", "--json"]);
    assert_eq!(run["moved"], 1);
    let all = deployment.json(&["migrate", "retry", "--all", "--json"]);
    assert_eq!(all, json!({ "retried": 0 }));
    assert!(deployment.users(Role::RaseenTempUser).await.is_empty());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_will_move_is_foretold_and_then_it_moves(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    deployment.json(&["init", "--json"]);
    plant(&deployment, 0..5).await;
    let bytes: usize = deployment
        .users(Role::RaseenTempUser)
        .await
        .iter()
        .map(|document| document.as_bytes().len())
        .sum();
    let soon = clock::before(SystemClock.now(), Duration::from_mins(22 * 60 + 30));
    let temp = deployment.open(Role::RaseenTempUser).await;
    let later = seed_user(10, soon);
    temp.insert("internal_users", &[later]).await.unwrap();
    let before = deployment.users(Role::RaseenTempUser).await;

    let outlook = deployment.json(&["simulate", "--json"]);
    assert_eq!(
        outlook["due_now"],
        json!({ "documents": 5, "bytes": bytes })
    );
    assert_eq!(outlook["hours"].as_array().unwrap().len(), 24);
    assert_eq!(outlook["hours"][1]["documents"], 1);
    assert_eq!(outlook["total"]["documents"], 6);
    let (code, text, _) = said(&deployment, &["simulate", "--for", "30m"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("due now"), "{text}");
    let short = deployment.json(&["simulate", "--for", "30m", "--json"]);
    assert_eq!(short["total"]["documents"], 5);
    assert_eq!(deployment.users(Role::RaseenTempUser).await, before);

    assert_eq!(deployment.json(&["migrate", "run", "--json"])["moved"], 5);
    let outlook = deployment.json(&["simulate", "--json"]);
    assert_eq!(outlook["total"]["documents"], 1);
}

#[test]
fn a_verb_that_has_ended_well_says_nothing_on_stderr() {
    let deployment = Deployment::new(Backend::Mongo);
    deployment.run(&["init"]);
    // The driver says goodbye in the background: once in seven runs or so it would be interrupted, and panic.
    for _ in 0..30 {
        let output = deployment.run(&["status"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    }
}
