//! Erasing a user while a move of the same user is at each of its steps: nothing of the user comes back, and a user
//! who signed up again in the meantime stays.
//!
//! The mover is a separate process: it is stopped before one of its calls, the user is erased, and the mover
//! continues, or is killed and other processes finish its work.

use std::sync::Arc;
use std::time::Duration;

use bson::doc;
use bson::raw::RawDocumentBuf;
use futures_util::stream::{self, StreamExt as _};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document::{self, State};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, Mutant, Upkeep, UsersError};
use tierkeep_testkit::fault::{Fault, Moment};
use tokio::runtime::Runtime;

use crate::bridge;
use crate::scale::{calls, is_full};
use crate::world::{Backend, DAY, HOUR, Place, World, section, user};

const TIERS: [Role; 3] = [
    Role::RaseenTempUser,
    Role::RaseenMainUser,
    Role::SrieMainUser,
];
/// How many cases run concurrently.
const AT_ONCE: usize = 8;
const GRACE: Duration = Duration::from_hours(720);
/// What was erased contains this, and nothing else does.
const OLD: &str = "of the erased life";
/// What a new life contains.
const NEW: &str = "of the new life";

/// When the mover continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    /// At once after the erasure.
    AtOnce,
    /// After the tombstones are gone.
    Late,
}

/// What becomes of the mover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mover {
    /// It runs to its end.
    GoesOn,
    /// It is killed after this many more calls, and other processes continue.
    Dies(u64),
}

/// How the user is erased, and what happens meanwhile.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// The database that is away while the user is erased, and until the mover is through.
    away: Option<Role>,
    when: When,
    mover: Mover,
    /// The user signs up again before the mover continues, or as soon as that is possible.
    reborn: bool,
}

/// The cases that are tried on a backend: all in memory and in a full run, those in which most happens otherwise.
fn cases(backend: Backend) -> Vec<Case> {
    let all = is_full() || backend == Backend::Memory;
    let at_once = [None].into_iter().chain(TIERS.map(Some));
    let at_once = at_once.map(|away| (away, When::AtOnce));
    let erasures: Vec<_> = at_once.chain([(None, When::Late)]).collect();
    let deaths = if all { 0..=9 } else { 3..=3 };
    let mut cases = Vec::new();
    for mover in [Mover::GoesOn].into_iter().chain(deaths.map(Mover::Dies)) {
        for (away, when) in &erasures {
            for reborn in [false, true] {
                if all || reborn || away.is_none() {
                    cases.push(Case {
                        away: *away,
                        when: *when,
                        mover,
                        reborn,
                    });
                }
            }
        }
    }
    cases
}

/// What went wrong.
#[derive(Debug)]
struct Wrong(String);

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(Wrong(what())) }
}

/// One user, erased while a mover is held.
struct Scene<'a> {
    world: &'a World,
    /// The mover's process.
    mover: &'a World,
    case: Case,
    erased: UserId,
    other: UserId,
    /// The version at which the user signed up again.
    born: Option<Version>,
}

