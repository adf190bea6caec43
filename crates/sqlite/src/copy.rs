//! Copying a file while it is in use, by SQLite's backup API (<https://sqlite.org/backup.html>).
//!
//! A snapshot fixes the moment; writers continue beside it. Must never write to the file that is copied.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ffi};
use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, Result, StoreError};

use crate::connect::{self, Refusal};
use crate::error::Failure;

/// How often, and how long apart, a copy that another connection holds up is tried.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);
const OPERATION: &str = "copying the file";

/// A logical database in its file, as it was at one moment.
#[derive(Debug)]
pub struct Snapshot {
    role: Role,
    connection: Connection,
}

impl Snapshot {
    /// Fixes the file at `path`, which must be one of ours, as it is now. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// What keeps the file from being read.
    pub fn of(path: &Path, role: Role) -> Result<Self> {
        let refused = |refusal: Refusal| StoreError {
            database: role,
            operation: refusal.doing,
            class: refusal.class,
            code: refusal.code,
        };
        let failed = |error| Failure::from(error).of(role, OPERATION);
        let connection = connect::reader(path).map_err(failed)?;
        if !connect::is_ours(&connection).map_err(refused)? {
            return Err(StoreError {
                database: role,
                operation: "copying an empty file",
                class: Class::NoServer,
                code: 0,
            });
        }
        // The moment is that of the first read of a transaction.
        connection
            .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")
            .map_err(failed)?;
        Ok(Self { role, connection })
    }

    /// Writes it to the new file `path`, readable to its owner only, and checks what was written; answers its size
    /// in bytes. Blocks until it is on disk.
    ///
    /// # Errors
    /// What keeps the copy from being written or from being whole.
    pub fn copy_to(self, path: &Path) -> Result<u64> {
        let role = self.role;
        let failed = |error| Failure::from(error).of(role, OPERATION);
        let unwritable = |_| StoreError {
            database: role,
            operation: OPERATION,
            class: Class::Unauthorized,
            code: 0,
        };
        connect::create(path).map_err(unwritable)?;
        let mut target = Connection::open(path).map_err(failed)?;
        target
            .pragma_update(None, "synchronous", "FULL")
            .map_err(failed)?;
        copy(&self.connection, &mut target).map_err(failed)?;
        let sound: String = target
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(failed)?;
        if sound != "ok" {
            return Err(Failure::Damaged.of(role, OPERATION));
        }
        target.close().map_err(|(_, error)| failed(error))?;
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(unwritable)?;
        fs::metadata(path).map(|it| it.len()).map_err(unwritable)
    }
}

fn copy(source: &Connection, target: &mut Connection) -> rusqlite::Result<()> {
    let backup = Backup::new(source, target)?;
    let mut left = TRIES;
    // All pages in one step: the snapshot holds, and writers in write-ahead mode do not wait for readers.
    loop {
        let step = backup.step(-1)?;
        if step == StepResult::Done {
            return Ok(());
        }
        if step != StepResult::More {
            if left == 0 {
                let busy = ffi::Error::new(ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(busy, None));
            }
            left -= 1;
            thread::sleep(PAUSE);
        }
    }
}
