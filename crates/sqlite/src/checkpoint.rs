//! When the write-ahead log is written back into the file: in steps, beside the writers, by a thread that lives as long as
//! one step takes.
//!
//! What was written back is passed over by the writer that fills the log and writes back the rest, so it holds up the others
//! for a step at most, and not for the whole log. What a step does not get done, the next one or that writer does:
//! errors, a full disk say, are theirs to meet again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use crate::connect;

/// The log is begun anew when it has this size, and cut back to it. The larger, the more changes of one page of an index are
/// written back as one.
const KEPT_BYTES: i64 = 64 * 1024 * 1024;
/// What is written back in one step.
const STEP_BYTES: i64 = 16 * 1024 * 1024;
/// What each page in the log has beside its bytes.
const FRAME_BYTES: i64 = 24;

/// Has the log written back as `connection`, the one that writes the file at `path`, fills it.
pub(crate) fn keep_short(connection: &mut Connection, path: &Path) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_size_limit", KEPT_BYTES)?;
    let page_bytes: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let frames = |bytes: i64| i32::try_from(bytes / (page_bytes + FRAME_BYTES)).unwrap_or(i32::MAX);
    let (kept, step) = (frames(KEPT_BYTES), frames(STEP_BYTES));
    let at_work = Arc::new(AtomicBool::new(false));
    let path = path.to_owned();
    let mut begun_at = 0;
    connection.wal_hook(Some(move |log: &mut Wal, frames| {
        if frames < begun_at {
            // The log was begun anew.
            begun_at = 0;
        }
        if frames >= kept {
            log.checkpoint().ok();
        } else if frames - begun_at >= step && !at_work.swap(true, Ordering::Relaxed) {
            begun_at = frames;
            write_back(path.clone(), &at_work);
        }
        Ok(())
    }))
}

fn write_back(path: PathBuf, at_work: &Arc<AtomicBool>) {
    let done = Arc::clone(at_work);
    let step = move || {
        if let Ok(connection) = connect::reader(&path) {
            // The pragma opens the log first, which the function of that name does not.
            connection
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
                .ok();
        }
        done.store(false, Ordering::Relaxed);
    };
    if thread::Builder::new().spawn(step).is_err() {
        at_work.store(false, Ordering::Relaxed);
    }
}
