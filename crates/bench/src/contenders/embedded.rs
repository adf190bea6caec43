//! The limit on SQLite, with only the library.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::{Result, anyhow};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use tierkeep_core::db::Role;

use super::{BATCH, due_before};
use crate::place::{Place, TABLE};

const COLUMNS: &str = "key, user_id, version, state, staged_at, status, doc";
/// How many batches may wait for a file.
const WAITING: usize = 2;

/// A row as it lies in temp.
type Row = Vec<Value>;

/// Plain inserts into both files, side by side, in one transaction for each batch and file; then everything
/// that is due is deleted by age in one transaction.
pub(super) async fn limit(place: &Place) -> Result<()> {
    let [temp, srie, main] = [
        Role::RaseenTempUser,
        Role::SrieMainUser,
        Role::RaseenMainUser,
    ]
    .map(|role| place.file(role));
    tokio::task::spawn_blocking(move || {
        let before = due_before().timestamp_millis();
        copy(&temp, &srie, &main, before)?;
        let temp = open(&temp)?;
        temp.execute(
            &format!("DELETE FROM {TABLE} WHERE staged_at <= ?1"),
            [before],
        )?;
        Ok(())
    })
    .await?
}

fn copy(temp: &Path, srie: &Path, main: &Path, before: i64) -> Result<()> {
    thread::scope(|scope| {
        let (mut to, mut writers) = (Vec::new(), Vec::new());
        for file in [srie, main] {
            let (sender, receiver) = sync_channel(WAITING);
            to.push(sender);
            writers.push(scope.spawn(move || write(file, &receiver)));
        }
        let temp = open(temp)?;
        let mut statement = temp.prepare(&format!(
            "SELECT {COLUMNS} FROM {TABLE} WHERE staged_at <= ?1 ORDER BY staged_at, key"
        ))?;
        let width = statement.column_count();
        let mut rows = statement.query([before])?;
        loop {
            let mut batch: Vec<Row> = Vec::with_capacity(BATCH);
            while batch.len() < BATCH
                && let Some(row) = rows.next()?
            {
                batch.push((0..width).map(|i| row.get(i)).collect::<Result<_, _>>()?);
            }
            if batch.is_empty() {
                break;
            }
            let batch = Arc::new(batch);
            // A writer that ended says why below.
            if to.iter().any(|to| to.send(Arc::clone(&batch)).is_err()) {
                break;
            }
        }
        drop(to);
        for writer in writers {
            writer.join().map_err(|_| anyhow!("a writer panicked"))??;
        }
        Ok(())
    })
}

fn write(file: &Path, batches: &Receiver<Arc<Vec<Row>>>) -> Result<()> {
    let mut connection = open(file)?;
    let insert = format!("INSERT INTO {TABLE} ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
    for batch in batches {
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(&insert)?;
            for row in batch.iter() {
                insert.execute(params_from_iter(row))?;
            }
        }
        transaction.commit()?;
    }
    Ok(())
}

fn open(file: &Path) -> Result<Connection> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}
