//! Which GitHub account each internal user came with: kept in `evaluation_audit.control`, so that every
//! process and every later one knows it.
//!
//! Must never decide who is asking; it says whether the account is the one of before. Names nobody: user and account
//! are kept as hashes under the key of the erasure ledger, and go when the user is erased.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, doc};
use moka::future::Cache;
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::erasure::LedgerKey;
use tierkeep_core::store::{Change, Class, Find, Guard, Query, StoreError};
use tierkeep_core::user::UserId;

use crate::context::Engine;
use crate::databases::control;
use crate::databases::optional_read::OptionalRead;
use crate::databases::retry::repeating;

const KIND: &str = "github_account";
const ACCOUNT: &str = "account";
/// How long and of how many users an answer is remembered: another process may follow a change meanwhile.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);
const REMEMBERED: u64 = 10_000;
/// How long the comparison may take; a caller waits for it. Given up, it may yet keep an account where there was none.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// How often a change that lost a race is looked at again.
const ROUNDS: u32 = 8;

/// What becomes of a user who arrives with another account than before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnChange {
    /// The other account is the one of before from now on.
    #[default]
    Follow,
    /// The first account stays; the other one is for the caller to refuse.
    Refuse,
}

/// How an account compares with the one of before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindingCheck {
    /// The user came with this one, or for the first time.
    Same,
    /// The user came with another one.
    Other,
}

/// The GitHub accounts of internal users. Clones share their memory.
#[derive(Clone, Debug)]
pub struct Bindings {
    engine: Arc<Engine>,
    on_change: OnChange,
    known: Cache<UserId, u64>,
    patience: OptionalRead,
}

impl Bindings {
    /// The accounts that these databases know.
    pub fn new(engine: Arc<Engine>, on_change: OnChange) -> Self {
        Self {
            engine,
            on_change,
            known: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(REMEMBERED_FOR)
                .build(),
            patience: OptionalRead::new(Role::EvaluationAudit, LONGEST_LOOK),
        }
    }

    /// What becomes of a change.
    pub fn on_change(&self) -> OnChange {
        self.on_change
    }

    /// Compares the account with which `user` arrives with the one of before, and keeps it where there was none.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer within two seconds, or for another caller just before.
    pub async fn meet(&self, user: &UserId, account: u64) -> Result<BindingCheck, StoreError> {
        if self.known.get(user).await == Some(account) {
            return Ok(BindingCheck::Same);
        }
        let met = self.patience.with(self.look(user, account)).await?;
        if met == BindingCheck::Same || self.on_change == OnChange::Follow {
            self.known.insert(user.clone(), account).await;
        }
        Ok(met)
    }

    async fn look(&self, user: &UserId, account: u64) -> Result<BindingCheck, StoreError> {
        let store = self.engine.databases.audit_db().store();
        let ledger = self.engine.ledger();
        let key = ledger.key_or_new(self.engine.randomness()).await?;
        let id = id_of(key, user);
        let account = key.entry_id(&format!("{id}/{account}"));
        let ids = [Bson::String(id.clone())];
        for _ in 0..ROUNDS {
            let now = self.engine.clock().now();
            let find = Find::new(Query::Ids(ids.to_vec()));
            let found = repeating(|| store.find(collection::CONTROL, &find)).await?;
            let Some(found) = found.first() else {
                let first = doc! {
                    "_id": &id, "kind": KIND, ACCOUNT: &account, "since": now,
                };
                if control::insert_if_absent(store.as_ref(), collection::CONTROL, &first).await? {
                    return Ok(BindingCheck::Same);
                }
                continue;
            };
            let before = found.get_str(ACCOUNT).unwrap_or_default();
            if before == account {
                return Ok(BindingCheck::Same);
            }
            if self.on_change == OnChange::Refuse {
                return Ok(BindingCheck::Other);
            }
            let when = doc! { ACCOUNT: before };
            let set = doc! { ACCOUNT: &account, "since": now };
            if repeating(|| store.amend(collection::CONTROL, &ids, &when, &set)).await? > 0 {
                return Ok(BindingCheck::Other);
            }
        }
        Err(StoreError {
            database: store.role(),
            operation: "bind",
            class: Class::Busy,
            code: 0,
        })
    }
}

/// Under what the account of `user` is kept.
fn id_of(key: &LedgerKey, user: &UserId) -> String {
    let hash = key.entry_id(&format!("{KIND}/{user}"));
    format!("{KIND}/{hash}")
}

/// Removes the account of `user`, who is erased. The next one that the user comes with is the first.
///
/// # Errors
/// [`StoreError`] when `evaluation_audit` did not answer.
pub(crate) async fn forget(engine: &Engine, user: &UserId) -> Result<(), StoreError> {
    let key = engine.ledger().key_or_new(engine.randomness()).await?;
    let id = Bson::String(id_of(key, user));
    let any = Guard::Fields(doc! { "kind": KIND });
    let store = engine.databases.audit_db().store();
    repeating(|| store.write(collection::CONTROL, &id, &any, &Change::Remove)).await?;
    Ok(())
}
