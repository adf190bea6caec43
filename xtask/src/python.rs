//! The property tests that are written in Python: they see the built binary as its users do.
//!
//! What they need is fetched once, into a virtual environment below `target`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::mongod::URL_VARIABLE;
use crate::variable;

/// Where the tests are, below the root.
const TESTS: &str = "tests/properties";

/// Runs the tests on the debug binary and the replica set at `url`.
pub(crate) async fn run(root: &Path, url: Option<&str>, full: bool) -> Result<()> {
    let tests = root.join(TESTS);
    let python = environment(root, &tests.join("requirements.txt")).await?;
    let target = variable("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut command = Command::new(python);
    command
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .arg(&tests)
        .current_dir(root)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TIERKEEP_BIN", target.join("debug").join("tierkeep"))
        .kill_on_drop(true);
    if let Some(url) = url {
        command.env(URL_VARIABLE, url);
    }
    if full {
        command.env("TIERKEEP_TEST_FULL", "1");
    }
    succeed(&mut command, "the Python tests").await
}

/// The interpreter of an environment that has what `requirements` lists.
async fn environment(root: &Path, requirements: &Path) -> Result<PathBuf> {
    let folder = root.join("target").join("python");
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

async fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .await
        .with_context(|| format!("{what} cannot be started"))?;
    ensure!(status.success(), "{what}: {status}");
    Ok(())
}
