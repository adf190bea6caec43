//! Waiting for what can be done without: so long and no longer, and for a while after that not at all.
//!
//! A database that hangs delays one caller now and then, and none for longer than the limit. Must never be put
//! around a step whose outcome has to be known: one that is given up may have its effect yet.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, StoreError};
use tokio::time::{Instant, timeout};

/// How long a database is not asked again after a timeout.
const REST: Duration = Duration::from_secs(5);

/// The patience with one database. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct OptionalRead {
    database: Role,
    limit: Duration,
    lost_at: Arc<Mutex<Option<Instant>>>,
}

impl OptionalRead {
    /// A caller waits for `limit` at most.
    pub(crate) fn new(database: Role, limit: Duration) -> Self {
        Self {
            database,
            limit,
            lost_at: Arc::default(),
        }
    }

    /// What `asked` comes to.
    ///
    /// # Errors
    /// That of `asked`; [`Class::Timeout`] where it took too long, or was not asked because another did.
    pub(crate) async fn with<T, E: From<StoreError>>(
        &self,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if !self.is_worth_it(Instant::now()) {
            return Err(self.in_vain().into());
        }
        let Ok(answer) = timeout(self.limit, asked).await else {
            *self.lost_at() = Some(Instant::now());
            return Err(self.in_vain().into());
        };
        *self.lost_at() = None;
        answer
    }

    /// One at a time finds out whether it answers again.
    fn is_worth_it(&self, now: Instant) -> bool {
        let mut lost_at = self.lost_at();
        if lost_at.is_some_and(|at| now.duration_since(at) < REST) {
            return false;
        }
        *lost_at = lost_at.map(|_| now);
        true
    }

    fn in_vain(&self) -> StoreError {
        StoreError {
            database: self.database,
            operation: "look",
            class: Class::Timeout,
            code: 0,
        }
    }

    fn lost_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.lost_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
