//! A store whose calls run in a runtime of their own, so that a test may stop the time of its own runtime: waits
//! between retries then take no time, and calls to a server take theirs.

use std::sync::Arc;

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{
    Change, Damage, Fence, Find, ForeignShardKey, FoundCollection, FoundIndex, Guard, Hello,
    Inserted, Layout, Put, Query, Result, Store, Written,
};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::world::Backend;

/// A runtime whose clock is paused while any task is running, and jumps ahead when all tasks are waiting.
pub fn stopped() -> Runtime {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap()
}

/// These stores of a backend for a test whose time is [`stopped`]; their calls run in the runtime of `outside`.
pub fn over(
    stores: Vec<Arc<dyn Store>>,
    backend: Backend,
    outside: &Handle,
) -> Vec<Arc<dyn Store>> {
    let bridged = |inner: Arc<dyn Store>| match backend {
        // Never waits for anything.
        Backend::Memory => inner,
        Backend::Sqlite | Backend::Mongo => Arc::new(Bridge {
            inner,
            handle: outside.clone(),
        }) as Arc<dyn Store>,
    };
    stores.into_iter().map(bridged).collect()
}

/// The store `inner`, called in the runtime of `handle`.
#[derive(Debug)]
struct Bridge {
    inner: Arc<dyn Store>,
    handle: Handle,
}

impl Bridge {
    /// Calls from a thread for blocking work: while there is one, stopped time does not jump ahead.
    async fn call<T, F>(&self, call: impl FnOnce(Arc<dyn Store>) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let (inner, handle) = (Arc::clone(&self.inner), self.handle.clone());
        let done = tokio::task::spawn_blocking(move || handle.block_on(call(inner)));
        done.await.unwrap()
    }
}

#[async_trait]
impl Store for Bridge {
    fn role(&self) -> Role {
        self.inner.role()
    }

    async fn hello(&self) -> Result<Hello> {
        self.call(async move |store| store.hello().await).await
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        let layout = layout.clone();
        self.call(async move |store| store.prepare(&layout).await)
            .await
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        self.call(async move |store| store.indexes().await).await
    }

    async fn foreign_shard_keys(&self) -> Result<Vec<ForeignShardKey>> {
        self.call(async move |store| store.foreign_shard_keys().await)
            .await
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        self.call(async move |store| store.collections().await)
            .await
    }

    async fn damage(&self) -> Result<Vec<Damage>> {
        self.call(async move |store| store.damage().await).await
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        let (collection, find) = (collection.to_owned(), find.clone());
        self.call(async move |store| store.find(&collection, &find).await)
            .await
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        let (collection, query) = (collection.to_owned(), query.clone());
        self.call(async move |store| store.count(&collection, &query).await)
            .await
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let (collection, documents) = (collection.to_owned(), documents.to_vec());
        self.call(async move |store| store.insert(&collection, &documents).await)
            .await
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        let (collection, documents) = (collection.to_owned(), documents.to_vec());
        self.call(async move |store| store.put_newer(&collection, &documents).await)
            .await
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        let (collection, id) = (collection.to_owned(), id.clone());
        let (guard, change) = (guard.clone(), change.clone());
        self.call(async move |store| store.write(&collection, &id, &guard, &change).await)
            .await
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        let (collection, fences) = (collection.to_owned(), fences.to_vec());
        self.call(async move |store| store.delete(&collection, &fences).await)
            .await
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        let (collection, ids) = (collection.to_owned(), ids.to_vec());
        let (when, set) = (when.clone(), set.clone());
        self.call(async move |store| store.amend(&collection, &ids, &when, &set).await)
            .await
    }
}
