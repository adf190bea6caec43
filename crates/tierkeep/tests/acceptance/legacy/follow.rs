//! Following the predecessor while it keeps running.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document, doc};
use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::store::{Find, Query, Store};

use super::super::kill::{full, was_killed};
use super::super::program::{Backend, Deployment};
use super::{LONG_AGO, Predecessor, SUBJECT, at, scan};
use super::{outcomes, standalone::Standalone};

/// How long changes may take to arrive.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often is looked whether they have.
const INTERVAL: Duration = Duration::from_millis(20);
/// How many users there are.
const USERS: u64 = 40;

/// How many changes there are.
fn changes() -> u64 {
    if full() { 2_000 } else { 200 }
}

/// Numbers without any order, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A predecessor at work: what it writes of a user carries a round that only rises.
struct AtWork {
    source: Predecessor,
    numbers: Numbers,
    round: i64,
    /// The round of each user's newest scan.
    newest: BTreeMap<String, i64>,
}

/// The id of user `n`, the collection of their scans, and what these hold beside the usual.
fn user(n: u64) -> (String, &'static str, Document) {
    let subject = format!("{n:024x}");
    match n % 3 {
        0 => (
            format!("external_user{n}"),
            "external_scan_cache",
            doc! { "user_id": format!("user{n}"), "username": format!("User{n}") },
        ),
        1 => (
            format!("internal_{subject}"),
            "internal_users",
            doc! { "user_id": format!("internal_{subject}") },
        ),
        // Known by their account.
        _ => (
            format!("internal_{subject}"),
            "internal_scan_cache",
            doc! { "user_id": format!("p{n}"), "user_type": "internal", "username": format!("User{n}") },
        ),
    }
}

impl AtWork {
    async fn begin() -> Self {
        let mut one = Self {
            source: Predecessor::new().await,
            numbers: Numbers(0x2545_f491_4f6c_dd1d),
            round: 0,
            newest: BTreeMap::new(),
        };
        for n in 0..USERS {
            let account = doc! {
                "_id": ObjectId::parse_str(format!("{n:024x}")).unwrap(), "github_username": format!("User{n}"),
                "github_token": "gho_first",
            };
            one.source.put("users", account).await;
            one.write_scan(n).await;
        }
        one
    }

    fn next_round(&mut self, n: u64) -> i64 {
        self.round += 1;
        self.newest.insert(user(n).0, self.round);
        self.round
    }

    async fn write_scan(&mut self, n: u64) {
        let round = self.next_round(n);
        let (_, collection, fields) = user(n);
        let mut document = scan(doc! {
            "scan_id": format!("s{round}"), "scan_date": at(LONG_AGO + round), "round": round, "n": i64::try_from(n).unwrap(),
        });
        document.extend(fields);
        self.source.put(collection, document).await;
    }

    /// One change to a random user.
    async fn change(&mut self) {
        let n = self.numbers.below(USERS);
        let (_, collection, fields) = user(n);
        let database = self.source.database.clone();
        let scans = database.collection::<Document>(collection);
        let number = i64::try_from(n).unwrap();
        match self.numbers.below(10) {
            0..4 => {
                let before = self.newest[&user(n).0];
                let round = self.next_round(n);
                let set = doc! { "round": round, "scan_date": at(LONG_AGO + round) };
                let newest = doc! { "n": number, "round": before };
                let done = scans.update_one(newest, doc! { "$set": set }).await;
                assert_eq!(done.unwrap().modified_count, 1);
            }
            4..6 => self.write_scan(n).await,
            6 => {
                self.round += 1;
                let mut set = doc! {
                    "status": "complete", "current_phase": "done", "analysis_id": "a",
                    "created_at": at(LONG_AGO), "updated_at": at(LONG_AGO + self.round), "round": self.round,
                };
                set.extend(fields);
                let progress = database.collection::<Document>("analysis_progress");
                let one = progress.update_one(doc! { "n": number }, doc! { "$set": set });
                one.upsert(true).await.unwrap();
            }
            7 => {
                let older = doc! { "n": number, "round": { "$lt": self.newest[&user(n).0] } };
                scans.delete_one(older).await.unwrap();
            }
            8 => {
                self.round += 1;
                let set = doc! { "round": self.round, "updated_at": at(LONG_AGO + self.round) };
                let records = database.collection::<Document>("hr_candidates");
                let id = doc! { "_id": format!("c{n}") };
                let one = records.update_one(id, doc! { "$set": set });
                one.upsert(true).await.unwrap();
            }
            _ => {
                let accounts = database.collection::<Document>("users");
                let id = doc! { "github_username": format!("User{n}") };
                let set = doc! { "github_token": format!("gho_{}", self.round) };
                accounts.update_one(id, doc! { "$set": set }).await.unwrap();
            }
        }
    }

