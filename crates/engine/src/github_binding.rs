//! Which GitHub account each internal user is bound to: kept in `evaluation_audit.control`, so that every process and every
//! later one knows it.
//!
//! Must never decide who is asking; it says whether the account is the bound one. Neither user nor account is stored in clear: both are
//! kept as hashes under the key of the erasure ledger, and removed when the user is erased.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, doc};
use moka::future::Cache;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::erasure::LedgerKey;
use tierkeep_core::repeats::Repeats;
use tierkeep_core::store::{Change, Class, Guard, StoreError};
use tierkeep_core::user::UserId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::context::Engine;
use crate::databases::control;
use crate::databases::optional_read::OptionalRead;
use crate::databases::retry::repeating;

const KIND: &str = "github_account";
const ACCOUNT: &str = "account";
const SINCE: &str = "since";
/// How long an account counts as the bound one without a look: another process may bind again meanwhile.
const FRESH_FOR: Duration = Duration::from_mins(1);
/// Of how many users the binding is remembered.
const REMEMBERED: u64 = 10_000;
/// How many comparisons wait for the database.
const MOST_DEFERRED: usize = 10_000;
/// How often it is tried whether comparisons that wait can be made.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long the comparison may take; a caller waits for it. Given up, it may yet keep an account where there was none.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// How often a change that lost a race is looked at again.
const ROUNDS: u32 = 8;
/// The reason in the trail for a user who was served before the comparison.
const SERVED_UNBOUND: &str = "served while evaluation_audit was unavailable; the GitHub token belongs to a different \
                              account than the bound one";

/// What becomes of a user who arrives with another account than the bound one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnChange {
    /// The other account is the bound one from now on.
    Follow,
    /// The first account stays; the other one is for the caller to refuse.
    #[default]
    Refuse,
}

/// How an account compares with the bound one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindingCheck {
    /// The user came with this one, or for the first time.
    Same,
    /// The user came with another one.
    Other,
}

/// What is kept of a user's binding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binding {
    /// Since when; `None` where that is not kept.
    pub since: Option<DateTime>,
    /// Whether it is the account that was asked about, where one was.
    pub is_account: Option<bool>,
}

/// What this process knows of a binding.
#[derive(Clone, Debug)]
struct Known {
    /// The hash of the bound account.
    account: String,
    seen_at: Instant,
}

/// Users who were served before the comparison, each with an account, in order of arrival.
#[derive(Debug, Default)]
struct Deferred {
    waiting: BTreeMap<(UserId, u64), u64>,
    next: u64,
}

/// The GitHub accounts of internal users. Clones share their memory.
#[derive(Clone, Debug)]
pub struct Bindings {
    engine: Arc<Engine>,
    on_change: OnChange,
    known: Cache<UserId, Known>,
    deferred: Arc<Mutex<Deferred>>,
    unseen: Arc<Repeats<Class>>,
    patience: OptionalRead,
}

impl Bindings {
    /// The accounts that these databases know.
    pub fn new(engine: Arc<Engine>, on_change: OnChange) -> Self {
        Self {
            engine,
            on_change,
            known: Cache::new(REMEMBERED),
            deferred: Arc::default(),
            unseen: Arc::default(),
            patience: OptionalRead::new(Role::EvaluationAudit, LONGEST_LOOK),
        }
    }

    /// What becomes of a change.
    pub fn on_change(&self) -> OnChange {
        self.on_change
    }

    /// Compares the account with which `user` arrives with the bound one, and binds the user to it where there is none.
    ///
    /// While `evaluation_audit` is away, what this process knows counts.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer within two seconds, or for another caller just before, and the
    /// binding is not known here. The comparison is made by [`Bindings::run`] then.
    pub async fn check(&self, user: &UserId, account: u64) -> Result<BindingCheck, StoreError> {
        let known = self.known.get(user).await;
        let same = match &known {
            Some(known) => self.hash(user, account).await? == known.account,
            None => false,
        };
        if same && known.as_ref().is_some_and(Known::is_fresh) {
            return Ok(BindingCheck::Same);
        }
        match self.patience.with(self.look(user, account)).await {
            Ok(check) => Ok(check),
            Err(_) if known.is_some() => Ok(if same {
                BindingCheck::Same
            } else {
                BindingCheck::Other
            }),
            Err(error) => {
                self.defer(user, account, &error);
                Err(error)
            }
        }
    }

    /// Makes the comparisons that could not be made, until `stop` is cancelled: who was served with another account than
    /// the bound one is logged as a warning and recorded in the audit trail.
    pub async fn run(self, stop: CancellationToken) {
        let pause = || stop.run_until_cancelled(tokio::time::sleep(RETRY_EVERY));
        while pause().await.is_some() {
            // What cannot be compared now waits for the next round.
            self.compare_deferred().await.ok();
        }
    }

