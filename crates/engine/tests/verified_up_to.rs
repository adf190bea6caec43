//! The moment up to which everything was verified: when the last pass over everything began that found no difference.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, DateTime, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::{Role, collection};
use tierkeep_engine::{VerificationWatch, VerifyOptions};
use tokio_util::sync::CancellationToken;

use crate::comparing::{LOOK, REPAIR, held, moved, one_byte, tamper, verify};
use crate::quick::QUICK;
use crate::watching::covered;
use crate::world::{Backend, World, user};

const SRIE: Role = Role::SrieMainUser;

async fn verified_up_to(world: &World) -> Option<String> {
    let status = world.inspector().status(Duration::from_mins(1)).await;
    status.verified_up_to
}

/// As [`verified_up_to`], where it must be a moment between two.
async fn is_between(world: &World, from: DateTime, to: DateTime) {
    let up_to = verified_up_to(world).await.unwrap();
    assert!(
        rfc3339(from) <= up_to && up_to <= rfc3339(to),
        "{from} <= {up_to} <= {to}"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_a_whole_verification_without_a_difference_raises_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 3).await;
    assert_eq!(verified_up_to(&world).await, None);
    let sample = VerifyOptions {
        sample: Some(2),
        ..LOOK
    };
    for options in [QUICK, sample] {
        assert_eq!(verify(&world, &options).await.left(), 0);
        assert_eq!(verified_up_to(&world).await, None);
    }
    let from = world.now().await;
    assert_eq!(verify(&world, &LOOK).await.left(), 0);
    let to = world.now().await;
    is_between(&world, from, to).await;
    let first = verified_up_to(&world).await;

    // One that stops, and one that repairs, say nothing of everything.
    world.clock.advance(Duration::from_secs(5));
    let changed = one_byte(&held(&world, SRIE, &user(1)).await);
    tamper(&world, SRIE, &user(1), Some(changed)).await;
    for options in [LOOK, REPAIR] {
        assert_eq!(verify(&world, &options).await.different, 1);
        assert_eq!(verified_up_to(&world).await, first);
    }
    let from = world.now().await;
    verify(&world, &LOOK).await;
    is_between(&world, from, world.now().await).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn it_outlives_a_restart_and_is_unknown_without_its_database(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 2).await;
    verify(&world, &LOOK).await;
    let kept = verified_up_to(&world).await;
    assert!(kept.is_some());
    let reopened = tierkeep_engine::MigrationService::new(world.reopened().await, world.settings);
    let inspector = tierkeep_engine::Inspector::from(&reopened);
    let status = inspector.status(Duration::from_mins(1)).await;
    assert_eq!(status.verified_up_to, kept);
    world.faults.set_down(Role::EvaluationAudit, true);
    assert_eq!(verified_up_to(&world).await, None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_of_the_watch_raises_it_to_its_beginning_and_keeps_it_while_the_next_is_under_way(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 9).await;
    let stop = CancellationToken::new();
    let watch = VerificationWatch::new(Arc::clone(&world.engine), Duration::from_millis(1));
    let from = world.now().await;
    covered(&world, &watch, 1, &stop).await;
    is_between(&world, from, world.now().await).await;
    let first = verified_up_to(&world).await;

    // A difference keeps the moment where it is.
    world.clock.advance(Duration::from_secs(5));
    let kept = held(&world, SRIE, &user(4)).await;
    tamper(&world, SRIE, &user(4), Some(one_byte(&kept))).await;
    covered(&world, &watch, 2, &stop).await;
    assert_eq!(verified_up_to(&world).await, first);
    tamper(&world, SRIE, &user(4), Some(kept)).await;
    let from = world.now().await;
    covered(&world, &watch, 2, &stop).await;
    is_between(&world, from, world.now().await).await;
}

/// A build that does not know the field, beside one that does: neither loses what the other keeps.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_of_a_build_that_does_not_know_it_leaves_it_alone(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 3).await;
    verify(&world, &LOOK).await;
    let kept = verified_up_to(&world).await;
    let audit = world.store(Role::EvaluationAudit);
    // What such a build sets when it takes a turn: these fields alone.
    let ids = [Bson::String("verification".into())];
    let set = doc! {
        "kind": "verification", "rev": 1_i64, "next_at": Bson::Null, "began_at": Bson::Null,
        "documents": 0_i64, "pairs_done": 0_i64, "after": Bson::Null, "users_left": 0_i64, "hr_left": 0_i64,
    };
    let when = doc! { "rev": 0_i64 };
    let amended = audit.amend(collection::CONTROL, &ids, &when, &set).await;
    assert_eq!(amended.unwrap(), 1, "such a build takes the turn");
    assert_eq!(verified_up_to(&world).await, kept);
    // And a later moment stays although an earlier pass ends after it.
    let later = DateTime::from_millis(4_000_000_000_000);
    let set = doc! { "verified_up_to": later };
    let amended = audit.amend(collection::CONTROL, &ids, &doc! {}, &set).await;
    assert_eq!(amended.unwrap(), 1);
    verify(&world, &LOOK).await;
    assert_eq!(verified_up_to(&world).await, Some(rfc3339(later)));
}
