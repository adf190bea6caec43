//! The checksum of a row: what tells a document that the disk changed from the one that was stored.
//!
//! XXH3 over the key and the document, 64 bits: it has to find accidents, not forgers, and so need not be cryptographic.
//! Since the key is part of it, a document under another's key is found too. The
//! other columns are made from the document and hold no answer by themselves ([`crate::damage`] compares them).
//!
//! A row without a checksum was written by another program, or by a version before there were checksums that works on the
//! file at the same time: it is taken as it is. The trigger of [`forget`] removes the checksum where such a program changes
//! a document. A document's next write here makes one.

use bson::raw::RawDocument;
use rusqlite::{Connection, Row};
use twox_hash::XxHash3_64;

use crate::error::Failure;
use crate::table::sound;

/// The column.
pub(crate) const COLUMN: &str = "sum";
/// What a statement selects so that [`document`] can check it.
pub(crate) const CHECKED: &str = "key, doc, sum";

/// The checksum of `document` under `key`.
pub(crate) fn of(key: &[u8], document: &[u8]) -> i64 {
    let seed = XxHash3_64::oneshot(key);
    XxHash3_64::oneshot_with_seed(seed, document).cast_signed()
}

/// The document of a row of [`CHECKED`], if it is the one that was stored under its key.
pub(crate) fn document<'a>(row: &'a Row<'_>) -> Result<&'a RawDocument, Failure> {
    let key = row.get_ref(0)?.as_blob().map_err(|_| Failure::Damaged)?;
    let bytes = row.get_ref(1)?.as_blob().map_err(|_| Failure::Damaged)?;
    let sum: Option<i64> = row.get(2).map_err(|_| Failure::Damaged)?;
    if sum.is_some_and(|sum| sum != of(key, bytes)) {
        return Err(Failure::Damaged);
    }
    sound(bytes)
}

/// Has SQLite remove the checksum of a row whose document changes while the checksum does not.
pub(crate) fn forget(connection: &Connection, table: &str) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        r#"CREATE TRIGGER IF NOT EXISTS "unsummed_{table}" AFTER UPDATE OF doc ON "{table}"
           WHEN NEW.sum IS OLD.sum
           BEGIN UPDATE "{table}" SET sum = NULL WHERE rowid = NEW.rowid; END"#
    ))
}
