//! Property 4 of the mission: any HR data is stored in `raseen_main_hr` and backed up to `srie_main_hr`, whenever
//! that is there: at the end both hold the same, no acknowledged write is lost, and no version ever falls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::hr::{self, BackupStatus, Content, HrCollection, HrId};
use tierkeep_core::store::{Find, Query};
use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, HrError, HrRecords, Reconciler};
use tierkeep_testkit::documents::arb_section;
use tierkeep_testkit::fault::{Fault, Moment};
use tokio::runtime::Runtime;

use crate::bridge;
use crate::scale;
use crate::world::{Backend, Place, World};

const CASES: u32 = 256;
const MAIN: Role = Role::RaseenMainHr;
const SRIE: Role = Role::SrieMainHr;

#[derive(Clone, Debug)]
enum Step {
    Put(u8, RawDocumentBuf),
    Remove(u8),
    Leave,
    Return,
    /// The next call of srie is cut off.
    Cut(Moment),
    Reconcile,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let moment = prop_oneof![
        Just(Moment::Before),
        Just(Moment::Midway),
        Just(Moment::After)
    ];
    let step = prop_oneof![
        5 => (0..3_u8, arb_section()).prop_map(|(n, content)| Step::Put(n, content)),
        2 => (0..3_u8).prop_map(Step::Remove),
        1 => Just(Step::Leave),
        1 => Just(Step::Return),
        1 => moment.prop_map(Step::Cut),
        1 => Just(Step::Reconcile),
    ];
    vec(step, 1..14)
}

struct Case<'a> {
    world: &'a World,
    records: HrRecords,
    reconciler: Reconciler,
    collection: HrCollection,
    number: u32,
    /// What was acknowledged last.
    expected: BTreeMap<u8, Option<Content>>,
    /// The highest version that was seen in srie.
    seen: BTreeMap<u8, Version>,
    down: bool,
    cut: bool,
}

impl Case<'_> {
    fn id(&self, n: u8) -> HrId {
        HrId::parse(&format!("case-{}:{n}", self.number)).unwrap()
    }

    async fn copy(&self, role: Role, n: u8) -> Option<RawDocumentBuf> {
        let find = Find::new(Query::Ids(vec![self.id(n).to_bson()]));
        let store = self.world.store(role);
        let found = store.find(self.collection.as_str(), &find).await.unwrap();
        found.into_iter().next()
    }

    async fn play(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Put(n, content) => {
                let Ok(content) = Content::new(content.clone()) else {
                    return Ok(());
                };
                let (id, condition) = (self.id(*n), Condition::None);
                let put = self
                    .records
                    .put(&self.collection, &id, content.clone(), condition);
                let receipt = put.await.unwrap();
                let status = BackupStatus::of(&receipt.record).unwrap();
                if self.down {
                    prop_assert_eq!(status, BackupStatus::Pending);
                } else if !self.cut {
                    prop_assert_eq!(status, BackupStatus::Completed);
                    let main = self.copy(MAIN, *n).await;
                    prop_assert_eq!(main, self.copy(SRIE, *n).await);
                }
                self.cut &= self.down;
                self.expected.insert(*n, Some(content));
            }
            Step::Remove(n) => {
                let id = self.id(*n);
                let removed = self.records.remove(&self.collection, &id, Condition::None);
                match removed.await {
                    Ok(_) => self.expected.insert(*n, None),
                    Err(HrError::NotFound) => {
                        prop_assert_eq!(self.expected.get(n).cloned().flatten(), None);
                        None
                    }
                    Err(error) => panic!("{error}"),
                };
            }
            Step::Leave => self.leave(true),
            Step::Return => self.leave(false),
            Step::Cut(moment) => {
                self.world.faults.plan(Fault::nth(1, *moment).to(SRIE));
                self.cut = true;
            }
            Step::Reconcile => {
                let done = self.reconciler.round().await;
                prop_assert!(done.is_ok() || self.down || self.cut, "{:?}", done);
            }
        }
        self.order_is_kept().await
    }

    fn leave(&mut self, down: bool) {
        self.down = down;
        self.world.faults.set_down(SRIE, down);
    }

    async fn order_is_kept(&mut self) -> Result<(), TestCaseError> {
        for n in self.expected.keys().copied().collect::<Vec<_>>() {
            let Some(copy) = self.copy(SRIE, n).await else {
                prop_assert!(!self.seen.contains_key(&n), "a backup vanished");
                continue;
            };
            let version = document::version(&copy).unwrap();
            let main = self.copy(MAIN, n).await.unwrap();
            prop_assert!(Some(version) <= document::version(&main));
            prop_assert!(
                self.seen
                    .insert(n, version)
                    .is_none_or(|seen| seen <= version)
            );
        }
        Ok(())
    }

    async fn ends_well(&mut self) -> Result<(), TestCaseError> {
        self.world.faults.heal();
        self.reconciler.round().await.unwrap();
        prop_assert_eq!(self.records.pending().await.unwrap(), 0);
        for (n, expected) in &self.expected {
            let main = self.copy(MAIN, *n).await.unwrap();
            let srie = self.copy(SRIE, *n).await;
            prop_assert_eq!(Some(&main), srie.as_ref());
            prop_assert!(hr::is_sound(&main));
            let found = self
                .records
                .read(&self.collection, &self.id(*n))
                .await
                .unwrap();
            prop_assert_eq!(
                found.map(|found| Content::of(&found.record)),
                expected.clone()
            );
        }
        Ok(())
    }
}

async fn holds(world: &World, number: u32, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut case = Case {
        world,
        records: HrRecords::new(Arc::clone(&world.engine)),
        reconciler: Reconciler::new(
            Arc::clone(&world.engine),
            Duration::from_secs(5),
            Duration::from_hours(24),
        ),
        collection: HrCollection::parse("hr_candidates").unwrap(),
        number,
        expected: BTreeMap::new(),
        seen: BTreeMap::new(),
        down: false,
        cut: false,
    };
    for step in steps {
        case.play(step).await?;
    }
    case.ends_well().await
}

/// The clock is paused, so that waits for unavailable databases take no time.
#[rstest]
fn hr_data_is_in_its_database_and_in_the_backup_whatever_the_backup_does(
    #[values(
        Place::One(Backend::Memory),
        Place::One(Backend::Sqlite),
        Place::One(Backend::Mongo),
        Place::Two
    )]
    place: Place,
) {
    let outside = Runtime::new().unwrap();
    let runtime = bridge::stopped();
    let world = runtime.block_on(World::stopped(place, outside.handle()));
    let mut runner = TestRunner::new(Config {
        cases: scale::cases(CASES),
        max_shrink_iters: 64,
        ..Config::default()
    });
    let next = std::cell::Cell::new(1_u32);
    runner
        .run(&steps(), |steps| {
            let number = next.get();
            next.set(number + 1);
            runtime.block_on(holds(&world, number, &steps))
        })
        .unwrap();
    for role in Role::ALL.into_iter().filter(|role| role.users().is_some()) {
        assert!(runtime.block_on(world.all(role)).is_empty(), "{role}");
    }
}
