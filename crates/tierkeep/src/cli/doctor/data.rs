//! What waits, has failed or cannot move.

use std::sync::Arc;
use std::time::Duration;

use indicatif::HumanDuration;
use tierkeep_core::clock;
use tierkeep_core::db::Role;
use tierkeep_core::mover::Status;
use tierkeep_core::store::StoreError;
use tierkeep_engine::{
    Engine, ErasureService, Finding, HrRecords, Inspector, MigrationService, RecordFilter,
    Severity, UNREACHABLE,
};

use super::super::Context;
use super::PATIENCE;
use crate::config::Settings;
use crate::exit::{self, Exit};

/// How many are named.
const NAMED: usize = 5;

/// Looks at the data, where the databases can be opened.
pub(super) async fn examine(settings: &Settings, context: &Context) -> Vec<Finding> {
    let engine = match context.look_again(settings).await {
        Ok(look) => look.engine,
        Err(error) => {
            let check = match exit::of(&error) {
                Exit::Unreachable => UNREACHABLE,
                Exit::Done | Exit::Failed | Exit::Usage => "wiring",
            };
            let remedy = "fix the reported problem, and run tierkeep doctor again";
            let message = error.to_string();
            return vec![Finding::new(check, Severity::Error, None, message, remedy)];
        }
    };
    let service = MigrationService::new(Arc::clone(&engine), settings.mover);
    let found = async {
        let mut findings = movement(&service, settings).await?;
        findings.extend(late(&engine).await?);
        Ok(findings)
    };
    found
        .await
        .unwrap_or_else(|error: StoreError| vec![Finding::unanswered(&error)])
}

/// What should have reached another database by now.
async fn late(engine: &Arc<Engine>) -> Result<Vec<Finding>, StoreError> {
    let before = clock::before(engine.clock().now(), PATIENCE);
    let mut findings = Vec::new();
    let mut warn = |check, database, message: String, remedy: &str| {
        let severity = Severity::Warning;
        findings.push(Finding::new(check, severity, database, message, remedy));
    };
    let erasures = ErasureService::new(Arc::clone(engine));
    let pending = erasures.pending_since(before).await?;
    if let Some(first) = pending.first() {
        warn(
            "erasures",
            Some(Role::EvaluationAudit),
            format!(
                "erasures of {} users are pending in some databases, the oldest since {first}",
                pending.len()
            ),
            "tierkeep explain USER names the databases; a running tierkeep serve completes the erasures when they are \
             available again, tierkeep erase USER does it at once",
        );
    }
    let records = HrRecords::new(Arc::clone(engine));
    if !engine.databases().away().contains(&Role::RaseenMainHr) && records.is_late(before).await? {
        warn(
            "hr_backup",
            Some(Role::SrieMainHr),
            format!(
                "{} HR records have no backup yet, some of them for more than a minute",
                records.pending().await?
            ),
            "check that srie_main_hr is available and that tierkeep serve runs, which delivers them; tierkeep backup \
             delivers them at once",
        );
    }
    Ok(findings)
}

/// This count with the matching noun.
fn many(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

async fn movement(
    service: &MigrationService,
    settings: &Settings,
) -> Result<Vec<Finding>, StoreError> {
    let inspector = Inspector::from(service);
    let status = inspector.status(settings.scan_interval).await;
    let mut findings = Vec::new();
    let mut warn = |check, database, message: String, remedy: &str| {
        let severity = Severity::Warning;
        findings.push(Finding::new(check, severity, database, message, remedy));
    };
    let temp = Some(Role::RaseenTempUser);
    if status.paused == Some(true) {
        warn(
            "paused",
            None,
            "the mover is paused: no documents leave raseen_temp_user".into(),
            "tierkeep migrate resume",
        );
    }
    if let (Some(overdue @ 1..), Some(lag)) = (status.overdue, status.lag_seconds) {
        let oldest = HumanDuration(Duration::from_secs(lag));
        warn(
            "overdue",
            temp,
            format!(
                "{} moved already, the oldest {oldest} ago",
                many(overdue, "document should have", "documents should have")
            ),
            "check that tierkeep serve runs, and read its log; tierkeep migrate run moves them at once",
        );
    }
    if let Some(failed @ 1..) = status.failed {
        let filter = RecordFilter {
            status: Some(Status::Failed),
            user: None,
        };
        let page = Inspector::from(service)
            .migrations(&filter, None, NAMED)
            .await?;
        let named = page.records.iter().map(|record| {
            let reason = record.error.as_deref().unwrap_or("no reason recorded");
            format!("\n{}: {reason}", record.user_id)
        });
        warn(
            "failed",
            temp,
            format!(
                "{} failed permanently; the documents are still in raseen_temp_user{}",
                many(failed, "move has", "moves have"),
                named.collect::<String>()
            ),
            "fix the cause, then run tierkeep migrate retry --all, or --user ID",
        );
    }
    if let Some(quarantined @ 1..) = status.quarantined {
        let named = Inspector::from(service).quarantined(NAMED).await?;
        let named = named
            .iter()
            .map(|marked| format!("\n_id {}: {}", marked.document_id, marked.reason));
        warn(
            "quarantined",
            temp,
            format!(
                "{} quarantined and cannot be moved{}",
                many(quarantined, "document is", "documents are"),
                named.collect::<String>()
            ),
            "tierkeep quarantine show ID shows a document: correct it in raseen_temp_user (user_id, created_at, one \
             document per user), and the next run checks it again; if copies conflict, run tierkeep quarantine release \
             ID --keep temp|main|srie",
        );
    }
    let open = service.alerts().count_open().await?;
    if open > 0 {
        warn(
            "alerts",
            Some(Role::EvaluationAudit),
            format!("{} open", many(open, "alert is", "alerts are")),
            "tierkeep alerts list shows them",
        );
    }
    Ok(findings)
}