    async fn changes(&mut self, count: u64) {
        for _ in 0..count {
            self.change().await;
        }
    }
}

/// Watches users while they are followed: no user's content or version may go back.
struct Watcher {
    /// Temp first: while a user is imported again, the document only goes from main to temp.
    stores: Vec<(Role, Arc<dyn Store>)>,
    seen: BTreeMap<String, (i64, i64)>,
}

impl Watcher {
    async fn of(deployment: &Deployment) -> Self {
        let roles = [
            Role::RaseenTempUser,
            Role::RaseenMainUser,
            Role::ExternalUsers,
        ];
        let mut stores = Vec::new();
        for role in roles {
            stores.push((role, deployment.open(role).await));
        }
        Self {
            stores,
            seen: BTreeMap::new(),
        }
    }

    async fn look(&mut self) {
        let mut now: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for (role, store) in &self.stores {
            let find = Find::new(Query::All);
            for one in store.find(role.users().unwrap(), &find).await.unwrap() {
                if document::state(&one) == Some(document::State::Live) {
                    let user = document::user_id(&one).unwrap().to_owned();
                    now.entry(user).or_insert_with(|| standing(&one));
                }
            }
        }
        for (user, (version, round)) in now {
            let before = self.seen.insert(user.clone(), (version, round));
            if let Some((old_version, old_round)) = before {
                assert!(version >= old_version, "{user}: {old_version}, {version}");
                assert!(round >= old_round, "{user}: {old_round}, {round}");
                assert!(
                    version > old_version || round == old_round,
                    "{user}: {round} at {version} again"
                );
            }
        }
    }

    /// Waits until the newest scan of every user is stored.
    async fn until_it_has(&mut self, newest: &BTreeMap<String, i64>) {
        let mut waited = Duration::ZERO;
        loop {
            self.look().await;
            let seen = |(user, round): (&String, &i64)| {
                self.seen.get(user).is_some_and(|(_, seen)| seen == round)
            };
            if newest.iter().all(seen) {
                return;
            }
            assert!(waited < PATIENCE, "{newest:?}: {:?}", self.seen);
            tokio::time::sleep(INTERVAL).await;
            waited += INTERVAL;
        }
    }
}

/// A document's version, and the round of its scan.
fn standing(document: &RawDocumentBuf) -> (i64, i64) {
    let scan = document.get_document("scan_cache").unwrap();
    (
        document::version(document).unwrap().get(),
        scan.get_i64("round").unwrap(),
    )
}

