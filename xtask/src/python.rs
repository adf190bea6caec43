//! The tests that are written in Python: properties, the dashboard, and what `deploy/` and the book promise. They see the
//! built binary as its users do.
//!
//! What they need is fetched once, into virtual environments below `target`; the browser is the system's, installed
//! where it is missing and that is allowed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::test::Surroundings;
use crate::variable;

/// Runs tests; one that takes ten minutes ends the run with the stack of each thread, instead of holding it up.
pub(crate) const PYTEST: [&str; 9] = [
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "-o",
    "faulthandler_timeout=600",
    "-o",
    "faulthandler_exit_on_timeout=true",
];

/// Names a Chromium of one's own.
const CHROMIUM_VARIABLE: &str = "CHROMIUM_BIN";
/// Where systems keep it.
const CHROMIUM: [&str; 4] = [
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
    "/snap/bin/chromium",
];

/// Runs the property tests.
pub(crate) async fn properties(root: &Path, surroundings: &Surroundings<'_>) -> Result<()> {
    run(root, "properties", surroundings, None).await
}

/// Runs the tests of the dashboard in Chromium.
pub(crate) async fn dashboard(root: &Path, surroundings: &Surroundings<'_>) -> Result<()> {
    let chromium = chromium().await?;
    run(root, "dashboard", surroundings, Some(&chromium)).await
}

/// Runs the tests of what is in `deploy/` and of the pages in `docs/`.
pub(crate) async fn deploy(root: &Path, surroundings: &Surroundings<'_>) -> Result<()> {
    run(root, "deploy", surroundings, None).await
}

/// Runs the tests of this name on the debug binary.
async fn run(
    root: &Path,
    name: &str,
    surroundings: &Surroundings<'_>,
    chromium: Option<&Path>,
) -> Result<()> {
    let tests = root.join("tests").join(name);
    let python = environment(root, name, &tests.join("requirements.txt")).await?;
    let target = variable("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut command = Command::new(python);
    command
        .args(PYTEST)
        .arg(&tests)
        .current_dir(root)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // They ask the service through its client.
        .env("PYTHONPATH", root.join("clients/python/src"))
        .env("TIERKEEP_BIN", target.join("debug").join("tierkeep"))
        .kill_on_drop(true);
    surroundings.show(&mut command);
    if surroundings.full {
        command.env("TIERKEEP_TEST_FULL", "1");
    }
    if let Some(chromium) = chromium {
        command.env(CHROMIUM_VARIABLE, chromium);
    }
    succeed(&mut command, "the Python tests").await
}

/// A Chromium: the one that is named, the system's, or one that the system's packages bring.
async fn chromium() -> Result<PathBuf> {
    if let Some(named) = variable(CHROMIUM_VARIABLE) {
        return Ok(named.into());
    }
    let installed = || CHROMIUM.iter().map(PathBuf::from).find(|it| it.exists());
    if let Some(chromium) = installed() {
        return Ok(chromium);
    }
    println!("there is no Chromium here; installing it with apt-get");
    for arguments in [&["update"] as &[&str], &["install", "-y", "chromium"]] {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        succeed(&mut apt, "apt-get").await.with_context(|| {
            format!("no Chromium to test the dashboard in: install one, or name it in {CHROMIUM_VARIABLE}")
        })?;
    }
    installed().context("apt-get installed a Chromium, and none is there")
}

/// The interpreter of an environment that has what `requirements` lists.
pub(crate) async fn environment(root: &Path, name: &str, requirements: &Path) -> Result<PathBuf> {
    let folder = root.join("target").join("python").join(name);
    let python = folder.join("bin").join("python");
    let wanted = fs::read_to_string(requirements)
        .with_context(|| format!("{} cannot be read", requirements.display()))?;
    // Written last: an installation that was cut off is begun again.
    let done = folder.join("installed.txt");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    succeed(&mut make, "python3 -m venv").await?;
    let mut install = Command::new(&python);
    install
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--disable-pip-version-check",
        ])
        .arg("--requirement")
        .arg(requirements);
    succeed(&mut install, "pip install").await?;
    fs::write(done, wanted)?;
    Ok(python)
}

pub(crate) async fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .await
        .with_context(|| format!("{what} cannot be started"))?;
    ensure!(status.success(), "{what}: {status}");
    Ok(())
}
