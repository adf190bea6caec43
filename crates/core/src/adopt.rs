//! Adoption: giving a document that another program wrote in the seed's shape the form in which
//! tierkeep keeps it, or saying why that cannot be done.
//!
//! Nothing is guessed: a document without a usable `user_id` or `created_at` is quarantined.

use bson::raw::{RawBson, RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime};

use crate::digest::Digest;
use crate::document::{self, Edit, Location, SCHEMA_VERSION, State, field};
use crate::user::{UserId, UserType};
use crate::version::Version;

/// Why a document is quarantined: never moved, never deleted, looked at again only when it changes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Quarantine {
    /// `_id` cannot be read.
    #[error("_id is missing or not valid UTF-8")]
    NoId,
    /// `user_id` is missing or no text.
    #[error("user_id is missing or is not a string")]
    NoUserId,
    /// `user_id` is no id of the type of users that the database holds.
    #[error("user_id {1:?} is not a valid {0} user id")]
    NotOfType(UserType, String),
    /// `user_type` contradicts the database.
    #[error("user_type {1:?} does not belong in a database of {0} users")]
    WrongType(UserType, String),
    /// `created_at` is missing or cannot be read as a date.
    #[error("created_at is missing or cannot be read as a date")]
    NoCreatedAt,
    /// `metadata` is there and no object.
    #[error("metadata is not an object")]
    Metadata,
    /// `metadata.version` is there and no int64 of at least 1.
    #[error("metadata.version is not an int64 of at least 1")]
    Version,
    /// `metadata.state` is none of live, entering and erased.
    #[error("metadata.state is not live, entering or erased")]
    State,
    /// `metadata.schema_version` is above what this version knows.
    #[error(
        "metadata.schema_version is {0}, and this version of tierkeep knows documents up to {SCHEMA_VERSION}: a newer version \
         wrote it"
    )]
    NewerForm(i64),
    /// The version numbers are used up.
    #[error("metadata.version is at its maximum")]
    VersionsUsedUp,
    /// More than one document claims the user.
    #[error("several documents claim the user {0}")]
    SeveralClaims(UserId),
    /// The document has no room left for the fields tierkeep adds.
    #[error("the document is larger than 16 MiB minus 4 KiB")]
    TooLarge,
    /// The database refuses the form in which tierkeep would keep it.
    #[error("its adopted form was refused: {0}")]
    Refused(String),
    /// A copy of the same version has another content.
    #[error("{database} holds version {version} with different content")]
    Conflict {
        /// The database that holds the other content.
        database: &'static str,
        /// The version.
        version: Version,
    },
    /// A copy has a higher version than temp.
    #[error("{database} holds version {found}, which is higher than temp's {version}")]
    Above {
        /// The database.
        database: &'static str,
        /// What temp holds.
        version: Version,
        /// What the database holds.
        found: Version,
    },
}

impl Quarantine {
    /// Why a document is quarantined that has no known state.
    pub fn of_state(document: &RawDocument) -> Self {
        document::newer_form(document).map_or(Self::State, Self::NewerForm)
    }

    /// Whether copies contradict each other: no later write resolves that; an operator decides which one is current.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Above { .. } => true,
            Self::NoId
            | Self::NoUserId
            | Self::NotOfType(..)
            | Self::WrongType(..)
            | Self::NoCreatedAt
            | Self::Metadata
            | Self::Version
            | Self::State
            | Self::NewerForm(_)
            | Self::VersionsUsedUp
            | Self::SeveralClaims(_)
            | Self::TooLarge
            | Self::Refused(_) => false,
        }
    }
}

/// Reads a date: a BSON date, or a text in ISO 8601 with or without a zone (without: UTC).
pub fn date(value: &Bson) -> Option<DateTime> {
    if let Bson::DateTime(at) = value {
        return Some(*at);
    }
    let text = value.as_str()?.trim();
    let at = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let naive: jiff::civil::DateTime = text.parse().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(naive).ok()
    })?;
    Some(DateTime::from_millis(at.as_millisecond()))
}

fn date_field(document: &RawDocument, name: &str) -> Option<DateTime> {
    let value = document.get(name).ok().flatten()?;
    date(&Bson::try_from(value).ok()?)
}

/// What another program's document says, as far as moving it needs.
#[derive(Clone, PartialEq, Debug)]
pub struct Foreign {
    /// Whose it is.
    pub user: UserId,
    /// Its `created_at`, which is also when it counts as staged.
    pub created_at: DateTime,
    /// Its fingerprint, byte for byte.
    pub fingerprint: String,
}

