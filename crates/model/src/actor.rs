//! The actions of actors, as calls of the engine, and running an actor again from its start to find its next
//! call.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{DateTime, doc, rawdoc};
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{RaseenTempUser, Role, UserDatabase, collection};
use tierkeep_core::document::{self, Edit, OPS_KEPT};
use tierkeep_core::store::{Change, Guard, Store, Written};
use tierkeep_core::user::{Section, UserId};
use tierkeep_core::version::Version;
use tierkeep_engine::{
    Condition, ConnectSettings, ConnectionManager, Engine, ErasureService, Janitor,
    MigrationService, MoverSettings, NoProgress, Purpose, Randomness, RunOptions, Users,
    UsersError,
};
use tierkeep_testkit::documents::seed_user;
use tierkeep_testkit::{ManualClock, MemoryStore};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::call::Call;
use crate::check::START;
use crate::script::{Script, ScriptedStore, Stage};

/// The section of those who each have their own, by the actor's number.
pub const SECTIONS: [&str; 4] = ["first", "second", "third", "fourth"];
/// The section that every actor appends to.
pub const LIST: &str = "list";
/// The section that every actor merges into.
pub const MERGED: &str = "merged";
/// How often a client that loses its race tries again.
const TRIES: usize = 3;

/// What an actor does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Program {
    /// A run of the mover that takes one document once.
    Move,
    /// A client that puts a section of its own.
    Put {
        /// Which user.
        user: u32,
    },
    /// A client that puts a section of its own again and again, more often than a document remembers operations. Only
    /// its last mark stays.
    Rewrite {
        /// Which user.
        user: u32,
    },
    /// A client that reads a list, adds its mark and puts it back under the version that it read.
    Append {
        /// Which user.
        user: u32,
    },
    /// A client that merges its mark into a section.
    Merge {
        /// Which user.
        user: u32,
    },
    /// A client that reads.
    Read {
        /// Which user.
        user: u32,
    },
    /// Another program that sets a section of the document that it wrote, which has its own `_id`, as long as that is there.
    OtherProgram {
        /// Which user.
        user: u32,
        /// Whether it relies on what it wrote, or only disturbs.
        relies: bool,
    },
    /// Another program that replaces the document that it wrote under the user's own id, as long as that is there unchanged.
    ReplacesKeyed {
        /// Which user.
        user: u32,
    },
    /// Another program that inserts the document that it wrote once more, byte for byte.
    InsertAgain {
        /// Which user.
        user: u32,
    },
    /// A client that erases.
    Erase {
        /// Which user.
        user: u32,
    },
    /// A round that finishes erasures which were cut off.
    FinishErasures,
    /// A round that removes the tombstones of finished erasures, without any grace.
    RemoveTombstones,
    /// Two rounds of the janitor, a minute apart by its own clock.
    Clear,
}

/// A write that was acknowledged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ack {
    /// Whose document.
    pub user: u32,
    /// Where the mark is.
    pub section: &'static str,
    /// What was written, like nothing else.
    pub mark: String,
    /// The version that was acknowledged.
    pub version: i64,
}

/// What an actor has at its end.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// An acknowledgement.
    Written(Ack),
    /// The version that it read, if any.
    Read(u32, Option<Version>),
    /// A user was erased for the how manieth time, and whether from every database.
    Erased(u32, i64, bool),
    /// Nothing that any actor may rely on.
    Nothing,
}

/// What an actor does next.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are calls")]
pub enum Next {
    /// It asks a database.
    Call(Call),
    /// It is at its end.
    Over(Outcome),
}

/// The `n`th user.
pub fn user(n: u32) -> UserId {
    UserId::internal(&format!("{n:024x}")).expect("24 hexadecimal digits")
}

/// The document of the `n`th user as another program writes it: with its own `_id`, without a version.
pub fn foreign(n: u32) -> RawDocumentBuf {
    seed_user(n, START)
}

/// The same under the user's own id.
pub fn keyed(n: u32) -> RawDocumentBuf {
    let id = user(n).to_string();
    Edit::new()
        .set(document::field::ID, id.as_str())
        .apply(&foreign(n))
}

fn section(name: &str) -> Section {
    Section::parse(name).expect("a section's name")
}

