//! Whether data is safe now, in one sentence: owns what counts as trouble, and how bad it is.

use tierkeep_core::db::Role;
use tierkeep_engine::{Alert, AlertKind, MoverPhase, Status};

use super::words::{many, span};

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Level {
    Good,
    Attention,
    Bad,
}

/// The verdict.
#[derive(Debug)]
pub(super) struct Safety {
    pub(super) level: Level,
    /// What is not as it should be.
    pub(super) reasons: Vec<String>,
}

impl Level {
    /// The class of the style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Attention => "warn",
            Self::Bad => "bad",
        }
    }
}

impl Safety {
    /// What is known comes to this. `status` and `alerts` are `None` if they are unknown.
    pub(super) fn of(away: &[Role], status: Option<&Status>, alerts: Option<&[Alert]>) -> Self {
        let mut safety = Self {
            level: Level::Good,
            reasons: Vec::new(),
        };
        for role in away {
            let (level, so) = consequence(*role, away);
            safety.add(level, format!("{role} is unavailable: {so}"));
        }
        match status {
            Some(status) => safety.movement(status),
            None => safety.add(
                Level::Bad,
                "the databases did not report in time which documents are due".into(),
            ),
        }
        match alerts {
            Some(alerts) => safety.alerts(alerts),
            None => safety.add(Level::Attention, "the alerts cannot be read".into()),
        }
        safety
    }

    fn add(&mut self, level: Level, reason: String) {
        self.level = self.level.max(level);
        self.reasons.push(reason);
    }

    fn movement(&mut self, status: &Status) {
        let attention = Level::Attention;
        if status.due.is_none() {
            let unknown = "the number of due documents is unknown".into();
            self.add(Level::Bad, unknown);
        }
        if let (Some(overdue @ 1..), Some(lag)) = (status.overdue, status.lag_seconds) {
            let overdue = many(overdue, "document is", "documents are");
            let oldest = span(lag);
            self.add(
                attention,
                format!("{overdue} overdue, the oldest by {oldest}, and without a backup"),
            );
        }
        if let Some(failed @ 1..) = status.failed {
            let failed = many(
                failed,
                "move has failed permanently: its document stays",
                "moves have failed permanently: their documents stay",
            );
            self.add(
                attention,
                format!("{failed} in temp until the move is retried"),
            );
        }
        if let Some(quarantined @ 1..) = status.quarantined {
            let quarantined = many(quarantined, "document is", "documents are");
            self.add(
                attention,
                format!("{quarantined} quarantined and cannot be moved until repaired"),
            );
        }
        match status.mover.phase {
            MoverPhase::Paused => self.add(
                attention,
                "the mover is paused: no documents move until it is resumed".into(),
            ),
            MoverPhase::Stuck => self.add(
                Level::Bad,
                "documents are overdue and no process moves them".into(),
            ),
            MoverPhase::Unknown => self.add(attention, "the state of the mover is unknown".into()),
            MoverPhase::Idle | MoverPhase::Waiting | MoverPhase::Moving => {}
        }
    }

    fn alerts(&mut self, alerts: &[Alert]) {
        let bad = alerts.iter().filter(|alert| is_grave(alert.kind)).count();
        let others = alerts.len() - bad;
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        if bad > 0 {
            let alerts = many(count(bad), "critical alert is", "critical alerts are");
            self.add(Level::Bad, format!("{alerts} open"));
        }
        if others > 0 {
            let alerts = many(count(others), "alert is", "alerts are");
            self.add(Level::Attention, format!("{alerts} open"));
        }
    }

    /// The sentence.
    pub(super) fn sentence(&self) -> &'static str {
        match self.level {
            Level::Good => {
                "Data is safe: every database answers, nothing is overdue, and no alert is open."
            }
            Level::Attention => "Data is safe, but some items need attention.",
            Level::Bad => "Action needed now.",
        }
    }

    /// The level as one word.
    pub(super) fn word(&self) -> &'static str {
        match self.level {
            Level::Good => "Safe",
            Level::Attention => "Attention",
            Level::Bad => "Critical",
        }
    }
}

/// Whether an alert says that a document, its backup or the proof of what was done may be damaged. The others say that
/// something waits.
fn is_grave(kind: AlertKind) -> bool {
    match kind {
        AlertKind::AuditChainBroken
        | AlertKind::CopiesConflict
        | AlertKind::CorruptDocument
        | AlertKind::MigrationIncident
        | AlertKind::VerificationDifference
        | AlertKind::DatabaseHazard => true,
        AlertKind::MigrationFailed
        | AlertKind::ErasurePending
        | AlertKind::BackupLag
        | AlertKind::BreakerOpen
        | AlertKind::QuarantineGrowth
        | AlertKind::DocumentsOverdue
        | AlertKind::MoverPaused
        | AlertKind::MoverStalled => false,
    }
}