/// Reads a document that is not [native](document::is_native), found in a database of users of this type.
///
/// # Errors
/// Why it must be quarantined.
pub fn foreign(document: &RawDocument, expected: UserType) -> Result<Foreign, Quarantine> {
    let user_id = document::user_id(document).ok_or(Quarantine::NoUserId)?;
    let user = UserId::parse(user_id)
        .ok()
        .filter(|user| user.user_type() == expected && user.as_str() == user_id)
        .ok_or_else(|| Quarantine::NotOfType(expected, user_id.chars().take(64).collect()))?;
    if let Ok(Some(user_type)) = document.get(field::USER_TYPE)
        && user_type.as_str() != Some(expected.as_str())
    {
        let shown = user_type
            .as_str()
            .unwrap_or("(not a string)")
            .chars()
            .take(64)
            .collect();
        return Err(Quarantine::WrongType(expected, shown));
    }
    check_metadata(document)?;
    let created_at = date_field(document, field::CREATED_AT).ok_or(Quarantine::NoCreatedAt)?;
    if !document::has_id(document) {
        return Err(Quarantine::NoId);
    }
    if document.as_bytes().len() > document::MAX_DOCUMENT_BYTES {
        return Err(Quarantine::TooLarge);
    }
    Ok(Foreign {
        user,
        created_at,
        fingerprint: crate::digest::fingerprint(document),
    })
}

/// Checks what any document in a user collection must satisfy.
///
/// # Errors
/// Why it must be quarantined.
pub fn check_metadata(document: &RawDocument) -> Result<(), Quarantine> {
    if let Ok(Some(metadata)) = document.get(field::METADATA)
        && metadata.as_document().is_none()
    {
        return Err(Quarantine::Metadata);
    }
    if document::has_version(document) && document::version(document).is_none() {
        return Err(Quarantine::Version);
    }
    document::state(document)
        .map(|_| ())
        .ok_or_else(|| Quarantine::of_state(document))
}

/// The form in which tierkeep keeps a foreign document, at `location` and `version`; every field it does
/// not know travels along unchanged, in its place. `metadata.staged_at` is last, where [`Change::Admit`](crate::store::Change)
/// puts it too: whichever way a document is adopted or moved, it becomes the same bytes.
pub fn final_form(
    document: &RawDocument,
    foreign: &Foreign,
    location: Location,
    version: Version,
) -> RawDocumentBuf {
    let last_accessed = date_field(document, field::LAST_ACCESSED).unwrap_or(foreign.created_at);
    let unstaged = Edit::new()
        .set(field::ID, RawBson::String(foreign.user.to_string()))
        .set(field::USER_ID, foreign.user.as_str())
        .set(field::USER_TYPE, foreign.user.user_type().as_str())
        .set(field::CREATED_AT, foreign.created_at)
        .set(field::LAST_ACCESSED, last_accessed)
        .locate(location)
        .set_meta(field::VERSION, version.get())
        .set_meta(field::UPDATED_AT, last_accessed.max(foreign.created_at))
        .set_meta(field::SCHEMA_VERSION, SCHEMA_VERSION)
        .set_meta(field::STATE, State::Live.as_str())
        .set_meta(field::ADOPTED_FROM, foreign.fingerprint.as_str())
        .unset_meta(field::DIGEST)
        .unset_meta(field::OPS)
        .unset_meta(field::NONCE)
        .unset_meta(field::ENTERED_AT)
        .unset_meta(field::STAGED_AT)
        .apply(document);
    Edit::new()
        .set_meta(field::STAGED_AT, foreign.created_at)
        .apply(&unstaged)
}

/// Under which version a foreign document is adopted, or moves without being adopted first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextVersion {
    /// That of copies which a move of this very document made before it was cut off: nothing has another content at this
    /// version, and nothing a higher one.
    OfCopies(Version),
    /// Above everything that is known of the user.
    Above(Version),
}

impl NextVersion {
    /// The version.
    pub fn get(self) -> Version {
        match self {
            Self::OfCopies(version) | Self::Above(version) => version,
        }
    }
}

/// The version for `document` beside what main and srie hold of its user, whole or only the heads, and `others` that count
/// too; `None` where the versions are used up.
pub fn next_version(
    document: &RawDocument,
    foreign: &Foreign,
    copies: &[&RawDocument],
    others: &[Option<Version>],
) -> Option<NextVersion> {
    let known = others.iter().copied().chain([document::version(document)]);
    let copied = copies
        .iter()
        .filter_map(|copy| document::version(copy))
        .max();
    if let Some(version) = copied.filter(|copied| known.clone().flatten().all(|it| it < *copied)) {
        let mut newest = copies
            .iter()
            .filter(|copy| document::version(copy) == Some(version));
        if newest.clone().all(|copy| is_copy_of(copy, foreign)) {
            let digest = Digest::of(&final_form(document, foreign, Location::Temp, version));
            if newest.all(|copy| Digest::claimed_by(copy).as_ref() == Some(&digest)) {
                return Some(NextVersion::OfCopies(version));
            }
        }
    }
    Version::above(known.chain([copied])).map(NextVersion::Above)
}

