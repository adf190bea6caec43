//! The janitor: clears entries into temp that no writer will confirm any more.
//!
//! An entry is cleared once its nonce was seen twice, a minute apart by a clock that only runs forwards, so
//! no date in any document and no wall clock decides. Clearing a living writer's entry is harmless: its
//! confirmation matches nothing and it looks again. Works also while moves are paused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tierkeep_core::db::{RaseenTempUser, UserDatabase};
use tierkeep_core::document::{self, State};
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::user::UserId;
use tracing::info;

use crate::context::Engine;
use crate::copies::staging::withdraw;
use crate::databases::pages::Pages;

/// How long an entry must have been seen under one nonce.
pub const SEEN_FOR: Duration = Duration::from_mins(1);

/// Remembers which entries it has seen, and since when.
#[derive(Debug)]
pub struct Janitor {
    engine: Arc<Engine>,
    seen: HashMap<String, Duration>,
}

impl Janitor {
    /// A janitor that has seen nothing.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            seen: HashMap::new(),
        }
    }

    /// Looks at the entries in temp and clears the abandoned ones; answers how many. `now` is any time that
    /// only runs forwards, counted from the same moment in every call.
    ///
    /// # Errors
    /// [`StoreError`] when temp or the erasure ledger did not answer; the next round continues.
    pub async fn round(&mut self, now: Duration) -> Result<u64, StoreError> {
        let temp = self.engine.databases.raseen_temp_db().store();
        let mut seen = HashMap::new();
        let mut cleared = 0;
        let entries = Find::new(Query::Unstaged).head();
        let mut pages = Pages::new(temp.as_ref(), RaseenTempUser::USERS, entries);
        while let Some(page) = pages.next().await? {
            for entry in &page {
                let user = document::user_id(entry).and_then(|user| UserId::parse(user).ok());
                let nonce = document::nonce(entry);
                let (Some(State::Entering), Some(user), Some(nonce)) =
                    (document::state(entry), user, nonce)
                else {
                    continue;
                };
                let since = self.seen.get(nonce).copied().unwrap_or(now);
                if now.saturating_sub(since) < SEEN_FOR {
                    seen.insert(nonce.to_owned(), since);
                    continue;
                }
                withdraw(&self.engine, &user, nonce).await?;
                info!(
                    user_id = %user,
                    user_type = %user.user_type(),
                    "an abandoned entry was removed from raseen_temp_user",
                );
                cleared += 1;
            }
        }
        self.seen = seen;
        Ok(cleared)
    }
}