fn follow(deployment: &Deployment) -> Child {
    let mut command = deployment.command(&["import-legacy", "--follow", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Ctrl-C; answers what it says at its end.
fn interrupted(following: Child) -> Value {
    kill_process(Pid::from_child(&following), Signal::INT).unwrap();
    let ended = following.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    serde_json::from_slice(&ended.stdout).unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn changes_during_and_after_the_copy_arrive_in_order_across_a_restart(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut predecessor = AtWork::begin().await;
    let deployment = predecessor.source.deployment(backend);
    assert!(deployment.run(&["init"]).status.success());
    let mut watcher = Watcher::of(&deployment).await;
    let fifth = changes() / 5;

    let mut following = follow(&deployment);
    predecessor.changes(fifth).await;
    watcher.until_it_has(&predecessor.newest).await;
    predecessor.changes(fifth).await;
    following.kill().unwrap();
    assert!(was_killed(following.wait().unwrap()));
    watcher.look().await;
    // No process follows these changes.
    predecessor.changes(fifth).await;

    let following = follow(&deployment);
    predecessor.changes(fifth).await;
    watcher.until_it_has(&predecessor.newest).await;
    // It has read everything: from now on it gets every change.
    for _ in 0..fifth {
        predecessor.change().await;
        watcher.look().await;
    }
    watcher.until_it_has(&predecessor.newest).await;
    let report = interrupted(following);
    assert!(
        report["followed"]["changes"].as_u64() >= Some(fifth / 2),
        "{report}"
    );

    // Records and progress may have come after the last scan.
    let last = deployment.json(&["import-legacy", "--follow", "--until-idle", "1s", "--json"]);
    assert_eq!(last["followed"]["lag"], 0, "{last}");
    assert_eq!(last["refused"], 0, "{last}");
    watcher.look().await;
    let found = deployment.json(&["verify-import", "--json"]);
    assert_eq!(found["checked"], found["matched"], "{found}");
    assert!(found["checked"].as_u64() > Some(USERS), "{found}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_comes_later_gives_documents_their_user(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let fields = doc! { "user_id": "octocat", "user_type": "internal", "username": "octocat", "round": 7_i64 };
    let source = Predecessor::with(vec![("internal_users", scan(fields))]).await;
    let deployment = source.deployment(backend);
    assert!(deployment.run(&["init"]).status.success());
    let following = follow(&deployment);
    let account =
        doc! { "_id": ObjectId::parse_str(SUBJECT).unwrap(), "github_username": "OctoCat" };
    source.put("users", account).await;
    let mut watcher = Watcher::of(&deployment).await;
    let internal = BTreeMap::from([(format!("internal_{SUBJECT}"), 7)]);
    watcher.until_it_has(&internal).await;
    interrupted(following);
    let found = deployment.json(&["verify-import", "--json"]);
    assert_eq!(
        (&found["matched"], &found["refused"]),
        (&1.into(), &0.into())
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_in_tierkeep_does_not_follow_the_predecessor(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let documents = (1..=2).map(|n| {
        let fields = doc! { "_id": n, "user_id": format!("external_user{n}"), "round": 1_i64 };
        ("external_users", scan(fields))
    });
    let source = Predecessor::with(documents.collect()).await;
    let deployment = source.deployment(backend);
    super::import(&deployment, &[]);
    let store = deployment.open(Role::ExternalUsers).await;
    let set = doc! { "metadata.version": 2_i64, "scan_cache.round": 5_i64 };
    let mine = [Bson::from("external_user1")];
    let changed = store.amend("external_users", &mine, &doc! {}, &set).await;
    assert_eq!(changed.unwrap(), 1);
    let following = follow(&deployment);
    let scans = source.database.collection::<Document>("external_users");
    let newer = doc! { "$set": { "round": 9_i64, "scan_date": at(LONG_AGO + 9) } };
    scans.update_many(doc! {}, newer).await.unwrap();
    let mut watcher = Watcher::of(&deployment).await;
    let other = BTreeMap::from([("external_user2".to_owned(), 9)]);
    watcher.until_it_has(&other).await;
    assert_eq!(watcher.seen["external_user1"], (2, 5));
    interrupted(following);
    let found = deployment.json(&["verify-import", "--json"]);
    assert_eq!(
        (&found["matched"], &found["changed"]),
        (&1.into(), &1.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_replica_set_an_import_works_and_following_says_what_it_needs() {
    let server = Standalone::start().await;
    let source = Predecessor::at(&server.url()).await;
    source.put("external_users", scan(doc! {})).await;
    let deployment = source.deployment(Backend::Sqlite);
    let ran = deployment.run(&["import-legacy", "--follow"]);
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("replica set"), "{said}");
    assert_eq!(outcomes(&super::import(&deployment, &[])), [1, 0, 0, 0]);
    let found = deployment.json(&["verify-import", "--json"]);
    assert_eq!(found["matched"], 1, "{found}");
}