/// Whether `copy`, whole or only its head, is live and began as this foreign document.
pub fn is_copy_of(copy: &RawDocument, foreign: &Foreign) -> bool {
    document::state(copy) == Some(State::Live)
        && document::adopted_from(copy) == Some(foreign.fingerprint.as_str())
}

#[cfg(test)]
mod tests {
    use bson::{doc, oid::ObjectId};
    use rstest::rstest;

    use super::*;

    fn raw(document: &bson::Document) -> RawDocumentBuf {
        RawDocumentBuf::try_from(document).unwrap()
    }

    #[rstest]
    #[case("2025-12-11T23:27:02.123456", 1_765_495_622_123)]
    #[case("2025-12-11T23:27:02Z", 1_765_495_622_000)]
    #[case("2025-12-11T23:27:02+05:30", 1_765_475_822_000)]
    #[case("2025-12-11 23:27:02", 1_765_495_622_000)]
    fn texts_without_a_zone_are_utc(#[case] text: &str, #[case] millis: i64) {
        assert_eq!(
            date(&Bson::String(text.into())),
            Some(DateTime::from_millis(millis))
        );
    }

    #[rstest]
    #[case(Bson::String("yesterday".into()))]
    #[case(Bson::String(String::new()))]
    #[case(Bson::Int64(1_765_495_622_123))]
    #[case(Bson::Null)]
    fn nothing_else_is_a_date(#[case] value: Bson) {
        assert_eq!(date(&value), None);
    }

    #[test]
    fn adoption_keeps_unknown_fields_and_stages_at_created_at() {
        let id = ObjectId::from_bytes([7; 12]);
        let seed = raw(&doc! {
            "_id": id, "extra": { "$odd": 1, "a.b": 2 }, "user_id": "internal_507f1f77bcf86cd799439011",
            "created_at": "2025-12-11T23:27:02", "scan_cache": { "z": 1, "a": 2_i64 },
            "metadata": { "storage_location": "RASEEN_TEMP", "backup_status": "pending", "own": true },
        });
        let read = foreign(&seed, UserType::Internal).unwrap();
        let adopted = final_form(&seed, &read, Location::Temp, Version::FIRST);
        assert!(document::is_native(&adopted));
        assert_eq!(document::staged_at(&adopted), Some(read.created_at));
        assert_eq!(
            adopted.get_document("extra").unwrap(),
            seed.get_document("extra").unwrap()
        );
        assert_eq!(
            adopted.get_document("scan_cache").unwrap(),
            seed.get_document("scan_cache").unwrap()
        );
        assert!(
            document::metadata(&adopted)
                .unwrap()
                .get_bool("own")
                .unwrap()
        );
        assert_eq!(
            document::adopted_from(&adopted),
            Some(read.fingerprint.as_str())
        );
    }

    #[rstest]
    #[case(doc! { "created_at": DateTime::from_millis(0) }, Quarantine::NoUserId)]
    #[case(doc! { "user_id": 7, "created_at": DateTime::from_millis(0) }, Quarantine::NoUserId)]
    #[case(doc! { "user_id": "internal_507f1f77bcf86cd799439011" }, Quarantine::NoCreatedAt)]
    #[case(doc! { "user_id": "internal_507f1f77bcf86cd799439011", "created_at": "soon" }, Quarantine::NoCreatedAt)]
    #[case(doc! { "user_id": "external_a" }, Quarantine::NotOfType(UserType::Internal, "external_a".into()))]
    #[case(doc! { "user_id": "internal_507F1F77BCF86CD799439011" }, Quarantine::NotOfType(UserType::Internal, "internal_507F1F77BCF86CD799439011".into()))]
    #[case(doc! { "user_id": "internal_507f1f77bcf86cd799439011", "user_type": "external" }, Quarantine::WrongType(UserType::Internal, "external".into()))]
    #[case(doc! { "user_id": "internal_507f1f77bcf86cd799439011", "metadata": 7 }, Quarantine::Metadata)]
    #[case(doc! { "user_id": "internal_507f1f77bcf86cd799439011", "metadata": { "version": 1.0 } }, Quarantine::Version)]
    #[case(doc! { "user_id": "internal_507f1f77bcf86cd799439011", "metadata": { "state": "odd" } }, Quarantine::State)]
    fn nothing_is_guessed(#[case] document: bson::Document, #[case] reason: Quarantine) {
        assert_eq!(foreign(&raw(&document), UserType::Internal), Err(reason));
    }
}
