//! Chunks that move during a test.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bson::rawdoc;
use tokio::task::JoinHandle;

use crate::cluster::ShardedCluster;
use crate::node::{code, is_ok};
use crate::router::move_range;
use crate::routing::Placement;

/// The pause between two moves.
const PAUSE: Duration = Duration::from_millis(20);

/// Chunks move from shard to shard until it is stopped.
#[derive(Debug)]
pub struct Shuffle {
    stop: Arc<AtomicBool>,
    moved: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Shuffle {
    /// How many chunks have moved.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Acquire)
    }

    /// Lets the move that is under way come to its end; how many chunks have moved.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.task.await.ok();
        self.moved.load(Ordering::Acquire)
    }
}

impl ShardedCluster {
    /// Moves a chunk of `namespace`, the `turn`th of them, to the next shard. Whether it moved: a shard that still has
    /// something to clean up takes no chunk back.
    ///
    /// # Errors
    /// Where the collection is not sharded or the config server does not answer.
    pub async fn move_chunk(&self, namespace: &str, turn: usize) -> io::Result<bool> {
        let (database, collection) = namespace.split_once('.').unwrap_or_default();
        let config = self.config();
        let placement = Placement::read(&config, database, collection).await?;
        let sharded = placement.and_then(|placement| placement.sharded);
        let unsharded = || io::Error::other(format!("{namespace} is not sharded"));
        let sharded = sharded.ok_or_else(unsharded)?;
        let chunk = &sharded.chunks[turn % sharded.chunks.len()];
        let shards: Vec<&str> = self.shards().collect();
        let here = shards.iter().position(|shard| *shard == chunk.shard);
        let to = shards[(here.unwrap_or_default() + 1) % shards.len()];
        let command = move_range(namespace, chunk.min.clone(), Some(chunk.max.clone()), to);
        let answer = self.ask_config("admin", &command).await?;
        Ok(is_ok(&answer))
    }

    /// Moves chunks of these collections in turn, until it is stopped.
    pub fn shuffle(self: &Arc<Self>, namespaces: Vec<String>) -> Shuffle {
        let stop = Arc::<AtomicBool>::default();
        let moved = Arc::<AtomicU64>::default();
        let (cluster, stopped, count) = (Arc::clone(self), Arc::clone(&stop), Arc::clone(&moved));
        let task = tokio::spawn(async move {
            for turn in 0.. {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                let namespace = &namespaces[turn % namespaces.len()];
                let of_namespace = turn / namespaces.len();
                if let Ok(true) = cluster.move_chunk(namespace, of_namespace).await {
                    count.fetch_add(1, Ordering::AcqRel);
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Shuffle { stop, moved, task }
    }

    /// Cuts a collection that is sharded by `_id` before each of these keys.
    ///
    /// # Errors
    /// Where the router does not answer or a cut is refused.
    pub async fn cut(&self, namespace: &str, keys: &[&str]) -> io::Result<()> {
        for key in keys {
            let command = rawdoc! { "split": namespace, "middle": { "_id": *key } };
            let answer = self.ask("admin", &command).await?;
            if !is_ok(&answer) {
                let code = code(&answer);
                return Err(io::Error::other(format!("{namespace}: {key}: {code}")));
            }
        }
        Ok(())
    }
}
