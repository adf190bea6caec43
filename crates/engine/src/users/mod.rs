//! Users' documents: reading, writing, and where each goes.
//!
//! Reads look in temp, then main, then srie while main is unreachable. Writes go to temp; what is in main
//! is copied up whole. External users live in `external_users` alone. Rule source: the mission's
//! Properties 1 and 2.

mod attempt;
mod conditions;
mod enter;
mod last_seen;
mod pending;
mod read;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bson::DateTime;
use bson::raw::RawDocumentBuf;
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Fault, StoreError};
use tierkeep_core::version::Version;

use crate::context::Engine;
use crate::databases::optional_read::OptionalRead;
use last_seen::LastSeen;
use pending::Pending;

/// How long what can be done without is waited for.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// Users' documents in the seven databases.
#[derive(Clone, Debug)]
pub struct Users {
    engine: Arc<Engine>,
    pending: Pending,
    last_seen: LastSeen,
    /// With srie, where it may hold what main has lost.
    backup: OptionalRead,
    /// With the ledger, on behalf of external users.
    ledger: OptionalRead,
}

/// A document and where it was found.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// The document, byte for byte.
    pub document: RawDocumentBuf,
    /// The database that holds it. srie only while main could not be reached.
    pub source: Role,
}

impl Found {
    /// The version; `None` for a document that another program wrote and that has not changed since.
    pub fn version(&self) -> Option<Version> {
        tierkeep_core::document::version(&self.document)
    }
}

/// What a write did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The document's version after the write.
    pub version: Version,
    /// The database that holds it.
    pub database: Role,
    /// When the content changed, by the database's clock.
    pub updated_at: DateTime,
    /// The user was not stored before.
    pub created: bool,
}

/// Under which condition a write may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Condition {
    /// Always.
    #[default]
    None,
    /// The user is stored at exactly this version (`If-Match`).
    Version(Version),
    /// The user is stored (`If-Match: *`).
    Exists,
    /// The user does not exist (`If-None-Match: *`).
    Absent,
}

impl Condition {
    /// Whether it holds for a document that is stored at `current`, or for none.
    pub fn holds(self, stored: bool, current: Option<Version>) -> bool {
        match self {
            Self::None => true,
            Self::Exists => stored,
            Self::Absent => !stored,
            Self::Version(expected) => stored && current == Some(expected),
        }
    }
}

/// Why a read or write did not happen.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum UsersError {
    /// A database that is needed did not answer. The effect of a write is unknown; repeating is safe.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
    /// The condition is not met; nothing changed.
    #[error("the condition is not met: the user is at {}", at(*current))]
    Mismatch {
        /// The version that counts now.
        current: Option<Version>,
    },
    /// There is no such user; nothing changed.
    #[error("the user does not exist")]
    NotFound,
    /// The user is stored without the section; nothing changed.
    #[error("the user exists, but has no such section")]
    SectionNotFound,
    /// The document would outgrow 16 MiB less 4 KiB; nothing changed.
    #[error("the document would be larger than 16 MiB minus 4 KiB")]
    TooLarge,
    /// The database refuses the document; nothing changed.
    #[error("the database refuses the document: {0}")]
    Rejected(Fault),
    /// Copies contradict each other, and an operator has to look; nothing changed.
    #[error("the user's documents are in conflict: {0}")]
    Quarantined(Quarantine),
    /// No copy of the user's newest version matches its own digest; nothing changed.
    #[error(
        "the copy in {0} does not match its digest, and no other database holds an intact copy; `tierkeep verify` \
         shows both"
    )]
    Corrupt(Role),
    /// An answer was lost, and after too many later changes by other writers the document no longer tells whether this
    /// change was made.
    #[error(
        "an answer of {0} was lost, and there were too many later changes to tell whether this one was made"
    )]
    OutcomeUnknown(Role),
    /// Others wrote the same document again and again; nothing is known to have changed.
    #[error("the document is being changed by too many writers at once")]
    Contended,
}

fn at(current: Option<Version>) -> String {
    current.map_or_else(
        || "no version".to_owned(),
        |version| format!("version {version}"),
    )
}

impl Users {
    /// Users in these databases.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self::waiting(engine, LONGEST_LOOK)
    }

    /// The same, who wait for `longest_look` instead of a second before they go on without what srie or the ledger
    /// would say: for servers that are slow rather than away.
    #[must_use]
    pub fn with_longest_look(self, longest_look: Duration) -> Self {
        Self::waiting(self.engine, longest_look)
    }

    /// Learns every half second which erasures are pending, so that no read or write waits for `evaluation_audit`. To be run
    /// beside them, by one of the clones; without it, they ask where what is known is more than two seconds old. Dropping the
    /// future ends it.
    pub async fn watch_pending(&self) {
        self.pending.watch(&self.engine).await;
    }

    fn waiting(engine: Arc<Engine>, longest_look: Duration) -> Self {
        Self {
            engine,
            pending: Pending::new(longest_look),
            last_seen: LastSeen::default(),
            backup: OptionalRead::new(Role::SrieMainUser, longest_look),
            ledger: OptionalRead::new(Role::EvaluationAudit, longest_look),
        }
    }
}
