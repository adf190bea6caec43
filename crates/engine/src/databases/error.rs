//! Why the seven databases cannot be used together.

use tierkeep_core::db::Role;
use tierkeep_core::store::{ForeignShardKey, FoundIndex, StoreError};

/// Why the databases cannot be used. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Databases without which nothing works stay away after all retries.
    #[error("{}", unreachable_message(.0))]
    Unreachable(Vec<StoreError>),
    /// Two roles lead to one database.
    #[error(
        "{first} and {second} lead to the same database {database:?} on the same server; give {} and {} different databases",
        first.url_variable(), second.url_variable()
    )]
    SameDatabase {
        /// One role.
        first: Role,
        /// The other.
        second: Role,
        /// The database's name.
        database: String,
    },
    /// A database is stamped as another role.
    #[error(
        "the database of {role} is stamped as {found}: {} leads to the wrong database",
        role.url_variable()
    )]
    StampedAsOther {
        /// The role it was configured as.
        role: Role,
        /// What its stamp says.
        found: String,
    },
    /// A database belongs to another deployment.
    #[error(
        "the database of {role} belongs to deployment {found}, the others to {expected}: {} leads to another deployment's data",
        role.url_variable()
    )]
    OtherDeployment {
        /// The role.
        role: Role,
        /// The deployment its stamp names.
        found: String,
        /// The deployment of the others.
        expected: String,
    },
    /// The stamps lead to a deployment whose `evaluation_audit` is not here.
    #[error(
        "{beside} belongs to deployment {found}, and evaluation_audit is empty: {} leads to another database, or \
         its data is lost, with the record of who was erased; give the right one, bring it back from a copy, or, when \
         it is lost for good, run `tierkeep init --new-audit` once",
        Role::EvaluationAudit.url_variable()
    )]
    AuditLost {
        /// One of the databases that are stamped.
        beside: Role,
        /// The deployment its stamp names.
        found: String,
    },
    /// The server would delete documents by age before they are moved or backed up.
    #[error("{}", ttl_message(*role, index))]
    TtlIndex {
        /// The role.
        role: Role,
        /// The index.
        index: FoundIndex,
    },
    /// A collection is sharded by something else than `_id`, so that two shards can each store the same `_id`.
    #[error("{}", shard_key_message(*role, key))]
    ShardKey {
        /// The role.
        role: Role,
        /// The collection, and what it is sharded by.
        key: ForeignShardKey,
    },
    /// The stores do not fit the roles.
    #[error("no store was given for {0}")]
    Missing(Role),
    /// A database broke off while it was being checked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn unreachable_message(errors: &[StoreError]) -> String {
    let line = |error: &StoreError| {
        let variable = error.database.url_variable();
        format!(
            "\n  {} ({}; see {variable})",
            error.database,
            error.class.as_str()
        )
    };
    let lines: Vec<String> = errors.iter().map(line).collect();
    format!("cannot reach:{}", lines.concat())
}

fn shard_key_message(role: Role, found: &ForeignShardKey) -> String {
    let ForeignShardKey {
        database,
        collection,
        key,
    } = found;
    format!(
        "{role}.{collection} is sharded by {key}: two shards can each store a document with the same _id, and only a shard key \
         of _id alone prevents that; change it on the router that {} names, with: \
         db.adminCommand({{ reshardCollection: \"{database}.{collection}\", key: {{ _id: \"hashed\" }} }})",
        role.url_variable()
    )
}

fn ttl_message(role: Role, index: &FoundIndex) -> String {
    format!(
        "{role}.{} has the TTL index {:?}, which deletes documents before they are moved or backed up; \
         drop it in the database that {} names, with: db.{}.dropIndex(\"{}\")",
        index.collection,
        index.name,
        role.url_variable(),
        index.collection,
        index.name
    )
}
