//! One row of the matrix: documents that are due, writers beside the mover, and what must be true in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::doc;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit, State};
use tierkeep_core::mover::main_form;
use tierkeep_core::user::UserId;
use tierkeep_engine::{Condition, RunOptions, Summary};
use tierkeep_testkit::documents::{native_user, seed_user};
use tierkeep_testkit::invariants;
use tokio::task::JoinHandle;

use crate::world::{DAY, HOUR, World, section};

/// How many writes one writer may make: beyond are the fields of the next.
const FIELDS_OF_ONE: i32 = 1_000_000;

/// A row at work.
pub struct Row {
    pub world: Arc<World>,
    planted: u32,
    temp: Vec<RawDocumentBuf>,
    main: Vec<RawDocumentBuf>,
    srie: Vec<RawDocumentBuf>,
    /// Users whose documents may have moved at a version that was not planted.
    written: Vec<UserId>,
}

impl Row {
    pub fn of(world: World) -> Self {
        Self {
            world: Arc::new(world),
            planted: 0,
            temp: Vec::new(),
            main: Vec::new(),
            srie: Vec::new(),
            written: Vec::new(),
        }
    }

    /// Plants `count` times: a first move, a newer version of what moved before, and a document of another program.
    pub async fn plant(&mut self, count: u32) {
        let old = self.world.ago(DAY + HOUR).await;
        for n in self.planted..self.planted + count {
            let first = native_user(n, 1).dated(old).build();
            let newer = native_user(100_000 + n, 3).dated(old);
            let older = native_user(100_000 + n, 2)
                .dated(old)
                .content(bson::rawdoc! { "old": true })
                .build();
            let older = main_form(&older, &Digest::of(&older));
            let world = &self.world;
            world.plant(Role::RaseenTempUser, first).await;
            world.plant(Role::SrieMainUser, older.clone()).await;
            world.plant(Role::RaseenMainUser, older).await;
            world.plant(Role::RaseenTempUser, newer.build()).await;
            world
                .plant(Role::RaseenTempUser, seed_user(200_000 + n, old))
                .await;
        }
        self.planted += count;
        self.temp = self.world.all(Role::RaseenTempUser).await;
        self.main = self.world.all(Role::RaseenMainUser).await;
        self.srie = self.world.all(Role::SrieMainUser).await;
    }

    /// Plants a document of another program that is adopted before it moves, as the backup has a copy of another program too.
    pub async fn plant_for_adoption(&mut self) {
        let seed = seed_user(300_000 + self.planted, self.world.ago(DAY + HOUR).await);
        let user = document::user_id(&seed).unwrap().to_owned();
        let copy = Edit::new().set("_id", user.as_str()).apply(&seed);
        self.world.plant(Role::SrieMainUser, copy).await;
        self.world.plant(Role::RaseenTempUser, seed).await;
        self.temp = self.world.all(Role::RaseenTempUser).await;
        self.srie = self.world.all(Role::SrieMainUser).await;
    }

    /// How many documents [`Row::plant`] made due.
    pub fn due(count: u32) -> u64 {
        u64::from(count) * 3
    }

    /// Users whose documents are due, one for each planting.
    pub fn users(&self) -> Vec<UserId> {
        (0..self.planted)
            .map(|n| UserId::parse(native_user(n, 1).id()).unwrap())
            .collect()
    }

    /// Writes to `users` until stopped.
    pub fn writers(&mut self, users: &[UserId]) -> Writers {
        self.storm(users, 1)
    }

    /// Concurrent writers to `users`, each to other fields, until they are stopped.
    pub fn storm(&mut self, users: &[UserId], at_once: i32) -> Writers {
        self.written.extend(users.iter().cloned());
        let over = Arc::new(AtomicBool::new(false));
        let tasks = (0..at_once)
            .map(|n| self.writer(users.to_vec(), n * FIELDS_OF_ONE, &over))
            .collect();
        Writers { over, tasks }
    }

