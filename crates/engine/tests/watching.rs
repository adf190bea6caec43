//! Comparing a sample of documents, and comparing all of them slowly in the background.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::compare::vouched;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document::Location;
use tierkeep_engine::{VerificationWatch, VerifyOptions};
use tierkeep_testkit::documents::native_user;
use tokio_util::sync::CancellationToken;

use crate::comparing::{LOOK, held, tamper, verify};
use crate::world::{Backend, World, user};

const MAIN: Role = Role::RaseenMainUser;
const SRIE: Role = Role::SrieMainUser;

/// Users of these numbers in main and srie, without their way there.
async fn backed_up(world: &World, numbers: std::ops::Range<u32>) {
    let copies: Vec<RawDocumentBuf> = numbers
        .map(|n| vouched(&native_user(n, 1).at(Location::Main).build()))
        .collect();
    for role in [MAIN, SRIE] {
        let store = world.store(role);
        store.insert("internal_users", &copies).await.unwrap();
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_comes_from_everywhere_and_reads_no_more_than_it_needs(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    backed_up(&world, 0..3_000).await;
    // Sound at the beginning, missing from the middle on.
    for n in 1_500..3_000 {
        tamper(&world, SRIE, &user(n), None).await;
    }
    let calls = world.faults.count();
    let options = VerifyOptions {
        sample: Some(60),
        ..LOOK
    };
    let found = verify(&world, &options).await;
    assert!((40..=60).contains(&found.checked), "{found:?}");
    assert!(found.matched > 5, "{found:?}");
    assert!(found.missing_in_backup > 5, "{found:?}");
    assert!(world.faults.count() - calls < 1_000);
    let few = VerifyOptions {
        sample: Some(5),
        ..LOOK
    };
    assert!(verify(&world, &few).await.checked <= 5);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_covers_everything_in_its_period_and_says_what_differs_until_it_is_gone(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    backed_up(&world, 0..50).await;
    let kept = held(&world, SRIE, &user(40)).await;
    tamper(&world, SRIE, &user(40), None).await;
    let stop = CancellationToken::new();
    // With so short a period every call of `turn` may compare, each time a twentieth of all documents.
    let period = std::time::Duration::from_millis(1);
    let watch = || VerificationWatch::new(Arc::clone(&world.engine), period);
    assert_eq!(covered(&world, &watch(), 1, &stop).await, 50);
    assert_eq!(open_alerts(&world).await, ["srie_main_user"]);
    world.plant(SRIE, kept).await;
    // A whole pass after that one.
    assert_eq!(covered(&world, &watch(), 1, &stop).await, 50);
    assert!(open_alerts(&world).await.is_empty());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn watches_share_a_pass_and_a_restart_goes_on_in_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    backed_up(&world, 0..60).await;
    let stop = CancellationToken::new();
    let day = std::time::Duration::from_hours(24);
    let watch = VerificationWatch::new(Arc::clone(&world.engine), day);
    let first = watch.turn(&stop).await.unwrap();
    assert!((1..60).contains(&first), "{first}");
    let other = VerificationWatch::new(world.reopened().await, day);
    assert_eq!(other.turn(&stop).await.unwrap(), 0, "it is too early");
    let control = world
        .everything(Role::EvaluationAudit, collection::CONTROL)
        .await;
    let pass = control
        .iter()
        .find(|it| it.get_str("_id").ok() == Some("verification"));
    let after = pass.unwrap().get_str("after").unwrap();
    assert_eq!(after, user(u32::try_from(first).unwrap() - 1).as_str());
}

/// Takes turns until `passes` are over; answers how many documents were compared.
pub async fn covered(
    world: &World,
    watch: &VerificationWatch,
    passes: u32,
    stop: &CancellationToken,
) -> u64 {
    let mut compared = 0;
    let mut over = 0;
    for _ in 0..500 {
        // The next turn is due at once.
        let ids = [Bson::String("verification".into())];
        let set = doc! { "next_at": Bson::Null };
        let audit = world.store(Role::EvaluationAudit);
        audit
            .amend(collection::CONTROL, &ids, &doc! {}, &set)
            .await
            .unwrap();
        world.clock.advance(std::time::Duration::from_millis(5));
        let now = watch.turn(stop).await.unwrap();
        compared += now;
        let control = world
            .everything(Role::EvaluationAudit, collection::CONTROL)
            .await;
        let pass = control
            .iter()
            .find(|it| it.get_str("_id").ok() == Some("verification"));
        if now > 0 && pass.unwrap().get_i64("pairs_done").ok() == Some(4) {
            over += 1;
            if over == passes {
                break;
            }
        }
    }
    assert_eq!(over, passes);
    compared
}

async fn open_alerts(world: &World) -> Vec<String> {
    let alerts = world
        .everything(Role::EvaluationAudit, collection::ALERTS)
        .await;
    alerts
        .iter()
        .filter(|alert| alert.get_str("kind").ok() == Some("verification_difference"))
        .filter(|alert| alert.get_datetime("resolved_at").is_err())
        .map(|alert| alert.get_str("subject").unwrap().to_owned())
        .collect()
}
