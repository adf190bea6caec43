//! Guards the calls to a database: each has a time-out, and while the database cannot be reached each is refused
//! at once.
//!
//! Must never send a call to a database that the breaker has given up, but for the one hello that finds out whether
//! it is back, nor let more than one caller wait for that. A call that is refused has had no effect; it fails with
//! [`Class::NoServer`], which callers do not repeat at once. Until [`CircuitBreaker::arm`] everything goes through.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document};
use tierkeep_core::breaker::{Admitted, Breaker, BreakerSettings, BreakerState, Pass, Reach};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{
    Change, Class, Damage, Fence, Find, ForeignShardKey, FoundCollection, FoundIndex, Guard, Hello,
    Inserted, Layout, Put, Query, Result, Store, StoreError, Whereabouts, Written,
};
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, debug_span, info, warn};

use crate::databases::counters::ConnectRetries;
use crate::databases::random::Randomness;
use crate::databases::shards::ShardWatch;

/// How calls are guarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuardSettings {
    /// When calls are refused at once, and for how long.
    pub breaker: BreakerSettings,
    /// How long a call may take. A backend's own limits are shorter; this one holds where it has none.
    pub call: Duration,
    /// How long counting may take, which reads every key.
    pub count: Duration,
    /// How long a database may take to say hello.
    pub hello: Duration,
}

impl Default for GuardSettings {
    /// A minute for a call, two for a count, six seconds for a hello: a little longer than a driver looks for a
    /// server, so that the failure has its true class.
    fn default() -> Self {
        Self {
            breaker: BreakerSettings::default(),
            call: Duration::from_mins(1),
            count: Duration::from_mins(2),
            hello: Duration::from_secs(6),
        }
    }
}

/// A store whose calls are guarded.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    inner: Arc<dyn Store>,
    armed: OnceLock<Armed>,
    retries: Arc<ConnectRetries>,
    shards: ShardWatch,
    /// Why the last write was refused, where the disk or its permissions are the reason.
    unwritable: Mutex<Option<Class>>,
}

#[derive(Debug)]
struct Armed {
    settings: GuardSettings,
    breaker: Mutex<Breaker>,
    began: Instant,
    randomness: Arc<dyn Randomness>,
    role: Role,
}

impl CircuitBreaker {
    pub(crate) fn new(inner: Arc<dyn Store>, retries: Arc<ConnectRetries>) -> Self {
        Self {
            shards: ShardWatch::new(Arc::clone(&inner)),
            inner,
            armed: OnceLock::new(),
            retries,
            unwritable: Mutex::default(),
        }
    }

    /// From now on calls are guarded; the first settings stay.
    pub(crate) fn arm(&self, settings: GuardSettings, randomness: Arc<dyn Randomness>) {
        self.armed.get_or_init(|| Armed {
            settings,
            breaker: Mutex::new(Breaker::new(settings.breaker)),
            began: Instant::now(),
            randomness,
            role: self.inner.role(),
        });
    }

    /// The database was found away before calls were guarded: they are refused from now on. Says nothing.
    pub(crate) fn give_up(&self, class: Class) {
        let Some(armed) = self.armed.get() else {
            return;
        };
        let now = armed.began.elapsed();
        let mut breaker = armed.breaker();
        if let Admitted::Through(pass) = breaker.admit(now) {
            breaker.observe(&pass, Reach::Away(class), now, 1.0);
        }
    }

    /// What becomes of calls; none while they are not guarded.
    pub(crate) fn state(&self) -> Option<BreakerState> {
        self.armed.get().map(|armed| armed.breaker().state())
    }

    /// Why the database takes no writes although it answers: the reason that the last write was refused for.
    pub(crate) fn unwritable(&self) -> Option<Class> {
        *self
            .unwritable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The shards that were away when they were last asked.
    pub(crate) fn known_shards_away(&self) -> Vec<String> {
        self.shards.known_away()
    }

    /// Makes a call that writes.
    async fn write_call<T>(
        &self,
        operation: &'static str,
        written: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let answer = self.call(operation, call, written).await;
        let why = match &answer {
            Ok(_) => Some(None),
            Err(error) => matches!(error.class, Class::DiskFull | Class::Unauthorized)
                .then_some(Some(error.class)),
        };
        if let Some(why) = why {
            let mut unwritable = self
                .unwritable
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *unwritable = why;
        }
        answer
    }

    /// Makes a call that reads.
    async fn read_call<T>(
        &self,
        operation: &'static str,
        limit: fn(&GuardSettings) -> Duration,
        read: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let read = self.call(operation, limit, read);
        if self.armed.get().is_none() {
            return read.await;
        }
        self.shards.within_patience(operation, read).await
    }

    /// Makes a call within `limit`, if calls go through.
    async fn call<T>(
        &self,
        operation: &'static str,
        limit: fn(&GuardSettings) -> Duration,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let database = self.inner.role().name();
        let call = call.instrument(debug_span!("store.call", database, operation));
        let Some(armed) = self.armed.get() else {
            return call.await;
        };
        let in_flight = match armed.admit() {
            Admitted::Through(pass) => armed.in_flight(pass),
            Admitted::Refused(_) => return Err(armed.refusal(operation)),
            Admitted::Probe(pass) => {
                self.probe(armed, pass).await?;
                match armed.admit() {
                    Admitted::Through(pass) => armed.in_flight(pass),
                    // It went away again, and another caller was faster to notice.
                    Admitted::Probe(_) | Admitted::Refused(_) => {
                        return Err(armed.refusal(operation));
                    }
                }
            }
        };
        let answer = within(armed, limit(&armed.settings), operation, call).await;
        in_flight.ends(&answer);
        answer
    }

    /// Asks whether the database is back.
    async fn probe(&self, armed: &Armed, pass: Pass) -> Result<Hello> {
        self.retries.add(armed.role);
        self.greet(armed, armed.in_flight(pass)).await
    }

    async fn greet(&self, armed: &Armed, call: InFlightCall<'_>) -> Result<Hello> {
        let limit = armed.settings.hello;
        let answer = within(armed, limit, "hello", self.inner.hello()).await;
        call.ends(&answer);
        answer
    }
}

async fn within<T>(
    armed: &Armed,
    limit: Duration,
    operation: &'static str,
    call: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    match timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(armed.error(operation, Class::Timeout)),
    }
}

