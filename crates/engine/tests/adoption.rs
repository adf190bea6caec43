//! Documents that other programs wrote.

use bson::raw::{RawBson, RawDocumentBuf};
use bson::{Bson, doc, rawdoc};
use rstest::rstest;
use tierkeep_core::adopt;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit, Location};
use tierkeep_core::mover::{Move, Planned, main_form};
use tierkeep_core::store::{Change, Guard, Written};
use tierkeep_core::user::{UserId, UserType};
use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, UsersError};
use tierkeep_testkit::documents::{SeedUser, native_user, seed_user};

use crate::world::{Backend, DAY, HOUR, World, YOUNG, content, section, user};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn seed_shaped_documents_move_under_their_user_id_with_real_dates(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(false, true)] naive: bool,
) {
    let world = World::new(backend).await;
    let old = world.ago(DAY + HOUR).await;
    let young = world.ago(YOUNG).await;
    let seed = |n, at| {
        let seed = SeedUser::new(n, at);
        if naive {
            seed.naive_dates().build()
        } else {
            seed.build()
        }
    };
    for n in 0..30 {
        world.plant(Role::RaseenTempUser, seed(n, old)).await;
    }
    for n in 30..35 {
        world.plant(Role::RaseenTempUser, seed(n, young)).await;
    }
    let before = world.all(Role::RaseenTempUser).await;
    let dry = tierkeep_engine::RunOptions {
        dry_run: true,
        ..Default::default()
    };
    assert_eq!(world.migrate_with(dry).await.unwrap().due, 30);
    assert_eq!(world.inspector().status(HOUR).await.due, Some(30));
    let summary = world.migrate().await.unwrap();
    assert_eq!(
        (summary.due, summary.moved, summary.quarantined),
        (30, 30, 0)
    );
    let left = world.all(Role::RaseenTempUser).await;
    assert_eq!(left.len(), 5);
    assert!(
        left.iter().all(|document| before.contains(document)),
        "young ones are untouched"
    );
    let main = world.all(Role::RaseenMainUser).await;
    assert_eq!(main.len(), 30);
    assert_eq!(main, world.all(Role::SrieMainUser).await);
    for copy in &main {
        let user = document::user_id(copy).unwrap();
        assert_eq!(copy.get_str("_id").unwrap(), user);
        assert_eq!(copy.get_datetime("created_at").unwrap(), old);
        assert_eq!(document::staged_at(copy), Some(old));
        let original = before
            .iter()
            .find(|d| document::user_id(d) == Some(user))
            .unwrap();
        for section in ["scan_cache", "analysis_progress"] {
            assert_eq!(
                copy.get_document(section).unwrap(),
                original.get_document(section).unwrap()
            );
        }
    }
    assert_eq!(world.migrate().await.unwrap().moved, 0);
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn malformed_documents_are_reported_and_untouched(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let old = world.ago(DAY + HOUR).await;
    let seed = |n| seed_user(n, old);
    let bad: Vec<RawDocumentBuf> = vec![
        Edit::new().unset("created_at").apply(&seed(1)),
        Edit::new().set("created_at", "yesterday").apply(&seed(2)),
        Edit::new().unset("user_id").apply(&seed(3)),
        Edit::new()
            .set("user_id", "external_someone")
            .apply(&seed(4)),
        Edit::new().set_meta("version", 3.0).apply(&seed(5)),
        Edit::new().set("user_type", "external").apply(&seed(6)),
        Edit::new().set("metadata", 7).apply(&seed(7)),
        Edit::new()
            .set("_id", RawBson::Int32(8))
            .set("user_id", RawBson::Null)
            .apply(&seed(8)),
    ];
    for document in &bad {
        world.plant(Role::RaseenTempUser, document.clone()).await;
    }
    // Two documents that claim one user.
    let twins = [seed(20), Edit::new().set("_id", "twin").apply(&seed(20))];
    for twin in &twins {
        world.plant(Role::RaseenTempUser, twin.clone()).await;
    }
    for n in 100..120 {
        world.plant(Role::RaseenTempUser, seed(n)).await;
    }
    let summary = world.migrate().await.unwrap();
    assert_eq!(
        (summary.moved, summary.quarantined, summary.failed),
        (20, 10, 0)
    );
    let left = world.all(Role::RaseenTempUser).await;
    assert_eq!(left.len(), 10);
    for document in bad.iter().chain(&twins) {
        assert!(left.contains(document), "{document:?} was touched");
    }
    assert_eq!(world.inspector().status(HOUR).await.quarantined, Some(10));
    let again = world.migrate().await.unwrap();
    assert_eq!((again.moved, again.quarantined), (0, 10));
    // Once corrected, it moves.
    let id = document::id(&bad[0]);
    let set = doc! { "created_at": old };
    let temp = world.store(Role::RaseenTempUser);
    temp.amend("internal_users", &[id], &doc! {}, &set)
        .await
        .unwrap();
    let mended = world.migrate().await.unwrap();
    assert_eq!((mended.moved, mended.quarantined), (1, 9));
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_document_is_adopted_before_its_first_update(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(false, true)] keyed_by_user: bool,
) {
    let world = World::new(backend).await;
    let seed = SeedUser::new(1, world.ago(HOUR).await);
    let user = UserId::parse(&seed.user_id()).unwrap();
    let mut document = seed.build();
    if keyed_by_user {
        document = Edit::new().set("_id", user.as_str()).apply(&document);
    }
    let document = Edit::new().set("extra", 7_i64).apply(&document);
    world.plant(Role::RaseenTempUser, document.clone()).await;
    let found = world.users.read(&user).await.unwrap().unwrap();
    assert_eq!(found.document, document);
    let receipt = world
        .users
        .put(&user, &section(), content(1, 1), Condition::None)
        .await
        .unwrap();
    assert!(!receipt.created);
    assert_eq!(receipt.version.get(), 2);
    let all = world.all(Role::RaseenTempUser).await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].get_str("_id").unwrap(), user.as_str());
    assert_eq!(all[0].get_i64("extra").unwrap(), 7);
    assert_eq!(
        all[0].get_document("analysis_progress").unwrap(),
        document.get_document("analysis_progress").unwrap()
    );
    assert_eq!(
        document::staged_at(&all[0]),
        Some(all[0].get_datetime("created_at").unwrap())
    );
}

