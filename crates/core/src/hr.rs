//! HR records: their collections and ids, what a record looks like, and what of it is shown.
//!
//! A record is the object that a caller put, between `_id` and the fields that tierkeep keeps: `created_at`,
//! `updated_at` and `metadata`. The mark `metadata.backup_status: pending` is the outbox: what carries it in main is
//! delivered to srie, deletions (tombstones) included. Must never hold a user: a document of a user cannot become a
//! record, because the fields it is kept by are refused here ([`Content::new`]).

mod arrival;

use std::borrow::Cow;
use std::fmt;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, doc};
use serde::Serialize;

use crate::content::{Damaged, Shown, show_record};
use crate::digest::Digest;
use crate::document::{self, Edit, MAX_DOCUMENT_BYTES, State, field};
use crate::store::Query;
use crate::version::Version;

pub use arrival::Arrival;

/// The top-level fields of a record that tierkeep keeps; no body may have them.
pub const RESERVED: [&str; 4] = [
    field::ID,
    field::CREATED_AT,
    field::UPDATED_AT,
    field::METADATA,
];

/// Enough of a refused text to recognise it by.
const QUOTED_MAX: usize = 64;

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_MAX).collect()
}

/// The name of a collection of HR records.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct HrCollection(String);

/// Why a text is no name of a collection of HR records.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidHrCollection {
    /// Not 1 to 64 characters of `[A-Za-z0-9_-]` that start with a letter.
    #[error(
        "HR collection {0:?} is not 1 to 64 characters of A-Z, a-z, 0-9, _ and - that start with a letter"
    )]
    Malformed(String),
    /// The name of a collection that tierkeep or the server keeps for something else.
    #[error("HR collection {0:?} has a reserved name")]
    Reserved(String),
}

impl HrCollection {
    /// The collections where `TIERKEEP_HR_COLLECTIONS` says nothing.
    pub const DEFAULT: &'static str = "hr_candidates,hr_evaluations,hr_reports";

    /// A collection's name: 1 to 64 of `[A-Za-z0-9_-]`, a letter first; neither a collection of users nor one whose
    /// name starts with `tierkeep` or `system`, in any letter case.
    ///
    /// # Errors
    /// [`InvalidHrCollection`] says why not.
    pub fn parse(name: &str) -> Result<Self, InvalidHrCollection> {
        const KEPT: [&str; 2] = ["internal_users", "external_users"];
        let valid = (1..=64).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !valid {
            return Err(InvalidHrCollection::Malformed(quoted(name)));
        }
        let lower = name.to_ascii_lowercase();
        if KEPT.contains(&lower.as_str())
            || lower.starts_with("tierkeep")
            || lower.starts_with("system")
        {
            return Err(InvalidHrCollection::Reserved(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The collections of [`HrCollection::DEFAULT`].
    pub fn defaults() -> Vec<Self> {
        Self::DEFAULT
            .split(',')
            .map(|name| Self(name.to_owned()))
            .collect()
    }

    /// The name as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HrCollection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of an HR record, also its `_id`: 1 to 128 of `[A-Za-z0-9._:@-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct HrId(String);

/// The text is no id of an HR record.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("HR id {0:?} is not 1 to 128 characters of A-Z, a-z, 0-9, ., _, :, @ and -")]
pub struct InvalidHrId(String);

impl HrId {
    /// Reads an id.
    ///
    /// # Errors
    /// [`InvalidHrId`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidHrId> {
        let valid = (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidHrId(quoted(text)))
        }
    }

    /// The id of a stored record; `None` where another program chose one that no path can name.
    pub fn of(record: &RawDocument) -> Option<Self> {
        Self::parse(record.get_str(field::ID).ok()?).ok()
    }

    /// The id as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as a value.
    pub fn to_bson(&self) -> Bson {
        Bson::String(self.0.clone())
    }
}

impl fmt::Display for HrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a caller put: an object without the fields that tierkeep keeps.
#[derive(Clone, PartialEq, Debug)]
pub struct Content(RawDocumentBuf);

/// A body names a field that tierkeep keeps itself.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the key {0:?} is reserved; omit _id, created_at, updated_at and metadata")]
pub struct ReservedKey(pub &'static str);

impl Content {
    /// This object as the content of a record.
    ///
    /// # Errors
    /// [`ReservedKey`] where it has one.
    pub fn new(object: RawDocumentBuf) -> Result<Self, ReservedKey> {
        match RESERVED
            .into_iter()
            .find(|name| !matches!(object.get(name), Ok(None)))
        {
            Some(name) => Err(ReservedKey(name)),
            None => Ok(Self(object)),
        }
    }

    /// What a caller put into a stored record.
    pub fn of(record: &RawDocument) -> Self {
        Self(document::without(record, &RESERVED, &[]))
    }

    /// The object.
    pub fn as_raw(&self) -> &RawDocument {
        &self.0
    }
}

/// `metadata.backup_status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupStatus {
    /// srie may lack this version: the record is in the outbox.
    Pending,
    /// srie held this version when it was read back.
    Completed,
}

impl BackupStatus {
    /// The text as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
        }
    }

    /// The status of a stored record; `None` where another program wrote it.
    pub fn of(record: &RawDocument) -> Option<Self> {
        let status = document::backup_status(record)?;
        [Self::Pending, Self::Completed]
            .into_iter()
            .find(|known| known.as_str() == status)
    }
}

/// What one write makes of a record.
#[derive(Clone, Copy, Debug)]
pub struct Writing<'a> {
    /// Which record.
    pub id: &'a HrId,
    /// What is stored under the id now, live or erased: the ring of operations continues from there.
    pub before: Option<&'a RawDocument>,
    /// The version after the write.
    pub version: Version,
    /// The operation's own id.
    pub op: &'a str,
    /// When.
    pub at: DateTime,
}

