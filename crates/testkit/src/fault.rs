//! A store with planned failures, for tests in which a call is lost: before it took effect,
//! half-way, or after it, when only the answer is lost. Never changes what the store behind it does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document};
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::store::{
    Change, Class, Damage, Fence, Find, ForeignShardKey, FoundCollection, FoundIndex, Guard, Hello,
    Inserted, Layout, Put, Query, Result, Store, StoreError, Written,
};

use crate::hold::Hold;
use crate::late::Late;

/// When in a call the fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The call has no effect.
    Before,
    /// A call over many documents affects the first half of them; any other has its effect.
    Midway,
    /// The call has its effect, and the answer is lost.
    After,
}

/// One call, or more, that will fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Only calls to this database count; `None`: to any behind the same [`Faults`].
    pub database: Option<Role>,
    /// Only calls of this method of [`Store`] count; `None`: of any.
    pub operation: Option<&'static str>,
    /// The first call to fail, counted from 1 when the fault is planned.
    pub nth: u64,
    /// How many calls in a row fail.
    pub times: u64,
    /// When in the call.
    pub moment: Moment,
    /// The error for the caller.
    pub class: Class,
    /// The error code for the caller.
    pub code: i32,
}

impl Fault {
    /// The `nth` call from now on, of any kind and to any database, fails at `moment`: as refused where
    /// it has no effect, else as timed out.
    pub fn nth(nth: u64, moment: Moment) -> Self {
        Self {
            database: None,
            operation: None,
            nth,
            times: 1,
            moment,
            class: match moment {
                Moment::Before => Class::Refused,
                Moment::Midway | Moment::After => Class::Timeout,
            },
            code: 0,
        }
    }

    /// Only calls to this database count.
    #[must_use]
    pub fn to(mut self, database: Role) -> Self {
        self.database = Some(database);
        self
    }

    /// Only calls of this method of [`Store`] count.
    #[must_use]
    pub fn of(mut self, operation: &'static str) -> Self {
        self.operation = Some(operation);
        self
    }

    /// This many calls in a row fail.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// The caller gets this error.
    #[must_use]
    pub fn class(mut self, class: Class, code: i32) -> Self {
        self.class = class;
        self.code = code;
        self
    }

    fn concerns(&self, call: &Call) -> bool {
        self.database
            .is_none_or(|database| database == call.database)
            && self
                .operation
                .is_none_or(|operation| operation == call.operation)
    }
}

/// One call that was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// To which database.
    pub database: Role,
    /// Which method of [`Store`].
    pub operation: &'static str,
}

/// The plan and the count of calls, shared by as many stores as a test wants to fail together. Clones
/// are the same plan.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    planned: Vec<(Fault, u64)>,
    held: Vec<(Fault, u64, Hold)>,
    late: Vec<(Fault, u64, Late)>,
    down: Vec<Role>,
    crash_after: Option<u64>,
    unsettled: Vec<(Role, String)>,
    calls: Vec<Call>,
}

impl Faults {
    /// A plan in which nothing fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// `store`, failing as this plan says.
    pub fn over(&self, store: Arc<dyn Store>) -> Arc<FaultStore> {
        Arc::new(FaultStore {
            inner: store,
            faults: self.clone(),
        })
    }

    /// Plans a fault.
    pub fn plan(&self, fault: Fault) {
        self.lock().planned.push((fault, 0));
    }

    /// Holds back the call that `fault` names, before it has any effect, until it is let go; it does not fail.
    pub fn hold(&self, fault: Fault) -> Hold {
        let hold = Hold::new();
        self.lock().held.push((fault, 0, hold.clone()));
        hold
    }

    /// Keeps the [`Store::write`] or [`Store::amend`] that `fault` names on its way: the caller gets a timeout, and the
    /// call arrives when the test says so.
    pub fn delay(&self, fault: Fault) -> Late {
        let late = Late::default();
        self.lock().late.push((fault, 0, late.clone()));
        late
    }

    /// Takes a database away, or brings it back. While it is away every call to it is refused and has
    /// no effect.
    pub fn set_down(&self, database: Role, down: bool) {
        let mut plan = self.lock();
        plan.down.retain(|role| *role != database);
        if down {
            plan.down.push(database);
        }
    }

    /// Makes a database unable to say what becomes of this user's document, with an unspecific code, while it stores
    /// others.
    pub fn unsettle(&self, database: Role, user: &str) {
        self.lock().unsettled.push((database, user.to_owned()));
    }

