//! How documents lie in the file: one table for each collection, with the columns that queries look at
//! beside the document's bytes, and the entries of the unique indexes in a table of their own.
//!
//! The bytes are authoritative, and have a checksum; the columns are always made from them, in the same statement.

use bson::raw::{RawDocument, RawDocumentBuf};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params, params_from_iter};
use tierkeep_core::document::{self, State, field};
use tierkeep_core::store::{Entries, Fault, FoundCollection, IndexLayout, id_order};

use crate::checksum;
use crate::error::{DUPLICATE_KEY, Failure};
use crate::index::{self, UNDER_ANOTHER_ID, Unique};

/// What every file has from the start.
pub(crate) const SCHEMA: &str = "
CREATE TABLE unique_indexes (
    id INTEGER PRIMARY KEY,
    collection TEXT NOT NULL,
    fields TEXT NOT NULL,
    UNIQUE (collection, fields)
) STRICT;
CREATE TABLE unique_keys (
    unique_index INTEGER NOT NULL REFERENCES unique_indexes (id),
    entry BLOB NOT NULL,
    key BLOB NOT NULL,
    PRIMARY KEY (unique_index, entry)
) STRICT, WITHOUT ROWID;
";

/// The largest document that any backend stores.
const STORED_MAX_BYTES: usize = 16 * 1024 * 1024;
/// What the names of collections' tables begin with.
pub(crate) const TABLE: &str = "documents_of_";
/// The columns that are made from the document's bytes.
pub(crate) const COLUMNS: [&str; 6] = [
    "user_id",
    "version",
    "state",
    "staged_at",
    "status",
    "backup_status",
];

/// A collection whose table exists.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    unique: Vec<Unique>,
}

/// The part of a table's name that stands for the collection: letters other than `a-z` become `$` and
/// their hex digits, because SQLite does not tell upper from lower case in names.
fn encoded(collection: &str) -> String {
    let mut name = String::with_capacity(collection.len());
    for byte in collection.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' => name.push(char::from(byte)),
            _ => name.extend(['$', digit(byte >> 4), digit(byte & 0xf)]),
        }
    }
    name
}

