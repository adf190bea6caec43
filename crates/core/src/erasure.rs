//! Erasure: the entry of the ledger, and the tombstones that keep what was erased from coming back.
//!
//! The ledger in `evaluation_audit` holds one entry for each id that was ever erased, under a keyed hash of
//! it. Its epoch is the number of erasures; every live version at or below [`Version::of_erasure`] of it counts as
//! nothing, wherever it turns up. A tombstone at that version stands in each database until every one of
//! them is known to have it and the grace is over. Decides nothing about when; performs nothing.

use bson::raw::{RawArray, RawBson, RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, Document, doc};

use crate::db::Role;
use crate::document::{Edit, SCHEMA_VERSION, State, field};
use crate::user::{UserId, UserType};
use crate::version::Version;

/// The names of an entry's fields.
pub mod erasure_field {
    /// How often the id was erased.
    pub const EPOCH: &str = "epoch";
    /// See [`super::Stage`].
    pub const STAGE: &str = "stage";
    /// Whose content; null once no tombstone is left.
    pub const USER_ID: &str = "user_id";
    /// When the last erasure was asked for.
    pub const REQUESTED_AT: &str = "requested_at";
    /// When every database was known to have its tombstone.
    pub const VERIFIED_AT: &str = "verified_at";
    /// The databases that are not known to have theirs.
    pub const PENDING: &str = "pending";
    /// The databases that could not be read when the fence was chosen.
    pub const UNREAD: &str = "unread";
}

/// How far an erasure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It counts; some database may still hold content.
    Pending,
    /// Every database holds its tombstone, or a newer life.
    Verified,
    /// The tombstones are gone; the entry stays.
    Closed,
}

impl Stage {
    /// The text as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Verified => "verified",
            Self::Closed => "closed",
        }
    }

    /// The stage with this text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Verified, Self::Closed]
            .into_iter()
            .find(|stage| stage.as_str() == text)
    }
}

/// The databases that may hold content of a user of this type.
pub fn tiers(user_type: UserType) -> &'static [Role] {
    match user_type {
        UserType::Internal => &[
            Role::RaseenTempUser,
            Role::RaseenMainUser,
            Role::SrieMainUser,
        ],
        UserType::External => &[Role::ExternalUsers],
    }
}

/// The key under which ids are hashed: without it, a closed entry does not reveal which user was erased.
#[derive(Clone)]
pub struct LedgerKey([u8; 32]);

impl std::fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LedgerKey")
    }
}

impl LedgerKey {
    /// A key of these random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key with these hex digits; `None` for anything else.
    pub fn parse(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex)
            .ok()
            .map(|hash| Self(*hash.as_bytes()))
    }

    /// The key as 64 hex digits.
    pub fn to_hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The `_id` of the entry of `user`: 64 hex digits.
    pub fn entry_id(&self, user: &str) -> String {
        blake3::keyed_hash(&self.0, user.as_bytes())
            .to_hex()
            .to_string()
    }
}

/// An entry of the ledger.
#[derive(Clone, PartialEq, Debug)]
pub struct Erasure {
    /// `_id`.
    pub id: String,
    /// How often the id was erased.
    pub epoch: i64,
    /// How far the last erasure is.
    pub stage: Stage,
    /// Whose content; `None` once no tombstone is left.
    pub user: Option<UserId>,
    /// When the last erasure was asked for.
    pub requested_at: Option<DateTime>,
    /// When every database was known to have its tombstone.
    pub verified_at: Option<DateTime>,
    /// The databases that are not known to have theirs.
    pub pending: Vec<Role>,
    /// The databases that could not be read when the fence was chosen, so that they may hold content above it.
    pub unread: Vec<Role>,
}

impl Erasure {
    /// Reads a stored entry; `None` for what is none.
    pub fn read(document: &RawDocument) -> Option<Self> {
        let pending = document.get_array(erasure_field::PENDING).ok()?;
        let user = document.get_str(erasure_field::USER_ID).ok();
        Some(Self {
            id: document.get_str(field::ID).ok()?.to_owned(),
            epoch: document.get_i64(erasure_field::EPOCH).ok()?,
            stage: Stage::parse(document.get_str(erasure_field::STAGE).ok()?)?,
            user: user.and_then(|user| UserId::parse(user).ok()),
            requested_at: document.get_datetime(erasure_field::REQUESTED_AT).ok(),
            verified_at: document.get_datetime(erasure_field::VERIFIED_AT).ok(),
            pending: roles(pending),
            unread: document
                .get_array(erasure_field::UNREAD)
                .map(roles)
                .unwrap_or_default(),
        })
    }

    /// The fields of an entry whose content is to be erased from every tier.
    pub fn begun(user: &UserId, epoch: i64, now: DateTime) -> Document {
        let pending: Vec<&str> = tiers(user.user_type())
            .iter()
            .map(|role| role.name())
            .collect();
        doc! {
            erasure_field::EPOCH: epoch,
            erasure_field::STAGE: Stage::Pending.as_str(),
            erasure_field::USER_ID: user.as_str(),
            erasure_field::REQUESTED_AT: now,
            erasure_field::VERIFIED_AT: Bson::Null,
            erasure_field::PENDING: pending,
            erasure_field::UNREAD: Vec::<Bson>::new(),
        }
    }

