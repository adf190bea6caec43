//! Comparing, repairing, losing main and restoring it, with the built binary.

use std::process::Stdio;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::compare::vouched;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document::{self, Edit, Location, State};
use tierkeep_core::store::{Change, Guard};
use tierkeep_core::user::UserId;
use tierkeep_testkit::documents::native_user;

use super::program::{Backend, Deployment};

const MAIN: Role = Role::RaseenMainUser;
const SRIE: Role = Role::SrieMainUser;

fn id(n: u32) -> String {
    format!("internal_{n:024x}")
}

/// Users 0 to `n`, moved by the program.
async fn moved(deployment: &Deployment, n: u32) {
    deployment.json(&["init", "--json"]);
    let old = clock::before(SystemClock.now(), Duration::from_hours(25));
    let documents: Vec<_> = (0..n)
        .map(|n| native_user(n, 1).dated(old).build())
        .collect();
    let temp = deployment.open(Role::RaseenTempUser).await;
    temp.insert("internal_users", &documents).await.unwrap();
    deployment.json(&["migrate", "run", "--json"]);
}

async fn tamper(deployment: &Deployment, role: Role, id: &str, by: Option<RawDocumentBuf>) {
    let change = by.map_or(Change::Remove, Change::Replace);
    let store = deployment.open(role).await;
    let any = Guard::Fields(doc! {});
    let id = Bson::String(id.to_owned());
    let write = store.write("internal_users", &id, &any, &change);
    write.await.unwrap();
}

async fn lose_main(deployment: &Deployment) {
    for document in deployment.users(MAIN).await {
        tamper(deployment, MAIN, document.get_str("_id").unwrap(), None).await;
    }
    let main = deployment.open(MAIN).await;
    let any = Guard::Fields(doc! {});
    let stamp = Bson::String("tierkeep".into());
    let write = main.write(collection::IDENTITY, &stamp, &any, &Change::Remove);
    write.await.unwrap();
}

fn live(documents: Vec<RawDocumentBuf>) -> Vec<RawDocumentBuf> {
    let live = |document: &RawDocumentBuf| document::state(document) == Some(State::Live);
    documents.into_iter().filter(live).collect()
}