impl Scene<'_> {
    /// The user has one version in main and srie and a newer one in temp, which is due; another user's first document
    /// is due beside it.
    async fn is_set(&self) {
        let (world, user) = (self.world, &self.erased);
        for _ in 0..2 {
            self.write(user, OLD).await.unwrap();
            world.date_back(user, DAY + HOUR).await;
            if world.copy(Role::RaseenMainUser, user).await.is_none() {
                world.migrate().await.unwrap();
            }
        }
        self.write(&self.other, "of somebody else").await.unwrap();
        world.date_back(&self.other, DAY + HOUR).await;
    }

    async fn write(&self, user: &UserId, text: &str) -> Result<Version, UsersError> {
        let value = RawDocumentBuf::try_from(&doc! { "text": text }).unwrap();
        let (section, always) = (section(), Condition::None);
        let put = self.world.users.put(user, &section, value, always);
        Ok(put.await?.version)
    }

    async fn signs_up(&mut self) {
        self.born = Some(self.write(&self.erased, NEW).await.unwrap());
    }

    /// Stops a mover before the call after `at` others, erases, and resumes it; `None` where it makes no such call.
    async fn play(&mut self, at: u64) -> Option<Result<(), Wrong>> {
        let world = self.world;
        let hold = self.mover.faults.hold(Fault::nth(at + 1, Moment::Before));
        let mut run = self.mover.migrate_meanwhile();
        tokio::select! {
            () = hold.reached() => {}
            done = &mut run => {
                done.unwrap().unwrap();
                return None;
            }
        }
        if let Some(away) = self.case.away {
            world.faults.set_down(away, true);
        }
        let erased = world.erasure().erase(&self.erased).await.unwrap();
        assert_eq!(erased.pending, Vec::from_iter(self.case.away));
        if self.case.when == When::Late {
            world.clock.advance(GRACE + HOUR);
            assert_eq!(world.erasure().remove_tombstones(GRACE).await.unwrap(), 1);
        }
        let can_sign_up = [None, Some(Role::SrieMainUser)].contains(&self.case.away);
        if self.case.reborn && can_sign_up {
            self.signs_up().await;
        }
        match self.case.mover {
            Mover::GoesOn => {}
            Mover::Dies(after) => self.mover.faults.crash_after(after),
        }
        hold.release();
        let ended = run.await.unwrap();
        if self.case.mover == Mover::GoesOn {
            ended.unwrap();
        }
        // Before any cleanup, the tombstones are written, or the erasure behind them is known to be pending.
        let hidden = self.case.when == When::AtOnce;
        world.faults.heal();
        self.mover.faults.heal();
        if hidden && let Err(wrong) = self.what_is_read_is_new().await {
            return Some(Err(wrong));
        }
        if self.case.reborn && !can_sign_up {
            self.signs_up().await;
        }
        Some(self.ends_well().await)
    }

    /// Other processes continue, and the tombstones are removed.
    async fn ends_well(&self) -> Result<(), Wrong> {
        let world = self.world;
        let mut upkeep = Upkeep::new(Arc::clone(&world.engine), GRACE);
        upkeep.round(Duration::ZERO).await;
        world.migrate().await.unwrap();
        upkeep.round(Duration::from_mins(2)).await;
        self.nothing_old_counts().await?;
        if self.case.reborn {
            world.date_back(&self.erased, DAY + HOUR).await;
            let moved = world.migrate().await.unwrap().moved;
            ensure(moved == 1, || format!("{moved} new lives moved"))?;
        }
        // Twice: what came late has a grace of its own.
        for round in 1..=2 {
            world.clock.advance(GRACE + HOUR);
            upkeep.round(Duration::from_hours(round)).await;
            self.nothing_old_counts().await?;
        }
        self.nothing_old_is_anywhere().await?;
        for copies in [Role::RaseenMainUser, Role::SrieMainUser] {
            let other = world.copy(copies, &self.other).await;
            ensure(other.is_some(), || format!("{copies} lost a neighbour"))?;
        }
        let alerts = world
            .everything(Role::EvaluationAudit, collection::ALERTS)
            .await;
        ensure(alerts.is_empty(), || format!("alerts: {alerts:?}"))
    }

    /// What is read is the new life, or nothing.
    async fn what_is_read_is_new(&self) -> Result<(), Wrong> {
        let found = self.world.users.read(&self.erased).await.unwrap();
        let read = found.as_ref().map(|found| found.version().unwrap());
        ensure(read == self.born, || {
            format!("{read:?} is read, and {:?} was born", self.born)
        })
    }

    /// What is read is the new life, or nothing, and no copy is older than the erasure.
    async fn nothing_old_counts(&self) -> Result<(), Wrong> {
        self.what_is_read_is_new().await?;
        let fence = Version::of_erasure(1).unwrap();
        for role in TIERS {
            let Some(copy) = self.world.copy(role, &self.erased).await else {
                continue;
            };
            let old = document::version(&copy).is_none_or(|version| version < fence);
            ensure(!old, || format!("{role} holds {copy:?}"))?;
        }
        Ok(())
    }

    /// No database holds content from before the erasure, and no tombstone keeps a user id.
    async fn nothing_old_is_anywhere(&self) -> Result<(), Wrong> {
        for role in TIERS {
            let copy = self.world.copy(role, &self.erased).await;
            let holds = copy.as_ref().map(|copy| document::state(copy));
            let expected = match (self.case.reborn, role) {
                (true, Role::RaseenMainUser | Role::SrieMainUser) => Some(Some(State::Live)),
                _ => None,
            };
            ensure(holds == expected, || format!("{role} holds {copy:?}"))?;
        }
        for role in Role::ALL {
            for name in kept_in(role) {
                for document in self.world.everything(role, name).await {
                    let mut windows = document.as_bytes().windows(OLD.len());
                    let old = windows.any(|window| window == OLD.as_bytes());
                    ensure(!old, || format!("{role}.{name} holds {document:?}"))?;
                }
            }
        }
        let ledger = self
            .world
            .everything(Role::EvaluationAudit, collection::ERASURES)
            .await;
        let open = ledger
            .iter()
            .filter(|entry| entry.get_str("stage").unwrap() != "closed");
        let open = open.count();
        ensure(open == 0, || format!("{open} erasures are not closed"))
    }
}

