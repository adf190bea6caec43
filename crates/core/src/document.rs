//! The user document: the names of its fields, and reading them from raw BSON. `edit` changes it so that every byte
//! that is not meant stays as it was.
//!
//! Documents written by other programs pass through here too, so reading never fails: a field that is
//! missing or of another type is `None`.

mod edit;
mod kind;

use bson::raw::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime};

use crate::user::{Section, UserId, UserType};
use crate::version::{Version, Window};

pub use crate::user::OWN_FIELDS;
pub use edit::{Edit, pieces_without, without};
pub use kind::{is_hr_record, is_of_user};

/// The names of the fields that tierkeep keeps.
pub mod field {
    /// The document's key.
    pub const ID: &str = "_id";
    /// The user's id; equal to `_id` in every document tierkeep writes.
    pub const USER_ID: &str = "user_id";
    /// `internal` or `external`.
    pub const USER_TYPE: &str = "user_type";
    /// When this user was first stored.
    pub const CREATED_AT: &str = "created_at";
    /// When this user was last read or written, to the minute.
    pub const LAST_ACCESSED: &str = "last_accessed";
    /// `temp`, `main` or `external`.
    pub const DATA_LOCATION: &str = "data_location";
    /// The object that holds the fields below.
    pub const METADATA: &str = "metadata";
    /// `RASEEN_TEMP`, `RASEEN_MAIN` or `EXTERNAL`.
    pub const STORAGE_LOCATION: &str = "storage_location";
    /// `pending`, `completed` or `failed`.
    pub const BACKUP_STATUS: &str = "backup_status";
    /// See [`crate::version::Version`].
    pub const VERSION: &str = "version";
    /// When this document entered temp.
    pub const STAGED_AT: &str = "staged_at";
    /// When the content last changed.
    pub const UPDATED_AT: &str = "updated_at";
    /// See [`crate::digest::Digest`].
    pub const DIGEST: &str = "digest";
    /// The form of the document.
    pub const SCHEMA_VERSION: &str = "schema_version";
    /// See [`super::State`].
    pub const STATE: &str = "state";
    /// The last operations, newest last: `{id, v}`.
    pub const OPS: &str = "ops";
    /// Names the attempt that put an `entering` document there.
    pub const NONCE: &str = "nonce";
    /// When an `entering` document was put there.
    pub const ENTERED_AT: &str = "entered_at";
    /// The fingerprint of the foreign document that this one was adopted from.
    pub const ADOPTED_FROM: &str = "adopted_from";

    /// The life began while the erasure ledger could not be asked: it may lie below the fence of an earlier erasure.
    pub const LEDGER_UNSEEN: &str = "ledger_unseen";

    /// What an imported document was made from, and at which version: `{from, version}`.
    pub const IMPORTED: &str = "imported";

    /// Top-level fields that are not content.
    pub const NOT_CONTENT_TOP: [&str; 2] = [DATA_LOCATION, LAST_ACCESSED];
    /// Metadata fields that are not content.
    pub const NOT_CONTENT: [&str; 8] = [
        STORAGE_LOCATION,
        BACKUP_STATUS,
        DIGEST,
        STATE,
        OPS,
        NONCE,
        ENTERED_AT,
        ADOPTED_FROM,
    ];
}

/// The current form of the document, `metadata.schema_version`.
pub const SCHEMA_VERSION: i32 = 1;

/// The largest document that is accepted, in bytes of BSON: 16 MiB less 4 KiB, which stay free for the
/// fields that a move adds.
pub const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024 - 4 * 1024;

/// How many operation ids a document remembers.
pub const OPS_KEPT: usize = Window::WIDEST;

/// `metadata.state`: what alone decides whether readers and movers see a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Counts; also when the field is missing.
    Live,
    /// Being put into temp: invisible to readers and movers.
    Entering,
    /// A tombstone without content.
    Erased,
}

impl State {
    /// The text as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Entering => "entering",
            Self::Erased => "erased",
        }
    }
}

/// The `metadata` object.
pub fn metadata(document: &RawDocument) -> Option<&RawDocument> {
    document.get_document(field::METADATA).ok()
}

fn meta<'a>(document: &'a RawDocument, name: &str) -> Option<RawBsonRef<'a>> {
    metadata(document)?.get(name).ok().flatten()
}

