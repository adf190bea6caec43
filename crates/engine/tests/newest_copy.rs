//! Which copy is served, and which one the next document is composed from, when main's copy is damaged, older than
//! srie's, or missing.

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc, rawdoc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, Edit};
use tierkeep_core::hr::{Content, HrCollection, HrId};
use tierkeep_core::store::{Change, Guard};
use tierkeep_core::user::{Section, UserId};
use tierkeep_engine::{AlertKind, Alerts, Condition, HrError, HrRecords, Upkeep, UsersError};
use tierkeep_testkit::fault::{Fault, Moment};

use crate::world::{Backend, DAY, HOUR, World, content, section};

/// A user whose document was moved, at version 1.
async fn moved(world: &World) -> UserId {
    let user = world.staged(1, DAY + HOUR).await;
    world.migrate().await.unwrap();
    user
}

async fn replace(world: &World, role: Role, document: RawDocumentBuf) {
    let id = document::id(&document);
    let store = world.store(role);
    let any = Guard::Fields(doc! {});
    let change = Change::Replace(document);
    store
        .write(role.users().unwrap(), &id, &any, &change)
        .await
        .unwrap();
}

async fn remove(world: &World, role: Role, user: &UserId) {
    let store = world.store(role);
    let (id, any) = (Bson::String(user.to_string()), Guard::Fields(doc! {}));
    store
        .write(role.users().unwrap(), &id, &any, &Change::Remove)
        .await
        .unwrap();
}

async fn damage(world: &World, role: Role, user: &UserId) -> RawDocumentBuf {
    let copy = world.copy(role, user).await.unwrap();
    let damaged = Edit::new()
        .set("scan_cache", rawdoc! { "rotten": true })
        .apply(&copy);
    replace(world, role, damaged.clone()).await;
    damaged
}

