//! Users in every situation that a mover has to handle, planted in databases that the test reads as another program.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, doc, rawdoc};
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::{Role, collection};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit, Location, State};
use tierkeep_core::mover::{Item, Move, Record, main_form};
use tierkeep_core::store::{Change, Cursor, Find, Guard, Inserted, Query, Store};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_engine::{
    ConnectSettings, ConnectionManager, Engine, Erased, ErasureService, Purpose, Users,
};
use tierkeep_testkit::documents::{SeedUser, native_user};
use tierkeep_testkit::invariants::with_announced;
use tierkeep_testkit::{Faults, invariants};

use super::super::program::Deployment;

/// Another program that looks into the databases of a deployment.
pub struct Scene {
    stores: BTreeMap<Role, Arc<dyn Store>>,
    engine: Arc<Engine>,
    users: Users,
    faults: Faults,
    /// The users that have tombstones, and at which version.
    erased: Vec<(UserId, Version)>,
    rounds: u32,
}

/// What the databases held when a round began.
pub struct Round {
    /// What readers must see: each user with the content of `scan_cache`.
    alive: Vec<(UserId, RawDocumentBuf)>,
    temp: Vec<RawDocumentBuf>,
    main: Vec<RawDocumentBuf>,
    srie: Vec<RawDocumentBuf>,
}

impl Scene {
    /// Looks into databases that are prepared.
    pub async fn of(deployment: &Deployment) -> Self {
        assert!(deployment.run(&["init"]).status.success());
        let mut stores = BTreeMap::new();
        for role in Role::ALL {
            stores.insert(role, deployment.open(role).await);
        }
        let faults = Faults::new();
        let faulty: Vec<Arc<dyn Store>> = stores
            .values()
            .map(|store| faults.over(Arc::clone(store)) as Arc<dyn Store>)
            .collect();
        let engine = Engine::new(ConnectionManager::new(faulty, Arc::new(SystemClock)).unwrap());
        let once = ConnectSettings {
            retries: 0,
            backoff: Duration::ZERO,
        };
        engine.databases().open(once, Purpose::Look).await.unwrap();
        let engine = Arc::new(engine);
        Self {
            users: Users::new(Arc::clone(&engine)),
            engine,
            stores,
            faults,
            erased: Vec::new(),
            rounds: 0,
        }
    }

    /// A user whom no other call answers.
    fn next(&self, k: u32) -> u32 {
        self.rounds * 16 + k
    }

    /// Plants a user in every situation, all of them due.
    pub async fn plant(&mut self) -> Round {
        self.rounds += 1;
        let old = clock::before(SystemClock.now(), Duration::from_hours(25));
        let native = |k, version| staged(self.next(k), version, old);
        let seed = |k| SeedUser::new(self.next(k), old);
        let mut temp = vec![native(0, 1), native(1, 1)];
        let mut backed_up = Vec::new();
        // A second life in temp of what moved before.
        for k in [2, 3] {
            temp.push(native(k, 3));
            backed_up.push(moved(&native(k, 2)));
        }
        // Documents of other programs, under an `_id` of their own and under the user's.
        temp.push(seed(4).build());
        temp.push(seed(5).build());
        let own_id = seed(6).user_id();
        temp.push(Edit::new().set("_id", own_id).apply(&seed(6).build()));
        // One that is adopted first, as main and srie have copies of another program.
        temp.push(seed(12).build());
        backed_up.push(seed(12).at(Location::Main).build());
        // Newer than what another program left in main and srie.
        for k in [7, 8] {
            temp.push(native(k, 2));
            backed_up.push(seed(k).at(Location::Main).build());
        }
        self.insert(Role::RaseenTempUser, &temp).await;
        // Moves that were cut off before their records were completed.
        let mut records = Vec::new();
        for k in [9, 10] {
            backed_up.push(moved(&native(k, 1)));
            records.push(pending_record(&native(k, 1), old));
        }
        self.insert(Role::SrieMainUser, &backed_up).await;
        self.insert(Role::RaseenMainUser, &backed_up).await;
        let audit = &self.stores[&Role::EvaluationAudit];
        let outcome = audit.insert(collection::MIGRATION_RECORDS, &records).await;
        assert_eq!(outcome.unwrap(), [Inserted::Stored, Inserted::Stored]);
        self.plant_what_was_erased(old).await;
        let alive = temp.iter().chain(&backed_up).map(|stored| {
            let user = UserId::parse(document::user_id(stored).unwrap()).unwrap();
            (user, scan_cache(stored))
        });
        // Temp comes first and counts.
        let mut seen = BTreeMap::new();
        for (user, content) in alive {
            seen.entry(user.to_string()).or_insert((user, content));
        }
        Round {
            alive: seen.into_values().collect(),
            temp: self.users_in(Role::RaseenTempUser).await,
            main: self.users_in(Role::RaseenMainUser).await,
            srie: self.users_in(Role::SrieMainUser).await,
        }
    }