/// The document's `_id`; `Null` where it has none.
pub fn id(document: &RawDocument) -> Bson {
    document
        .get(field::ID)
        .ok()
        .flatten()
        .and_then(|v| Bson::try_from(v).ok())
        .unwrap_or(Bson::Null)
}

/// Whether the document has an `_id` that can be read.
pub fn has_id(document: &RawDocument) -> bool {
    matches!(document.get(field::ID), Ok(Some(id)) if Bson::try_from(id).is_ok())
}

/// `user_id`, unchecked.
pub fn user_id(document: &RawDocument) -> Option<&str> {
    document.get_str(field::USER_ID).ok()
}

/// The version, where it is an int64 of at least 1.
pub fn version(document: &RawDocument) -> Option<Version> {
    version_in(metadata(document)?)
}

/// As [`version`], of the `metadata` of a document.
pub(crate) fn version_in(metadata: &RawDocument) -> Option<Version> {
    let version = metadata.get(field::VERSION).ok().flatten()?;
    version.as_i64().and_then(Version::new)
}

/// Whether the document has a version field of any type.
pub fn has_version(document: &RawDocument) -> bool {
    meta(document, field::VERSION).is_some()
}

/// The document's form, where it is a newer one than this version of tierkeep knows ([`SCHEMA_VERSION`]).
pub fn newer_form(document: &RawDocument) -> Option<i64> {
    newer_form_in(metadata(document)?)
}

fn newer_form_in(metadata: &RawDocument) -> Option<i64> {
    let form = metadata.get(field::SCHEMA_VERSION).ok().flatten()?;
    let whole = form.as_i64().or_else(|| form.as_i32().map(i64::from));
    // A shell writes numbers as doubles.
    #[expect(clippy::cast_possible_truncation, reason = "a form is a small number")]
    let form = whole.or_else(|| form.as_f64().map(|form| form.ceil() as i64))?;
    (form > i64::from(SCHEMA_VERSION)).then_some(form)
}

/// The state; `None` for a value that is none of the three, and for a document of a newer form, whatever it says: what its
/// state means is known to the version that wrote it.
pub fn state(document: &RawDocument) -> Option<State> {
    metadata(document).map_or(Some(State::Live), state_in)
}

/// As [`state`], of the `metadata` of a document.
pub(crate) fn state_in(metadata: &RawDocument) -> Option<State> {
    if newer_form_in(metadata).is_some() {
        return None;
    }
    stored_state_in(metadata)
}

/// The state as it is written, whatever the document's form; `None` for a value that is none of the three.
pub fn stored_state(document: &RawDocument) -> Option<State> {
    metadata(document).map_or(Some(State::Live), stored_state_in)
}

fn stored_state_in(metadata: &RawDocument) -> Option<State> {
    match metadata.get(field::STATE).ok().flatten() {
        None => Some(State::Live),
        Some(value) => match value.as_str() {
            Some("live") => Some(State::Live),
            Some("entering") => Some(State::Entering),
            Some("erased") => Some(State::Erased),
            _ => None,
        },
    }
}

/// When the document entered temp, where that is a date.
pub fn staged_at(document: &RawDocument) -> Option<DateTime> {
    meta(document, field::STAGED_AT)?.as_datetime()
}

/// When the content last changed, where that is a date.
pub fn updated_at(document: &RawDocument) -> Option<DateTime> {
    meta(document, field::UPDATED_AT)?.as_datetime()
}

/// When the user was last seen, where that is a date.
pub fn last_accessed(document: &RawDocument) -> Option<DateTime> {
    document.get_datetime(field::LAST_ACCESSED).ok()
}

/// `metadata.backup_status`.
pub fn backup_status(document: &RawDocument) -> Option<&str> {
    meta(document, field::BACKUP_STATUS)?.as_str()
}

/// The nonce of an `entering` document.
pub fn nonce(document: &RawDocument) -> Option<&str> {
    meta(document, field::NONCE)?.as_str()
}

/// When an `entering` document was put there, by the clock of who put it.
pub fn entered_at(document: &RawDocument) -> Option<DateTime> {
    meta(document, field::ENTERED_AT)?.as_datetime()
}

/// The fingerprint of the foreign document that this one was adopted from.
pub fn adopted_from(document: &RawDocument) -> Option<&str> {
    meta(document, field::ADOPTED_FROM)?.as_str()
}

