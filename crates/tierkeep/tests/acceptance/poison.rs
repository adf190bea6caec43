//! Ten documents that cannot move, for different reasons, at the head of the queue: the others move, and
//! each of the ten is reported with its reason.

use std::time::Duration;

use bson::raw::{RawBson, RawDocumentBuf};
use bson::{DateTime, Timestamp, doc, rawdoc};
use rstest::rstest;
use serde_json::Value;
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::{Role, collection};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit, Location};
use tierkeep_core::mover::main_form;
use tierkeep_core::store::{CollectionLayout, IndexLayout, Inserted, Layout};
use tierkeep_testkit::documents::{SeedUser, native_user, seed_user};

use super::program::{Backend, Deployment};

const DAY: Duration = Duration::from_hours(24);
const USERS: &str = "internal_users";
/// The largest document that either backend stores.
const STORED_MAX_BYTES: usize = 16 * 1024 * 1024;
const GOOD: u32 = 990;

/// The numbers of the poisoned documents, in the order of the queue.
mod n {
    pub const NO_USER: u32 = 0;
    pub const NO_CREATED_AT: u32 = 1;
    pub const CLAIMED_TWICE: u32 = 2;
    pub const CLAIMS_TOO: u32 = 3;
    pub const ODD_VERSION: u32 = 4;
    pub const REFUSED_BY_MAIN: u32 = 5;
    pub const REFUSED_BY_SRIE: u32 = 6;
    pub const CLASHES: u32 = 7;
    pub const FULL: u32 = 8;
    pub const CONTRADICTED: u32 = 9;
    pub const FIRST_GOOD: u32 = 10;
}

fn user(n: u32) -> String {
    SeedUser::new(n, SystemClock.now()).user_id()
}

/// The ten, older than all others; `n` is a field of its own in every document, for the index of another program.
fn poisoned(at: DateTime) -> Vec<RawDocumentBuf> {
    let native = |n: u32| native_user(n, 3).dated(at).set("n", i64::from(n));
    let full = native(n::FULL).content(rawdoc! { "fill": "" }).build();
    let room = STORED_MAX_BYTES - full.as_bytes().len();
    let full = native(n::FULL).content(rawdoc! { "fill": "x".repeat(room) });
    let mut documents = vec![
        Edit::new()
            .set("user_id", "nobody")
            .apply(&seed_user(n::NO_USER, at)),
        Edit::new()
            .unset("created_at")
            .apply(&seed_user(n::NO_CREATED_AT, at)),
        seed_user(n::CLAIMED_TWICE, at),
        Edit::new()
            .set("user_id", user(n::CLAIMED_TWICE))
            .apply(&seed_user(n::CLAIMS_TOO, at)),
        Edit::new()
            .set_meta("version", 1)
            .apply(&seed_user(n::ODD_VERSION, at)),
    ];
    for (number, document) in (0_i64..).zip(&mut documents) {
        *document = Edit::new().set("n", number).apply(document);
    }
    documents.extend([
        native(n::REFUSED_BY_MAIN).build(),
        native(n::REFUSED_BY_SRIE).build(),
        native(n::CLASHES).build(),
        full.build(),
        native(n::CONTRADICTED).build(),
    ]);
    documents
}

/// Those that must move, two of which break naive copies.
fn good(at: DateTime) -> Vec<RawDocumentBuf> {
    let zero = Timestamp {
        time: 0,
        increment: 0,
    };
    (n::FIRST_GOOD..n::FIRST_GOOD + GOOD)
        .map(|n| {
            let document = match n - n::FIRST_GOOD {
                0 => native_user(n, 1)
                    .dated(at)
                    .set("$set", rawdoc! { "a": 1 })
                    .build(),
                1 => native_user(n, 1)
                    .dated(at)
                    .set("zero", RawBson::Timestamp(zero))
                    .build(),
                even if even % 2 == 0 => native_user(n, 1).dated(at).build(),
                _ => seed_user(n, at),
            };
            Edit::new().set("n", i64::from(n)).apply(&document)
        })
        .collect()
}

