//! Rules of the house that no compiler checks: module docs, file sizes, unfinished business, and which crate
//! may know which.
//!
//! Prints every finding and changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{release, rooms, variable};

/// The most lines of a Rust file.
const LINES: usize = 600;
/// What finished code does not contain; put together here so that this file does not.
const UNFINISHED: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("#[", "ignore"),
];
/// Crates that must link none of [`HEAVY`], and why it matters: thinking is tested in seconds.
const LIGHT: [&str; 3] = ["tierkeep-core", "tierkeep-testkit", "tierkeep-engine"];
/// The driver, the web server and SQLite.
const HEAVY: [&str; 3] = ["mongodb", "axum", "rusqlite"];
/// Features that must be asked for: the first takes guards away, the second ends the process, both for tests alone; the
/// third brings crates that few need.
const OFF: [&str; 3] = ["mutants", "crash-points", "otel"];

/// Where every release of MongoDB that the tests run on is named.
const NAMES_RELEASES: [&str; 3] = [
    "README.md",
    "docs/operations/servers.md",
    "crates/mongo/src/product.rs",
];

/// Checks everything; an error says how many findings were printed.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    for file in rust_files(root)? {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = file.strip_prefix(root).unwrap_or(&file);
        for finding in in_file(name, &text) {
            findings.push(format!("{}: {finding}", name.display()));
        }
    }
    for package in LIGHT {
        for heavy in in_tree(&dependencies(root, package)?) {
            findings.push(format!("{package} depends on {heavy}"));
        }
    }
    for feature in switched_on(&features(root, "tierkeep")?) {
        findings.push(format!(
            "tierkeep is built with the feature `{feature}` unasked"
        ));
    }
    for house in &rooms::HOUSES {
        findings.extend(rooms::against(root, house)?);
    }
    for file in NAMES_RELEASES {
        let text = fs::read_to_string(root.join(file)).with_context(|| file.to_owned())?;
        let unnamed = unnamed(&text).into_iter();
        findings.extend(unnamed.map(|it| format!("{file} does not name MongoDB {it}")));
    }
    for finding in &findings {
        println!("tidy: {finding}");
    }
    if findings.is_empty() {
        Ok(())
    } else {
        bail!("{} findings", findings.len())
    }
}

/// What is wrong with one file.
fn in_file(name: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let is_source = name.components().any(|part| part.as_os_str() == "src");
    if is_source && !text.starts_with("//!") {
        findings.push("does not open with what it owns (`//!`)".to_owned());
    }
    let lines = text.lines().count();
    if lines > LINES {
        findings.push(format!("has {lines} lines, more than {LINES}"));
    }
    for word in UNFINISHED {
        if let Some(line) = text.lines().position(|line| line.contains(word)) {
            findings.push(format!("line {} says {word}", line + 1));
        }
    }
    findings
}

/// The releases of MongoDB that the tests run on and a text does not name.
fn unnamed(text: &str) -> Vec<&'static str> {
    let names = |version: &&str| {
        let mut parts = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
        parts.any(|part| part.trim_end_matches('.') == *version)
    };
    let versions = release::ALL.into_iter().map(|it| it.version);
    versions.filter(|version| !names(version)).collect()
}

/// The heavy crates in the output of `cargo tree`.
fn in_tree(tree: &str) -> Vec<&'static str> {
    HEAVY
        .into_iter()
        .filter(|heavy| {
            tree.lines()
                .any(|line| line.split_whitespace().next() == Some(heavy))
        })
        .collect()
}

/// The features of [`OFF`] that the output of `cargo tree --edges features` names.
fn switched_on(tree: &str) -> Vec<&'static str> {
    OFF.into_iter()
        .filter(|feature| tree.contains(&format!("feature \"{feature}\"")))
        .collect()
}

/// Everything that a package links, one a line.
fn dependencies(root: &Path, package: &str) -> Result<String> {
    tree(root, package, "normal,build")
}

/// The features that a package is built with, among everything it links.
fn features(root: &Path, package: &str) -> Result<String> {
    tree(root, package, "features,normal,build")
}

fn tree(root: &Path, package: &str, edges: &str) -> Result<String> {
    let output = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["tree", "--locked", "--edges", edges, "--prefix", "none"])
        .args(["--package", package])
        .current_dir(root)
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!(
            "cargo tree: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The Rust files of the workspace.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in ["crates", "examples", "xtask"] {
        files.extend(rust_files_in(&root.join(folder))?);
    }
    Ok(files)
}

/// The Rust files of a folder and those inside it, sorted.
pub(crate) fn rust_files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_file_opens_with_its_docs() {
        let source = Path::new("crates/core/src/lib.rs");
        assert_eq!(in_file(source, "use std::fmt;\n").len(), 1);
        assert!(in_file(source, "//! Owns it.\n").is_empty());
        assert!(in_file(Path::new("crates/core/tests/x.rs"), "use std::fmt;\n").is_empty());
    }

    #[test]
    fn long_files_and_unfinished_business_are_found() {
        let source = Path::new("crates/core/src/lib.rs");
        let long = format!("//! Owns it.\n{}", "\n".repeat(LINES));
        assert_eq!(in_file(source, &long).len(), 1);
        for word in UNFINISHED {
            let text = format!("//! Owns it.\n// {word}\n");
            assert_eq!(in_file(source, &text), [format!("line 2 says {word}")]);
        }
    }

    #[test]
    fn an_unwanted_feature_is_found() {
        assert!(switched_on("tierkeep-engine feature \"default\"\n").is_empty());
        let tree = OFF.map(|feature| format!("tierkeep feature \"{feature}\"\n"));
        assert_eq!(switched_on(&tree.concat()), OFF);
    }

    #[test]
    fn a_release_that_a_text_does_not_name_is_found() {
        assert!(unnamed("MongoDB 5.0.4, 6.0.5 and 6.0.27.").is_empty());
        assert_eq!(unnamed("MongoDB 5.0.4 and 6.0.27"), ["6.0.5"]);
        assert_eq!(
            unnamed("5.0, 6.0.55 and 16.0.27"),
            ["5.0.4", "6.0.5", "6.0.27"]
        );
    }

    #[test]
    fn a_heavy_crate_is_found_by_its_whole_name() {
        let tree = "tierkeep-core v0.1.0\nmongodb-internal-macros v3.9.1\naxum-core v0.5.0\n";
        assert!(in_tree(tree).is_empty());
        let tree = "tierkeep-core v0.1.0\nmongodb v3.9.1 (*)\n";
        assert_eq!(in_tree(tree), ["mongodb"]);
    }
}
