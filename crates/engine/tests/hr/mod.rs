//! HR records against real stores.

mod carrying;
mod crash;
mod intake;
mod keeping_apart;
mod outage;
mod reading;
mod writing;

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Document, doc};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, State};
use tierkeep_core::hr::{self, BackupStatus, Content, HrCollection, HrId};
use tierkeep_engine::{Condition, HrReceipt, HrRecords, Reconciled, Reconciler};

use crate::world::World;

pub const GRACE: Duration = Duration::from_hours(24);
pub const MAIN: Role = Role::RaseenMainHr;
pub const SRIE: Role = Role::SrieMainHr;

pub fn candidates() -> HrCollection {
    HrCollection::parse("hr_candidates").unwrap()
}

pub fn id(text: &str) -> HrId {
    HrId::parse(text).unwrap()
}

pub fn content(object: &Document) -> Content {
    Content::new(RawDocumentBuf::try_from(object).unwrap()).unwrap()
}

pub fn records(world: &World) -> HrRecords {
    HrRecords::new(Arc::clone(&world.engine))
}

pub fn reconciler(world: &World) -> Reconciler {
    Reconciler::new(Arc::clone(&world.engine), Duration::from_secs(5), GRACE)
}

pub async fn reconcile(world: &World) -> Reconciled {
    reconciler(world).round().await.unwrap()
}

/// Puts `{n}` under this id.
pub async fn put(world: &World, under: &str, n: i32) -> HrReceipt {
    let content = content(&doc! { "n": n });
    records(world)
        .put(&candidates(), &id(under), content, Condition::None)
        .await
        .unwrap()
}

pub async fn remove(world: &World, under: &str) -> HrReceipt {
    records(world)
        .remove(&candidates(), &id(under), Condition::None)
        .await
        .unwrap()
}

/// The `n` that a reader finds.
pub async fn read(world: &World, under: &str) -> Option<i32> {
    let found = records(world)
        .read(&candidates(), &id(under))
        .await
        .unwrap();
    found.map(|found| found.record.get_i32("n").unwrap())
}

pub async fn all(world: &World, role: Role) -> Vec<RawDocumentBuf> {
    world.everything(role, candidates().as_str()).await
}

/// What must be true whenever nothing is pending: both hold the same, byte for byte, and it is sound.
pub async fn check_equal(world: &World) {
    assert_eq!(records(world).pending().await.unwrap(), 0);
    let main = all(world, MAIN).await;
    assert_eq!(main, all(world, SRIE).await);
    for record in &main {
        check_record(record);
        assert_eq!(BackupStatus::of(record), Some(BackupStatus::Completed));
    }
}

/// What must be true of every record at any time.
pub fn check_record(record: &RawDocumentBuf) {
    assert!(hr::is_sound(record), "{record:?}");
    assert!(document::is_hr_record(record), "{record:?}");
    assert!(document::version(record).is_some(), "{record:?}");
    let buried = document::state(record) == Some(State::Erased);
    assert_eq!(record.get("n").unwrap().is_none(), buried, "{record:?}");
}
