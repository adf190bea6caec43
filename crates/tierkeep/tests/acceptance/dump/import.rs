//! What an import restores, and what it leaves unchanged.

use rstest::rstest;
use serde_json::json;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, Edit, Location, State, field};
use tierkeep_core::user::UserId;
use tierkeep_testkit::documents::{NativeUser, native_user};

use super::super::program::{Backend, Deployment};
use super::{populated, users};

/// Lets `deployment` read what another wrote.
fn dump_of(deployment: &Deployment) -> String {
    deployment.dir.path().join("dump").display().to_string()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_goes_from_the_embedded_store_to_mongodb_and_back_byte_for_byte(
    #[values(false, true)] gzip: bool,
) {
    let first = populated(Backend::Sqlite).await;
    let before = users(&first).await;
    let mut export = vec!["export", "dump", "--json"];
    if gzip {
        export.push("--gzip");
    }
    first.json(&export);
    let second = Deployment::new(Backend::Mongo);
    let dry = second.run(&["import-dump", &dump_of(&first), "--dry-run", "--json"]);
    let there = second.json(&["import-dump", &dump_of(&first), "--json"]);
    assert_eq!(dry.status.code(), Some(0), "{dry:?}");
    let mut dry: serde_json::Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(dry["dry_run"], true);
    dry["dry_run"] = json!(false);
    assert_eq!(dry, there);
    assert_eq!(there["refused"], 0, "{there}");
    assert_eq!(users(&second).await, before);
    second.json(&export);
    let third = Deployment::new(Backend::Sqlite);
    let back = third.json(&["import-dump", &dump_of(&second), "--json"]);
    assert_eq!(back["imported"], there["imported"]);
    assert_eq!(users(&third).await, before);

    // Erased users stay erased, by a ledger of their own.
    let erased = "internal_000000000000000000000003";
    let explained = third.json(&["explain", erased, "--json"]);
    assert_eq!(explained["erased"], true, "{explained}");
    assert_eq!(explained["erasure"]["epoch"], 1);
    assert_eq!(explained["erasure"]["stage"], "verified");
    let again = third.json(&["import-dump", &dump_of(&second), "--json"]);
    assert_eq!(again["imported"], 0, "{again}");
    assert_eq!(again["unchanged"], there["imported"]);
    assert_eq!(users(&third).await, before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_newer_or_was_erased_since_stays(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = populated(backend).await;
    deployment.json(&["export", "dump", "--json"]);
    let temp = deployment.open(Role::RaseenTempUser).await;
    // Written since: a newer version of one that had moved, and one that the dump has in temp, older.
    let newer = native_user(1, 9).build();
    temp.insert("internal_users", std::slice::from_ref(&newer))
        .await
        .unwrap();
    deployment.json(&["erase", "internal_000000000000000000000005", "--json"]);
    deployment.json(&["erase", "external_public1", "--json"]);
    let before = users(&deployment).await;
    let imported = deployment.run(&["import-dump", "dump", "--json"]);
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    let imported: serde_json::Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!(imported["imported"], 0, "{imported}");
    // Two copies of the one, and the only one of the other.
    assert_eq!(imported["erased"], 3, "{imported}");
    assert_eq!(users(&deployment).await, before);
    let sum: u64 = [
        "imported",
        "unchanged",
        "newer_kept",
        "erased",
        "skipped",
        "refused",
    ]
    .iter()
    .map(|outcome| imported[*outcome].as_u64().unwrap())
    .sum();
    assert_eq!(imported["documents"], sum);
    let trail = deployment.json(&["audit", "list", "--json"]);
    assert!(trail.to_string().contains(r#""decision":"import-dump""#));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_temp_never_hides_what_has_moved_since(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    deployment.json(&["init", "--json"]);
    let temp = deployment.open(Role::RaseenTempUser).await;
    let staged = [native_user(1, 3).build(), native_user(2, 3).build()];
    temp.insert("internal_users", &staged).await.unwrap();
    deployment.json(&["export", "dump", "--json"]);
    // One moves as it was, the other after a change.
    let id = bson::Bson::String("internal_000000000000000000000002".into());
    let set = bson::doc! { "metadata.version": 4_i64, "more": 1 };
    temp.amend("internal_users", &[id], &bson::doc! {}, &set)
        .await
        .unwrap();
    deployment.json(&["migrate", "run", "--older-than", "0s", "--json"]);
    let before = users(&deployment).await;
    assert!(before[&Role::RaseenTempUser].is_empty());
    let imported = deployment.json(&["import-dump", "dump", "--json"]);
    assert_eq!(imported["unchanged"], 1, "{imported}");
    assert_eq!(imported["newer_kept"], 1, "{imported}");
    assert_eq!(users(&deployment).await, before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_dropped_under_a_running_service_comes_back(
    #[values(Role::RaseenMainUser, Role::SrieMainUser)] lost: Role,
) {
    let deployment = populated(Backend::Mongo).await;
    let before = users(&deployment).await;
    deployment.json(&["export", "dump", "--json"]);
    let mut service = deployment.serve();
    let url = &deployment.environment[lost.url_variable()];
    let client = mongodb::Client::with_uri_str(url).await.unwrap();
    client.default_database().unwrap().drop().await.unwrap();
    let imported = deployment.json(&["import-dump", "dump", "--json"]);
    assert_eq!(imported["refused"], 0, "{imported}");
    let stamp = deployment.all(lost, "tierkeep_identity").await;
    assert_eq!(stamp[0].get_str("role").unwrap(), lost.name());
    let indexes = client
        .default_database()
        .unwrap()
        .collection::<bson::Document>("internal_users")
        .list_index_names()
        .await
        .unwrap();
    assert!(
        indexes.iter().any(|it| it == "user_id_1__id_1"),
        "{indexes:?}"
    );
    service.kill();
    // The service moves on meanwhile.
    let after = &users(&deployment).await[&lost];
    assert!(
        before[&lost]
            .iter()
            .all(|document| after.contains(document))
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn documents_that_do_not_fit_are_refused_and_the_others_are_taken_in(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    deployment.json(&["init", "--json"]);
    let external = UserId::external("octocat").unwrap();
    let good = native_user(1, 1).build();
    let mut tampered = native_user(5, 2).at(Location::Main);
    tampered = tampered.set_meta(field::DIGEST, "0".repeat(64));
    let bad = [
        NativeUser::new(&external, 1).build(),
        native_user(2, 1).set("user_type", "external").build(),
        native_user(3, 1).set_meta(field::VERSION, 1_i32).build(),
        Edit::new()
            .unset(field::USER_ID)
            .apply(&native_user(4, 1).build()),
        tampered.build(),
    ];
    let dump = deployment.dir.path().join("dump/raseen_main_user");
    std::fs::create_dir_all(&dump).unwrap();
    let bytes: Vec<u8> = std::iter::once(&good)
        .chain(&bad)
        .flat_map(|document| document.as_bytes().to_vec())
        .collect();
    std::fs::write(dump.join("internal_users.bson"), bytes).unwrap();
    let ran = deployment.run(&["import-dump", "dump", "--json"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let imported: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(imported["imported"], 1, "{imported}");
    assert_eq!(imported["refused"], 5, "{imported}");
    let refusals = imported["refusals"].as_array().unwrap();
    let ids: Vec<&str> = refusals
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = bad
        .iter()
        .map(|it| it.get_str(field::ID).unwrap().to_owned())
        .collect();
    assert_eq!(ids, expected);
    assert_eq!(deployment.users(Role::RaseenMainUser).await, [good]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_here_covers_what_was_taken_in_from_a_later_life(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    deployment.json(&["init", "--json"]);
    // Its user had been erased twice elsewhere.
    let later = native_user(1, (2 << 40) + 7).build();
    let dump = deployment.dir.path().join("dump/raseen_temp_user");
    std::fs::create_dir_all(&dump).unwrap();
    std::fs::write(dump.join("internal_users.bson"), later.as_bytes()).unwrap();
    let imported = deployment.json(&["import-dump", "dump", "--json"]);
    assert_eq!(imported["imported"], 1, "{imported}");
    assert_eq!(deployment.users(Role::RaseenTempUser).await, [later]);
    let id = "internal_000000000000000000000001";
    deployment.json(&["erase", id, "--json"]);
    for (role, documents) in users(&deployment).await {
        let lives = |it: &&bson::raw::RawDocumentBuf| document::state(it) != Some(State::Erased);
        assert_eq!(documents.iter().filter(lives).count(), 0, "{role}");
    }
    let again = deployment.json(&["import-dump", "dump", "--json"]);
    assert_eq!(again["erased"], 1, "{again}");
}
