//! The engine: what people embed. Owns the seven databases ([`ConnectionManager`]), users' reads and
//! writes ([`Users`]), HR records ([`HrRecords`]) and the 24-hour move ([`MigrationService`]).
//!
//! **Architecture invariant:** nothing here knows a backend, HTTP, or the environment. Stores, clock and
//! settings come in; decisions are made by `tierkeep-core`.

mod alerts;
mod audit;
mod backup;
mod claims;
mod context;
mod copies;
mod databases;
mod erasure;
mod github_binding;
mod held_alerts;
mod hr;
mod inspect;
mod intents;
mod ledger;
mod mover;
mod mutant;
mod requests;
mod transfer;
mod upkeep;
mod users;

pub use alerts::channel::{About, Channel, ChannelKind, Notice, Undelivered};
pub use alerts::delivery::{AlertDelivery, Round, SHOWN, When};
pub use alerts::list::{AlertCursor, AlertFilter, AlertPage};
pub use alerts::{Alert, AlertKind, Alerts, ChannelView};
pub use audit::{
    AuditDecisions, AuditFilter, AuditPage, AuditSettings, AuditTrail, Decided, Kept, Listed,
    MemorySpool, Portion, PruneError, Pruned, Refused, Spool, SpoolShare,
};
pub use backup::restore::{Restoration, RestoreError, RestoreOptions, RestoreScope, Restored};
pub use backup::service::{BackedUp, Backup};
pub use backup::verify::{Difference, Verification, VerificationWatch, Verified, VerifyOptions};
pub use context::{Engine, MoveCounters, MoveOutcome};
pub use copies::replicate::Trouble;
pub use databases::absent::AbsentStore;
pub use databases::breaker::GuardSettings;
pub use databases::contents::{CollectionContents, DatabaseContents};
pub use databases::counters::ConnectRetries;
pub use databases::doctor::{Examined, Finding, Severity, UNREACHABLE, examine};
pub use databases::error::{ConnectError, Hazard};
pub use databases::manager::{ConnectSettings, ConnectionManager, Opened, Purpose};
pub use databases::random::Randomness;
pub use databases::schema::layout;
pub use databases::unreached::Unreached;
pub use erasure::service::{EraseError, Erased, ErasureService};
pub use github_binding::{Binding, BindingCheck, Bindings, OnChange};
pub use hr::{HrError, HrFound, HrPage, HrReceipt, HrRecords, Reconciled, Reconciler};
pub use inspect::Inspector;
pub use inspect::explain::{Copy, ErasureView, Explanation, RecordView};
pub use inspect::mover_status::{Holder, MoverPhase, MoverStatus};
pub use inspect::records::{MigrationView, RecordFilter, RecordPage};
pub use inspect::simulate::{Amount, HourAhead, LONGEST_WINDOW, Simulation};
pub use inspect::status::{BackupPending, DatabaseStatus, QuarantineView, Status, Waiting};
pub use mover::run_log::{LastError, LastRun};
pub use mover::worker::{Worker, WorkerState};
pub use mover::{
    CLAIM_LASTS, Claim, Failed, LeaseObserver, MigrationService, MoveError, MoverSettings,
    NoProgress, Progress, Retried, RunOptions, RunView, Summary,
};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use transfer::dump::{
    DumpError, DumpProgress, DumpService, Exported, ExportedDatabase, FileProblem, ImportOptions,
    ImportRefusal, Imported, PersonExported,
};
pub use transfer::import::{Compared, Import, ImportOutcome};
pub use transfer::quarantine::{
    Keep, QuarantineError, QuarantineExported, QuarantineReleased, QuarantineService,
    QuarantineShown, Quarantined, QuarantinedCopy,
};
pub use upkeep::Upkeep;
pub use upkeep::abandoned::{Janitor, SEEN_FOR};
pub use upkeep::audit_chain::AuditKeeper;
pub use upkeep::watch::Watch;
pub use users::{Condition, Found, Receipt, Users, UsersError};

pub use tierkeep_core as core;
