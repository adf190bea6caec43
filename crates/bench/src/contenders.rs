//! The ways to move documents that are compared, on MongoDB.
//!
//! All of them read, write and delete on the same collections with the same indexes, and ask a majority to
//! acknowledge with its journal.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, Document, doc};
use mongodb::options::{Acknowledgment, ReadConcern, WriteConcern};
use mongodb::{Client, Collection};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::document;
use tierkeep_core::mover::{Verify, main_form};
use tierkeep_core::store::{Cursor, Fence, Find, Query};
use tierkeep_engine::{MigrationService, MoverSettings, NoProgress, RunOptions};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::place::{MachineClock, Place, USERS};
use tierkeep_core::clock::Clock as _;

/// A way to move documents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Contender {
    /// Plain inserts to both, four batches in flight, then one delete by age: nothing guarded, verified or
    /// recorded.
    Limit,
    /// tierkeep as it is by default.
    Full,
    /// tierkeep with `TIERKEEP_VERIFY=version`.
    Version,
    /// One client that sends guarded upserts batch by batch, and deletes by version.
    Upserts,
    /// One document at a time, with its record.
    Predecessor,
}

/// How many documents a batch of the simple contenders has.
const BATCH: usize = 1_000;
const IN_FLIGHT: usize = 4;

impl Contender {
    /// What it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit: plain inserts, delete by age",
            Self::Full => "tierkeep, every stored byte verified",
            Self::Version => "tierkeep, version and digest verified",
            Self::Upserts => "one client, guarded upserts",
            Self::Predecessor => "the predecessor's algorithm",
        }
    }

    /// Moves everything that is due in `place`.
    pub async fn run(self, client: &Client, place: &Place) -> Result<()> {
        match self {
            Self::Limit => limit(client, place).await,
            Self::Full => tierkeep(place, Verify::Full).await,
            Self::Version => tierkeep(place, Verify::Version).await,
            Self::Upserts => upserts(place).await,
            Self::Predecessor => predecessor(client, place).await,
        }
    }
}

fn acknowledged(place: &Place, client: &Client, role: Role) -> Collection<RawDocumentBuf> {
    let options = mongodb::options::CollectionOptions::builder()
        .write_concern(
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .build(),
        )
        .read_concern(ReadConcern::majority())
        .build();
    place
        .database(client, role)
        .collection_with_options(USERS, options)
}

fn due() -> (Document, Document) {
    let before = DateTime::from_millis(MachineClock.now().timestamp_millis() - 86_400_000);
    let filter = doc! { "metadata.staged_at": { "$lte": before } };
    (filter, doc! { "metadata.staged_at": 1, "_id": 1 })
}

async fn limit(client: &Client, place: &Place) -> Result<()> {
    let temp = acknowledged(place, client, Role::RaseenTempUser);
    let srie = acknowledged(place, client, Role::SrieMainUser);
    let main = acknowledged(place, client, Role::RaseenMainUser);
    let (filter, order) = due();
    let batch_size = u32::try_from(BATCH)?;
    let mut cursor = temp
        .find(filter.clone())
        .sort(order)
        .batch_size(batch_size)
        .await?;
    let mut at_work: JoinSet<Result<()>> = JoinSet::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let more = cursor.advance().await?;
        if more {
            batch.push(cursor.current().to_owned());
        }
        if batch.len() >= BATCH || (!more && !batch.is_empty()) {
            if at_work.len() >= IN_FLIGHT {
                at_work
                    .join_next()
                    .await
                    .context("a batch is at work")???;
            }
            let batch = std::mem::take(&mut batch);
            let (srie, main) = (srie.clone(), main.clone());
            at_work.spawn(async move {
                let (one, other) = tokio::join!(
                    srie.insert_many(&batch).ordered(false).into_future(),
                    main.insert_many(&batch).ordered(false).into_future(),
                );
                one?;
                other?;
                Ok(())
            });
        }
        if !more {
            break;
        }
    }
    while let Some(done) = at_work.join_next().await {
        done??;
    }
    temp.delete_many(filter).await?;
    Ok(())
}

async fn tierkeep(place: &Place, verify: Verify) -> Result<()> {
    let settings = MoverSettings {
        verify,
        ..MoverSettings::default()
    };
    let service = MigrationService::new(place.databases.clone(), settings);
    let stop = CancellationToken::new();
    let run = service.migrate_expired_data(RunOptions::default(), &NoProgress, &stop);
    let summary = run.await?;
    ensure!(summary.failed == 0, "{} documents failed", summary.failed);
    Ok(())
}

async fn upserts(place: &Place) -> Result<()> {
    let temp = place.store(Role::RaseenTempUser)?;
    let before = DateTime::from_millis(MachineClock.now().timestamp_millis() - 86_400_000);
    let mut after = None;
    loop {
        let find = Find::new(Query::Due(before))
            .limit(BATCH)
            .after(after.take());
        let page = temp.find(USERS, &find).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(Cursor::after(last));
        let copies: Vec<_> = page
            .iter()
            .map(|document| main_form(document, &Digest::of(document)))
            .collect();
        for role in [Role::SrieMainUser, Role::RaseenMainUser] {
            place.store(role)?.put_newer(USERS, &copies).await?;
        }
        let mut by_version = BTreeMap::new();
        for document in &page {
            let version = document::version(document).context("every document has a version")?;
            let ids: &mut Vec<Bson> = by_version.entry(version).or_default();
            ids.push(document::id(document));
        }
        let fences: Vec<_> = by_version
            .into_iter()
            .map(|(version, ids)| Fence { version, ids })
            .collect();
        temp.delete(USERS, &fences).await?;
    }
}

/// Reads each document, inserts it into main, inserts it into srie, deletes it, with a record before and after.
async fn predecessor(client: &Client, place: &Place) -> Result<()> {
    let temp = acknowledged(place, client, Role::RaseenTempUser);
    let srie = acknowledged(place, client, Role::SrieMainUser);
    let main = acknowledged(place, client, Role::RaseenMainUser);
    let records: Collection<Document> = place
        .database(client, Role::EvaluationAudit)
        .collection("migration_records");
    let (filter, order) = due();
    loop {
        let next = temp.find_one(filter.clone()).sort(order.clone()).await?;
        let Some(document) = next else { return Ok(()) };
        let id = document::id(&document);
        let record = bson::oid::ObjectId::new();
        let size = i64::try_from(document.as_bytes().len())?;
        let pending = doc! {
            "_id": record, "user_id": id.clone(), "status": "pending", "data_size": size, "retry_count": 0,
            "source_db": "raseen_temp_user", "target_db": "raseen_main_user", "backup_db": "srie_main_user",
        };
        records.insert_one(pending).await?;
        main.insert_one(&document).await?;
        srie.insert_one(&document).await?;
        temp.delete_one(doc! { "_id": id }).await?;
        let completed = doc! { "$set": { "status": "completed" } };
        records
            .update_one(doc! { "_id": record }, completed)
            .await?;
    }
}
