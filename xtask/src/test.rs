//! `cargo xtask test`: everything that must hold before a change is taken, in order, on a real MongoDB.
//!
//! A step that fails does not hide what the later ones would say; the summary at the end names all.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::mongod::{Mongod, URL_VARIABLE};
use crate::{python, tidy, variable};

/// How many cases a property is tried with by `--full`.
const FULL_CASES: &str = "4096";

/// How many times as much the longer tests of the engine try by `--full`; their random run then lasts a minute.
const FULL_TIMES: &str = "4";

/// One call of cargo.
struct Step {
    name: &'static str,
    arguments: Vec<String>,
}

impl Step {
    fn new(name: &'static str, arguments: &[&str], extra: &[String]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        Self {
            name,
            arguments: arguments.chain(extra.iter().cloned()).collect(),
        }
    }
}

/// Runs every step; an error names those that failed.
pub(crate) async fn run(root: &Path, full: bool, extra: &[String]) -> Result<()> {
    // First, so that nobody waits for a build only to hear that there is no server.
    let mongod = match variable(URL_VARIABLE) {
        Some(_) => None,
        None => Some(Mongod::start(root).await?),
    };
    let url = mongod.as_ref().map(Mongod::url);
    let steps = [
        Step::new("format", &["fmt", "--all", "--check"], &[]),
        Step::new(
            "lint",
            &[
                "clippy",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
            &[],
        ),
        // With what the tests switch on above; here as it is built for use, and with each feature that is off.
        Step::new("lint as it is built", &built(&[]), &[]),
        Step::new("lint with otel", &built(&["--features", "otel"]), &[]),
        Step::new("build", &["build", "--locked", "-p", "tierkeep"], &[]),
        Step::new(
            "test",
            &["test", "--locked", "--workspace", "--no-fail-fast"],
            extra,
        ),
    ];
    let mut outcomes = vec![("tidy", tidy::run(root))];
    for step in steps {
        println!("\n--- {}: cargo {}", step.name, step.arguments.join(" "));
        let outcome = cargo(root, &step, url.as_deref(), full).await;
        outcomes.push((step.name, outcome));
    }
    println!("\n--- properties: pytest");
    let outcome = python::properties(root, url.as_deref(), full).await;
    outcomes.push(("properties", outcome));
    println!("\n--- dashboard: pytest, in Chromium");
    let outcome = python::dashboard(root, url.as_deref(), full).await;
    outcomes.push(("dashboard", outcome));
    println!();
    let mut failed = Vec::new();
    for (name, outcome) in outcomes {
        match outcome {
            Ok(()) => println!("ok      {name}"),
            Err(error) => {
                println!("FAILED  {name}: {error:#}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("{} failed", failed.join(", "))
    }
}

/// Lints the program without the features that its tests bring in.
fn built<'a>(features: &[&'a str]) -> Vec<&'a str> {
    let of_the_program = ["clippy", "--locked", "-p", "tierkeep"];
    [&of_the_program, features, &["--", "-D", "warnings"]].concat()
}

async fn cargo(root: &Path, step: &Step, url: Option<&str>, full: bool) -> Result<()> {
    let mut command = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(&step.arguments)
        .current_dir(root)
        // A snapshot that differs is a failure, never a new file.
        .env("INSTA_UPDATE", "no")
        .kill_on_drop(true);
    if let Some(url) = url {
        command.env(URL_VARIABLE, url);
    }
    if full {
        command.env("PROPTEST_CASES", FULL_CASES);
        command.env("TIERKEEP_TEST_FULL", FULL_TIMES);
    }
    let status = command.status().await.context("cargo cannot be started")?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}
