//! Importing users whose documents were composed elsewhere: cut off after every call, and stopped before every
//! call while a user signs up, is erased, or is imported by another process.

use std::future::Future;
use std::sync::Arc;

use bson::rawdoc;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, State};
use tierkeep_core::legacy::compose::Parts;
use tierkeep_core::legacy::{Composed, compose};
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{Compared, Import, ImportOutcome};
use tierkeep_testkit::fault::{Fault, Moment};
use tokio::task::JoinHandle;

use crate::scale::{calls, is_full};
use crate::world::{Backend, DAY, HOUR, World, user};

/// Where an import finds its user, and where it puts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Case {
    /// Into `external_users`.
    External,
    /// Into `external_users`, in the place of what an earlier run stored.
    ExternalAgain,
    /// Into temp.
    Young,
    /// Into temp, in the place of what an earlier run stored.
    YoungAgain,
    /// To srie and main.
    Old,
    /// Into temp, above what an earlier run stored in main.
    OldAgain,
}

const CASES: [Case; 6] = [
    Case::External,
    Case::ExternalAgain,
    Case::Young,
    Case::YoungAgain,
    Case::Old,
    Case::OldAgain,
];

impl Case {
    fn user(self) -> UserId {
        match self {
            Self::External => UserId::external("new").unwrap(),
            Self::ExternalAgain => UserId::external("again").unwrap(),
            Self::Young => user(1),
            Self::YoungAgain => user(2),
            Self::Old => user(3),
            Self::OldAgain => user(4),
        }
    }

    fn is_again(self) -> bool {
        match self {
            Self::ExternalAgain | Self::YoungAgain | Self::OldAgain => true,
            Self::External | Self::Young | Self::Old => false,
        }
    }

    /// The user with the content `n`.
    async fn arrival(self, world: &World, n: i32) -> Composed {
        let at = match self {
            Self::Young | Self::YoungAgain => world.ago(HOUR).await,
            Self::External | Self::ExternalAgain | Self::Old | Self::OldAgain => {
                world.ago(DAY * 2).await
            }
        };
        let scan = rawdoc! { "imported": n };
        let parts = Parts {
            scan: Some(&scan),
            progress: None,
            derived: Vec::new(),
            created_at: at,
            last_accessed: at,
        };
        compose(&self.user(), &parts)
    }

    /// Prepares the databases for the import under test, and returns the document to import.
    async fn begin(self, world: &World) -> Composed {
        let arrival = self.arrival(world, 2).await;
        if self.is_again() {
            let mut older = self.arrival(world, 1).await;
            older.created_at = arrival.created_at;
            assert_eq!(take(world, &[older]).await, [ImportOutcome::Stored]);
        }
        arrival
    }
}

async fn take(world: &World, arrivals: &[Composed]) -> Vec<ImportOutcome> {
    let engine = world.reopened().await;
    let intake = Import::new(engine, world.settings);
    intake.take(arrivals).await.unwrap()
}

async fn compared(world: &World, arrivals: &[Composed]) -> Vec<Compared> {
    let intake = Import::new(Arc::clone(&world.engine), world.settings);
    intake.compare(arrivals).await.unwrap()
}

