//! Keeps a database shut until it has proven that it is the one it was configured as, and documents of the
//! other type of user out of it for good.
//!
//! A database that was away when the process started has not been compared with the others and its stamp
//! has not been read, so nothing may be read from or written to it yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, Document};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, field};
use tierkeep_core::store::{
    Change, Class, Damage, Fence, Find, ForeignShardKey, FoundCollection, FoundIndex, Guard, Hello,
    Inserted, Layout, Put, Query, Result, Store, StoreError, Whereabouts, Written,
};
use tierkeep_core::user::UserId;
use tracing::error;

use crate::databases::breaker::CircuitBreaker;
use crate::databases::identity::IdentityWatch;

/// A store that answers [`Class::NoServer`] until it is admitted, and [`Class::Identity`] while another database answers for
/// it.
#[derive(Debug)]
pub(crate) struct Admission {
    inner: CircuitBreaker,
    watch: Arc<IdentityWatch>,
    admitted: AtomicBool,
    /// Why it was not admitted when it came back.
    refused: Mutex<Option<String>>,
}

impl Admission {
    /// `inner` must guard `watch`.
    pub(crate) fn new(inner: CircuitBreaker, watch: Arc<IdentityWatch>) -> Self {
        Self {
            inner,
            watch,
            admitted: AtomicBool::new(false),
            refused: Mutex::default(),
        }
    }

    /// What guards every call.
    pub(crate) fn breaker(&self) -> &CircuitBreaker {
        &self.inner
    }

    /// The store itself, for the checks that come before admission.
    pub(crate) fn unchecked(&self) -> &dyn Store {
        &self.inner
    }

    /// Notes why it was not admitted; answers whether that is news.
    pub(crate) fn refuse(&self, why: String) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let news = refused.as_ref() != Some(&why);
        *refused = Some(why);
        news
    }

    /// What proves that it is still the database that was admitted.
    pub(crate) fn watch(&self) -> &IdentityWatch {
        &self.watch
    }

    pub(crate) fn admit(&self) {
        self.watch.prove();
        self.admitted.store(true, Ordering::Release);
    }

    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire) && self.watch.wrong().is_none()
    }

    fn checked(&self, operation: &'static str) -> Result<&dyn Store> {
        if self.is_admitted() {
            Ok(&self.inner)
        } else {
            let is_wrong = self.watch.wrong().is_some();
            Err(StoreError {
                database: self.inner.role(),
                operation,
                class: if is_wrong {
                    Class::Identity
                } else {
                    Class::NoServer
                },
                code: 0,
            })
        }
    }
}

impl Admission {
    /// The second checkpoint: whatever the edge decided, no document of one type of user is written to a
    /// database of the other's.
    fn belongs(&self, collection: &str, id: Option<&str>) -> Result<()> {
        let role = self.inner.role();
        let misrouted = role.users() == Some(collection)
            && id
                .and_then(|id| UserId::parse(id).ok())
                .is_some_and(|user| user.user_type() != role.user_type());
        if misrouted {
            Err(self.kept_out("a document of the wrong user type was rejected"))
        } else {
            Ok(())
        }
    }

    /// HR records and documents of users are never mixed.
    fn is_of_this_kind(&self, collection: &str, document: &RawDocument) -> Result<()> {
        let role = self.inner.role();
        if role.holds_hr() && document::is_of_user(document) {
            Err(self.kept_out("a user document was rejected by an HR database"))
        } else if role.users() == Some(collection) && document::is_hr_record(document) {
            Err(self.kept_out("an HR record was rejected by a user database"))
        } else {
            Ok(())
        }
    }

    fn kept_out(&self, what: &'static str) -> StoreError {
        let role = self.inner.role();
        error!(user_type = %role.user_type(), database = %role, "{what}");
        StoreError {
            database: role,
            operation: "belongs",
            class: Class::Unauthorized,
            code: 0,
        }
    }

    fn all_belong(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<()> {
        documents.iter().try_for_each(|document| {
            self.is_of_this_kind(collection, document)?;
            self.belongs(collection, document.get_str(field::ID).ok())?;
            self.belongs(collection, document::user_id(document))
        })
    }
}

#[async_trait]
impl Store for Admission {
    fn role(&self) -> Role {
        self.inner.role()
    }

    fn whereabouts(&self) -> Vec<Whereabouts> {
        self.inner.whereabouts()
    }

    fn is_sharded(&self) -> bool {
        self.inner.is_sharded()
    }

    async fn shards_away(&self) -> Result<Vec<String>> {
        self.inner.shards_away().await
    }

    async fn hello(&self) -> Result<Hello> {
        self.inner.hello().await
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        self.checked("prepare")?.prepare(layout).await
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        self.checked("indexes")?.indexes().await
    }

    async fn foreign_shard_keys(&self) -> Result<Vec<ForeignShardKey>> {
        let store = self.checked("foreign_shard_keys")?;
        store.foreign_shard_keys().await
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        self.checked("collections")?.collections().await
    }

    async fn damage(&self) -> Result<Vec<Damage>> {
        self.checked("damage")?.damage().await
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        self.checked("find")?.find(collection, find).await
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        self.checked("count")?.count(collection, query).await
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        self.all_belong(collection, documents)?;
        self.checked("insert")?.insert(collection, documents).await
    }

    async fn append(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        self.checked("append")?.append(collection, documents).await
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        self.all_belong(collection, documents)?;
        if self.inner.role().holds_hr() {
            return Err(self.kept_out("HR records cannot be written with put_newer"));
        }
        self.checked("put_newer")?
            .put_newer(collection, documents)
            .await
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        match change {
            Change::Replace(document) => {
                self.all_belong(collection, std::slice::from_ref(document))?;
            }
            Change::Section { .. } | Change::Confirm { .. } | Change::Admit { .. } => {
                self.belongs(collection, id.as_str())?;
            }
            // What another program put in the wrong place may go.
            Change::Remove => {}
        }
        self.checked("write")?
            .write(collection, id, guard, change)
            .await
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        self.checked("delete")?.delete(collection, fences).await
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        self.checked("amend")?
            .amend(collection, ids, when, set)
            .await
    }
}