/// The collections that might hold something of an internal user.
fn kept_in(role: Role) -> Vec<&'static str> {
    match role {
        Role::EvaluationAudit => vec![
            collection::MIGRATION_RECORDS,
            collection::CONTROL,
            collection::ERASURES,
            collection::AUDIT_TRAIL,
            collection::ALERTS,
        ],
        Role::ExternalUsers
        | Role::RaseenTempUser
        | Role::RaseenMainUser
        | Role::RaseenMainHr
        | Role::SrieMainUser
        | Role::SrieMainHr => role.users().into_iter().collect(),
    }
}

/// One case with the mover stopped before each of its calls, in a world of its own; answers how many calls that were,
/// and what went wrong.
async fn tried(
    world: World,
    mutant: Option<Mutant>,
    stops: impl Iterator<Item = u64>,
    case: Case,
) -> (usize, Vec<String>) {
    let (of_mover, clock) = (world.stores.values().cloned(), Arc::clone(&world.clock));
    let mut mover = World::over(of_mover.collect(), clock, Box::new(()), mutant).await;
    // One call after the other, so that the same number is the same call.
    mover.settings.batches_in_flight = 1;
    let (mut stopped, mut wrong) = (0, Vec::new());
    for (n, at) in (1..).zip(stops) {
        let mut scene = Scene {
            world: &world,
            mover: &mover,
            case,
            erased: user(2 * n),
            other: user(2 * n + 1),
            born: None,
        };
        scene.is_set().await;
        match scene.play(at).await {
            Some(Ok(())) => {}
            Some(Err(Wrong(why))) => {
                wrong.push(format!("stopped before call {at}, {case:?}: {why}"));
            }
            None => break,
        }
        stopped += 1;
    }
    (stopped, wrong)
}

/// Every case, some beside each other: they mostly wait for what is away, and a server takes only so many.
pub async fn all_hold(backend: Backend, world: impl AsyncFn() -> World) {
    let cases = stream::iter(cases(backend));
    let tried = cases.for_each_concurrent(AT_ONCE, async |case| {
        let (stopped, wrong) = tried(world().await, None, calls(backend), case).await;
        assert!(wrong.is_empty(), "{wrong:#?}");
        let enough = calls(backend).take_while(|at| *at < 15).count();
        assert!(
            stopped >= enough,
            "{case:?}: stopped at {stopped} calls only"
        );
    });
    tried.await;
}

/// Where a database answers at once, time stands still, so that the waits for what is away take none; the cases beside
/// each other would wait for a server's answers to each other's calls.
#[rstest]
fn a_user_erased_while_moving_does_not_come_back(
    #[values(
        Place::One(Backend::Memory),
        Place::One(Backend::Sqlite),
        Place::One(Backend::Mongo),
        Place::Two
    )]
    place: Place,
) {
    let outside = Runtime::new().unwrap();
    match place.backend() {
        Backend::Memory | Backend::Sqlite => {
            let world = async || World::stopped(place, outside.handle()).await;
            bridge::stopped().block_on(all_hold(place.backend(), world));
        }
        Backend::Mongo => {
            let world = async || World::at(place).await;
            outside.block_on(all_hold(place.backend(), world));
        }
    }
}

/// The engine without one of its guards lets something come back, and it is seen.
async fn comes_back(mutant: Mutant, when: When, mover: Mover) {
    let case = Case {
        away: None,
        when,
        mover,
        reborn: false,
    };
    let world = World::lacking(Backend::Memory, mutant).await;
    let (_, wrong) = tried(world, Some(mutant), calls(Backend::Memory), case).await;
    assert!(!wrong.is_empty(), "{mutant:?} goes unnoticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_does_not_look_into_the_ledger_is_found() {
    comes_back(Mutant::NoLedgerAfterWriting, When::Late, Mover::GoesOn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_without_tombstones_is_found() {
    comes_back(
        Mutant::ErasureWithoutTombstones,
        When::AtOnce,
        Mover::Dies(3),
    )
    .await;
}
