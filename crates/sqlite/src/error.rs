//! What SQLite's result codes mean to a caller. See <https://sqlite.org/rescode.html>.

use rusqlite::ffi;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, StoreError};

/// Why a call failed, before it is known which call it was.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite said so.
    Sqlite(rusqlite::Error),
    /// A stored document, or an entry of an index, is not as it was written.
    Damaged,
    /// The open file is no longer the one under its name.
    Gone,
    /// A change would make two documents agree in unique fields.
    Clash,
    /// The thread that did the work went away.
    Lost,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The code that the conformance suite, like MongoDB, has for a clash of unique fields.
pub(crate) const DUPLICATE_KEY: i32 = 11000;

impl Failure {
    /// The error of `operation` on `database`.
    pub(crate) fn of(&self, database: Role, operation: &'static str) -> StoreError {
        let (class, code) = match self {
            Self::Sqlite(error) => error.sqlite_error().map_or((Class::Other, 0), |error| {
                (class(error.extended_code), error.extended_code)
            }),
            Self::Damaged => (Class::Corrupt, ffi::SQLITE_CORRUPT),
            Self::Gone => (Class::NoServer, ffi::SQLITE_READONLY_DBMOVED),
            Self::Clash => (Class::Other, DUPLICATE_KEY),
            Self::Lost => (Class::Other, 0),
        };
        StoreError {
            database,
            operation,
            class,
            code,
        }
    }

    /// Whether another connection held the file for too long.
    pub(crate) fn is_busy(&self) -> bool {
        self.of(Role::EvaluationAudit, "").class == Class::Busy
    }
}

/// The class of an extended result code, whose low byte is the primary one.
pub(crate) fn class(extended_code: i32) -> Class {
    // The system took none of what was to be written: a quota, or a file of the largest size.
    if extended_code == ffi::SQLITE_IOERR_WRITE {
        return Class::DiskFull;
    }
    match extended_code & 0xff {
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL => Class::Busy,
        ffi::SQLITE_FULL => Class::DiskFull,
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => Class::Corrupt,
        ffi::SQLITE_PERM | ffi::SQLITE_READONLY | ffi::SQLITE_AUTH => Class::Unauthorized,
        ffi::SQLITE_CANTOPEN => Class::NoServer,
        ffi::SQLITE_INTERRUPT => Class::Timeout,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn codes_have_the_class_that_says_what_to_do() {
        let expected = [
            (ffi::SQLITE_BUSY_SNAPSHOT, Class::Busy),
            (ffi::SQLITE_LOCKED_SHAREDCACHE, Class::Busy),
            (ffi::SQLITE_FULL, Class::DiskFull),
            (ffi::SQLITE_IOERR_WRITE, Class::DiskFull),
            (ffi::SQLITE_CORRUPT_VTAB, Class::Corrupt),
            (ffi::SQLITE_NOTADB, Class::Corrupt),
            (ffi::SQLITE_CANTOPEN_ISDIR, Class::NoServer),
            (ffi::SQLITE_READONLY_DBMOVED, Class::Unauthorized),
            (ffi::SQLITE_IOERR_FSYNC, Class::Other),
            (ffi::SQLITE_NOMEM, Class::Other),
        ];
        for (code, class_of_code) in expected {
            assert_eq!(class(code), class_of_code, "code {code}");
        }
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("PRAGMA max_page_count=4; CREATE TABLE t (x BLOB);")
            .unwrap();
        let full = connection.execute("INSERT INTO t VALUES (zeroblob(100000))", []);
        let error = Failure::from(full.unwrap_err()).of(Role::EvaluationAudit, "insert");
        assert_eq!((error.class, error.code), (Class::DiskFull, 13));
    }
}