    fn writer(&self, users: Vec<UserId>, first: i32, over: &Arc<AtomicBool>) -> Writer {
        let (world, stop) = (Arc::clone(&self.world), Arc::clone(over));
        tokio::spawn(async move {
            let mut acknowledged = Acknowledged::new();
            let mut tried = first;
            let section = section();
            while !stop.load(Ordering::Acquire) {
                tried += 1;
                for user in &users {
                    let patch =
                        bson::raw::RawDocumentBuf::try_from(&doc! { format!("w{tried}"): tried })
                            .unwrap();
                    let written = world.users.patch(user, &section, &patch, Condition::None);
                    if written.await.is_ok() {
                        acknowledged.entry(user.clone()).or_default().push(tried);
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            acknowledged
        })
    }

    /// What is due moves now that no fault is left; then everything holds.
    pub async fn settle(&self, at: &str) -> Summary {
        // Entries that a mover or a writer could not take out again count as abandoned.
        self.world.clock.advance(Duration::from_secs(6));
        let summary = self.world.migrate().await;
        let summary = summary.unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!(
            (summary.failed, summary.quarantined),
            (0, 0),
            "{at}: {summary:?}"
        );
        let temp = self.world.all(Role::RaseenTempUser).await;
        let main = self.world.all(Role::RaseenMainUser).await;
        let srie = self.world.all(Role::SrieMainUser).await;
        let external = self.world.all(Role::ExternalUsers).await;
        let records = self.world.records().await;
        for left in &temp {
            assert!(document::is_native(left), "{at}: {left:?} was not adopted");
            let state = document::state(left);
            assert_eq!(state, Some(State::Live), "{at}: {left:?}");
        }
        let is_written = |user: Option<&str>| {
            let mut written = self.written.iter().map(UserId::as_str);
            written.any(|written| Some(written) == user)
        };
        let mut unwritten = self.temp.clone();
        unwritten.retain(|stored| !is_written(document::user_id(stored)));
        let now = self.world.now().await;
        for verdict in [
            invariants::acknowledged_documents_are_in_temp_or_main(&self.temp, &temp, &main),
            invariants::acknowledged_documents_are_in_temp_or_main(&self.main, &temp, &main),
            invariants::what_left_temp_is_in_main_and_srie(&self.temp, &temp, &main, &srie),
            invariants::what_left_temp_has_a_record(&unwritten, &temp, &records),
            invariants::temp_never_holds_a_lower_live_version_than_main(&temp, &main, &[]),
            invariants::equal_versions_have_equal_digests(&[&temp, &main, &srie]),
            invariants::claimed_digests_are_true(&main),
            invariants::claimed_digests_are_true(&srie),
            invariants::versions_never_fall(&self.main, &main),
            invariants::versions_never_fall(&self.srie, &srie),
            invariants::each_user_and_version_has_at_most_one_record(&records),
            invariants::completed_records_are_in_main_and_srie(&records, &main, &srie),
            invariants::internal_ids_stay_out_of_external_users(&external),
            invariants::external_ids_stay_in_external_users(&temp),
            invariants::external_ids_stay_in_external_users(&main),
            invariants::external_ids_stay_in_external_users(&srie),
            invariants::completed_backups_exist(&main, &srie),
            invariants::nothing_moves_before_its_retention(&self.temp, &temp, now, DAY),
            invariants::temp_drains(&temp, now, DAY),
            invariants::main_equals_srie(&main, &srie),
        ] {
            verdict.unwrap_or_else(|broken| panic!("{at}: {broken}"));
        }
        for record in &records {
            let (status, retries) = (record.get_str("status"), record.get_i32("retry_count"));
            assert_eq!(status.unwrap(), "completed", "{at}: {record:?}");
            assert_eq!(
                retries.unwrap(),
                0,
                "{at}: an outage cost {record:?} a retry"
            );
        }
        self.world.check_invariants().await;
        summary
    }

    /// As [`Row::settle`], after the writers have stopped: their documents move too, and hold every acknowledged
    /// write.
    pub async fn settle_with(&self, writers: Writers, at: &str) {
        let acknowledged = writers.stop().await;
        self.settle(at).await;
        let whatever_its_age = RunOptions {
            older_than: Some(Duration::ZERO),
            ..RunOptions::default()
        };
        self.world.migrate_with(whatever_its_age).await.unwrap();
        assert!(
            self.world.all(Role::RaseenTempUser).await.is_empty(),
            "{at}"
        );
        for (user, writes) in acknowledged {
            let found = self.world.users.read(&user).await.unwrap().unwrap();
            let cache = found.document.get_document("scan_cache").unwrap();
            for n in writes {
                assert_eq!(
                    cache.get_i32(format!("w{n}")).ok(),
                    Some(n),
                    "{at}: {user} lost write {n}"
                );
            }
            let written = cache
                .iter()
                .flatten()
                .filter(|(name, _)| name.as_str().starts_with('w'))
                .count();
            let version = document::version(&found.document).unwrap().get();
            assert_eq!(
                version,
                1 + i64::try_from(written).unwrap(),
                "{at}: {user}: a write twice"
            );
        }
        self.settle(at).await;
    }
}

/// Writers beside the mover.
pub struct Writers {
    over: Arc<AtomicBool>,
    tasks: Vec<Writer>,
}

type Writer = JoinHandle<Acknowledged>;
type Acknowledged = BTreeMap<UserId, Vec<i32>>;

impl Writers {
    /// Lets them stop; answers which writes were acknowledged.
    async fn stop(self) -> Acknowledged {
        self.over.store(true, Ordering::Release);
        let mut acknowledged = Acknowledged::new();
        for task in self.tasks {
            for (user, writes) in task.await.unwrap() {
                acknowledged.entry(user).or_default().extend(writes);
            }
        }
        assert!(!acknowledged.is_empty(), "nothing was ever written");
        acknowledged
    }
}
