//! The command line: owns its grammar and the way from arguments to a verb.
//!
//! Each verb is one file with a `run` that takes its arguments and a [`Context`] and answers an
//! [`Exit`](crate::exit::Exit). Verbs must never read the environment or write to stdout but through the
//! context. Where to look: [`context`] (what verbs get), [`start`] (what happens before them).

pub mod alerts;
pub mod audit;
pub mod backup;
pub mod completions;
pub mod config;
pub mod context;
pub mod doctor;
pub mod erase;
mod examples;
pub mod explain;
pub mod export;
pub mod identity;
pub mod import_dump;
pub mod init;
pub mod legacy;
mod listeners;
pub mod migrate;
mod progress;
pub mod quarantine;
mod question;
pub mod restore;
pub mod serve;
pub mod simulate;
pub mod start;
pub mod status;
pub mod token;
pub mod verify;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

pub use context::Context;

use crate::output::Format;

const AFTER_HELP: &str = "\
Settings come from flags, the environment and ./tierkeep.toml, in this order; \
`tierkeep config template` lists them all. With --data-dir, no other setting is needed.

Exit codes: 0 done, 1 failed or differences found, 2 wrong usage or configuration, 3 a database is unavailable.";

/// Identifies callers, stores each user's document in one of seven databases, and moves internal users' documents when
/// their retention has passed.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "tierkeep",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = AFTER_HELP)]
pub struct Cli {
    /// What every verb understands.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// What every verb understands; accepted before and after it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Read settings from this file [default: ./tierkeep.toml, if it exists]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Read variables from this file too; the environment takes precedence
    #[arg(long, value_name = "FILE", global = true)]
    pub env_file: Option<PathBuf>,
    /// Keep each database in its own file in this directory; no server needed
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<String>,
    /// Output format
    #[arg(short, long, value_name = "text|json", global = true, value_enum)]
    #[arg(default_value = "text", hide_possible_values = true)]
    pub output: Format,
    /// Short for -o json
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more; repeat for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Log less; repeat for nothing
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "verbose")]
    pub quiet: u8,
}

/// The verbs.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Serve HTTP and move documents when they are due
    Serve(serve::ServeArgs),
    /// Create collections and indexes where they are missing; safe to repeat
    Init(init::InitArgs),
    /// Move due documents of internal users to the main database and its backup
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Show how many documents will move and when, without moving them
    Simulate(simulate::SimulateArgs),
    /// Show the databases, due documents and failures
    Status(status::StatusArgs),
    /// Find problems in settings, servers, databases and data, each with its remedy
    ///
    /// Prints nothing and exits with 0 if it finds no problem. Changes nothing. Other exit codes: 1 a problem was
    /// found, 2 the configuration is wrong, 3 a database is unavailable.
    Doctor(doctor::DoctorArgs),
    /// Show one user: every copy, which one is current, and what happens next
    Explain(explain::ExplainArgs),
    /// Permanently erase one user's content from every database
    Erase(erase::EraseArgs),
    /// Write every database, or one user's data, to files
    Export(export::ExportArgs),
    /// Import files that `export` or mongodump wrote; keeps newer documents and erasures
    ImportDump(import_dump::ImportDumpArgs),
    /// Compare main with its backup, document by document, and repair differences
    Verify(verify::VerifyArgs),
    /// Restore documents from the backup to main; keeps newer documents in main
    Restore(restore::RestoreArgs),
    /// Copy documents that have no backup from main to srie
    Backup(backup::BackupArgs),
    /// Import a predecessor's database, which is only read; a repeated run continues
    ImportLegacy(legacy::ImportArgs),
    /// Compare a predecessor's database with what was imported from it
    VerifyImport(legacy::VerifyArgs),
    /// Show, verify or prune the audit trail
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show or remove the binding of an internal user to a GitHub account
    #[command(subcommand)]
    Identity(identity::IdentityCommand),
    /// Show alerts, or test their delivery
    #[command(subcommand)]
    Alerts(alerts::AlertsCommand),
    /// Show documents that cannot be moved, and resolve conflicts between copies
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
    /// Show or check the settings, or print a template
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a JWT, if this process has the signing secret
    ///
    /// With a data directory, the secret is the directory's own unless another is set. On MongoDB, a token is valid
    /// for at most 12h and is recorded in the audit trail.
    Token(token::TokenArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual, one page per command
    Man,
}

/// An empty table for a person.
pub(crate) fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_header(header.iter().copied());
    table
}