    /// Plants a user in every situation and these many more in temp, all of them due.
    pub async fn plant_many(&mut self, users: u32) -> Round {
        let mut round = self.plant().await;
        let old = clock::before(SystemClock.now(), Duration::from_hours(25));
        let first = 1_000_000 + self.rounds * users;
        let many: Vec<_> = (first..first + users).map(|n| staged(n, 1, old)).collect();
        self.insert(Role::RaseenTempUser, &many).await;
        round.temp.extend(many);
        round
    }

    /// The leftovers of a mover or writer that was stopped for longer than tombstones are kept.
    async fn plant_what_was_erased(&mut self, old: DateTime) {
        let late = staged(self.next(11), 1, old);
        self.insert(Role::RaseenTempUser, std::slice::from_ref(&late))
            .await;
        let user = UserId::parse(document::user_id(&late).unwrap()).unwrap();
        let erased = self.erase(&user).await;
        assert!(erased.pending.is_empty());
        let temp = &self.stores[&Role::RaseenTempUser];
        let whatever = Guard::Fields(doc! {});
        let id = Bson::String(user.to_string());
        temp.write("internal_users", &id, &whatever, &Change::Remove)
            .await
            .unwrap();
        self.insert(Role::RaseenTempUser, &[late]).await;
    }

    /// Erases a user as far as the databases that are not away.
    pub async fn erase(&mut self, user: &UserId) -> Erased {
        let erasures = ErasureService::new(Arc::clone(&self.engine));
        let erased = erasures.erase(user).await.unwrap();
        let version = Version::of_erasure(erased.epoch).unwrap();
        self.erased.push((user.clone(), version));
        erased
    }

    /// Plants a user in temp, main and srie, and asks for the erasure while all three are away.
    pub async fn plant_pending_erasure(&mut self) -> Round {
        self.rounds += 1;
        let now = SystemClock.now();
        let (one, other) = (self.next(0), self.next(1));
        self.insert(Role::RaseenTempUser, &[staged(one, 3, now)])
            .await;
        for role in [Role::RaseenMainUser, Role::SrieMainUser] {
            let copies = [moved(&staged(one, 2, now)), moved(&staged(other, 1, now))];
            self.insert(role, &copies).await;
        }
        let internal = [
            Role::RaseenTempUser,
            Role::RaseenMainUser,
            Role::SrieMainUser,
        ];
        let user = UserId::internal(&format!("{one:024x}")).unwrap();
        for role in internal {
            self.faults.set_down(role, true);
        }
        assert_eq!(self.erase(&user).await.pending, internal);
        self.faults.heal();
        Round {
            alive: vec![(
                UserId::internal(&format!("{other:024x}")).unwrap(),
                content(other, 1),
            )],
            temp: Vec::new(),
            main: Vec::new(),
            srie: Vec::new(),
        }
    }