/// Makes a database refuse one user's document, as its administrator may have.
async fn refuse(deployment: &Deployment, role: Role, user: &str) {
    match deployment.backend {
        Backend::Sqlite => {
            let dir = std::path::Path::new(&deployment.environment["TIERKEEP_DATA_DIR"]);
            rusqlite::Connection::open(dir.join(format!("{role}.db")))
                .unwrap()
                .execute_batch(&format!(
                    "CREATE TRIGGER refusal BEFORE INSERT ON documents_of_{USERS}
                     WHEN NEW.user_id = '{user}' BEGIN SELECT RAISE(ABORT, 'refused'); END;"
                ))
                .unwrap();
        }
        Backend::Mongo => {
            let url = &deployment.environment[role.url_variable()];
            let client = mongodb::Client::with_uri_str(url).await.unwrap();
            let validator = doc! { "collMod": USERS, "validator": { "user_id": { "$ne": user } } };
            let database = client.default_database().unwrap();
            database.run_command(validator).await.unwrap();
        }
    }
}

/// Two databases that refuse one document each, a unique index with a clash, and a copy that contradicts.
async fn lay_traps(deployment: &Deployment, contradicted: &RawDocumentBuf) {
    refuse(deployment, Role::RaseenMainUser, &user(n::REFUSED_BY_MAIN)).await;
    refuse(deployment, Role::SrieMainUser, &user(n::REFUSED_BY_SRIE)).await;
    let unique = IndexLayout::over(&["n"]).unique();
    let users = CollectionLayout {
        name: USERS.into(),
        indexes: vec![unique],
        keeps_out: None,
    };
    let layout = Layout {
        collections: vec![users],
    };
    let srie = deployment.open(Role::SrieMainUser).await;
    srie.prepare(&layout).await.unwrap();
    let squatter = rawdoc! { "_id": "squatter", "n": i64::from(n::CLASHES) };
    srie.insert(USERS, &[squatter]).await.unwrap();
    let lie = Edit::new()
        .set("scan_cache", rawdoc! { "other": 1 })
        .apply(contradicted);
    let lie = main_form(&lie, &Digest::of(&lie));
    let main = deployment.open(Role::RaseenMainUser).await;
    main.insert(USERS, &[lie]).await.unwrap();
}

/// One run and its exit code.
fn migrate(deployment: &Deployment) -> (Value, Option<i32>) {
    let output = deployment.run(&["migrate", "run", "--json"]);
    let said = serde_json::from_slice(&output.stdout);
    (
        said.unwrap_or_else(|_| panic!("{output:?}")),
        output.status.code(),
    )
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn ten_bad_documents_at_the_head_of_the_queue_do_not_delay_others(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend).with("TIERKEEP_RETRY_BACKOFF", "0s");
    assert!(deployment.run(&["init"]).status.success());
    let now = SystemClock.now();
    let bad = poisoned(clock::before(now, 40 * DAY));
    let good = good(clock::before(now, 2 * DAY));
    lay_traps(&deployment, bad.last().unwrap()).await;
    let temp = deployment.open(Role::RaseenTempUser).await;
    for documents in [&bad, &good] {
        let planted = temp.insert(USERS, documents).await.unwrap();
        assert!(
            planted.iter().all(|outcome| *outcome == Inserted::Stored),
            "{planted:?}"
        );
    }

    let (first, exit) = migrate(&deployment);
    assert_eq!((&first["moved"], exit), (&GOOD.into(), Some(1)), "{first}");
    assert_eq!(first["quarantined"], 6, "{first}");
    assert_moved(&deployment, &good).await;

    let mut runs = 1;
    let last = loop {
        let (run, exit) = migrate(&deployment);
        assert_eq!(run["moved"], 0, "{run}");
        runs += 1;
        if run["failed"] == 0 {
            assert_eq!(
                exit,
                Some(0),
                "only parked and quarantined ones are left: {run}"
            );
            break run;
        }
        assert_eq!(exit, Some(1), "{run}");
        assert!(runs < 6, "retries never end: {run}");
    };
    assert!(runs > 2, "the first run used the retries up");
    assert_eq!(
        (&last["quarantined"], &last["deferred"]),
        (&6.into(), &4.into())
    );
    assert_reasons(&deployment).await;

    // Nothing of the ten was touched but the mark that says so.
    let left = deployment.users(Role::RaseenTempUser).await;
    assert_eq!(left.len(), bad.len());
    for document in &left {
        let id = document::id(document);
        let planted = bad.iter().find(|bad| document::id(bad) == id).unwrap();
        let marked = Edit::new()
            .set_meta("backup_status", "failed")
            .apply(planted);
        assert!(
            document == planted || *document == marked,
            "{id} was changed"
        );
    }
}

