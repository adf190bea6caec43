//! The indexes of a collection: SQLite's own over columns, and the unique ones, whose entries tierkeep keeps.
//!
//! An index that no query goes by costs every write a page of its own, so a table has those that its layout asks for.

use bson::raw::RawDocument;
use rusqlite::{Connection, params};
use tierkeep_core::document::field;
use tierkeep_core::hr::MARK_INDEX;
use tierkeep_core::store::{Entries, FoundIndex, IndexLayout, index_key};

use crate::checksum;
use crate::error::Failure;
use crate::table::{TABLE, Table, decoded};

/// Holds where a document's `_id` is not its user: only then has it an entry in the index by user (in files of earlier
/// versions always), since the others are found by their key. The byte is what the key of a text begins with.
pub(crate) const UNDER_ANOTHER_ID: &str = "key <> CAST(x'05' || user_id AS BLOB)";
/// Holds where a move is not completed: only then has its record an entry in the index by status (in files of earlier
/// versions always). A query that is to go by it says so in these words.
pub(crate) const NOT_COMPLETED: &str = "status > 'completed'";
/// Between the fields of a unique index: no field's name has it.
const SEPARATOR: &str = "\n";

/// Makes the index over columns that stand for the fields of `index`, where there is none yet. One over other fields is left
/// out: nothing is looked for by it here.
///
/// In files of earlier versions every table has the first two.
pub(crate) fn over_columns(
    connection: &Connection,
    table: &Table,
    index: &IndexLayout,
) -> rusqlite::Result<()> {
    let (name, columns) = match index.fields.as_slice() {
        ["metadata.staged_at", field::ID] => ("staged", "staged_at, key"),
        ["status", field::ID] => ("status", "status, key"),
        fields if fields == MARK_INDEX => ("backup", "state, backup_status, key"),
        _ => return Ok(()),
    };
    let only = match (name, index.entries) {
        ("status", Entries::Above(text)) => format!("WHERE status > '{text}'"),
        ("backup", _) => "WHERE backup_status IS NOT NULL".to_owned(),
        _ => String::new(),
    };
    let table = table.name();
    let of = table.strip_prefix(TABLE).unwrap_or(table);
    connection.execute_batch(&format!(
        r#"CREATE INDEX IF NOT EXISTS "{name}_of_{of}" ON "{table}" ({columns}) {only}"#
    ))
}

/// An index no two documents may share an entry of.
#[derive(Debug)]
pub(crate) struct Unique {
    pub(crate) id: i64,
    fields: Vec<String>,
}

impl Unique {
    /// The unique indexes of `collection`.
    pub(crate) fn of(connection: &Connection, collection: &str) -> rusqlite::Result<Vec<Self>> {
        let mut statement = connection
            .prepare_cached("SELECT id, fields FROM unique_indexes WHERE collection = ?1")?;
        let unique = statement.query_map([collection], |row| {
            let fields = row.get_ref(1)?.as_str()?.split(SEPARATOR);
            Ok(Self {
                id: row.get(0)?,
                fields: fields.map(str::to_owned).collect(),
            })
        })?;
        unique.collect()
    }

    /// Makes the index, with an entry for each document that is there.
    pub(crate) fn make(
        connection: &Connection,
        table: &Table,
        collection: &str,
        index: &IndexLayout,
    ) -> Result<Self, Failure> {
        connection.execute(
            "INSERT INTO unique_indexes (collection, fields) VALUES (?1, ?2)",
            [collection, &index.fields.join(SEPARATOR)],
        )?;
        let unique = Self {
            id: connection.last_insert_rowid(),
            fields: index.fields.iter().map(|&f| f.to_owned()).collect(),
        };
        let mut all = connection.prepare(&table.select(checksum::CHECKED, ""))?;
        let mut rows = all.query([])?;
        while let Some(row) = rows.next()? {
            let entry = unique.entry(checksum::document(row)?);
            let key = row.get_ref(0)?.as_blob().map_err(|_| Failure::Damaged)?;
            let held = connection
                .prepare_cached("INSERT OR IGNORE INTO unique_keys VALUES (?1, ?2, ?3)")?
                .execute(params![unique.id, entry, key])?;
            if held == 0 {
                return Err(Failure::Clash);
            }
        }
        Ok(unique)
    }

    /// Whether it is over the fields of `index`.
    pub(crate) fn is(&self, index: &IndexLayout) -> bool {
        self.fields == index.fields
    }

    /// What no two documents share.
    pub(crate) fn entry(&self, document: &RawDocument) -> Vec<u8> {
        let fields: Vec<&str> = self.fields.iter().map(String::as_str).collect();
        index_key(document, &fields)
    }
}

/// The indexes of every collection: those of its table, with SQLite's own over the keys, and the unique ones.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<FoundIndex>> {
    let found = |collection, name| FoundIndex {
        collection,
        name,
        deletes_by_age: false,
    };
    let mut of_tables = connection.prepare_cached(
        "SELECT tbl_name, name FROM sqlite_schema
        WHERE type = 'index' AND tbl_name GLOB 'documents_of_*' ORDER BY name",
    )?;
    let of_tables = of_tables.query_map([], |row| {
        let table: String = row.get(0)?;
        let collection = table.strip_prefix(TABLE).unwrap_or_default();
        Ok(found(decoded(collection), row.get(1)?))
    })?;
    let mut unique =
        connection.prepare_cached("SELECT collection, fields FROM unique_indexes ORDER BY id")?;
    let unique = unique.query_map([], |row| {
        let fields: String = row.get(1)?;
        Ok(found(row.get(0)?, fields.replace(SEPARATOR, "_")))
    })?;
    of_tables.chain(unique).collect()
}
