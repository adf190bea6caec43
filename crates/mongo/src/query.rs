//! Every command that is sent to a server, as pure functions from arguments to raw BSON.
//!
//! Values that come from documents or callers appear as `$eq` operands or inside `$literal` and nowhere
//! else, so that no content is ever taken for an operator or an expression. Snapshot tests beside the
//! functions hold each command's exact form.

mod admin;
mod by_index;
mod delete;
mod legacy;
mod read;
mod write;

pub(crate) use admin::*;
pub(crate) use by_index::*;
pub(crate) use delete::*;
pub(crate) use legacy::*;
pub(crate) use read::*;
pub(crate) use write::*;

use std::time::Duration;

use bson::raw::{CString, RawArrayBuf, RawBson, RawDocumentBuf, cstr};
use bson::{Bson, Document, rawdoc};
use tierkeep_core::document::SCHEMA_VERSION;

/// How long the server may work on a page.
pub(crate) const READ_LIMIT: Duration = Duration::from_secs(10);
/// How long a router may wait for a shard that is only asked whether it is there.
pub(crate) const SHARD_LIMIT: Duration = Duration::from_secs(2);
/// How long the server may count.
pub(crate) const COUNT_LIMIT: Duration = Duration::from_mins(1);
/// How long the server may build an index.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_mins(10);

/// The most bytes of documents in one command. A command is itself a document, which the server limits to
/// 16 MiB and 16 KiB; one document of 16 MiB always fits, alone.
const COMMAND_BYTES: usize = 15 * 1024 * 1024;
/// The most statements in one command; the server allows 100,000.
const COMMAND_STATEMENTS: usize = 10_000;
/// What a statement takes beside its document.
const STATEMENT_BYTES: usize = 512;

/// Cuts `items` into runs that each fit one command, by the bytes that each item takes.
pub(crate) fn runs<T>(items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut runs = Vec::new();
    let mut run = Vec::new();
    let mut total = 0_usize;
    for item in items {
        let size = bytes(&item).saturating_add(STATEMENT_BYTES);
        let full = total.saturating_add(size) > COMMAND_BYTES || run.len() >= COMMAND_STATEMENTS;
        if full && !run.is_empty() {
            runs.push(std::mem::take(&mut run));
            total = 0;
        }
        total = total.saturating_add(size);
        run.push(item);
    }
    if !run.is_empty() {
        runs.push(run);
    }
    runs
}

/// The `_id`s as raw values, cut into runs that each fit one command. Those that no document can have
/// are left out.
pub(crate) fn id_runs(ids: &[Bson]) -> Vec<RawArrayBuf> {
    let ids: Vec<RawBson> = ids
        .iter()
        .filter_map(|id| RawBson::try_from(id.clone()).ok())
        // As an operand of `$in` this would be a pattern; and no document can have it as its `_id`.
        .filter(|id| id.as_regex().is_none())
        .collect();
    runs(ids, size_of_value)
        .into_iter()
        .map(RawArrayBuf::from_iter)
        .collect()
}

fn size_of_value(value: &RawBson) -> usize {
    rawdoc! { "": value.clone() }.as_bytes().len()
}

/// The value as raw BSON. A value that cannot be encoded (a key in it holds a zero byte) can be in no
/// document; `undefined` stands for it, which the server refuses to compare with.
fn raw(value: &Bson) -> RawBson {
    RawBson::try_from(value.clone()).unwrap_or(RawBson::Undefined)
}

/// `value` as an expression that means itself.
fn literal(value: impl Into<RawBson>) -> RawDocumentBuf {
    rawdoc! { "$literal": value.into() }
}

/// `name` as a key; a name with a zero byte, which no field can have, ends there.
fn key(name: &str) -> CString {
    let name = name.split('\0').next().unwrap_or_default();
    CString::try_from(name).unwrap_or_else(|_| cstr!("").to_owned())
}

/// The expression that reads the field at `path`.
fn path(path: &str) -> String {
    format!("${path}")
}

