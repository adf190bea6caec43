//! Commands about the server, its collections and indexes.

use bson::raw::RawDocumentBuf;
use bson::raw::cstr;
use bson::rawdoc;
use tierkeep_core::store::{Entries, IndexLayout};

use super::{BUILD_LIMIT, READ_LIMIT, SHARD_LIMIT, key, millis, write_concern};

/// Asks the server who it is.
pub(crate) fn hello() -> RawDocumentBuf {
    rawdoc! { "hello": 1 }
}

/// Asks the server which version it is.
pub(crate) fn build_info() -> RawDocumentBuf {
    rawdoc! { "buildInfo": 1 }
}

/// Asks what the user of this connection is allowed to do. Takes no right.
pub(crate) fn connection_status() -> RawDocumentBuf {
    rawdoc! { "connectionStatus": 1, "showPrivileges": true, "maxTimeMS": millis(READ_LIMIT) }
}

/// Asks with which options the server was started; for the database `admin`. What is not MongoDB is known by its refusal.
pub(crate) fn command_line() -> RawDocumentBuf {
    rawdoc! { "getCmdLineOpts": 1 }
}

/// Lists the collections that hold documents, with their options.
pub(crate) fn list_collections() -> RawDocumentBuf {
    rawdoc! {
        "listCollections": 1,
        "filter": { "type": "collection" },
        "cursor": {},
        "maxTimeMS": millis(READ_LIMIT),
    }
}

/// Lists the indexes of a collection.
pub(crate) fn list_indexes(collection: &str) -> RawDocumentBuf {
    rawdoc! { "listIndexes": collection, "cursor": {}, "maxTimeMS": millis(READ_LIMIT) }
}

/// Lists how the collections of `database` are sharded; for the database `config` of a router.
pub(crate) fn sharded(database: &str) -> RawDocumentBuf {
    // The slash comes next after the dot: what lies between begins with the database's name and a dot.
    let of_database = rawdoc! { "$gte": format!("{database}."), "$lt": format!("{database}/") };
    rawdoc! {
        "find": "collections",
        "filter": { "_id": of_database, "dropped": { "$ne": true } },
        "projection": { "key": 1 },
        "maxTimeMS": millis(READ_LIMIT),
    }
}

/// Asks a router which members of which replica sets it reaches; for the database `admin`.
pub(crate) fn known_sets() -> RawDocumentBuf {
    rawdoc! { "connPoolStats": 1, "maxTimeMS": millis(SHARD_LIMIT) }
}

/// Finds nothing, on every shard that holds a part of the collection.
pub(crate) fn find_nothing(collection: &str) -> RawDocumentBuf {
    rawdoc! {
        "find": collection,
        "filter": { "user_id": "" },
        "projection": { "_id": 1 },
        "limit": 1,
        "singleBatch": true,
        "maxTimeMS": millis(SHARD_LIMIT),
    }
}

/// Creates an empty collection.
pub(crate) fn create(collection: &str) -> RawDocumentBuf {
    rawdoc! {
        "create": collection,
        "writeConcern": write_concern(),
        "maxTimeMS": millis(READ_LIMIT),
    }
}

/// Gives a collection the validator that refuses every `user_id` with this prefix; documents that are there already
/// can still be changed.
pub(crate) fn validate(collection: &str, keeps_out: &str) -> RawDocumentBuf {
    rawdoc! {
        "collMod": collection,
        "validator": { "user_id": { "$not": { "$regex": format!("^{keeps_out}") } } },
        "validationLevel": "moderate",
        "validationAction": "error",
        "writeConcern": write_concern(),
        "maxTimeMS": millis(READ_LIMIT),
    }
}

/// What MongoDB itself would name an index.
pub(crate) fn index_name(index: &IndexLayout) -> String {
    let fields = index.fields.iter().map(|field| format!("{field}_1"));
    fields.collect::<Vec<_>>().join("_")
}

/// Which documents are in an index that does not hold all.
pub(crate) fn partial_filter(index: &IndexLayout) -> Option<RawDocumentBuf> {
    let (Some(first), Entries::Above(above)) = (index.fields.first(), index.entries) else {
        return None;
    };
    let mut filter = RawDocumentBuf::new();
    filter.append(key(first), rawdoc! { "$gt": above });
    Some(filter)
}

/// Creates an index. It is there once a majority has built it.
pub(crate) fn create_index(collection: &str, name: &str, index: &IndexLayout) -> RawDocumentBuf {
    let mut fields = RawDocumentBuf::new();
    for field in &index.fields {
        fields.append(key(field), 1);
    }
    let mut made = rawdoc! { "key": fields, "name": name };
    if index.entries == Entries::Unique {
        made.append(cstr!("unique"), true);
    }
    if let Some(filter) = partial_filter(index) {
        made.append(cstr!("partialFilterExpression"), filter);
    }
    rawdoc! {
        "createIndexes": collection,
        "indexes": [made],
        "commitQuorum": "majority",
        "writeConcern": write_concern(),
        "maxTimeMS": millis(BUILD_LIMIT),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_json_snapshot;

    use super::super::tests::shown;
    use super::*;

    #[test]
    fn commands_about_the_server() {
        let unique = IndexLayout::over(&["user_id", "version"]).unique();
        let staged = IndexLayout::over(&["metadata.staged_at", "_id"]);
        let open = IndexLayout::over(&["status", "_id"]).above("completed");
        let commands: Vec<_> = [
            hello(),
            build_info(),
            connection_status(),
            command_line(),
            list_collections(),
            list_indexes("users"),
            sharded("raseen_main_user"),
            known_sets(),
            find_nothing("users"),
            create("users"),
            validate("users", "external_"),
            create_index("users", &index_name(&unique), &unique),
            create_index("users", &index_name(&staged), &staged),
            create_index("records", &index_name(&open), &open),
        ]
        .iter()
        .map(shown)
        .collect();
        assert_json_snapshot!("admin", commands);
    }
}
