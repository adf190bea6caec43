//! What waits, has failed or cannot move.

use std::sync::Arc;

use tierkeep_core::clock;
use tierkeep_core::db::Role;
use tierkeep_core::mover::Status;
use tierkeep_core::store::StoreError;
use tierkeep_engine::{
    ConnectSettings, Engine, ErasureService, Finding, HrRecords, Inspector, MigrationService,
    Purpose, RecordFilter, Severity, UNREACHABLE,
};

use super::super::Context;
use super::PATIENCE;
use crate::config::Settings;
use crate::exit::{self, Exit};

/// How many are named.
const NAMED: usize = 5;

/// Looks at the data, where the databases can be opened.
pub(super) async fn examine(settings: &Settings, context: &Context) -> Vec<Finding> {
    let mut once = settings.clone();
    once.connect = ConnectSettings {
        retries: 0,
        ..settings.connect
    };
    let engine = match context.open(&once, Purpose::Look).await {
        Ok((engine, _)) => engine,
        Err(error) => {
            let check = match exit::of(&error) {
                Exit::Unreachable => UNREACHABLE,
                Exit::Done | Exit::Failed | Exit::Usage => "wiring",
            };
            let remedy = "mend what it names, and run tierkeep doctor again";
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
                "erasures of {} users have not reached every database, the first of {first}",
                pending.len()
            ),
            "tierkeep explain USER names the databases; a running tierkeep serve finishes it when they are back, \
             tierkeep erase USER at once",
        );
    }
    let records = HrRecords::new(Arc::clone(engine));
    if !engine.databases().away().contains(&Role::RaseenMainHr) && records.is_late(before).await? {
        warn(
            "hr_backup",
            Some(Role::SrieMainHr),
            format!(
                "{} HR records wait for their backup, some of them for more than a minute",
                records.pending().await?
            ),
            "see whether srie_main_hr is back and tierkeep serve runs, which delivers them; tierkeep backup does at once",
        );
    }
    Ok(findings)
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
    if status.paused {
        warn(
            "paused",
            None,
            "the movement is paused: nothing leaves raseen_temp_user".into(),
            "tierkeep migrate resume",
        );
    }
    if status.overdue > 0 {
        warn(
            "overdue",
            temp,
            format!(
                "{} documents should have moved by now, the oldest {} s ago",
                status.overdue, status.lag_seconds
            ),
            "see whether tierkeep serve runs and what it logs; tierkeep migrate run moves them at once",
        );
    }
    if status.failed > 0 {
        let filter = RecordFilter {
            status: Some(Status::Failed),
            user: None,
        };
        let page = Inspector::from(service)
            .migrations(&filter, None, NAMED)
            .await?;
        let named = page.records.iter().map(|record| {
            let reason = record.error.as_deref().unwrap_or("no reason was noted");
            format!("\n{}: {reason}", record.user_id)
        });
        warn(
            "failed",
            temp,
            format!(
                "{} moves have failed for good; the documents are safe in raseen_temp_user{}",
                status.failed,
                named.collect::<String>()
            ),
            "mend the reason, then tierkeep migrate retry --all, or --user ID",
        );
    }
    if status.quarantined > 0 {
        let named = Inspector::from(service).quarantined(NAMED).await?;
        let named = named
            .iter()
            .map(|marked| format!("\n_id {}: {}", marked.document_id, marked.reason));
        warn(
            "quarantined",
            temp,
            format!(
                "{} documents are quarantined and never move{}",
                status.quarantined,
                named.collect::<String>()
            ),
            "tierkeep quarantine show ID shows one: correct it in raseen_temp_user (user_id, created_at, one for each user) and \
             the next run looks again; where copies contradict each other, tierkeep quarantine release ID --keep temp|main|srie",
        );
    }
    let open = service.alerts().count_open().await?;
    if open > 0 {
        warn(
            "alerts",
            Some(Role::EvaluationAudit),
            format!("{open} alerts are open"),
            "tierkeep alerts list says which",
        );
    }
    Ok(findings)
}
