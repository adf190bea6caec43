//! Growth: what a document costs in a small and in a large move.

use std::fmt::Write as _;

use anyhow::Result;
use tierkeep_core::mover::Verify;

use crate::Bench;
use crate::contenders;
use crate::measure::{Measured, Stopwatch, median};
use crate::place::{Home, Place};
use crate::report::{self, Section};

/// More rounds take long and tell little.
const MOST_ROUNDS: usize = 3;

/// Moves a fifth of the documents, four times as many, and a fifth again, in each round.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let (small, large) = (bench.small(), bench.large());
    let rounds = bench.arguments.rounds.min(MOST_ROUNDS);
    let mut text = format!(
        "{}; {rounds} rounds, in each {small} documents, {large}, and {small} again; the ratios are taken round by \
         round against the mean of the two.\n\n\
         | where | documents | time for each, µs | CPU for each, µs | time, ratio | CPU, ratio | goal |\n\
         |---|---|---|---|---|---|---|\n",
        report::taken()
    );
    for home in [&bench.mongodb, &bench.sqlite] {
        let (mut smalls, mut larges) = (Vec::new(), Vec::new());
        let (mut times, mut cpus) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let before = once(bench, home, small).await?;
            let between = once(bench, home, large).await?;
            let after = once(bench, home, small).await?;
            let ratio =
                |of: fn(&Measured) -> f64| of(&between) / f64::midpoint(of(&before), of(&after));
            times.push(ratio(time_micros));
            cpus.push(ratio(Measured::cpu_micros));
            smalls.extend([before, after]);
            larges.push(between);
        }
        let each =
            |rounds: &[Measured], of: fn(&Measured) -> f64| median(rounds.iter().map(of).collect());
        let _ = writeln!(
            text,
            "| {} | {small} | {:.0} | {:.0} | 1.00 | 1.00 | |\n| {} | {large} | {:.0} | {:.0} | {:.2} | {:.2} | 1.20 |",
            home.name(),
            each(&smalls, time_micros),
            each(&smalls, Measured::cpu_micros),
            home.name(),
            each(&larges, time_micros),
            each(&larges, Measured::cpu_micros),
            median(times),
            median(cpus),
        );
    }
    Ok(vec![Section {
        file: "benchmarks-move.md",
        name: "growth",
        text,
    }])
}

fn time_micros(measured: &Measured) -> f64 {
    1e6 / measured.rate()
}

async fn once(bench: &Bench, home: &Home, documents: u64) -> Result<Measured> {
    let place = Place::fresh(home, "benchgrowth").await?;
    place.plant(documents).await?;
    let stopwatch = Stopwatch::start(bench.server_of(home)).await?;
    contenders::tierkeep(&place, Verify::Full).await?;
    let measured = stopwatch.stop(documents).await?;
    place.check_moved(documents).await?;
    place.remove().await?;
    crate::say(&format!(
        "growth, {}, {documents}: {:.0} µs each, CPU {:.0} µs",
        home.name(),
        time_micros(&measured),
        measured.cpu_micros()
    ));
    Ok(measured)
}
