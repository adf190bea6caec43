//! The audit trail: one chain for all writers, also when answers are lost and while its database is unavailable.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use rstest::rstest;
use tierkeep_core::audit::{AuditKey, AuditKind, Entry, Head, Verdict, Violation, audit_field};
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document;
use tierkeep_core::identity::{Caller, Decision};
use tierkeep_core::store::{Change, Find, Guard, Query};
use tierkeep_core::user::UserId;
use tierkeep_engine::{
    Alert, AlertKind, Alerts, AuditDecisions, AuditFilter, AuditKeeper, AuditSettings, AuditTrail,
    ConnectionManager, Decided, Engine, MemorySpool, PruneError, Purpose, SpoolShare,
};
use tierkeep_testkit::fault::{Fault, Moment};
use tokio::task::JoinSet;

use crate::world::{Backend, DAY, HOUR, NO_RETRIES, World};

const TRAIL: &str = collection::AUDIT_TRAIL;

/// The databases as a process with this spool opens them.
pub(crate) async fn process(world: &World, settings: AuditSettings) -> Arc<Engine> {
    let faulty = world
        .stores
        .values()
        .map(|store| world.faults.over(Arc::clone(store)) as _);
    let databases = ConnectionManager::new(faulty, Arc::clone(&world.clock) as Arc<dyn Clock>);
    let engine = Engine::with_audit(databases.unwrap(), settings);
    engine
        .databases()
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap();
    Arc::new(engine)
}

pub(crate) fn settings() -> AuditSettings {
    AuditSettings {
        key: Some(AuditKey::new(b"the key of these tests")),
        ..AuditSettings::default()
    }
}

pub(crate) async fn stored(world: &World) -> Vec<RawDocumentBuf> {
    world.everything(Role::EvaluationAudit, TRAIL).await
}

async fn entries(world: &World) -> Vec<Entry> {
    let stored = stored(world).await;
    stored.iter().map(|it| Entry::read(it).unwrap()).collect()
}

pub(crate) fn text<'a>(document: &'a RawDocumentBuf, name: &str) -> &'a str {
    document.get_str(name).unwrap_or("-")
}

pub(crate) async fn whole(trail: &AuditTrail) -> Head {
    let found = trail.verify(None).await.unwrap();
    assert_eq!(found.violations, []);
    assert_eq!(found.verdict, Verdict::Whole);
    found.head
}

async fn write(trail: &AuditTrail, numbers: std::ops::Range<u32>) {
    for n in numbers {
        let draft = trail.draft(AuditKind::AdminAction).decided(&n.to_string());
        trail.record(draft).await.unwrap();
    }
}

pub(crate) fn external(name: &str) -> Decision {
    Decision::Caller(Caller {
        user: UserId::external(name).unwrap(),
        ambiguous: false,
        reason: "the request names a public user",
    })
}

pub(crate) fn internal() -> Decision {
    Decision::Caller(Caller {
        user: UserId::internal("507f1f77bcf86cd799439011").unwrap(),
        ambiguous: false,
        reason: "the JWT and the GitHub token are valid",
    })
}

