//! Bringing a file of an earlier format up to this one, in the transaction that opens it: either all of it, or nothing.
//!
//! The columns are made from the documents, so each is read once, and each row is written again. The write-ahead log holds
//! the whole meanwhile, so the disk needs as much room as the file has.

use bson::raw::RawDocument;
use rusqlite::{Connection, params};
use tierkeep_core::document;

use crate::checksum;

/// How many rows are read before they are written.
const PAGE: i64 = 500;

/// Gives each collection's table the columns that it lacks: `backup_status` in files of format 1, and the checksum in those of
/// format 2.
pub(crate) fn upgrade(connection: &Connection) -> rusqlite::Result<()> {
    let tables: Vec<String> = connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'documents_of_*'",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for table in tables {
        for (column, kind) in [("backup_status", "TEXT"), (checksum::COLUMN, "INTEGER")] {
            let lacks = !connection
                .prepare("SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2")?
                .exists([table.as_str(), column])?;
            if lacks {
                connection.execute_batch(&format!(
                    r#"ALTER TABLE "{table}" ADD COLUMN {column} {kind}"#
                ))?;
            }
        }
        fill(connection, &table)?;
        checksum::forget(connection, &table)?;
    }
    Ok(())
}

fn fill(connection: &Connection, table: &str) -> rusqlite::Result<()> {
    let mut select = connection.prepare(&format!(
        r#"SELECT rowid, key, doc FROM "{table}" WHERE rowid > ?1 ORDER BY rowid LIMIT {PAGE}"#
    ))?;
    let mut update = connection.prepare(&format!(
        r#"UPDATE "{table}" SET backup_status = ?2, sum = ?3 WHERE rowid = ?1"#
    ))?;
    let mut after = i64::MIN;
    loop {
        let page: Vec<(i64, Option<String>, i64)> = select
            .query_map([after], |row| {
                let key = row.get_ref(1)?.as_blob()?;
                let bytes = row.get_ref(2)?.as_blob()?;
                let status = RawDocument::from_bytes(bytes)
                    .ok()
                    .and_then(document::backup_status)
                    .map(str::to_owned);
                Ok((row.get(0)?, status, checksum::of(key, bytes)))
            })?
            .collect::<Result<_, _>>()?;
        let Some((last, _, _)) = page.last() else {
            return Ok(());
        };
        after = *last;
        for (row, status, sum) in &page {
            update.execute(params![row, status, sum])?;
        }
    }
}
