//! Copies of a data directory that is in use, and what the documentation says about moving.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::StatusCode;
use tierkeep_core::db::Role;

use super::super::program::{Backend, Deployment, SECRET};
use super::{populated, users};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_data_directory_in_use_is_a_data_directory() {
    let deployment = populated(Backend::Sqlite).await;
    let service = deployment.serve();
    let client = reqwest::Client::new();
    let url = service.url("/v1/user/scan_cache?username=writer");
    let put = client
        .put(&url)
        .body("{}")
        .header("Content-Type", "application/json");
    assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    deployment.json(&["export", "copy", "--sqlite", "--json"]);
    let in_place = deployment.run(&["export", "copy", "--sqlite", "--json"]);
    assert_eq!(in_place.status.code(), Some(2));
    drop(service);
    let before = users(&deployment).await;
    let place = deployment.dir.path().join("copy").display().to_string();
    let copy = Deployment::new(Backend::Sqlite).with("TIERKEEP_DATA_DIR", &place);
    let after = users(&copy).await;
    assert_eq!(after[&Role::ExternalUsers], before[&Role::ExternalUsers]);
    // With the key that came along.
    copy.json(&["audit", "verify", "--json"]);
    // The erasure of a moment ago is brought to every file of the copy once more.
    let erased = "internal_000000000000000000000003";
    let explained = copy.json(&["explain", erased, "--json"]);
    assert_eq!(explained["erased"], true, "{explained}");
    assert_eq!(explained["erasure"]["stage"], "pending");
    let _copied = copy.serve();
}

#[test]
fn only_a_data_directory_is_copied() {
    let deployment = Deployment::new(Backend::Mongo);
    let refused = deployment.run(&["export", "copy", "--sqlite"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(!deployment.dir.path().join("copy").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_about_moving_between_stores_does_what_is_said() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap();
    let page = fs::read_to_string(root.join("docs/operations/moving-between-stores.md")).unwrap();
    let commands: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .collect();
    assert!(commands.len() >= 9, "{commands:?}");
    let embedded = populated(Backend::Sqlite).await;
    let mongo = Deployment::new(Backend::Mongo);
    let settings: Vec<String> = Role::ALL
        .iter()
        .map(|role| {
            format!(
                "{}={}",
                role.url_variable(),
                mongo.environment[role.url_variable()]
            )
        })
        .collect();
    fs::write(embedded.dir.path().join("mongodb.env"), settings.join("\n")).unwrap();
    for command in commands {
        let arguments = command.strip_prefix("tierkeep ").unwrap();
        let output = Command::new("bash")
            .args([
                "-c",
                &format!("\"$0\" {arguments}"),
                env!("CARGO_BIN_EXE_tierkeep"),
            ])
            .env_clear()
            .env("SECRET_KEY", SECRET)
            .current_dir(embedded.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
    let again = embedded.dir.path().join("data-again").display().to_string();
    let again = Deployment::new(Backend::Sqlite).with("TIERKEEP_DATA_DIR", &again);
    let before = users(&embedded).await;
    assert_eq!(users(&mongo).await, before);
    assert_eq!(users(&again).await, before);
}
