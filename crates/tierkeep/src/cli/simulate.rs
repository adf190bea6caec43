//! `simulate`: owns the outlook: what will move when, and how much.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;
use tierkeep_engine::{Amount, Inspector, LONGEST_WINDOW, Simulation};

use super::Context;
use crate::config::units;
use crate::exit::{self, Exit};

/// Arguments of `simulate`.
#[derive(Args, Clone, Copy, Debug)]
pub struct SimulateArgs {
    /// Period to simulate, at most 31d
    #[arg(long = "for", value_name = "DURATION", default_value = "24h", value_parser = window)]
    pub window: Duration,
}

fn window(text: &str) -> Result<Duration, &'static str> {
    let window = units::duration(text)?;
    if window.is_zero() || window > LONGEST_WINDOW {
        return Err("expected more than 0s and at most 31d");
    }
    Ok(window)
}

/// Shows what will move when, changing nothing.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub async fn run(args: &SimulateArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let look = context.look(&settings).await?;
    let inspector = Inspector::new(Arc::clone(&look.engine), settings.mover);
    let simulation = match inspector.simulate(args.window).await {
        Ok(simulation) => Outlook::Known(simulation),
        Err(error) if exit::of_store(&error) == Exit::Unreachable => Outlook::unknown(),
        Err(error) => return Err(error.into()),
    };
    context
        .output()
        .result(&simulation, |simulation| match simulation {
            Outlook::Known(simulation) => text(simulation),
            Outlook::Unknown(_) => UNKNOWN.to_owned(),
        })?;
    look.ends()
}

const UNKNOWN: &str = "unknown: raseen_temp_user or evaluation_audit is unavailable\n";
const FIELDS: [&str; 10] = [
    "from",
    "to",
    "paused",
    "total",
    "due_now",
    "hours",
    "parked",
    "next_attempt_at",
    "failed",
    "quarantined",
];

/// What will move; each field null where a database that knows is away.
#[derive(Serialize)]
#[serde(untagged)]
enum Outlook {
    Known(Simulation),
    Unknown(BTreeMap<&'static str, Option<u64>>),
}

impl Outlook {
    fn unknown() -> Self {
        Self::Unknown(FIELDS.map(|field| (field, None)).into())
    }
}

fn text(simulation: &Simulation) -> String {
    let mut text = String::new();
    if simulation.paused {
        text.push_str("paused: no documents move until `tierkeep migrate resume`\n\n");
    }
    let mut table = super::table(&["when (UTC)", "documents", "bytes"]);
    let mut row = |when: String, amount: &Amount| {
        table.add_row([
            when,
            amount.documents.to_string(),
            HumanBytes(amount.bytes).to_string(),
        ]);
    };
    row("due now".into(), &simulation.due_now);
    for hour in &simulation.hours {
        if hour.amount.documents > 0 {
            row(
                format!("{} to {}", minute(&hour.from), minute(&hour.to)),
                &hour.amount,
            );
        }
    }
    row(
        format!("all, until {}", minute(&simulation.to)),
        &simulation.total,
    );
    let _ = writeln!(text, "{table}");
    text.push_str(&apart(simulation));
    text
}

/// What will not move by itself, or not yet, a line each.
fn apart(simulation: &Simulation) -> String {
    let mut lines = String::new();
    let mut line = |amount: &Amount, what: &str| {
        if amount.documents > 0 {
            let bytes = HumanBytes(amount.bytes);
            let _ = writeln!(lines, "not included: {} {what} ({bytes})", amount.documents);
        }
    };
    let next = simulation.next_attempt_at.as_deref().map_or_else(
        || "parked after a failed attempt".to_owned(),
        |at| {
            format!(
                "parked after a failed attempt, retried from {} on",
                minute(at)
            )
        },
    );
    line(&simulation.parked, &next);
    line(
        &simulation.failed,
        "failed permanently, until `tierkeep migrate retry`",
    );
    line(
        &simulation.quarantined,
        "quarantined; `tierkeep migrate status` shows the reasons",
    );
    if lines.is_empty() {
        lines
    } else {
        format!("\n{lines}")
    }
}

/// The first 16 characters of an RFC 3339 date: to the minute.
fn minute(rfc3339: &str) -> String {
    rfc3339
        .chars()
        .take(16)
        .map(|c| if c == 'T' { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tierkeep_engine::HourAhead;

    use super::*;

    #[rstest]
    #[case("24h", Some(Duration::from_hours(24)))]
    #[case("31d", Some(LONGEST_WINDOW))]
    #[case("31d1ms", None)]
    #[case("0s", None)]
    #[case("a day", None)]
    fn the_window_is_bounded(#[case] text: &str, #[case] expected: Option<Duration>) {
        assert_eq!(window(text).ok(), expected);
    }

    #[test]
    fn hours_in_which_nothing_moves_are_left_out() {
        let amount = |documents| Amount {
            documents,
            bytes: documents * 1_000,
        };
        let hour = |from: &str, to: &str, documents| HourAhead {
            from: format!("2026-01-01T{from}:10:30.123Z"),
            to: format!("2026-01-01T{to}:10:30.123Z"),
            amount: amount(documents),
        };
        let simulation = Simulation {
            from: "2026-01-01T01:10:30.123Z".into(),
            to: "2026-01-01T04:10:30.123Z".into(),
            paused: true,
            total: amount(12),
            due_now: amount(5),
            hours: vec![
                hour("01", "02", 0),
                hour("02", "03", 7),
                hour("03", "04", 0),
            ],
            parked: amount(2),
            next_attempt_at: Some("2026-01-01T01:20:00.000Z".into()),
            failed: amount(1),
            quarantined: amount(0),
        };
        insta::assert_snapshot!(text(&simulation));
    }
}
