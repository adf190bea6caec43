//! Reading and writing users.

use bson::raw::RawDocumentBuf;
use bson::{doc, rawdoc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::store::Class;
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, UsersError};
use tierkeep_testkit::documents::native_user;
use tierkeep_testkit::fault::{Fault, Moment};

use crate::world::{Backend, DAY, HOUR, World, content, section, user};

fn version(n: i64) -> Version {
    Version::new(n).unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_internal_user_lands_in_temp_and_nowhere_else(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = user(1);
    let receipt = world
        .users
        .put(&user, &section(), content(1, 0), Condition::None)
        .await
        .unwrap();
    assert_eq!(
        (receipt.version, receipt.database),
        (version(1), Role::RaseenTempUser)
    );
    assert!(receipt.created);
    for role in [
        Role::RaseenMainUser,
        Role::SrieMainUser,
        Role::ExternalUsers,
    ] {
        assert!(world.all(role).await.is_empty(), "{role}");
    }
    let stored = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    assert_eq!(
        stored.get_document("scan_cache").unwrap(),
        content(1, 0).as_ref()
    );
    assert_eq!(stored.get_str("data_location").unwrap(), "temp");
    let metadata = stored.get_document("metadata").unwrap();
    assert_eq!(metadata.get_str("storage_location").unwrap(), "RASEEN_TEMP");
    assert_eq!(metadata.get_str("backup_status").unwrap(), "pending");
    assert!(document::staged_at(&stored).is_some());
    let again = world
        .users
        .put(&user, &section(), content(1, 1), Condition::None)
        .await
        .unwrap();
    assert_eq!((again.version, again.created), (version(2), false));
    let later = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    assert_eq!(document::staged_at(&later), document::staged_at(&stored));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_external_user_lands_in_external_users_and_nowhere_else(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = UserId::external("Srie06").unwrap();
    let receipt = world
        .users
        .put(&user, &section(), content(1, 0), Condition::None)
        .await
        .unwrap();
    assert_eq!(
        (receipt.version, receipt.database),
        (version(1), Role::ExternalUsers)
    );
    assert!(receipt.created);
    let stored = world.copy(Role::ExternalUsers, &user).await.unwrap();
    assert_eq!(stored.get_str("_id").unwrap(), "external_srie06");
    assert_eq!(stored.get_str("data_location").unwrap(), "external");
    assert!(
        stored
            .get_document("metadata")
            .unwrap()
            .get("backup_status")
            .unwrap()
            .is_none()
    );
    for role in [
        Role::RaseenTempUser,
        Role::RaseenMainUser,
        Role::SrieMainUser,
    ] {
        assert!(world.all(role).await.is_empty(), "{role}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_kept(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for user in [user(1), UserId::external("a").unwrap()] {
        let section = section();
        let put = |condition| world.users.put(&user, &section, content(1, 0), condition);
        assert!(matches!(
            put(Condition::Version(version(1))).await,
            Err(UsersError::Mismatch { current: None })
        ));
        assert!(matches!(
            put(Condition::Exists).await,
            Err(UsersError::Mismatch { .. })
        ));
        assert!(put(Condition::Absent).await.unwrap().created);
        assert!(matches!(
            put(Condition::Absent).await,
            Err(UsersError::Mismatch { current: Some(_) })
        ));
        assert_eq!(
            put(Condition::Version(version(1))).await.unwrap().version,
            version(2)
        );
        assert!(matches!(
            put(Condition::Version(version(1))).await,
            Err(UsersError::Mismatch { current: Some(current) }) if current == version(2)
        ));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn removing_and_patching_change_one_section(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = user(1);
    assert!(matches!(
        world.users.remove(&user, &section(), Condition::None).await,
        Err(UsersError::NotFound)
    ));
    let patch =
        bson::raw::RawDocumentBuf::try_from(&doc! { "a": 1, "gone": bson::Bson::Null }).unwrap();
    let made = world
        .users
        .patch(&user, &section(), &patch, Condition::None)
        .await
        .unwrap();
    assert!(made.created);
    let patch = bson::raw::RawDocumentBuf::try_from(&doc! { "b": { "c": 2_i64 } }).unwrap();
    world
        .users
        .patch(&user, &section(), &patch, Condition::None)
        .await
        .unwrap();
    let found = world.users.read(&user).await.unwrap().unwrap();
    let expected = RawDocumentBuf::try_from(&doc! { "a": 1, "b": { "c": 2_i64 } }).unwrap();
    assert_eq!(
        found.document.get_document("scan_cache").unwrap(),
        expected.as_ref()
    );
    world
        .users
        .remove(&user, &section(), Condition::None)
        .await
        .unwrap();
    let found = world.users.read(&user).await.unwrap().unwrap();
    assert!(found.document.get("scan_cache").unwrap().is_none());
    assert_eq!(found.version(), Some(version(3)));
    assert!(matches!(
        world.users.remove(&user, &section(), Condition::None).await,
        Err(UsersError::SectionNotFound)
    ));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_after_the_move_copies_the_whole_document_up(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, 25 * HOUR).await;
    let created = world.users.read(&user).await.unwrap().unwrap();
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    let other = tierkeep_core::user::Section::parse("analysis_progress").unwrap();
    let receipt = world
        .users
        .put(&user, &other, content(1, 7), Condition::None)
        .await
        .unwrap();
    assert_eq!(
        (receipt.version, receipt.database),
        (version(2), Role::RaseenTempUser)
    );
    assert!(!receipt.created);
    let up = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    assert_eq!(
        up.get_document("scan_cache").unwrap(),
        content(1, 0).as_ref()
    );
    assert_eq!(
        up.get_datetime("created_at").unwrap(),
        created.document.get_datetime("created_at").unwrap()
    );
    assert!(document::staged_at(&up).unwrap() > world.ago(HOUR).await);
    assert!(
        up.get_document("metadata")
            .unwrap()
            .get("digest")
            .unwrap()
            .is_none()
    );
    world.check_invariants().await;
    world.date_back(&user, DAY + HOUR).await;
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    assert!(world.all(Role::RaseenTempUser).await.is_empty());
    let main = world.copy(Role::RaseenMainUser, &user).await.unwrap();
    assert_eq!(document::version(&main), Some(version(2)));
    assert_eq!(
        main.get_document("analysis_progress").unwrap(),
        content(1, 7).as_ref()
    );
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_not_a_second_write(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = user(1);
    for round in 0..6 {
        for nth in 1..=3 {
            world
                .faults
                .plan(Fault::nth(nth, Moment::After).of("write"));
        }
        let receipt = world
            .users
            .put(&user, &section(), content(1, round), Condition::None)
            .await;
        world.faults.heal();
        assert_eq!(receipt.unwrap().version, version(i64::from(round) + 1));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_while_temp_is_away_and_no_user_is_created_while_main_is(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = user(1);
    for role in [Role::RaseenTempUser, Role::RaseenMainUser] {
        world.faults.set_down(role, true);
        let refused = world
            .users
            .put(&user, &section(), content(1, 0), Condition::None)
            .await;
        assert!(
            matches!(refused, Err(UsersError::Unavailable(_))),
            "{role}: {refused:?}"
        );
        assert!(matches!(
            world.users.read(&user).await,
            Err(UsersError::Unavailable(_))
        ));
        world.faults.set_down(role, false);
    }
    assert!(world.users.read(&user).await.unwrap().is_none());
    world.faults.set_down(Role::SrieMainUser, true);
    let stored = world
        .users
        .put(&user, &section(), content(1, 0), Condition::None)
        .await
        .unwrap();
    assert!(stored.created);
    world.faults.heal();
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn reads_fall_back_to_srie_while_main_is_away(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, 25 * HOUR).await;
    world.migrate().await.unwrap();
    world.faults.set_down(Role::RaseenMainUser, true);
    let found = world.users.read(&user).await.unwrap().unwrap();
    assert_eq!(found.source, Role::SrieMainUser);
    assert_eq!(
        found.document.get_document("scan_cache").unwrap(),
        content(1, 0).as_ref()
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_are_all_contained(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = user(1);
    let writers = (0..8).map(|n| {
        let (users, user) = (world.users.clone(), user.clone());
        tokio::spawn(async move {
            let patch = bson::raw::RawDocumentBuf::try_from(&doc! { format!("w{n}"): n }).unwrap();
            users
                .patch(&user, &section(), &patch, Condition::None)
                .await
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    let found = world.users.read(&user).await.unwrap().unwrap();
    let cache = found.document.get_document("scan_cache").unwrap();
    assert_eq!(cache.iter().count(), 8);
    assert_eq!(found.version(), Some(version(8)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_that_too_many_writes_followed_is_not_sent_again(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, HOUR).await;
    // It knows the version, so its first call is the write.
    world.users.read(&user).await.unwrap();
    let write = |n| {
        let users = world.users.clone();
        let user = user.clone();
        async move {
            users
                .put(&user, &section(), content(n, 0), Condition::None)
                .await
        }
    };
    let temp = Role::RaseenTempUser;
    let lost = Fault::nth(1, Moment::After).of("write").to(temp);
    world.faults.plan(lost);
    // Before its writer looks, eight others push the operation out of the document's memory.
    let look = Fault::nth(1, Moment::Before).of("find").to(temp);
    let hold = world.faults.hold(look);
    let first = tokio::spawn(write(100));
    hold.reached().await;
    for n in 0..8 {
        write(n).await.unwrap();
    }
    hold.release();
    let outcome = first.await.unwrap();
    assert_eq!(outcome, Err(UsersError::OutcomeUnknown(temp)));
    let stored = world.copy(temp, &user).await.unwrap();
    assert_eq!(document::version(&stored), Some(version(10)));
    let newest = stored.get_document("scan_cache").unwrap();
    assert_eq!(newest.get_i64("z").unwrap(), 7);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_keeps_the_text_that_it_cannot_read(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = user(1);
    let native = native_user(1, 1)
        .set("scan_cache", rawdoc! { "text": "AAAA" })
        .build();
    let mut bytes = native.into_bytes();
    let at = bytes.windows(4).position(|w| w == b"AAAA").unwrap();
    bytes[at] = 0xff;
    let stored = RawDocumentBuf::from_bytes(bytes).unwrap();
    world.plant(Role::RaseenTempUser, stored.clone()).await;
    let patch = bson::raw::RawDocumentBuf::try_from(&doc! { "more": 1 }).unwrap();
    let patched = world
        .users
        .patch(&user, &section(), &patch, Condition::None)
        .await;
    assert_eq!(patched.unwrap().version, version(2));
    let left = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    let section = left.get_document(section().as_str()).unwrap();
    let mut expected = rawdoc! { "text": "AAAA", "more": 1 }.into_bytes();
    let at = expected.windows(4).position(|w| w == b"AAAA").unwrap();
    expected[at] = 0xff;
    assert_eq!(section.as_bytes(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_certainly_did_not_run_is_not_counted_as_perhaps_applied() {
    for (class, code, unknown) in [
        (Class::NotPrimary, 10_107, false),
        (Class::NotPrimary, 13_435, false),
        (Class::Transition, 11_602, true),
    ] {
        let world = World::new(Backend::Memory).await;
        let user = user(1);
        for n in 0..12 {
            world.put(&user, n).await.unwrap();
        }
        // An election: every attempt of half a dozen is refused.
        let election = Fault::nth(1, Moment::Before)
            .of("write")
            .to(Role::RaseenTempUser)
            .times(6)
            .class(class, code);
        world.faults.plan(election);
        let written = world.put(&user, 99).await;
        if unknown {
            assert!(written.is_err(), "{code}: {written:?}");
        } else {
            assert_eq!(written.unwrap().version, version(13), "{code}");
        }
    }
}

/// A user whose documents are written to the database of `role`.
fn of_type(role: Role) -> UserId {
    if role == Role::ExternalUsers {
        UserId::external("srie06").unwrap()
    } else {
        user(1)
    }
}

/// A write is held on its way, repeated and acknowledged; others follow, fewer or more than a document remembers.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_given_up_never_takes_effect_over_later_ones(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::RaseenTempUser, Role::ExternalUsers)] role: Role,
    #[values(1, 9)] later: i32,
) {
    let world = World::new(backend).await;
    let user = of_type(role);
    world.put(&user, 0).await.unwrap();
    let late = world
        .faults
        .delay(Fault::nth(1, Moment::Before).of("write").to(role));
    world.put(&user, 100).await.unwrap();
    assert!(late.is_on_its_way());
    for n in 1..=later {
        world.put(&user, n).await.unwrap();
    }
    let before = world.copy(role, &user).await.unwrap();
    late.arrive().await.unwrap();
    assert_eq!(world.copy(role, &user).await.unwrap(), before);
}

/// The caller gave up altogether: nothing of its write shows after another caller's.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_caller_went_away_never_takes_effect_over_later_ones(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = user(1);
    world.put(&user, 0).await.unwrap();
    let to_temp = Fault::nth(1, Moment::Before)
        .of("write")
        .to(Role::RaseenTempUser);
    let late = world.faults.delay(to_temp.clone());
    world.faults.plan(to_temp.times(5).class(Class::Timeout, 0));
    world.put(&user, 100).await.unwrap_err();
    world.faults.heal();
    world.put(&user, 1).await.unwrap();
    let before = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    late.arrive().await.unwrap();
    assert_eq!(
        world.copy(Role::RaseenTempUser, &user).await.unwrap(),
        before
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_given_up_never_reaches_a_new_life(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::RaseenTempUser, Role::ExternalUsers)] role: Role,
) {
    let world = World::new(backend).await;
    let user = of_type(role);
    world.put(&user, 0).await.unwrap();
    let late = world
        .faults
        .delay(Fault::nth(1, Moment::Before).of("write").to(role));
    world.put(&user, 100).await.unwrap();
    world.erasure().erase(&user).await.unwrap();
    world.put(&user, 1).await.unwrap();
    let before = world.copy(role, &user).await.unwrap();
    late.arrive().await.unwrap();
    assert_eq!(world.copy(role, &user).await.unwrap(), before);
}
