//! Two processes whose clocks are hours apart.

use std::sync::Arc;

use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::store::Store;
use tierkeep_core::user::UserId;
use tierkeep_engine::{
    Condition, ConnectionManager, Engine, MigrationService, NoProgress, Purpose, RunOptions,
    Summary, Users,
};
use tierkeep_testkit::ManualClock;
use tierkeep_testkit::documents::native_user;
use tokio_util::sync::CancellationToken;

use crate::world::{Backend, DAY, HOUR, NO_RETRIES, World, YOUNG, section};

/// The databases as a process opens them whose clock is wrong by this.
async fn opened(world: &World, wrong_by_ms: i64) -> Arc<Engine> {
    let clock = ManualClock::new(clock::shifted(world.clock.now(), wrong_by_ms));
    let stores = world.stores.values();
    let stores = stores.map(|store| world.faults.over(Arc::clone(store)) as Arc<dyn Store>);
    let engine =
        Engine::new(ConnectionManager::new(stores, Arc::new(clock) as Arc<dyn Clock>).unwrap());
    engine
        .databases()
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap();
    Arc::new(engine)
}

async fn migrate(world: &World, engine: &Arc<Engine>) -> Summary {
    let service = MigrationService::new(Arc::clone(engine), world.settings);
    let stop = CancellationToken::new();
    let run = service.migrate_expired_data(RunOptions::default(), &NoProgress, &stop);
    run.await.unwrap()
}

#[rstest]
#[tokio::test]
async fn hours_between_two_processes_move_nothing_early_and_lose_nothing(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(2, 26)] hours: u32,
) {
    let world = World::new(backend).await;
    let skew_ms = i64::try_from((HOUR * hours).as_millis()).unwrap();
    let (ahead, behind) = (
        opened(&world, skew_ms).await,
        opened(&world, -skew_ms).await,
    );
    // By the clock ahead this one is due; by the server's it is not.
    let young = native_user(1, 1).dated(world.ago(YOUNG).await).build();
    world.plant(Role::RaseenTempUser, young.clone()).await;
    for n in 2..6 {
        // By the clock behind these are not due; by the server's they are.
        let due = native_user(n, 1)
            .dated(world.ago(DAY + HOUR / 2).await)
            .build();
        world.plant(Role::RaseenTempUser, due).await;
    }
    let (one, other) = tokio::join!(migrate(&world, &ahead), migrate(&world, &behind));
    assert_eq!((one.failed, other.failed), (0, 0));
    assert_eq!(world.all(Role::RaseenTempUser).await, [young]);
    let records = world.records().await;
    assert_eq!(records.len(), 4);
    for record in records {
        assert_eq!(record.get_str("status").unwrap(), "completed", "{record:?}");
    }

    // Whichever of them a user asks, the answer is the same: from temp what is young, from main what moved.
    let writers = [Users::new(ahead), Users::new(behind)];
    for n in 1..6 {
        let home = if n == 1 {
            Role::RaseenTempUser
        } else {
            Role::RaseenMainUser
        };
        let user = UserId::parse(native_user(n, 1).id()).unwrap();
        for by in &writers {
            let found = by.read(&user).await.unwrap().unwrap();
            assert_eq!(found.source, home, "{user}");
            assert_eq!(found.version().unwrap().get(), 1, "{user}");
        }
    }

    // Writes by both in turn: versions say which is newer, whatever the clocks say.
    let user = UserId::parse(native_user(2, 1).id()).unwrap();
    for n in 0..6 {
        let patch =
            bson::raw::RawDocumentBuf::try_from(&bson::doc! { format!("w{n}"): n }).unwrap();
        let writer = &writers[usize::try_from(n).unwrap() % 2];
        let receipt = writer
            .patch(&user, &section(), &patch, Condition::None)
            .await
            .unwrap();
        assert_eq!(receipt.version.get(), i64::from(n) + 2);
    }
    let found = world.users.read(&user).await.unwrap().unwrap();
    let cache = found.document.get_document("scan_cache").unwrap();
    for n in 0..6 {
        assert_eq!(cache.get_i32(format!("w{n}")).ok(), Some(n));
    }
    assert_eq!(document::version(&found.document).unwrap().get(), 7);
    world.check_invariants().await;
}
