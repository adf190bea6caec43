//! Measures the mover: interleaved rounds of one run, compared with what bounds it. Started by `cargo xtask bench`,
//! which builds the release binary and starts the server.
//!
//! Only ratios within a run count: absolute figures drift with the machine's other load. Where to look: `race`
//! (the ways to move, compared), `growth`, `memory`, `idle`, `latency`, `drain`, `verify`, `flood`, `degraded`, `legacy`,
//! `requests`, `start`, and `report`, which writes their results into the pages.

#![expect(clippy::print_stdout, reason = "what it finds is said on the terminal")]

mod callers;
mod contenders;
mod degraded;
mod documents;
mod door;
mod drain;
mod flood;
mod growth;
mod idle;
mod latency;
mod legacy;
mod measure;
mod memory;
mod place;
mod program;
mod race;
mod report;
mod requests;
mod service;
mod start;
mod verify;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use mongodb::Client;

use contenders::Contender;
use measure::Server;
use place::Home;
use report::Section;

/// Measures the mover.
#[derive(Parser, Clone, Debug)]
#[command(name = "cargo xtask bench", disable_version_flag = true)]
struct Arguments {
    /// The connection string of the server that is measured
    #[arg(long, hide = true)]
    url: String,
    /// The process id of that server
    #[arg(long, hide = true)]
    process: u32,
    /// The release binary
    #[arg(long, hide = true)]
    binary: PathBuf,
    /// Where files for the time of the measurement are put; on the disk that is measured
    #[arg(long, hide = true)]
    scratch: PathBuf,
    /// A Python with FastAPI and PyMongo; without it they are not compared with
    #[arg(long, hide = true)]
    python: Option<PathBuf>,
    /// The folder of the documents that are brought up to date; without it results are only printed
    #[arg(long, hide = true)]
    out: Option<PathBuf>,
    /// End as soon as the standard input does, which the starting process holds open
    #[arg(long, hide = true)]
    tied: bool,
    /// How many documents are moved; growth and memory go from a fifth of it to four times it
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(10..))]
    documents: u64,
    /// How many rounds there are; growth and latency make three at most
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure only these parts; the others' results stay as they are in the documents
    #[arg(long, value_delimiter = ',', value_name = "PART,…")]
    only: Vec<Part>,
    /// Race only these ways of moving, beside the limit
    #[arg(long, value_delimiter = ',', value_name = "WAY,…")]
    ways: Vec<Contender>,
    /// Another setting for the tierkeep of the parts that start the release binary; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text
        .split_once('=')
        .ok_or("a setting is given as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    /// The binary's size, and how long the embedded service takes to be ready
    Start,
    /// The ways to move documents beside each other on MongoDB
    Move,
    /// The same on SQLite
    Sqlite,
    /// What a document costs in a small and in a large move
    Growth,
    /// The most memory that a move ever has
    Memory,
    /// What a look costs when nothing is due
    Idle,
    /// Requests while documents move
    Latency,
    /// A backlog under `serve` alone, beside `migrate run`, and requests meanwhile
    Drain,
    /// How fast main and srie are compared, and with how much memory
    Verify,
    /// Internal users' requests while the public floods the service
    Flood,
    /// Internal users' requests while srie is away
    Degraded,
    /// What a request costs the service, beside axum with the raw driver and beside FastAPI
    Requests,
    /// Bringing in the predecessor's data beside a raw copy of it, and with how much memory
    Legacy,
}

impl Part {
    async fn measure(self, bench: &Bench) -> Result<Vec<Section>> {
        match self {
            Self::Start => start::measure(bench).await,
            Self::Move => race::on_mongodb(bench).await,
            Self::Sqlite => race::on_sqlite(bench).await,
            Self::Growth => growth::measure(bench).await,
            Self::Memory => memory::measure(bench).await,
            Self::Idle => idle::measure(bench).await,
            Self::Latency => latency::measure(bench).await,
            Self::Drain => drain::measure(bench).await,
            Self::Verify => verify::measure(bench).await,
            Self::Flood => flood::measure(bench).await,
            Self::Degraded => degraded::measure(bench).await,
            Self::Requests => requests::measure(bench).await,
            Self::Legacy => legacy::measure(bench).await,
        }
    }
}