    /// As [`Erasure::begun`], with a fence that was chosen without these databases.
    pub fn begun_unread(user: &UserId, epoch: i64, unread: &[Role], now: DateTime) -> Document {
        let mut begun = Self::begun(user, epoch, now);
        let names: Vec<&str> = unread.iter().map(|role| role.name()).collect();
        begun.insert(erasure_field::UNREAD, names);
        begun
    }

    /// Whether what is live in the database of `role` was stored before this erasure, whatever its version: it could
    /// not be read when the fence was chosen, and until it is known to have its tombstone no new life and no move enters
    /// it.
    pub fn predates_all_of(&self, role: Role) -> bool {
        self.stage == Stage::Pending && self.pending.contains(&role) && self.unread.contains(&role)
    }

    /// The fields that change once only `pending` are not known to have their tombstones.
    pub fn brought(pending: &[Role], now: DateTime) -> Document {
        let names: Vec<&str> = pending.iter().map(|role| role.name()).collect();
        let mut set = doc! { erasure_field::PENDING: names };
        if pending.is_empty() {
            set.insert(erasure_field::STAGE, Stage::Verified.as_str());
            set.insert(erasure_field::VERIFIED_AT, now);
        }
        set
    }

    /// The fields that change once no tombstone is left.
    pub fn closed() -> Document {
        doc! {
            erasure_field::STAGE: Stage::Closed.as_str(),
            erasure_field::USER_ID: Bson::Null,
        }
    }

    /// The fields that change when tombstones are put again, late: they stand for another grace.
    pub fn reopened(user: &str, now: DateTime) -> Document {
        doc! {
            erasure_field::STAGE: Stage::Verified.as_str(),
            erasure_field::USER_ID: user,
            erasure_field::VERIFIED_AT: now,
        }
    }

    /// The version of its tombstones: what is live at or below it counts as nothing.
    pub fn fence(&self) -> Option<Version> {
        Version::of_erasure(self.epoch)
    }
}

fn roles(names: &RawArray) -> Vec<Role> {
    names
        .into_iter()
        .flatten()
        .filter_map(|role| Role::by_name(role.as_str()?))
        .collect()
}

/// A date that no scan for what is due or not staged ever comes to: 9999-12-31T23:59:59.999Z.
const NEVER_DUE: i64 = 253_402_300_799_999;

/// The document that replaces an erased one.
pub fn tombstone(user: &UserId, version: Version, now: DateTime) -> RawDocumentBuf {
    Edit::new()
        .set(field::ID, RawBson::String(user.to_string()))
        .set(field::USER_ID, user.as_str())
        .set(field::USER_TYPE, user.user_type().as_str())
        .set_meta(field::VERSION, version.get())
        .set_meta(field::STAGED_AT, DateTime::from_millis(NEVER_DUE))
        .set_meta(field::UPDATED_AT, now)
        .set_meta(field::SCHEMA_VERSION, SCHEMA_VERSION)
        .set_meta(field::STATE, State::Erased.as_str())
        .apply(&RawDocumentBuf::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;
    use crate::store::Query;

    fn user() -> UserId {
        UserId::parse("internal_507f1f77bcf86cd799439011").unwrap()
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_and_names_no_user_when_closed() {
        let key = LedgerKey::new([7; 32]);
        assert_eq!(
            LedgerKey::parse(&key.to_hex()).unwrap().to_hex(),
            key.to_hex()
        );
        assert!(LedgerKey::parse("short").is_none());
        let now = DateTime::from_millis(5);
        let mut stored = doc! { "_id": key.entry_id(user().as_str()) };
        stored.extend(Erasure::begun(&user(), 3, now));
        let read =
            |stored: &Document| Erasure::read(&RawDocumentBuf::try_from(stored).unwrap()).unwrap();
        let begun = read(&stored);
        assert_eq!(begun.pending, tiers(UserType::Internal));
        assert_eq!(begun.user, Some(user()));
        assert_eq!(begun.fence(), Version::new(3 << 40));

        stored.extend(Erasure::brought(&[Role::SrieMainUser], now));
        assert_eq!(read(&stored).stage, Stage::Pending);
        stored.extend(Erasure::brought(&[], now));
        assert_eq!(read(&stored).stage, Stage::Verified);
        stored.extend(Erasure::closed());
        assert!(!format!("{stored}").contains(user().as_str()));
    }

    #[test]
    fn a_tombstone_holds_no_content_and_is_met_by_no_scan_of_the_mover() {
        let stone = tombstone(
            &user(),
            Version::of_erasure(1).unwrap(),
            DateTime::from_millis(5),
        );
        assert!(document::is_native(&stone));
        assert_eq!(document::state(&stone), Some(State::Erased));
        assert!(!Query::Unstaged.matches(&stone));
        assert!(!Query::Due(DateTime::from_millis(NEVER_DUE)).matches(&stone));
        assert!(document::staged_at(&stone).unwrap() > DateTime::from_millis(NEVER_DUE - 1));
    }
}
