//! The engine: what people embed. Owns the seven databases ([`ConnectionManager`]), users' reads and
//! writes ([`Users`]), HR records ([`HrRecords`]) and the 24-hour move ([`MigrationService`]).
//!
//! **Architecture invariant:** nothing here knows a backend, HTTP, or the environment. Stores, clock and
//! settings come in; decisions are made by `tierkeep-core`.

mod admission;
mod adoption;
mod alerts;
mod audit;
mod backup;
mod binding;
mod carry;
mod connection;
mod contents;
mod copying;
mod dump;
mod entry;
mod erase;
mod examine;
mod explain;
mod foreign;
mod growth;
mod guard;
mod hr;
mod intake;
mod janitor;
mod layout;
mod ledger;
mod migration;
mod mutant;
mod nonce;
mod own;
mod pace;
mod pages;
mod patience;
mod perform;
mod placing;
mod quarantine;
mod restore;
mod retry;
mod status;
mod tally;
mod upkeep;
mod users;
mod verify;
mod worker;

pub use alerts::delivery::{
    About, AlertDelivery, Channel, ChannelKind, Notice, Round, SHOWN, Undelivered, When,
};
pub use alerts::{Alert, AlertFilter, AlertKind, AlertPage, Alerts};
pub use audit::{
    AuditDecisions, AuditFilter, AuditKeeper, AuditPage, AuditSettings, AuditTrail, Decided,
    Listed, MemorySpool, Portion, PruneError, Pruned, Spool,
};
pub use backup::{BackedUp, Backup};
pub use binding::{Bindings, Met, OnChange};
pub use carry::Trouble;
pub use connection::{ConnectError, ConnectSettings, ConnectionManager, Opened, Purpose};
pub use contents::{CollectionContents, DatabaseContents};
pub use dump::{
    DumpError, DumpProgress, DumpService, Exported, ExportedDatabase, FileProblem, ImportRefusal,
    Imported, PersonExported,
};
pub use erase::{EraseError, Erased, ErasureService};
pub use examine::{Examined, Finding, Severity, UNREACHABLE, examine};
pub use explain::{Copy, ErasureView, Explanation, RecordView};
pub use guard::GuardSettings;
pub use hr::{HrError, HrFound, HrPage, HrReceipt, HrRecords, Reconciled, Reconciler};
pub use intake::{Compared, Intake, Taken};
pub use janitor::{Janitor, SEEN_FOR};
pub use layout::layout;
pub use migration::{
    Amount, CLAIM_LASTS, Claim, Failed, Holder, HourAhead, LONGEST_WINDOW, LastError,
    MigrationService, MigrationView, MoveError, MoverPhase, MoverSettings, NoProgress, Progress,
    RecordFilter, RecordPage, Retried, RunOptions, RunView, Sightings, Simulation, Standing,
    Summary,
};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use nonce::Randomness;
pub use restore::{Restoration, RestoreError, RestoreOptions, Restored, Whom};
pub use status::{BackupPending, DatabaseStatus, LastRun, QuarantineView, Status, Waiting};
pub use tally::{MoveOutcome, Tally};
pub use upkeep::Upkeep;
pub use users::{Condition, Found, Receipt, Users, UsersError};
pub use verify::{Difference, Verification, VerificationWatch, Verified, VerifyOptions};
pub use worker::{Worker, WorkerState};

pub use tierkeep_core as core;
