//! What an operator tells the mover: pause, resume, try again what has failed.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use serde::Serialize;
use tierkeep_core::bson;
use tierkeep_core::db::{RaseenTempUser, UserDatabase, collection};
use tierkeep_core::document::field;
use tierkeep_core::mover::{Record, Status, record_field};
use tierkeep_core::store::{Cursor, Find, Query, StoreError};
use tierkeep_core::user::UserId;
use tracing::info;

use super::MigrationService;
use crate::alerts::{Alert, AlertKind, Alerts};
use crate::own;
use crate::retry::repeating;
use crate::status::{MOVER, PAUSED};

/// Whose failed moves are tried again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failed {
    /// Everybody's.
    All,
    /// This user's.
    Of(UserId),
}

/// What was made ready to be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Retried {
    /// Failed moves that are pending again.
    pub retried: u64,
}

impl MigrationService {
    /// Stops the movement everywhere: every mover finishes the batches at work and begins no more, whatever
    /// process it runs in, until [`MigrationService::resume`]. Answers whether it was going before.
    ///
    /// Idempotent. Dry runs, reads and writes of users go on.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; then it may be paused or not.
    pub async fn pause(&self) -> Result<bool, StoreError> {
        self.set_paused(true).await
    }

    /// Lets the movement go on everywhere. Answers whether it was paused before.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; then it may be paused or not.
    pub async fn resume(&self) -> Result<bool, StoreError> {
        self.set_paused(false).await
    }

    async fn set_paused(&self, paused: bool) -> Result<bool, StoreError> {
        if repeating(|| self.is_paused()).await? == paused {
            return Ok(false);
        }
        let set = doc! { "kind": MOVER, PAUSED: paused, "since": self.databases.clock().now() };
        self.put_control(MOVER, &set).await?;
        info!(
            user_type = "internal",
            paused, "the movement was paused or resumed"
        );
        Ok(true)
    }

    /// Sets the fields of the control document `id`, which is made where it is missing.
    pub(crate) async fn put_control(&self, id: &str, set: &Document) -> Result<(), StoreError> {
        let store = self.databases.audit_db().store();
        let mut whole = doc! { "_id": id };
        whole.extend(set.clone());
        if !own::make(store.as_ref(), collection::CONTROL, &whole).await? {
            let (ids, always) = ([Bson::String(id.to_owned())], doc! {});
            repeating(|| store.amend(collection::CONTROL, &ids, &always, set)).await?;
        }
        Ok(())
    }

    /// An id for a run that somebody is told of before it begins.
    pub fn fresh_run_id(&self) -> String {
        self.databases.randomness().id()
    }

    /// The alerts of these databases.
    pub fn alerts(&self) -> Alerts {
        Alerts::new(Arc::clone(&self.databases))
    }

    /// The open alerts, at most a page of them.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn open_alerts(&self) -> Result<Vec<Alert>, StoreError> {
        self.alerts().open(&mut None).await
    }

    /// Makes moves that have failed for good ready for the next run, with all their retries: the records are
    /// pending again and the documents' `backup_status` too, at the same version.
    ///
    /// Each record is left once it is ready, so a repeat after an error goes on where this one ended.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` or `raseen_temp_user` did not answer.
    pub async fn retry(&self, which: &Failed) -> Result<Retried, StoreError> {
        let mut failed = doc! { record_field::STATUS: Status::Failed.as_str() };
        if let Failed::Of(user) = which {
            failed.insert(record_field::USER_ID, user.as_str());
        }
        let store = self.databases.audit_db().store();
        let mut after: Option<Cursor> = None;
        let mut retried = Retried::default();
        loop {
            let find = Find::new(Query::Equal(failed.clone())).after(after.take());
            let page = repeating(|| store.find(collection::MIGRATION_RECORDS, &find)).await?;
            let Some(last) = page.last() else {
                return Ok(retried);
            };
            after = Some(Cursor::after(last));
            for record in page.iter().filter_map(|record| Record::read(record)) {
                retried.retried += u64::from(self.retry_one(&record).await?);
            }
        }
    }

    /// The document first: after a crash between the two the record is still failed, and found again.
    async fn retry_one(&self, record: &Record) -> Result<bool, StoreError> {
        let temp = self.databases.raseen_temp_db().store();
        let ids = [Bson::String(record.user.clone())];
        let when = doc! {
            "metadata.version": record.version.get(),
            format!("{}.{}", field::METADATA, field::BACKUP_STATUS): "failed",
        };
        let set = doc! { format!("{}.{}", field::METADATA, field::BACKUP_STATUS): "pending" };
        repeating(|| temp.amend(RaseenTempUser::USERS, &ids, &when, &set)).await?;
        let ids = [Bson::ObjectId(record.id)];
        let when = doc! { record_field::STATUS: Status::Failed.as_str() };
        let audit = self.databases.audit_db().store();
        let set = Record::tried_again();
        let amended =
            repeating(|| audit.amend(collection::MIGRATION_RECORDS, &ids, &when, &set)).await?;
        Alerts::new(Arc::clone(&self.databases))
            .resolve(AlertKind::MigrationFailed, &record.user)
            .await?;
        Ok(amended > 0)
    }
}
