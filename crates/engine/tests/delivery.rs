//! Alerts are delivered once, grouped by kind, also when a process or a receiver fails in the meantime.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rstest::rstest;
use tierkeep_engine::{
    About, AlertDelivery, AlertKind, Alerts, Channel, ChannelKind, Notice, Round, SHOWN,
    Undelivered, When,
};
use tierkeep_testkit::fault::{Fault, Moment};

use crate::scale;
use crate::world::{Backend, World};

/// What a receiver does with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Receiver {
    Takes,
    /// The receiver cannot be reached.
    Away,
    /// It takes the message, and its answer is lost.
    Mute,
}

/// A receiver, and everything that it was ever sent.
#[derive(Debug)]
struct Inbox {
    receiver: Mutex<Receiver>,
    taken: Mutex<Vec<Notice>>,
}

impl Inbox {
    fn new(receiver: Receiver) -> Arc<Self> {
        Arc::new(Self {
            receiver: Mutex::new(receiver),
            taken: Mutex::default(),
        })
    }

    fn becomes(&self, receiver: Receiver) {
        *self.receiver.lock().unwrap() = receiver;
    }

    fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut self.taken.lock().unwrap())
    }
}

#[async_trait]
impl Channel for Inbox {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Webhook
    }

    async fn send(&self, notice: &Notice) -> Result<(), Undelivered> {
        let receiver = *self.receiver.lock().unwrap();
        if receiver != Receiver::Away {
            self.taken.lock().unwrap().push(notice.clone());
        }
        match receiver {
            Receiver::Takes => Ok(()),
            Receiver::Away | Receiver::Mute => Err(Undelivered {
                reason: "a test".into(),
                may_have_arrived: receiver == Receiver::Mute,
            }),
        }
    }
}

const FAILED: AlertKind = AlertKind::MigrationFailed;

fn alerts(world: &World) -> Alerts {
    Alerts::new(Arc::clone(&world.engine))
}

async fn raise(world: &World, kind: AlertKind, subject: &str) {
    alerts(world).raise(kind, subject, "a test").await.unwrap();
}

async fn round(world: &World, inbox: &Arc<Inbox>) -> Round {
    let channel = Arc::clone(inbox) as Arc<dyn Channel>;
    AlertDelivery::new(Arc::clone(&world.engine), vec![channel])
        .round(inbox.as_ref(), When::Now)
        .await
        .unwrap()
}

