//! `/ui/backup`: whether main and its backup agree, and how documents are restored.

use std::fmt::Write as _;

use askama::Template;
use axum::extract::State;
use tierkeep_core::db::Role;
use tierkeep_engine::{Alert, AlertKind, Inspector, Status, Verified};

use super::alerts::title;
use super::operator::Operator;
use super::overview::within;
use super::page::{Frame, PageResult, Place, ok};
use super::words::{Words, many, number};
use crate::http::state::HttpState;

/// How many findings a notice names.
const NAMED: usize = 5;
/// What says how long the service takes to compare everything once.
const PERIOD: &str = "TIERKEEP_VERIFY_PERIOD";

#[derive(Template)]
#[template(path = "ui/backup.html")]
struct BackupPage {
    frame: Frame,
    words: Words,
    pairs: Vec<Pair>,
    alerts: Option<Vec<Alert>>,
    period: Option<String>,
    /// RFC 3339; none before the first.
    verified_up_to: Option<String>,
    /// `evaluation_audit` did not say.
    is_unknown: bool,
}

/// A database and its backup.
struct Pair {
    what: &'static str,
    main: &'static str,
    srie: &'static str,
    in_main: Option<String>,
    in_srie: Option<String>,
    pending: Option<String>,
    waits: &'static str,
}

/// The state of the backup.
pub(super) async fn get(State(state): State<HttpState>, by: Operator) -> PageResult {
    let service = &state.mover.service;
    let status = async {
        Ok::<_, ()>(
            Inspector::from(service)
                .status(state.mover.scan_interval)
                .await,
        )
    };
    let (status, alerts) = tokio::join!(within(status), within(service.open_alerts()));
    let of_backup = |alert: &Alert| {
        matches!(
            alert.kind,
            AlertKind::BackupLag | AlertKind::VerificationDifference
        )
    };
    let settings = state.settings.iter();
    ok(&BackupPage {
        frame: Frame::inside("Backup", Some(Place::Backup), &by),
        words: by.words,
        pairs: pairs(status.as_ref()),
        // Without an answer of the audit database it is unknown, which is told apart by the pause.
        is_unknown: status.as_ref().is_none_or(|it| it.paused.is_none()),
        verified_up_to: status.and_then(|status| status.verified_up_to),
        alerts: alerts.map(|alerts| alerts.into_iter().filter(of_backup).collect()),
        period: settings
            .filter(|setting| setting.name == PERIOD)
            .find_map(|setting| setting.value.clone()),
    })
}

fn pairs(status: Option<&Status>) -> Vec<Pair> {
    let documents = |role: Role| {
        let mut rows = status?.databases.iter();
        rows.find(|row| row.name == role)?.documents.map(number)
    };
    let pending = status.map(|status| status.backup_pending);
    let pair = |what, main: Role, srie: Role, pending: Option<u64>, waits| Pair {
        what,
        main: main.name(),
        srie: srie.name(),
        in_main: documents(main),
        in_srie: documents(srie),
        pending: pending.map(number),
        waits,
    };
    vec![
        pair(
            "Internal users",
            Role::RaseenMainUser,
            Role::SrieMainUser,
            pending.and_then(|pending| pending.user),
            "moves started and not completed",
        ),
        pair(
            "HR records",
            Role::RaseenMainHr,
            Role::SrieMainHr,
            pending.and_then(|pending| pending.hr),
            "records not yet written to the backup",
        ),
    ]
}

/// What a comparison found, in a few sentences.
pub(super) fn told(found: &Verified) -> String {
    let compared = many(found.checked, "document was", "documents were");
    if !found.complete {
        return format!(
            "The comparison stopped before the end: {compared} compared; {} matched.",
            number(found.matched)
        );
    }
    let differ = found.missing_in_backup + found.missing_in_main + found.different;
    let mut text = format!("{compared} compared: ");
    if differ == 0 {
        text.push_str("main and its backup agree.");
    } else {
        let _ = write!(
            text,
            "{} missing in the backup, {} missing in main, {} different.",
            number(found.missing_in_backup),
            number(found.missing_in_main),
            number(found.different),
        );
    }
    if found.in_flight > 0 {
        let moving = many(found.in_flight, "document was", "documents were");
        let _ = write!(text, " {moving} being moved or written.");
    }
    for finding in found.findings.iter().take(NAMED) {
        let _ = write!(
            text,
            " {} {}: {}.",
            finding.collection,
            finding.id,
            finding.class.as_str().replace('_', " "),
        );
    }
    if differ > 0 {
        text.push_str(
            " To list all differences: tierkeep verify. To repair them: tierkeep verify --repair.",
        );
    }
    text
}
