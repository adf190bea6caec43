//! Every metric, once: its name, its labels and what it says. The page about them is held against this table.

use tierkeep_core::db::Role;
use tierkeep_engine::MoveOutcome;

/// What a metric does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// It only grows, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It says how often something took how long.
    Histogram,
}

impl MetricKind {
    /// The kind as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Every value of its one label, where these are few.
    pub values: Option<fn() -> Vec<&'static str>>,
    /// What it says.
    pub help: &'static str,
}

/// What may be found out about who is asking.
pub const DECISIONS: [&str; 7] = [
    "internal",
    "external",
    "ambiguous",
    "credentials_required",
    "identity_unavailable",
    "invalid_username",
    "ambiguous_identity",
];

fn databases() -> Vec<&'static str> {
    Role::ALL.map(Role::name).into()
}

fn outcomes() -> Vec<&'static str> {
    MoveOutcome::ALL.map(MoveOutcome::as_str).into()
}

fn decisions() -> Vec<&'static str> {
    DECISIONS.into()
}

fn kinds() -> Vec<&'static str> {
    vec!["user", "hr"]
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, [$($label:literal),*] $(of $known:ident)?, $help:literal;)*) => {
        $(
            pub(super) const $constant: Metric = Metric {
                name: concat!("tierkeep_", $name),
                kind: MetricKind::$kind,
                labels: &[$($label),*],
                values: metrics!(@values $($known)?),
                help: $help,
            };
        )*

        /// All of them, in the order in which they are described.
        pub const METRICS: &[Metric] = &[$($constant,)*];
    };
    (@values $known:ident) => { Some($known) };
    (@values) => { None };
}

metrics! {
    REQUESTS = "requests_total", Counter, ["user_type", "route", "status"],
        "Requests answered, by user type, route and status.";
    REQUEST_SECONDS = "request_seconds", Histogram, [],
        "Duration of requests, in seconds.";
    MIGRATIONS = "migrations_total", Counter, ["outcome"] of outcomes,
        "Attempts to move a document, by outcome.";
    MIGRATION_LAG_SECONDS = "migration_lag_seconds", Gauge, [],
        "Time since the oldest due document became due, in seconds.";
    DOCUMENTS = "documents", Gauge, ["database"] of databases,
        "User documents, HR records, or everything in evaluation_audit, by database.";
    DUE_DOCUMENTS = "due_documents", Gauge, [],
        "Documents in raseen_temp_user that are due.";
    QUARANTINED_DOCUMENTS = "quarantined_documents", Gauge, [],
        "Documents that cannot be moved until they are corrected.";
    BACKUP_PENDING = "backup_pending", Gauge, ["kind"] of kinds,
        "Moves started and not completed, and HR records that are missing in srie_main_hr.";
    VERIFIED_UP_TO = "verified_up_to_timestamp_seconds", Gauge, [],
        "When the last verification of everything began that found no difference, in seconds since 1970; 0 before it.";
    DATABASE_UP = "database_up", Gauge, ["database"] of databases,
        "Whether a database answers: 1 or 0.";
    BREAKER_OPEN = "breaker_open", Gauge, ["database"] of databases,
        "Whether the circuit breaker of a database is open: 1 or 0.";
    CONNECT_RETRIES = "connect_retries_total", Counter, ["database"] of databases,
        "Connection retries, by database.";
    DETECTOR_DECISIONS = "detector_decisions_total", Counter, ["decision"] of decisions,
        "Decisions of the user type detector, by decision.";
}
