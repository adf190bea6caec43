//! The engine: what people embed. Owns the seven databases ([`ConnectionManager`]), users' reads and
//! writes ([`Users`]) and the 24-hour move ([`MigrationService`]).
//!
//! **Architecture invariant:** nothing here knows a backend, HTTP, or the environment. Stores, clock and
//! settings come in; decisions are made by `tierkeep-core`.

mod admission;
mod adoption;
mod alerts;
mod audit;
mod binding;
mod connection;
mod entry;
mod erase;
mod explain;
mod foreign;
mod janitor;
mod layout;
mod ledger;
mod migration;
mod mutant;
mod nonce;
mod own;
mod pace;
mod perform;
mod quarantine;
mod retry;
mod status;
mod upkeep;
mod users;
mod worker;

pub use alerts::{Alert, AlertKind, Alerts};
pub use audit::{
    AuditDecisions, AuditFilter, AuditKeeper, AuditPage, AuditSettings, AuditTrail, Decided,
    Listed, MemorySpool, Portion, PruneError, Pruned, Spool,
};
pub use binding::{Bindings, Met, OnChange};
pub use connection::{ConnectError, ConnectSettings, ConnectionManager, Opened, Purpose};
pub use erase::{EraseError, Erased, ErasureService};
pub use explain::{Copy, ErasureView, Explanation, RecordView};
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
pub use status::{DatabaseStatus, LastRun, QuarantineView, Status};
pub use upkeep::Upkeep;
pub use users::{Condition, Found, Receipt, Users, UsersError};
pub use worker::{Worker, WorkerState};

pub use tierkeep_core as core;
