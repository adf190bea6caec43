//! How a router's cluster shards the collections. Only asks.

use bson::Document;
use bson::raw::RawDocument;
use tierkeep_core::store::ForeignShardKey;

use super::{LIMIT, MongoStore};
use crate::error::{self, Failure};
use crate::query;

impl MongoStore {
    /// The collections of this database that are sharded by something else than `_id`.
    pub(super) async fn sharded_otherwise(&self) -> Result<Vec<ForeignShardKey>, Failure> {
        let hello = self.send(query::hello(), LIMIT).await?;
        if hello.get_str("msg").ok() != Some("isdbgrid") {
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