    /// Whether every erasure is verified in every database.
    pub async fn erasures_are_verified(&self) -> bool {
        let entries = self.all(Role::EvaluationAudit, collection::ERASURES).await;
        entries
            .iter()
            .all(|entry| entry.get_str("stage").unwrap() != "pending")
    }

    /// What must be true at any moment, whatever has crashed.
    pub async fn check_at_any_moment(&self, round: &Round, at: &str) {
        let temp = self.users_in(Role::RaseenTempUser).await;
        let main = self.users_in(Role::RaseenMainUser).await;
        let srie = self.users_in(Role::SrieMainUser).await;
        let records = self.records().await;
        let (temp_before, main_before) = (self.kept(&round.temp), self.kept(&round.main));
        for verdict in [
            invariants::acknowledged_documents_are_in_temp_or_main(&temp_before, &temp, &main),
            invariants::acknowledged_documents_are_in_temp_or_main(&main_before, &temp, &main),
            invariants::what_left_temp_is_in_main_and_srie(&temp_before, &temp, &main, &srie),
            invariants::what_left_temp_has_a_record(&temp_before, &temp, &records),
            invariants::temp_never_holds_a_lower_live_version_than_main(&temp, &main, &[]),
            invariants::equal_versions_have_equal_digests(&[&temp, &main, &srie]),
            invariants::claimed_digests_are_true(&main),
            invariants::claimed_digests_are_true(&srie),
            invariants::versions_never_fall(&round.main, &main),
            invariants::versions_never_fall(&round.srie, &srie),
            invariants::each_user_and_version_has_at_most_one_record(&records),
            invariants::completed_records_are_in_main_and_srie(&records, &main, &srie),
            invariants::completed_backups_exist(&main, &srie),
            invariants::external_ids_stay_in_external_users(&temp),
            invariants::external_ids_stay_in_external_users(&main),
        ] {
            verdict.unwrap_or_else(|broken| panic!("{at}: {broken}"));
        }
        for (user, content) in &round.alive {
            let found = self.users.read(user).await.unwrap();
            let found = found.unwrap_or_else(|| panic!("{at}: a reader misses {user}"));
            assert_eq!(scan_cache(&found.document), *content, "{at}: {user}");
        }
    }

    /// What must be true once a mover could do its work.
    pub async fn check_converged(&self, round: &Round, at: &str) {
        self.check_at_any_moment(round, at).await;
        let temp = self.users_in(Role::RaseenTempUser).await;
        let main = self.users_in(Role::RaseenMainUser).await;
        let srie = self.users_in(Role::SrieMainUser).await;
        let erased: Vec<(&str, Version)> = self
            .erased
            .iter()
            .map(|(user, version)| (user.as_str(), *version))
            .collect();
        for verdict in [
            invariants::temp_drains(&temp, SystemClock.now(), Duration::from_hours(24)),
            invariants::main_equals_srie(&main, &srie),
            invariants::erased_content_never_comes_back(&erased, &[&temp, &main, &srie]),
        ] {
            verdict.unwrap_or_else(|broken| panic!("{at}: {broken}"));
        }
        for left in &temp {
            let state = document::state(left);
            assert_eq!(state, Some(State::Erased), "{at}: {left:?} is left in temp");
        }
        for record in self.records().await {
            let status = record.get_str("status").unwrap();
            assert_eq!(status, "completed", "{at}: {record:?}");
        }
    }

    /// From now on every entry into temp counts as abandoned, and the lease is free.
    pub async fn let_time_pass(&self) {
        let audit = &self.stores[&Role::EvaluationAudit];
        let whatever = Guard::Fields(doc! {});
        for lease in self.all(Role::EvaluationAudit, "leases").await {
            audit
                .write("leases", &document::id(&lease), &whatever, &Change::Remove)
                .await
                .unwrap();
        }
        let old = clock::before(SystemClock.now(), Duration::from_mins(1));
        let temp = &self.stores[&Role::RaseenTempUser];
        let entering = self.users_in(Role::RaseenTempUser).await;
        let ids: Vec<Bson> = entering
            .iter()
            .filter(|stored| document::state(stored) == Some(State::Entering))
            .map(|stored| document::id(stored))
            .collect();
        let set = doc! { "metadata.entered_at": old };
        temp.amend("internal_users", &ids, &doc! {}, &set)
            .await
            .unwrap();
    }

