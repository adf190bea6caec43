//! The 24-hour move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::doc;
use bson::raw::RawDocumentBuf;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::document;
use tierkeep_engine::{Alerts, Condition, Keep, NoProgress, QuarantineService, RunOptions};
use tokio_util::sync::CancellationToken;

use crate::world::{Backend, DAY, HOUR, World, YOUNG, content, section};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_moves_and_what_is_young_stays(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for n in 0..20 {
        world.staged(n, DAY + HOUR).await;
    }
    for n in 20..25 {
        world.staged(n, YOUNG).await;
    }
    let before = world.all(Role::RaseenTempUser).await;
    let summary = world.migrate().await.unwrap();
    assert_eq!(
        (summary.due, summary.moved, summary.failed, summary.deferred),
        (20, 20, 0, 0)
    );
    assert_eq!(world.all(Role::RaseenTempUser).await.len(), 5);
    let main = world.all(Role::RaseenMainUser).await;
    assert_eq!(main.len(), 20);
    assert_eq!(main, world.all(Role::SrieMainUser).await);
    for copy in &main {
        let original = before
            .iter()
            .find(|d| document::id(d) == document::id(copy))
            .unwrap();
        assert_eq!(Digest::of(original), Digest::of(copy));
        assert_eq!(copy.get_str("data_location").unwrap(), "main");
        let metadata = copy.get_document("metadata").unwrap();
        assert_eq!(metadata.get_str("storage_location").unwrap(), "RASEEN_MAIN");
        assert_eq!(metadata.get_str("backup_status").unwrap(), "completed");
    }
    let records = world.records().await;
    assert_eq!(records.len(), 20);
    for record in &records {
        assert_eq!(record.get_str("status").unwrap(), "completed");
        assert_eq!(record.get_str("source_db").unwrap(), "raseen_temp_user");
        assert_eq!(record.get_str("target_db").unwrap(), "raseen_main_user");
        assert_eq!(record.get_str("backup_db").unwrap(), "srie_main_user");
        assert_eq!(
            record.get_object_id("_id").unwrap(),
            record.get_object_id("migration_id").unwrap()
        );
        let user = record.get_str("user_id").unwrap();
        let original = before
            .iter()
            .find(|d| document::user_id(d) == Some(user))
            .unwrap();
        let size = i64::try_from(original.as_bytes().len()).unwrap();
        assert_eq!(record.get_i64("data_size").unwrap(), size);
        assert_eq!(record.get_i32("retry_count").unwrap(), 0);
    }
    let again = world.migrate().await.unwrap();
    assert_eq!((again.due, again.moved), (0, 0));
    assert_eq!(world.records().await, records);
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_and_changes_nothing(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for n in 0..9 {
        world.staged(n, DAY + HOUR).await;
    }
    let before = world.all(Role::RaseenTempUser).await;
    let dry = RunOptions {
        dry_run: true,
        ..RunOptions::default()
    };
    let summary = world.migrate_with(dry).await.unwrap();
    assert_eq!((summary.due, summary.moved), (9, 0));
    assert!(summary.bytes > 0 && summary.dry_run);
    assert_eq!(world.all(Role::RaseenTempUser).await, before);
    assert!(world.records().await.is_empty());
    assert!(world.all(Role::SrieMainUser).await.is_empty());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn options_narrow_the_run(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let mut users = Vec::new();
    for n in 0..9 {
        users.push(world.staged(n, 2 * HOUR).await);
    }
    assert_eq!(world.migrate().await.unwrap().moved, 0);
    let older = Some(HOUR);
    let one = RunOptions {
        older_than: older,
        user: Some(users[3].clone()),
        ..RunOptions::default()
    };
    assert_eq!(world.migrate_with(one).await.unwrap().moved, 1);
    let few = RunOptions {
        older_than: older,
        limit: Some(3),
        ..RunOptions::default()
    };
    assert_eq!(world.migrate_with(few).await.unwrap().moved, 3);
    let rest = RunOptions {
        older_than: older,
        ..RunOptions::default()
    };
    assert_eq!(world.migrate_with(rest).await.unwrap().moved, 5);
    world.check_invariants().await;
}

#[rstest]
#[case(Role::SrieMainUser)]
#[case(Role::RaseenMainUser)]
#[case(Role::EvaluationAudit)]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_temp_while_a_database_of_the_move_is_away(
    #[case] away: Role,
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for n in 0..9 {
        world.staged(n, DAY + HOUR).await;
    }
    let before = world.all(Role::RaseenTempUser).await;
    world.faults.set_down(away, true);
    let stopped = world.migrate().await.unwrap_err();
    assert_eq!(stopped.error.database, away);
    assert_eq!(stopped.summary.deferred, stopped.summary.due);
    assert_eq!(world.all(Role::RaseenTempUser).await, before);
    world.faults.heal();
    assert_eq!(world.migrate().await.unwrap().moved, 9);
    assert!(
        world
            .records()
            .await
            .iter()
            .all(|r| r.get_i32("retry_count").unwrap() == 0)
    );
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_movers_move_everything_once(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for n in 0..60 {
        world.staged(n, DAY + HOUR).await;
    }
    let (one, other) = tokio::join!(world.migrate(), world.migrate());
    one.unwrap();
    other.unwrap();
    assert!(world.all(Role::RaseenTempUser).await.is_empty());
    assert_eq!(world.all(Role::RaseenMainUser).await.len(), 60);
    assert_eq!(world.records().await.len(), 60);
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_during_the_move_is_never_lost(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = Arc::new(World::new(backend).await);
    let mut users = Vec::new();
    for n in 0..10 {
        users.push(world.staged(n, DAY + HOUR).await);
    }
    let over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (world, users, over) = (Arc::clone(&world), users.clone(), Arc::clone(&over));
        async move {
            let mut written = 0;
            while !over.load(Ordering::Acquire) {
                written += 1;
                for user in &users {
                    let patch = bson::raw::RawDocumentBuf::try_from(
                        &doc! { format!("w{written}"): written },
                    )
                    .unwrap();
                    world
                        .users
                        .patch(user, &section(), &patch, Condition::None)
                        .await
                        .unwrap();
                }
            }
            written
        }
    });
    for _ in 0..10 {
        let all = RunOptions {
            older_than: Some(std::time::Duration::ZERO),
            ..RunOptions::default()
        };
        world.migrate_with(all).await.unwrap();
    }
    over.store(true, Ordering::Release);
    let written = writer.await.unwrap();
    for user in &users {
        let found = world.users.read(user).await.unwrap().unwrap();
        let cache = found.document.get_document("scan_cache").unwrap();
        for n in 1..=written {
            assert_eq!(
                cache.get_i32(format!("w{n}")).ok(),
                Some(n),
                "{user} lost write {n}"
            );
        }
        assert_eq!(found.version().unwrap().get(), i64::from(written) + 1);
    }
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_a_move_can_be_called_alone(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for n in 0..9 {
        world.staged(n, DAY + HOUR).await;
    }
    let stop = CancellationToken::new();
    let service = world.service();
    service
        .cleanup_temp_data(RunOptions::default(), &stop)
        .await
        .unwrap();
    assert_eq!(world.all(Role::RaseenTempUser).await.len(), 9);
    service
        .backup_to_srie(RunOptions::default(), &stop)
        .await
        .unwrap();
    assert_eq!(world.all(Role::SrieMainUser).await.len(), 9);
    assert!(world.all(Role::RaseenMainUser).await.is_empty());
    service
        .cleanup_temp_data(RunOptions::default(), &stop)
        .await
        .unwrap();
    assert_eq!(world.all(Role::RaseenTempUser).await.len(), 9);
    assert_eq!(world.migrate().await.unwrap().moved, 9);
    let summary = service
        .migrate_expired_data(RunOptions::default(), &NoProgress, &stop)
        .await
        .unwrap();
    assert_eq!(summary.moved, 0);
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_contradicts_is_quarantined_and_nothing_is_deleted(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    let other = world.staged(2, DAY + HOUR).await;
    let temp = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    let lie = document::Edit::new()
        .set(
            "scan_cache",
            RawDocumentBuf::try_from(&doc! { "other": 1 }).unwrap(),
        )
        .apply(&temp);
    let lie = tierkeep_core::mover::main_form(&lie, &Digest::of(&lie));
    world.plant(Role::RaseenMainUser, lie.clone()).await;
    let summary = world.migrate().await.unwrap();
    assert_eq!((summary.moved, summary.quarantined), (1, 1));
    assert_eq!(world.copy(Role::RaseenTempUser, &user).await, Some(temp));
    assert_eq!(world.copy(Role::RaseenMainUser, &user).await, Some(lie));
    assert!(world.copy(Role::RaseenTempUser, &other).await.is_none());
    let again = world.migrate().await.unwrap();
    assert_eq!((again.moved, again.quarantined, again.failed), (0, 1, 0));
    let explained = world.inspector().explain(&user).await.unwrap();
    assert!(explained.next.contains("quarantined"), "{}", explained.next);
    world
        .users
        .put(&user, &section(), content(1, 9), Condition::None)
        .await
        .unwrap();
    // A later write is no decision.
    assert_eq!(world.migrate().await.unwrap().moved, 0);
    assert_eq!(world.inspector().status(HOUR).await.quarantined, Some(1));
    let place = tempfile::tempdir().unwrap();
    let quarantine = QuarantineService::new(Arc::clone(&world.engine));
    let released = quarantine.release(user.as_str(), Some(Keep::Temp), place.path(), "a test");
    released.await.unwrap();
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    assert_eq!(world.inspector().status(HOUR).await.quarantined, Some(0));
}

#[rstest]
#[case(Role::SrieMainUser)]
#[case(Role::RaseenMainUser)]
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_refused_with_an_unknown_code_waits_longer_each_time_and_is_alerted(
    #[case] odd: Role,
) {
    let mut world = World::new(Backend::Memory).await;
    world.settings.retry_backoff = Duration::from_secs(30);
    let user = world.staged(0, DAY + HOUR).await;
    world.faults.unsettle(odd, user.as_str());
    let open = async || {
        let alerts = Alerts::new(Arc::clone(&world.engine));
        alerts.open(&mut None).await.unwrap()
    };
    let begun = world.now().await;
    let mut attempts = 0;
    for _ in 0..120 {
        let calls = world.faults.count_of("insert");
        let summary = world.migrate().await.unwrap();
        assert_eq!((summary.failed, summary.deferred), (0, 1));
        let tried = world.faults.count_of("insert") > calls;
        attempts += u32::from(tried);
        assert_eq!(open().await.len(), usize::from(attempts > 1));
        world.clock.advance(Duration::from_secs(30));
    }
    assert!(world.now().await.saturating_duration_since(begun) <= HOUR);
    assert!(
        (6..=9).contains(&attempts),
        "{attempts} attempts in an hour"
    );
    let [record] = &world.records().await[..] else {
        panic!("one record");
    };
    assert_eq!(record.get_i32("retry_count").unwrap(), 0);
    assert_eq!(record.get_str("status").unwrap(), "pending");

    world.faults.heal();
    world.clock.advance(HOUR);
    assert_eq!(world.migrate().await.unwrap().moved, 1);
}

#[rstest]
#[case(Role::SrieMainUser)]
#[case(Role::RaseenMainUser)]
#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_which_a_database_cannot_say_anything_waits_alone(
    #[case] odd: Role,
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(0, DAY + HOUR).await;
    for n in 1..20 {
        world.staged(n, DAY + HOUR).await;
    }
    let staged = world.copy(Role::RaseenTempUser, &user).await;
    world.faults.unsettle(odd, user.as_str());
    let summary = world.migrate().await.unwrap();
    assert_eq!(
        (summary.moved, summary.failed, summary.deferred),
        (19, 0, 1)
    );
    // A run does not try it again and again.
    let calls = world.faults.count_of("insert");
    let summary = world.migrate().await.unwrap();
    assert_eq!((summary.moved, summary.deferred), (0, 1));
    assert!(world.faults.count_of("insert") - calls <= 5);
    assert_eq!(world.copy(Role::RaseenTempUser, &user).await, staged);
    world.check_invariants().await;

    world.faults.heal();
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    let records = world.records().await;
    assert_eq!(records.len(), 20);
    assert!(
        records
            .iter()
            .all(|record| record.get_i32("retry_count").unwrap() == 0)
    );
    world.check_invariants().await;
}
