//! Deleting many documents with few statements.

use bson::raw::{RawArrayBuf, RawDocumentBuf};
use bson::rawdoc;
use tierkeep_core::bson;
use tierkeep_core::document;
use tierkeep_core::store::Fence;

use super::{has_type, id_runs, is_live, literal, raw, runs, size_of, write_concern};

/// How many whole documents one statement names: each stored one is compared with all of them, which ends at the size or
/// the `_id` for all but its own.
const WHOLE_AT_ONCE: usize = 64;

/// Deletes live documents at exactly the versions given, with few statements: one for each version, as long
/// as its `_id`s fit one command; and whole documents, many with one statement. The server takes an int64 for the double
/// of the same value; the caller decides that by reading the whole documents first.
pub(crate) fn delete(collection: &str, fences: &[Fence]) -> Vec<RawDocumentBuf> {
    let mut statements = Vec::new();
    let mut wholes = Vec::new();
    for fence in fences {
        match fence {
            Fence::Version { version, ids } => {
                statements.extend(id_runs(ids).into_iter().map(|ids| {
                    rawdoc! {
                        "q": {
                            "_id": { "$in": ids },
                            "metadata.version": version.get(),
                            "$expr": { "$and": [has_type("metadata.version", "long"), is_live()] },
                        },
                        "limit": 0,
                    }
                }));
            }
            Fence::Whole(whole) => wholes.push(whole),
        }
    }
    for run in runs(wholes, |whole| whole.as_bytes().len()) {
        statements.extend(run.chunks(WHOLE_AT_ONCE).map(delete_whole));
    }
    runs(statements, |statement| statement.as_bytes().len())
        .into_iter()
        .map(|run| {
            rawdoc! {
                "delete": collection,
                "deletes": run.into_iter().collect::<RawArrayBuf>(),
                "ordered": false,
                "writeConcern": write_concern(),
            }
        })
        .collect()
}

fn delete_whole(wholes: &[&RawDocumentBuf]) -> RawDocumentBuf {
    let ids: RawArrayBuf = wholes
        .iter()
        .map(|whole| raw(&document::id(whole)))
        .collect();
    let named = wholes.iter().map(|whole| {
        rawdoc! { "size": size_of(whole), "document": (*whole).clone() }
    });
    rawdoc! {
        "q": {
            "_id": { "$in": ids },
            "$expr": { "$in": [
                { "size": { "$bsonSize": "$$ROOT" }, "document": "$$ROOT" },
                literal(named.collect::<RawArrayBuf>()),
            ] },
        },
        "limit": 0,
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_json_snapshot;
    use tierkeep_core::version::Version;

    use super::super::tests::shown;
    use super::*;

    #[test]
    fn deletes() {
        let fences = [
            Fence::Version {
                version: Version::new(1).unwrap(),
                ids: vec!["a".into(), "b".into()],
            },
            Fence::Version {
                version: Version::new(9).unwrap(),
                ids: vec!["c".into()],
            },
            Fence::Whole(rawdoc! { "_id": "d", "user_id": "d" }),
            Fence::Whole(rawdoc! { "_id": "e", "user_id": "e" }),
        ];
        let commands: Vec<_> = delete("users", &fences).iter().map(shown).collect();
        assert_json_snapshot!("delete", commands);
    }
}
