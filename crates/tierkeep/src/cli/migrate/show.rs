//! `migrate status`: owns how the status of the mover is shown.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use tierkeep_core::mover;
use tierkeep_engine::{Inspector, MigrationView, QuarantineView, RecordFilter, Status};

use super::super::{Context, status};
use crate::exit::Exit;

/// How many failed moves and how many quarantined documents are listed.
const LISTED: usize = 100;

/// The status of the mover.
#[derive(Serialize)]
struct Movement {
    #[serde(flatten)]
    status: Status,
    /// At most [`LISTED`]; none while `evaluation_audit` is away.
    failures: Option<Vec<MigrationView>>,
    /// At most [`LISTED`]; none while `evaluation_audit` is away.
    quarantine: Option<Vec<QuarantineView>>,
}

/// Shows what the mover is doing, and what has failed or is quarantined, with the reasons.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let look = context.look(&settings).await?;
    let inspector = Inspector::new(Arc::clone(&look.engine), settings.mover);
    let failed = RecordFilter {
        status: Some(mover::Status::Failed),
        user: None,
    };
    let (status, failures, quarantine) = tokio::join!(
        inspector.status(settings.scan_interval),
        inspector.migrations(&failed, None, LISTED),
        inspector.quarantined(LISTED),
    );
    let movement = Movement {
        status,
        failures: failures.ok().map(|page| page.records),
        quarantine: quarantine.ok(),
    };
    context.output().result(&movement, text)?;
    look.ends()
}

fn text(movement: &Movement) -> String {
    let mut text = status::movement(&movement.status);
    let failures = movement.failures.as_deref().unwrap_or_default();
    if !failures.is_empty() {
        text.push_str("\nfailed permanently, until `tierkeep migrate retry`:\n");
        for record in failures {
            let error = record.error.as_deref().unwrap_or("unknown");
            let _ = writeln!(text, "  {}: {error}", record.user_id);
        }
        more(&mut text, movement.status.failed, failures.len());
    }
    let quarantine = movement.quarantine.as_deref().unwrap_or_default();
    if !quarantine.is_empty() {
        text.push_str("\nquarantined, until they are corrected:\n");
        for document in quarantine {
            let _ = writeln!(text, "  {}: {}", document.document_id, document.reason);
        }
        more(&mut text, movement.status.quarantined, quarantine.len());
    }
    text
}

fn more(text: &mut String, all: Option<u64>, listed: usize) {
    let all = all.unwrap_or_default();
    let left = all.saturating_sub(u64::try_from(listed).unwrap_or(u64::MAX));
    if left > 0 {
        let _ = writeln!(text, "  and {left} more");
    }
}
