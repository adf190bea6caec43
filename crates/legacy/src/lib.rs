//! Bringing in the predecessor's database: every document of it is accounted for, and it is only read.
//!
//! **Architecture invariant:** what a document is and becomes is decided in `tierkeep_core::legacy`; how a user is
//! stored, and what must not be overwritten, in the engine's `Import`. Nothing here guards anything, so a run may be
//! killed at any moment and started again.
//!
//! Where to look: [`run`](Importer::run) (from the first look to the report), [`index`] (a few bytes of every
//! document, sorted by user in a file, so that memory does not grow with the database), [`batch`] (whole documents
//! of some users), [`records`] (HR documents), [`report`] (what became of everything),
//! [`refusals`] (what was imported as nothing), [`follow`] (changes after the copy), [`verify`] (source
//! against result).

mod ahead;
pub mod batch;
pub mod follow;
pub mod index;
pub mod records;
pub mod refusals;
pub mod report;
mod run;
mod scratch;
pub mod verify;

use std::collections::BTreeSet;
use std::sync::Arc;

use tierkeep_core::db::Role;
use tierkeep_core::legacy::{Dates, Derived, Source, SourceError};
use tierkeep_core::store::StoreError;
use tierkeep_engine::{Engine, MoverSettings};

pub use follow::{Followed, Lag};
pub use records::hr_collections;
pub use refusals::Refusals;
pub use report::{RefusedLine, Report, Skipped};
pub use scratch::ScratchError;
pub use verify::{Difference, Verification};

/// What an import should do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Data that could be made again and is taken nevertheless.
    pub include: BTreeSet<Derived>,
    /// How dates without a zone are read.
    pub dates: Dates,
    /// Nothing is written.
    pub dry_run: bool,
}

/// Brings in the databases of a predecessor.
#[derive(Clone, Debug)]
pub struct Importer {
    pub(crate) sources: Vec<Arc<dyn Source>>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) settings: MoverSettings,
    pub(crate) options: Options,
    /// What changes at the source is told, sooner or later.
    pub(crate) follows: bool,
}

/// Why an import stopped. What was stored stays, and the next run continues.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The predecessor's database did not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A database of tierkeep did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The scratch file cannot be used.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The predecessor's database is one of tierkeep's own.
    #[error(
        "the predecessor's database {database:?} is the database of {role}: nothing can be imported from it"
    )]
    OwnDatabase {
        /// The database's name.
        database: String,
        /// Whose it is.
        role: Role,
    },
    /// The predecessor's database carries the stamp of a deployment.
    #[error("the database {0:?} has tierkeep's stamp, so it is not the predecessor's database")]
    Stamped(String),
    /// Changes cannot be followed on a server by itself.
    #[error(
        "the server of the database {0:?} is not a replica set, which change streams require: repeat import-legacy \
         while the predecessor is stopped, or convert its server to a replica set"
    )]
    NoReplicaSet(String),
    /// A part of the work ended early.
    #[error(
        "a part of the import ended early, which is a defect of tierkeep; repeat the command to continue"
    )]
    BrokenOff,
}

/// Receives the progress of an import.
pub trait Progress: Send + Sync {
    /// `done` of `all` documents were looked at.
    fn looked_at(&self, done: u64, all: u64);
    /// `done` of `all` documents of users are accounted for.
    fn settled(&self, done: u64, all: u64);
    /// Changes are followed.
    fn follows(&self, followed: &Followed);
}

/// Discards the progress reports.
#[derive(Clone, Copy, Debug)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn looked_at(&self, _: u64, _: u64) {}
    fn settled(&self, _: u64, _: u64) {}
    fn follows(&self, _: &Followed) {}
}

impl Importer {
    /// An import from `sources` into these databases.
    pub fn new(
        sources: Vec<Arc<dyn Source>>,
        engine: Arc<Engine>,
        settings: MoverSettings,
        options: Options,
    ) -> Self {
        Self {
            sources,
            engine,
            settings,
            options,
            follows: false,
        }
    }
}
