//! `migrate status`: owns where the movement stands.

use std::fmt::Write as _;

use serde::Serialize;
use tierkeep_engine::{MigrationService, Purpose, QuarantineView, Status};

use super::super::{Context, status};
use crate::exit::Exit;
use crate::open::open;

/// How many quarantined documents are listed.
const LISTED: usize = 100;

/// Where the movement stands.
#[derive(Serialize)]
struct Movement {
    #[serde(flatten)]
    status: Status,
    quarantine: Vec<QuarantineView>,
}

/// Shows what is due, what is quarantined and what the last run did.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let (databases, _) = open(&settings, Purpose::Look).await?;
    let service = MigrationService::new(databases, settings.mover);
    let movement = Movement {
        status: service.status(settings.scan_interval).await,
        quarantine: service.quarantined(LISTED).await?,
    };
    context.output().result(&movement, |movement| {
        let mut text = status::movement(&movement.status);
        for document in &movement.quarantine {
            let _ = writeln!(text, "  {}: {}", document.document_id, document.reason);
        }
        text
    })?;
    Ok(Exit::Done)
}