/// Whether the life began while the erasure ledger could not be asked.
pub fn is_ledger_unseen(document: &RawDocument) -> bool {
    meta(document, field::LEDGER_UNSEEN).is_some()
}

/// The fingerprint of what an imported document was made from, and the version that it was given then.
pub fn imported(document: &RawDocument) -> Option<(&str, Version)> {
    let imported = meta(document, field::IMPORTED)?.as_document()?;
    let version = Version::new(imported.get_i64("version").ok()?)?;
    Some((imported.get_str("from").ok()?, version))
}

/// The version that operation `op` gave the document, where the ring still remembers it.
pub fn version_of_op(document: &RawDocument, op: &str) -> Option<Version> {
    let ring = meta(document, field::OPS)?.as_array()?;
    ring.into_iter()
        .flatten()
        .filter_map(RawBsonRef::as_document)
        .find(|entry| entry.get_str("id").is_ok_and(|id| id == op))
        .and_then(|entry| entry.get_i64("v").ok())
        .and_then(Version::new)
}

/// Whether the ring of operations reaches back to the change that made version `made`, so that an operation that is
/// not in it has made neither that version nor a later one.
pub fn ops_reach(document: &RawDocument, made: Version) -> bool {
    let Some(ring) = meta(document, field::OPS).and_then(RawBsonRef::as_array) else {
        return true;
    };
    let mut versions = ring.into_iter().flatten().map(|entry| {
        let entry = entry.as_document()?;
        Version::new(entry.get_i64("v").ok()?)
    });
    let Some(oldest) = versions.next() else {
        return true;
    };
    versions.count() + 1 < OPS_KEPT || oldest.is_some_and(|oldest| oldest <= made)
}

/// Whether tierkeep wrote this document: `_id` equals `user_id` and the version is an int64. Others are
/// foreign and adopted before anything else is done with them.
pub fn is_native(document: &RawDocument) -> bool {
    version(document).is_some()
        && user_id(document)
            .is_some_and(|user| document.get_str(field::ID).is_ok_and(|id| id == user))
}

/// The location of a copy, as its own fields state it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Location {
    /// `temp`, `RASEEN_TEMP`, backup pending.
    Temp,
    /// `main`, `RASEEN_MAIN`, backup completed; srie holds the same bytes.
    Main,
    /// `external`, `EXTERNAL`, no backup status.
    External,
}

impl Location {
    /// The location in which a new user of this type is stored first.
    pub fn initial(user_type: UserType) -> Self {
        match user_type {
            UserType::Internal => Self::Temp,
            UserType::External => Self::External,
        }
    }

    /// `data_location`.
    pub fn data_location(self) -> &'static str {
        match self {
            Self::Temp => "temp",
            Self::Main => "main",
            Self::External => "external",
        }
    }

    /// `metadata.storage_location`.
    pub fn storage_location(self) -> &'static str {
        match self {
            Self::Temp => "RASEEN_TEMP",
            Self::Main => "RASEEN_MAIN",
            Self::External => "EXTERNAL",
        }
    }

    /// `metadata.backup_status`.
    pub fn backup_status(self) -> Option<&'static str> {
        match self {
            Self::Temp => Some("pending"),
            Self::Main => Some("completed"),
            Self::External => None,
        }
    }
}

/// A new user's document in its final form, entering (temp) or live (external), at `version`.
pub fn first(
    user: &UserId,
    section: &Section,
    value: &RawDocument,
    version: Version,
    at: DateTime,
) -> RawDocumentBuf {
    let user_type = user.user_type();
    let location = Location::initial(user_type);
    let start = Edit::new()
        .set(field::ID, user.as_str())
        .set(field::USER_ID, user.as_str())
        .set(field::USER_TYPE, user_type.as_str())
        .set(field::CREATED_AT, at)
        .set(field::LAST_ACCESSED, at)
        .set(field::DATA_LOCATION, location.data_location())
        .set(section.as_str(), value.to_owned())
        .set_meta(field::STORAGE_LOCATION, location.storage_location())
        .set_meta(field::VERSION, version.get())
        .set_meta(field::UPDATED_AT, at)
        .set_meta(field::SCHEMA_VERSION, SCHEMA_VERSION)
        .set_meta(field::STATE, State::Live.as_str());
    start.locate(location).apply(&RawDocumentBuf::new())
}