/// The collection that [`encoded`] made this of.
pub(crate) fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if let (b'$', [high, low, after @ ..]) = (byte, after) {
            bytes.push((value(*high) << 4) | value(*low));
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn value(digit: u8) -> u8 {
    let value = char::from(digit).to_digit(16);
    value
        .and_then(|value| u8::try_from(value).ok())
        .unwrap_or(0)
}

fn digit(half: u8) -> char {
    char::from_digit(u32::from(half), 16).unwrap_or('$')
}

impl Table {
    /// The table of `collection`, where it exists.
    pub(crate) fn find(connection: &Connection, collection: &str) -> Result<Option<Self>, Failure> {
        let name = format!("{TABLE}{}", encoded(collection));
        let exists = connection
            .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?
            .exists([&name])?;
        let table = Self {
            unique: Vec::new(),
            name,
        };
        if !exists {
            // SQLite stores the statement that created a table beside its name.
            return match connection.prepare(&table.select("1", "LIMIT 0")) {
                Ok(_) => Err(Failure::Damaged),
                // That is how SQLite says that there is no such table.
                Err(rusqlite::Error::SqlInputError { .. }) => Ok(None),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        let unique = Unique::of(connection, collection)?;
        Ok(Some(Self { unique, ..table }))
    }

    /// The table of `collection`, made where it does not exist.
    pub(crate) fn make(connection: &Connection, collection: &str) -> Result<Self, Failure> {
        if let Some(table) = Self::find(connection, collection)? {
            return Ok(table);
        }
        let of = encoded(collection);
        let name = format!("{TABLE}{of}");
        connection.execute_batch(&format!(
            r#"CREATE TABLE "{name}" (
                key BLOB NOT NULL UNIQUE,
                user_id TEXT,
                version INTEGER,
                state TEXT,
                staged_at INTEGER,
                status TEXT,
                backup_status TEXT,
                doc BLOB NOT NULL,
                sum INTEGER
            ) STRICT;
            CREATE INDEX "user_of_{of}" ON "{name}" (user_id, key)
                WHERE user_id IS NOT NULL AND {UNDER_ANOTHER_ID};"#
        ))?;
        checksum::forget(connection, &name)?;
        Ok(Self {
            name,
            unique: Vec::new(),
        })
    }

    /// The name of the table.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes an index where there is none yet.
    pub(crate) fn make_index(
        &mut self,
        connection: &Connection,
        collection: &str,
        index: &IndexLayout,
    ) -> Result<(), Failure> {
        if index.entries != Entries::Unique {
            index::over_columns(connection, self, index)?;
        } else if !self.unique.iter().any(|unique| unique.is(index)) {
            let unique = Unique::make(connection, self, collection, index)?;
            self.unique.push(unique);
        }
        Ok(())
    }

    /// A `SELECT` of `columns` from this table, with what follows the table's name.
    pub(crate) fn select(&self, columns: &str, rest: &str) -> String {
        format!(r#"SELECT {columns} FROM "{}" {rest}"#, self.name)
    }

    /// The document with this key.
    pub(crate) fn get(
        &self,
        connection: &Connection,
        key: &[u8],
    ) -> Result<Option<RawDocumentBuf>, Failure> {
        let mut statement =
            connection.prepare_cached(&self.select(checksum::CHECKED, "WHERE key = ?1"))?;
        let mut rows = statement.query([key])?;
        match rows.next()? {
            None => Ok(None),
            Some(row) => Ok(Some(checksum::document(row)?.to_owned())),
        }
    }

    /// Fails where the index over the keys is damaged at the place where `key` would be, and so cannot say that it is
    /// missing.
    ///
    /// A search that a changed entry misleads ends beside the last entry that misled it, whatever else is changed: at each
    /// later step it is on the wrong side of that entry, and goes towards it. So the two entries beside the place are
    /// compared with the rows that they stand for.
    pub(crate) fn check_absence(&self, connection: &Connection, key: &[u8]) -> Result<(), Failure> {
        let before = "WHERE key < ?1 ORDER BY key DESC LIMIT 1";
        let after = "WHERE key > ?1 ORDER BY key LIMIT 1";
        for beside in [before, after] {
            let mut statement = connection.prepare_cached(&self.select("rowid, key", beside))?;
            let mut rows = statement.query([key])?;
            let Some(entry) = rows.next()? else {
                continue;
            };
            let row: i64 = entry.get(0)?;
            let key = entry.get_ref(1)?.as_blob().map_err(|_| Failure::Damaged)?;
            let of_row = connection
                .prepare_cached(&self.select("1", "WHERE rowid = ?1 AND +key = ?2"))?
                .exists(params![row, key])?;
            if !of_row {
                return Err(Failure::Damaged);
            }
        }
        Ok(())
    }

    /// The `user_id` of the document with this key, where it is a text.
    pub(crate) fn user(
        &self,
        connection: &Connection,
        key: &[u8],
    ) -> rusqlite::Result<Option<String>> {
        connection
            .prepare_cached(&self.select("user_id", "WHERE key = ?1"))?
            .query_row([key], |row| row.get(0))
            .optional()
            .map(Option::flatten)
    }

    /// Whether there is a document with this key.
    pub(crate) fn has(&self, connection: &Connection, key: &[u8]) -> rusqlite::Result<bool> {
        connection
            .prepare_cached(&self.select("1", "WHERE key = ?1"))?
            .exists([key])
    }

    /// Why `document` may not be stored, whatever is stored under its key now.
    pub(crate) fn fault(
        &self,
        connection: &Connection,
        key: &[u8],
        document: &RawDocument,
    ) -> rusqlite::Result<Option<Fault>> {
        let fault = |code, reason: &str| {
            Ok(Some(Fault {
                code,
                reason: reason.to_owned(),
            }))
        };
        match document.get(field::ID) {
            Ok(Some(id)) if id.as_array().is_none() => {}
            Ok(_) | Err(_) => return fault(53, "it has no valid _id"),
        }
        if document.as_bytes().len() > STORED_MAX_BYTES {
            return fault(10334, "it is larger than 16 MiB");
        }
        if sound(document.as_bytes()).is_err() {
            return fault(22, "it is not valid BSON");
        }
        if self.clashes(connection, key, document)? {
            return fault(
                DUPLICATE_KEY,
                "another document holds the same unique fields",
            );
        }
        Ok(None)
    }

    /// Whether a document with another key holds the unique fields of `document`.
    pub(crate) fn clashes(
        &self,
        connection: &Connection,
        key: &[u8],
        document: &RawDocument,
    ) -> rusqlite::Result<bool> {
        for unique in &self.unique {
            let holder: Option<Vec<u8>> = connection
                .prepare_cached(
                    "SELECT key FROM unique_keys WHERE unique_index = ?1 AND entry = ?2",
                )?
                .query_row(params![unique.id, unique.entry(document)], |row| row.get(0))
                .optional()?;
            if holder.is_some_and(|holder| holder != key) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Stores `document` under `key` in place of `old`, which is what is stored there now.
    pub(crate) fn put(
        &self,
        connection: &Connection,
        key: &[u8],
        old: Option<&RawDocument>,
        document: &RawDocument,
    ) -> rusqlite::Result<()> {
        match old {
            None => self.add(connection, key, document)?,
            Some(old) => {
                self.change(connection, key, old, document)?;
                self.release(connection, old)?;
            }
        }
        for unique in &self.unique {
            connection
                .prepare_cached("INSERT INTO unique_keys VALUES (?1, ?2, ?3)")?
                .execute(params![unique.id, unique.entry(document), key])?;
        }
        Ok(())
    }

    fn add(
        &self,
        connection: &Connection,
        key: &[u8],
        document: &RawDocument,
    ) -> rusqlite::Result<()> {
        let names = COLUMNS.join(", ");
        let mut values = vec![ToSqlOutput::from(key)];
        values.extend(columns(document));
        values.push(ToSqlOutput::from(document.as_bytes()));
        values.push(ToSqlOutput::from(checksum::of(key, document.as_bytes())));
        let places = vec!["?"; values.len()].join(", ");
        connection
            .prepare_cached(&format!(
                r#"INSERT INTO "{}" (key, {names}, doc, sum) VALUES ({places})"#,
                self.name
            ))?
            .execute(params_from_iter(values))?;
        Ok(())
    }

    /// Sets only the columns in which `document` differs from `old`: SQLite rewrites the entry of every index over a
    /// column that is set, also to the value that it has.
    fn change(
        &self,
        connection: &Connection,
        key: &[u8],
        old: &RawDocument,
        document: &RawDocument,
    ) -> rusqlite::Result<()> {
        if old.as_bytes() == document.as_bytes() {
            return Ok(());
        }
        let sum = checksum::of(key, document.as_bytes());
        let mut sets = vec!["doc = ?".to_owned(), "sum = ?".to_owned()];
        let mut values = vec![ToSqlOutput::from(document.as_bytes()), sum.into()];
        let changes = columns(old).into_iter().zip(columns(document));
        for (name, (before, after)) in COLUMNS.iter().zip(changes) {
            if before != after {
                sets.push(format!("{name} = ?"));
                values.push(after);
            }
        }
        values.push(ToSqlOutput::from(key));
        connection
            .prepare_cached(&format!(
                r#"UPDATE "{}" SET {} WHERE key = ?"#,
                self.name,
                sets.join(", ")
            ))?
            .execute(params_from_iter(values))?;
        Ok(())
    }

    /// Removes `old`, which is what is stored under `key` now.
    pub(crate) fn remove(
        &self,
        connection: &Connection,
        key: &[u8],
        old: &RawDocument,
    ) -> rusqlite::Result<()> {
        connection
            .prepare_cached(&format!(r#"DELETE FROM "{}" WHERE key = ?1"#, self.name))?
            .execute([key])?;
        self.release(connection, old)
    }

    /// Removes the live document with this key if it has this version; answers whether it did.
    pub(crate) fn remove_live(
        &self,
        connection: &Connection,
        key: &[u8],
        version: i64,
    ) -> Result<bool, Failure> {
        if !self.unique.is_empty() {
            let Some(old) = self.get(connection, key)? else {
                return Ok(false);
            };
            let goes = document::state(&old) == Some(State::Live)
                && document::version(&old).is_some_and(|stored| stored.get() == version);
            if goes {
                self.remove(connection, key, &old)?;
            }
            return Ok(goes);
        }
        let gone = connection
            .prepare_cached(&format!(
                r#"DELETE FROM "{}" WHERE key = ?1 AND version = ?2 AND state = 'live'"#,
                self.name
            ))?
            .execute(params![key, version])?;
        Ok(gone > 0)
    }

    fn release(&self, connection: &Connection, old: &RawDocument) -> rusqlite::Result<()> {
        for unique in &self.unique {
            connection
                .prepare_cached("DELETE FROM unique_keys WHERE unique_index = ?1 AND entry = ?2")?
                .execute(params![unique.id, unique.entry(old)])?;
        }
        Ok(())
    }
}

/// The collections that have a table.
pub(crate) fn collections(connection: &Connection) -> rusqlite::Result<Vec<FoundCollection>> {
    let mut tables = connection.prepare_cached(
        "SELECT name FROM sqlite_schema
        WHERE type = 'table' AND name GLOB 'documents_of_*' ORDER BY name",
    )?;
    let found = tables.query_map([], |row| {
        let name: String = row.get(0)?;
        let collection = name.strip_prefix(TABLE).unwrap_or_default();
        Ok(FoundCollection::plain(decoded(collection)))
    })?;
    found.collect()
}

/// What is in the columns of a document, in the order of [`COLUMNS`].
pub(crate) fn columns(document: &RawDocument) -> [ToSqlOutput<'_>; COLUMNS.len()] {
    fn or_null<'a>(value: Option<impl Into<ToSqlOutput<'a>>>) -> ToSqlOutput<'a> {
        value.map_or(ToSqlOutput::Borrowed(ValueRef::Null), Into::into)
    }
    let version = document::metadata(document).and_then(|m| m.get_i64(field::VERSION).ok());
    let staged_at = document::staged_at(document).map(bson::DateTime::timestamp_millis);
    // A live document of a newer form is found where it is due, and not deleted as a live one.
    let state = match document::stored_state(document) {
        Some(State::Live) => document::state(document),
        state @ (Some(State::Entering | State::Erased) | None) => state,
    };
    [
        or_null(document::user_id(document)),
        or_null(version),
        or_null(state.map(State::as_str)),
        or_null(staged_at),
        or_null(document.get_str("status").ok()),
        or_null(document::backup_status(document)),
    ]
}

/// The key of `document`: its `_id`, in bytes that order as `_id`s do.
pub(crate) fn key_of(document: &RawDocument) -> Vec<u8> {
    id_order(&document::id(document))
}

/// The document in `bytes`, if it can be split into its fields to the end.
pub(crate) fn sound(bytes: &[u8]) -> Result<&RawDocument, Failure> {
    let document = RawDocument::from_bytes(bytes).map_err(|_| Failure::Damaged)?;
    if document.iter_elements().all(|element| element.is_ok()) {
        Ok(document)
    } else {
        Err(Failure::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_tell_every_collection_apart() {
        assert_eq!(encoded("internal_users"), "internal_users");
        assert_eq!(encoded("Internal"), "$49nternal");
        assert_eq!(encoded("a\"; DROP"), "a$22$3b$20$44$52$4f$50");
        assert_ne!(encoded("A"), encoded("a"));
        assert_ne!(encoded("a.b"), encoded("a_b"));
        assert_ne!(encoded("$41"), encoded("A"));
        for collection in [
            "internal_users",
            "Internal",
            "a\"; DROP",
            "a.b",
            "$41",
            "Größe",
        ] {
            assert_eq!(decoded(&encoded(collection)), collection);
        }
    }
}
