//! Which shards of a database are away, how long its reads wait meanwhile, and what doctor says about shards.
//!
//! A router answers for the shards that are there, and says after ten seconds and more that one is not. What is asked for
//! by `_id` needs one shard; what is asked for otherwise needs all. While one is away a read that does not answer soon is
//! one that needs it: it fails, and readers of the backup wait no longer. Must never cut a write short, whose outcome has
//! to be known.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, ForeignShardKey, Result, Store, StoreError};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::databases::doctor::{Finding, Severity, UNREACHABLE};
use crate::databases::error::ConnectError;

/// How often reads ask all shards at most; the health probes of a service ask more often.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a read waits while a shard is away.
const MOMENT: Duration = Duration::from_secs(2);

/// Knows which shards of a database are away.
#[derive(Debug)]
pub(crate) struct ShardWatch {
    store: Arc<dyn Store>,
    sight: Mutex<Sight>,
}

#[derive(Debug, Default)]
struct Sight {
    away: Vec<String>,
    looked_at: Option<Instant>,
    /// A read has failed since.
    is_doubtful: bool,
}

impl ShardWatch {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            sight: Mutex::default(),
        }
    }

    /// What `read` comes to: as always while all shards are there, else within a moment.
    pub(crate) async fn within_patience<T>(
        &self,
        operation: &'static str,
        read: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        if !self.store.is_sharded() {
            return read.await;
        }
        if self.takes_a_look() {
            self.look().await.ok();
        }
        let is_whole = self.sight().away.is_empty();
        let answer = if is_whole {
            read.await
        } else {
            let late = StoreError {
                database: self.store.role(),
                operation,
                // The router answers: no reason to refuse calls that need other shards.
                class: Class::Other,
                code: 0,
            };
            timeout(MOMENT, read).await.unwrap_or(Err(late))
        };
        if answer.is_err() {
            self.sight().is_doubtful = true;
        }
        answer
    }

    /// Which were away when they were last asked.
    pub(crate) fn known_away(&self) -> Vec<String> {
        self.sight().away.clone()
    }

    /// Asks all shards now; answers which are away.
    pub(crate) async fn look(&self) -> Result<Vec<String>> {
        let away = self.store.shards_away().await;
        let role = self.store.role();
        let mut sight = self.sight();
        sight.looked_at = Some(Instant::now());
        sight.is_doubtful = away.is_err();
        if let Ok(away) = &away
            && *away != sight.away
        {
            if away.is_empty() {
                info!(user_type = %role.user_type(), database = %role, "all shards of the database are available again");
            } else {
                warn!(
                    user_type = %role.user_type(),
                    database = %role,
                    shards = away.join(", "),
                    "a shard of the database is unavailable; documents on other shards are served",
                );
            }
            sight.away.clone_from(away);
        }
        away
    }

    /// Whether this read asks all shards first: while one is away or a read has failed, once in ten seconds. Notes the time, so that of
    /// several reads one asks.
    fn takes_a_look(&self) -> bool {
        let mut sight = self.sight();
        let now = Instant::now();
        let is_recent = |at: Instant| now.duration_since(at) < LOOK_EVERY;
        let is_open = sight.is_doubtful || !sight.away.is_empty();
        if !is_open || sight.looked_at.is_some_and(is_recent) {
            return false;
        }
        sight.looked_at = Some(now);
        true
    }

    fn sight(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first collection of users, HR records or the audit database that is sharded by something else than `_id`.
///
/// # Errors
/// [`StoreError`] where the database does not answer.
pub(crate) async fn foreign_key(store: &dyn Store) -> Result<Option<ForeignShardKey>> {
    let role = store.role();
    let ours = |key: &ForeignShardKey| role.users().is_none_or(|users| users == key.collection);
    Ok(store.foreign_shard_keys().await?.into_iter().find(ours))
}

/// What is wrong with the shards of a database.
pub(crate) async fn examined(store: &dyn Store) -> Vec<Finding> {
    let role = store.role();
    let mut findings = Vec::new();
    match foreign_key(store).await {
        Ok(Some(key)) => findings.push(foreign(role, key)),
        Ok(None) => {}
        Err(error) => findings.push(Finding::unanswered(&error)),
    }
    match store.shards_away().await {
        Ok(away) if away.is_empty() => {}
        Ok(away) => findings.push(Finding::new(
            UNREACHABLE,
            Severity::Error,
            role,
            format!(
                "the router of {role} cannot reach {}; documents on other shards are served",
                away.join(", ")
            ),
            "start the servers of that shard, or make them reachable from the routers",
        )),
        Err(error) => findings.push(Finding::unanswered(&error)),
    }
    findings
}

fn foreign(role: Role, key: ForeignShardKey) -> Finding {
    let remedy = key.remedy();
    let wrong = ConnectError::ShardKey { role, key };
    Finding::new(
        "shard_key",
        Severity::Error,
        role,
        wrong.to_string(),
        remedy,
    )
}
