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
`tierkeep config template` lists them all. With --data-dir nothing else is needed.

Exit codes: 0 done, 1 failed or differences found, 2 wrong usage or configuration, \
3 a database could not be reached.";

/// Decides who is asking, stores each user's document in the right one of seven databases, and moves
/// internal users' documents after their retention.
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
    /// Read variables from this file too; those of the process win
    #[arg(long, value_name = "FILE", global = true)]
    pub env_file: Option<PathBuf>,
    /// Keep every database in one file under this directory; no server needed
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<String>,
    /// The form of results
    #[arg(short, long, value_name = "text|json", global = true, value_enum)]
    #[arg(default_value = "text", hide_possible_values = true)]
    pub output: Format,
    /// Short for -o json
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Log less; twice for nothing
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
    /// Move internal users' documents that are due to their main database and its backup
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Show what will move when, and how much, without moving anything
    Simulate(simulate::SimulateArgs),
    /// Show every database, what is due and what went wrong, at a glance
    Status(status::StatusArgs),
    /// Find what is wrong with settings, servers, databases and data, and say how to mend it
    ///
    /// Prints nothing and ends with 0 where all is well. Changes nothing. Exit codes: 1 something is wrong, 2 the
    /// configuration is, 3 a database could not be reached.
    Doctor(doctor::DoctorArgs),
    /// Show one user: every copy, which one counts, and what happens next
    Explain(explain::ExplainArgs),
    /// Erase one user's content from every database, for good
    Erase(erase::EraseArgs),
    /// Write every database, or one user's data, to files
    Export(export::ExportArgs),
    /// Take in files that `export` or mongodump wrote; newer documents and erasures stay
    ImportDump(import_dump::ImportDumpArgs),
    /// Compare main with its backup, document by document, and mend what differs
    Verify(verify::VerifyArgs),
    /// Bring documents back from the backup to main; what is newer in main stays
    Restore(restore::RestoreArgs),
    /// Copy to the backup whatever main holds that has none
    Backup(backup::BackupArgs),
    /// Bring in a predecessor's database; it is only read, and running again goes on
    ImportLegacy(legacy::ImportArgs),
    /// Compare a predecessor's database with what was imported from it
    VerifyImport(legacy::VerifyArgs),
    /// Show, verify or prune the audit trail
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show which internal user is bound to a GitHub account, or let one bind anew
    #[command(subcommand)]
    Identity(identity::IdentityCommand),
    /// Show what an operator has to hear of, or test whether messages arrive
    #[command(subcommand)]
    Alerts(alerts::AlertsCommand),
    /// Show documents that cannot be moved and why, and say which of contradicting copies counts
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
    /// Show, check or write down the settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a JWT, where this process has the secret that signs them
    ///
    /// With a data directory the secret is the directory's own, unless another is set. On MongoDB a token is valid for 12h at
    /// most, and stands in the audit trail.
    Token(token::TokenArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual, a page for each command
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
