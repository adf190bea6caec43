//! `cargo xtask dist`, and the tests of the Python package: packages from a binary that was built before.
//!
//! The Python package's own build (`clients/python/pyproject.toml`) puts the binary into the wheel; `deploy/packages/dist.py`
//! makes the rest. Nothing is compiled here but by `dist`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::python::{PYTEST, environment, succeed};
use crate::test::Surroundings;
use crate::variable;

/// Tells the package's build which binary goes into the wheel.
const BINARY_VARIABLE: &str = "TIERKEEP_BINARY";

/// Builds all packages into `target/dist`, with `binary` or with a release build.
pub(crate) async fn dist(root: &Path, binary: Option<PathBuf>) -> Result<()> {
    let binary = match binary {
        Some(binary) => fs::canonicalize(&binary).with_context(|| binary.display().to_string())?,
        None => released(root).await?,
    };
    let folder = root.join("target").join("dist");
    let packages = root.join("deploy").join("packages");
    let maker = environment(root, "packages", &packages.join("requirements.txt")).await?;
    let make = |arguments: &[&Path]| {
        let mut make = Command::new(&maker);
        make.arg(packages.join("dist.py"))
            .args(arguments)
            .current_dir(root)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        make
    };
    // The wheel holds the same binary as the other packages.
    let audited = root.join("target").join("tierkeep-audited");
    let mut audit = make(&[Path::new("--audited"), &binary, &audited]);
    succeed(&mut audit, "dist.py").await?;
    build(root, &tools(root).await?, &audited, &folder).await?;
    let mut packages = make(&[&audited, &folder]);
    succeed(&mut packages, "dist.py").await?;
    println!("packages: {}", folder.display());
    Ok(())
}

/// Says whether the tree and the packages in `target/dist` could be released.
pub(crate) async fn release(root: &Path) -> Result<()> {
    let tests = root.join("tests").join("deploy");
    let packages = root.join("deploy").join("packages");
    let python = environment(root, "deploy", &tests.join("requirements.txt")).await?;
    let mut check = Command::new(python);
    // It reads the book as the tests do.
    check
        .arg(packages.join("release.py"))
        .args([root, &root.join("target").join("dist")])
        .current_dir(root)
        .env("PYTHONPATH", &tests)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    succeed(&mut check, "the check of the release").await
}

/// Installs the wheel of the debug binary into a fresh environment, then checks and tests the package and its example.
pub(crate) async fn test(root: &Path, surroundings: &Surroundings<'_>) -> Result<()> {
    let python = tools(root).await?;
    let binary = target(root).join("debug").join("tierkeep");
    let folder = root.join("target").join("python").join("wheels");
    build(root, &python, &binary, &folder).await?;
    let package = root.join("clients").join("python");
    let example = root.join("examples").join("fastapi");
    for (arguments, place) in checks() {
        let mut check = Command::new(&python);
        let place = if place { &package } else { &example };
        check.arg("-m").args(arguments).current_dir(place);
        if arguments[0] == "pyright" {
            check.arg("--pythonpath").arg(&python);
        }
        succeed(&mut check, arguments[0]).await?;
    }
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args(["--force-reinstall", "--no-index", "--find-links"])
        .arg(&folder)
        .arg("tierkeep");
    succeed(&mut install, "pip install").await?;
    for place in [&package, &example] {
        let mut tests = Command::new(&python);
        tests
            .args(PYTEST)
            .current_dir(place)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TIERKEEP_BIN", &binary)
            .env("TIERKEEP_WHEELS", &folder)
            .kill_on_drop(true);
        surroundings.show(&mut tests);
        if surroundings.full {
            tests.env("TIERKEEP_TEST_FULL", "1");
        }
        succeed(&mut tests, "the Python package's tests").await?;
    }
    Ok(())
}

/// What must have nothing to say: in the package's folder, or the example's.
fn checks() -> [(&'static [&'static str], bool); 6] {
    [
        (&["ruff", "check", "."], true),
        (&["ruff", "format", "--check", "."], true),
        (&["mypy"], true),
        (&["pyright"], true),
        (&["ruff", "check", "."], false),
        (&["ruff", "format", "--check", "."], false),
    ]
}

/// The interpreter of an environment in which the package is built and tested.
async fn tools(root: &Path) -> Result<PathBuf> {
    let requirements = root.join("clients/python/tests/requirements.txt");
    environment(root, "client", &requirements).await
}

async fn build(root: &Path, python: &Path, binary: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    for with_binary in [true, false] {
        let mut wheel = Command::new(python);
        wheel
            .args(["-m", "pip", "wheel", "--quiet", "--no-deps"])
            .args(["--no-build-isolation", "--wheel-dir"])
            .arg(folder)
            .arg(root.join("clients").join("python"))
            .env_remove(BINARY_VARIABLE);
        if with_binary {
            wheel.env(BINARY_VARIABLE, binary);
        }
        succeed(&mut wheel, "pip wheel").await?;
    }
    Ok(())
}

async fn released(root: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--release", "--locked", "-p", "tierkeep"])
        .current_dir(root);
    succeed(&mut cargo, "cargo build").await?;
    Ok(target(root).join("release").join("tierkeep"))
}

fn target(root: &Path) -> PathBuf {
    variable("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
