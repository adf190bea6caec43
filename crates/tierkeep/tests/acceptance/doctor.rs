//! `doctor` finds each problem, says how to fix it, and prints nothing if there is none.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use mongodb::{Client, Database};
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::Role;
use tierkeep_testkit::documents::native_user;

use super::program::{Backend, Deployment};

/// What the doctor says: its exit code and its findings.
fn findings(deployment: &Deployment, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = deployment.run(&[&["doctor", "--json"], arguments].concat());
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let findings = found["findings"].as_array().unwrap().clone();
    for finding in &findings {
        for part in ["check", "severity", "message", "remedy"] {
            let part = finding[part].as_str().unwrap();
            assert!(!part.is_empty() && !part.contains("hunter2"), "{finding}");
        }
    }
    (output.status.code(), findings)
}

/// The one finding of this check, about this database.
#[track_caller]
fn one<'a>(findings: &'a [Value], check: &str, database: Option<Role>) -> &'a Value {
    let database = database.map(Role::name);
    let about =
        |finding: &&Value| finding["check"] == check && finding["database"] == json!(database);
    let found: Vec<&Value> = findings.iter().filter(about).collect();
    let [found] = found.as_slice() else {
        panic!("{check} of {database:?}: {findings:#?}")
    };
    found
}

#[track_caller]
fn says(finding: &Value, message: &str, remedy: &str) {
    let holds = |part: &str, text: &str| finding[part].as_str().unwrap().contains(text);
    assert!(
        holds("message", message),
        "{message:?} is not in {finding:#}"
    );
    assert!(holds("remedy", remedy), "{remedy:?} is not in {finding:#}");
}

fn checks(findings: &[Value]) -> Vec<&str> {
    findings
        .iter()
        .map(|finding| finding["check"].as_str().unwrap())
        .collect()
}

async fn database(deployment: &Deployment, role: Role) -> Database {
    let url = &deployment.environment[role.url_variable()];
    let client = Client::with_uri_str(url).await.unwrap();
    client.default_database().unwrap()
}

/// Documents of these numbers, older than their retention.
async fn plant(deployment: &Deployment, numbers: std::ops::Range<u32>) {
    let old = clock::before(SystemClock.now(), Duration::from_hours(25));
    let documents: Vec<RawDocumentBuf> = numbers
        .map(|n| native_user(n, 1).dated(old).build())
        .collect();
    let temp = deployment.open(Role::RaseenTempUser).await;
    temp.insert("internal_users", &documents).await.unwrap();
}

