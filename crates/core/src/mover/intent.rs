//! The intent of a batch: which moves are about to begin, written before anything is copied.
//!
//! It stands in place of a pending record for each document. Once all of its moves have a record of their own, completed
//! or pending, it is removed.

use bson::raw::{RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, cstr};
use bson::{DateTime, rawdoc};

use super::item::Item;
use super::record::{Move, record_field};
use crate::version::Version;

/// The names of an intent's fields.
mod field {
    pub(super) const METADATA: &str = "metadata";
    pub(super) const BEGUN_AT: &str = "begun_at";
    pub(super) const BEAT: &str = "beat";
    pub(super) const MOVES: &str = "moves";
    pub(super) const RECORD: &str = "record";
    pub(super) const ALSO: &str = "also";
}

/// What is known of an intent without its moves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IntentHead {
    /// Names the batch; `_id`.
    pub id: String,
    /// The run that wrote it.
    pub run_id: String,
    /// When it was written.
    pub begun_at: DateTime,
    /// Raised while the batch is at work.
    pub beat: i64,
    /// How many moves it names that have no record yet.
    pub moves: u64,
}

impl IntentHead {
    /// The field to raise while the batch is at work.
    pub const BEAT: &str = "metadata.beat";

    /// Reads the head of a stored intent; `None` for what is none.
    pub fn read(document: &RawDocument) -> Option<Self> {
        let metadata = document.get_document(field::METADATA).ok()?;
        Some(Self {
            id: document.get_str("_id").ok()?.to_owned(),
            run_id: metadata.get_str(record_field::RUN_ID).ok()?.to_owned(),
            begun_at: metadata.get_datetime(field::BEGUN_AT).ok()?,
            beat: metadata.get_i64(field::BEAT).ok()?,
            moves: u64::try_from(metadata.get_i64(field::MOVES).ok()?).ok()?,
        })
    }
}

/// The moves of one batch that have no record yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intent {
    /// Names the batch; `_id`.
    pub id: String,
    /// The run that wrote it.
    pub run_id: String,
    /// When it was written.
    pub begun_at: DateTime,
    /// The moves, in the order of the batch.
    pub moves: Vec<Move>,
    /// The users of the batch whose moves have records already.
    pub also: Vec<String>,
}

impl Intent {
    /// The intent to move these. What another program wrote gets a record of its own before it is copied.
    pub fn of(id: &str, run_id: &str, begun_at: DateTime, items: &[&Item]) -> Self {
        let (foreign, own): (Vec<&Item>, Vec<&Item>) =
            items.iter().partition(|item| item.original.is_some());
        Self {
            id: id.to_owned(),
            run_id: run_id.to_owned(),
            begun_at,
            moves: own.into_iter().map(Move::of).collect(),
            also: foreign.iter().map(|item| item.user.to_string()).collect(),
        }
    }

    /// As it is stored.
    pub fn document(&self) -> RawDocumentBuf {
        let moves = self.moves.iter().map(|it| {
            let size = i64::try_from(it.size).unwrap_or(i64::MAX);
            let mut one = RawDocumentBuf::new();
            one.append(cstr!("record"), it.record);
            one.append(cstr!("user_id"), it.user.as_str());
            one.append(cstr!("version"), it.version.get());
            one.append(cstr!("data_size"), size);
            RawBson::Document(one)
        });
        let mut intent = RawDocumentBuf::new();
        intent.append(cstr!("_id"), self.id.as_str());
        let metadata = rawdoc! {
            "run_id": self.run_id.as_str(),
            "begun_at": self.begun_at,
            "beat": 0_i64,
            "moves": i64::try_from(self.moves.len()).unwrap_or(i64::MAX),
        };
        intent.append(cstr!("metadata"), metadata);
        intent.append(cstr!("moves"), moves.collect::<RawArrayBuf>());
        let also = self.also.iter().map(String::as_str);
        intent.append(cstr!("also"), also.collect::<RawArrayBuf>());
        intent
    }

    /// Reads a stored intent; `None` for what is none.
    pub fn read(document: &RawDocument) -> Option<Self> {
        let moves = document.get_array(field::MOVES).ok()?.into_iter();
        let moves = moves.map(|one| {
            let one = one.ok()?.as_document()?;
            let size = one.get_i64(record_field::DATA_SIZE).ok()?;
            Some(Move {
                record: one.get_object_id(field::RECORD).ok()?,
                user: one.get_str(record_field::USER_ID).ok()?.to_owned(),
                version: Version::new(one.get_i64(record_field::VERSION).ok()?)?,
                size: u64::try_from(size).ok()?,
                adopted_from: None,
            })
        });
        let IntentHead {
            id,
            run_id,
            begun_at,
            ..
        } = IntentHead::read(document)?;
        let also = document.get_array(field::ALSO).ok()?.into_iter();
        let also = also.map(|user| Some(user.ok()?.as_str()?.to_owned()));
        Some(Self {
            id,
            run_id,
            begun_at,
            moves: moves.collect::<Option<_>>()?,
            also: also.collect::<Option<_>>()?,
        })
    }

    /// A pending record for each of its moves.
    pub fn records(&self) -> Vec<RawDocumentBuf> {
        let record = |it: &Move| it.pending(&self.run_id, self.begun_at);
        self.moves.iter().map(record).collect()
    }

    /// The moves of one user.
    pub fn of_user<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a Move> {
        self.moves.iter().filter(move |it| it.user == user)
    }

    /// Every user of the batch.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        let moves = self.moves.iter().map(|it| it.user.as_str());
        moves.chain(self.also.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;

    use super::*;

    fn intent() -> Intent {
        let one = |n: u8, version: i64| Move {
            record: ObjectId::from_bytes([n; 12]),
            user: format!("internal_{n:024x}"),
            version: Version::new(version).unwrap(),
            size: 300,
            adopted_from: None,
        };
        Intent {
            id: "a batch".into(),
            run_id: "a run".into(),
            begun_at: DateTime::from_millis(7),
            moves: vec![one(1, 5), one(2, 1 << 40)],
            also: vec!["internal_another".into()],
        }
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let stored = intent().document();
        assert_eq!(Intent::read(&stored), Some(intent()));
        let head = IntentHead::read(&stored).unwrap();
        assert_eq!((head.id.as_str(), head.beat, head.moves), ("a batch", 0, 2));
        assert_eq!(intent().users().count(), 3);
    }

    #[test]
    fn what_is_no_intent_is_not_read_in_part() {
        for other in [
            rawdoc! { "_id": "x", "run_id": "y" },
            rawdoc! { "_id": "x", "metadata": { "run_id": "y", "begun_at": DateTime::from_millis(7), "beat": 0_i64, "moves": 1_i64 }, "moves": [1], "also": [] },
        ] {
            assert_eq!(Intent::read(&other), None);
        }
    }

    #[test]
    fn each_move_gets_the_pending_record_that_it_would_have_had() {
        let records = intent().records();
        let ids: Vec<ObjectId> = intent().moves.iter().map(|it| it.record).collect();
        assert_eq!(ids.len(), records.len());
        for ((record, id), version) in records.iter().zip(ids).zip([5, 1 << 40]) {
            assert_eq!(record.get_object_id("_id").unwrap(), id);
            assert_eq!(record.get_str("status").unwrap(), "pending");
            assert_eq!(record.get_i64("version").unwrap(), version);
            assert_eq!(record.get_i64("data_size").unwrap(), 300);
            assert_eq!(record.get_str("run_id").unwrap(), "a run");
        }
    }
}