fn size_of(whole: &RawDocumentBuf) -> i64 {
    i64::try_from(whole.as_bytes().len()).unwrap_or(i64::MAX)
}

fn write_concern() -> RawDocumentBuf {
    rawdoc! { "w": "majority", "j": true }
}

fn millis(limit: Duration) -> i64 {
    i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
}

/// The document is live: `metadata.state` says so or is missing, and its form is known.
fn is_live() -> RawDocumentBuf {
    let is_live = rawdoc! { "$or": [
        { "$eq": ["$metadata.state", "live"] },
        { "$eq": [{ "$type": "$metadata.state" }, "missing"] },
    ] };
    rawdoc! { "$and": [is_live, is_of_known_form()] }
}

/// The document's `metadata.schema_version` is not above what this version of tierkeep knows.
fn is_of_known_form() -> RawDocumentBuf {
    rawdoc! { "$not": [{ "$and": [
        { "$isNumber": "$metadata.schema_version" },
        { "$gt": ["$metadata.schema_version", SCHEMA_VERSION] },
    ] }] }
}

/// The document is neither entering nor erased.
fn is_visible() -> RawDocumentBuf {
    rawdoc! { "$not": [{ "$in": ["$metadata.state", ["entering", "erased"]] }] }
}

/// The field at `path` has the BSON type `name`.
fn has_type(field: &str, name: &str) -> RawDocumentBuf {
    rawdoc! { "$eq": [{ "$type": path(field) }, name] }
}

/// The document's fields equal all of `fields`, in value and type; null also means missing.
///
/// The comparison of values alone would take 1 for 1.0 and a text for a symbol.
fn fields_equal(fields: &Document) -> RawArrayBuf {
    let mut all = RawArrayBuf::new();
    for (name, value) in fields {
        if *value == Bson::Null {
            all.push(rawdoc! { "$in": [{ "$type": path(name) }, ["missing", "null"]] });
        } else {
            all.push(has_type(name, type_name(value)));
            all.push(rawdoc! { "$eq": [path(name), literal(raw(value))] });
        }
    }
    all
}

/// The server's name of a value's type.
fn type_name(value: &Bson) -> &'static str {
    match value {
        Bson::Double(_) => "double",
        Bson::String(_) => "string",
        Bson::Array(_) => "array",
        Bson::Document(_) => "object",
        Bson::Boolean(_) => "bool",
        Bson::Null => "null",
        Bson::RegularExpression(_) => "regex",
        Bson::JavaScriptCode(_) => "javascript",
        Bson::JavaScriptCodeWithScope(_) => "javascriptWithScope",
        Bson::Int32(_) => "int",
        Bson::Int64(_) => "long",
        Bson::Timestamp(_) => "timestamp",
        Bson::Binary(_) => "binData",
        Bson::ObjectId(_) => "objectId",
        Bson::DateTime(_) => "date",
        Bson::Symbol(_) => "symbol",
        Bson::Decimal128(_) => "decimal",
        Bson::Undefined => "undefined",
        Bson::MaxKey => "maxKey",
        Bson::MinKey => "minKey",
        Bson::DbPointer(_) => "dbPointer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command as canonical Extended JSON.
    pub(crate) fn shown(command: &RawDocumentBuf) -> serde_json::Value {
        Bson::try_from(RawBson::Document(command.clone()))
            .unwrap()
            .into_canonical_extjson()
    }

    #[test]
    fn runs_keep_the_order_and_fit_a_command_where_one_item_does() {
        let sizes = vec![1, COMMAND_BYTES, 2, 3, 16 * 1024 * 1024, 4];
        let cut = runs(sizes.clone(), |size| *size);
        assert_eq!(cut.concat(), sizes);
        assert_eq!(cut.len(), 5);
        assert_eq!(runs(vec![0; 25_000], |size| *size).len(), 3);
        assert!(runs(Vec::<usize>::new(), |size| *size).is_empty());
    }
}
