//! Commands that read the predecessor's database. None of them writes.

use bson::raw::{RawArrayBuf, RawDocumentBuf, cstr};
use bson::{Bson, Document, Timestamp, doc, rawdoc};
use tierkeep_core::store::SIZE;

use super::{COUNT_LIMIT, READ_LIMIT, id_runs, key, millis};

/// How many documents are sent together of which only parts are asked for.
pub(crate) const PARTS_TOGETHER: u32 = 2_000;

fn read_concern(not_before: Option<Timestamp>) -> RawDocumentBuf {
    let mut concern = rawdoc! { "level": "majority" };
    if let Some(at) = not_before {
        concern.append(cstr!("afterClusterTime"), at);
    }
    concern
}

/// Counts a collection.
pub(crate) fn legacy_count(collection: &str) -> RawDocumentBuf {
    rawdoc! {
        "aggregate": collection,
        "pipeline": [{ "$match": {} }, { "$count": "n" }],
        "cursor": {},
        "readConcern": read_concern(None),
        "maxTimeMS": millis(COUNT_LIMIT),
    }
}

/// Asks for the count that the server keeps of a collection.
pub(crate) fn estimate(collection: &str) -> RawDocumentBuf {
    rawdoc! { "count": collection, "maxTimeMS": millis(READ_LIMIT) }
}

/// Reads a whole collection; of each document only `fields`, and its size, where they are given.
pub(crate) fn legacy_scan(
    collection: &str,
    fields: Option<&[&str]>,
    not_before: Option<Timestamp>,
) -> RawDocumentBuf {
    let mut command = rawdoc! {
        "find": collection,
        "projection": projection(fields),
        "readConcern": read_concern(not_before),
        "noCursorTimeout": false,
    };
    if fields.is_some() {
        command.append(cstr!("batchSize"), i64::from(PARTS_TOGETHER));
    }
    command
}

fn projection(fields: Option<&[&str]>) -> RawDocumentBuf {
    let mut projection = RawDocumentBuf::new();
    if let Some(fields) = fields {
        let mut fields = fields.to_vec();
        fields.sort_unstable();
        fields.dedup();
        for field in fields {
            projection.append(key(field), 1);
        }
        projection.append(key(SIZE), rawdoc! { "$bsonSize": "$$ROOT" });
    }
    projection
}

/// Reads documents by `_id`; of each only `fields`, and its size, where they are given.
pub(crate) fn legacy_fetch(
    collection: &str,
    ids: &[Bson],
    fields: Option<&[&str]>,
    not_before: Option<Timestamp>,
) -> Vec<RawDocumentBuf> {
    // One more than there can be: the server sees the end, and sends everything at once.
    let batch_size = i64::try_from(ids.len())
        .unwrap_or(i64::MAX)
        .saturating_add(1);
    let read = |ids: RawArrayBuf| {
        rawdoc! {
            "find": collection,
            "filter": { "_id": { "$in": ids } },
            "projection": projection(fields),
            "batchSize": batch_size,
            "readConcern": read_concern(not_before),
        }
    };
    id_runs(ids).into_iter().map(read).collect()
}

/// What is asked of each change: which document, never its content.
pub(crate) fn legacy_changes() -> Vec<Document> {
    vec![doc! { "$project": {
        "_id": 1, "operationType": 1, "ns": 1, "documentKey._id": 1, "clusterTime": 1,
    } }]
}

#[cfg(test)]
mod tests {
    use insta::assert_json_snapshot;

    use super::super::tests::shown;
    use super::*;

    #[test]
    fn the_predecessors_database_is_only_read() {
        let at = Timestamp {
            time: 7,
            increment: 1,
        };
        let mut commands = vec![
            legacy_count("users"),
            estimate("users"),
            legacy_scan("users", None, None),
            legacy_scan("users", Some(&["b", "_id", "b"]), Some(at)),
        ];
        let ids = [Bson::Int32(1), "a".into()];
        commands.extend(legacy_fetch("users", &ids, None, None));
        commands.extend(legacy_fetch("users", &ids, Some(&["b"]), None));
        let shown: Vec<_> = commands.iter().map(shown).collect();
        assert_json_snapshot!("legacy", (shown, legacy_changes()));
    }
}