/// Else a move and a writer that adopt one document at once would put different content under one version.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_adopted_by_a_writer_is_what_moves_unadopted(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(false, true)] has_been_staged: bool,
) {
    let world = World::new(backend).await;
    let at = world.ago(DAY + HOUR).await;
    let mut seed = SeedUser::new(1, at).build();
    if has_been_staged {
        seed = Edit::new()
            .set_meta("staged_at", at)
            .set_meta("own", 1)
            .apply(&seed);
    }
    let foreign = adopt::foreign(&seed, UserType::Internal).unwrap();
    let form = adopt::final_form(&seed, &foreign, Location::Temp, Version::FIRST);
    world.plant(Role::RaseenTempUser, seed).await;
    let refused = Condition::Version(Version::new(9).unwrap());
    let written = world
        .users
        .put(&foreign.user, &section(), content(1, 1), refused)
        .await;
    assert!(
        matches!(written, Err(UsersError::Mismatch { .. })),
        "{written:?}"
    );
    let moved = main_form(&form, &Digest::of(&form));
    assert_eq!(world.all(Role::RaseenTempUser).await, [form]);
    world.migrate().await.unwrap();
    assert_eq!(world.all(Role::RaseenMainUser).await, [moved]);
}

/// A move that was cut off after its record may still copy what it read: the version is that document's.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_version_under_which_another_document_began_to_move_is_not_taken(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(false, true)] keyed_by_user: bool,
    #[values(false, true)] by_a_writer: bool,
) {
    let world = World::new(backend).await;
    let seed = SeedUser::new(1, world.ago(DAY + HOUR).await);
    let mut document = seed.build();
    if keyed_by_user {
        document = Edit::new().set("_id", seed.user_id()).apply(&document);
    }
    let foreign = adopt::foreign(&document, UserType::Internal).unwrap();
    let begun = Planned::of_foreign(document.clone(), &foreign, Version::FIRST);
    let record = Move::of(&begun.item).pending("a run", world.ago(HOUR).await);
    world
        .store(Role::EvaluationAudit)
        .insert("migration_records", &[record])
        .await
        .unwrap();
    let changed = Edit::new().set("extra", 1).apply(&document);
    world.plant(Role::RaseenTempUser, changed).await;
    if by_a_writer {
        world
            .users
            .put(&foreign.user, &section(), content(1, 1), Condition::None)
            .await
            .unwrap();
        let temp = world.all(Role::RaseenTempUser).await;
        assert_eq!(document::version(&temp[0]), Version::new(3));
    }
    world.migrate().await.unwrap();
    let main = world.all(Role::RaseenMainUser).await;
    let expected = if by_a_writer { 3 } else { 2 };
    assert_eq!(document::version(&main[0]), Version::new(expected));
    assert_eq!(main[0].get_i32("extra").unwrap(), 1);
    assert_eq!(world.all(Role::SrieMainUser).await, main);
    assert!(world.all(Role::RaseenTempUser).await.is_empty());
    for record in world.records().await {
        assert_eq!(record.get_str("status").unwrap(), "completed");
    }
    world.check_invariants().await;
}

