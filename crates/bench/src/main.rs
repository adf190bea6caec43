//! Measures the mover: interleaved rounds of one run against what bounds it. Started by `cargo xtask bench`, which
//! builds the release binary and starts the server.
//!
//! Only ratios within a run count: absolute figures drift with what else the machine does.

#![expect(clippy::print_stdout, reason = "what it finds is said on the terminal")]

mod contenders;
mod documents;
mod measure;
mod place;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use mongodb::Client;

use contenders::Contender;
use measure::{Measured, Server, Stopwatch};
use place::Place;

/// Measures the mover.
#[derive(Parser, Clone, Debug)]
#[command(name = "tierkeep-bench", disable_version_flag = true)]
struct Arguments {
    /// The connection string of the server that is measured
    #[arg(long)]
    url: String,
    /// The process id of that server
    #[arg(long)]
    process: u32,
    /// How many documents each contender moves in a round
    #[arg(long, default_value_t = 50_000)]
    documents: u64,
    /// How many rounds there are
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The folder into which the table and the plot are written
    #[arg(long)]
    out: Option<PathBuf>,
    /// Only these contenders, beside the limit: full, version, upserts, predecessor
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&Arguments::parse()))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let server = Server {
        client: Client::with_uri_str(&arguments.url).await?,
        process: arguments.process,
    };
    let mut options = mongodb::options::ClientOptions::parse(&arguments.url).await?;
    options.retry_writes = Some(false);
    let client = Client::with_options(options)?;
    let mut all: BTreeMap<Contender, Vec<Measured>> = BTreeMap::new();
    for round in 0..arguments.rounds {
        let mut order = vec![Contender::Limit];
        for (name, contender) in [
            ("full", Contender::Full),
            ("version", Contender::Version),
            ("upserts", Contender::Upserts),
            ("predecessor", Contender::Predecessor),
        ] {
            if arguments.only.is_empty() || arguments.only.iter().any(|only| only == name) {
                order.push(contender);
            }
        }
        let by = round % order.len();
        order.rotate_left(by);
        for contender in order {
            let documents = match contender {
                Contender::Predecessor => arguments.documents.min(2_000),
                Contender::Limit | Contender::Full | Contender::Version | Contender::Upserts => {
                    arguments.documents
                }
            };
            let place = Place::on_mongodb(&client, &format!("bench{round}{contender:?}")).await?;
            place.plant(documents).await?;
            let stopwatch = Stopwatch::start(Some(&server)).await?;
            contender.run(&client, &place).await?;
            let measured = stopwatch.stop(documents).await?;
            place.check_moved(documents).await?;
            place.drop_from(&client).await?;
            println!(
                "{round} {contender:?}: {:.0}/s, {:.0} µs ({:.0} client, {:.0} server, of that {:.0} connections), {:.1} requests per 1000",
                measured.rate(),
                measured.cpu_micros(),
                measured.client_micros(),
                measured.server_micros(),
                measured.connections_micros(),
                measured.requests_per_thousand(),
            );
            all.entry(contender).or_default().push(measured);
        }
    }
    let report = report::markdown(arguments, &all);
    println!("{report}");
    if let Some(folder) = &arguments.out {
        std::fs::write(folder.join("benchmarks-move.md"), report)?;
        std::fs::write(folder.join("benchmarks-move.svg"), report::svg(&all))?;
    }
    Ok(())
}