/// Everything that a measurement needs.
#[derive(Debug)]
struct Bench {
    arguments: Arguments,
    server: Server,
    mongodb: Home,
    sqlite: Home,
    binary: PathBuf,
    folder: PathBuf,
}

impl Bench {
    async fn new(arguments: Arguments) -> Result<Self> {
        let mut options = mongodb::options::ClientOptions::parse(&arguments.url).await?;
        // Retryable writes would cost the contenders that use the driver's helpers a write more each.
        options.retry_writes = Some(false);
        let folder = arguments.scratch.clone();
        Ok(Self {
            server: Server {
                client: Client::with_uri_str(&arguments.url).await?,
                process: arguments.process,
            },
            mongodb: Home::Mongodb {
                url: arguments.url.clone(),
                client: Client::with_options(options)?,
            },
            sqlite: Home::Sqlite(folder.join("sqlite")),
            binary: arguments.binary.clone(),
            folder,
            arguments,
        })
    }

    /// The server whose work counts in `home`, where there is one.
    fn server_of(&self, home: &Home) -> Option<&Server> {
        match home {
            Home::Mongodb { .. } => Some(&self.server),
            Home::Sqlite(_) => None,
        }
    }

    /// The variables that lead the release binary to `place`, and the settings that the arguments give for it.
    fn environment_of(&self, place: &place::Place) -> Vec<(String, String)> {
        let mut environment = place.environment();
        environment.extend(self.arguments.set.iter().cloned());
        environment
    }

    /// These settings, for those who read the results.
    fn settings(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.arguments.set {
            text.push_str("; `");
            text.push_str(name);
            text.push('=');
            text.push_str(value);
            text.push('`');
        }
        text
    }

    /// How many documents a small move has.
    fn small(&self) -> u64 {
        self.arguments.documents / 5
    }

    /// How many documents a large move has.
    fn large(&self) -> u64 {
        self.arguments.documents * 4
    }

    /// Writes a plot.
    fn plot(&self, file: &str, svg: &str) -> Result<()> {
        if let Some(folder) = &self.arguments.out {
            std::fs::write(folder.join(file), svg)?;
        }
        Ok(())
    }
}

/// Says how it goes.
fn say(line: &str) {
    println!("{line}");
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut words = std::env::args().skip(1);
    if let (Some(requests::BARE), Some(url)) = (words.next().as_deref(), words.next()) {
        return runtime.block_on(requests::serve_bare(&url));
    }
    let arguments = Arguments::parse();
    let tied = arguments.tied;
    // Whatever ends it: when the measurement is dropped, so are the processes that it started.
    let outcome = runtime.block_on(async {
        tokio::select! {
            done = run(arguments) => done,
            () = left_alone(), if tied => bail!("interrupted"),
            signal = tokio::signal::ctrl_c() => {
                signal?;
                bail!("interrupted")
            }
        }
    });
    // The standard input may still be waited for.
    runtime.shutdown_background();
    outcome
}

/// Waits until the process that started this one has gone.
async fn left_alone() {
    let read = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    tokio::task::spawn_blocking(read).await.ok();
}

async fn run(arguments: Arguments) -> Result<()> {
    let bench = Bench::new(arguments).await?;
    let mut parts = bench.arguments.only.clone();
    if parts.is_empty() {
        parts = Part::value_variants().to_vec();
    }
    let mut failed = Vec::new();
    for part in parts {
        println!("--- {part:?}");
        let begun = Instant::now();
        match part.measure(&bench).await {
            Ok(sections) => {
                for section in sections {
                    println!("\n{}", section.text);
                    if let Some(folder) = &bench.arguments.out {
                        section.write(folder)?;
                    }
                }
            }
            Err(error) => {
                println!("error: {part:?}: {error:#}");
                failed.push(format!("{part:?}"));
            }
        }
        println!("--- {part:?} took {} s\n", begun.elapsed().as_secs());
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}
