//! Stalled work raises alerts, also while `evaluation_audit` is away; the first of a kind at once, and again every day.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rstest::rstest;
use tierkeep_core::db::Role;
use tierkeep_engine::{
    About, Alert, AlertDelivery, AlertFilter, AlertKind, Alerts, Channel, ChannelKind, Notice,
    Round, Undelivered, Upkeep, When,
};
use tierkeep_testkit::documents::seed_user;
use tokio_util::sync::CancellationToken;

use crate::world::{Backend, DAY, HOUR, World};

const AUDIT: Role = Role::EvaluationAudit;

/// A receiver that takes everything.
#[derive(Debug, Default)]
struct Inbox(Mutex<Vec<Notice>>);

impl Inbox {
    fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[async_trait]
impl Channel for Inbox {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Webhook
    }

    async fn send(&self, notice: &Notice) -> Result<(), Undelivered> {
        self.0.lock().unwrap().push(notice.clone());
        Ok(())
    }
}

fn alerts(world: &World) -> Alerts {
    Alerts::new(Arc::clone(&world.engine))
}

async fn all(world: &World) -> Vec<Alert> {
    let page = alerts(world).page(AlertFilter::All, None, 100).await;
    page.unwrap().items
}

/// The kinds that are open, with their subjects.
async fn open(world: &World) -> Vec<(AlertKind, String)> {
    let open = all(world).await.into_iter();
    open.filter(|alert| alert.resolved_at.is_none())
        .map(|alert| (alert.kind, alert.subject))
        .collect()
}

