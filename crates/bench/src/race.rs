//! Comparing the ways to move documents: interleaved rounds, and ratios taken round by round.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::Bench;
use crate::contenders::{Contender, tools_missing};
use crate::measure::{Measured, Stopwatch, median, spread};
use crate::place::{Home, Place};
use crate::report::{self, Section};

type All = BTreeMap<Contender, Vec<Measured>>;

/// Races on a MongoDB server.
pub async fn on_mongodb(bench: &Bench) -> Result<Vec<Section>> {
    let all = rounds(bench, &bench.mongodb).await?;
    bench.plot("benchmarks-move.svg", &report::bars(&parts(&all)))?;
    let mut text = format!(
        "{}; {}. Commands are round trips as the server counts them.\n\n\
         ![Throughput of the limit](benchmarks-move.svg)\n\n{}",
        report::taken(),
        conditions(bench),
        table(&all, true),
    );
    if let Some(tool) = tools_missing() {
        let _ = write!(
            text,
            "\nDump and restore did not run: `{tool}` was not installed. Where the MongoDB database tools are \
             installed, it runs too.\n"
        );
    }
    Ok(vec![Section {
        file: "benchmarks-move.md",
        name: "move",
        text,
    }])
}

/// Races on SQLite files.
pub async fn on_sqlite(bench: &Bench) -> Result<Vec<Section>> {
    let all = rounds(bench, &bench.sqlite).await?;
    bench.plot("benchmarks-move-sqlite.svg", &report::bars(&parts(&all)))?;
    let text = format!(
        "{}; {}.\n\n![Throughput of the limit](benchmarks-move-sqlite.svg)\n\n{}",
        report::taken(),
        conditions(bench),
        table(&all, false),
    );
    Ok(vec![Section {
        file: "benchmarks-move.md",
        name: "sqlite",
        text,
    }])
}

async fn rounds(bench: &Bench, home: &Home) -> Result<All> {
    let mut all = All::new();
    for round in 0..bench.arguments.rounds {
        let mut order = Contender::of(home);
        let wanted = &bench.arguments.ways;
        order.retain(|one| *one == Contender::Limit || wanted.is_empty() || wanted.contains(one));
        let by = round % order.len();
        order.rotate_left(by);
        for contender in order {
            let documents = contender.documents(bench.arguments.documents);
            let place = Place::fresh(home, &format!("bench{round}{contender:?}")).await?;
            contender.plant(&place, documents).await?;
            let stopwatch = Stopwatch::start(bench.server_of(home)).await?;
            contender
                .run(home, &place)
                .await
                .with_context(|| contender.name())?;
            let measured = stopwatch.stop(documents).await?;
            place.check_moved(documents).await?;
            place.remove().await?;
            crate::say(&format!(
                "{} {round} {contender:?}: {:.0}/s, {:.0} µs ({:.0} client, {:.0} server, of that {:.0} \
                 connections), {:.1} commands per 1,000",
                home.name(),
                measured.rate(),
                measured.cpu_micros(),
                measured.client_micros(),
                measured.server_micros(),
                measured.connections_micros(),
                measured.requests_per_thousand(),
            ));
            all.entry(contender).or_default().push(measured);
        }
    }
    Ok(all)
}

fn conditions(bench: &Bench) -> String {
    format!(
        "{} interleaved rounds of {} documents (2,000 at most for those that take one at a time), medians",
        bench.arguments.rounds, bench.arguments.documents
    )
}

/// What `of` says of one contender, in parts of what it says of the limit, round by round.
fn ratios(all: &All, contender: Contender, of: impl Fn(&Measured) -> f64) -> Vec<f64> {
    let none = Vec::new();
    let rounds = all.get(&contender).unwrap_or(&none);
    let limits = all.get(&Contender::Limit).unwrap_or(&none);
    let pairs = rounds.iter().zip(limits);
    pairs.map(|(one, limit)| of(one) / of(limit)).collect()
}

fn middle(rounds: &[Measured], of: impl Fn(&Measured) -> f64) -> f64 {
    median(rounds.iter().map(of).collect())
}

/// What is to be reached.
fn goal(contender: Contender, served: bool) -> &'static str {
    match contender {
        Contender::Full if served => "0.75, CPU 1.50",
        Contender::Full => "0.65",
        Contender::Version if served => "0.80, CPU 1.35",
        Contender::Foreign => "half of one's own",
        Contender::Two => "server's CPU 1.15 of one run's",
        Contender::Limit
        | Contender::Merge
        | Contender::Version
        | Contender::Upserts
        | Contender::Dump
        | Contender::Single
        | Contender::Predecessor => "",
    }
}

fn table(all: &All, served: bool) -> String {
    let mut text = String::from(
        "| way | of the limit | CPU of the limit's | goal | documents/s | documents/s and core | CPU µs |",
    );
    if served {
        text.push_str(" of that client, server | commands per 1,000 |");
    }
    text.push_str("\n|---|---|---|---|---|---|---|");
    if served {
        text.push_str("---|---|");
    }
    text.push('\n');
    for (contender, rounds) in all {
        let _ = write!(
            text,
            "| {} | {} | {} | {} | {:.0} | {:.0} | {:.0} |",
            contender.name(),
            spread(ratios(all, *contender, Measured::rate)),
            spread(ratios(all, *contender, Measured::cpu_micros)),
            goal(*contender, served),
            middle(rounds, Measured::rate),
            middle(rounds, Measured::rate_per_core),
            middle(rounds, Measured::cpu_micros),
        );
        if served {
            let _ = write!(
                text,
                " {:.0}, {:.0} | {:.1} |",
                middle(rounds, Measured::client_micros),
                middle(rounds, Measured::server_micros),
                middle(rounds, Measured::requests_per_thousand),
            );
        }
        text.push('\n');
    }
    if all.contains_key(&Contender::Two) {
        let one = all.get(&Contender::Full).into_iter().flatten();
        let two = all.get(&Contender::Two).into_iter().flatten();
        let server = two
            .zip(one)
            .map(|(two, one)| two.server_micros() / one.server_micros());
        let _ = writeln!(
            text,
            "\nTwo runs at once took {} of the server's processor time of one run (goal 1.15).",
            spread(server.collect())
        );
    }
    let full = ratios_to(all, Contender::Full);
    for (other, ratio) in full {
        let _ = write!(
            text,
            "\ntierkeep, every stored byte verified, against {}: {ratio} of its throughput.\n",
            other.name()
        );
    }
    text
}

/// The default's throughput in parts of each way's that it is compared with besides the limit.
fn ratios_to(all: &All, contender: Contender) -> Vec<(Contender, String)> {
    let rates = |of: Contender| all.get(&of).into_iter().flatten().map(Measured::rate);
    all.keys()
        .filter(|other| {
            !matches!(
                other,
                Contender::Limit | Contender::Full | Contender::Version
            )
        })
        .map(|other| {
            let pairs = rates(contender).zip(rates(*other));
            (
                *other,
                spread(pairs.map(|(one, other)| one / other).collect()),
            )
        })
        .collect()
}

fn parts(all: &All) -> Vec<(&'static str, f64)> {
    all.keys()
        .map(|contender| {
            let part = median(ratios(all, *contender, Measured::rate));
            (contender.name(), part)
        })
        .collect()
}
