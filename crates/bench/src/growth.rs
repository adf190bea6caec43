//! Growth: what a document costs in a small and in a large move.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use crate::Bench;
use crate::contenders::Contender;
use crate::measure::{Measured, Stopwatch, median, spread};
use crate::place::{Home, Place};
use crate::report::{self, Section};

/// More rounds take long and tell little.
const MOST_ROUNDS: usize = 3;

/// The ways that are compared: what grows for the limit too is the store's own work.
const WAYS: [Contender; 3] = [Contender::Limit, Contender::Full, Contender::Foreign];

/// What one way took.
#[derive(Clone, Debug, Default)]
struct Grown {
    small: Vec<Measured>,
    large: Vec<Measured>,
    /// The large move in parts of the mean of the two small ones around it.
    time: Vec<f64>,
    cpu: Vec<f64>,
}

/// Moves a fifth of the documents, four times as many, and a fifth again, in each round.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let (small, large) = (bench.small(), bench.large());
    let rounds = bench.arguments.rounds.min(MOST_ROUNDS);
    let mut text = format!(
        "{}; {rounds} rounds, in each {small} documents, {large}, and {small} again; the ratios are taken round by \
         round against the mean of the two; medians, with minimum and maximum in brackets.\n\n\
         | where | way | documents | time for each, µs | CPU for each, µs | of that client, server | time, ratio | CPU, ratio | goal |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        report::taken()
    );
    for home in [&bench.mongodb, &bench.sqlite] {
        for (way, grown) in grow(bench, home, rounds).await? {
            let of_large = format!(
                "{} | {} | {}",
                spread(grown.time),
                spread(grown.cpu),
                if way == Contender::Limit { "" } else { "1.20" }
            );
            for (documents, rounds, ratios) in [
                (small, &grown.small, " |  | "),
                (large, &grown.large, &of_large),
            ] {
                let each = |of: fn(&Measured) -> f64| median(rounds.iter().map(of).collect());
                let _ = writeln!(
                    text,
                    "| {} | {} | {documents} | {:.0} | {:.0} | {:.0}, {:.0} | {ratios} |",
                    home.name(),
                    way.name(),
                    each(time_micros),
                    each(Measured::cpu_micros),
                    each(Measured::client_micros),
                    each(Measured::server_micros),
                );
            }
        }
    }
    Ok(vec![Section {
        file: "benchmarks-move.md",
        name: "growth",
        text,
    }])
}

/// What each way takes in `home`, round by round.
async fn grow(bench: &Bench, home: &Home, rounds: usize) -> Result<BTreeMap<Contender, Grown>> {
    let (small, large) = (bench.small(), bench.large());
    let mut all = BTreeMap::<Contender, Grown>::new();
    for _ in 0..rounds {
        for way in WAYS {
            let before = once(bench, home, way, small).await?;
            let between = once(bench, home, way, large).await?;
            let after = once(bench, home, way, small).await?;
            let ratio =
                |of: fn(&Measured) -> f64| of(&between) / f64::midpoint(of(&before), of(&after));
            let grown = all.entry(way).or_default();
            grown.time.push(ratio(time_micros));
            grown.cpu.push(ratio(Measured::cpu_micros));
            grown.small.extend([before, after]);
            grown.large.push(between);
        }
    }
    Ok(all)
}

fn time_micros(measured: &Measured) -> f64 {
    1e6 / measured.rate()
}

async fn once(bench: &Bench, home: &Home, way: Contender, documents: u64) -> Result<Measured> {
    let place = Place::fresh(home, "benchgrowth").await?;
    way.plant(&place, documents).await?;
    let stopwatch = Stopwatch::start(bench.server_of(home)).await?;
    way.run(home, &place).await?;
    let measured = stopwatch.stop(documents).await?;
    place.check_moved(documents).await?;
    place.remove().await?;
    crate::say(&format!(
        "growth, {}, {way:?}, {documents}: {:.0} µs each, CPU {:.0} µs ({:.0} client, {:.0} server, of that {:.0} \
         connections)",
        home.name(),
        time_micros(&measured),
        measured.cpu_micros(),
        measured.client_micros(),
        measured.server_micros(),
        measured.connections_micros(),
    ));
    Ok(measured)
}
