//! From arguments to a verb: owns the order in which arguments are understood, settings are gathered and
//! logging starts.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use anyhow::Context as _;
use clap::FromArgMatches as _;
use tracing::level_filters::LevelFilter;

use super::{Cli, Command, Context, GlobalArgs, examples};
use crate::cli;
use crate::clock::SystemClock;
use crate::config::environment::{environment, no_color};
use crate::config::settings::log_format;
use crate::config::source::USUAL_CONFIG;
use crate::config::{Flag, Inputs, Loaded, LogFormat};
use crate::exit::{self, Exit};
use crate::output::Format;
use crate::telemetry::{self, Style};

/// Runs the verb that the arguments name, and says on stderr what went wrong.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let parsed = examples::command().try_get_matches_from(arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and versions go to stdout, complaints to stderr; neither minds a reader that has gone.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
        }
    };
    match prepare_and_dispatch(&cli) {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    }
}

fn prepare_and_dispatch(cli: &Cli) -> anyhow::Result<Exit> {
    let environment = environment();
    let colour = io::stderr().is_terminal() && !no_color(&environment);
    let inputs = Inputs {
        flags: flags(cli),
        environment,
        env_file: cli.global.env_file.clone(),
        config: cli.global.config.clone(),
        usual_config: Some(USUAL_CONFIG.into()),
    };
    let loaded = Loaded::gather(&inputs);
    let clock = Arc::new(SystemClock);
    let format = log_format(&loaded).unwrap_or_else(usual_log_format);
    let style = Style { format, colour };
    let traces = telemetry::init(style, level(cli), clock.clone(), &inputs.environment);

    let context = Context {
        inputs,
        loaded,
        format: result_format(&cli.global),
        clock,
        servers: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime could not be started")?;
    let exit = runtime.block_on(async {
        let exit = dispatch(&cli.command, &context).await;
        context.servers.close().await;
        exit
    });
    traces.end();
    exit
}

async fn dispatch(command: &Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Serve(args) => cli::serve::run(args, context).await,
        Command::Init(args) => cli::init::run(*args, context).await,
        Command::Migrate(command) => cli::migrate::run(command, context).await,
        Command::Simulate(args) => cli::simulate::run(args, context).await,
        Command::Status(args) => cli::status::run(*args, context).await,
        Command::Doctor(args) => cli::doctor::run(*args, context).await,
        Command::Explain(args) => cli::explain::run(args, context).await,
        Command::Erase(args) => cli::erase::run(args, context).await,
        Command::Export(args) => cli::export::run(args, context).await,
        Command::ImportDump(args) => cli::import_dump::run(args, context).await,
        Command::Verify(args) => cli::verify::run(args, context).await,
        Command::Restore(args) => cli::restore::run(args, context).await,
        Command::Backup(args) => cli::backup::run(*args, context).await,
        Command::ImportLegacy(args) => cli::legacy::import(args, context).await,
        Command::VerifyImport(args) => cli::legacy::verify(args, context).await,
        Command::Audit(command) => cli::audit::run(command, context).await,
        Command::Identity(command) => cli::identity::run(command, context).await,
        Command::Alerts(command) => cli::alerts::run(command, context).await,
        Command::Quarantine(command) => cli::quarantine::run(command, context).await,
        Command::Config(command) => cli::config::run(command, context),
        Command::Token(args) => cli::token::run(args, context).await,
        Command::Completions(args) => cli::completions::completions(*args, context),
        Command::Man => cli::completions::man(context),
    }
}

/// The options that stand for settings.
fn flags(cli: &Cli) -> Vec<Flag> {
    let listen = match &cli.command {
        Command::Serve(args) => args.listen.as_deref(),
        Command::Init(_)
        | Command::Migrate(_)
        | Command::Simulate(_)
        | Command::Status(_)
        | Command::Doctor(_)
        | Command::Explain(_)
        | Command::Erase(_)
        | Command::Export(_)
        | Command::ImportDump(_)
        | Command::Verify(_)
        | Command::Restore(_)
        | Command::Backup(_)
        | Command::ImportLegacy(_)
        | Command::VerifyImport(_)
        | Command::Audit(_)
        | Command::Identity(_)
        | Command::Alerts(_)
        | Command::Quarantine(_)
        | Command::Config(_)
        | Command::Token(_)
        | Command::Completions(_)
        | Command::Man => None,
    };
    let flag = |option, setting, value: &str| Flag {
        option,
        setting,
        value: value.to_owned(),
    };
    let data_dir = cli.global.data_dir.as_deref();
    data_dir
        .map(|value| flag("--data-dir", "TIERKEEP_DATA_DIR", value))
        .into_iter()
        .chain(listen.map(|value| flag("--listen", "TIERKEEP_LISTEN", value)))
        .collect()
}

fn result_format(global: &GlobalArgs) -> Format {
    if global.json {
        Format::Json
    } else {
        global.output
    }
}

fn usual_log_format() -> LogFormat {
    if io::stderr().is_terminal() {
        LogFormat::Text
    } else {
        LogFormat::Json
    }
}

/// A service tells what it does; other verbs are silent while all is well.
fn level(cli: &Cli) -> LevelFilter {
    let usual = match &cli.command {
        Command::Serve(_) => LevelFilter::INFO,
        Command::Init(_)
        | Command::Migrate(_)
        | Command::Simulate(_)
        | Command::Status(_)
        | Command::Doctor(_)
        | Command::Explain(_)
        | Command::Erase(_)
        | Command::Export(_)
        | Command::ImportDump(_)
        | Command::Verify(_)
        | Command::Restore(_)
        | Command::Backup(_)
        | Command::ImportLegacy(_)
        | Command::VerifyImport(_)
        | Command::Audit(_)
        | Command::Identity(_)
        | Command::Alerts(_)
        | Command::Quarantine(_)
        | Command::Config(_)
        | Command::Token(_)
        | Command::Completions(_)
        | Command::Man => LevelFilter::WARN,
    };
    telemetry::level(
        usual,
        i16::from(cli.global.verbose) - i16::from(cli.global.quiet),
    )
}