/// The record would outgrow [`MAX_DOCUMENT_BYTES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the record would be larger than 16 MiB minus 4 KiB")]
pub struct TooLarge;

impl Writing<'_> {
    /// The record with this content, pending. A live record keeps its `created_at`.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn record(&self, content: &Content) -> Result<RawDocumentBuf, TooLarge> {
        let created_at = self
            .before
            .filter(|before| document::state(before) == Some(State::Live))
            .and_then(|before| before.get_datetime(field::CREATED_AT).ok())
            .unwrap_or(self.at);
        let record = Edit::new()
            .set(field::CREATED_AT, created_at)
            .set(field::UPDATED_AT, self.at)
            .apply(&with_id(self.id, content.as_raw()));
        let record = self.marked(&record, State::Live);
        if record.as_bytes().len() > MAX_DOCUMENT_BYTES {
            return Err(TooLarge);
        }
        Ok(record)
    }

    /// The tombstone of the record, pending: no content, and the version continues.
    pub fn tombstone(&self) -> RawDocumentBuf {
        let empty = with_id(self.id, &RawDocumentBuf::new());
        let dated = Edit::new().set(field::UPDATED_AT, self.at).apply(&empty);
        self.marked(&dated, State::Erased)
    }

    fn marked(&self, record: &RawDocument, state: State) -> RawDocumentBuf {
        let none = RawDocumentBuf::new();
        let before = self.before.unwrap_or(&none);
        let ops = document::ops_with(before, self.op, self.version);
        let record = Edit::new()
            .set_meta(field::VERSION, self.version.get())
            .set_meta(field::BACKUP_STATUS, BackupStatus::Pending.as_str())
            .set_meta(field::STATE, state.as_str())
            .set_meta(field::OPS, ops)
            .apply(record);
        digested(&record)
    }
}

/// The record with the digest of what it is now.
fn digested(record: &RawDocument) -> RawDocumentBuf {
    Edit::new()
        .set_meta(field::DIGEST, Digest::of_hr_record(record).as_str())
        .apply(record)
}

/// `content` with `_id` before it, byte for byte.
fn with_id(id: &HrId, content: &RawDocument) -> RawDocumentBuf {
    let mut bytes = bson::rawdoc! { "_id": id.as_str() }.into_bytes();
    bytes.pop();
    bytes.extend_from_slice(content.as_bytes().get(4..).unwrap_or_default());
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_le_bytes();
    if let Some(place) = bytes.get_mut(..4) {
        place.copy_from_slice(&length);
    }
    RawDocumentBuf::from_bytes(bytes).unwrap_or_default()
}

/// The copy that srie keeps, and that main keeps once srie has it: the record, completed.
pub fn as_backup(record: &RawDocument) -> RawDocumentBuf {
    Edit::new()
        .set_meta(field::BACKUP_STATUS, BackupStatus::Completed.as_str())
        .apply(record)
}

