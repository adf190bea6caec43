//! Crashes: the mover is cut off after every single call to a database, then run again.

use bson::doc;
use bson::raw::RawDocumentBuf;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::document;
use tierkeep_engine::Condition;
use tierkeep_testkit::documents::seed_user;

use crate::scale::is_cut;
use crate::world::{Backend, DAY, HOUR, World, content, section, user};

/// Documents of other programs.
const STRANGERS: [u32; 2] = [1_000, 1_001];

/// Three native documents, one of them a second life in main, and two of other programs.
async fn planted(world: &World) -> Vec<(String, RawDocumentBuf)> {
    natives(world).await;
    for n in STRANGERS {
        stranger(world, n).await;
    }
    staying(world).await
}

async fn natives(world: &World) {
    world.staged(1, DAY + HOUR).await;
    world.staged(2, DAY + HOUR).await;
    let back = world.staged(3, DAY + HOUR).await;
    world.migrate().await.unwrap();
    world.staged(1, DAY + HOUR).await;
    world
        .users
        .put(&back, &section(), content(3, 3), Condition::None)
        .await
        .unwrap();
    world.date_back(&back, DAY + HOUR).await;
    world.staged(4, DAY + HOUR).await;
}

async fn stranger(world: &World, n: u32) {
    let seed = seed_user(n, world.ago(DAY + HOUR).await);
    world.plant(Role::RaseenTempUser, seed).await;
}

/// The users whose documents are in temp, with the content that must arrive in main.
async fn staying(world: &World) -> Vec<(String, RawDocumentBuf)> {
    world
        .all(Role::RaseenTempUser)
        .await
        .into_iter()
        .map(|d| {
            let cache = d.get_document("scan_cache").unwrap().to_owned();
            (document::user_id(&d).unwrap().to_owned(), cache)
        })
        .collect()
}

async fn assert_converged(world: &World, planted: &[(String, RawDocumentBuf)], at: u64) {
    assert!(
        world.all(Role::RaseenTempUser).await.is_empty(),
        "crash after call {at}"
    );
    let main = world.all(Role::RaseenMainUser).await;
    let srie = world.all(Role::SrieMainUser).await;
    for (user, cache) in planted {
        for copies in [&main, &srie] {
            let copies: Vec<_> = copies
                .iter()
                .filter(|d| document::user_id(d) == Some(user))
                .collect();
            assert_eq!(copies.len(), 1, "crash after call {at}: {user}");
            assert_eq!(
                copies[0].get_document("scan_cache").unwrap(),
                cache.as_ref()
            );
            assert_eq!(copies[0].get_str("_id").unwrap(), user);
        }
    }
    for (one, other) in main.iter().zip(&srie) {
        assert_eq!(Digest::of(one), Digest::of(other));
    }
    for record in world.records().await {
        assert_eq!(
            record.get_str("status").unwrap(),
            "completed",
            "crash after call {at}"
        );
    }
    world.check_invariants().await;
}

/// Every step; on MongoDB a choice of them that has each kind, all with `--full`.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn crash_at_every_step_converges(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let whole = World::new(backend).await;
    planted(&whole).await;
    let before = whole.faults.calls().len();
    whole.migrate().await.unwrap();
    let calls = &whole.faults.calls()[before..];
    let mut crashes = 0;
    for at in (0..).filter(|at| is_cut(backend, calls, *at)) {
        let world = World::new(backend).await;
        let planted = planted(&world).await;
        world.faults.crash_after(at);
        let run = world.migrate().await;
        let crashed = world.faults.has_crashed() && run.is_err();
        world.faults.heal();
        // Entries of the crashed process count as abandoned once they have stood a while.
        world.clock.advance(std::time::Duration::from_secs(6));
        let (_, service) = world.restarted().await;
        let stop = tokio_util::sync::CancellationToken::new();
        service
            .migrate_expired_data(
                tierkeep_engine::RunOptions::default(),
                &tierkeep_engine::NoProgress,
                &stop,
            )
            .await
            .unwrap();
        assert_converged(&world, &planted, at).await;
        if !crashed {
            break;
        }
        crashes += 1;
    }
    println!("{backend:?}: {crashes} of {} calls", calls.len());
    assert!(crashes > 20, "only {crashes} crash points were reached");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_step_twice_is_once(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    use tierkeep_testkit::fault::{Fault, Moment};
    for operation in ["insert", "put_newer", "write", "delete", "amend", "find"] {
        let mut world = World::new(backend).await;
        natives(&world).await;
        let mut planted = staying(&world).await;
        // One batch at a time, so that the call after a lost one is its repetition.
        world.settings.batches_in_flight = 1;
        // Every second call is applied and its answer lost, so the step is done again.
        for nth in (1..1_000).step_by(2) {
            world
                .faults
                .plan(Fault::nth(nth, Moment::After).of(operation));
        }
        world.migrate().await.unwrap();
        // One by one as well: those that are due together are adopted side by side.
        for n in STRANGERS {
            stranger(&world, n).await;
            planted.extend(staying(&world).await);
            world.migrate().await.unwrap();
        }
        assert_eq!(planted.len(), 5);
        world.faults.heal();
        assert_converged(&world, &planted, 0).await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_crashes_leaves_nothing_that_counts(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    for at in 0.. {
        let world = World::new(backend).await;
        let moved = world.staged(1, DAY + HOUR).await;
        world.migrate().await.unwrap();
        world.faults.crash_after(at);
        let patch = bson::raw::RawDocumentBuf::try_from(&doc! { "patched": true }).unwrap();
        let run = world
            .users
            .patch(&moved, &section(), &patch, Condition::None)
            .await;
        world.faults.heal();
        let found = world.users.read(&moved).await.unwrap().unwrap();
        let cache = found.document.get_document("scan_cache").unwrap();
        assert_eq!(cache.get_i64("z").unwrap(), 1, "crash after call {at}");
        if run.is_ok() {
            assert!(cache.get_bool("patched").unwrap());
            break;
        }
    }
    let world = World::new(backend).await;
    let new = user(9);
    world.faults.crash_after(0);
    assert!(
        world
            .users
            .put(&new, &section(), content(9, 0), Condition::None)
            .await
            .is_err()
    );
    world.faults.heal();
    assert!(world.users.read(&new).await.unwrap().is_none());
}
