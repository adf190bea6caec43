//! `export`: owns dumps of every database and of one user's data.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::db::Role;
use tierkeep_core::store::StoreError;
use tierkeep_core::user::UserId;
use tierkeep_engine::{AuditTrail, DumpService, Exported, PersonExported, Purpose};

use super::progress::Progress;
use super::{Context, audit, explain};
use crate::config::settings::user_sections;
use crate::config::{Backend, Settings};
use crate::exit::{Exit, UsageError};
use crate::open;

/// Arguments of `export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// The directory to write to; it must be empty or not exist
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Write only this user's data, as JSON: a user id, 24 hex digits, or a public user name, in any letter case
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,
    /// Compress the files like mongodump --gzip
    #[arg(long, conflicts_with = "user")]
    pub gzip: bool,
    /// Copy the data directory, also while it is in use; the copy can be used as --data-dir
    #[arg(long, conflicts_with_all = ["user", "gzip"])]
    pub sqlite: bool,
}

/// Writes every database in mongodump's directory format, or one user's data as JSON.
///
/// # Errors
/// A directory that is not empty; a user without any stored data; wrong configuration; databases that cannot
/// be reached; files that cannot be written.
pub async fn run(args: &ExportArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    DumpService::check_new(&args.directory)?;
    if let Some(user) = &args.user {
        let candidates = explain::meant(user)?;
        let sections = user_sections(&context.loaded)?;
        let (engine, _) = context.open(&settings, Purpose::Work).await?;
        let trail = engine.audit_trail().clone();
        note(&trail, "export", candidates.first(), &args.directory).await?;
        let exported = DumpService::new(engine)
            .export_user(&args.directory, &candidates, &sections, settings.mover)
            .await?;
        context.output().result(&exported, of_user)?;
    } else if args.sqlite {
        copy(args, context, &settings).await?;
    } else {
        let (engine, _) = context.open(&settings, Purpose::Work).await?;
        note(engine.audit_trail(), "export", None, &args.directory).await?;
        let progress = Progress::of(context, "exported");
        let progress = progress.counting(&engine, &Role::ALL).await;
        let exported = DumpService::new(engine)
            .export(&args.directory, args.gzip, &progress)
            .await;
        drop(progress);
        context.output().result(&exported?, of_all)?;
    }
    Ok(Exit::Done)
}

/// Writes into the trail what is about to be written where: an erasure names it later.
async fn note(
    trail: &AuditTrail,
    action: &str,
    whom: Option<&UserId>,
    directory: &Path,
) -> Result<(), StoreError> {
    let draft = trail.draft(AuditKind::AdminAction).about(whom);
    let draft = draft.by(Some(audit::COMMAND_LINE)).decided(action);
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    trail
        .record(draft.because(&absolute.display().to_string()))
        .await
}

#[derive(Serialize)]
struct Copied {
    directory: PathBuf,
    bytes: u64,
}

/// Copies the data directory.
async fn copy(args: &ExportArgs, context: &Context, settings: &Settings) -> anyhow::Result<()> {
    let Backend::Embedded { data_dir } = &settings.backend else {
        return Err(UsageError {
            message: "--sqlite copies a data directory, but the databases are on MongoDB".into(),
            remedy: Some("omit --sqlite, or use mongodump".into()),
        }
        .into());
    };
    // Opening tells whether it is a deployment's, and whole.
    let (engine, _) = context.open(settings, Purpose::Work).await?;
    note(engine.audit_trail(), "copy", None, &args.directory).await?;
    let copied = Copied {
        directory: args.directory.clone(),
        bytes: open::copy(data_dir, &args.directory).await?,
    };
    context.output().result(&copied, |it| {
        format!(
            "copied {} bytes to {}; the copy can be used as --data-dir",
            it.bytes,
            it.directory.display()
        )
    })?;
    Ok(())
}

fn of_all(exported: &Exported) -> String {
    let mut table = super::table(&["database", "documents"]);
    for database in &exported.databases {
        table.add_row([database.name.to_string(), database.documents.to_string()]);
    }
    format!(
        "{table}\n\nexported {} documents, {} bytes in {} files, to {}\n\
         the files hold all users' data and the keys in evaluation_audit: protect them like the databases",
        exported.documents,
        exported.bytes,
        exported.files,
        exported.directory.display(),
    )
}

fn of_user(exported: &PersonExported) -> String {
    let mut text = format!(
        "exported {}, {} bytes, to {}",
        exported.user_id,
        exported.bytes,
        exported.file.display()
    );
    if exported.inexact > 0 {
        let values = exported.inexact;
        let told = format!(
            "\n{values} values cannot be represented exactly in JSON; the file lists them under inexact"
        );
        text.push_str(&told);
    }
    for role in &exported.unreachable {
        text.push_str("\nunavailable, and may hold another copy: ");
        text.push_str(role.name());
    }
    text
}