/// The record at a higher version, pending, with the same content.
pub fn raised(record: &RawDocument, version: Version) -> RawDocumentBuf {
    let record = Edit::new()
        .set_meta(field::VERSION, version.get())
        .set_meta(field::BACKUP_STATUS, BackupStatus::Pending.as_str())
        .apply(record);
    digested(&record)
}

/// Whether the record's content is what its own digest says; `false` also where it has none.
pub fn is_sound(record: &RawDocument) -> bool {
    Digest::claimed_by(record).is_some_and(|digest| digest == Digest::of_hr_record(record))
}

/// When the record was written last, where that is a date.
pub fn updated_at(record: &RawDocument) -> Option<DateTime> {
    record.get_datetime(field::UPDATED_AT).ok()
}

/// Records of this state and backup status, ordered by `_id`. Found by index.
pub fn marked(state: State, status: BackupStatus) -> Query {
    Query::Equal(doc! {
        "metadata.state": state.as_str(),
        "metadata.backup_status": status.as_str(),
    })
}

/// The fields of the index by which [`marked`] records are found.
pub const MARK_INDEX: [&str; 3] = ["metadata.state", "metadata.backup_status", field::ID];

/// The whole record as it is shown: its own dates as RFC 3339 texts, `version` and `backup_status` of its metadata,
/// all else as relaxed Extended JSON.
///
/// # Errors
/// [`Damaged`] where it is no BSON.
pub fn shown<'a>(record: impl Into<Cow<'a, RawDocument>>) -> Result<Shown<'a>, Damaged> {
    show_record(record, &[field::VERSION, field::BACKUP_STATUS])
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use rstest::rstest;
    use serde_json::json;

    use crate::content::rfc3339;

    use super::*;

    const AT: DateTime = DateTime::from_millis(1_800_000_000_000);

    fn id(text: &str) -> HrId {
        HrId::parse(text).unwrap()
    }

    fn writing<'a>(
        id: &'a HrId,
        before: Option<&'a RawDocument>,
        version: i64,
        at: DateTime,
    ) -> Writing<'a> {
        Writing {
            id,
            before,
            version: Version::new(version).unwrap(),
            op: "op",
            at,
        }
    }

    #[rstest]
    #[case("hr_candidates", true)]
    #[case("Payroll-2026", true)]
    #[case("", false)]
    #[case("_id", false)]
    #[case("a.b", false)]
    #[case("a$b", false)]
    #[case("a b", false)]
    #[case("System_x", false)]
    #[case("tierkeep_identity", false)]
    #[case("Internal_users", false)]
    #[case("external_users", false)]
    fn collections_have_plain_names_that_are_not_reserved(#[case] name: &str, #[case] ok: bool) {
        assert_eq!(HrCollection::parse(name).is_ok(), ok);
    }

    #[test]
    fn the_default_collections_can_be_named() {
        let parsed: Vec<_> = HrCollection::DEFAULT
            .split(',')
            .map(|name| HrCollection::parse(name).unwrap())
            .collect();
        assert_eq!(parsed, HrCollection::defaults());
    }

    #[rstest]
    #[case("a", true)]
    #[case("A.b_c:d@e-0", true)]
    #[case("..", true)]
    #[case("", false)]
    #[case("a/b", false)]
    #[case("a b", false)]
    #[case("ä", false)]
    #[case("a\0", false)]
    fn ids_are_of_few_characters(#[case] text: &str, #[case] ok: bool) {
        assert_eq!(HrId::parse(text).is_ok(), ok);
        assert!(HrId::parse(&"x".repeat(128)).is_ok());
        assert!(HrId::parse(&"x".repeat(129)).is_err());
    }

    #[test]
    fn a_record_is_the_given_object_between_its_own_fields() {
        let id = id("c1");
        let content = Content::new(rawdoc! { "$x": 1, "user_id": "b", "a": 2_i64 }).unwrap();
        let first = writing(&id, None, 1, AT).record(&content).unwrap();
        let keys: Vec<_> = first
            .iter()
            .flatten()
            .map(|(key, _)| key.to_string())
            .collect();
        assert_eq!(
            keys,
            [
                "_id",
                "$x",
                "user_id",
                "a",
                "created_at",
                "updated_at",
                "metadata"
            ]
        );
        assert_eq!(Content::of(&first), content);
        assert!(is_sound(&first));

        let later = DateTime::from_millis(AT.timestamp_millis() + 5);
        let other = Content::new(rawdoc! { "b": 1 }).unwrap();
        let second = writing(&id, Some(&first), 2, later).record(&other).unwrap();
        assert_eq!(
            shown(&second).unwrap().into_value(),
            json!({
                "_id": "c1", "b": 1,
                "created_at": rfc3339(AT), "updated_at": rfc3339(later),
                "metadata": { "version": 2, "backup_status": "pending" },
            })
        );
        assert_eq!(document::version_of_op(&second, "op"), Version::new(1));
    }

    #[test]
    fn a_life_after_a_deletion_begins_anew_and_above() {
        let id = id("c1");
        let content = Content::new(rawdoc! { "a": 1 }).unwrap();
        let first = writing(&id, None, 1, AT).record(&content).unwrap();
        let stone = writing(&id, Some(&first), 2, AT).tombstone();
        assert_eq!(document::state(&stone), Some(State::Erased));
        assert_eq!(Content::of(&stone).0, rawdoc! {});
        assert!(is_sound(&stone));
        let later = DateTime::from_millis(AT.timestamp_millis() + 5);
        let again = writing(&id, Some(&stone), 3, later)
            .record(&content)
            .unwrap();
        assert_eq!(again.get_datetime("created_at").unwrap(), later);
    }

    #[test]
    fn the_digest_covers_every_field_that_a_caller_put() {
        let id = id("c1");
        let record = |at: i64| {
            let content = rawdoc! { "last_accessed": at, "data_location": "x" };
            let content = Content::new(content).unwrap();
            writing(&id, None, 1, AT).record(&content).unwrap()
        };
        assert_ne!(
            Digest::claimed_by(&record(1)),
            Digest::claimed_by(&record(2))
        );
        let touched = Edit::new().set("last_accessed", 3).apply(&record(1));
        assert!(!is_sound(&touched));
        assert!(is_sound(&as_backup(&record(1))));
        let raised = raised(&as_backup(&record(1)), Version::new(9).unwrap());
        assert!(is_sound(&raised));
        assert_eq!(BackupStatus::of(&raised), Some(BackupStatus::Pending));
    }

    #[rstest]
    #[case("_id")]
    #[case("created_at")]
    #[case("updated_at")]
    #[case("metadata")]
    fn reserved_keys_are_refused(#[case] key: &str) {
        let mut body = rawdoc! { "a": 1 };
        body.append(bson::raw::CString::try_from(key).unwrap(), 1);
        assert!(Content::new(body).is_err());
    }

    #[test]
    fn a_document_of_a_user_is_no_content_of_a_record() {
        let user = rawdoc! { "_id": "internal_x", "user_id": "internal_x", "metadata": {} };
        assert_eq!(Content::new(user), Err(ReservedKey("_id")));
    }

    #[test]
    fn records_and_documents_of_users_are_told_apart() {
        let id = id("internal_507f1f77bcf86cd799439011");
        let content =
            rawdoc! { "user_id": id.as_str(), "user_type": "internal", "data_location": "temp" };
        let content = Content::new(content).unwrap();
        let record = writing(&id, None, 1, AT).record(&content).unwrap();
        let stone = writing(&id, Some(&record), 2, AT).tombstone();
        let user = crate::user::UserId::parse(id.as_str()).unwrap();
        let section = crate::user::Section::parse("scan_cache").unwrap();
        let of_user = document::first(&user, &section, &rawdoc! {}, Version::FIRST, AT);
        let buried = crate::erasure::tombstone(&user, Version::of_erasure(1).unwrap(), AT);
        for (document, record) in [
            (&record, true),
            (&stone, true),
            (&of_user, false),
            (&buried, false),
        ] {
            assert_eq!(document::is_hr_record(document), record, "{document:?}");
            assert_eq!(document::is_of_user(document), !record, "{document:?}");
        }
    }

    #[test]
    fn a_record_never_outgrows_its_limit() {
        let id = id("c1");
        let large = Content::new(rawdoc! { "x": "x".repeat(MAX_DOCUMENT_BYTES) }).unwrap();
        assert_eq!(writing(&id, None, 1, AT).record(&large), Err(TooLarge));
    }
}
