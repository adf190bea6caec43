//! The MongoDB store behind a router, on a cluster of two shards.

mod hashed;
mod keys;
mod scans;

use std::sync::{Arc, OnceLock};

use tierkeep_core::db::Role;
use tierkeep_mongo::MongoStore;
use tierkeep_sharded::{AutoShard, Key, ShardedCluster};
use tierkeep_testkit::conformance::Subject;

use crate::bench::fresh_name;

/// Laws about unique fields other than `_id`, which no sharded collection can have: their collections stay on one
/// shard.
const OF_UNIQUE_FIELDS: [&str; 13] = [
    "a_clash_on_another_key_keeps_no_other_out",
    "documents_of_one_batch_clash_with_each_other",
    "an_existing_id_comes_before_a_clash",
    "what_is_appended_ends_with_the_first_that_is_not_stored",
    "a_put_that_clashes_keeps_no_other_out",
    "a_put_frees_the_unique_fields_it_replaces",
    "of_inserts_that_clash_one_is_stored",
    "preparing_twice_changes_nothing",
    "preparing_adds_what_is_missing",
    "preparing_a_smaller_layout_drops_nothing",
    "prepared_indexes_are_listed_and_none_deletes_by_age",
    "a_write_that_clashes_is_rejected",
    "what_stores_wrote_has_no_damage",
];
/// What the names of databases begin with whose collections are sharded by the hash of `_id`.
const HASHED: &str = "hashed_";
/// What the names of databases begin with whose collections are sharded by `_id`.
const RANGED: &str = "ranged_";
/// The first `_id` on the second shard: most laws have users on both sides.
const CUT: &str = "internal_000000000000000000000002";

/// The cluster of this test program; its processes end with it.
pub(crate) fn cluster() -> &'static Arc<ShardedCluster> {
    static CLUSTER: OnceLock<Arc<ShardedCluster>> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = ShardedCluster::start(2).unwrap();
        let except: Vec<String> = OF_UNIQUE_FIELDS.map(str::to_owned).to_vec();
        for (databases, key) in [(HASHED, Key::HashedId), (RANGED, Key::Id(CUT.into()))] {
            let except = except.clone();
            cluster.shard_new(AutoShard {
                databases,
                except,
                key,
            });
        }
        Arc::new(cluster)
    })
}

/// A store over an empty database behind the router, whose name begins like this.
pub(crate) async fn store(databases: &str) -> MongoStore {
    let name = format!("{databases}{}", fresh_name());
    let url = cluster().url(&name, "heartbeatFrequencyMS=500");
    MongoStore::connect(&url.into(), Role::RaseenTempUser)
        .await
        .unwrap()
}

async fn subject_of(databases: &str) -> Subject {
    Subject {
        store: Arc::new(store(databases).await),
        guard: Box::new(()),
    }
}