/// The exit code and the JSON of a command.
fn told(deployment: &Deployment, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = deployment.run(arguments);
    let value = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        value.unwrap_or_else(|_| panic!("{output:?}")),
    )
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_finds_and_mends_what_differs(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    moved(&deployment, 6).await;
    let (code, found) = told(&deployment, &["verify", "--json"]);
    assert_eq!(code, Some(0), "{found}");
    assert_eq!(
        (&found["checked"], &found["matched"]),
        (&json!(6), &json!(6))
    );
    let main = deployment.users(MAIN).await;
    tamper(&deployment, SRIE, &id(0), None).await;
    tamper(&deployment, MAIN, &id(1), None).await;
    let corrupt = Edit::new().set("analysis_progress", bson::rawdoc! { "n": 1 });
    tamper(&deployment, SRIE, &id(2), Some(corrupt.apply(&main[2]))).await;

    let (code, found) = told(&deployment, &["verify", "--json"]);
    assert_eq!(code, Some(1));
    let expected = json!({
        "checked": 6, "matched": 3, "missing_in_backup": 1, "missing_in_main": 1,
        "different": 1, "repaired": 0, "in_flight": 0,
    });
    for (name, count) in expected.as_object().unwrap() {
        assert_eq!(found[name], *count, "{name}: {found}");
    }
    let text = deployment.run(&["verify"]);
    assert_eq!(text.status.code(), Some(1));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("corrupt_srie"), "{text}");
    assert!(text.ends_with("tierkeep verify --repair\n"), "{text}");

    let (code, mended) = told(&deployment, &["verify", "--repair", "--json"]);
    assert_eq!(
        (code, &mended["repaired"]),
        (Some(0), &json!(3)),
        "{mended}"
    );
    assert_eq!(deployment.users(MAIN).await, main);
    assert_eq!(deployment.users(SRIE).await, main);
    let (code, sampled) = told(&deployment, &["verify", "--sample", "4", "--json"]);
    assert_eq!(
        (code, &sampled["matched"]),
        (Some(0), &json!(4)),
        "{sampled}"
    );

    tamper(&deployment, SRIE, &id(5), None).await;
    let (code, done) = told(&deployment, &["backup", "--json"]);
    assert_eq!(
        (code, &done["backed_up"], &done["unchanged"]),
        (Some(0), &json!(1), &json!(5))
    );
    assert_eq!(deployment.users(SRIE).await, main);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_brings_back_a_main_that_was_lost_beside_a_running_service(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    moved(&deployment, 30).await;
    assert!(deployment.run(&["erase", &id(7)]).status.success());
    let before = live(deployment.users(MAIN).await);
    let service = deployment.serve();
    lose_main(&deployment).await;

    let (code, one) = told(&deployment, &["restore", "--user", &id(3), "--json"]);
    assert_eq!((code, &one["restored"]), (Some(0), &json!(1)), "{one}");
    let unknown = deployment.run(&["restore", "--user", &id(99), "--json"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains(&id(99)), "{said}");
    let list = deployment.dir.path().join("users");
    std::fs::write(&list, format!("{}\n\n  {}\n", id(4), id(5))).unwrap();
    let list = list.display().to_string();
    let (code, some) = told(&deployment, &["restore", "--users-file", &list, "--json"]);
    assert_eq!((code, &some["restored"]), (Some(0), &json!(2)), "{some}");

    let (code, dry) = told(&deployment, &["restore", "--all", "--dry-run", "--json"]);
    assert_eq!(
        (code, &dry["restored"], &dry["dry_run"]),
        (Some(0), &json!(26), &json!(true))
    );
    assert_eq!(deployment.users(MAIN).await.len(), 3);
    let (code, all) = told(&deployment, &["restore", "--all", "--json"]);
    assert_eq!(
        (code, &all["restored"], &all["unchanged"]),
        (Some(0), &json!(26), &json!(3)),
        "{all}"
    );
    assert_eq!(live(deployment.users(MAIN).await), before);
    assert_eq!(deployment.all(MAIN, collection::IDENTITY).await.len(), 1);
    let explained = deployment.json(&["explain", &id(7), "--json"]);
    assert_eq!(explained["authoritative"], Value::Null, "{explained}");
    drop(service);
}

/// How many documents a comparison is measured on; 200,000 where everything is tried.
fn many() -> u32 {
    if super::kill::full() { 200_000 } else { 20_000 }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn comparing_many_documents_takes_little_memory(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    const MOST: u64 = 100 * 1024;
    let deployment = Deployment::new(backend);
    deployment.json(&["init", "--json"]);
    let pages = bson::rawdoc! { "text": "x".repeat(1_500), "n": 1_i64 };
    let copy = |n: u32| {
        let user = native_user(n, 1).content(pages.clone());
        vouched(&user.at(Location::Main).build())
    };
    let numbers: Vec<u32> = (0..many()).collect();
    for role in [MAIN, SRIE] {
        let store = deployment.open(role).await;
        for chunk in numbers.chunks(1_000) {
            let copies: Vec<_> = chunk.iter().map(|n| copy(*n)).collect();
            store.insert("internal_users", &copies).await.unwrap();
        }
    }
    let mut command = deployment.command(&["verify", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let read = std::fs::read_to_string(&status).unwrap_or_default();
        let line = read.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let found: Value = serde_json::from_reader(child.stdout.take().unwrap()).unwrap();
    assert_eq!(found["matched"], many(), "{found}");
    assert!(peak > 0 && peak < MOST, "{peak} KiB");
    println!(
        "{} documents in {} ms, at most {peak} KiB",
        many(),
        found["elapsed_ms"]
    );
}

/// The service compares by itself, tells of what differs, and that it is gone.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_finds_what_differs_by_itself(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend).with("TIERKEEP_VERIFY_PERIOD", "2s");
    moved(&deployment, 20).await;
    let user = UserId::parse(&id(4)).unwrap();
    let kept = deployment.users(SRIE).await[4].clone();
    tamper(&deployment, SRIE, user.as_str(), None).await;
    let _service = deployment.serve();
    assert_eq!(open_alerts(&deployment, true).await, ["srie_main_user"]);
    let store = deployment.open(SRIE).await;
    store.insert("internal_users", &[kept]).await.unwrap();
    assert!(open_alerts(&deployment, false).await.is_empty());
}

/// The subjects of the open alerts about differences, once there are any, or none any more.
async fn open_alerts(deployment: &Deployment, any: bool) -> Vec<String> {
    const PATIENCE: Duration = Duration::from_mins(1);
    const INTERVAL: Duration = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    loop {
        let alerts = deployment.all(Role::EvaluationAudit, collection::ALERTS);
        let open: Vec<String> = alerts
            .await
            .iter()
            .filter(|alert| alert.get_str("kind").ok() == Some("verification_difference"))
            .filter(|alert| alert.get_datetime("resolved_at").is_err())
            .map(|alert| alert.get_str("subject").unwrap().to_owned())
            .collect();
        if open.is_empty() != any {
            return open;
        }
        assert!(waited < PATIENCE, "{open:?}");
        tokio::time::sleep(INTERVAL).await;
        waited += INTERVAL;
    }
}
