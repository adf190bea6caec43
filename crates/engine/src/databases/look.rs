//! Opening for a look: one attempt at each database, all at once, and what is away keeps nothing else from being seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tierkeep_core::breaker::BreakerSettings;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, Hello, Store as _, StoreError};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::info;

use crate::databases::breaker::GuardSettings;
use crate::databases::error::ConnectError;
use crate::databases::manager::{ConnectionManager, Purpose};
use crate::databases::unreached::Unreached;

/// How long a look waits for a database to say hello: longer than a server far away needs, and shorter than a driver
/// looks for one.
const HELLO: Duration = Duration::from_secs(4);
/// How long it waits for each later call. A database that goes away meanwhile is not asked again.
const CALL: Duration = Duration::from_secs(3);
/// How long the checks of all databases that said hello may take together.
const CHECKS: Duration = Duration::from_secs(4);
/// Longer than any look, so that what has failed once is not asked again.
const FOR_GOOD: Duration = Duration::from_hours(24 * 365);

impl ConnectionManager {
    /// Says hello to all seven once, and admits those that answer; answers those that are away, in the order of the roles.
    /// Takes a few seconds whatever is away, and every later call of this manager too. The caller tells of them.
    ///
    /// # Errors
    /// [`ConnectError`] where what answers is wired wrongly.
    pub async fn look(&self) -> Result<Vec<Unreached>, ConnectError> {
        let (mut reached, mut away) = self.greet_once().await;
        self.guard_calls(GuardSettings {
            breaker: BreakerSettings {
                failures: 1,
                first_wait: FOR_GOOD,
                longest_wait: FOR_GOOD,
            },
            call: CALL,
            count: CALL,
            hello: CALL,
        });
        for one in &away {
            self.give_up(&one.error);
        }
        loop {
            let turn = self.admissions.lock().await;
            let admitted = self.admit(turn, reached.clone(), Purpose::Look);
            let error = match timeout(CHECKS, admitted).await {
                Ok(Ok(())) => break,
                Ok(Err(ConnectError::Store(error))) => error,
                Ok(Err(wrong)) => return Err(wrong),
                Err(_) => {
                    for role in reached.keys() {
                        let error = late(*role);
                        self.give_up(&error);
                        away.extend(self.unreached(error));
                    }
                    break;
                }
            };
            // It broke off while it was being checked; the others are looked at without it.
            self.give_up(&error);
            if reached.remove(&error.database).is_none() {
                return Err(ConnectError::Store(error));
            }
            away.extend(self.unreached(error));
        }
        away.sort_by_key(Unreached::role);
        Ok(away)
    }

    async fn greet_once(&self) -> (BTreeMap<Role, Hello>, Vec<Unreached>) {
        let mut greetings = JoinSet::new();
        for gate in self.gates.values() {
            let gate = Arc::clone(gate);
            greetings.spawn(async move {
                let greeting = timeout(HELLO, gate.unchecked().hello()).await;
                let role = gate.role();
                (role, greeting.unwrap_or_else(|_| Err(late(role))))
            });
        }
        let mut reached = BTreeMap::new();
        let mut away = Vec::new();
        for (role, greeting) in greetings.join_all().await {
            match greeting {
                Ok(hello) => {
                    info!(user_type = %role.user_type(), database = %role, "connected");
                    reached.insert(role, hello);
                }
                Err(error) => away.extend(self.unreached(error)),
            }
        }
        (reached, away)
    }

    fn give_up(&self, error: &StoreError) {
        if let Some(gate) = self.gates.get(&error.database) {
            gate.breaker().give_up(error.class);
        }
    }

    /// What is known of a database that failed so.
    pub(super) fn unreached(&self, error: StoreError) -> Option<Unreached> {
        let gate = self.gates.get(&error.database)?;
        Some(Unreached::new(gate.unchecked(), error))
    }
}

fn late(role: Role) -> StoreError {
    StoreError {
        database: role,
        operation: "hello",
        class: Class::Timeout,
        code: 0,
    }
}