/// The live documents of a user, wherever they are.
async fn live(world: &World, user: &UserId) -> Vec<Role> {
    let mut roles = Vec::new();
    for role in Role::ALL.into_iter().filter(|role| role.users().is_some()) {
        for one in world.all(role).await {
            if document::user_id(&one) == Some(user.as_str())
                && document::state(&one) != Some(State::Erased)
            {
                roles.push(role);
            }
        }
    }
    roles
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_import_cut_off_after_every_call_ends_the_same(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    for at in calls(backend) {
        let world = World::new(backend).await;
        let mut arrivals = Vec::new();
        for case in CASES {
            arrivals.push(case.begin(&world).await);
        }
        world.faults.crash_after(at);
        let intake = Import::new(Arc::clone(&world.engine), world.settings);
        let crashed = intake.take(&arrivals).await.is_err();
        world.faults.heal();
        let taken = take(&world, &arrivals).await;
        let is_there = |taken: &ImportOutcome| {
            matches!(
                taken,
                ImportOutcome::Stored | ImportOutcome::Replaced | ImportOutcome::Same
            )
        };
        assert!(taken.iter().all(is_there), "after call {at}: {taken:?}");
        let equal = [Compared::Equal; CASES.len()];
        assert_eq!(compared(&world, &arrivals).await, equal, "after call {at}");
        let again = take(&world, &arrivals).await;
        assert!(
            again.iter().all(|it| *it == ImportOutcome::Same),
            "{again:?}"
        );
        for case in CASES {
            let expected = match case {
                Case::External | Case::ExternalAgain => vec![Role::ExternalUsers],
                Case::Young | Case::YoungAgain => vec![Role::RaseenTempUser],
                Case::Old => vec![Role::RaseenMainUser, Role::SrieMainUser],
                Case::OldAgain => vec![
                    Role::RaseenTempUser,
                    Role::RaseenMainUser,
                    Role::SrieMainUser,
                ],
            };
            let mut found = live(&world, &case.user()).await;
            found.sort_by_key(|role| expected.iter().position(|it| it == role));
            assert_eq!(found, expected, "{case:?} after call {at}");
        }
        world.check_invariants().await;
        if !crashed {
            assert!(at > 20, "only {at} calls");
            break;
        }
    }
}

/// Stops an import before each of its calls, runs `meanwhile`, and resumes the import; `after` checks the result.
async fn stopped_before_every_call<M, A>(
    backend: Backend,
    case: Case,
    meanwhile: impl Fn(Arc<World>, Composed) -> M,
    after: impl Fn(Arc<World>, Composed, u64) -> A,
) where
    M: Future<Output = ()>,
    A: Future<Output = ()>,
{
    let step = match backend {
        Backend::Memory => 1,
        Backend::Sqlite | Backend::Mongo if is_full() => 1,
        Backend::Sqlite => 4,
        Backend::Mongo => 9,
    };
    for nth in (1..).step_by(step) {
        let world = Arc::new(World::new(backend).await);
        let arrival = case.begin(&world).await;
        let intake = Import::new(Arc::clone(&world.engine), world.settings);
        let hold = world.faults.hold(Fault::nth(nth, Moment::Before));
        let arrivals = [arrival.clone()];
        let mut import: JoinHandle<_> =
            tokio::spawn(async move { intake.take(&arrivals).await.unwrap() });
        let stopped = tokio::select! {
            biased;
            _ = &mut import => false,
            () = hold.reached() => true,
        };
        if !stopped {
            assert!(nth > 4, "only {nth} calls");
            return;
        }
        meanwhile(Arc::clone(&world), arrival.clone()).await;
        hold.release();
        import.await.unwrap();
        after(Arc::clone(&world), arrival, nth).await;
        world.check_invariants().await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn who_signs_up_beside_an_import_keeps_what_they_wrote(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(
        Case::External,
        Case::ExternalAgain,
        Case::YoungAgain,
        Case::Old,
        Case::OldAgain
    )]
    case: Case,
) {
    let meanwhile = async |world: Arc<World>, arrival: Composed| {
        // Beside an entry of the import's own one may have to come again, as callers do.
        while let Err(error) = world.put(&arrival.user, 5).await {
            world.clock.advance(std::time::Duration::from_secs(6));
            assert!(
                matches!(error, tierkeep_engine::UsersError::Contended),
                "{error:?}"
            );
        }
    };
    let after = async |world: Arc<World>, arrival: Composed, nth: u64| {
        for _ in 0..2 {
            let found = world.users.read(&arrival.user).await.unwrap().unwrap();
            let scan = found.document.get_document("scan_cache").unwrap();
            assert!(scan.get("imported").unwrap().is_none(), "before call {nth}");
            let taken = take(&world, std::slice::from_ref(&arrival)).await;
            let left = [ImportOutcome::Own, ImportOutcome::Changed].contains(&taken[0]);
            assert!(left, "before call {nth}: {taken:?}");
        }
        if case.user().user_type() == UserType::Internal {
            world.date_back(&arrival.user, DAY + HOUR).await;
            world.migrate().await.unwrap();
            let found = live(&world, &arrival.user).await;
            assert_eq!(found.len(), 2, "before call {nth}: {found:?}");
        }
    };
    stopped_before_every_call(backend, case, meanwhile, after).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_beside_an_import_stays_erased(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(
        Case::External,
        Case::ExternalAgain,
        Case::Young,
        Case::YoungAgain,
        Case::Old,
        Case::OldAgain
    )]
    case: Case,
) {
    let meanwhile = async |world: Arc<World>, arrival: Composed| {
        let erased = world.erasure().erase(&arrival.user).await.unwrap();
        assert!(erased.pending.is_empty());
    };
    let after = async |world: Arc<World>, arrival: Composed, nth: u64| {
        let read = world.users.read(&arrival.user).await.unwrap();
        assert!(read.is_none(), "before call {nth}");
        let taken = take(&world, std::slice::from_ref(&arrival)).await;
        assert_eq!(taken, [ImportOutcome::Erased], "before call {nth}");
        assert_eq!(live(&world, &arrival.user).await, [], "before call {nth}");
        let found = compared(&world, std::slice::from_ref(&arrival)).await;
        assert_eq!(found, [Compared::Erased]);
    };
    stopped_before_every_call(backend, case, meanwhile, after).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_imports_beside_each_other_end_as_one(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(
        Case::External,
        Case::ExternalAgain,
        Case::Young,
        Case::YoungAgain,
        Case::Old,
        Case::OldAgain
    )]
    case: Case,
) {
    let meanwhile = async |world: Arc<World>, arrival: Composed| {
        take(&world, &[arrival]).await;
    };
    let after = async |world: Arc<World>, arrival: Composed, nth: u64| {
        let taken = take(&world, std::slice::from_ref(&arrival)).await;
        assert_eq!(taken, [ImportOutcome::Same], "before call {nth}");
        let found = compared(&world, std::slice::from_ref(&arrival)).await;
        assert_eq!(found, [Compared::Equal], "before call {nth}");
    };
    stopped_before_every_call(backend, case, meanwhile, after).await;
}
