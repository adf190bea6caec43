//! Migration records: one for each (user, version).

use bson::raw::{RawBson, RawDocument, RawDocumentBuf, cstr};
use bson::{Bson, DateTime, Document, doc, oid::ObjectId};

use super::item::Item;
use crate::db::Role;
use crate::user::UserId;
use crate::version::Version;

/// The names of a record's fields.
pub mod record_field {
    /// The record's key, equal to `_id`.
    pub const MIGRATION_ID: &str = "migration_id";
    /// Whose document moves.
    pub const USER_ID: &str = "user_id";
    /// When the move completed, else when it was last tried.
    pub const MIGRATION_DATE: &str = "migration_date";
    /// See [`super::Status`].
    pub const STATUS: &str = "status";
    /// Bytes of BSON.
    pub const DATA_SIZE: &str = "data_size";
    /// Failed attempts so far.
    pub const RETRY_COUNT: &str = "retry_count";
    /// How often a database refused the document for a reason that is not known to be the document's; missing at first.
    pub const REFUSALS: &str = "refusals";
    /// The version that moves.
    pub const VERSION: &str = "version";
    /// The run that last worked on it.
    pub const RUN_ID: &str = "run_id";
    /// When the move was first tried.
    pub const STARTED_AT: &str = "started_at";
    /// When it completed or failed.
    pub const FINISHED_AT: &str = "finished_at";
    /// Not before this time is it tried again.
    pub const NEXT_ATTEMPT_AT: &str = "next_attempt_at";
    /// Why the last attempt failed.
    pub const ERROR: &str = "error";
    /// The fingerprint of the document that another program wrote, where it moves without having been adopted.
    pub const ADOPTED_FROM: &str = "adopted_from";
}

/// The status of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// The move is under way or waits for its next attempt.
    Pending,
    /// The document is in main and srie and was removed from temp, or a newer one took its place there.
    Completed,
    /// The retries are used up; the document stays in temp.
    Failed,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Completed, Self::Failed];

    /// The text as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// The status with this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// What a record says of the move that it is about, whatever becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// The `_id` of its record.
    pub record: ObjectId,
    /// Whose document.
    pub user: String,
    /// Which version.
    pub version: Version,
    /// The document's size in temp, in bytes of BSON.
    pub size: u64,
    /// The fingerprint of what another program wrote and moves without having been adopted.
    pub adopted_from: Option<String>,
}

impl Move {
    /// The move of this document.
    pub fn of(item: &Item) -> Self {
        let original = item.original.as_ref();
        Self {
            record: item.record,
            user: item.user.to_string(),
            version: item.version,
            size: item.size,
            adopted_from: original.map(|it| it.fingerprint.clone()),
        }
    }

    /// Its record, pending, as it is stored.
    pub fn pending(&self, run_id: &str, started_at: DateTime) -> RawDocumentBuf {
        self.record(Status::Pending, run_id, started_at, None)
    }

    /// Its record, completed, as it is stored.
    pub fn completed(&self, run_id: &str, started_at: DateTime, now: DateTime) -> RawDocumentBuf {
        self.record(Status::Completed, run_id, started_at, Some(now))
    }

    fn record(
        &self,
        status: Status,
        run_id: &str,
        started_at: DateTime,
        finished_at: Option<DateTime>,
    ) -> RawDocumentBuf {
        let size = i64::try_from(self.size).unwrap_or(i64::MAX);
        let mut record = RawDocumentBuf::new();
        record.append(cstr!("_id"), self.record);
        record.append(cstr!("migration_id"), self.record);
        record.append(cstr!("user_id"), self.user.as_str());
        record.append(cstr!("source_db"), Role::RaseenTempUser.name());
        record.append(cstr!("target_db"), Role::RaseenMainUser.name());
        record.append(cstr!("backup_db"), Role::SrieMainUser.name());
        record.append(cstr!("migration_date"), finished_at.unwrap_or(started_at));
        record.append(cstr!("status"), status.as_str());
        record.append(cstr!("data_size"), size);
        record.append(cstr!("retry_count"), 0_i32);
        record.append(cstr!("version"), self.version.get());
        record.append(cstr!("run_id"), run_id);
        record.append(cstr!("started_at"), started_at);
        let finished = finished_at.map_or(RawBson::Null, RawBson::DateTime);
        record.append(cstr!("finished_at"), finished);
        record.append(cstr!("next_attempt_at"), RawBson::Null);
        record.append(cstr!("error"), RawBson::Null);
        if let Some(fingerprint) = &self.adopted_from {
            record.append(cstr!("adopted_from"), fingerprint.as_str());
        }
        record
    }
}

