//! The suites on the oldest and the newest release of MongoDB: the laws of the store, and the program as its users see it.
//!
//! What was built for the usual release is run again, without cargo, so that nothing is built twice. A usual run takes a
//! few minutes' worth of it on the oldest release; a full one takes the two suites on both.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::mongod::{Mongod, Room};
use crate::release::{NEWEST, OLDEST, Release};
use crate::test::Surroundings;
use crate::variable;

/// How many tests run at a time; nothing else does meanwhile.
const THREADS: &str = "4";

/// Which tests of a package run.
struct Suite {
    package: &'static str,
    /// Parts of their names; none for all.
    only: &'static [&'static str],
    /// Parts of the names of those that do not.
    skipped: &'static [&'static str],
}

/// Parts of the names of tests that the oldest release cannot run: the test cluster of shards is made of commands that
/// servers have from 6.0 on.
const OF_SHARDS: &[&str] = &["shard"];

/// The laws of the store, and what only a server shows of it.
const STORE: Suite = Suite {
    package: "tierkeep-mongo",
    only: &[],
    skipped: &[],
};
/// The main job, HR records, what doctor finds, users and TLS.
const SLICE: Suite = Suite {
    package: "tierkeep",
    only: &[
        "acceptance::main_job::",
        "acceptance::hr::",
        "acceptance::doctor::each_planted",
        "acceptance::servers::tls::databases",
    ],
    // The embedded store has no server.
    skipped: &["Sqlite"],
};
/// All that is run by the program on a server.
const ACCEPTANCE: Suite = Suite {
    package: "tierkeep",
    only: &["acceptance::"],
    skipped: &["Sqlite"],
};

/// Runs the suites of this run, each release after the other; an error names what failed.
pub(crate) async fn run(root: &Path, surroundings: &Surroundings<'_>) -> Result<()> {
    let (releases, suites): (&[Release], [Suite; 2]) = if surroundings.full {
        (&[OLDEST, NEWEST], [STORE, ACCEPTANCE])
    } else {
        (&[OLDEST], [STORE, SLICE])
    };
    let programs = programs(root, surroundings).await?;
    let mut failed = Vec::new();
    for release in releases {
        let binary = release.binary(root)?;
        let mut mongod = Mongod::start(&binary, surroundings.scratch(), Room::Little).await?;
        let on_it = surroundings.on(&mongod, &binary);
        for suite in &suites {
            println!("\n--- MongoDB {}: {}", release.version, suite.package);
            let lacking = if *release == OLDEST { OF_SHARDS } else { &[] };
            if let Err(error) = perform(suite, lacking, &programs, &on_it).await {
                failed.push(format!(
                    "{} on {}: {error:#}",
                    suite.package, release.version
                ));
            }
        }
        if let Err(ended) = mongod.still_runs() {
            failed.push(format!("{}: {ended:#}", release.version));
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

/// A program of tests that cargo built.
struct Program {
    package: String,
    binary: PathBuf,
    /// Where its package is; tests look for files from there.
    folder: PathBuf,
}

/// The programs of tests named `main`, built where they are not yet.
async fn programs(root: &Path, surroundings: &Surroundings<'_>) -> Result<Vec<Program>> {
    let mut command = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["test", "--locked", "--workspace", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    surroundings.show(&mut command);
    let built = command.output().await.context("cargo cannot be started")?;
    ensure!(
        built.status.success(),
        "the build ended with {}",
        built.status
    );
    let messages = String::from_utf8_lossy(&built.stdout);
    let programs: Vec<Program> = messages.lines().filter_map(program).collect();
    Ok(programs)
}

/// The program that a message of cargo is about, where it is one of tests named `main`.
fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = message.get("target")?;
    let is_test = target
        .get("kind")?
        .as_array()?
        .iter()
        .any(|it| it == "test");
    if !is_test || target.get("name")? != "main" {
        return None;
    }
    let folder = Path::new(message.get("manifest_path")?.as_str()?).parent()?;
    // Packages are named after their folders, but the program itself.
    let folder_name = folder.file_name()?.to_str()?;
    let package = if folder_name == "tierkeep" {
        folder_name.to_owned()
    } else {
        format!("tierkeep-{folder_name}")
    };
    Some(Program {
        package,
        binary: PathBuf::from(message.get("executable")?.as_str()?),
        folder: folder.to_owned(),
    })
}

async fn perform(
    suite: &Suite,
    lacking: &[&str],
    programs: &[Program],
    surroundings: &Surroundings<'_>,
) -> Result<()> {
    let program = programs.iter().find(|it| it.package == suite.package);
    let program = program.context("cargo built no tests of it")?;
    let mut command = Command::new(&program.binary);
    command.args(suite.only).arg("--test-threads").arg(THREADS);
    for skipped in suite.skipped.iter().chain(lacking) {
        command.args(["--skip", skipped]);
    }
    command
        .current_dir(&program.folder)
        // A snapshot that differs is a failure, never a new file.
        .env("INSTA_UPDATE", "no")
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .kill_on_drop(true);
    surroundings.show(&mut command);
    let status = command
        .status()
        .await
        .context("the tests cannot be started")?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_of_a_package_are_found_among_what_cargo_built() {
        let of = |name: &str, kind: &str, folder: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/crates/{folder}/Cargo.toml",
                    "target":{{"kind":["{kind}"],"name":"{name}"}},"executable":"/w/target/main-1"}}"#
            )
        };
        let found = program(&of("main", "test", "mongo")).unwrap();
        assert_eq!(found.package, "tierkeep-mongo");
        assert_eq!(found.folder, Path::new("/w/crates/mongo"));
        assert_eq!(
            program(&of("main", "test", "tierkeep")).unwrap().package,
            "tierkeep"
        );
        assert!(program(&of("main", "bin", "tierkeep")).is_none());
        assert!(program(&of("other", "test", "mongo")).is_none());
        assert!(program(r#"{"reason":"build-finished","success":true}"#).is_none());
    }
}
