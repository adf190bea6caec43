//! A store that answers from a script: the answers that an actor has received. The first call beyond it is recorded and
//! never answered, and the actor is dropped there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, Document};
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::store::{
    Change, Fence, Find, FoundCollection, FoundIndex, Guard, Hello, Inserted, Layout, Put, Query,
    Result, Store, Written,
};
use tierkeep_engine::Randomness;
use tierkeep_testkit::MemoryStore;
use tokio::sync::Notify;

use crate::call::{Answer, Call, Operation, Reply};

/// One answer that an actor has had.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The method and the database, to notice when a replay goes astray.
    pub asked: (Role, &'static str),
    /// The answer.
    pub answer: Answer,
    /// The time of the answer.
    pub now: DateTime,
}

/// The answers that an actor gets when it is run again from its start.
#[derive(Debug)]
pub struct Script {
    /// The answers so far.
    pub turns: Arc<Vec<Turn>>,
    /// The time at its start.
    pub start: DateTime,
    /// Tells its random numbers from those of others.
    pub seed: u64,
}

/// Where the script of a rig is put. Without one, stores answer by themselves.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    scene: Arc<Mutex<Scene>>,
}

#[derive(Debug, Default)]
#[expect(clippy::large_enum_variant, reason = "there is one for each thread")]
enum Scene {
    /// The engine is being opened.
    #[default]
    Opening,
    /// An actor is run again.
    Replay(Replay),
    /// No actor is watched: these stores answer, at one time.
    Live(Vec<MemoryStore>, DateTime, u32),
}

#[derive(Debug)]
struct Replay {
    script: Script,
    position: usize,
    drawn: u32,
    next: Option<Call>,
    end: Arc<Notify>,
}

impl Stage {
    fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a replay; what it answers is notified at the end of the script.
    pub fn set(&self, script: Script) -> Arc<Notify> {
        let end = Arc::new(Notify::new());
        *self.scene() = Scene::Replay(Replay {
            script,
            position: 0,
            drawn: 0,
            next: None,
            end: Arc::clone(&end),
        });
        end
    }

    /// Lets `stores` answer from now on.
    pub fn open(&self, stores: Vec<MemoryStore>, now: DateTime) {
        *self.scene() = Scene::Live(stores, now, 0);
    }

    /// The first call beyond the script, if it came to one.
    pub fn next(&self) -> Option<Call> {
        match &*self.scene() {
            Scene::Replay(replay) => replay.next.clone(),
            Scene::Opening | Scene::Live(..) => None,
        }
    }

    async fn ask(&self, call: Call, base: &MemoryStore) -> Answer {
        if let Some(answer) = self.told(call, base) {
            return answer;
        }
        std::future::pending().await
    }

    fn told(&self, call: Call, base: &MemoryStore) -> Option<Answer> {
        let mut scene = self.scene();
        let replay = match &mut *scene {
            Scene::Opening => return Some(call.perform(base)),
            Scene::Live(stores, ..) => {
                let store = stores.iter().find(|store| store.role() == call.role);
                return Some(call.perform(store.unwrap_or(base)));
            }
            Scene::Replay(replay) => replay,
        };
        if let Some(turn) = replay.script.turns.get(replay.position) {
            let asked = (call.role, call.name());
            assert_eq!(
                asked, turn.asked,
                "a replay went astray: the engine is not deterministic"
            );
            replay.position += 1;
            return Some(turn.answer.clone());
        }
        replay.next.get_or_insert(call);
        replay.end.notify_one();
        None
    }
}

impl Clock for Stage {
    /// The time of the last answer.
    fn now(&self) -> DateTime {
        match &*self.scene() {
            Scene::Opening => DateTime::from_millis(0),
            Scene::Live(_, now, _) => *now,
            Scene::Replay(replay) => {
                let told = replay.position.checked_sub(1);
                told.and_then(|last| replay.script.turns.get(last))
                    .map_or(replay.script.start, |turn| turn.now)
            }
        }
    }
}

impl Randomness for Stage {
    fn unique(&self) -> [u8; 12] {
        let (seed, drawn) = match &mut *self.scene() {
            Scene::Opening => (0, 0),
            Scene::Live(_, _, drawn) => {
                *drawn += 1;
                (u64::MAX, *drawn)
            }
            Scene::Replay(replay) => {
                replay.drawn += 1;
                (replay.script.seed, replay.drawn)
            }
        };
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        bytes[8..].copy_from_slice(&drawn.to_be_bytes());
        bytes
    }

    fn fraction(&self) -> f64 {
        0.0
    }
}

/// A store on a stage.
#[derive(Debug)]
pub struct ScriptedStore {
    /// What answers while there is no script, and what is asked only once.
    pub base: MemoryStore,
    /// Where the script is.
    pub stage: Stage,
}

impl ScriptedStore {
    async fn ask(&self, collection: &str, operation: Operation) -> Answer {
        let call = Call {
            role: self.base.role(),
            collection: collection.to_owned(),
            operation,
        };
        self.stage.ask(call, &self.base).await
    }
}

macro_rules! the {
    ($kind:ident of $answer:expr) => {
        match $answer? {
            Reply::$kind(it) => Ok(it),
            other => unreachable!("the answer {other:?} is to another call"),
        }
    };
}

#[async_trait]
impl Store for ScriptedStore {
    fn role(&self) -> Role {
        self.base.role()
    }

    async fn hello(&self) -> Result<Hello> {
        the!(Hello of self.ask("", Operation::Hello).await)
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        self.base.prepare(layout).await
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        self.base.indexes().await
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        Store::collections(&self.base).await
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        the!(Found of self.ask(collection, Operation::Find(find.clone())).await)
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        the!(Number of self.ask(collection, Operation::Count(query.clone())).await)
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        the!(Inserted of self.ask(collection, Operation::Insert(documents.to_vec())).await)
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        the!(Put of self.ask(collection, Operation::PutNewer(documents.to_vec())).await)
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        let operation = Operation::Write(id.clone(), guard.clone(), change.clone());
        the!(Written of self.ask(collection, operation).await)
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        the!(Number of self.ask(collection, Operation::Delete(fences.to_vec())).await)
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        let operation = Operation::Amend(ids.to_vec(), when.clone(), set.clone());
        the!(Number of self.ask(collection, operation).await)
    }
}