/// What planning needs to know of a record that exists.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// `_id`.
    pub id: ObjectId,
    /// Whose document.
    pub user: String,
    /// Which version.
    pub version: Version,
    /// How far it is.
    pub status: Status,
    /// Failed attempts so far.
    pub retry_count: i32,
    /// Attempts so far that cost no retry.
    pub refusals: i32,
    /// Not before this time is it tried again.
    pub next_attempt_at: Option<DateTime>,
    /// The fingerprint of what another program wrote and moves without having been adopted.
    pub adopted_from: Option<String>,
}

impl Record {
    /// The `_id` of the one record of this user and version.
    ///
    /// It follows from the document alone, so every attempt of every mover names the same record without
    /// asking. The first four bytes are the second in which the document entered temp, as in any object id;
    /// the rest is a hash.
    pub fn id_of(user: &UserId, version: Version, staged_at: DateTime) -> ObjectId {
        let seconds = staged_at.timestamp_millis().div_euclid(1_000);
        let seconds = u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
        let hash = blake3::hash(format!("{user}/{version}").as_bytes());
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&seconds.to_be_bytes());
        bytes[4..].copy_from_slice(&hash.as_bytes()[..8]);
        ObjectId::from_bytes(bytes)
    }

    /// Reads a stored record; `None` for what is none.
    pub fn read(document: &RawDocument) -> Option<Self> {
        Some(Self {
            id: document.get_object_id("_id").ok()?,
            user: document.get_str(record_field::USER_ID).ok()?.to_owned(),
            version: Version::new(document.get_i64(record_field::VERSION).ok()?)?,
            status: Status::parse(document.get_str(record_field::STATUS).ok()?)?,
            retry_count: document.get_i32(record_field::RETRY_COUNT).ok()?,
            refusals: document.get_i32(record_field::REFUSALS).unwrap_or(0),
            next_attempt_at: document.get_datetime(record_field::NEXT_ATTEMPT_AT).ok(),
            adopted_from: document
                .get_str(record_field::ADOPTED_FROM)
                .ok()
                .map(str::to_owned),
        })
    }

    /// Whether it is the record of this item, and not of another document that moves under the same version.
    pub fn is_of(&self, item: &Item) -> bool {
        let original = item.original.as_ref();
        original.is_none_or(|it| self.adopted_from.as_ref() == Some(&it.fingerprint))
    }

    /// The fields that say that a move is complete, in order of their names.
    pub fn completed(run_id: &str, now: DateTime) -> Document {
        doc! {
            record_field::ERROR: Bson::Null,
            record_field::FINISHED_AT: now,
            record_field::MIGRATION_DATE: now,
            record_field::NEXT_ATTEMPT_AT: Bson::Null,
            record_field::RUN_ID: run_id,
            record_field::STATUS: Status::Completed.as_str(),
        }
    }

    /// The fields that give a failed move all its retries again; why it failed stays until it is tried.
    pub fn tried_again() -> Document {
        doc! {
            record_field::STATUS: Status::Pending.as_str(),
            record_field::RETRY_COUNT: 0_i32,
            record_field::REFUSALS: 0_i32,
            record_field::NEXT_ATTEMPT_AT: Bson::Null,
            record_field::FINISHED_AT: Bson::Null,
        }
    }
}