impl Armed {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self) -> Admitted {
        self.breaker().admit(self.began.elapsed())
    }

    fn in_flight(&self, pass: Pass) -> InFlightCall<'_> {
        InFlightCall {
            armed: self,
            pass: Some(pass),
        }
    }

    fn observe(&self, pass: &Pass, reach: Reach) {
        let now = self.began.elapsed();
        let jitter = self.randomness.fraction();
        let mut breaker = self.breaker();
        let before = breaker.state();
        let began = breaker.observe(pass, reach, now, jitter);
        drop(breaker);
        match began {
            Some(BreakerState::Open) if before == BreakerState::Closed => warn!(
                user_type = %self.role.user_type(),
                database = %self.role,
                error = class_of(reach),
                "the database is unavailable; calls to it fail at once until it answers again",
            ),
            Some(BreakerState::Closed) => info!(
                user_type = %self.role.user_type(),
                database = %self.role,
                "the database is available again",
            ),
            Some(BreakerState::Open | BreakerState::HalfOpen) | None => {}
        }
    }

    fn refusal(&self, operation: &'static str) -> StoreError {
        self.error(operation, Class::NoServer)
    }

    fn error(&self, operation: &'static str, class: Class) -> StoreError {
        StoreError {
            database: self.role,
            operation,
            class,
            code: 0,
        }
    }
}

fn class_of(reach: Reach) -> &'static str {
    match reach {
        Reach::Away(class) => class.as_str(),
        Reach::Answered | Reach::Unclear => "",
    }
}

/// A call at work. One that is given up says nothing about the database.
struct InFlightCall<'a> {
    armed: &'a Armed,
    pass: Option<Pass>,
}

impl InFlightCall<'_> {
    fn ends<T>(mut self, answer: &Result<T>) {
        let reach = match answer {
            Ok(_) => Reach::Answered,
            Err(error) => Reach::of(error.class),
        };
        if let Some(pass) = self.pass.take() {
            self.armed.observe(&pass, reach);
        }
    }
}

impl Drop for InFlightCall<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.armed.observe(&pass, Reach::Unclear);
        }
    }
}

fn call(settings: &GuardSettings) -> Duration {
    settings.call
}

fn hello(settings: &GuardSettings) -> Duration {
    settings.hello
}

fn count(settings: &GuardSettings) -> Duration {
    settings.count
}

/// Indexes of large collections take as long as they take.
fn unbounded(_: &GuardSettings) -> Duration {
    Duration::MAX
}

#[async_trait]
impl Store for CircuitBreaker {
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
        let asked = self.shards.look();
        self.call("shards_away", hello, asked).await
    }

    async fn hello(&self) -> Result<Hello> {
        let Some(armed) = self.armed.get() else {
            return self.inner.hello().await;
        };
        match armed.admit() {
            Admitted::Through(pass) => self.greet(armed, armed.in_flight(pass)).await,
            Admitted::Probe(pass) => self.probe(armed, pass).await,
            // A caller that asks for the state of the database is told what is wrong.
            Admitted::Refused(class) => Err(armed.error("hello", class)),
        }
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        let made = self.inner.prepare(layout);
        self.call("prepare", unbounded, made).await
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        let listed = self.inner.indexes();
        self.call("indexes", call, listed).await
    }

    async fn foreign_shard_keys(&self) -> Result<Vec<ForeignShardKey>> {
        let listed = self.inner.foreign_shard_keys();
        self.call("foreign_shard_keys", call, listed).await
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        let listed = self.inner.collections();
        self.call("collections", call, listed).await
    }

    async fn damage(&self) -> Result<Vec<Damage>> {
        let found = self.inner.damage();
        self.call("damage", unbounded, found).await
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        let found = self.inner.find(collection, find);
        self.read_call("find", call, found).await
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        let counted = self.inner.count(collection, query);
        self.read_call("count", count, counted).await
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let inserted = self.inner.insert(collection, documents);
        self.write_call("insert", inserted).await
    }

    async fn append(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let appended = self.inner.append(collection, documents);
        self.write_call("append", appended).await
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        let put = self.inner.put_newer(collection, documents);
        self.write_call("put_newer", put).await
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        let written = self.inner.write(collection, id, guard, change);
        self.write_call("write", written).await
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        let deleted = self.inner.delete(collection, fences);
        self.write_call("delete", deleted).await
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        let amended = self.inner.amend(collection, ids, when, set);
        self.write_call("amend", amended).await
    }
}
