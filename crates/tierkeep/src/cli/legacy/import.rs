//! `import-legacy`: owns bringing in the predecessor's data.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::bson::{self, raw::RawDocumentBuf};
use tierkeep_core::legacy::secrets;
use tierkeep_engine::Purpose;
use tierkeep_legacy::{Followed, Importer, Refusals, RefusedLine, Report};
use tokio_util::sync::CancellationToken;

use super::super::{Context, audit};
use super::{Bar, ReadingArgs, importer, text};
use crate::config::{ImportSettings, units};
use crate::exit::{Exit, UsageError};
use crate::lifecycle;

/// Arguments of `import-legacy`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// Write nothing, but report the outcomes
    #[arg(long)]
    pub dry_run: bool,
    /// What is read, and how.
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Write every refused document to this file, one JSON object per line, without its secrets
    #[arg(long, value_name = "FILE")]
    pub refused: Option<PathBuf>,
    /// Continue with later changes until Ctrl-C; needs a replica set
    #[arg(long, conflicts_with = "dry_run")]
    pub follow: bool,
    /// With --follow: exit after this long without a change
    #[arg(long, value_name = "DURATION", value_parser = units::duration, requires = "follow")]
    pub until_idle: Option<Duration>,
}

#[derive(Serialize)]
struct ImportReport {
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    followed: Option<Followed>,
}

/// Brings in the predecessor's data.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached. What was imported stays; another run continues.
pub(in super::super) async fn run(args: &ImportArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = ImportSettings::of(&context.loaded)?;
    let refused = args.refused.as_deref().map(create).transpose()?;
    let purpose = if args.dry_run {
        Purpose::Look
    } else {
        Purpose::Work
    };
    let (importer, engine) =
        importer(context, settings, purpose, &args.reading, args.dry_run).await?;
    if !args.dry_run {
        let trail = engine.audit_trail();
        audit::does(trail, AuditKind::Import, "import-legacy", None).await?;
    }
    let stop = CancellationToken::new();
    lifecycle::cancel_on_signal(stop.clone());
    let bar = Bar::of(context);
    let done = if args.follow {
        let done = importer.follow(args.until_idle, &bar, &stop).await;
        done.map(|(report, refusals, followed)| (report, refusals, Some(followed)))
    } else {
        let done = importer.run(&bar, &stop).await;
        done.map(|(report, refusals)| (report, refusals, None))
    };
    drop(bar);
    let (report, refusals, followed) = done?;
    if let Some((path, file)) = refused {
        let written = write_refused(&importer, &refusals, file).await;
        written
            .map_err(|error| anyhow::anyhow!("{} cannot be written: {error}", path.display()))?;
    }
    let stopped = report.stopped && !args.follow;
    let outcome = ImportReport { report, followed };
    context.output().result(&outcome, |it| {
        let mut text = text::report(&it.report);
        if let Some(followed) = &it.followed {
            let line = format!(
                "\nfollowed {} changes of {} users, {} s behind at the end\n",
                followed.changes, followed.users, followed.lag.0
            );
            text.push_str(&line);
            if followed.restarts > 0 {
                let line = format!(
                    "restarted {} times from a full copy: the source was dropped, or its change history was too \
                     short\n",
                    followed.restarts
                );
                text.push_str(&line);
            }
        }
        text
    })?;
    Ok(if stopped { Exit::Failed } else { Exit::Done })
}

/// Made before anything is imported, so that a wrong path is reported at the beginning and not at the end.
fn create(path: &Path) -> Result<(PathBuf, File), UsageError> {
    let file = File::create(path).map_err(|error| UsageError {
        message: format!("--refused {}: {error}", path.display()),
        remedy: Some("give a path that this user can write to".to_owned()),
    })?;
    Ok((path.to_owned(), file))
}

async fn write_refused(importer: &Importer, refusals: &Refusals, file: File) -> anyhow::Result<()> {
    let mut file = BufWriter::new(file);
    // One at a time: together they may be as large as the source.
    let mut written = Ok(());
    importer
        .refused_documents(refusals, |line, document| {
            if written.is_ok() {
                written = write_line(&mut file, line, document);
            }
        })
        .await?;
    written?;
    Ok(file.flush()?)
}

fn write_line(
    file: &mut BufWriter<File>,
    line: &RefusedLine,
    document: Option<RawDocumentBuf>,
) -> io::Result<()> {
    let document = document.map(|document| {
        let document = secrets::without(&document).map_or(document, |(kept, _)| kept);
        // A text that is not UTF-8 is shown with U+FFFD, and keeps nothing else from being shown.
        bson::Utf8Lossy::<bson::Document>::try_from(&document)
            .map(|document| bson::Bson::Document(document.0).into_canonical_extjson())
            .ok()
    });
    let line = json!({
        "collection": line.collection,
        "id": line.id,
        "reason": line.reason,
        "document": document,
    });
    serde_json::to_writer(&mut *file, &line)?;
    file.write_all(b"\n")
}
