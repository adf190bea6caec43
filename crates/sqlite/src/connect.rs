//! Opening a file: making it, telling whether it is one of ours, and setting up each connection.
//!
//! A file that belongs to another program is never changed. The caller makes the directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior, ffi};
use tierkeep_core::store::Class;

use crate::error::{self, Failure};
use crate::presence::Presence;
use crate::{checkpoint, table, upgrade};

/// `PRAGMA application_id` of every file of ours: `tier`.
const APPLICATION_ID: i32 = 0x7469_6572;
/// `PRAGMA user_version`: how documents lie in the tables.
const FORMAT: i32 = 3;
/// The formats before: the tables of 1 have no column `backup_status`, those of 1 and 2 no checksums.
const FORMATS_BEFORE: [i32; 2] = [1, 2];

/// How long a writer waits for another one, in this process or another.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often, and how long apart, the change to write-ahead mode is tried: SQLite does not wait there.
const WAL_TRIES: u32 = 500;
const WAL_PAUSE: Duration = Duration::from_millis(10);
const STATEMENTS_KEPT: usize = 64;

/// Only one file at a time is opened in this process.
///
/// POSIX drops all of a process's locks on a file when any descriptor of it is closed, also one that SQLite knows
/// nothing of (<https://sqlite.org/howtocorrupt.html>, 2.2). A file that does not exist yet is made outside SQLite, so
/// no other thread of this process may open it meanwhile.
static OPENING: Mutex<()> = Mutex::new(());

/// Why a file was not opened.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What was being done, in the words of an error message.
    pub(crate) doing: &'static str,
    pub(crate) class: Class,
    pub(crate) code: i32,
}

const FORBIDDEN: [io::ErrorKind; 2] = [
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::ReadOnlyFilesystem,
];
const FULL: [io::ErrorKind; 2] = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];

impl Refusal {
    fn new(doing: &'static str, class: Class, code: i32) -> Self {
        Self { doing, class, code }
    }

    fn io(doing: &'static str, error: &io::Error) -> Self {
        let class = if FORBIDDEN.contains(&error.kind()) {
            Class::Unauthorized
        } else if FULL.contains(&error.kind()) {
            Class::DiskFull
        } else {
            Class::NoServer
        };
        Self::new(doing, class, ffi::SQLITE_CANTOPEN)
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().map_or(0, |error| error.extended_code);
        let doing = if code & 0xff == ffi::SQLITE_NOTADB {
            "opening a file that is not a database"
        } else {
            "opening the file"
        };
        Self::new(doing, error::class(code), code)
    }
}

/// Opens the file at `path`, making it where there is none; answers a connection for writing, and which file that is.
pub(crate) fn file(path: &Path) -> Result<(Presence, Connection), Refusal> {
    let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    create(path).map_err(|e| Refusal::io("creating the file", &e))?;
    let path = path
        .canonicalize()
        .map_err(|e| Refusal::io("finding the file", &e))?;
    let mut connection = plain(&path)?;
    if standing(&connection)? != Standing::Ours {
        write_ahead(&connection)?;
        claim(&mut connection)?;
    }
    write_ahead(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    checkpoint::write_back(&mut connection, &path)?;
    // A read opens the log and its index, which stay as long as this connection.
    standing(&connection)?;
    let presence = Presence::of(path).map_err(|e| Refusal::io("finding the files", &e))?;
    Ok((presence, connection))
}

/// A connection that only reads the file, which was opened before.
pub(crate) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = plain(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn plain(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.pragma_update(None, "trusted_schema", false)?;
    // Damage inside a page is found when the page is read.
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Makes an empty file that only its owner can read, and makes its name durable. SQLite gives the files
/// beside it the same mode.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    }
    match path.parent() {
        Some(parent) if cfg!(unix) && !parent.as_os_str().is_empty() => {
            File::open(parent)?.sync_all()
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether the file is set up already; `false` means that it is empty.
pub(crate) fn is_ours(connection: &Connection) -> Result<bool, Refusal> {
    Ok(standing(connection)? != Standing::Empty)
}

/// What a file is, as far as it may be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// It is set up already.
    Ours,
    /// An older version set it up.
    Older,
    /// There is nothing in it.
    Empty,
}

fn standing(connection: &Connection) -> Result<Standing, Refusal> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
    let application = number("PRAGMA application_id")?;
    let format = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    match (application, format, tables) {
        (APPLICATION_ID, FORMAT, _) => Ok(Standing::Ours),
        (APPLICATION_ID, older, _) if FORMATS_BEFORE.contains(&older) => Ok(Standing::Older),
        (0, 0, 0) => Ok(Standing::Empty),
        (APPLICATION_ID, newer, _) if newer > FORMAT => Err(Refusal::new(
            "opening a file of a newer version",
            Class::Other,
            newer,
        )),
        (_, _, _) => Err(Refusal::new(
            "opening a file that belongs to another program",
            Class::Corrupt,
            ffi::SQLITE_NOTADB,
        )),
    }
}

/// Marks an empty file as ours, or brings one of an older version up to this one, unless another process was
/// faster.
fn claim(connection: &mut Connection) -> Result<(), Refusal> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match standing(&transaction)? {
        Standing::Ours => {}
        Standing::Older => {
            upgrade::upgrade(&transaction)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
        }
        Standing::Empty => {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
            transaction.execute_batch(table::SCHEMA)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Puts the file into write-ahead mode, where it stays.
fn write_ahead(connection: &Connection) -> Result<(), Refusal> {
    let mut left = WAL_TRIES;
    loop {
        let mode =
            connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get::<_, String>(0));
        match mode.map_err(Failure::from) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                return Err(Refusal::new(
                    "enabling write-ahead logging, which the file system does not support,",
                    Class::Other,
                    0,
                ));
            }
            Err(failure) if failure.is_busy() && left > 0 => {
                left -= 1;
                thread::sleep(WAL_PAUSE);
            }
            Err(Failure::Sqlite(error)) => return Err(error.into()),
            Err(Failure::Damaged | Failure::Clash | Failure::Lost | Failure::Gone) => {
                return Err(Refusal::new("opening the file", Class::Other, 0));
            }
        }
    }
}
