//! `config`: owns how settings are shown, checked and written down. Must never show a secret, or contact a
//! database.

use std::fmt::Write as _;

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use crate::config::shown::{self, ShownSetting as Row};
use crate::config::template::template;
use crate::config::{Problem, Problems, ServiceSettings};
use crate::exit::Exit;
use crate::output::Format;

/// What to do about the settings.
#[derive(Subcommand, Clone, Copy, Debug)]
pub enum ConfigCommand {
    /// Show every setting with its value and source; secrets are hidden
    Show,
    /// List everything that would keep serve from starting; exit code 2 if there is any
    Check,
    /// Print a commented tierkeep.toml that names every setting
    Template,
}

/// Shows, checks or writes down the settings.
///
/// # Errors
/// What is wrong with them, after they were shown.
pub fn run(command: &ConfigCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Show => show(context),
        ConfigCommand::Check => check(context),
        ConfigCommand::Template => {
            #[derive(Serialize)]
            struct Template {
                template: String,
            }
            context.output().result(
                &Template {
                    template: template(),
                },
                |it| it.template.clone(),
            )?;
            Ok(Exit::Done)
        }
    }
}

#[derive(Serialize)]
struct SettingsReport {
    settings: Vec<Row>,
}

fn show(context: &Context) -> anyhow::Result<Exit> {
    let report = SettingsReport {
        settings: shown::all(&context.loaded),
    };
    context
        .output()
        .result(&report, |report| rows(&report.settings))?;
    Problems::check(context.loaded.problems().to_vec())?;
    Ok(Exit::Done)
}

fn rows(rows: &[Row]) -> String {
    let width = |of: fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or_default();
    let (names, values) = (
        width(|row| row.name.len()),
        width(|row| row.shown().chars().count()),
    );
    rows.iter().fold(String::new(), |mut text, row| {
        let (name, value, source) = (row.name, row.shown(), &row.source);
        let _ = writeln!(text, "{name:names$}  {value:values$}  {source}");
        text
    })
}

#[derive(Serialize)]
struct Checked {
    ok: bool,
    problems: Vec<Problem>,
}

fn check(context: &Context) -> anyhow::Result<Exit> {
    let result = ServiceSettings::of(&context.loaded);
    match (context.format, result) {
        (Format::Json, result) => {
            let problems = result
                .err()
                .map(|it| it.as_slice().to_vec())
                .unwrap_or_default();
            let checked = Checked {
                ok: problems.is_empty(),
                problems,
            };
            context.output().result(&checked, |_| String::new())?;
            Ok(if checked.ok { Exit::Done } else { Exit::Usage })
        }
        (Format::Text, result) => {
            result?;
            context.output().line("the configuration is complete")?;
            Ok(Exit::Done)
        }
    }
}
