//! Dumps that are torn or hold files that do not belong: refused, by name, before anything is written.

use std::fs;
use std::path::Path;

use rstest::rstest;

use super::super::program::{Backend, Deployment};
use super::{files, populated, users};

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

const MAIN: &str = "raseen_main_user/internal_users.bson";

/// One way to spoil a dump, whether it spoils one without a manifest too, and the file that the complaint must name.
type Spoiled = (&'static str, bool, &'static str, fn(&Path));

const SPOILED: [Spoiled; 13] = [
    ("cut off in a document", true, MAIN, |dump| {
        edit(&dump.join(MAIN), |bytes| bytes.truncate(bytes.len() - 3));
    }),
    ("cut off between documents", false, MAIN, |dump| {
        edit(&dump.join(MAIN), |bytes| {
            let first = i32::from_le_bytes(*bytes.first_chunk().unwrap());
            bytes.truncate(usize::try_from(first).unwrap());
        });
    }),
    ("a changed byte", false, MAIN, |dump| {
        edit(&dump.join(MAIN), |bytes| {
            let at = bytes.windows(5).position(|it| it == b"parse").unwrap();
            bytes[at] = b'P';
        });
    }),
    ("bytes at the end", true, MAIN, |dump| {
        edit(&dump.join(MAIN), |bytes| bytes.extend_from_slice(b"xx"));
    }),
    ("a length that is none", true, MAIN, |dump| {
        edit(&dump.join(MAIN), |bytes| bytes[3] = 0x7f);
    }),
    ("an element of no type", true, MAIN, |dump| {
        edit(&dump.join(MAIN), |bytes| bytes[4] = 0x55);
    }),
    ("a missing file", true, MAIN, |dump| {
        fs::remove_file(dump.join(MAIN)).unwrap();
    }),
    ("another database", true, "git_Evaluator", |dump| {
        fs::create_dir(dump.join("git_Evaluator")).unwrap();
        fs::write(dump.join("git_Evaluator/users.bson"), []).unwrap();
    }),
    (
        "another collection",
        true,
        "raseen_main_user/secrets.bson",
        |dump| {
            fs::write(dump.join("raseen_main_user/secrets.bson"), []).unwrap();
        },
    ),
    (
        "HR records among users",
        true,
        "raseen_main_user/hr_reports.bson",
        |dump| {
            fs::write(dump.join("raseen_main_user/hr_reports.bson"), []).unwrap();
        },
    ),
    ("another file", true, "notes.txt", |dump| {
        fs::write(dump.join("notes.txt"), "x").unwrap();
    }),
    (
        "metadata that is none",
        true,
        "raseen_main_user/internal_users.metadata.json",
        |dump| {
            fs::write(
                dump.join("raseen_main_user/internal_users.metadata.json"),
                "x",
            )
            .unwrap();
        },
    ),
    (
        "an export that was cut off",
        true,
        "tierkeep-manifest.json.part",
        |dump| {
            fs::write(dump.join("tierkeep-manifest.json.part"), "").unwrap();
        },
    ),
];

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_not_whole_is_refused_before_anything_is_written(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(true, false)] manifest: bool,
) {
    let source = populated(Backend::Sqlite).await;
    source.json(&["export", "dump", "--json"]);
    let dump = source.dir.path().join("dump");
    if !manifest {
        // As mongodump writes it.
        fs::remove_file(dump.join("tierkeep-manifest.json")).unwrap();
        for name in files(&dump)
            .keys()
            .filter(|name| name.contains(".metadata."))
        {
            let text = fs::read_to_string(dump.join(name)).unwrap();
            let text = text.replace(r#","writtenBy":"tierkeep""#, "");
            fs::write(dump.join(name), text).unwrap();
        }
    }
    let whole = files(&dump);
    let deployment = Deployment::new(backend);
    deployment.json(&["init", "--json"]);
    for (what, always, named, spoil) in SPOILED {
        if !manifest && !always {
            continue;
        }
        spoil(&dump);
        let refused = deployment.run(&["import-dump", dump.to_str().unwrap(), "--json"]);
        assert_eq!(refused.status.code(), Some(1), "{what}: {refused:?}");
        assert!(refused.stdout.is_empty(), "{what}");
        let said = String::from_utf8(refused.stderr).unwrap();
        let named = if what == "a missing file" && !manifest {
            "raseen_main_user/internal_users.metadata.json"
        } else {
            named
        };
        assert!(said.contains(&format!("\n  {named}: ")), "{what}: {said}");
        for (role, documents) in users(&deployment).await {
            assert!(documents.is_empty(), "{what}: {role}");
        }
        fs::remove_dir_all(&dump).unwrap();
        for (name, bytes) in &whole {
            fs::create_dir_all(dump.join(name).parent().unwrap()).unwrap();
            fs::write(dump.join(name), bytes).unwrap();
        }
    }
    let taken = deployment.json(&["import-dump", dump.to_str().unwrap(), "--json"]);
    assert_eq!(taken["refused"], 0, "{taken}");
    assert_eq!(users(&deployment).await, users(&source).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_tierkeep_without_its_manifest_and_a_torn_gzip_are_refused() {
    let deployment = populated(Backend::Sqlite).await;
    deployment.json(&["export", "dump", "--gzip", "--json"]);
    let dump = deployment.dir.path().join("dump");
    let manifest = dump.join("tierkeep-manifest.json");
    let text = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    let refused = deployment.run(&["import-dump", "dump"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("tierkeep-manifest.json is missing"), "{said}");
    fs::write(&manifest, text).unwrap();
    edit(&dump.join(format!("{MAIN}.gz")), |bytes| {
        bytes.truncate(bytes.len() / 2);
    });
    let refused = deployment.run(&["import-dump", "dump"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains(&format!("{MAIN}.gz: it is not a complete gzip")),
        "{said}"
    );

    let nowhere = deployment.run(&["import-dump", "nowhere"]);
    assert_eq!(nowhere.status.code(), Some(2));
    fs::create_dir(deployment.dir.path().join("empty")).unwrap();
    let empty = deployment.run(&["import-dump", "empty"]);
    assert_eq!(empty.status.code(), Some(1));
}
