//! Why the seven databases cannot be used together.

use tierkeep_core::db::Role;
use tierkeep_core::store::{ForeignShardKey, FoundCollection, FoundIndex, StoreError};

use crate::databases::unreached::{Unreached, listed};

/// Why the databases cannot be used. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Databases stay away after all retries, among them some without which nothing works.
    #[error("databases unavailable:{}", listed(.0))]
    Unreachable(Vec<Unreached>),
    /// Two roles lead to one database.
    #[error(
        "{first} and {second} resolve to the same database {database:?} on the same server; set {} and {} to different \
         databases",
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
        "the database of {role} is stamped as {found}: {} names the wrong database",
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
        "the database of {role} belongs to deployment {found}, the others to {expected}: {} names a database of \
         another deployment",
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
        "{beside} belongs to deployment {found}, but evaluation_audit is empty: {} names the wrong database, or its \
         data is lost, including the erasure ledger; correct it, restore the database from a copy, or, if it is \
         permanently lost, run `tierkeep init --new-audit` once",
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
    /// An option of a collection makes the server delete or confuse documents by itself.
    #[error("{role}.{hazard}; in the database that {} names: {}", role.url_variable(), hazard.remedy())]
    Hazard {
        /// The role.
        role: Role,
        /// The option.
        hazard: Hazard,
    },
    /// The server is a product other than MongoDB, and guarantees less.
    #[error(
        "the server of {role} ({}) is {product}, which was not tested and guarantees less than safe moves require; use \
         MongoDB, or set TIERKEEP_UNTESTED_SERVER=on to start anyway",
        role.url_variable()
    )]
    Imitator {
        /// The role.
        role: Role,
        /// What the server is.
        product: &'static str,
    },
    /// The stores do not fit the roles.
    #[error("no store was given for {0}")]
    Missing(Role),
    /// A database broke off while it was being checked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An option of a collection of users or HR records that no such collection may have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Hazard {
    /// The server removes the oldest documents as new ones come in.
    #[error(
        "{0} is a capped collection, from which the server removes the oldest documents as new ones come in"
    )]
    Capped(String),
    /// The server deletes by age, without an index that says so.
    #[error(
        "{0} has the option expireAfterSeconds, by which the server deletes documents before they are moved or backed up"
    )]
    Expires(String),
    /// Ids that differ can be equal.
    #[error(
        "{collection} has the default collation {locale:?}, by which ids that differ can be equal"
    )]
    Collation {
        /// The collection.
        collection: String,
        /// Its collation's locale.
        locale: String,
    },
}

impl Hazard {
    /// The first hazard of `collection`.
    pub fn of(collection: &FoundCollection) -> Option<Self> {
        let name = || collection.name.clone();
        if collection.capped {
            return Some(Self::Capped(name()));
        }
        if collection.expires {
            return Some(Self::Expires(name()));
        }
        collection.collation.clone().map(|locale| Self::Collation {
            collection: name(),
            locale,
        })
    }

    /// How an operator takes the option away, in the shell of the database.
    pub fn remedy(&self) -> String {
        match self {
            Self::Expires(collection) => {
                format!(
                    "db.runCommand({{ collMod: \"{collection}\", expireAfterSeconds: \"off\" }})"
                )
            }
            // Neither can be changed: the documents go into a collection without it.
            Self::Capped(collection) | Self::Collation { collection, .. } => format!(
                "db.{collection}.renameCollection(\"{collection}_old\"); db.createCollection(\"{collection}\"); \
                 db.{collection}_old.aggregate([{{ $merge: {{ into: \"{collection}\" }} }}]); when the counts agree, \
                 db.{collection}_old.drop()"
            ),
        }
    }
}

fn shard_key_message(role: Role, found: &ForeignShardKey) -> String {
    let ForeignShardKey {
        collection, key, ..
    } = found;
    format!(
        "{role}.{collection} is sharded by {key}: two shards can each store a document with the same _id, and only a shard key \
         of _id alone prevents that; change it on the router that {} names, with: {}",
        role.url_variable(),
        found.remedy()
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