pub(crate) async fn decide(trail: &AuditTrail, decision: &Decision, account: Option<&str>) {
    let decided = Decided {
        decision,
        actor: None,
        account,
        request_id: Some("r-1"),
        from: None,
    };
    trail.decided(decided).await.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn many_writers_in_several_processes_make_one_chain(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let mut writers = JoinSet::new();
    for _ in 0..3 {
        // Each finds the key that the first has put into the database.
        let engine = process(&world, AuditSettings::default()).await;
        for _ in 0..8 {
            let trail = engine.audit_trail().clone();
            writers.spawn(async move { write(&trail, 0..10).await });
        }
    }
    writers.join_all().await;
    let engine = process(&world, AuditSettings::default()).await;
    let head = whole(engine.audit_trail()).await;
    assert_eq!(head.count, 240);
    assert_eq!(engine.audit_trail().head().await.unwrap(), head);
}

#[tokio::test]
async fn what_waits_at_the_same_time_is_written_together() {
    let world = World::new(Backend::Memory).await;
    let engine = process(&world, settings()).await;
    let trail = engine.audit_trail();
    let first = Fault::nth(1, Moment::Before).to(Role::EvaluationAudit);
    let hold = world.faults.hold(first.of("append"));
    let mut writers = JoinSet::new();
    for _ in 0..50 {
        let trail = trail.clone();
        writers.spawn(async move { write(&trail, 0..1).await });
    }
    // One thread: by the time the first append reaches the database, all other writers are waiting.
    hold.reached().await;
    tokio::task::yield_now().await;
    hold.release();
    writers.join_all().await;
    assert_eq!(whole(trail).await.count, 50);
    let appends = world.faults.count_of("append");
    assert!(appends <= 2, "{appends} appends for 50 entries");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_answer_was_lost_is_kept_once(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Moment::Before, Moment::Midway, Moment::After)] moment: Moment,
) {
    let world = World::new(backend).await;
    let engine = process(&world, settings()).await;
    let trail = engine.audit_trail();
    write(trail, 0..2).await;
    let lost = Fault::nth(1, moment).to(Role::EvaluationAudit).of("append");
    world.faults.plan(lost);
    let mut writers = JoinSet::new();
    for _ in 0..10 {
        let trail = trail.clone();
        writers.spawn(async move { write(&trail, 2..4).await });
    }
    writers.join_all().await;
    assert_eq!(whole(trail).await.count, 22);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_the_trail_is_found_alerted_and_pruning_refuses(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let engine = process(&world, settings()).await;
    let trail = engine.audit_trail();
    write(trail, 0..9).await;
    let mut keeper = AuditKeeper::new(Arc::clone(&engine));
    let noted = keeper.verify().await.unwrap().head;
    let audit = world.store(Role::EvaluationAudit);
    let whatever = Guard::Fields(doc! {});

    let third = [Bson::Int64(3)];
    let forged = doc! { "actor": "nobody" };
    audit.amend(TRAIL, &third, &doc! {}, &forged).await.unwrap();
    let remove = Change::Remove;
    for place in [6, 9].map(Bson::Int64) {
        let removed = audit.write(TRAIL, &place, &whatever, &remove);
        removed.await.unwrap();
    }
    let expected = [
        Violation::Altered { seq: 3 },
        Violation::Missing { from: 6, to: 6 },
        Violation::CutOff {
            ends_at: 8,
            noted: 9,
        },
    ];
    let found = trail.verify(Some(noted)).await.unwrap();
    assert_eq!(found.violations, expected);
    assert_eq!(keeper.verify().await.unwrap().violations, expected);
    let alerts = Alerts::new(Arc::clone(&engine));
    let open: Vec<Alert> = alerts.open(&mut None).await.unwrap();
    let kinds: Vec<AlertKind> = open.iter().map(|alert| alert.kind).collect();
    assert_eq!(kinds, [AlertKind::AuditChainBroken]);

    world.clock.advance(DAY);
    let before = stored(&world).await;
    let refused = trail.prune(Duration::ZERO, "somebody", false).await;
    assert!(matches!(refused, Err(PruneError::Broken)), "{refused:?}");
    assert_eq!(stored(&world).await, before);

    // Further entries do not hide the gap: this process remembers where the trail ended.
    write(trail, 9..11).await;
    let found = trail.verify(None).await.unwrap();
    let missing = Violation::Missing { from: 9, to: 9 };
    assert_eq!(found.violations[..2], expected[..2]);
    assert_eq!(found.violations[2..], [missing]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn pruning_leaves_a_checkpoint_that_vouches_for_what_went(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let engine = process(&world, settings()).await;
    let trail = engine.audit_trail();
    let nothing = trail.prune(HOUR, "somebody", false).await.unwrap();
    assert_eq!((nothing.pruned, nothing.through), (0, 0));
    write(trail, 0..20).await;
    let noted = trail.head().await.unwrap();
    world.clock.advance(DAY);
    write(trail, 20..25).await;
    let dry = trail.prune(HOUR, "somebody", true).await.unwrap();
    assert_eq!((dry.pruned, dry.through), (20, 20));
    assert_eq!(stored(&world).await.len(), 25);

    // A crash while entries are removed: what is left holds, and goes with a repeat.
    let lost = Fault::nth(8, Moment::Before)
        .to(Role::EvaluationAudit)
        .of("write");
    world.faults.plan(lost.times(1_000));
    assert!(trail.prune(HOUR, "somebody", false).await.is_err());
    world.faults.heal();
    let found = trail.verify(Some(noted)).await.unwrap();
    assert_eq!((found.violations, found.pruned_through), (vec![], 20));

    trail.prune(HOUR, "somebody", false).await.unwrap();
    let left = entries(&world).await;
    assert_eq!((left[0].seq, left.len()), (21, 6));
    assert_eq!(left[5].kind(), AuditKind::Checkpoint);
    let found = trail.verify(Some(noted)).await.unwrap();
    assert_eq!(found.violations, []);
    assert!(found.compared);
    write(trail, 25..27).await;
    let second = process(&world, settings()).await;
    assert_eq!(whole(second.audit_trail()).await.count, 28);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_of_a_long_trail_is_found_with_few_looks() {
    let world = World::new(Backend::Memory).await;
    let engine = process(&world, settings()).await;
    let trail = engine.audit_trail();
    let mut writers = JoinSet::new();
    for _ in 0..40 {
        let trail = trail.clone();
        writers.spawn(async move { write(&trail, 0..40).await });
    }
    writers.join_all().await;
    let second = process(&world, settings()).await;
    let before = world.faults.count_of("find");
    assert_eq!(second.audit_trail().head().await.unwrap().count, 1_600);
    let looks = world.faults.count_of("find") - before;
    assert!(looks < 30, "{looks} looks");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_decisions_only_the_notable_are_kept_whichever_process_makes_them(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for round in 0..2 {
        let engine = process(&world, settings()).await;
        let trail = engine.audit_trail();
        for _ in 0..3 {
            decide(trail, &external("reader"), None).await;
            decide(trail, &internal(), Some("7")).await;
        }
        assert_eq!(stored(&world).await.len(), 2, "in round {round}");
    }
    let engine = process(&world, settings()).await;
    let trail = engine.audit_trail();
    for account in ["7", "8", "8", "7"] {
        decide(trail, &internal(), Some(account)).await;
    }
    let all = stored(&world).await;
    let said: Vec<_> = all.iter().map(|it| text(it, audit_field::REASON)).collect();
    let other = "a different GitHub account than before";
    let first = [
        "the request names a public user",
        "the JWT and the GitHub token are valid",
    ];
    assert_eq!(said, [first[0], first[1], other, other]);
    assert_eq!(text(&all[0], audit_field::USER_ID), "external_reader");
    assert_eq!(text(&all[0], audit_field::DECISION), "external");
    assert_eq!(text(&all[0], audit_field::DATABASE), "external_users");
    assert_eq!(text(&all[0], audit_field::REQUEST_ID), "r-1");
    assert_eq!(text(&all[1], audit_field::DATABASE), "raseen_temp_user");

    let ambiguous = Decision::Caller(Caller {
        user: UserId::external("reader").unwrap(),
        ambiguous: true,
        reason: "the request names a public user; the credentials were ignored",
    });
    let refused = Decision::CredentialsRequired {
        ambiguous: false,
        reason: "the JWT is missing",
    };
    for _ in 0..2 {
        decide(trail, &ambiguous, None).await;
        decide(trail, &refused, None).await;
        decide(trail, &Decision::IdentityUnavailable, None).await;
    }
    assert_eq!(whole(trail).await.count, 10);

    let every = AuditSettings {
        decisions: AuditDecisions::All,
        ..settings()
    };
    let engine = process(&world, every).await;
    for _ in 0..3 {
        decide(engine.audit_trail(), &external("reader"), None).await;
    }
    assert_eq!(whole(trail).await.count, 13);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_spooled_while_the_database_is_away_and_delivered_once_in_their_order(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Moment::Before, Moment::Midway, Moment::After)] moment: Moment,
) {
    let world = World::new(backend).await;
    let spool = Arc::new(MemorySpool::default());
    let with_spool = || AuditSettings {
        spool: Arc::clone(&spool) as _,
        ..settings()
    };
    let engine = process(&world, with_spool()).await;
    let trail = engine.audit_trail();
    decide(trail, &external("before"), None).await;
    world.faults.set_down(Role::EvaluationAudit, true);
    for n in 0..20 {
        decide(trail, &external(&format!("user{n}")), None).await;
    }
    // What must not be done without its entry is not done.
    let action = trail.draft(AuditKind::AdminAction).decided("pause");
    assert!(trail.record(action).await.is_err());
    assert!(trail.deliver().await.is_err());

    // It returns, and an answer is lost; then the process is killed, and another one finds the spool.
    world.faults.set_down(Role::EvaluationAudit, false);
    let lost = Fault::nth(1, moment).to(Role::EvaluationAudit).of("append");
    world.faults.plan(lost.times(4));
    trail.deliver().await.ok();
    world.faults.heal();
    let engine = process(&world, with_spool()).await;
    let trail = engine.audit_trail();
    trail.deliver().await.unwrap();
    assert_eq!(trail.deliver().await.unwrap(), 0);
    decide(trail, &external("after"), None).await;
    let all = stored(&world).await;
    let users: Vec<_> = all
        .iter()
        .map(|it| text(it, audit_field::USER_ID))
        .collect();
    let mut expected = vec!["external_before".to_owned()];
    expected.extend((0..20).map(|n| format!("external_user{n}")));
    expected.push("external_after".to_owned());
    assert_eq!(users, expected);
    whole(trail).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_decisions_are_spooled_no_request_waits_for_the_database() {
    let world = World::new(Backend::Memory).await;
    let engine = process(&world, settings()).await;
    let trail = engine.audit_trail();
    world.faults.set_down(Role::EvaluationAudit, true);
    decide(trail, &external("first"), None).await;
    let calls = world.faults.count();
    for n in 0..50 {
        decide(trail, &external(&format!("user{n}")), None).await;
    }
    assert_eq!(world.faults.count(), calls);
    world.faults.set_down(Role::EvaluationAudit, false);
    assert_eq!(trail.deliver().await.unwrap(), 51);
    decide(trail, &external("last"), None).await;
    assert_eq!(whole(trail).await.count, 52);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_remembered_waits_for_nothing() {
    let world = World::new(Backend::Memory).await;
    let engine = process(&world, settings()).await;
    let trail = engine.audit_trail();
    decide(trail, &internal(), Some("7")).await;
    let calls = world.faults.count();
    for _ in 0..100 {
        decide(trail, &internal(), Some("7")).await;
    }
    assert_eq!(world.faults.count(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_can_be_kept_nowhere_is_an_error() {
    #[derive(Debug)]
    struct Full;
    impl tierkeep_engine::Spool for Full {
        fn push(&self, _: &[tierkeep_core::audit::Draft], _: SpoolShare) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn take(&self) -> std::io::Result<Option<tierkeep_engine::Portion>> {
            Ok(None)
        }
        fn done(&self, _: &tierkeep_engine::Portion) -> std::io::Result<()> {
            Ok(())
        }
    }
    let world = World::new(Backend::Memory).await;
    let full = AuditSettings {
        spool: Arc::new(Full),
        ..settings()
    };
    let engine = process(&world, full).await;
    world.faults.set_down(Role::EvaluationAudit, true);
    let decision = external("reader");
    let decided = Decided {
        decision: &decision,
        actor: None,
        account: None,
        request_id: None,
        from: None,
    };
    let trail = engine.audit_trail();
    assert_eq!(trail.spool_refuses(), None);
    assert!(trail.decided(decided).await.is_err());
    assert_eq!(trail.spool_refuses(), Some(SpoolShare::Public));
    // It is not taken for kept afterwards either.
    world.faults.set_down(Role::EvaluationAudit, false);
    trail.deliver().await.unwrap();
    assert_eq!(trail.spool_refuses(), None);
    trail.decided(decided).await.unwrap();
    assert_eq!(whole(trail).await.count, 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_given_up_is_in_the_trail_and_others_are_not(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.staged(2, DAY + HOUR).await;
    world.obstruct(1).await;
    let user = world.staged(1, DAY + HOUR).await;
    for _ in 0..3 {
        world.migrate().await.unwrap();
        assert_eq!(stored(&world).await, Vec::<RawDocumentBuf>::new());
    }
    for _ in 0..3 {
        world.migrate().await.unwrap();
    }
    let all = stored(&world).await;
    assert_eq!(all.len(), 1);
    assert_eq!(text(&all[0], audit_field::KIND), "failed_move");
    assert_eq!(text(&all[0], audit_field::USER_ID), user.as_str());
    whole(world.engine.audit_trail()).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_trail_is_read_page_by_page(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let engine = process(&world, settings()).await;
    let trail = engine.audit_trail();
    for n in 0..6 {
        decide(trail, &external(&format!("user{n}")), None).await;
        write(trail, n..n + 1).await;
    }
    let everything = AuditFilter::default();
    let first = trail.page(&everything, None, 7).await.unwrap();
    assert_eq!((first.items.len(), first.next), (7, Some(7)));
    let second = trail.page(&everything, first.next, 5).await.unwrap();
    assert_eq!((second.items.len(), second.next), (5, None));
    let actions = AuditFilter {
        kind: Some(AuditKind::AdminAction),
        user: None,
    };
    let actions = trail.page(&actions, None, 100).await.unwrap();
    assert_eq!(actions.items.len(), 6);
    let of_one = AuditFilter {
        kind: None,
        user: Some(UserId::external("user3").unwrap()),
    };
    let of_one = trail.page(&of_one, None, 100).await.unwrap();
    assert_eq!(of_one.items.len(), 1);
    let shown = serde_json::to_value(&of_one.items[0]).unwrap();
    assert_eq!(shown["user_id"], "external_user3");
    assert_eq!(shown["seq"], 7);

    // No two documents of the trail may have one entry's id.
    let audit = world.store(Role::EvaluationAudit);
    let find = Find::new(Query::Ids(vec![Bson::Int64(1)]));
    let one = audit.find(TRAIL, &find).await.unwrap().remove(0);
    let mut again = bson::Document::try_from(&one).unwrap();
    again.insert("_id", 99_i64);
    let again = RawDocumentBuf::try_from(&again).unwrap();
    let outcome = audit.insert(TRAIL, &[again]).await.unwrap();
    assert!(matches!(
        &outcome[..],
        [tierkeep_core::store::Inserted::Rejected(_)]
    ));
    assert_eq!(document::id(&one), Bson::Int64(1));
}
