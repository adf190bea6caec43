//! `verify-import`: owns the comparison of the predecessor's data with what was imported.

use clap::Args;
use tierkeep_engine::Purpose;
use tokio_util::sync::CancellationToken;

use super::super::Context;
use super::{Bar, ReadingArgs, importer, text};
use crate::config::ImportSettings;
use crate::exit::Exit;
use crate::lifecycle;

/// Arguments of `verify-import`; those of the import, where it had any.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// What is read, and how.
    #[command(flatten)]
    pub reading: ReadingArgs,
}

/// Compares source and result.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub(in super::super) async fn run(args: &VerifyArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = ImportSettings::of(&context.loaded)?;
    let (importer, _) = importer(context, settings, Purpose::Look, &args.reading, true).await?;
    let stop = CancellationToken::new();
    lifecycle::cancel_on_signal(stop.clone());
    let bar = Bar::of(context);
    let found = importer.verify(&bar, &stop).await;
    drop(bar);
    let found = found?;
    context.output().result(&found, text::verification)?;
    Ok(if found.has_differences() || stop.is_cancelled() {
        Exit::Failed
    } else {
        Exit::Done
    })
}
