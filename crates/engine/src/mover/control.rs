//! What an operator tells the mover: pause, resume, try again what has failed.

use std::sync::Arc;

use bson::{Bson, DateTime, doc};
use serde::Serialize;
use tierkeep_core::bson;
use tierkeep_core::db::{RaseenTempUser, UserDatabase, collection};
use tierkeep_core::document::field;
use tierkeep_core::mover::{Record, Status, record_field};
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::user::UserId;
use tracing::info;

use crate::alerts::{Alert, AlertKind, Alerts};
use crate::databases::pages::Pages;
use crate::databases::retry::repeating;
use crate::mover::MigrationService;
use crate::mover::pause;

/// Whose failed moves are tried again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failed {
    /// Those of all users.
    All,
    /// Those of this user.
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
    /// Idempotent. Dry runs, reads and writes of users continue.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; then it may be paused or not.
    pub async fn pause(&self) -> Result<bool, StoreError> {
        self.set_paused(true).await
    }

    /// Resumes the mover everywhere. Answers whether it was paused before.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; then it may be paused or not.
    pub async fn resume(&self) -> Result<bool, StoreError> {
        self.set_paused(false).await
    }

    /// Whether the movement is paused everywhere.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn is_paused(&self) -> Result<bool, StoreError> {
        pause::is_paused(&self.engine).await
    }

    /// Since when the movement has been paused everywhere, by the clock of `evaluation_audit`; `None` where it is not.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn paused_since(&self) -> Result<Option<DateTime>, StoreError> {
        pause::paused_since(&self.engine).await
    }

    async fn set_paused(&self, paused: bool) -> Result<bool, StoreError> {
        let is_change = pause::set_paused(&self.engine, paused).await?;
        if is_change {
            info!(
                user_type = "internal",
                paused, "the mover was paused or resumed"
            );
        }
        Ok(is_change)
    }

    /// An id for a run that is announced before it begins.
    pub fn fresh_run_id(&self) -> String {
        self.engine.randomness().id()
    }

    /// The alerts of these databases.
    pub fn alerts(&self) -> Alerts {
        Alerts::new(Arc::clone(&self.engine))
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
    /// Each record is left once it is ready, so a repeat after an error continues where this one ended.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` or `raseen_temp_user` did not answer.
    pub async fn retry(&self, which: &Failed) -> Result<Retried, StoreError> {
        let mut failed = doc! { record_field::STATUS: Status::Failed.as_str() };
        if let Failed::Of(user) = which {
            failed.insert(record_field::USER_ID, user.as_str());
        }
        let store = self.engine.databases.audit_db().store();
        let mut retried = Retried::default();
        let find = Find::new(Query::Equal(failed));
        let mut pages = Pages::new(store.as_ref(), collection::MIGRATION_RECORDS, find);
        while let Some(page) = pages.next().await? {
            for record in page.iter().filter_map(|record| Record::read(record)) {
                retried.retried += u64::from(self.retry_one(&record).await?);
            }
        }
        Ok(retried)
    }

    /// The document first: after a crash between the two the record is still failed, and found again.
    async fn retry_one(&self, record: &Record) -> Result<bool, StoreError> {
        let temp = self.engine.databases.raseen_temp_db().store();
        let ids = [Bson::String(record.user.clone())];
        let when = doc! {
            "metadata.version": record.version.get(),
            format!("{}.{}", field::METADATA, field::BACKUP_STATUS): "failed",
        };
        let set = doc! { format!("{}.{}", field::METADATA, field::BACKUP_STATUS): "pending" };
        repeating(|| temp.amend(RaseenTempUser::USERS, &ids, &when, &set)).await?;
        let ids = [Bson::ObjectId(record.id)];
        let when = doc! { record_field::STATUS: Status::Failed.as_str() };
        let audit = self.engine.databases.audit_db().store();
        let set = Record::tried_again();
        let amended =
            repeating(|| audit.amend(collection::MIGRATION_RECORDS, &ids, &when, &set)).await?;
        Alerts::new(Arc::clone(&self.engine))
            .resolve(AlertKind::MigrationFailed, &record.user)
            .await?;
        Ok(amended > 0)
    }
}
