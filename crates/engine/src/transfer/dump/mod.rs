//! Dumps: every database as files in mongodump's directory format, and the import of such files.
//!
//! A dump that tierkeep wrote ends with a manifest; a directory that lacks it is torn and never imported. Must
//! never change a database before every file of a dump was read to its end and found whole. Where to look:
//! `export` (writing), `person` (one user's data for that user), `inspect` (finding out whether a dump is
//! whole), `passed_over` (what of it is left alone), `claims` (users who occur twice),
//! `import` (taking one in), `files`, `frames`, `metadata` and `manifest` (the format).
//!
//! Format: a directory for each database, `<collection>.bson` with the documents one after the other, and
//! `<collection>.metadata.json`; with gzip, `.gz` behind each name
//! (<https://www.mongodb.com/docs/database-tools/mongodump/>).

mod claims;
mod export;
pub(crate) mod files;
mod frames;
mod import;
mod inspect;
mod manifest;
mod metadata;
mod passed_over;
mod person;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, StoreError};
use tierkeep_core::user::UserId;

use crate::context::Engine;
use crate::erasure::service::EraseError;

pub use export::{Exported, ExportedDatabase};
pub use import::{ImportOptions, ImportRefusal, Imported};
pub use person::PersonExported;

/// Writes dumps and takes them in.
#[derive(Clone, Debug)]
pub struct DumpService {
    engine: Arc<Engine>,
}

impl DumpService {
    /// Dumps of these databases.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Whether a new dump may go to `directory`; makes nothing.
    ///
    /// # Errors
    /// [`DumpError::NotEmpty`], or what keeps it from being looked into.
    pub fn check_new(directory: &Path) -> Result<(), DumpError> {
        files::is_free(directory).map(|_| ())
    }
}

/// Receives the progress of a dump.
pub trait DumpProgress: Send + Sync {
    /// The dump has this many documents, where that is known before the first is done.
    fn expect(&self, documents: u64);

    /// This many documents of the dump are done.
    fn report(&self, documents: u64);
}

impl DumpProgress for crate::NoProgress {
    fn expect(&self, _: u64) {}

    fn report(&self, _: u64) {}
}

/// What is wrong with one file of a dump, or why it is passed over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FileProblem {
    /// The file or directory, below the dump's own directory.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.reason);
        }
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// Why a dump was not written or not imported.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// A new dump never goes beside other files; nothing was written.
    #[error(
        "the directory {} is not empty; choose one that is empty or does not exist", .0.display()
    )]
    NotEmpty(PathBuf),
    /// There is nothing at this place.
    #[error("the directory {} does not exist", .0.display())]
    NoDirectory(PathBuf),
    /// A dump that is not whole, or holds what has no place here; nothing was written.
    #[error("the dump {} was not imported:{}", root.display(), lines(problems))]
    Broken {
        /// The dump's directory.
        root: PathBuf,
        /// Everything that is wrong.
        problems: Vec<FileProblem>,
    },
    /// A file or directory does not let itself be read or written.
    #[error("{} cannot be {doing}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// `read`, `written` or `made`.
        doing: &'static str,
        /// The operating system's answer.
        error: io::Error,
    },
    /// Nothing is stored of the user.
    #[error("{0}")]
    NoUser(String),
    /// What is stored of the user is damaged.
    #[error("the document of {user} in {database} is not valid BSON; nothing was exported")]
    Unreadable {
        /// Whose.
        user: UserId,
        /// Where.
        database: Role,
    },
    /// A database that is needed is away or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An erasure that the dump knows of could not be finished.
    #[error(transparent)]
    Erase(EraseError),
    /// The user's copies contradict each other, or another reason not to show them.
    #[error(transparent)]
    Users(#[from] crate::users::UsersError),
}

impl DumpError {
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, doing, error }
    }
}

fn lines(problems: &[FileProblem]) -> String {
    let line = |problem: &FileProblem| format!("\n  {problem}");
    problems.iter().map(line).collect()
}

fn away_now(role: Role) -> StoreError {
    StoreError {
        database: role,
        operation: "dump",
        class: Class::NoServer,
        code: 0,
    }
}

/// Runs work on files beside everything else.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DumpError> + Send + 'static,
) -> Result<T, DumpError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(panicked) => Err(DumpError::Io {
            path: PathBuf::new(),
            doing: "written",
            error: io::Error::other(panicked),
        }),
    }
}
