//! A source that is written while it is read: the newest document is gone before it was read, and its replacement is
//! not known yet.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document, Timestamp, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::legacy::Source;
use tierkeep_core::legacy::source::{Change, Changed, Changes, Pages, Result};
use tierkeep_core::store::{Hello, Store};
use tierkeep_engine::{ConnectSettings, ConnectionManager, Engine, MoverSettings, Purpose};
use tierkeep_legacy::{Importer, NoProgress, Options};
use tierkeep_testkit::{ManualClock, MemoryStore};
use tokio_util::sync::CancellationToken;

use super::{LONG_AGO, at, scan};

const SCANS: &str = "external_users";
const PROGRESS: &str = "analysis_progress";

/// A predecessor that, when the scan is read for the first time, has put a newer one in its place.
#[derive(Clone, Debug)]
struct Predecessor {
    held: Arc<Mutex<Held>>,
    external: Arc<MemoryStore>,
}

#[derive(Debug, Default)]
struct Held {
    documents: Vec<(&'static str, Document)>,
    is_replaced: bool,
    /// What is still to be told.
    changes: Vec<i32>,
}

fn scanned(id: i32) -> Document {
    let round = i64::from(id);
    scan(doc! {
        "_id": id, "user_id": "external_octocat", "scan_id": format!("s{id}"),
        "scan_date": at(LONG_AGO + round), "round": round,
    })
}

impl Predecessor {
    fn new(external: &Arc<MemoryStore>) -> Self {
        let progress = doc! {
            "_id": 9, "user_id": "external_octocat", "status": "complete", "current_phase": "done",
            "analysis_id": "a", "created_at": at(LONG_AGO), "updated_at": at(LONG_AGO),
        };
        let held = Held {
            documents: vec![(SCANS, scanned(1)), (PROGRESS, progress)],
            ..Held::default()
        };
        Self {
            held: Arc::new(Mutex::new(held)),
            external: Arc::clone(external),
        }
    }

    fn of(&self, collection: &str, ids: Option<&[Bson]>) -> Vec<RawDocumentBuf> {
        let held = self.held.lock().unwrap();
        let wanted = |it: &&(&str, Document)| {
            it.0 == collection && ids.is_none_or(|ids| ids.contains(&it.1["_id"]))
        };
        let documents = held.documents.iter().filter(wanted);
        documents
            .map(|(_, it)| RawDocumentBuf::try_from(it).unwrap())
            .collect()
    }

    /// The round of the scan of each user that tierkeep holds; every one has a scan.
    fn rounds(&self) -> Vec<i64> {
        let stored = self.external.snapshot(SCANS);
        let round = |user: &RawDocumentBuf| {
            assert_eq!(document::state(user), Some(document::State::Live));
            let scan = user.get_document("scan_cache");
            scan.expect("a user without the scan")
                .get_i64("round")
                .unwrap()
        };
        stored.iter().map(round).collect()
    }
}

struct Once(Option<Vec<RawDocumentBuf>>);

#[async_trait]
impl Pages for Once {
    async fn next(&mut self) -> Result<Option<Vec<RawDocumentBuf>>> {
        Ok(self.0.take())
    }
}

#[async_trait]
impl Changes for Predecessor {
    async fn next(&mut self) -> Result<Vec<Change>> {
        self.rounds();
        let mut held = self.held.lock().unwrap();
        if held.changes.is_empty() {
            return Ok(Vec::new());
        }
        // One at a time, so that each is acted upon before the next is known.
        let of = Changed::Document {
            collection: SCANS.to_owned(),
            id: held.changes.remove(0).into(),
        };
        Ok(vec![Change { of, at: None }])
    }

    fn token(&self) -> Option<Bson> {
        None
    }
}

#[async_trait]
impl Source for Predecessor {
    fn name(&self) -> &'static str {
        "git_Evaluator"
    }

    async fn hello(&self) -> Result<Hello> {
        Ok(Hello {
            database: self.name().to_owned(),
            ..MemoryStore::new(Role::EvaluationAudit, "other", Arc::new(clock()))
                .hello()
                .await
                .unwrap()
        })
    }

    async fn cluster_time(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    async fn collections(&self) -> Result<Vec<String>> {
        Ok(vec![SCANS.to_owned(), PROGRESS.to_owned()])
    }

    async fn count(&self, collection: &str) -> Result<u64> {
        Ok(u64::try_from(self.of(collection, None).len()).unwrap())
    }

    async fn estimate(&self, collection: &str) -> Result<u64> {
        self.count(collection).await
    }

    async fn scan(
        &self,
        collection: &str,
        _: Option<&[&str]>,
        _: Option<Timestamp>,
    ) -> Result<Box<dyn Pages>> {
        Ok(Box::new(Once(Some(self.of(collection, None)))))
    }

    async fn fetch(
        &self,
        collection: &str,
        ids: &[Bson],
        fields: Option<&[&str]>,
        _: Option<Timestamp>,
    ) -> Result<Vec<RawDocumentBuf>> {
        let mut held = self.held.lock().unwrap();
        if fields.is_none() && collection == SCANS && !held.is_replaced {
            held.is_replaced = true;
            held.documents.push((SCANS, scanned(2)));
            held.documents.retain(|(_, it)| it["_id"] != Bson::from(1));
            held.changes = vec![2, 1];
        }
        drop(held);
        Ok(self.of(collection, Some(ids)))
    }

    async fn watch(&self, _: Option<&Bson>) -> Result<Box<dyn Changes>> {
        Ok(Box::new(self.clone()))
    }
}

fn clock() -> ManualClock {
    ManualClock::new(bson::DateTime::from_millis((LONG_AGO + 1_000_000) * 1_000))
}

#[rstest]
#[case::while_it_is_copied(false)]
#[case::after_an_earlier_import(true)]
#[tokio::test]
async fn who_is_followed_is_never_less_than_before(#[case] imported: bool) {
    let clock = Arc::new(clock());
    let stores = Role::ALL.map(|role| Arc::new(MemoryStore::new(role, "one", clock.clone())));
    let external = stores.iter().find(|it| it.role() == Role::ExternalUsers);
    let predecessor = Predecessor::new(external.unwrap());
    let stores = stores.map(|store| store as Arc<dyn Store>);
    let engine = Engine::new(ConnectionManager::new(stores, clock).unwrap());
    let once = ConnectSettings {
        retries: 0,
        backoff: Duration::ZERO,
    };
    engine.databases().open(once, Purpose::Work).await.unwrap();
    let importer = Importer::new(
        vec![Arc::new(predecessor.clone())],
        Arc::new(engine),
        MoverSettings::default(),
        Options::default(),
    );
    let stop = CancellationToken::new();
    if imported {
        predecessor.held.lock().unwrap().is_replaced = true;
        importer.run(&NoProgress, &stop).await.unwrap();
        assert_eq!(predecessor.rounds(), [1]);
        predecessor.held.lock().unwrap().is_replaced = false;
    }
    let idle = Some(Duration::ZERO);
    let followed = importer.follow(idle, &NoProgress, &stop).await.unwrap();
    assert_eq!(predecessor.rounds(), [2]);
    let (report, _, followed) = followed;
    assert_eq!((report.imported, report.skipped), (2, 0), "{report:?}");
    assert_eq!(followed.changes, 2);
}