#[rstest]
#[test]
fn on_a_healthy_system_it_is_silent(#[values(Backend::Sqlite, Backend::Mongo)] backend: Backend) {
    let deployment = Deployment::new(backend);
    let cold = deployment.run(&["doctor"]);
    assert_ne!(cold.status.code(), Some(0));
    assert!(
        String::from_utf8_lossy(&cold.stdout).contains("tierkeep init"),
        "{cold:?}"
    );
    assert!(deployment.run(&["init"]).status.success());
    let healthy = deployment.run(&["doctor"]);
    assert_eq!(healthy.status.code(), Some(0), "{healthy:?}");
    assert_eq!((healthy.stdout, healthy.stderr), (Vec::new(), Vec::new()));
    assert_eq!(findings(&deployment, &[]), (Some(0), Vec::new()));
    let (code, strict) = findings(&deployment, &["--strict"]);
    assert_eq!(code, Some(1));
    assert!(strict.iter().all(|finding| finding["severity"] == "note"));
    let expected = match backend {
        Backend::Sqlite => vec!["github", "alerts"],
        Backend::Mongo => vec!["audit_key", "spool", "alerts"],
    };
    assert_eq!(checks(&strict), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_fault_is_found_with_its_remedy() {
    let mut deployment = Deployment::new(Backend::Mongo);
    assert!(deployment.run(&["init"]).status.success());
    let main = database(&deployment, Role::RaseenMainUser).await;
    let temp = database(&deployment, Role::RaseenTempUser).await;
    let audit = database(&deployment, Role::EvaluationAudit).await;

    // 1: another program's unique index.
    let unique =
        doc! { "key": { "username": 1 }, "name": "by_name", "unique": true, "sparse": true };
    let unique = doc! { "createIndexes": "internal_users", "indexes": [unique] };
    main.run_command(unique).await.unwrap();
    // 2: a write concern below a majority.
    let url = deployment.environment["SRIE_MAIN_HR_DB_URL"].clone();
    deployment = deployment.with("SRIE_MAIN_HR_DB_URL", &format!("{url}&w=1"));
    // 3: a document without a date is quarantined.
    let undated = doc! { "_id": "undated", "user_id": "internal_00000000000000000000beef" };
    temp.collection("internal_users")
        .insert_one(undated)
        .await
        .unwrap();
    assert_eq!(
        deployment.json(&["migrate", "run", "--json"])["quarantined"],
        1
    );
    // 4: documents are overdue.
    plant(&deployment, 0..2).await;
    // 5: the movement is paused.
    deployment.json(&["migrate", "pause", "--json"]);
    // 6: a move has failed for good.
    let failed = doc! {
        "_id": bson::oid::ObjectId::new(), "user_id": "internal_00000000000000000000dead", "status": "failed",
        "data_size": 1_i64, "retry_count": 3_i32, "version": 1_i64, "error": "a planted reason",
    };
    audit
        .collection("migration_records")
        .insert_one(failed)
        .await
        .unwrap();
    // 7: an alert is open.
    let alert = doc! {
        "_id": "backup_lag/x", "kind": "backup_lag", "subject": "x", "first_at": bson::DateTime::MIN,
        "last_at": bson::DateTime::MIN, "count": 1_i64, "resolved_at": Bson::Null, "message": "planted",
    };
    audit.collection("alerts").insert_one(alert).await.unwrap();
    // 8: an index is missing. The next command that opens the databases for work creates it again.
    let drop = doc! { "dropIndexes": "internal_users", "index": "user_id_1__id_1" };
    main.run_command(drop).await.unwrap();
    // And so is a validator.
    let drop = doc! { "collMod": "internal_users", "validator": {} };
    main.run_command(drop).await.unwrap();
    // 9: a world-readable secret.
    let secret = deployment.dir.path().join("secret");
    fs::write(&secret, &deployment.environment["SECRET_KEY"]).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    deployment.environment.remove("SECRET_KEY");
    deployment = deployment.with("SECRET_KEY_FILE", secret.to_str().unwrap());
    // 10: the spool is no directory.
    deployment = deployment.with("TIERKEEP_SPOOL_DIR", secret.join("spool").to_str().unwrap());

    let (code, found) = findings(&deployment, &[]);
    let spool = one(&found, "spool", None);
    says(spool, "is not a directory", "can write to");
    assert_eq!(code, Some(1));
    deployment.environment.remove("TIERKEEP_SPOOL_DIR");
    let (code, found) = findings(&deployment, &[]);
    assert_eq!(code, Some(1));
    let of_main = |what: &str| {
        let about = |finding: &&Value| finding["message"].as_str().unwrap().contains(what);
        let found: Vec<&Value> = found.iter().filter(about).collect();
        assert_eq!(found.len(), 1, "{what}");
        found[0].clone()
    };
    says(
        &of_main("has no index on (user_id, _id)"),
        "raseen_main_user",
        "tierkeep init",
    );
    says(
        &of_main("has no validator"),
        "raseen_main_user",
        "tierkeep init",
    );
    says(
        &of_main("unique index"),
        "by_name",
        "dropIndex(\"by_name\")",
    );
    let temp = Some(Role::RaseenTempUser);
    says(
        one(&found, "write_concern", Some(Role::SrieMainHr)),
        "w=1",
        "SRIE_MAIN_HR_DB_URL",
    );
    says(one(&found, "quarantined", temp), "undated", "created_at");
    says(one(&found, "overdue", temp), "2 documents", "migrate run");
    says(one(&found, "paused", None), "paused", "migrate resume");
    says(
        one(&found, "failed", temp),
        "a planted reason",
        "migrate retry",
    );
    says(
        one(&found, "alerts", Some(Role::EvaluationAudit)),
        "1 alert is open",
        "alerts list",
    );
    says(one(&found, "permissions", None), "644", "chmod 600");
    assert_eq!(found.len(), 10, "{found:#?}");
    let text = deployment.run(&["doctor"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert_eq!(text.matches("\n  help: ").count(), 10, "{text}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_should_have_reached_another_database_by_now_is_found_with_its_remedy(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut deployment = Deployment::new(backend);
    assert!(deployment.run(&["init"]).status.success());
    let spool = deployment.dir.path().join("waiting");
    deployment = deployment.with("TIERKEEP_SPOOL_DIR", spool.to_str().unwrap());
    let now = SystemClock.now();
    let (late, young) = (clock::before(now, Duration::from_mins(2)), now);
    // What is on its way is no fault.
    let waits = async |id: &str, at: bson::DateTime| {
        let record = bson::rawdoc! {
            "_id": id, "created_at": at, "updated_at": at,
            "metadata": { "state": "live", "version": 1_i64, "backup_status": "pending" },
        };
        let main = deployment.open(Role::RaseenMainHr).await;
        main.insert("hr_candidates", &[record]).await.unwrap();
        let erasure = bson::rawdoc! {
            "_id": id, "user_id": "internal_00000000000000000000beef", "epoch": 1_i64, "stage": "pending",
            "requested_at": at, "verified_at": null, "pending": ["srie_main_user"],
        };
        let audit = deployment.open(Role::EvaluationAudit).await;
        audit.insert("erasures", &[erasure]).await.unwrap();
    };
    waits("young", young).await;
    fs::create_dir(&spool).unwrap();
    let lines = spool.join("00000000000000000000000000000000-00000000.spool");
    fs::write(&lines, "{}\n{}\n").unwrap();
    assert_eq!(findings(&deployment, &[]), (Some(0), Vec::new()));

    waits("late", late).await;
    let file = fs::File::options().write(true).open(&lines).unwrap();
    file.set_modified(late.to_system_time()).unwrap();
    let (code, found) = findings(&deployment, &[]);
    assert_eq!(code, Some(1));
    says(
        one(&found, "erasures", Some(Role::EvaluationAudit)),
        "internal_00000000000000000000beef",
        "tierkeep erase",
    );
    says(
        one(&found, "hr_backup", Some(Role::SrieMainHr)),
        "2 HR records",
        "tierkeep backup",
    );
    says(one(&found, "spool", None), "2 decisions", "tierkeep serve");
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_that_keep_the_service_from_starting_are_found_all_at_once() {
    let deployment = Deployment::new(Backend::Mongo);
    assert!(deployment.run(&["init"]).status.success());
    let other = Deployment::new(Backend::Mongo);
    assert!(other.run(&["init"]).status.success());
    // A TTL index, a database of another deployment, one of another role, and one that is away.
    let main = database(&deployment, Role::RaseenMainUser).await;
    let trap = doc! { "key": { "created_at": 1 }, "name": "trap", "expireAfterSeconds": 3600 };
    let trap = doc! { "createIndexes": "internal_users", "indexes": [trap] };
    main.run_command(trap).await.unwrap();
    let url =
        |deployment: &Deployment, role: Role| deployment.environment[role.url_variable()].clone();
    let deployment = deployment
        .with("SRIE_MAIN_USER_DB_URL", &url(&other, Role::SrieMainUser))
        .with("EXTERNAL_USERS_DB_URL", &url(&other, Role::RaseenTempUser));
    let (code, found) = findings(&deployment, &[]);
    assert_eq!(code, Some(1));
    says(
        one(&found, "ttl", Some(Role::RaseenMainUser)),
        "TTL index \"trap\"",
        "db.internal_users.dropIndex(\"trap\")",
    );
    let srie = one(&found, "deployment", Some(Role::SrieMainUser));
    says(srie, "another deployment", "SRIE_MAIN_USER_DB_URL");
    let external = one(&found, "roles", Some(Role::ExternalUsers));
    says(external, "raseen_temp_user", "EXTERNAL_USERS_DB_URL");
    assert_eq!(found[0]["severity"], "error");

    let away = "mongodb://me:hunter2@127.0.0.1:9/?serverSelectionTimeoutMS=200";
    let deployment = deployment.with("SRIE_MAIN_HR_DB_URL", away);
    let (code, found) = findings(&deployment, &[]);
    assert_eq!(code, Some(3));
    let hr = one(&found, "reachability", Some(Role::SrieMainHr));
    says(hr, "does not answer", "SRIE_MAIN_HR_DB_URL");
    one(&found, "ttl", Some(Role::RaseenMainUser));

    // What is wrong with the settings, too; the databases are looked at nevertheless.
    let mut deployment = deployment.with("TIERKEEP_LISTEN", "everywhere");
    let (code, found) = findings(&deployment, &[]);
    assert_eq!(code, Some(2));
    says(
        one(&found, "configuration", None),
        "TIERKEEP_LISTEN",
        "tierkeep",
    );
    deployment.environment.remove("TIERKEEP_LISTEN");
    deployment.environment.remove("SECRET_KEY");
    let (code, found) = findings(&deployment, &[]);
    assert_eq!(code, Some(2));
    assert!(checks(&found).contains(&"ttl") && checks(&found).contains(&"configuration"));
}

#[test]
fn two_roles_in_one_database_are_found_by_what_the_server_says() {
    let deployment = Deployment::new(Backend::Mongo);
    let url = deployment.environment["RASEEN_MAIN_HR_DB_URL"].clone();
    // Another name of the same machine.
    let url = url.replace("127.0.0.1", "localhost");
    let deployment = deployment.with("SRIE_MAIN_HR_DB_URL", &url);
    let (code, found) = findings(&deployment, &[]);
    assert_eq!(code, Some(1), "{found:#?}");
    let wiring = one(&found, "wiring", Some(Role::SrieMainHr));
    says(
        wiring,
        "raseen_main_hr and srie_main_hr",
        "RASEEN_MAIN_HR_DB_URL",
    );
}

#[test]
fn a_data_directory_that_others_may_change_or_read_is_found() {
    let deployment = Deployment::new(Backend::Sqlite);
    assert!(deployment.run(&["init"]).status.success());
    assert_eq!(findings(&deployment, &[]), (Some(0), Vec::new()));
    let data_dir = deployment.dir.path().join("data");
    let database = data_dir.join("raseen_main_user.db");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data_dir), mode(&database)), (0o700, 0o600));

    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o777)).unwrap();
    let (code, found) = findings(&deployment, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(checks(&found), ["permissions", "permissions"], "{found:#?}");
    says(&found[0], "mode 777", "chmod 700");
    says(&found[1], "raseen_main_user.db", "chmod 600");
    for file in ["secret.key", "audit.key"].map(|name| data_dir.join(name)) {
        if file.exists() {
            assert_eq!(mode(&file), 0o600);
        }
    }

    // Others of the owner's group are the owner's business.
    fs::set_permissions(&database, fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(findings(&deployment, &[]), (Some(0), Vec::new()));
}