    /// What users hold now, as a reader sees it.
    pub async fn read(&self, user: &UserId) -> Option<RawDocumentBuf> {
        let found = self.users.read(user).await.unwrap();
        found.map(|found| found.document)
    }

    /// Checks that no database holds two documents of a user.
    pub async fn check_nothing_doubled(&self, user: &UserId) {
        for role in [
            Role::RaseenTempUser,
            Role::RaseenMainUser,
            Role::SrieMainUser,
        ] {
            let copies = self.users_in(role).await;
            let theirs = copies
                .iter()
                .filter(|copy| document::user_id(copy) == Some(user.as_str()));
            assert!(theirs.count() <= 1, "{role} holds several of {user}");
        }
    }

    /// All but those of users who were erased.
    fn kept(&self, documents: &[RawDocumentBuf]) -> Vec<RawDocumentBuf> {
        let is_kept = |stored: &&RawDocumentBuf| {
            let user = document::user_id(stored);
            self.erased
                .iter()
                .all(|(erased, _)| user != Some(erased.as_str()))
        };
        documents.iter().filter(is_kept).cloned().collect()
    }

    pub async fn insert(&self, role: Role, documents: &[RawDocumentBuf]) {
        let outcomes = self.stores[&role].insert("internal_users", documents).await;
        assert!(
            outcomes
                .unwrap()
                .iter()
                .all(|outcome| *outcome == Inserted::Stored)
        );
    }

    async fn records(&self) -> Vec<RawDocumentBuf> {
        let audit = Role::EvaluationAudit;
        let intents = self.all(audit, collection::MIGRATION_INTENTS).await;
        with_announced(
            self.all(audit, collection::MIGRATION_RECORDS).await,
            &intents,
        )
    }

    pub async fn users_in(&self, role: Role) -> Vec<RawDocumentBuf> {
        self.all(role, role.users().unwrap()).await
    }

    async fn all(&self, role: Role, collection: &str) -> Vec<RawDocumentBuf> {
        let mut all = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let find = Find::new(Query::All).after(after.take());
            let page = self.stores[&role].find(collection, &find).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = Some(Cursor::after(last));
            all.extend(page);
        }
    }
}

/// User `n` as tierkeep wrote them into temp.
pub fn staged(n: u32, version: i64, at: DateTime) -> RawDocumentBuf {
    native_user(n, version)
        .dated(at)
        .content(content(n, version))
        .build()
}

/// The content of user `n` at a version.
pub fn content(n: u32, version: i64) -> RawDocumentBuf {
    rawdoc! { "n": i64::from(n), "a.b": { "$odd": version }, "list": [1, 2.0, "three"] }
}

/// The form that main and srie hold.
pub fn moved(staged: &RawDocumentBuf) -> RawDocumentBuf {
    main_form(staged, &Digest::of(staged))
}

fn scan_cache(stored: &RawDocumentBuf) -> RawDocumentBuf {
    stored.get_document("scan_cache").unwrap().to_owned()
}

fn pending_record(staged: &RawDocumentBuf, at: DateTime) -> RawDocumentBuf {
    let user = UserId::parse(document::user_id(staged).unwrap()).unwrap();
    let version = document::version(staged).unwrap();
    let item = Item {
        record: Record::id_of(&user, version, at),
        digest: Digest::of(staged),
        size: staged.as_bytes().len().try_into().unwrap(),
        user,
        version,
        original: None,
    };
    Move::of(&item).pending("a run that was cut off", at)
}
