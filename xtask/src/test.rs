//! `cargo xtask test`: everything that must hold before a change is taken, in order, on a real MongoDB.
//!
//! A step that fails does not hide what the later ones would say; the summary at the end names all.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;

use crate::mongod::{Mongod, Room, URL_VARIABLE};
use crate::release::{BINARY_VARIABLE, Release, USUAL};
use crate::{matrix, python, release, tidy, upgrade, variable, wheel};

/// How many cases a property is tried with by `--full`.
const FULL_CASES: &str = "4096";

/// How many times as much the longer tests of the engine try by `--full`; their random run then lasts a minute.
const FULL_TIMES: &str = "4";

/// How many tests of a suite run at a time.
const TEST_THREADS: &str = "4";

/// How many of them while those that have the same clusters to themselves run beside them.
const THREADS_BESIDE: &str = "3";

/// Part of the names of the tests that share three clusters behind one lock. Run with the other tests, they take every test
/// thread and all but one of the threads wait for the lock.
const IN_TURN: &str = "cluster::";
/// How many of those run at a time: one, and one that waits.
const THREADS_IN_TURN: &str = "2";

/// A file system in memory, and how many bytes must be free there for all that tests write.
const IN_MEMORY: &str = "/dev/shm";
const ROOM_IN_MEMORY: u64 = 8 << 30;

/// One call of cargo.
struct Step {
    name: &'static str,
    arguments: Vec<String>,
    /// How many tests run at a time.
    threads: &'static str,
}

impl Step {
    fn new(name: &'static str, arguments: &[&str], extra: &[String]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        Self {
            name,
            arguments: arguments.chain(extra.iter().cloned()).collect(),
            threads: TEST_THREADS,
        }
    }
}

/// What the tests find around them.
pub(crate) struct Surroundings<'a> {
    /// The replica set, where it was started for the tests; else the environment names one.
    url: Option<String>,
    /// Its binary, with which tests start servers of their own.
    binary: Option<PathBuf>,
    /// The previous build of the program, for a full run.
    previous: Option<PathBuf>,
    /// Where they write.
    scratch: &'a Path,
    pub(crate) full: bool,
}

impl Surroundings<'_> {
    /// Tells a command of them.
    pub(crate) fn show(&self, command: &mut Command) {
        command.env("TMPDIR", self.scratch);
        if let Some(url) = &self.url {
            command.env(URL_VARIABLE, url);
        }
        if let Some(binary) = &self.binary {
            command.env(BINARY_VARIABLE, binary);
        }
        if let Some(previous) = &self.previous {
            command.env(upgrade::VARIABLE, previous);
        }
    }

    /// The same, with another server.
    pub(crate) fn on(&self, mongod: &Mongod, binary: &Path) -> Self {
        Self {
            url: Some(mongod.url()),
            binary: Some(binary.to_owned()),
            previous: self.previous.clone(),
            ..*self
        }
    }

    /// Where the tests write.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch
    }
}

/// Runs every step, on a server of the release `server` where one is asked for; an error names those that failed.
pub(crate) async fn run(
    root: &Path,
    full: bool,
    server: Option<Release>,
    extra: &[String],
) -> Result<()> {
    let scratch = scratch()?;
    // First, so that a missing server is reported before a long build and not after it.
    let (binary, mut mongod) = match variable(URL_VARIABLE) {
        Some(_) if server.is_some() => bail!("{URL_VARIABLE} is set, which excludes --server"),
        Some(_) => (None, None),
        None => {
            let binary = release::asked_for(server, root)?;
            let mongod = Mongod::start(&binary, scratch.path(), Room::Little).await?;
            (Some(binary), Some(mongod))
        }
    };
    let mut surroundings = Surroundings {
        url: mongod.as_ref().map(Mongod::url),
        binary,
        previous: None,
        scratch: scratch.path(),
        full,
    };
    let mut steps = vec![
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
    ];
    if full {
        // What no test can run without the cloud; it is compiled at least.
        let sign_in = built(&["--features", "aws-auth,azure-oidc,gcp-oidc"]);
        steps.push(Step::new("lint with the clouds' sign-in", &sign_in, &[]));
    }
    let mut outcomes = Outcomes::default();
    outcomes.take("tidy", async { tidy::run(root) }).await;
    for step in steps {
        let run = cargo(root, &step, &surroundings);
        outcomes.take(step.name, run).await;
    }
    if full {
        println!("\n--- the previous build");
        let built = async {
            surroundings.previous = Some(upgrade::previous(root).await?);
            Ok(())
        };
        outcomes.take("previous build", built).await;
    }
    let run = tests(root, &surroundings, extra);
    outcomes.take("test", run).await;
    // A run of some tests, or on another server, leaves these out.
    if extra.is_empty() && server.is_none_or(|it| it == USUAL) {
        let run = matrix::run(root, &surroundings);
        outcomes.take("other servers", run).await;
    }
    println!("\n--- properties: pytest");
    let run = python::properties(root, &surroundings);
    outcomes.take("properties", run).await;
    println!("\n--- python: the wheel, its checks and its tests");
    let run = wheel::test(root, &surroundings);
    outcomes.take("python", run).await;
    println!("\n--- dashboard: pytest, in Chromium");
    let run = python::dashboard(root, &surroundings);
    outcomes.take("dashboard", run).await;
    println!("\n--- deploy: pytest, on deploy/ and docs/");
    let run = python::deploy(root, &surroundings);
    outcomes.take("deploy", run).await;
    if let Some(mongod) = &mut mongod {
        // Where it ended, steps failed for want of it: this says why.
        outcomes
            .take("database", async { mongod.still_runs() })
            .await;
    }
    let failed = outcomes.shown();
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("{} failed", failed.join(", "))
    }
}