/// The ring of operations of `document` with `op` added at `version`, cut to [`OPS_KEPT`].
pub fn ops_with(document: &RawDocument, op: &str, version: Version) -> bson::raw::RawArrayBuf {
    let mut entries: Vec<RawBson> = meta(document, field::OPS)
        .and_then(RawBsonRef::as_array)
        .map(|ring| ring.into_iter().flatten().map(Into::into).collect())
        .unwrap_or_default();
    entries.push(RawBson::Document(
        bson::rawdoc! { "id": op, "v": version.get() },
    ));
    let skip = entries.len().saturating_sub(OPS_KEPT);
    entries.into_iter().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn an_edit_keeps_the_place_of_fields_and_puts_new_ones_last() {
        let before =
            rawdoc! { "_id": "a", "b": 1, "metadata": { "x": 1, "version": 1_i64 }, "c": 2 };
        let after = Edit::new()
            .set("b", 7)
            .unset("c")
            .set("d", true)
            .set_meta(field::VERSION, 2_i64)
            .set_meta("y", 3)
            .apply(&before);
        let expected = rawdoc! {
            "_id": "a", "b": 7, "metadata": { "x": 1, "version": 2_i64, "y": 3 }, "d": true
        };
        assert_eq!(after, expected);
    }

    #[test]
    fn the_pieces_of_a_document_without_fields_are_that_document() {
        let mut damaged =
            rawdoc! { "_id": "a", "b": 1, "metadata": { "x": 1, "digest": "y" }, "c": 2 };
        let mut bytes = damaged.clone().into_bytes();
        let at = bytes.windows(3).position(|w| w == b"\x10c\0").unwrap();
        bytes[at] = 0x7a;
        damaged = RawDocumentBuf::from_bytes(bytes).unwrap();
        let documents = [
            rawdoc! {},
            rawdoc! { "_id": "a" },
            rawdoc! { "last_accessed": 1, "_id": "a", "data_location": "x" },
            rawdoc! { "_id": "a", "metadata": { "digest": "x", "version": 1_i64, "ops": [] }, "z": 1 },
            rawdoc! { "metadata": {}, "last_accessed": 1, "metadata": { "digest": 1 }, "metadata": 2 },
            rawdoc! { "metadata": 1, "metadata": { "digest": 1 }, "last_accessed": 1 },
            rawdoc! { "_id": "a", "k": 1, "k": 2, "last_accessed": 3, "last_accessed": 4 },
            damaged,
        ];
        let (top, meta) = (field::NOT_CONTENT_TOP, field::NOT_CONTENT);
        for document in documents {
            let whole = without(&document, &top, &meta);
            let pieces = pieces_without(&document, &top, &meta);
            assert_eq!(pieces.concat(), whole.as_bytes(), "{document:?}");
        }
    }

    #[test]
    fn a_full_ring_reaches_back_to_its_oldest_entry() {
        let version = |n| Version::new(n).unwrap();
        let mut document = rawdoc! { "_id": "a", "metadata": { "version": 3_i64 } };
        assert!(ops_reach(&document, version(1)));
        for n in 4..12 {
            assert!(ops_reach(&document, version(1)), "{n}");
            let ops = ops_with(&document, &format!("op{n}"), version(n));
            document = Edit::new().set_meta(field::OPS, ops).apply(&document);
        }
        assert!(ops_reach(&document, version(4)));
        assert!(!ops_reach(&document, version(3)));
    }

    #[test]
    fn an_edit_keeps_texts_that_are_no_utf8_and_keys_spelled_twice() {
        let mut bytes = rawdoc! { "_id": "a", "text": "AAAA", "k": 1, "k": 2 }.into_bytes();
        let at = bytes.windows(4).position(|w| w == b"AAAA").unwrap();
        bytes[at..at + 4].copy_from_slice(&[0xff, 0xfe, 0xc3, 0x28]);
        let foreign = RawDocumentBuf::from_bytes(bytes).unwrap();

        assert_eq!(Edit::new().apply(&foreign), foreign);
        let edited = Edit::new().set("_id", "b").apply(&foreign);
        assert_eq!(edited.as_bytes()[17..], foreign.as_bytes()[17..]);
    }
}