impl Program {
    /// Whether the program reads, or writes, a collection of `role`; clients write where they adopt.
    pub fn touches(self, role: Role, collection: &str, writing: bool, adopting: bool) -> bool {
        let users = role != Role::EvaluationAudit;
        let ledger = collection == collection::ERASURES;
        let moves = [collection::MIGRATION_INTENTS, collection::MIGRATION_RECORDS];
        match self {
            Self::Move => !(writing && ledger),
            Self::Put { .. } | Self::Rewrite { .. } | Self::Append { .. } | Self::Merge { .. } => {
                if writing {
                    role == Role::RaseenTempUser || (users && adopting)
                } else {
                    users || ledger || (adopting && moves.contains(&collection))
                }
            }
            Self::Read { .. } => !writing && (users || ledger),
            Self::Erase { .. } | Self::FinishErasures | Self::RemoveTombstones => users || ledger,
            Self::Clear => role == Role::RaseenTempUser || (ledger && !writing),
            Self::OtherProgram { .. } | Self::ReplacesKeyed { .. } | Self::InsertAgain { .. } => {
                role == Role::RaseenTempUser
            }
        }
    }

    /// Runs the program with the engine's own code. `mark` is like no other.
    async fn run(
        self,
        engine: Arc<Engine>,
        temp: Arc<dyn Store>,
        settings: MoverSettings,
        actor: usize,
        mark: String,
    ) -> Outcome {
        let users = Users::new(Arc::clone(&engine));
        match self {
            Self::Move => {
                let once = RunOptions {
                    limit: Some(1),
                    ..RunOptions::default()
                };
                migrate(engine, settings, once).await;
                Outcome::Nothing
            }
            Self::Put { user: n } => {
                let name = SECTIONS[actor];
                let value = rawdoc! { "mark": mark.as_str() };
                let done = users
                    .put(&user(n), &section(name), value, Condition::None)
                    .await;
                outcome(done, n, name, mark)
            }
            Self::Rewrite { user: n } => {
                let name = SECTIONS[actor];
                let (who, own) = (user(n), section(name));
                for time in 0..=OPS_KEPT {
                    let value = rawdoc! { "mark": format!("{mark}, {time}") };
                    if users.put(&who, &own, value, Condition::None).await.is_err() {
                        return Outcome::Nothing;
                    }
                }
                let value = rawdoc! { "mark": mark.as_str() };
                let done = users.put(&who, &own, value, Condition::None).await;
                outcome(done, n, name, mark)
            }
            Self::Append { user: n } => append(&users, n, mark).await,
            Self::Merge { user: n } => {
                let patch = RawDocumentBuf::try_from(&doc! { mark.as_str(): 1 });
                let patch = patch.unwrap_or_default();
                let done = users
                    .patch(&user(n), &section(MERGED), &patch, Condition::None)
                    .await;
                outcome(done, n, MERGED, mark)
            }
            Self::Read { user: n } => match users.read(&user(n)).await {
                Ok(found) => Outcome::Read(n, found.and_then(|found| found.version())),
                Err(_) => Outcome::Nothing,
            },
            Self::Erase { user: n } => match ErasureService::new(engine).erase(&user(n)).await {
                Ok(erased) => Outcome::Erased(n, erased.epoch, erased.pending.is_empty()),
                Err(_) => Outcome::Nothing,
            },
            Self::FinishErasures => {
                ErasureService::new(engine).finish_pending().await.ok();
                Outcome::Nothing
            }
            Self::RemoveTombstones => {
                let erasures = ErasureService::new(engine);
                erasures.remove_tombstones(Duration::ZERO).await.ok();
                Outcome::Nothing
            }
            Self::Clear => {
                clear(engine).await;
                Outcome::Nothing
            }
            Self::OtherProgram { user: n, relies } => {
                let guard = Guard::Fields(doc! {});
                let done = rewrite(temp, foreign(n), guard, n, SECTIONS[actor], mark).await;
                if relies { done } else { Outcome::Nothing }
            }
            Self::ReplacesKeyed { user: n } => {
                let guard = Guard::Whole(keyed(n));
                rewrite(temp, keyed(n), guard, n, SECTIONS[actor], mark).await
            }
            Self::InsertAgain { user: n } => {
                temp.insert(RaseenTempUser::USERS, &[foreign(n)]).await.ok();
                Outcome::Nothing
            }
        }
    }
}