async fn open_alerts(world: &World) -> Vec<(AlertKind, String)> {
    let alerts = Alerts::new(std::sync::Arc::clone(&world.engine));
    let open = alerts.open(&mut None).await.unwrap();
    open.into_iter()
        .map(|alert| (alert.kind, alert.subject))
        .collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_in_main_is_neither_served_nor_spread(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = moved(&world).await;
    let intact = world.copy(Role::SrieMainUser, &user).await.unwrap();
    damage(&world, Role::RaseenMainUser, &user).await;

    let found = world.users.read(&user).await.unwrap().unwrap();
    assert_eq!(found.source, Role::SrieMainUser);
    assert_eq!(found.document, intact);
    let alert = (AlertKind::CorruptDocument, user.to_string());
    assert!(open_alerts(&world).await.contains(&alert));

    // A write of another section is made from the intact copy, and main is repaired first.
    let other = Section::parse("analysis_progress").unwrap();
    let written = world
        .users
        .put(&user, &other, content(9, 9), Condition::None)
        .await
        .unwrap();
    assert_eq!(written.version.get(), 2);
    let main = world.copy(Role::RaseenMainUser, &user).await.unwrap();
    assert_eq!(main, intact);
    let temp = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    assert_eq!(
        temp.get("scan_cache").unwrap(),
        intact.get("scan_cache").unwrap()
    );
    let mut upkeep = Upkeep::new(std::sync::Arc::clone(&world.engine), DAY);
    upkeep.round(HOUR).await;
    assert!(!open_alerts(&world).await.contains(&alert));
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn without_an_intact_copy_nothing_is_served_or_changed(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = moved(&world).await;
    let main = damage(&world, Role::RaseenMainUser, &user).await;
    let srie = damage(&world, Role::SrieMainUser, &user).await;
    let corrupt = UsersError::Corrupt(Role::RaseenMainUser);
    assert_eq!(world.users.read(&user).await, Err(corrupt.clone()));
    assert_eq!(world.put(&user, 2).await, Err(corrupt.clone()));
    let patch = rawdoc! { "more": 1 };
    let patched = world
        .users
        .patch(&user, &section(), &patch, Condition::None)
        .await;
    assert_eq!(patched, Err(corrupt));
    assert_eq!(world.copy(Role::RaseenMainUser, &user).await, Some(main));
    assert_eq!(world.copy(Role::SrieMainUser, &user).await, Some(srie));
    assert_eq!(world.copy(Role::RaseenTempUser, &user).await, None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_harms_no_write_and_is_not_the_source_of_one(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = moved(&world).await;
    damage(&world, Role::SrieMainUser, &user).await;
    assert_eq!(
        world.users.read(&user).await.unwrap().unwrap().source,
        Role::RaseenMainUser
    );
    assert_eq!(world.put(&user, 2).await.unwrap().version.get(), 2);
    world.date_back(&user, DAY + HOUR).await;
    world.migrate().await.unwrap();
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn main_rolled_back_under_a_newer_backup_is_brought_up_before_a_write(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = moved(&world).await;
    let snapshot = world.copy(Role::RaseenMainUser, &user).await.unwrap();
    world.put(&user, 2).await.unwrap();
    let other = Section::parse("analysis_progress").unwrap();
    let newest = world
        .users
        .put(&user, &other, content(9, 9), Condition::None)
        .await
        .unwrap();
    world.date_back(&user, DAY + HOUR).await;
    world.migrate().await.unwrap();
    replace(&world, Role::RaseenMainUser, snapshot).await;

    // A condition is judged by what was acknowledged last, not by the snapshot.
    let stale = Condition::Version(tierkeep_core::version::Version::FIRST);
    let refused = world
        .users
        .put(&user, &section(), content(1, 1), stale)
        .await;
    let current = Some(newest.version);
    assert_eq!(refused, Err(UsersError::Mismatch { current }));
    let written = world.put(&user, 50).await.unwrap();
    assert_eq!(Some(written.version), newest.version.next());
    let found = world.users.read(&user).await.unwrap().unwrap();
    assert!(found.document.get("analysis_progress").unwrap().is_some());
    world.date_back(&user, DAY + HOUR).await;
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        let copy = world.copy(role, &user).await.unwrap();
        assert!(copy.get("analysis_progress").unwrap().is_some(), "{role}");
    }
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_main_has_lost_is_read_from_srie_after_a_look_into_the_ledger(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = moved(&world).await;
    remove(&world, Role::RaseenMainUser, &user).await;
    let found = world.users.read(&user).await.unwrap().unwrap();
    assert_eq!(found.source, Role::SrieMainUser);

    world.faults.set_down(Role::EvaluationAudit, true);
    let unknown = world.users.read(&user).await;
    assert!(
        matches!(&unknown, Err(UsersError::Unavailable(error)) if error.database == Role::EvaluationAudit),
        "{unknown:?}"
    );
    world.faults.heal();
    world.faults.set_down(Role::SrieMainUser, true);
    assert_eq!(world.users.read(&user).await, Ok(None));
}

/// Tombstones are gone, and an old copy was put back into srie past tierkeep.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_only_srie_holds_and_was_erased_is_not_read(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = moved(&world).await;
    let old = world.copy(Role::SrieMainUser, &user).await.unwrap();
    world.erasure().erase(&user).await.unwrap();
    world.clock.advance(2 * DAY);
    world.erasure().remove_tombstones(DAY).await.unwrap();
    world.plant(Role::SrieMainUser, old).await;
    assert_eq!(world.users.read(&user).await, Ok(None));
}

/// Temp's first answer is that of a deposed primary: it lacks what was acknowledged.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn absent_rests_on_a_linearizable_read_of_temp_too(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = crate::world::user(1);
    // Read between temp and main: the user signs up after temp was asked.
    let main = Fault::nth(1, Moment::Before)
        .of("find")
        .to(Role::RaseenMainUser);
    let hold = world.faults.hold(main);
    let users = world.users.clone();
    let reading = tokio::spawn({
        let user = user.clone();
        async move { users.read(&user).await }
    });
    hold.reached().await;
    world.put(&user, 1).await.unwrap();
    hold.release();
    let found = reading.await.unwrap().unwrap();
    assert_eq!(found.map(|it| it.source), Some(Role::RaseenTempUser));
}

fn candidate() -> (HrCollection, HrId) {
    (
        HrCollection::parse("hr_candidates").unwrap(),
        HrId::parse("c1").unwrap(),
    )
}

fn body(n: i32) -> Content {
    Content::new(RawDocumentBuf::try_from(&doc! { "n": n }).unwrap()).unwrap()
}

async fn replace_record(world: &World, role: Role, change: Change) {
    let (collection, id) = candidate();
    let any = Guard::Fields(doc! {});
    world
        .store(role)
        .write(collection.as_str(), &id.to_bson(), &any, &change)
        .await
        .unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_hr_record_is_read_from_srie_and_never_merged_with(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let records = HrRecords::new(std::sync::Arc::clone(&world.engine));
    let (collection, id) = candidate();
    let receipt = records
        .put(&collection, &id, body(1), Condition::None)
        .await
        .unwrap();
    let damaged = Edit::new().set("n", 7).apply(&receipt.record);
    let change = Change::Replace(damaged);
    replace_record(&world, Role::RaseenMainHr, change.clone()).await;
    let found = records.read(&collection, &id).await.unwrap().unwrap();
    assert_eq!(
        (found.source, found.record),
        (Role::SrieMainHr, receipt.record)
    );
    let listed = records.list(&collection, None, 10).await.unwrap();
    assert_eq!(listed.records[0].get_i32("n").unwrap(), 1);
    let merged = records
        .patch(&collection, &id, &rawdoc! { "x": 1 }, Condition::None)
        .await;
    assert_eq!(merged, Err(HrError::Corrupt(Role::RaseenMainHr)));

    replace_record(&world, Role::SrieMainHr, change).await;
    let corrupt = records.read(&collection, &id).await;
    assert_eq!(corrupt, Err(HrError::Corrupt(Role::RaseenMainHr)));
    // Replaced whole, nothing of it is kept.
    records
        .put(&collection, &id, body(2), Condition::None)
        .await
        .unwrap();
    assert!(records.read(&collection, &id).await.unwrap().is_some());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_hr_record_that_main_has_lost_is_read_from_srie(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let records = HrRecords::new(std::sync::Arc::clone(&world.engine));
    let (collection, id) = candidate();
    records
        .put(&collection, &id, body(1), Condition::None)
        .await
        .unwrap();
    replace_record(&world, Role::RaseenMainHr, Change::Remove).await;
    let found = records.read(&collection, &id).await.unwrap().unwrap();
    assert_eq!(found.source, Role::SrieMainHr);
}
