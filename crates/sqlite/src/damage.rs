//! Looking through a whole file for what is not as it was written: SQLite's own check of pages and indexes, and each
//! document against its checksum, its columns and its entries in unique indexes. Changes nothing.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row};
use tierkeep_core::store::Damage;

use crate::error::Failure;
use crate::index::Unique;
use crate::table::{COLUMNS, Table, collections, key_of};
use crate::{checksum, table};

/// How much of SQLite's check is reported.
const TOLD: usize = 20;

/// What is wrong with the file.
pub(crate) fn find(connection: &Connection) -> Result<Vec<Damage>, Failure> {
    let mut damage = structure(connection);
    // Where SQLite cannot read on, the file is damaged, which is no failure of the look.
    let documents = collections(connection)
        .map_err(Failure::from)
        .and_then(|found| {
            found.iter().try_fold(Vec::new(), |mut all, collection| {
                all.extend(in_collection(connection, &collection.name)?);
                Ok(all)
            })
        });
    match documents {
        Ok(found) => damage.extend(found),
        Err(_) if !damage.is_empty() => {}
        Err(failure) => return Err(failure),
    }
    Ok(damage)
}

fn structure(connection: &Connection) -> Vec<Damage> {
    let check = || -> rusqlite::Result<Vec<String>> {
        let mut check = connection.prepare(&format!("PRAGMA integrity_check({TOLD})"))?;
        let lines = check.query_map([], |row| row.get(0))?;
        lines.collect()
    };
    let lines = match check() {
        Ok(lines) => lines,
        Err(error) => vec![error.to_string()],
    };
    let wrong = lines.into_iter().filter(|line| line != "ok");
    let told = wrong.map(|line| Damage {
        what: format!("SQLite reports damage: {line}"),
    });
    told.collect()
}

/// How many documents of one collection are damaged in which way.
#[derive(Default)]
struct Damaged {
    documents: u64,
    columns: u64,
    unique: u64,
}

fn in_collection(connection: &Connection, collection: &str) -> Result<Vec<Damage>, Failure> {
    let Some(table) = Table::find(connection, collection)? else {
        return Ok(Vec::new());
    };
    let unique = Unique::of(connection, collection)?;
    let selected = format!("{}, {}", checksum::CHECKED, COLUMNS.join(", "));
    let mut all = connection.prepare(&table.select(&selected, "NOT INDEXED ORDER BY rowid"))?;
    let mut rows = all.query([])?;
    let mut damaged = Damaged::default();
    while let Some(row) = rows.next()? {
        let Ok(document) = checksum::document(row) else {
            damaged.documents += 1;
            continue;
        };
        let key = row.get_ref(0)?.as_blob().map_err(|_| Failure::Damaged)?;
        damaged.columns += u64::from(!has_columns_of(row, document)?);
        for index in &unique {
            let held = connection
                .prepare_cached(
                    "SELECT 1 FROM unique_keys WHERE unique_index = ?1 AND entry = ?2 AND key = ?3",
                )?
                .exists(rusqlite::params![index.id, index.entry(document), key])?;
            damaged.unique += u64::from(!held);
        }
    }
    let of = |count: u64, what: &str| {
        (count > 0).then(|| Damage {
            what: format!("{count} documents of {collection} {what}"),
        })
    };
    Ok([
        of(damaged.documents, "do not match their checksums"),
        of(
            damaged.columns,
            "have columns that do not match their content",
        ),
        of(damaged.unique, "are missing in a unique index"),
    ]
    .into_iter()
    .flatten()
    .collect())
}

/// Whether the row's columns and key are those that its document makes.
fn has_columns_of(row: &Row<'_>, document: &bson::raw::RawDocument) -> Result<bool, Failure> {
    let key = row.get_ref(0)?.as_blob().map_err(|_| Failure::Damaged)?;
    if key != key_of(document) {
        return Ok(false);
    }
    for (at, column) in table::columns(document).into_iter().enumerate() {
        let stored = row.get_ref(3 + at)?;
        let same = match &column {
            ToSqlOutput::Borrowed(made) => stored == *made,
            ToSqlOutput::Owned(made) => stored == ValueRef::from(made),
            ToSqlOutput::ZeroBlob(_) | _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