    /// Makes the comparisons that could not be made; answers how many users had come with another account than the bound one.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; what was not compared remains pending.
    pub async fn compare_deferred(&self) -> Result<u64, StoreError> {
        let waiting = self.deferred().waiting.clone();
        let mut in_order: Vec<((UserId, u64), u64)> = waiting.into_iter().collect();
        in_order.sort_unstable_by_key(|(_, place)| *place);
        let mut others = 0;
        for ((user, account), _) in in_order {
            if self.look(&user, account).await? == BindingCheck::Other {
                others += 1;
                warn!(
                    user_id = user.as_str(),
                    user_type = user.user_type().as_str(),
                    "{SERVED_UNBOUND}",
                );
                let trail = self.engine.audit_trail();
                let draft = trail.draft(AuditKind::Decision).about(Some(&user));
                let draft = draft.decided("internal").because(SERVED_UNBOUND);
                trail.record(draft).await?;
            }
            self.deferred().waiting.remove(&(user, account));
        }
        Ok(others)
    }

    /// What is kept of the binding of `user`, and whether it is this account; `None` for one who is not bound.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn find(
        &self,
        user: &UserId,
        account: Option<u64>,
    ) -> Result<Option<Binding>, StoreError> {
        let Some(key) = self.engine.ledger().key().await? else {
            return Ok(None);
        };
        let id = id_of(key, user);
        let is = account.map(|account| hash_of(key, &id, account));
        let found = self.stored(&id).await?;
        Ok(found.map(|found| Binding {
            since: found.get_datetime(SINCE).ok(),
            is_account: is.map(|is| found.get_str(ACCOUNT).is_ok_and(|it| it == is)),
        }))
    }

    /// Lets `user` bind again: the next account that the user comes with is the bound one. Answers whether there was a
    /// binding.
    ///
    /// Other processes may take the old account for the bound one for another minute.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn unbind(&self, user: &UserId) -> Result<bool, StoreError> {
        let was_bound = self.find(user, None).await?.is_some();
        if was_bound {
            forget(&self.engine, user).await?;
        }
        self.known.invalidate(user).await;
        Ok(was_bound)
    }

    fn deferred(&self) -> MutexGuard<'_, Deferred> {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn defer(&self, user: &UserId, account: u64, error: &StoreError) {
        let now = self.engine.clock().now();
        if let Some(more) = self.unseen.due(error.class, now) {
            warn!(
                user_type = user.user_type().as_str(),
                database = %error.database,
                error = error.class.as_str(),
                more,
                "users are served without a check of their GitHub binding; it is checked when the database is \
                 available again",
            );
        }
        let mut deferred = self.deferred();
        if deferred.waiting.len() < MOST_DEFERRED {
            let place = deferred.next;
            deferred.next += 1;
            let key = (user.clone(), account);
            deferred.waiting.entry(key).or_insert(place);
        }
    }

    async fn hash(&self, user: &UserId, account: u64) -> Result<String, StoreError> {
        let key = self
            .engine
            .ledger()
            .key_or_new(self.engine.randomness())
            .await?;
        Ok(hash_of(key, &id_of(key, user), account))
    }

    async fn stored(&self, id: &str) -> Result<Option<RawDocumentBuf>, StoreError> {
        let audit = self.engine.databases.audit_db();
        repeating(|| control::read(audit, id)).await
    }

    /// Looks, and remembers what there is.
    async fn look(&self, user: &UserId, account: u64) -> Result<BindingCheck, StoreError> {
        let ledger = self.engine.ledger();
        let key = ledger.key_or_new(self.engine.randomness()).await?;
        let id = id_of(key, user);
        let account = hash_of(key, &id, account);
        let (check, bound) = self.bind(&id, &account).await?;
        let known = Known {
            account: bound,
            seen_at: Instant::now(),
        };
        self.known.insert(user.clone(), known).await;
        Ok(check)
    }

    /// Compares with what is stored under `id`, and stores the account where there is none or where changes are followed.
    /// Answers the bound account too.
    async fn bind(&self, id: &str, account: &str) -> Result<(BindingCheck, String), StoreError> {
        let store = self.engine.databases.audit_db().store();
        let ids = [Bson::String(id.to_owned())];
        for _ in 0..ROUNDS {
            let now = self.engine.clock().now();
            let Some(found) = self.stored(id).await? else {
                let first = doc! { "_id": id, "kind": KIND, ACCOUNT: account, SINCE: now };
                if control::insert_if_absent(store.as_ref(), collection::CONTROL, &first).await? {
                    return Ok((BindingCheck::Same, account.to_owned()));
                }
                continue;
            };
            let before = found.get_str(ACCOUNT).unwrap_or_default();
            if before == account {
                return Ok((BindingCheck::Same, account.to_owned()));
            }
            if self.on_change == OnChange::Refuse {
                return Ok((BindingCheck::Other, before.to_owned()));
            }
            let when = doc! { ACCOUNT: before };
            let set = doc! { ACCOUNT: account, SINCE: now };
            if repeating(|| store.amend(collection::CONTROL, &ids, &when, &set)).await? > 0 {
                return Ok((BindingCheck::Other, account.to_owned()));
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

impl Known {
    fn is_fresh(&self) -> bool {
        self.seen_at.elapsed() < FRESH_FOR
    }
}

/// The account as it is kept.
fn hash_of(key: &LedgerKey, id: &str, account: u64) -> String {
    key.entry_id(&format!("{id}/{account}"))
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