    /// Lets `calls` more calls through, and then none to any database until [`Faults::heal`]: what a
    /// crash of the caller looks like from the databases. The caller is told what it does not repeat: who is dead
    /// waits for nothing.
    pub fn crash_after(&self, calls: u64) {
        let mut plan = self.lock();
        plan.crash_after = Some(calls);
    }

    /// Whether a planned crash has happened.
    pub fn has_crashed(&self) -> bool {
        self.lock().crash_after == Some(0)
    }

    /// Drops every plan: from now on nothing fails. The count of calls stays.
    pub fn heal(&self) {
        let mut plan = self.lock();
        plan.planned.clear();
        plan.down.clear();
        plan.unsettled.clear();
        plan.crash_after = None;
    }

    /// Every call so far, failed ones too, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many calls there were so far, failed ones too.
    pub fn count(&self) -> u64 {
        self.lock().calls.iter().fold(0, |count, _| count + 1)
    }

    /// How many calls of this method there were so far, failed ones too.
    pub fn count_of(&self, operation: &str) -> u64 {
        let plan = self.lock();
        let calls = plan.calls.iter();
        calls
            .filter(|call| call.operation == operation)
            .fold(0, |count, _| count + 1)
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hold that this call runs into, if it does.
    fn held(&self, call: &Call) -> Option<Hold> {
        let mut plan = self.lock();
        let mut held = None;
        for (fault, seen, hold) in &mut plan.held {
            if fault.concerns(call) {
                *seen += 1;
                if *seen == fault.nth {
                    held = Some(hold.clone());
                }
            }
        }
        held
    }

    /// Counts a call; answers how it must fail, if it must.
    fn strike(&self, call: Call) -> Option<(Moment, StoreError)> {
        let mut plan = self.lock();
        plan.calls.push(call);
        let error = |class, code| StoreError {
            database: call.database,
            operation: call.operation,
            class,
            code,
        };
        match &mut plan.crash_after {
            Some(0) => return Some((Moment::Before, error(Class::NoServer, 0))),
            Some(left) => *left -= 1,
            None => {}
        }
        if plan.down.contains(&call.database) {
            return Some((Moment::Before, error(Class::Refused, 0)));
        }
        let mut strike = None;
        for (fault, seen) in &mut plan.planned {
            if fault.concerns(&call) {
                *seen += 1;
                if *seen >= fault.nth && *seen < fault.nth.saturating_add(fault.times) {
                    strike = strike.or(Some((fault.moment, error(fault.class, fault.code))));
                }
            }
        }
        strike
    }
}

/// A [`Store`] that fails as its [`Faults`] say.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    faults: Faults,
}

impl FaultStore {
    /// `store`, failing as a plan of its own says.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            inner: store,
            faults: Faults::new(),
        }
    }

    /// The plan.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    async fn strike(&self, operation: &'static str) -> Option<(Moment, StoreError)> {
        let call = Call {
            database: self.inner.role(),
            operation,
        };
        let hold = self.faults.held(&call);
        if let Some(hold) = hold {
            hold.wait().await;
        }
        self.faults.strike(call)
    }

    /// What keeps this call on its way, if anything does.
    fn late(&self, operation: &'static str) -> Option<Late> {
        let call = Call {
            database: self.inner.role(),
            operation,
        };
        let mut plan = self.faults.lock();
        let mut kept = None;
        for (fault, seen, late) in &mut plan.late {
            if fault.concerns(&call) {
                *seen += 1;
                if *seen == fault.nth {
                    kept = Some(late.clone());
                }
            }
        }
        kept
    }

    /// The documents that are sent on, and for each of all whether it is among them.
    fn sent(&self, documents: &[RawDocumentBuf]) -> (Vec<RawDocumentBuf>, Vec<bool>) {
        let database = self.inner.role();
        let plan = self.faults.lock();
        let sent: Vec<bool> = documents
            .iter()
            .map(|document| {
                let user = document::user_id(document).unwrap_or_default();
                !plan
                    .unsettled
                    .iter()
                    .any(|(role, odd)| *role == database && odd == user)
            })
            .collect();
        let documents = documents.iter().zip(&sent).filter(|(_, sent)| **sent);
        (
            documents.map(|(document, _)| document.clone()).collect(),
            sent,
        )
    }

    /// The outcomes of all documents, given those of the documents that were sent on.
    fn outcomes<T>(
        &self,
        operation: &'static str,
        sent: Vec<bool>,
        outcomes: Vec<T>,
        unsettled: impl Fn(StoreError) -> T,
    ) -> Vec<T> {
        let mut outcomes = outcomes.into_iter();
        let odd = || {
            unsettled(StoreError {
                database: self.inner.role(),
                operation,
                class: Class::Other,
                code: -1,
            })
        };
        sent.into_iter()
            .map(|sent| sent.then(|| outcomes.next()).flatten().unwrap_or_else(odd))
            .collect()
    }
}