/// Waits until something holds, for half a minute.
async fn until(what: impl AsyncFn() -> bool) {
    for _ in 0..300 {
        if what().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never held");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn while_the_audit_database_is_away_alerts_are_told_from_memory_and_stored_later(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.faults.set_down(AUDIT, true);
    for _ in 0..2 {
        alerts(&world)
            .tell(AlertKind::BreakerOpen, AUDIT.name(), "a test")
            .await;
    }
    let (inbox, stop) = (Arc::new(Inbox::default()), CancellationToken::new());
    let delivery = AlertDelivery::new(Arc::clone(&world.engine), vec![inbox.clone()]);
    let delivery = tokio::spawn(delivery.run(stop.clone()));
    until(async || !inbox.0.lock().unwrap().is_empty()).await;
    let told = inbox.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].about, Some(About::Raised(AlertKind::BreakerOpen)));
    assert_eq!(told[0].alerts[0].count, 2);
    world.faults.heal();
    until(async || !all(&world).await.is_empty()).await;
    assert_eq!(all(&world).await[0].count, 2);
    // An alert that was sent from memory is not sent again from the database.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(inbox.take(), []);
    stop.cancel();
    delivery.await.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_tell_the_same_under_one_id(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let engines = [Arc::clone(&world.engine), world.reopened().await];
    world.faults.set_down(AUDIT, true);
    // Both tell within one five minutes.
    let slot = 300_000;
    let left = slot - world.engine.clock().now().timestamp_millis() % slot;
    if left < 30_000 {
        tokio::time::sleep(Duration::from_millis(left.unsigned_abs())).await;
    }
    let mut ids = Vec::new();
    for engine in engines {
        let alerts = Alerts::new(Arc::clone(&engine));
        alerts
            .tell(AlertKind::BreakerOpen, "srie_main_user", "a test")
            .await;
        let (inbox, stop) = (Arc::new(Inbox::default()), CancellationToken::new());
        let delivery = AlertDelivery::new(engine, vec![inbox.clone()]);
        let delivery = tokio::spawn(delivery.run(stop.clone()));
        until(async || !inbox.0.lock().unwrap().is_empty()).await;
        ids.extend(inbox.take().into_iter().map(|notice| notice.id));
        stop.cancel();
        delivery.await.unwrap();
    }
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_a_kind_is_told_at_once_and_the_next_after_five_minutes(
    #[values(Backend::Memory, Backend::Sqlite)] backend: Backend,
) {
    let world = World::new(backend).await;
    let inbox = Arc::new(Inbox::default());
    let delivery = AlertDelivery::new(Arc::clone(&world.engine), vec![]);
    let round = async || delivery.round(inbox.as_ref(), When::Due).await.unwrap();
    let raise = async |kind, subject: &str| {
        let raised = alerts(&world).raise(kind, subject, "a test").await;
        raised.unwrap();
    };
    raise(AlertKind::MigrationFailed, "one").await;
    assert_eq!(round().await, Round::Told(1));
    raise(AlertKind::MigrationFailed, "two").await;
    assert_eq!(round().await, Round::Waits);
    raise(AlertKind::BackupLag, "srie_main_hr").await;
    assert_eq!(round().await, Round::Told(1));
    world.clock.advance(Duration::from_mins(6));
    assert_eq!(round().await, Round::Told(1));
    let told = inbox.take();
    let subjects: Vec<&str> = told
        .iter()
        .map(|it| it.alerts[0].subject.as_str())
        .collect();
    assert_eq!(subjects, ["one", "srie_main_hr", "two"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_within_five_minutes_has_another_id(
    #[values(Backend::Memory, Backend::Sqlite)] backend: Backend,
) {
    let world = World::new(backend).await;
    let inbox = Arc::new(Inbox::default());
    let delivery = AlertDelivery::new(Arc::clone(&world.engine), vec![]);
    let (kind, subject) = (AlertKind::BackupLag, "srie_main_hr");
    for _ in 0..2 {
        alerts(&world).raise(kind, subject, "a test").await.unwrap();
        delivery.round(inbox.as_ref(), When::Now).await.unwrap();
        alerts(&world).resolve(kind, subject).await.unwrap();
        delivery.round(inbox.as_ref(), When::Now).await.unwrap();
    }
    let told = inbox.take();
    let ids: BTreeSet<&str> = told.iter().map(|notice| notice.id.as_str()).collect();
    assert_eq!((told.len(), ids.len()), (4, 4), "{told:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_stays_open_is_told_again_every_day(
    #[values(Backend::Memory, Backend::Sqlite)] backend: Backend,
) {
    let world = World::new(backend).await;
    let inbox = Arc::new(Inbox::default());
    let delivery = AlertDelivery::new(Arc::clone(&world.engine), vec![]);
    let mut upkeep = Upkeep::new(Arc::clone(&world.engine), 30 * DAY);
    alerts(&world)
        .raise(AlertKind::BackupLag, "srie_main_hr", "a test")
        .await
        .unwrap();
    let mut told = async |after: Duration| {
        world.clock.advance(after);
        upkeep.round(after).await;
        delivery.round(inbox.as_ref(), When::Due).await.unwrap();
        inbox.take().len()
    };
    assert_eq!(told(Duration::ZERO).await, 1);
    assert_eq!(told(23 * HOUR).await, 0);
    assert_eq!(told(25 * HOUR).await, 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn overdue_documents_of_other_programs_are_told_until_they_have_moved(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let old = world.ago(DAY + 2 * HOUR).await;
    world.plant(Role::RaseenTempUser, seed_user(1, old)).await;
    world.service().pause().await.unwrap();
    world.watch().look_at_movement().await.unwrap();
    let overdue = vec![(AlertKind::DocumentsOverdue, "raseen_temp_user".to_owned())];
    assert_eq!(open(&world).await, overdue);
    world.service().resume().await.unwrap();
    world.migrate().await.unwrap();
    world.watch().look_at_movement().await.unwrap();
    assert_eq!(open(&world).await, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_more_than_a_day_is_told_until_it_ends(
    #[values(Backend::Memory, Backend::Sqlite)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.service().pause().await.unwrap();
    world.watch().look_at_movement().await.unwrap();
    assert_eq!(open(&world).await, []);
    world.clock.advance(25 * HOUR);
    // Pausing again is no other pause.
    world.service().pause().await.unwrap();
    world.watch().look_at_movement().await.unwrap();
    let paused = vec![(AlertKind::MoverPaused, "mover".to_owned())];
    assert_eq!(open(&world).await, paused);
    world.service().resume().await.unwrap();
    world.watch().look_at_movement().await.unwrap();
    assert_eq!(open(&world).await, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_takes_nothing_is_told_until_it_moves(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.staged(1, DAY + HOUR / 2).await;
    world.watch().look_at_movement().await.unwrap();
    let stalled = vec![(AlertKind::MoverStalled, "mover".to_owned())];
    assert_eq!(open(&world).await, stalled);
    world.migrate().await.unwrap();
    world.watch().look_at_movement().await.unwrap();
    assert_eq!(open(&world).await, []);
}
