//! Checkpoints: when the write-ahead log is written back into the file. A thread does so beside the writers, a step at a
//! time, and lives as long as that takes.
//!
//! SQLite restarts a log once all of it is written back and the file is synced
//! (<https://sqlite.org/wal.html#checkpointing>). The thread tries to get that far, and then no writer waits. Where writers
//! are faster, the one that fills the log does the rest. What fails, on a full disk say, costs nothing but that: it is tried
//! again with the next step.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use crate::connect;

/// At this size of the log a writer itself writes back what is left, and when it is restarted it is cut back to it.
const FULL_BYTES: i64 = 64 * 1024 * 1024;
/// How much is new in the log when the thread begins. The larger, the more changes of one page of an index are written back
/// as one.
const STEP_BYTES: i64 = 16 * 1024 * 1024;
/// How often the thread goes on to what was committed while it was at work: each time it is less.
const ROUNDS: usize = 4;
/// What each page in the log has beside its bytes.
const FRAME_BYTES: i64 = 24;

/// Has the log written back as `connection`, the one that writes the file at `path`, fills it.
pub(crate) fn write_back(connection: &mut Connection, path: &Path) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_size_limit", FULL_BYTES)?;
    let page_bytes: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let frames = |bytes: i64| i32::try_from(bytes / (page_bytes + FRAME_BYTES)).unwrap_or(i32::MAX);
    let (full, step) = (frames(FULL_BYTES), frames(STEP_BYTES));
    let at_work = Arc::new(AtomicBool::new(false));
    let path = path.to_owned();
    let mut last_step = 0;
    // It is called after each commit, with the length of the log.
    connection.wal_hook(Some(move |log: &mut Wal, length| {
        if length < last_step {
            // The log was restarted.
            last_step = 0;
        }
        if length >= full {
            log.checkpoint().ok();
        } else if length - last_step >= step && !at_work.swap(true, Ordering::Relaxed) {
            last_step = length;
            begin(path.clone(), &at_work);
        }
        Ok(())
    }))
}

fn begin(path: PathBuf, at_work: &Arc<AtomicBool>) {
    let ended = Arc::clone(at_work);
    let begun = thread::Builder::new()
        .name("checkpoint".to_owned())
        .spawn(move || {
            catch_up(&path).ok();
            ended.store(false, Ordering::Relaxed);
        });
    if begun.is_err() {
        at_work.store(false, Ordering::Relaxed);
    }
}

fn catch_up(path: &Path) -> rusqlite::Result<()> {
    let connection = connect::reader(path)?;
    for _ in 0..ROUNDS {
        // The pragma opens the log first, which the function of that name does not.
        let (busy, length, done) =
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                Ok((
                    row.get::<_, bool>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, i64>(2)?,
                ))
            })?;
        if busy || done >= length {
            break;
        }
    }
    Ok(())
}
