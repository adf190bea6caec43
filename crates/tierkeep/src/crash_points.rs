//! Points at which this process ends itself as by `kill -9`, for tests of the real binary alone.
//!
//! Owns a [`Store`] around each of the seven that counts the calls to it. `CRASH_AT` names one of them and a moment in
//! it, for example `raseen_main_user insert internal_users 2 midway`; `CRASH_TRACE` names a file to which every call is
//! added, so that tests need not guess. `CLOCK_AHEAD_MS` says by how much this process's clock is wrong. Must never change
//! what a call does, and the product is built without it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::future::{Future, pending};
use std::io::Write as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document};
use rustix::process::{Signal, getpid, kill_process};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{
    Change, Damage, Fence, Find, FoundCollection, FoundIndex, Guard, Hello, Inserted, Layout, Put,
    Query, Result, Store, Written,
};

use crate::config::environment::environment;
use crate::config::source::Raw;

/// How long a call goes on before its process ends during it.
const DURING: Duration = Duration::from_millis(1);

/// When in a call the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// Nothing was sent.
    Before,
    /// The call is under way.
    During,
    /// Of a call over many, the first half took effect.
    Midway,
    /// The call took effect, and its answer was lost.
    After,
}

#[derive(Debug)]
struct Point {
    call: String,
    nth: u64,
    moment: Moment,
}

impl Point {
    fn parse(text: &str) -> Option<Self> {
        let (rest, moment) = text.rsplit_once(' ')?;
        let (call, nth) = rest.rsplit_once(' ')?;
        let moment = match moment {
            "before" => Moment::Before,
            "during" => Moment::During,
            "midway" => Moment::Midway,
            "after" => Moment::After,
            _ => return None,
        };
        Some(Self {
            call: call.to_owned(),
            nth: nth.parse().ok()?,
            moment,
        })
    }
}

#[derive(Debug)]
struct Points {
    at: Option<Point>,
    trace: Option<Mutex<File>>,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Points {
    /// Counts a call over `many`, and answers the moment in it at which the process ends, if it does.
    fn reach(&self, role: Role, operation: &str, collection: &str, many: usize) -> Option<Moment> {
        let call = format!("{role} {operation} {collection}");
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(call.clone()).or_default();
        *count += 1;
        if let Some(trace) = &self.trace {
            let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
            // A line that is missing fails the test that reads it.
            writeln!(trace, "{call} {count} {many}").ok();
        }
        let at = self.at.as_ref()?;
        (at.call == call && at.nth == *count).then_some(at.moment)
    }
}

/// The text that the environment has under `name`.
fn value(name: &str) -> Option<String> {
    let mut named = environment().into_iter();
    let (_, value) = named.find(|(variable, _)| variable == name)?;
    match value {
        Raw::Text(text) => Some(text),
        Raw::Number(_) | Raw::Switch(_) | Raw::Unfit(_) => None,
    }
}

/// By how many milliseconds this process's clock is ahead of the machine's.
pub(crate) fn clock_ahead_ms() -> i64 {
    static AHEAD: LazyLock<i64> = LazyLock::new(|| {
        let ahead = value("CLOCK_AHEAD_MS").and_then(|text| text.parse().ok());
        ahead.unwrap_or_default()
    });
    *AHEAD
}

/// The stores, with the points that the environment names.
///
/// # Errors
/// The environment names what is no point, or a file that cannot be written.
pub(crate) fn over(stores: Vec<Arc<dyn Store>>) -> anyhow::Result<Vec<Arc<dyn Store>>> {
    let at = match value("CRASH_AT") {
        None => None,
        Some(text) => match Point::parse(&text) {
            None => bail!("CRASH_AT={text} is no point"),
            point @ Some(_) => point,
        },
    };
    let trace = match value("CRASH_TRACE") {
        None => None,
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            Some(Mutex::new(file.with_context(|| path.clone())?))
        }
    };
    if at.is_none() && trace.is_none() {
        return Ok(stores);
    }
    let points = Arc::new(Points {
        at,
        trace,
        counts: Mutex::default(),
    });
    let over = |inner| {
        let points = Arc::clone(&points);
        Arc::new(Mortal { inner, points }) as Arc<dyn Store>
    };
    Ok(stores.into_iter().map(over).collect())
}