/// What was adopted and moved, and is put into temp once more as it was, has moved already.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_moved_after_its_adoption_and_comes_back_goes_again(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let seed = SeedUser::new(1, world.ago(DAY + HOUR).await).build();
    let foreign = adopt::foreign(&seed, UserType::Internal).unwrap();
    world.plant(Role::RaseenTempUser, seed.clone()).await;
    let refused = Condition::Version(Version::new(9).unwrap());
    let put = world
        .users
        .put(&foreign.user, &section(), content(1, 1), refused)
        .await;
    put.unwrap_err();
    world.migrate().await.unwrap();
    let moved = world.all(Role::RaseenMainUser).await;
    world.plant(Role::RaseenTempUser, seed).await;
    let summary = world.migrate().await.unwrap();
    assert_eq!(summary.deferred, 0, "{summary:?}");
    assert!(world.all(Role::RaseenTempUser).await.is_empty());
    assert_eq!(world.all(Role::RaseenMainUser).await, moved);
    world.check_invariants().await;
}

/// A run that was cut off after the record, and a program that takes its document back: nothing is missing.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_its_program_takes_back_before_it_is_copied_is_no_incident(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(false, true)] written_since: bool,
) {
    let world = World::new(backend).await;
    let document = SeedUser::new(1, world.ago(DAY + HOUR).await).build();
    let foreign = adopt::foreign(&document, UserType::Internal).unwrap();
    let begun = Planned::of_foreign(document, &foreign, Version::FIRST);
    let record = Move::of(&begun.item).pending("a run", world.ago(HOUR).await);
    world
        .store(Role::EvaluationAudit)
        .insert("migration_records", &[record])
        .await
        .unwrap();
    if written_since {
        // Twice: temp holds the version above that of the record.
        world.staged(1, HOUR).await;
        world.staged(1, HOUR).await;
    }
    world.migrate().await.unwrap();
    assert_eq!(world.records().await.len(), usize::from(written_since));
    let alerts = world.store(Role::EvaluationAudit);
    let all = tierkeep_core::store::Query::All;
    assert_eq!(alerts.count("alerts", &all).await.unwrap(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn legacy_copies_in_main_are_adopted_before_they_are_compared(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let old = world.ago(3 * DAY).await;
    let seed = SeedUser::new(1, old).at(document::Location::Main);
    let user = UserId::parse(&seed.user_id()).unwrap();
    world.plant(Role::RaseenMainUser, seed.build()).await;
    world.plant(Role::SrieMainUser, seed.build()).await;
    assert!(world.users.read(&user).await.unwrap().is_some());
    world
        .users
        .put(&user, &section(), content(1, 1), Condition::None)
        .await
        .unwrap();
    world.date_back(&user, DAY + HOUR).await;
    let newer = SeedUser::new(2, old).at(document::Location::Main);
    world.plant(Role::RaseenMainUser, newer.build()).await;
    let again = seed_user(2, world.ago(DAY + HOUR).await);
    let again = Edit::new()
        .set("_id", Bson::String("again".into()).to_string())
        .apply(&again);
    world.plant(Role::RaseenTempUser, again).await;
    assert_eq!(world.migrate().await.unwrap().moved, 2);
    assert_eq!(world.all(Role::RaseenMainUser).await.len(), 2);
    assert!(world.all(Role::RaseenTempUser).await.is_empty());
    let main = world.copy(Role::RaseenMainUser, &user).await.unwrap();
    assert_eq!(document::version(&main).unwrap().get(), 2);
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_documents_that_claim_one_user_are_never_served_by_guess(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let seed = SeedUser::new(1, world.ago(HOUR).await);
    let user = UserId::parse(&seed.user_id()).unwrap();
    world.plant(Role::RaseenTempUser, seed.build()).await;
    world
        .plant(
            Role::RaseenTempUser,
            Edit::new().set("_id", "twin").apply(&seed.build()),
        )
        .await;
    assert!(matches!(
        world.users.read(&user).await,
        Err(UsersError::Quarantined(_))
    ));
    let put = world
        .users
        .put(&user, &section(), content(1, 1), Condition::None)
        .await;
    assert!(matches!(put, Err(UsersError::Quarantined(_))));
    assert_eq!(world.all(Role::RaseenTempUser).await.len(), 2);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_half_done_migration_left_in_main_is_no_proof_of_a_backup(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let seed = SeedUser::new(1, world.ago(DAY + HOUR).await).build();
    world.plant(Role::RaseenTempUser, seed.clone()).await;
    world.plant(Role::RaseenMainUser, seed).await;
    world.migrate().await.unwrap();
    assert!(world.all(Role::RaseenTempUser).await.is_empty());
    assert_eq!(world.all(Role::SrieMainUser).await.len(), 1);
    assert_eq!(
        world.all(Role::RaseenMainUser).await,
        world.all(Role::SrieMainUser).await
    );
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_document_with_a_version_but_without_a_staging_date_moves_and_its_version_never_falls(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, HOUR).await;
    let staged = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    let odd = Edit::new()
        .set("created_at", world.ago(DAY + HOUR).await)
        .set_meta("version", 7_i64)
        .unset_meta("staged_at")
        .set("_id", "internal_00000000000000000000000a")
        .set("user_id", "internal_00000000000000000000000a")
        .apply(&staged);
    world.plant(Role::RaseenTempUser, odd).await;
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    let moved = UserId::parse("internal_00000000000000000000000a").unwrap();
    let main = world.copy(Role::RaseenMainUser, &moved).await.unwrap();
    assert_eq!(document::version(&main).unwrap().get(), 8);
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_second_document_in_temp_does_not_move(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(HOUR, DAY + HOUR)] age_of_the_second: std::time::Duration,
) {
    let world = World::new(backend).await;
    world.staged(2, DAY + HOUR).await;
    let seed = SeedUser::new(1, world.ago(DAY + HOUR).await);
    let user = UserId::parse(&seed.user_id()).unwrap();
    // Adopted, and changed by its program before it was removed.
    let adopted = adopt::foreign(&seed.build(), UserType::Internal).unwrap();
    let adopted = adopt::final_form(
        &seed.build(),
        &adopted,
        document::Location::Temp,
        Version::FIRST,
    );
    let changed = SeedUser::new(1, world.ago(age_of_the_second).await).build();
    let changed = Edit::new()
        .set("analysis_progress", rawdoc! { "step": 9 })
        .apply(&changed);
    world.plant(Role::RaseenTempUser, adopted.clone()).await;
    world.plant(Role::RaseenTempUser, changed.clone()).await;
    let summary = world.migrate().await.unwrap();
    assert_eq!((summary.moved, summary.failed, summary.deferred), (1, 0, 0));
    assert!(summary.quarantined > 0);
    let left = world.all(Role::RaseenTempUser).await;
    assert_eq!(left.len(), 2);
    assert!(left.contains(&adopted) && left.contains(&changed));
    let stop = tokio_util::sync::CancellationToken::new();
    let service = world.service();
    let options = tierkeep_engine::RunOptions::default();
    service
        .backup_to_srie(options.clone(), &stop)
        .await
        .unwrap();
    service.cleanup_temp_data(options, &stop).await.unwrap();
    assert_eq!(world.all(Role::RaseenTempUser).await.len(), 2);
    world.check_invariants().await;
    // Its program takes it back: the other is the user's only one again.
    let temp = world.store(Role::RaseenTempUser);
    let id = document::id(&changed);
    let gone = temp
        .write(
            "internal_users",
            &id,
            &Guard::Whole(changed),
            &Change::Remove,
        )
        .await
        .unwrap();
    assert!(matches!(gone, Written::Applied(_)));
    world.migrate().await.unwrap();
    let summary = world.migrate().await.unwrap();
    assert_eq!(summary.quarantined, 0);
    assert!(world.all(Role::RaseenTempUser).await.is_empty());
    assert!(world.copy(Role::RaseenMainUser, &user).await.is_some());
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_copy_in_srie_is_adopted_by_the_move_that_meets_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(1, 2)] writes: u32,
) {
    let world = World::new(backend).await;
    let user = user(7);
    for _ in 0..writes {
        world.staged(7, DAY + HOUR).await;
    }
    // It came after the document entered temp, so no adoption saw it.
    let legacy = Edit::new()
        .set("_id", user.as_str())
        .set("user_id", user.as_str())
        .apply(&seed_user(7, world.ago(3 * DAY).await));
    world.plant(Role::SrieMainUser, legacy).await;
    let summary = world.migrate().await.unwrap();
    if writes == 2 {
        assert_eq!((summary.moved, summary.quarantined), (1, 0));
    } else {
        // Both are the first version, with different content: neither may be preferred.
        assert_eq!((summary.moved, summary.quarantined), (0, 1));
        assert_eq!(world.all(Role::RaseenTempUser).await.len(), 1);
    }
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_starts_above_a_legacy_copy_that_only_srie_holds(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let seed = SeedUser::new(1, world.ago(3 * DAY).await);
    let user = UserId::parse(&seed.user_id()).unwrap();
    world.plant(Role::SrieMainUser, seed.build()).await;
    let receipt = world
        .users
        .put(&user, &section(), content(1, 1), Condition::None)
        .await
        .unwrap();
    assert_eq!(receipt.version.get(), 2);
    world.date_back(&user, DAY + HOUR).await;
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn documents_with_unreadable_ids_end_no_run_and_stop_no_other(
    #[values(1, 30)] nameless: u32,
    #[values(false, true)] staged: bool,
) {
    // The other stores take no such document.
    let world = World::new(Backend::Mongo).await;
    let old = world.ago(DAY + HOUR).await;
    for n in 0..nameless {
        let mut seed = Edit::new().set("_id", format!("AAAA{n:04}"));
        if staged {
            // Behind those that can be named.
            seed = seed.set_meta("staged_at", world.ago(DAY).await);
        }
        let seed = seed.apply(&seed_user(500 + n, old));
        let mut bytes = seed.into_bytes();
        let at = bytes.windows(4).position(|w| w == b"AAAA").unwrap();
        bytes[at] = 0xff;
        let seed = RawDocumentBuf::from_bytes(bytes).unwrap();
        world.plant(Role::RaseenTempUser, seed).await;
    }
    let odd = Edit::new()
        .set_meta("state", "frozen")
        .set_meta("staged_at", old)
        .apply(&native_user(9, 1).build());
    world.plant(Role::RaseenTempUser, odd.clone()).await;
    for n in 0..20 {
        world.staged(n + 100, DAY + HOUR).await;
    }
    let summary = world.migrate().await.unwrap();
    assert_eq!(summary.moved, 20);
    assert!(summary.quarantined >= 2);
    let left = world.all(Role::RaseenTempUser).await;
    assert!(left.contains(&odd));
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_bounds_what_is_adopted_too(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let old = world.ago(DAY + HOUR).await;
    for n in 0..60 {
        world.plant(Role::RaseenTempUser, seed_user(n, old)).await;
    }
    let limited = tierkeep_engine::RunOptions {
        limit: Some(5),
        ..Default::default()
    };
    assert_eq!(world.migrate_with(limited).await.unwrap().moved, 5);
    let left = world.all(Role::RaseenTempUser).await;
    assert_eq!(left.len(), 55);
    let adopted = left.iter().filter(|d| document::is_native(d)).count();
    assert_eq!(adopted, 0);
    assert_eq!(world.migrate().await.unwrap().moved, 55);
    world.check_invariants().await;
}
