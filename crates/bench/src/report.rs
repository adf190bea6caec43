//! The table and the plot, made from what was measured and from nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::{fs, thread};

use tierkeep_core::clock::Clock as _;

use crate::Arguments;
use crate::contenders::Contender;
use crate::measure::{Measured, median};
use crate::place::MachineClock;

type All = BTreeMap<Contender, Vec<Measured>>;

/// The median over the rounds of what `of` says of one contender and of the limit of the same round.
fn ratio(all: &All, contender: Contender, of: impl Fn(&Measured) -> f64) -> f64 {
    let none = Vec::new();
    let rounds = all.get(&contender).unwrap_or(&none);
    let limits = all.get(&Contender::Limit).unwrap_or(&none);
    let pairs = rounds.iter().zip(limits);
    median(pairs.map(|(one, limit)| of(one) / of(limit)).collect())
}

fn middle(rounds: &[Measured], of: impl Fn(&Measured) -> f64) -> f64 {
    median(rounds.iter().map(of).collect())
}

/// The table, with the machine and the date.
pub fn markdown(arguments: &Arguments, all: &All) -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let date = MachineClock
        .now()
        .try_to_rfc3339_string()
        .unwrap_or_default();
    let mut text = format!(
        "# The move against its limit\n\nMade by `cargo xtask bench`, not by hand. {cores} cores, {model}, {date}; \
         {} interleaved rounds of {} documents (2,000 at most for the predecessor), 4.4 kB on average with a tail to \
         93 kB, on a one-node replica set. Medians of the rounds; ratios are taken round by round. The processor \
         time is client and server together, measured up to the server's next checkpoint.\n\n\
         ![Of the limit](benchmarks-move.svg)\n\n\
         | way | of the limit | CPU of the limit's | documents/s | CPU µs (client, server) | commands per 1,000 |\n\
         |---|---|---|---|---|---|\n",
        arguments.rounds, arguments.documents,
    );
    for (contender, rounds) in all {
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.2} | {:.0} | {:.0} ({:.0}, {:.0}) | {:.1} |",
            contender.name(),
            ratio(all, *contender, Measured::rate),
            ratio(all, *contender, Measured::cpu_micros),
            middle(rounds, Measured::rate),
            middle(rounds, Measured::cpu_micros),
            middle(rounds, Measured::client_micros),
            middle(rounds, Measured::server_micros),
            middle(rounds, Measured::requests_per_thousand),
        );
    }
    text
}

/// A bar for each way: its throughput in parts of the limit's.
pub fn svg(all: &All) -> String {
    let height = 24 + all.len() * 28;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n"
    );
    for (line, contender) in all.keys().enumerate() {
        let part = ratio(all, *contender, Measured::rate);
        let y = 16 + line * 28;
        let _ = writeln!(
            text,
            "<text x=\"0\" y=\"{}\">{}</text><rect x=\"290\" y=\"{y}\" width=\"{:.0}\" height=\"18\" \
             fill=\"#4472a8\"/><text x=\"{:.0}\" y=\"{}\">{part:.2}</text>",
            y + 14,
            contender.name(),
            part * 360.0,
            296.0 + part * 360.0,
            y + 14,
        );
    }
    text.push_str("</svg>\n");
    text
}
