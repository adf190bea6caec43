//! Whether the files that are open are still those under the database's name.
//!
//! A file that is removed, renamed or replaced lives on without a name while it is open, and what is written to it is lost
//! with the process. So device and inode under the names are compared with those at the opening, before a transaction
//! and before its outcome is told.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// What SQLite appends to the name of a database for the log and for the log's index.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// A database's file, its log and the log's index, as they were opened.
#[derive(Debug)]
pub(crate) struct Presence {
    path: PathBuf,
    opened: Vec<(PathBuf, Identity)>,
}

impl Presence {
    /// That of the files under the canonical `path`, which must be open.
    pub(crate) fn of(path: PathBuf) -> io::Result<Self> {
        let names = BESIDE.map(|beside| {
            let mut name = OsString::from(&path);
            name.push(beside);
            PathBuf::from(name)
        });
        let mut opened = vec![(path.clone(), identity(&fs::metadata(&path)?))];
        for name in names {
            let found = identity(&fs::metadata(&name)?);
            opened.push((name, found));
        }
        Ok(Self { path, opened })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the names still lead to the files that are open. An empty file is none: SQLite takes it for a new database.
    pub(crate) fn holds(&self) -> bool {
        self.opened.iter().all(|(name, opened)| {
            fs::metadata(name).is_ok_and(|found| {
                identity(&found) == *opened && (found.len() > 0 || *name != self.path)
            })
        })
    }
}

/// Device and inode.
#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(file: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (file.dev(), file.ino())
}

/// Other systems do not let an open file go.
#[cfg(not(unix))]
type Identity = ();

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {}