fn about(notices: &[Notice]) -> Vec<(Option<About>, u64)> {
    notices
        .iter()
        .map(|notice| (notice.about, notice.total))
        .collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_equal_failures_are_one_message(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let inbox = Inbox::new(Receiver::Takes);
    for n in 0..1_000 {
        raise(&world, FAILED, &format!("internal_{n:024}")).await;
    }
    for _ in 0..5 {
        raise(&world, AlertKind::BreakerOpen, "srie_main_user").await;
    }
    assert_eq!(round(&world, &inbox).await, Round::Told(2));
    let taken = inbox.take();
    let expected = [
        (Some(About::Raised(FAILED)), 1_000),
        (Some(About::Raised(AlertKind::BreakerOpen)), 1),
    ];
    let mut found = about(&taken);
    found.sort_by_key(|(about, _)| *about);
    assert_eq!(found, expected);
    for notice in &taken {
        let shown = usize::try_from(notice.total).unwrap().min(SHOWN);
        assert_eq!(notice.alerts.len(), shown);
    }
    let breaker = taken.iter().find(|notice| notice.total == 1).unwrap();
    assert_eq!(breaker.alerts[0].count, 5);
    // A delivered alert is not sent again, however often it is raised.
    raise(&world, AlertKind::BreakerOpen, "srie_main_user").await;
    assert_eq!(round(&world, &inbox).await, Round::Told(0));
    assert_eq!(inbox.take(), []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_resolved_is_told_as_resolved_and_what_comes_back_as_raised(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let inbox = Inbox::new(Receiver::Takes);
    let (raised, resolved) = (About::Raised(FAILED), About::Resolved(FAILED));
    for expected in [raised, resolved, raised, resolved] {
        if expected == raised {
            raise(&world, FAILED, "somebody").await;
        } else {
            alerts(&world).resolve(FAILED, "somebody").await.unwrap();
        }
        assert_eq!(round(&world, &inbox).await, Round::Told(1));
        let taken = inbox.take();
        assert_eq!(about(&taken), [(Some(expected), 1)]);
        let resolved_at = taken[0].alerts[0].resolved_at.as_ref();
        assert_eq!(resolved_at.is_some(), expected == resolved);
    }
    // Raised and resolved between two looks: that it was there is still told.
    raise(&world, FAILED, "somebody").await;
    alerts(&world).resolve(FAILED, "somebody").await.unwrap();
    round(&world, &inbox).await;
    assert_eq!(about(&inbox.take()), [(Some(resolved), 1)]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn while_the_receiver_is_away_everything_waits_for_one_message(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let inbox = Inbox::new(Receiver::Away);
    for n in 0..3 {
        raise(&world, FAILED, &format!("user {n}")).await;
        assert_eq!(round(&world, &inbox).await, Round::Failed);
    }
    inbox.becomes(Receiver::Takes);
    assert_eq!(round(&world, &inbox).await, Round::Told(1));
    assert_eq!(about(&inbox.take()), [(Some(About::Raised(FAILED)), 3)]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_may_have_arrived_is_sent_again_as_it_was(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let inbox = Inbox::new(Receiver::Mute);
    raise(&world, FAILED, "first").await;
    assert_eq!(round(&world, &inbox).await, Round::Failed);
    // The receiver drops a message that it knows: nothing new may be in it.
    raise(&world, FAILED, "second").await;
    inbox.becomes(Receiver::Takes);
    assert_eq!(round(&world, &inbox).await, Round::Told(2));
    let taken = inbox.take();
    assert_eq!(taken[0], taken[1]);
    assert_ne!(taken[1].id, taken[2].id);
    let subjects = taken.iter().map(|notice| notice.alerts[0].subject.as_str());
    assert_eq!(subjects.collect::<Vec<_>>(), ["first", "first", "second"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_any_call_neither_loses_a_message_nor_sends_it_under_another_id(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    for calls in scale::calls(backend) {
        let world = World::new(backend).await;
        let inbox = Inbox::new(Receiver::Takes);
        raise(&world, FAILED, "somebody").await;
        raise(&world, AlertKind::BackupLag, "srie_main_hr").await;
        let channel = Arc::clone(&inbox) as Arc<dyn Channel>;
        let delivery = AlertDelivery::new(Arc::clone(&world.engine), vec![channel]);
        world.faults.crash_after(calls);
        let first = delivery.round(inbox.as_ref(), When::Now).await;
        let fell = world.faults.has_crashed();
        world.faults.heal();
        let engine = world.reopened().await;
        let channel = Arc::clone(&inbox) as Arc<dyn Channel>;
        let next = AlertDelivery::new(engine, vec![channel]);
        // The lease of the crashed process may not have expired yet.
        free(&world).await;
        next.round(inbox.as_ref(), When::Now).await.unwrap();
        let mut ids = std::collections::BTreeMap::new();
        for notice in inbox.take() {
            ids.entry(notice.about)
                .or_insert_with(Vec::new)
                .push(notice.id);
        }
        assert_eq!(ids.len(), 2, "after {calls} calls: {ids:?}");
        for ids in ids.values_mut() {
            ids.dedup();
            assert_eq!(ids.len(), 1, "after {calls} calls");
        }
        if !fell {
            assert_eq!(first.unwrap(), Round::Told(2));
            assert!(calls > 10, "only {calls} calls");
            break;
        }
    }
}

/// The turn of a process that has ended has lapsed.
async fn free(world: &World) {
    use tierkeep_core::bson::{Bson, doc};
    let audit = world.store(tierkeep_core::db::Role::EvaluationAudit);
    let ids = [Bson::String("alert_delivery/webhook".into())];
    let lapsed = doc! { "busy_until": Bson::Null };
    audit
        .amend("control", &ids, &doc! {}, &lapsed)
        .await
        .unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_is_at_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let inbox = Inbox::new(Receiver::Takes);
    raise(&world, FAILED, "somebody").await;
    let hold = world.faults.hold(Fault::nth(4, Moment::Before).of("amend"));
    let (engine, channel) = (Arc::clone(&world.engine), Arc::clone(&inbox));
    let one = tokio::spawn(async move {
        let delivery = AlertDelivery::new(engine, vec![]);
        delivery.round(channel.as_ref(), When::Now).await
    });
    hold.reached().await;
    let other = AlertDelivery::new(world.reopened().await, vec![]);
    let waits = other.round(inbox.as_ref(), When::Now).await.unwrap();
    assert_eq!(waits, Round::Waits);
    hold.release();
    assert_eq!(one.await.unwrap().unwrap(), Round::Told(1));
    assert_eq!(inbox.take().len(), 1);
    // And when it is done, it is not time again.
    raise(&world, FAILED, "somebody else").await;
    let waits = other.round(inbox.as_ref(), When::Due).await.unwrap();
    assert_eq!(waits, Round::Waits);
}