/// Another program replaces the document stored under the `_id` of `document` by `document` with one more section, if `guard` holds.
async fn rewrite(
    temp: Arc<dyn Store>,
    document: RawDocumentBuf,
    guard: Guard,
    user: u32,
    section: &'static str,
    mark: String,
) -> Outcome {
    let id = document::id(&document);
    let value = rawdoc! { "mark": mark.as_str() };
    let change = Change::Replace(Edit::new().set(section, value).apply(&document));
    let written = temp
        .write(RaseenTempUser::USERS, &id, &guard, &change)
        .await;
    if !matches!(written, Ok(Written::Applied(_))) {
        return Outcome::Nothing;
    }
    Outcome::Written(Ack {
        user,
        section,
        mark,
        version: 0,
    })
}

async fn clear(engine: Arc<Engine>) {
    let mut janitor = Janitor::new(engine);
    janitor.round(Duration::ZERO).await.ok();
    janitor.round(Duration::from_mins(1)).await.ok();
}

fn outcome(
    done: Result<tierkeep_engine::Receipt, UsersError>,
    user: u32,
    section: &'static str,
    mark: String,
) -> Outcome {
    done.map_or(Outcome::Nothing, |receipt| {
        Outcome::Written(Ack {
            user,
            section,
            mark,
            version: receipt.version.get(),
        })
    })
}

async fn append(users: &Users, n: u32, mark: String) -> Outcome {
    for _ in 0..TRIES {
        let Ok(found) = users.read(&user(n)).await else {
            return Outcome::Nothing;
        };
        let document = found.as_ref().map(|found| found.document.as_ref());
        let mut list = document.map(listed).unwrap_or_default();
        list.push(mark.clone());
        let list = doc! { LIST: list };
        let value = RawDocumentBuf::try_from(&list).expect("a list of texts");
        let condition = match found.and_then(|found| found.version()) {
            Some(version) => Condition::Version(version),
            None => Condition::Absent,
        };
        let done = users.put(&user(n), &section(LIST), value, condition).await;
        if !matches!(done, Err(UsersError::Mismatch { .. })) {
            return outcome(done, n, LIST, mark);
        }
    }
    Outcome::Nothing
}

/// The marks in the list of `document`.
pub fn listed(document: &RawDocument) -> Vec<String> {
    let list = document
        .get_document(LIST)
        .and_then(|section| section.get_array(LIST));
    list.into_iter()
        .flatten()
        .filter_map(|mark| Some(mark.ok()?.as_str()?.to_owned()))
        .collect()
}

async fn migrate(engine: Arc<Engine>, settings: MoverSettings, what: RunOptions) {
    let stop = CancellationToken::new();
    MigrationService::new(engine, settings)
        .migrate_expired_data(what, &NoProgress, &stop)
        .await
        .ok();
}

const AT_ONCE: ConnectSettings = ConnectSettings {
    retries: 0,
    backoff: Duration::ZERO,
};

/// How an engine is made for a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Making {
    /// How the mover works.
    pub settings: MoverSettings,
    /// An actor erases.
    pub erasing: bool,
    /// Documents may be quarantined.
    pub quarantine: bool,
    /// The guard that is missing.
    #[cfg(feature = "mutants")]
    pub mutant: Option<tierkeep_engine::Mutant>,
}

impl Making {
    fn engine(
        &self,
        stores: Vec<Arc<dyn Store>>,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
    ) -> Engine {
        let databases = ConnectionManager::new(stores, clock)
            .expect("a store for each role")
            .with_randomness(randomness);
        let engine = Engine::new(databases);
        #[cfg(feature = "mutants")]
        if let Some(mutant) = self.mutant {
            return engine.with_mutant(mutant);
        }
        engine
    }
}

/// A runtime whose timers are due as soon as nothing else is to do.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without a driver")
}

/// An engine over scripted stores, for one thread.
pub struct Rig {
    engine: Arc<Engine>,
    /// Temp as other programs reach it.
    temp: Arc<dyn Store>,
    making: Making,
    stage: Stage,
    runtime: Runtime,
}

