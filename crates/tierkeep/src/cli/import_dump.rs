//! `import-dump`: owns taking in the files of a dump.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use tierkeep_core::audit::Kind;
use tierkeep_engine::{DumpService, Imported, Purpose};

use super::export::Bar;
use super::{Context, audit};
use crate::exit::Exit;

/// Arguments of `import-dump`.
#[derive(Args, Clone, Debug)]
pub struct ImportDumpArgs {
    /// A directory that `tierkeep export` or mongodump wrote
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Only look at the files and count what would become of each document
    #[arg(long)]
    pub dry_run: bool,
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
    if !args.dry_run {
        audit::does(engine.audit_trail(), Kind::Import, "import-dump", None).await?;
    }
    let bar = Bar::new(context);
    let imported = DumpService::new(engine)
        .import(&args.directory, args.dry_run, &bar)
        .await;
    bar.0.finish_and_clear();
    let imported = imported?;
    context.output().result(&imported, text)?;
    Ok(if imported.refused > 0 {
        Exit::Failed
    } else {
        Exit::Done
    })
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
    for refusal in &imported.refusals {
        let _ = write!(
            text,
            "\nrefused: {}.{} {}: {}",
            refusal.database, refusal.collection, refusal.id, refusal.reason
        );
    }
    text
}
