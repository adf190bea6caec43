//! What an export writes, and what it refuses.

use std::io::Read as _;

use bson::Document;
use rstest::rstest;
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};

use super::super::program::{Backend, Deployment};
use super::{collections, documents, files, populated, sorted};

const AWAY: &str = "mongodb://127.0.0.1:1/away?serverSelectionTimeoutMS=200";

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_every_document_byte_for_byte_and_a_digest_of_every_file(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(false, true)] gzip: bool,
) {
    let deployment = populated(backend).await;
    let dump = deployment.dir.path().join("dump");
    let mut command = vec!["export", "dump", "--json"];
    if gzip {
        command.push("--gzip");
    }
    let exported = deployment.json(&command);
    let written = files(&dump);
    let unpacked = |name: &str| {
        if !gzip {
            return written[name].clone();
        }
        let mut unpacked = Vec::new();
        let packed = written[&format!("{name}.gz")].as_slice();
        flate2::read::GzDecoder::new(packed)
            .read_to_end(&mut unpacked)
            .unwrap();
        unpacked
    };
    let mut total = 0;
    for role in Role::ALL {
        for name in collections(role) {
            let dumped = documents(&unpacked(&format!("{role}/{name}.bson")));
            total += dumped.len();
            let stored = deployment.all(role, name).await;
            assert_eq!(sorted(dumped), sorted(stored), "{role}.{name}");
            let metadata = unpacked(&format!("{role}/{name}.metadata.json"));
            let metadata: Value = serde_json::from_slice(&metadata).unwrap();
            assert_eq!(metadata["collectionName"], name);
            assert_eq!(metadata["type"], "collection");
            assert_eq!(metadata["indexes"][0]["name"], "_id_");
        }
    }
    let manifest: Value = serde_json::from_slice(&written["tierkeep-manifest.json"]).unwrap();
    let entries = manifest["files"].as_array().unwrap();
    assert_eq!(entries.len() + 1, written.len());
    for entry in entries {
        let file = &written[entry["path"].as_str().unwrap()];
        assert_eq!(entry["bytes"], file.len());
        assert_eq!(entry["blake3"], blake3::hash(file).to_hex().as_str());
    }
    assert_eq!(exported["documents"], total);
    assert_eq!(exported["files"], entries.len());
    assert_eq!(exported["deployment"], manifest["deployment"]);
    let stamp = deployment
        .all(Role::EvaluationAudit, collection::IDENTITY)
        .await;
    assert_eq!(
        manifest["deployment"],
        stamp[0].get_str("deployment").unwrap()
    );
    #[cfg(unix)]
    for name in written.keys() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dump.join(name);
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600, "{name}");
        assert_eq!(mode(path.parent().unwrap()), 0o700, "{name}");
    }
}

#[test]
fn an_export_goes_to_an_empty_directory_alone() {
    let deployment = Deployment::new(Backend::Sqlite);
    deployment.json(&["init", "--json"]);
    let place = deployment.dir.path().join("place");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("mine"), "mine").unwrap();
    for user in [&[][..], &["--user", "nobody"]] {
        let refused = deployment.run(&[&["export", "place"], user].concat());
        assert_eq!(refused.status.code(), Some(2));
        assert!(refused.stdout.is_empty());
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(
            said,
            "error: the directory place is not empty; choose one that is empty or does not exist\n"
        );
    }
    assert_eq!(files(&place).len(), 1);
    std::fs::remove_file(place.join("mine")).unwrap();
    assert!(deployment.run(&["export", "place"]).status.success());
    assert_eq!(deployment.run(&["export", "place"]).status.code(), Some(2));
}

#[test]
fn an_export_needs_every_database() {
    let deployment = Deployment::new(Backend::Mongo).with("TIERKEEP_CONNECT_RETRIES", "0");
    deployment.json(&["init", "--json"]);
    let mut command = deployment.command(&["export", "dump"]);
    command.env(Role::SrieMainHr.url_variable(), AWAY);
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(!deployment.dir.path().join("dump").exists());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_person_gets_what_is_stored_of_them(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = populated(backend).await;
    let id = "internal_00000000000000000000000a";
    let moved = deployment
        .users(Role::RaseenMainUser)
        .await
        .into_iter()
        .find(|document| tierkeep_core::document::user_id(document) == Some(id))
        .unwrap();
    for (n, name) in [
        id,
        "INTERNAL_00000000000000000000000A",
        "00000000000000000000000a",
    ]
    .into_iter()
    .enumerate()
    {
        let directory = format!("person{n}");
        let exported = deployment.json(&["export", &directory, "--user", name, "--json"]);
        assert_eq!(exported["user_id"], id);
        assert_eq!(exported["copies"], 2);
        let written = files(&deployment.dir.path().join(&directory));
        assert_eq!(written.len(), 1);
        let file = &written[&format!("{id}.json")];
        assert_eq!(exported["bytes"], file.len());
        let person: Value = serde_json::from_slice(file).unwrap();
        assert_eq!(person["user_id"], id);
        assert_eq!(person["source"], "raseen_main_user");
        let progress = moved.get_document("analysis_progress").unwrap();
        let progress = bson::Bson::Document(Document::try_from(progress).unwrap());
        assert_eq!(
            person["user"]["analysis_progress"],
            progress.into_relaxed_extjson()
        );
        assert!(person["user"]["metadata"].get("ops").is_none());
        let databases: Vec<&Value> = person["copies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|copy| &copy["database"])
            .collect();
        assert_eq!(databases, ["raseen_main_user", "srie_main_user"]);
    }
    let public = deployment.json(&["export", "public", "--user", "PUBLIC2", "--json"]);
    assert_eq!(public["user_id"], "external_public2");

    let erased = "internal_000000000000000000000003";
    for (user, said) in [
        (
            "nobody",
            "error: no such user: external_nobody\n".to_owned(),
        ),
        (
            erased,
            format!("error: {erased} was erased: no data is stored\n"),
        ),
    ] {
        let unknown = deployment.run(&["export", "unknown", "--user", user, "--json"]);
        assert_eq!(unknown.status.code(), Some(1));
        assert!(unknown.stdout.is_empty());
        assert_eq!(String::from_utf8(unknown.stderr).unwrap(), said);
        assert!(!deployment.dir.path().join("unknown").exists());
    }
    let trail = deployment.json(&["audit", "list", "--json"]);
    assert!(
        trail.to_string().contains(r#""decision":"export""#),
        "{trail}"
    );
}