impl Rig {
    /// An engine, opened over these stores.
    pub fn new(stores: Vec<MemoryStore>, making: Making) -> Self {
        let stage = Stage::default();
        let scripted = stores.into_iter().map(|base| {
            let stage = stage.clone();
            Arc::new(ScriptedStore { base, stage }) as Arc<dyn Store>
        });
        let scripted: Vec<Arc<dyn Store>> = scripted.collect();
        let temp = scripted
            .iter()
            .find(|store| store.role() == Role::RaseenTempUser);
        let temp = Arc::clone(temp.expect("a store for each role"));
        let (clock, randomness) = (Arc::new(stage.clone()), Arc::new(stage.clone()));
        let engine = making.engine(scripted, clock, randomness);
        let runtime = runtime();
        runtime
            .block_on(engine.databases().open(AT_ONCE, Purpose::Work))
            .expect("databases in memory");
        let engine = Arc::new(engine);
        if making.erasing {
            runtime.block_on(know_the_key(&engine));
        }
        Self {
            engine,
            temp,
            making,
            stage,
            runtime,
        }
    }

    /// Runs the program from its start and answers what it does beyond the script.
    pub fn replay(&self, program: Program, actor: usize, mark: &str, script: Script) -> Next {
        let end = self.stage.set(script);
        self.runtime.block_on(async {
            let engine = Arc::clone(&self.engine);
            let temp = Arc::clone(&self.temp);
            let running = program.run(engine, temp, self.making.settings, actor, mark.to_owned());
            tokio::select! {
                biased;
                outcome = running => Next::Over(outcome),
                () = end.notified() => Next::Call(self.stage.next().expect("it has just asked")),
            }
        })
    }

    /// Finishes erasures, clears entries and runs one mover over stores of their own at the time `now`,
    /// undisturbed.
    pub fn settle(&self, stores: Vec<MemoryStore>, now: DateTime) {
        self.stage.open(stores, now);
        let engine = Arc::clone(&self.engine);
        let all = RunOptions::default();
        self.runtime.block_on(async {
            let erasures = ErasureService::new(Arc::clone(&engine));
            erasures.finish_pending().await.ok();
            clear(Arc::clone(&engine)).await;
            migrate(Arc::clone(&engine), self.making.settings, all.clone()).await;
            if self.making.quarantine {
                // What was quarantined because of a document that has gone since is released by a run and moved by the next.
                migrate(engine, self.making.settings, all).await;
            }
        });
    }
}

/// A user who is not part of any scenario.
const NOBODY: u32 = u32::MAX;

/// An engine keeps the ledger's key for good once it has read it, so it is read before anything is replayed.
async fn know_the_key(engine: &Arc<Engine>) {
    let erasures = ErasureService::new(Arc::clone(engine));
    let erased = erasures.erase(&user(NOBODY)).await;
    erased.expect("databases in memory");
}

/// Seven empty databases with their layout, their stamps and, if an actor erases, the ledger's key, at the time `now`.
pub fn opened(now: DateTime, erasing: bool) -> Vec<MemoryStore> {
    let clock = Arc::new(ManualClock::new(now));
    let stores: Vec<MemoryStore> = Role::ALL
        .into_iter()
        .map(|role| MemoryStore::new(role, role.name(), Arc::clone(&clock) as Arc<dyn Clock>))
        .collect();
    let shared = stores
        .iter()
        .map(|store| Arc::new(store.clone()) as Arc<dyn Store>);
    let databases = ConnectionManager::new(shared, clock)
        .expect("a store for each role")
        .with_randomness(Arc::new(Stage::default()));
    let engine = Engine::new(databases);
    let runtime = runtime();
    runtime
        .block_on(engine.databases().open(AT_ONCE, Purpose::Work))
        .expect("databases in memory");
    if erasing {
        runtime.block_on(know_the_key(&Arc::new(engine)));
        for store in &stores {
            let users = store.role().users().unwrap_or(collection::ERASURES);
            for document in store.snapshot(users) {
                store.uproot(users, &tierkeep_core::document::id(&document));
            }
        }
    }
    stores
}
