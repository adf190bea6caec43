//! The previous build of the program, beside which the tests of upgrades run this one: made once, from a pinned commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::variable;

/// Names the previous build; set for the tests.
pub(crate) const VARIABLE: &str = "TIERKEEP_PREVIOUS_BIN";
/// The commit of the previous build: the last one whose stored forms, settings and files an upgrade has to get along with.
const COMMIT: &str = "0f5d4d1df32749bbd35a92430b4ad00c1d961eb3";

/// The previous build; built where it is not there yet.
pub(crate) async fn previous(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target").join("previous").join(&COMMIT[..12]);
    let binary = folder.join("target/debug/tierkeep");
    if binary.is_file() {
        return Ok(binary);
    }
    let source = folder.join("source");
    fs::create_dir_all(&source)?;
    unpack(root, &source).await.with_context(|| {
        format!(
            "the commit {COMMIT} cannot be unpacked; a full run needs the history of the repository"
        )
    })?;
    let mut build = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()));
    build
        .args(["build", "--locked", "-p", "tierkeep"])
        .current_dir(&source)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .kill_on_drop(true);
    let built = build.status().await.context("cargo cannot be started")?;
    ensure!(built.success(), "the build ended with {built}");
    Ok(binary)
}

/// Puts the files of the commit into a folder.
async fn unpack(root: &Path, folder: &Path) -> Result<()> {
    let mut archive = Command::new("git")
        .args(["archive", "--format=tar", COMMIT])
        .current_dir(root)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("git cannot be started")?;
    let files: Stdio = archive
        .stdout
        .take()
        .context("git says nothing")?
        .try_into()?;
    let unpacked = Command::new("tar")
        .args(["-x", "-f", "-"])
        .current_dir(folder)
        .stdin(files)
        .kill_on_drop(true)
        .status()
        .await
        .context("tar cannot be started")?;
    let archived = archive.wait().await?;
    ensure!(archived.success(), "git archive ended with {archived}");
    ensure!(unpacked.success(), "tar ended with {unpacked}");
    Ok(())
}