/// What came of each step, and how long it took.
#[derive(Default)]
struct Outcomes(Vec<(&'static str, Result<()>, Duration)>);

impl Outcomes {
    async fn take(&mut self, name: &'static str, step: impl Future<Output = Result<()>>) {
        let began = Instant::now();
        let outcome = step.await;
        self.0.push((name, outcome, began.elapsed()));
    }

    /// Prints all of them and answers the names of those that failed.
    fn shown(self) -> Vec<&'static str> {
        println!();
        let mut failed = Vec::new();
        for (name, outcome, took) in self.0 {
            let seconds = took.as_secs();
            match outcome {
                Ok(()) => println!("ok      {name} ({seconds} s)"),
                Err(error) => {
                    println!("FAILED  {name} ({seconds} s): {error:#}");
                    failed.push(name);
                }
            }
        }
        failed
    }
}

/// Runs the tests of the workspace; those that wait for each other beside the rest, unless some are asked for. Building all
/// builds the program too, which the steps in Python take.
async fn tests(root: &Path, surroundings: &Surroundings<'_>, extra: &[String]) -> Result<()> {
    let all = ["test", "--locked", "--workspace", "--no-fail-fast"];
    if !extra.is_empty() {
        let program = ["build", "--locked", "-p", "tierkeep"];
        cargo(root, &Step::new("build", &program, &[]), surroundings).await?;
        return cargo(root, &Step::new("test", &all, extra), surroundings).await;
    }
    let build = [&all[..], &["--no-run"]].concat();
    cargo(
        root,
        &Step::new("build the tests", &build, &[]),
        surroundings,
    )
    .await?;
    let most = [&all[..], &["--", "--skip", IN_TURN]].concat();
    let in_turn = [&all[..], &["--", IN_TURN]].concat();
    let mut in_turn = Step::new("test in turn", &in_turn, &[]);
    in_turn.threads = THREADS_IN_TURN;
    let mut most = Step::new("test", &most, &[]);
    most.threads = THREADS_BESIDE;
    let (most, in_turn) = tokio::join!(
        cargo(root, &most, surroundings),
        cargo(root, &in_turn, surroundings)
    );
    most.and(in_turn)
}

/// Lints the program without the features that its tests bring in.
fn built<'a>(features: &[&'a str]) -> Vec<&'a str> {
    let of_the_program = ["clippy", "--locked", "-p", "tierkeep"];
    [&of_the_program, features, &["--", "-D", "warnings"]].concat()
}

/// A folder for all that tests write: in memory where there is room, as waiting for a disk proves nothing there.
/// (No test takes the power away; a process that is killed loses nothing that it handed to the system.)
fn scratch() -> Result<TempDir> {
    let room = rustix::fs::statvfs(IN_MEMORY)
        .is_ok_and(|it| it.f_bavail.saturating_mul(it.f_frsize) >= ROOM_IN_MEMORY);
    let mut scratch = tempfile::Builder::new();
    scratch.prefix("tierkeep-tests-");
    let folder = if room {
        scratch.tempdir_in(IN_MEMORY)
    } else {
        scratch.tempdir()
    };
    folder.context("there is no folder for what the tests write")
}

async fn cargo(root: &Path, step: &Step, surroundings: &Surroundings<'_>) -> Result<()> {
    println!("\n--- {}: cargo {}", step.name, step.arguments.join(" "));
    let mut command = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(&step.arguments)
        .current_dir(root)
        // A snapshot that differs is a failure, never a new file.
        .env("INSTA_UPDATE", "no")
        // Most tests wait for a server or a clock most of their time.
        .env("RUST_TEST_THREADS", step.threads)
        .kill_on_drop(true);
    surroundings.show(&mut command);
    if surroundings.full {
        command.env("PROPTEST_CASES", FULL_CASES);
        command.env("TIERKEEP_TEST_FULL", FULL_TIMES);
    }
    let status = command.status().await.context("cargo cannot be started")?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}
