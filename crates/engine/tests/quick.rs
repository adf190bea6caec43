//! A verification by versions and claimed digests finds what a whole one finds, but for content that changed under an
//! intact claim.

use std::sync::Arc;

use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;
use bson::{Bson, doc, rawdoc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::compare::Class;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit, Location, State};
use tierkeep_core::mover::main_form;
use tierkeep_core::store::{Change, Guard, Written};
use tierkeep_engine::{AlertKind, Alerts, Difference, Verified, VerifyOptions};
use tierkeep_testkit::documents::{SeedUser, native_user};

use crate::comparing::{
    LOOK, REPAIR, held, moved, one_byte, put_record, record, recorded, tamper, verify,
};
use crate::whole_scans::unreadable;
use crate::world::{Backend, DAY, World, user};

const MAIN: Role = Role::RaseenMainUser;
const SRIE: Role = Role::SrieMainUser;

pub const QUICK: VerifyOptions = VerifyOptions {
    quick: true,
    ..LOOK
};

/// The counts and the findings, in one order.
fn said(found: &Verified) -> ([u64; 7], Vec<Difference>) {
    let mut findings = found.findings.clone();
    findings.sort_by(|one, other| {
        (&one.collection, &one.id, one.class).cmp(&(&other.collection, &other.id, other.class))
    });
    let counts = [
        found.checked,
        found.matched,
        found.missing_in_backup,
        found.missing_in_main,
        found.different,
        found.repaired,
        found.in_flight,
    ];
    (counts, findings)
}

/// Every way in which the copies of a user differ in what they claim, and some that do not differ.
async fn claims_differ(world: &World) {
    moved(world, 14).await;
    let form = |document: RawDocumentBuf| main_form(&document, &Digest::of(&document));
    let newer = |n: u32| form(native_user(n, 9).at(Location::Main).build());
    tamper(world, SRIE, &user(0), None).await;
    tamper(world, MAIN, &user(1), None).await;
    tamper(world, MAIN, &user(2), Some(newer(2))).await;
    tamper(world, SRIE, &user(3), Some(newer(3))).await;
    let other = Edit::new().set("scan_cache", rawdoc! { "other": true });
    let other = form(other.apply(&held(world, MAIN, &user(4)).await));
    tamper(world, SRIE, &user(4), Some(other)).await;
    for (role, n) in [(MAIN, 5), (SRIE, 6)] {
        let claim = Edit::new().set_meta("digest", "0".repeat(64));
        let wrong = claim.apply(&held(world, role, &user(n)).await);
        tamper(world, role, &user(n), Some(wrong)).await;
    }
    let unclaimed = document::without(&held(world, MAIN, &user(7)).await, &[], &["digest"]);
    for role in [MAIN, SRIE] {
        tamper(world, role, &user(7), Some(unclaimed.clone())).await;
    }
    for (n, version) in [(8, Bson::Int32(1)), (9, Bson::Array(vec![1_i64.into()]))] {
        let version = bson::raw::RawBson::try_from(version).unwrap();
        let odd = Edit::new().set_meta("version", version);
        let odd = odd.apply(&held(world, MAIN, &user(n)).await);
        tamper(world, MAIN, &user(n), Some(odd)).await;
    }
    // Erased, and brought back from before the erasure on both sides.
    let before = held(world, SRIE, &user(10)).await;
    for n in [10, 11] {
        world.erasure().erase(&user(n)).await.unwrap();
    }
    for role in [MAIN, SRIE] {
        tamper(world, role, &user(10), Some(before.clone())).await;
    }
    let at = world.ago(DAY).await;
    let seed = |n| SeedUser::new(n, at).at(Location::Main);
    for (role, n) in [(MAIN, 50), (SRIE, 50), (MAIN, 51), (SRIE, 52)] {
        world.plant(role, seed(n).build()).await;
    }
    let foreign = Edit::new().set("_id", ObjectId::from_bytes([7; 12]));
    world.plant(MAIN, foreign.apply(&seed(53).build())).await;
    for role in [MAIN, SRIE] {
        world.plant(role, rawdoc! { "_id": "both", "a": 1 }).await;
    }
    world.plant(SRIE, rawdoc! { "_id": "one", "a": 1 }).await;
    world.plant(SRIE, rawdoc! { "_id": 7, "metadata": 1 }).await;
}