/// A [`Store`] in whose calls the process may end.
#[derive(Debug)]
struct Mortal {
    inner: Arc<dyn Store>,
    points: Arc<Points>,
}

impl Mortal {
    /// Makes the call `whole`, unless the process ends in it; `half` is the same call over the first half.
    async fn call<T: Send, H: Send>(
        &self,
        operation: &str,
        collection: &str,
        many: usize,
        whole: impl Future<Output = Result<T>> + Send,
        half: impl Future<Output = Result<H>> + Send,
    ) -> Result<T> {
        match self
            .points
            .reach(self.inner.role(), operation, collection, many)
        {
            None => return whole.await,
            Some(Moment::Before) => {}
            Some(Moment::During) => {
                tokio::time::timeout(DURING, whole).await.ok();
            }
            Some(Moment::Midway) => {
                half.await.ok();
            }
            Some(Moment::After) => {
                whole.await.ok();
            }
        }
        kill_process(getpid(), Signal::KILL).ok();
        pending().await
    }
}

fn first_half<T>(all: &[T]) -> &[T] {
    &all[..all.len() / 2]
}

#[async_trait]
impl Store for Mortal {
    fn role(&self) -> Role {
        self.inner.role()
    }

    fn is_sharded(&self) -> bool {
        self.inner.is_sharded()
    }

    async fn shards_away(&self) -> Result<Vec<String>> {
        self.inner.shards_away().await
    }

    async fn hello(&self) -> Result<Hello> {
        let whole = self.inner.hello();
        self.call("hello", "-", 1, whole, self.inner.hello()).await
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        let half = Layout {
            collections: first_half(&layout.collections).to_vec(),
        };
        let whole = self.inner.prepare(layout);
        let many = layout.collections.len();
        self.call("prepare", "-", many, whole, self.inner.prepare(&half))
            .await
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        let (whole, half) = (self.inner.indexes(), self.inner.indexes());
        self.call("indexes", "-", 1, whole, half).await
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        let (whole, half) = (self.inner.collections(), self.inner.collections());
        self.call("collections", "-", 1, whole, half).await
    }

    async fn damage(&self) -> Result<Vec<Damage>> {
        let (whole, half) = (self.inner.damage(), self.inner.damage());
        self.call("damage", "-", 1, whole, half).await
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        let whole = self.inner.find(collection, find);
        let half = self.inner.find(collection, find);
        self.call("find", collection, 1, whole, half).await
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        let whole = self.inner.count(collection, query);
        let half = self.inner.count(collection, query);
        self.call("count", collection, 1, whole, half).await
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let whole = self.inner.insert(collection, documents);
        let half = self.inner.insert(collection, first_half(documents));
        self.call("insert", collection, documents.len(), whole, half)
            .await
    }

    async fn append(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let whole = self.inner.append(collection, documents);
        let half = self.inner.append(collection, first_half(documents));
        self.call("append", collection, documents.len(), whole, half)
            .await
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        let whole = self.inner.put_newer(collection, documents);
        let half = self.inner.put_newer(collection, first_half(documents));
        self.call("put_newer", collection, documents.len(), whole, half)
            .await
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        let whole = self.inner.write(collection, id, guard, change);
        let half = self.inner.write(collection, id, guard, change);
        self.call("write", collection, 1, whole, half).await
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        let halves = Fence::first_half(fences);
        let many = fences.iter().map(Fence::documents).sum();
        let whole = self.inner.delete(collection, fences);
        let half = self.inner.delete(collection, &halves);
        self.call("delete", collection, many, whole, half).await
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        let whole = self.inner.amend(collection, ids, when, set);
        let half = self.inner.amend(collection, first_half(ids), when, set);
        self.call("amend", collection, ids.len(), whole, half).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_call_its_number_and_a_moment() {
        let point = Point::parse("srie_main_user insert internal_users 2 midway").unwrap();
        assert_eq!(point.call, "srie_main_user insert internal_users");
        assert_eq!((point.nth, point.moment), (2, Moment::Midway));
        for odd in ["", "insert 1", "insert 1 later", "insert one after"] {
            assert!(Point::parse(odd).is_none(), "{odd}");
        }
    }
}