async fn assert_moved(deployment: &Deployment, good: &[RawDocumentBuf]) {
    let main = deployment.users(Role::RaseenMainUser).await;
    let srie = deployment.users(Role::SrieMainUser).await;
    for planted in good {
        let user = document::user_id(planted).unwrap();
        let of_user = |copies: &[RawDocumentBuf]| {
            let mut copies = copies
                .iter()
                .filter(|copy| document::user_id(copy) == Some(user));
            (copies.next().cloned(), copies.count())
        };
        let (copy, others) = of_user(&main);
        assert_eq!(of_user(&srie), (copy.clone(), others), "{user}");
        let copy = copy.unwrap();
        assert_eq!(
            (others, Digest::claimed_by(&copy)),
            (0, Some(Digest::of(&copy)))
        );
        if document::is_native(planted) {
            let expected = main_form(planted, &Digest::of(planted));
            assert_eq!(copy, expected, "{user} did not move byte for byte");
        } else {
            assert_eq!(
                copy.get_document("scan_cache").unwrap(),
                planted.get_document("scan_cache").unwrap()
            );
        }
        assert_eq!(
            copy.get_str("data_location").unwrap(),
            Location::Main.data_location()
        );
    }
}

/// Each of the ten is failed or quarantined, and says why; each that failed was alerted of once.
async fn assert_reasons(deployment: &Deployment) {
    let alerts = deployment
        .all(Role::EvaluationAudit, collection::ALERTS)
        .await;
    let mut subjects: Vec<&str> = alerts
        .iter()
        .filter(|alert| alert.get_str("kind").unwrap() == "migration_failed")
        .inspect(|alert| assert_eq!(alert.get_i64("count").unwrap(), 1, "{alert:?}"))
        .map(|alert| alert.get_str("subject").unwrap())
        .collect();
    subjects.sort_unstable();
    let expected = [n::REFUSED_BY_MAIN, n::REFUSED_BY_SRIE, n::CLASHES, n::FULL].map(user);
    assert_eq!(subjects, expected, "{alerts:?}");
    let refused = match deployment.backend {
        Backend::Sqlite => "trigger",
        Backend::Mongo => "code 121",
    };
    let records = deployment
        .all(Role::EvaluationAudit, collection::MIGRATION_RECORDS)
        .await;
    for (n, reason) in [
        (n::REFUSED_BY_MAIN, refused),
        (n::REFUSED_BY_SRIE, refused),
        (n::CLASHES, "code 11000"),
        (n::FULL, "16 MiB"),
    ] {
        let of_user: Vec<_> = records
            .iter()
            .filter(|record| document::user_id(record) == Some(&user(n)))
            .collect();
        let [record] = of_user[..] else {
            panic!("{n}: {of_user:?}");
        };
        assert_eq!(record.get_str("status").unwrap(), "failed", "{n}");
        assert_eq!(record.get_i32("retry_count").unwrap(), 3, "{n}");
        let error = record.get_str("error").unwrap();
        assert!(error.contains(reason), "{n}: {error}");
        let explained = deployment.json(&["explain", &user(n), "--json"]);
        assert_eq!(
            explained["authoritative"], "raseen_temp_user",
            "{explained}"
        );
    }
    let status = deployment.json(&["migrate", "status", "--json"]);
    assert_eq!(
        (&status["failed"], &status["quarantined"]),
        (&4.into(), &6.into())
    );
    let mut reasons: Vec<&str> = status["quarantine"]
        .as_array()
        .unwrap()
        .iter()
        .map(|document| document["reason"].as_str().unwrap())
        .collect();
    for (reason, documents) in [
        ("user_id", 1),
        ("created_at", 1),
        ("several documents claim", 2),
        ("metadata.version", 1),
        ("different content", 1),
    ] {
        let before = reasons.len();
        reasons.retain(|given| !given.contains(reason));
        assert_eq!(before - reasons.len(), documents, "{reason}: {status}");
    }
    assert!(reasons.is_empty(), "{reasons:?}");
}
