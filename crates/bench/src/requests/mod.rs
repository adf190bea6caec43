//! What a request costs the service: reads and writes of one section over HTTP at 1, 16 and 64 connections, compared
//! with the same two routes on axum with the raw driver, and on FastAPI with PyMongo's async client.
//!
//! Where to look: `contender` (the three services), `bare` (the one on axum), `service.py` (the one on FastAPI), `load` (the callers).

mod bare;
mod contender;
mod load;

pub use bare::{COMMAND as BARE, serve as serve_bare};

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use crate::Bench;
use crate::measure::{median, quantile, spread};
use crate::place::Place;
use crate::report::{self, Section};
use crate::service::Github;
use contender::{Contender, Kind};
use load::{Load, Method, Seen};

const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// Enough for each of 64 connections to have its own.
const USERS: u64 = 512;
/// Of a whole document; its section then has about 1.7 kB.
const DOCUMENT_BYTES: usize = 2_600;

/// One cell of the comparison: how many connections sent what.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Case {
    method: Method,
    connections: usize,
}

/// What each contender took for each case, round by round.
type Results = BTreeMap<(Case, Kind), Vec<Seen>>;

/// Asks all three in turns.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let place = Place::fresh(&bench.mongodb, "benchrequests").await?;
    place.plant_young_of(0..USERS, DOCUMENT_BYTES).await?;
    place.plant_moved(USERS, DOCUMENT_BYTES).await?;
    let github = Github::start().await?;
    let mut contenders = Contender::start_all(bench, &place, &github).await?;
    let load = Load::of(USERS)?;
    for contender in &contenders {
        load.ask_each_once(contender).await?;
    }
    let mut results = Results::new();
    for round in 0..bench.arguments.rounds {
        for connections in CONNECTIONS {
            for method in [Method::Get, Method::Put] {
                contenders.rotate_left(1);
                for contender in &contenders {
                    let case = Case {
                        method,
                        connections,
                    };
                    let seen = load.run(contender, method, connections).await?;
                    crate::say(&format!(
                        "requests {round} {method:?} {connections} {}: {:.0} µs, p50 {:.2} ms, p99 {:.2} ms, {:.0}/s",
                        contender.kind.name(),
                        seen.cpu_micros(),
                        quantile(seen.took_ms.clone(), 0.5),
                        quantile(seen.took_ms.clone(), 0.99),
                        seen.rate(),
                    ));
                    results
                        .entry((case, contender.kind))
                        .or_default()
                        .push(seen);
                }
            }
        }
    }
    drop(contenders);
    place.remove().await?;
    Ok(vec![Section {
        file: "benchmarks.md",
        name: "requests",
        text: text(bench, &results),
    }])
}

fn text(bench: &Bench, results: &Results) -> String {
    let mut text = format!(
        "{}{}; {} alternating rounds; documents of {DOCUMENT_BYTES} bytes, of which a section of about 1.7 kB is read or replaced by \
         internal users, each connection sending the next request as soon as it is answered, for {} s. Processor time is that of \
         the service's process, per request. Medians of the rounds; ratios round by round, with minimum and maximum in brackets. {}\n\n\
         | requests | connections | service | CPU µs | of the bare one's | p50 ms | p99 ms | p99 of p50 | requests/s |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        report::taken(),
        bench.settings(),
        bench.arguments.rounds,
        load::WINDOW.as_secs(),
        if bench.arguments.python.is_some() {
            ""
        } else {
            "No Python was found, so FastAPI was not measured."
        },
    );
    for ((case, kind), seen) in results {
        let ratio = match results.get(&(*case, Kind::Bare)) {
            Some(bare) if *kind != Kind::Bare => spread(
                seen.iter()
                    .zip(bare)
                    .map(|(one, bare)| one.cpu_micros() / bare.cpu_micros())
                    .collect(),
            ),
            _ => "–".to_owned(),
        };
        let of = |get: &dyn Fn(&Seen) -> f64| median(seen.iter().map(get).collect());
        let at = |share| of(&|one| quantile(one.took_ms.clone(), share));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.0} | {ratio} | {:.2} | {:.2} | {:.1} | {:.0} |",
            case.method.name(),
            case.connections,
            kind.name(),
            of(&Seen::cpu_micros),
            at(0.5),
            at(0.99),
            of(&|one| quantile(one.took_ms.clone(), 0.99) / quantile(one.took_ms.clone(), 0.5)),
            of(&Seen::rate),
        );
    }
    text
}
