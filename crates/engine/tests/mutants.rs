//! Guards taken away one at a time: what goes wrong shows in the databases.

use rstest::rstest;
use tierkeep_core::db::Role;
use tierkeep_engine::Mutant;

use crate::world::{Backend, DAY, World};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_move_without_a_record_leaves_no_trace_of_itself(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let whole = World::new(backend).await;
    let lacking = World::lacking(backend, Mutant::MoveWithoutRecord).await;
    for (world, records) in [(whole, 1), (lacking, 0)] {
        world.staged(1, DAY).await;
        assert_eq!(world.migrate().await.unwrap().moved, 1);
        assert_eq!(world.all(Role::RaseenMainUser).await.len(), 1);
        assert_eq!(world.records().await.len(), records);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_main_without_its_guard_falls_behind_a_newer_copy(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let whole = World::new(backend).await;
    let lacking = World::lacking(backend, Mutant::UnguardedWriteToMain).await;
    for (world, falls) in [(whole, false), (lacking, true)] {
        world.staged(1, DAY).await;
        let newer = tierkeep_testkit::documents::native_user(1, 9)
            .at(tierkeep_core::document::Location::Main)
            .build();
        world.plant(Role::RaseenMainUser, newer.clone()).await;
        world.migrate().await.unwrap();
        let main = world.all(Role::RaseenMainUser).await;
        assert_eq!(main != [newer], falls);
    }
}
