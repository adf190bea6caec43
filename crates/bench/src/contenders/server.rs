//! The limits and the predecessor's algorithm on MongoDB, with only the driver.

use anyhow::{Context, Result};
use bson::raw::RawDocumentBuf;
use bson::{Document, doc};
use mongodb::Collection;
use mongodb::options::{Acknowledgment, CollectionOptions, ReadConcern, WriteConcern};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tokio::task::JoinSet;

use super::{BATCH, due_before};
use crate::place::{Place, USERS};

/// How many batches the limit has at work at once.
const IN_FLIGHT: usize = 4;

fn acknowledged(place: &Place, role: Role) -> Result<Collection<RawDocumentBuf>> {
    let options = CollectionOptions::builder()
        .write_concern(
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .build(),
        )
        .read_concern(ReadConcern::majority())
        .build();
    Ok(place
        .database(role)?
        .collection_with_options(USERS, options))
}

/// The filter of what is due, and its order.
fn due() -> (Document, Document) {
    let filter = doc! { "metadata.staged_at": { "$lte": due_before() } };
    (filter, doc! { "metadata.staged_at": 1, "_id": 1 })
}

/// Plain inserts to both, four batches in flight, then one delete by age.
pub(super) async fn limit(place: &Place) -> Result<()> {
    let temp = acknowledged(place, Role::RaseenTempUser)?;
    let srie = acknowledged(place, Role::SrieMainUser)?;
    let main = acknowledged(place, Role::RaseenMainUser)?;
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
    delete_by_age(place).await
}

/// The server copies what is due to both by itself, then one delete by age.
pub(super) async fn merge(place: &Place) -> Result<()> {
    let temp = acknowledged(place, Role::RaseenTempUser)?;
    let copied = async |role| -> Result<()> {
        let into = doc! { "db": place.database(role)?.name(), "coll": USERS };
        let merge =
            doc! { "into": into, "on": "_id", "whenMatched": "fail", "whenNotMatched": "insert" };
        let pipeline = [doc! { "$match": due().0 }, doc! { "$merge": merge }];
        let mut cursor = temp.aggregate(pipeline).await?;
        while cursor.advance().await? {}
        Ok(())
    };
    let (srie, main) = tokio::join!(copied(Role::SrieMainUser), copied(Role::RaseenMainUser));
    srie?;
    main?;
    delete_by_age(place).await
}

/// Deletes everything that is due from temp with one statement.
pub(super) async fn delete_by_age(place: &Place) -> Result<()> {
    let temp = acknowledged(place, Role::RaseenTempUser)?;
    temp.delete_many(due().0).await?;
    Ok(())
}

/// Reads each document, inserts it into main, inserts it into srie, deletes it, with a record before and after.
pub(super) async fn predecessor(place: &Place) -> Result<()> {
    let temp = acknowledged(place, Role::RaseenTempUser)?;
    let srie = acknowledged(place, Role::SrieMainUser)?;
    let main = acknowledged(place, Role::RaseenMainUser)?;
    let audit = place.database(Role::EvaluationAudit)?;
    let records: Collection<Document> = audit.collection("migration_records");
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