/// What users see while a database is away, and how bad that is.
pub(super) fn consequence(role: Role, away: &[Role]) -> (Level, &'static str) {
    match role {
        Role::ExternalUsers => (
            Level::Bad,
            "requests of external users are answered 503; acknowledged writes are kept",
        ),
        Role::RaseenTempUser => (
            Level::Bad,
            "writes of internal users are answered 503; acknowledged writes are kept",
        ),
        Role::RaseenMainUser if away.contains(&Role::SrieMainUser) => (
            Level::Bad,
            "the backup is unavailable too: reads of moved documents are answered 503, and no documents move",
        ),
        Role::RaseenMainUser => (
            Level::Bad,
            "reads of moved documents come from the backup, and no documents move",
        ),
        Role::EvaluationAudit => (
            Level::Bad,
            "decisions are spooled; moves, erasures and administrators' actions are not possible",
        ),
        Role::SrieMainUser => (
            Level::Attention,
            "requests are served; documents stay in temp until it is available again",
        ),
        Role::SrieMainHr => (
            Level::Attention,
            "HR records are written; their backup is pending",
        ),
        Role::RaseenMainHr => (Level::Attention, "HR records cannot be read or written"),
    }
}

#[cfg(test)]
mod tests {
    use tierkeep_engine::MoverStatus;

    use super::*;

    fn status() -> Status {
        Status {
            databases: Vec::new(),
            due: Some(0),
            overdue: Some(0),
            lag_seconds: Some(0),
            failed: Some(0),
            quarantined: Some(0),
            backup_pending: tierkeep_engine::BackupPending::default(),
            paused: Some(false),
            last_run: None,
            verified_up_to: None,
            mover: MoverStatus {
                phase: MoverPhase::Idle,
                holder: None,
                last_error: None,
            },
        }
    }

    #[test]
    fn nothing_wrong_is_good() {
        let safety = Safety::of(&[], Some(&status()), Some(&[]));
        assert_eq!(safety.level, Level::Good);
        assert!(safety.reasons.is_empty());
    }

    #[test]
    fn the_worst_of_all_reasons_counts() {
        let mut wrong = status();
        wrong.failed = Some(1);
        let safety = Safety::of(&[Role::SrieMainUser], Some(&wrong), Some(&[]));
        assert_eq!(safety.level, Level::Attention);
        assert_eq!(safety.reasons.len(), 2);
        let safety = Safety::of(&[Role::RaseenTempUser], Some(&wrong), Some(&[]));
        assert_eq!(safety.level, Level::Bad);
    }

    #[test]
    fn an_unknown_state_is_not_called_safe() {
        assert_eq!(Safety::of(&[], None, Some(&[])).level, Level::Bad);
        let unknown = Safety::of(&[], Some(&status()), None);
        assert_eq!(unknown.level, Level::Attention);
    }

    #[test]
    fn reads_come_from_the_backup_only_while_it_answers() {
        let said = |away: &[Role]| consequence(Role::RaseenMainUser, away).1;
        assert!(said(&[Role::RaseenMainUser]).contains("come from the backup"));
        let both = said(&[Role::RaseenMainUser, Role::SrieMainUser]);
        assert!(!both.contains("come from the backup"), "{both}");
    }

    #[test]
    fn a_count_that_is_unknown_is_trouble() {
        let mut unknown = status();
        (unknown.due, unknown.overdue) = (None, None);
        unknown.mover.phase = MoverPhase::Unknown;
        let safety = Safety::of(&[], Some(&unknown), Some(&[]));
        assert_eq!(safety.level, Level::Bad);
    }

    #[test]
    fn a_difference_between_main_and_its_backup_is_trouble_and_a_backlog_needs_attention() {
        let alert = |kind| Alert {
            kind,
            subject: "srie_main_user".into(),
            first_at: String::new(),
            last_at: String::new(),
            count: 1,
            resolved_at: None,
            message: String::new(),
        };
        let level = |kind| Safety::of(&[], Some(&status()), Some(&[alert(kind)])).level;
        assert_eq!(level(AlertKind::VerificationDifference), Level::Bad);
        assert_eq!(level(AlertKind::BackupLag), Level::Attention);
    }
}