/// The same for HR records.
async fn records_differ(world: &World) {
    recorded(world, 9).await;
    let (main, srie) = (Role::RaseenMainHr, Role::SrieMainHr);
    put_record(world, srie, 0, None).await;
    put_record(world, main, 1, None).await;
    put_record(world, main, 2, Some(record(2, 5, 2))).await;
    put_record(world, srie, 3, Some(record(3, 5, 3))).await;
    put_record(world, srie, 4, Some(record(4, 1, 78))).await;
    let pending = Edit::new().set_meta("backup_status", "pending");
    put_record(world, main, 5, Some(pending.apply(&record(5, 2, 5)))).await;
    // Deleted on both sides, and on one, under equal claims.
    let erased = Edit::new().set_meta("state", State::Erased.as_str());
    for (role, n) in [(main, 6), (srie, 6), (srie, 7)] {
        let deleted = erased.apply(&record(n, 1, i32::try_from(n).unwrap()));
        put_record(world, role, n, Some(deleted)).await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn it_finds_whatever_differs_in_its_claims(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    claims_differ(&world).await;
    records_differ(&world).await;
    let whole = verify(&world, &LOOK).await;
    let classes: std::collections::BTreeSet<Class> =
        whole.findings.iter().map(|it| it.class).collect();
    assert_eq!(classes.len(), 9, "every class is among them: {classes:?}");
    assert_eq!(said(&verify(&world, &QUICK).await), said(&whole));
    let options = VerifyOptions {
        quick: true,
        ..REPAIR
    };
    let repaired = verify(&world, &options).await;
    assert!(repaired.repaired >= 10, "{repaired:?}");
    let whole = verify(&world, &LOOK).await;
    assert_eq!(whole.left(), repaired.left(), "{whole:?}");
    assert_eq!(said(&verify(&world, &QUICK).await), said(&whole));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn content_under_an_intact_claim_is_for_a_whole_one_to_find_and_to_resolve(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 4).await;
    let changed = one_byte(&held(&world, SRIE, &user(2)).await);
    tamper(&world, SRIE, &user(2), Some(changed)).await;
    let alerts = Alerts::new(Arc::clone(&world.engine));
    let kind = AlertKind::VerificationDifference;
    alerts.raise(kind, SRIE.name(), "differ").await.unwrap();
    let quick = verify(&world, &QUICK).await;
    assert_eq!((quick.matched, quick.left()), (4, 0));
    assert_eq!(alerts.count_open().await.unwrap(), 1);
    let whole = verify(&world, &REPAIR).await;
    assert_eq!(whole.findings[0].class, Class::CorruptSrie);
    assert_eq!(alerts.count_open().await.unwrap(), 0);
}

/// Only `MongoDB` stores such a document.
#[tokio::test(flavor = "multi_thread")]
async fn ids_that_cannot_be_read_end_nothing_early() {
    let world = World::new(Backend::Mongo).await;
    let at = world.ago(DAY).await;
    moved(&world, 3).await;
    world.plant(MAIN, unreadable(7, at)).await;
    world.plant(SRIE, rawdoc! { "_id": "z", "a": 1 }).await;
    let whole = verify(&world, &LOOK).await;
    assert_eq!((whole.matched, whole.checked), (3, 5), "{whole:?}");
    assert_eq!(said(&verify(&world, &QUICK).await), said(&whole));
    world.plant(SRIE, unreadable(7, at)).await;
    let any = Guard::Fields(doc! {});
    let (srie, z) = (world.store(SRIE), Bson::from("z"));
    let removed = srie.write("internal_users", &z, &any, &Change::Remove);
    assert!(matches!(removed.await.unwrap(), Written::Applied(_)));
    let whole = verify(&world, &LOOK).await;
    assert_eq!(said(&verify(&world, &QUICK).await), said(&whole));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_applies_however_many_entries_it_has(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(0, 1_200)] others: i64,
) {
    let world = World::new(backend).await;
    moved(&world, 3).await;
    let user = user(1);
    let before = held(&world, SRIE, &user).await;
    world.erasure().erase(&user).await.unwrap();
    let grace = std::time::Duration::ZERO;
    assert_eq!(world.erasure().remove_tombstones(grace).await.unwrap(), 1);
    for role in [MAIN, SRIE] {
        world.plant(role, before.clone()).await;
    }
    let ledger = world
        .everything(Role::EvaluationAudit, collection::ERASURES)
        .await;
    let closed = ledger.first().unwrap();
    let others: Vec<RawDocumentBuf> = (0..others)
        .map(|n| Edit::new().set("_id", format!("{n:064x}")).apply(closed))
        .collect();
    let audit = world.store(Role::EvaluationAudit);
    audit.insert(collection::ERASURES, &others).await.unwrap();
    for options in [LOOK, QUICK] {
        let found = verify(&world, &options).await;
        assert_eq!((found.checked, found.matched), (3, 2), "{found:?}");
        assert_eq!(found.findings[0].class, Class::ErasedButPresent);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn many_pages_are_compared_with_few_calls(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let copies: Vec<RawDocumentBuf> = (0..12_000)
        .map(|n| {
            let user = native_user(n, 1).at(Location::Main);
            tierkeep_core::compare::vouched(&user.set("scan_cache", rawdoc! { "n": 1 }).build())
        })
        .collect();
    for role in [MAIN, SRIE] {
        let inserted = world.store(role).insert("internal_users", &copies).await;
        inserted.unwrap();
    }
    tamper(&world, MAIN, &user(10_500), None).await;
    let calls = world.faults.count();
    let found = verify(&world, &QUICK).await;
    assert_eq!((found.matched, found.missing_in_main), (11_999, 1));
    assert!(world.faults.count() - calls < 60);
}
