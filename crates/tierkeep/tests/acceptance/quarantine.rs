//! `tierkeep quarantine`: quarantined documents are listed, shown, exported, and released.

use std::process::Output;
use std::time::Duration;

use rstest::rstest;
use tierkeep::clock::SystemClock;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, Edit, Location};
use tierkeep_core::mover::main_form;
use tierkeep_core::{bson, digest::Digest};
use tierkeep_testkit::documents::{SeedUser, native_user};

use super::program::{Backend, Deployment};

const DAY: Duration = Duration::from_hours(24);
const USERS: &str = "internal_users";

/// The exit code, stdout and stderr.
fn said(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_quarantined_is_shown_and_ended_by_an_operator(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    let old = clock::before(SystemClock.now(), DAY + DAY);
    deployment.json(&["init", "--json"]);
    let seed = SeedUser::new(1, old);
    let undated = Edit::new()
        .set("scan_cache", bson::rawdoc! { "name": "\u{1b}[2J" })
        .unset("created_at")
        .apply(&seed.build());
    let behind = native_user(2, 1).dated(old).build();
    let ahead = native_user(2, 3)
        .dated(old)
        .content(bson::rawdoc! { "ahead": true })
        .at(Location::Main)
        .build();
    let ahead = main_form(&ahead, &Digest::of(&ahead));
    for (role, document) in [
        (Role::RaseenTempUser, &undated),
        (Role::RaseenTempUser, &behind),
        (Role::RaseenMainUser, &ahead),
        (Role::SrieMainUser, &ahead),
    ] {
        let store = deployment.open(role).await;
        let stored = store.insert(USERS, std::slice::from_ref(document)).await;
        stored.unwrap();
    }
    let run = deployment.json(&["migrate", "run", "--json"]);
    assert_eq!((&run["moved"], &run["quarantined"]), (&0.into(), &2.into()));

    let listed = deployment.json(&["quarantine", "list", "-o", "json"]);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    let shown = deployment.run(&["quarantine", "show", &seed.user_id().to_uppercase()]);
    let (code, shown, _) = said(shown);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("created_at is missing"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let user = document::user_id(&behind).unwrap().to_owned();
    let shown = deployment.json(&["quarantine", "show", &user, "--json"]);
    assert_eq!(shown["conflict"], true);
    let versions: Vec<_> = shown["copies"].as_array().unwrap().iter().collect();
    let versions: Vec<_> = versions
        .iter()
        .map(|copy| copy["version"].clone())
        .collect();
    assert_eq!(versions, [1, 3, 3]);

    let (code, _, told) = said(deployment.run(&["quarantine", "show", "nobody"]));
    assert_eq!(code, Some(1), "{told}");
    let (code, _, told) = said(deployment.run(&["quarantine", "release", &user]));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("--keep"), "{told}");

    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    let file = directory.path().join("all.json");
    let exported = deployment.json(&["quarantine", "export", file.to_str().unwrap(), "--json"]);
    assert_eq!(
        (&exported["documents"], &exported["copies"]),
        (&2.into(), &4.into())
    );
    let released = [
        "quarantine",
        "release",
        &user,
        "--keep",
        "main",
        "--directory",
        place,
        "--json",
    ];
    let released = deployment.json(&released);
    assert_eq!(
        (&released["kept"], &released["version"]),
        (&"raseen_main_user".into(), &4.into())
    );
    let copies = std::fs::read_to_string(released["file"].as_str().unwrap()).unwrap();
    let copies: serde_json::Value = serde_json::from_str(&copies).unwrap();
    assert_eq!(copies["copies"].as_array().unwrap().len(), 3);
    let run = deployment.json(&["migrate", "run", "--json"]);
    assert_eq!((&run["moved"], &run["quarantined"]), (&1.into(), &1.into()));
    let explained = deployment.json(&["explain", &user, "--json"]);
    assert_eq!(explained["authoritative"], "raseen_main_user");
    assert_eq!(explained["copies"][0]["version"], 4);
}