/// Runs `$call`, or what is left of it, around a strike.
macro_rules! struck {
    ($self:ident, $operation:literal, $whole:expr, $half:expr) => {
        match $self.strike($operation).await {
            None => $whole.await,
            Some((Moment::Before, error)) => Err(error),
            Some((Moment::Midway, error)) => {
                let _lost = $half.await;
                Err(error)
            }
            Some((Moment::After, error)) => {
                let _lost = $whole.await;
                Err(error)
            }
        }
    };
    ($self:ident, $operation:literal, $whole:expr) => {
        struck!($self, $operation, $whole, $whole)
    };
}

fn half<T>(all: &[T]) -> &[T] {
    all.get(..all.len() / 2).unwrap_or_default()
}

#[async_trait]
impl Store for FaultStore {
    fn role(&self) -> Role {
        self.inner.role()
    }

    fn is_sharded(&self) -> bool {
        self.inner.is_sharded()
    }

    async fn shards_away(&self) -> Result<Vec<String>> {
        struck!(self, "shards_away", self.inner.shards_away())
    }

    async fn hello(&self) -> Result<Hello> {
        struck!(self, "hello", self.inner.hello())
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        struck!(self, "prepare", self.inner.prepare(layout))
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        struck!(self, "indexes", self.inner.indexes())
    }

    async fn foreign_shard_keys(&self) -> Result<Vec<ForeignShardKey>> {
        let keys = self.inner.foreign_shard_keys();
        struck!(self, "foreign_shard_keys", keys)
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        struck!(self, "collections", self.inner.collections())
    }

    async fn damage(&self) -> Result<Vec<Damage>> {
        struck!(self, "damage", self.inner.damage())
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        struck!(self, "find", self.inner.find(collection, find))
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        struck!(self, "count", self.inner.count(collection, query))
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let (documents, sent) = self.sent(documents);
        let outcomes = struck!(
            self,
            "insert",
            self.inner.insert(collection, &documents),
            self.inner.insert(collection, half(&documents))
        );
        Ok(self.outcomes("insert", sent, outcomes?, Inserted::Unsettled))
    }

    async fn append(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        struck!(
            self,
            "append",
            self.inner.append(collection, documents),
            self.inner.append(collection, half(documents))
        )
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        let (documents, sent) = self.sent(documents);
        let outcomes = struck!(
            self,
            "put_newer",
            self.inner.put_newer(collection, &documents),
            self.inner.put_newer(collection, half(&documents))
        );
        Ok(self.outcomes("put_newer", sent, outcomes?, Put::Unsettled))
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        if let Some(late) = self.late("write") {
            let (inner, collection) = (Arc::clone(&self.inner), collection.to_owned());
            let (id, guard, change) = (id.clone(), guard.clone(), change.clone());
            return late.keep(self.role(), "write", async move {
                inner
                    .write(&collection, &id, &guard, &change)
                    .await
                    .map(drop)
            });
        }
        struck!(
            self,
            "write",
            self.inner.write(collection, id, guard, change)
        )
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        let halved = Fence::first_half(fences);
        struck!(
            self,
            "delete",
            self.inner.delete(collection, fences),
            self.inner.delete(collection, &halved)
        )
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        if let Some(late) = self.late("amend") {
            let (inner, collection) = (Arc::clone(&self.inner), collection.to_owned());
            let (ids, when, set) = (ids.to_vec(), when.clone(), set.clone());
            return late.keep(self.role(), "amend", async move {
                inner.amend(&collection, &ids, &when, &set).await.map(drop)
            });
        }
        struck!(
            self,
            "amend",
            self.inner.amend(collection, ids, when, set),
            self.inner.amend(collection, half(ids), when, set)
        )
    }
}

#[cfg(test)]
mod tests;
