//! The bindings of users to GitHub accounts: what is stored, and how long a request waits for the comparison.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::Class;
use tierkeep_engine::{BindingCheck, Bindings, OnChange};
use tierkeep_testkit::fault::{Fault, Moment};
use tokio::time::Instant;

use crate::erasure::in_every_tier;
use crate::world::{self, Backend, World};

/// Everything that is kept of GitHub accounts.
async fn accounts(world: &World) -> Vec<RawDocumentBuf> {
    let mut kept = world
        .everything(Role::EvaluationAudit, collection::CONTROL)
        .await;
    kept.retain(|kept| kept.get_str("kind").ok() == Some("github_account"));
    kept
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_github_account_of_an_erased_user_is_forgotten_and_was_never_stored_in_clear(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    const ACCOUNT: u64 = 5_831_204_477;
    let world = World::new(backend).await;
    let user = in_every_tier(&world, 1).await;
    let neighbour = in_every_tier(&world, 2).await;
    let bindings = Bindings::new(Arc::clone(&world.engine), OnChange::Refuse);
    for whose in [&user, &neighbour] {
        assert_eq!(
            bindings.check(whose, ACCOUNT).await.unwrap(),
            BindingCheck::Same
        );
        assert_eq!(bindings.check(whose, 8).await.unwrap(), BindingCheck::Other);
    }
    let kept = accounts(&world).await;
    assert_eq!(kept.len(), 2);
    for named in [user.as_str(), &ACCOUNT.to_string()] {
        let shown = format!(
            "{:?}",
            kept.iter()
                .map(|kept| bson::Document::try_from(kept.as_ref()))
                .collect::<Vec<_>>()
        );
        assert!(!shown.contains(named), "{shown}");
    }
    // It goes with the last of the content.
    world.faults.set_down(Role::SrieMainUser, true);
    world.erasure().erase(&user).await.unwrap();
    world.faults.heal();
    world.erasure().finish_pending().await.unwrap();
    assert_eq!(accounts(&world).await.len(), 1);
    // The erased user's next sign-in makes a new binding; the neighbour's binding is unchanged.
    let later = Bindings::new(world.reopened().await, OnChange::Refuse);
    assert_eq!(later.check(&user, 8).await.unwrap(), BindingCheck::Same);
    assert_eq!(
        later.check(&user, ACCOUNT).await.unwrap(),
        BindingCheck::Other
    );
    assert_eq!(
        later.check(&neighbour, 8).await.unwrap(),
        BindingCheck::Other
    );
}

/// While `evaluation_audit` hangs, later callers do not queue behind the first one.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_comparison_that_hangs_keeps_one_caller_waiting_and_not_the_next_ones(
    #[values(OnChange::Follow, OnChange::Refuse)] on_change: OnChange,
) {
    let world = World::new(Backend::Memory).await;
    let bindings = Bindings::new(Arc::clone(&world.engine), on_change);
    let held = world
        .faults
        .hold(Fault::nth(1, Moment::Before).to(Role::EvaluationAudit));
    let begun = Instant::now();
    for n in 1..=50 {
        let met = bindings.check(&world::user(n), 7).await;
        assert_eq!(met.unwrap_err().class, Class::Timeout);
    }
    assert_eq!(begun.elapsed().as_secs(), 2);
    held.release();
    tokio::time::advance(Duration::from_secs(5)).await;
    for n in 1..=50 {
        assert_eq!(
            bindings.check(&world::user(n), 7).await.unwrap(),
            BindingCheck::Same
        );
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_unbound_user_binds_again_and_the_account_is_shown_only_by_comparison(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world::user(1);
    let bindings = Bindings::new(Arc::clone(&world.engine), OnChange::Refuse);
    assert_eq!(bindings.find(&user, Some(7)).await.unwrap(), None);
    assert!(!bindings.unbind(&user).await.unwrap());
    assert_eq!(accounts(&world).await, Vec::<RawDocumentBuf>::new());

    let since = world.clock.now();
    bindings.check(&user, 7).await.unwrap();
    world.clock.advance(Duration::from_hours(1));
    bindings.check(&user, 7).await.unwrap();
    for (asked, is_account) in [(None, None), (Some(7), Some(true)), (Some(8), Some(false))] {
        let found = bindings.find(&user, asked).await.unwrap().unwrap();
        assert_eq!((found.since, found.is_account), (Some(since), is_account));
    }
    // Another process unbinds; this one looks again where an account is not the one that it knows.
    let other = Bindings::new(world.reopened().await, OnChange::Refuse);
    assert!(other.unbind(&user).await.unwrap());
    assert_eq!(other.find(&user, None).await.unwrap(), None);
    assert_eq!(bindings.check(&user, 8).await.unwrap(), BindingCheck::Same);
    assert_eq!(bindings.check(&user, 7).await.unwrap(), BindingCheck::Other);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_what_is_known_counts_and_the_rest_is_compared_later(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let [known, stranger, newcomer] = [1, 2, 3].map(world::user);
    let elsewhere = Bindings::new(world.reopened().await, OnChange::Refuse);
    elsewhere.check(&stranger, 7).await.unwrap();
    let bindings = Bindings::new(Arc::clone(&world.engine), OnChange::Refuse);
    bindings.check(&known, 7).await.unwrap();

    world.faults.set_down(Role::EvaluationAudit, true);
    assert_eq!(bindings.check(&known, 7).await.unwrap(), BindingCheck::Same);
    assert_eq!(
        bindings.check(&known, 8).await.unwrap(),
        BindingCheck::Other
    );
    for (user, account) in [
        (&stranger, 8),
        (&stranger, 7),
        (&newcomer, 9),
        (&newcomer, 5),
    ] {
        bindings.check(user, account).await.unwrap_err();
        bindings.check(user, account).await.unwrap_err();
    }
    bindings.compare_deferred().await.unwrap_err();

    world.faults.heal();
    // The newcomer is bound to the account that came first.
    assert_eq!(bindings.compare_deferred().await.unwrap(), 2);
    assert_eq!(bindings.compare_deferred().await.unwrap(), 0);
    for (user, account) in [(&stranger, 7), (&newcomer, 9)] {
        assert_eq!(
            elsewhere.check(user, account).await.unwrap(),
            BindingCheck::Same
        );
    }
    let trail = world
        .everything(Role::EvaluationAudit, collection::AUDIT_TRAIL)
        .await;
    let about: Vec<&str> = trail
        .iter()
        .filter(|entry| {
            let reason = entry.get_str("reason").unwrap_or_default();
            reason.contains("a different account than the bound one")
        })
        .map(|entry| entry.get_str("user_id").unwrap())
        .collect();
    assert_eq!(about, [stranger.as_str(), newcomer.as_str()]);
}
