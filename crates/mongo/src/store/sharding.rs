//! How a router's cluster shards the collections. Only asks.

use bson::Document;
use bson::raw::RawDocument;
use futures_util::future::join_all;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{ForeignShardKey, Store as _};

use super::{GRACE, LIMIT, MongoStore, reply};
use crate::error::{self, Failure};
use crate::query::{self, SHARD_LIMIT};

impl MongoStore {
    /// The collections of this database that are sharded by something else than `_id`.
    pub(super) async fn sharded_otherwise(&self) -> Result<Vec<ForeignShardKey>, Failure> {
        let hello = self.send(query::hello(), LIMIT).await?;
        if !reply::is_of_router(&hello) {
            return Ok(Vec::new());
        }
        let database = self.database.name();
        let listed = self.beside("config");
        let listed = match listed.list(query::sharded(database), LIMIT).await {
            // A user of one database need not be able to read what is in the cluster's.
            Err(failure) if failure.code == error::UNAUTHORIZED => return Ok(Vec::new()),
            listed => listed?,
        };
        let foreign = listed.iter().filter_map(|found| {
            let (_, collection) = found.get_str("_id").ok()?.split_once('.')?;
            let key = found.get_document("key").ok()?;
            (!is_of_id(key)).then(|| ForeignShardKey {
                database: database.to_owned(),
                collection: collection.to_owned(),
                key: shown(key),
            })
        });
        Ok(foreign.collect())
    }

    /// The shards that the router does not reach, of those that hold a part of this database.
    pub(super) async fn unreached_shards(&self) -> Result<Vec<String>, Failure> {
        if !self.is_sharded() {
            return Ok(Vec::new());
        }
        let spread = if self.role == Role::EvaluationAudit {
            Some(collection::MIGRATION_RECORDS)
        } else {
            self.role.users()
        };
        // The first lies on one shard, with all that is not spread.
        let asked = [Some(collection::IDENTITY), spread].into_iter().flatten();
        let asked = asked.map(|asked| self.send(query::find_nothing(asked), SHARD_LIMIT + GRACE));
        let mut is_whole = true;
        for answer in join_all(asked).await {
            match answer {
                Ok(_) => {}
                Err(failure) if failure.is_of_a_shard() => is_whole = false,
                Err(failure) => return Err(failure),
            }
        }
        if is_whole {
            return Ok(Vec::new());
        }
        let lost = self.beside("admin").send(query::known_sets(), LIMIT).await;
        let lost = lost.map_or_else(|_| Vec::new(), |known| reply::sets_without_primary(&known));
        if lost.is_empty() {
            // It has not noticed yet, or this user may not ask.
            return Ok(vec!["one of its shards".to_owned()]);
        }
        Ok(lost.iter().map(|set| format!("the shard {set}")).collect())
    }
}

/// Whether the shard key is `_id` alone, ranged or hashed.
fn is_of_id(key: &RawDocument) -> bool {
    let mut fields = key.into_iter().map_while(Result::ok);
    let first = fields.next();
    first.is_some_and(|(name, _)| name == "_id") && fields.next().is_none()
}

fn shown(key: &RawDocument) -> String {
    Document::try_from(key).map_or_else(|_| "unreadable".to_owned(), |key| key.to_string())
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn only_the_id_alone_is_a_key_by_which_an_id_is_stored_once() {
        assert!(is_of_id(&rawdoc! { "_id": 1 }));
        assert!(is_of_id(&rawdoc! { "_id": "hashed" }));
        for key in [
            rawdoc! { "user_id": 1 },
            rawdoc! { "_id": 1, "user_id": 1 },
            rawdoc! { "user_id": "hashed", "_id": 1 },
            rawdoc! {},
        ] {
            assert!(!is_of_id(&key), "{key:?}");
        }
    }
}
