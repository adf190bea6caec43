//! `import-dump`: owns taking in the files of a dump.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use tierkeep_core::audit::AuditKind;
use tierkeep_engine::{DumpError, DumpService, ImportOptions, Imported, Purpose};

use super::progress::Progress;
use super::{Context, audit};
use crate::exit::Exit;

/// Arguments of `import-dump`.
#[derive(Args, Clone, Debug)]
pub struct ImportDumpArgs {
    /// A directory that `tierkeep export` or mongodump wrote
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Only read the files and count the outcomes of the documents
    #[arg(long)]
    pub dry_run: bool,
    /// Import only this database of the dump, by the name of its directory; can be repeated
    #[arg(long = "database", value_name = "NAME")]
    pub databases: Vec<String>,
}

/// Takes a dump in.
///
/// # Errors
/// A dump that is not whole or holds what has no place here, and then nothing was written; wrong configuration;
/// databases that cannot be reached.
pub async fn run(args: &ImportDumpArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let purpose = if args.dry_run {
        Purpose::Look
    } else {
        Purpose::Work
    };
    let (engine, _) = context.open(&settings, purpose).await?;
    let trail = engine.audit_trail().clone();
    if !args.dry_run {
        audit::does(&trail, AuditKind::Import, "import-dump", None).await?;
    }
    let options = ImportOptions {
        dry_run: args.dry_run,
        databases: args.databases.iter().cloned().collect(),
    };
    let progress = Progress::of(context, "imported");
    let imported = DumpService::new(engine)
        .import(&args.directory, &options, &progress)
        .await;
    drop(progress);
    if !args.dry_run {
        let told = audit::ended(
            &trail,
            AuditKind::Import,
            "import-dump",
            &outcome(&imported),
        )
        .await;
        // What stopped the import is said first; where it was evaluation_audit that is away, the entry cannot be made.
        if imported.is_ok() {
            told?;
        }
    }
    let imported = imported?;
    context.output().result(&imported, text)?;
    Ok(if imported.refused > 0 {
        Exit::Failed
    } else {
        Exit::Done
    })
}

/// What the audit trail says of the end.
fn outcome(imported: &Result<Imported, DumpError>) -> String {
    match imported {
        Ok(it) => format!(
            "imported {} of {} documents, refused {}",
            it.imported, it.documents, it.refused
        ),
        Err(DumpError::Broken { problems, .. }) => {
            let count = problems.len();
            let first = problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            format!("refused before anything was written: {count} problems, first: {first}")
        }
        Err(error) => format!("ended early: {error}"),
    }
}

fn text(imported: &Imported) -> String {
    let verb = if imported.dry_run {
        "would import"
    } else {
        "imported"
    };
    let mut text = format!(
        "{verb} {} of {} documents in {} files\n\
         unchanged: {}, newer kept: {}, erased since: {}, skipped: {}, refused: {}",
        imported.imported,
        imported.documents,
        imported.files,
        imported.unchanged,
        imported.newer_kept,
        imported.erased,
        imported.skipped,
        imported.refused,
    );
    for left in &imported.passed_over {
        let _ = write!(text, "\nnot imported: {left}");
    }
    for refusal in &imported.refusals {
        let _ = write!(
            text,
            "\nrefused: {}.{} {}: {}",
            refusal.database, refusal.collection, refusal.id, refusal.reason
        );
    }
    text
}
