//! HR records: reading, writing, and their way into the backup.
//!
//! A write goes to main at the next version, marked pending, and then to srie; the mark is the outbox, so a backup
//! that is away loses nothing. Owns nothing that outlives a process. Must never touch a database of users: every
//! function here names its databases by type. Rule source: the mission's Property 4.
//!
//! ```compile_fail
//! use tierkeep_core::db::{RaseenMainHr, RaseenMainUser};
//! use tierkeep_core::store::Handle;
//! fn write_hr(_: &Handle<RaseenMainHr>) {}
//! fn misroute(users: &Handle<RaseenMainUser>) {
//!     write_hr(users);
//! }
//! ```
//!
//! Where to look: `read`, `write`, `deliver` (one page from main to srie), `reconcile` (later delivery of what is
//! pending), `tombstones` (what is left of deletions).

mod deliver;
mod floor;
mod read;
mod reconcile;
mod tombstones;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bson::DateTime;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::db::{BackedUp, Database, RaseenMainHr, Role};
use tierkeep_core::document::State;
use tierkeep_core::hr::{BackupStatus, HrCollection, HrId, marked, updated_at};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Fault, Find, Query, StoreError};
use tierkeep_core::version::Version;

use crate::context::Engine;

pub(crate) use deliver::{DeliveryOutcome, deliver};
pub use reconcile::{Reconciled, Reconciler};

/// How long a call waits for the backup; what a write has not delivered by then is delivered later.
const BACKUP_WAITS: Duration = Duration::from_secs(2);

/// The database that backs HR records up, as their own database says.
type Backup = <RaseenMainHr as BackedUp>::Backup;

/// HR records in their database and its backup. Clones are the same.
#[derive(Clone, Debug)]
pub struct HrRecords {
    engine: Arc<Engine>,
}

/// A record and where it was found.
#[derive(Clone, PartialEq, Debug)]
pub struct HrFound {
    /// The record, byte for byte.
    pub record: RawDocumentBuf,
    /// The database that holds it. srie only while main could not be reached.
    pub source: Role,
}

impl HrFound {
    /// The version; `None` for a record that another program wrote and that has not changed since.
    pub fn version(&self) -> Option<Version> {
        tierkeep_core::document::version(&self.record)
    }
}

/// One page of a collection's records, ordered by id.
#[derive(Clone, PartialEq, Debug)]
pub struct HrPage {
    /// The records, byte for byte.
    pub records: Vec<RawDocumentBuf>,
    /// Where the next page begins: after this id; `None` where there is none.
    pub next: Option<HrId>,
    /// The database that holds them.
    pub source: Role,
}

/// What a write did.
#[derive(Clone, PartialEq, Debug)]
pub struct HrReceipt {
    /// The record as it is now, a tombstone after a removal; its backup status says whether srie holds it.
    pub record: RawDocumentBuf,
    /// The record was not stored before.
    pub created: bool,
}

/// Why a read or write of a record did not happen.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum HrError {
    /// A database that is needed did not answer. The effect of a write is unknown; repeating is safe.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
    /// The condition is not met; nothing changed.
    #[error("the condition is not met: the record is at {}", at(*current))]
    Mismatch {
        /// The version that counts now.
        current: Option<Version>,
    },
    /// There is no such record; nothing changed.
    #[error("the record does not exist")]
    NotFound,
    /// The record would outgrow 16 MiB less 4 KiB; nothing changed.
    #[error("the record would be larger than 16 MiB minus 4 KiB")]
    TooLarge,
    /// The database refuses the record; nothing changed.
    #[error("the database refuses the record: {0}")]
    Rejected(Fault),
    /// What is stored under the id is no record that can be changed; an operator has to look, nothing changed.
    #[error("the stored document with this id cannot be changed: {0}")]
    Unclear(&'static str),
    /// No copy of the record matches its own digest; nothing changed.
    #[error(
        "the copy in {0} does not match its digest, and no other database holds an intact copy; `tierkeep verify` \
         shows both"
    )]
    Corrupt(Role),
    /// An answer was lost, and after too many later changes by other writers the record no longer tells whether this
    /// change was made.
    #[error(
        "an answer of raseen_main_hr was lost, and there were too many later changes to tell whether this one was made"
    )]
    OutcomeUnknown,
    /// Others wrote the same record again and again; nothing is known to have changed.
    #[error("the record is being changed by too many writers at once")]
    Contended,
}

fn at(current: Option<Version>) -> String {
    current.map_or_else(
        || "no version".to_owned(),
        |version| format!("version {version}"),
    )
}

impl HrRecords {
    /// HR records in these databases.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// The collections that exist.
    pub fn collections(&self) -> &[HrCollection] {
        self.engine.databases.hr_collections()
    }

    /// How many records and deletions wait for their backup.
    ///
    /// # Errors
    /// [`StoreError`] when main did not answer.
    pub async fn pending(&self) -> Result<u64, StoreError> {
        let store = self.engine.databases.raseen_hr_db().store();
        let mut pending = 0;
        for collection in self.collections() {
            for state in [State::Live, State::Erased] {
                let waiting = marked(state, BackupStatus::Pending);
                pending += store.count(collection.as_str(), &waiting).await?;
            }
        }
        Ok(pending)
    }
}

/// The most records of a collection that are looked at to know whether one is late.
const LOOKED_AT: usize = 200;

impl HrRecords {
    /// Whether something that was written at or before `before` waits for its backup still. Of many that wait, only
    /// the first of each collection are looked at.
    ///
    /// # Errors
    /// [`StoreError`] when main did not answer.
    pub async fn is_late(&self, before: DateTime) -> Result<bool, StoreError> {
        let store = self.engine.databases.raseen_hr_db().store();
        for collection in self.collections() {
            for state in [State::Live, State::Erased] {
                let waiting = marked(state, BackupStatus::Pending);
                let find = Find::new(waiting).limit(LOOKED_AT);
                let found = store.find(collection.as_str(), &find).await?;
                let late = |record: &RawDocumentBuf| {
                    updated_at(record).is_none_or(|written| written <= before)
                };
                if found.iter().any(late) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// What `database` holds under `id`, live or erased.
async fn one<D: Database>(
    database: &Handle<D>,
    collection: &HrCollection,
    id: &HrId,
    linearizable: bool,
) -> Result<Option<RawDocumentBuf>, StoreError> {
    let find = Find::new(Query::Ids(vec![id.to_bson()]));
    let find = if linearizable {
        find.linearizable()
    } else {
        find
    };
    let found = database.store().find(collection.as_str(), &find).await?;
    Ok(found.into_iter().next())
}
