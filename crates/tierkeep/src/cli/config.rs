//! `config`: owns how settings are shown, checked and written down. Must never show a secret, or contact a
//! database.

use std::fmt::Write as _;

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use crate::config::loaded::Effective;
use crate::config::table::Effect;
use crate::config::template::template;
use crate::config::{Loaded, Problem, Problems, ServiceSettings};
use crate::exit::Exit;
use crate::output::{Format, OutputError};

/// What to do about the settings.
#[derive(Subcommand, Clone, Copy, Debug)]
pub enum ConfigCommand {
    /// Show every setting with its value and where it came from; secrets stay hidden
    Show,
    /// Say everything that is wrong for serve, at once; exit code 2 if anything is
    Check,
    /// Print a commented tierkeep.toml that names every setting
    Template,
}

/// What stands for a secret.
const HIDDEN: &str = "***";

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
struct Shown<'a> {
    settings: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'static str,
    value: Option<&'a str>,
    source: String,
    secret: bool,
    has_effect: bool,
}

impl<'a> Row<'a> {
    fn of(effective: &'a Effective) -> Self {
        let secret = effective.setting.kind.is_secret();
        let value = if secret && effective.value.is_some() {
            Some(HIDDEN)
        } else {
            effective.text.as_deref()
        };
        let mut source = effective.source.to_string();
        if let Some(file) = &effective.file {
            let _ = write!(source, ", file {}", file.display());
        }
        Self {
            name: effective.setting.name,
            value,
            source,
            secret,
            has_effect: effective.setting.effect == Effect::Now,
        }
    }
}

fn show(context: &Context) -> anyhow::Result<Exit> {
    let shown = Shown {
        settings: context.loaded.all().map(Row::of).collect(),
    };
    context
        .output()
        .result(&shown, |shown| rows(&shown.settings))?;
    Problems::check(context.loaded.problems().to_vec())?;
    Ok(Exit::Done)
}

fn rows(rows: &[Row<'_>]) -> String {
    let width = |of: fn(&Row<'_>) -> usize| rows.iter().map(of).max().unwrap_or_default();
    let (names, values) = (
        width(|row| row.name.len()),
        width(|row| row.shown().chars().count()),
    );
    rows.iter().fold(String::new(), |mut text, row| {
        let effect = if row.has_effect {
            ""
        } else {
            " (no effect in this version)"
        };
        let (name, value, source) = (row.name, row.shown(), &row.source);
        let _ = writeln!(text, "{name:names$}  {value:values$}  {source}{effect}");
        text
    })
}

impl Row<'_> {
    fn shown(&self) -> &str {
        match self.value {
            Some(_) if self.secret => "*** (set)",
            Some(value) => value,
            None => "-",
        }
    }
}

#[derive(Serialize)]
struct Checked {
    ok: bool,
    problems: Vec<Problem>,
    without_effect: Vec<&'static str>,
}

fn check(context: &Context) -> anyhow::Result<Exit> {
    let result = ServiceSettings::of(&context.loaded);
    let without_effect = context.loaded.without_effect();
    match (context.format, result) {
        (Format::Json, result) => {
            let problems = result
                .err()
                .map(|it| it.as_slice().to_vec())
                .unwrap_or_default();
            let checked = Checked {
                ok: problems.is_empty(),
                problems,
                without_effect,
            };
            context.output().result(&checked, |_| String::new())?;
            Ok(if checked.ok { Exit::Done } else { Exit::Usage })
        }
        (Format::Text, result) => {
            say_without_effect(context, &context.loaded)?;
            result?;
            context.output().line("the configuration is complete")?;
            Ok(Exit::Done)
        }
    }
}

fn say_without_effect(context: &Context, loaded: &Loaded) -> Result<(), OutputError> {
    for name in loaded.without_effect() {
        context
            .output()
            .line(&format!("{name} has no effect in this version"))?;
    }
    Ok(())
}
