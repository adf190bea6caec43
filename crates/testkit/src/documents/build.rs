//! User documents, as other programs write them and as tierkeep does.

use bson::oid::ObjectId;
use bson::raw::{RawBson, RawDocumentBuf};
use bson::{DateTime, rawdoc};
use tierkeep_core::document::{self, Edit, Location, State, field};
use tierkeep_core::user::{Section, UserId, UserType};
use tierkeep_core::version::Version;

/// User number `n` in the shape of the mission's data structure, as another program would have written
/// it into temp.
pub fn seed_user(n: u32, created_at: DateTime) -> RawDocumentBuf {
    SeedUser::new(n, created_at).build()
}

/// A user document as another program writes it: the `_id` is an object id, and there is no version.
#[derive(Clone, Debug)]
pub struct SeedUser {
    n: u32,
    created_at: DateTime,
    user_type: UserType,
    location: Location,
    naive_dates: bool,
}

impl SeedUser {
    /// Internal user number `n`, in temp, with real dates.
    pub fn new(n: u32, created_at: DateTime) -> Self {
        Self {
            n,
            created_at,
            user_type: UserType::Internal,
            location: Location::Temp,
            naive_dates: false,
        }
    }

    /// With dates as texts that name no zone, such as `2026-01-01T00:00:00.000000`.
    #[must_use]
    pub fn naive_dates(mut self) -> Self {
        self.naive_dates = true;
        self
    }

    /// With the fields that a copy in this place has.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.location = location;
        self
    }

    /// As an external user.
    #[must_use]
    pub fn external(mut self) -> Self {
        self.user_type = UserType::External;
        self.at(Location::External)
    }

    /// `user_id`.
    pub fn user_id(&self) -> String {
        match self.user_type {
            UserType::Internal => format!("internal_{:024x}", self.n),
            UserType::External => format!("external_user{}", self.n),
        }
    }

    /// `_id`.
    pub fn id(&self) -> ObjectId {
        let mut bytes = [0x5e; 12];
        bytes[8..].copy_from_slice(&self.n.to_be_bytes());
        ObjectId::from_bytes(bytes)
    }

    fn date(&self) -> RawBson {
        if !self.naive_dates {
            return self.created_at.into();
        }
        let text = self
            .created_at
            .try_to_rfc3339_string()
            .expect("a date within the years 0 to 9999");
        let text = text.trim_end_matches('Z');
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        format!("{seconds}.{fraction:0<6}").into()
    }

    /// The document.
    pub fn build(&self) -> RawDocumentBuf {
        let mut metadata = RawDocumentBuf::new();
        metadata = Edit::new()
            .set(
                field::STORAGE_LOCATION,
                self.location.storage_location().to_owned(),
            )
            .set(
                field::BACKUP_STATUS,
                self.location.backup_status().unwrap_or("pending"),
            )
            .apply(&metadata);
        let score = f64::from(self.n % 100) / 4.0;
        Edit::new()
            .set(field::ID, self.id())
            .set(field::USER_ID, self.user_id())
            .set(field::USER_TYPE, self.user_type.as_str())
            .set(field::CREATED_AT, self.date())
            .set(field::LAST_ACCESSED, self.date())
            .set(field::DATA_LOCATION, self.location.data_location())
            .set(
                "scan_cache",
                rawdoc! {
                    "github.com/a/b.rs": { "score": score, "files": 12, "issues": ["x", "y"] },
                    "updated": self.date(),
                },
            )
            .set(
                "analysis_progress",
                rawdoc! { "step": "parse", "done": 3, "of": 9_i64 },
            )
            .set(field::METADATA, metadata)
            .apply(&RawDocumentBuf::new())
    }
}

/// Internal user number `n` as tierkeep itself writes it, live in temp at `version`.
pub fn native_user(n: u32, version: i64) -> NativeUser {
    let user = UserId::internal(&format!("{n:024x}")).expect("24 hexadecimal digits");
    NativeUser::new(&user, version)
}

/// A user document in tierkeep's own form.
#[derive(Clone, Debug)]
pub struct NativeUser {
    user: UserId,
    version: Version,
    at: DateTime,
    content: RawDocumentBuf,
    location: Location,
    edit: Edit,
}

impl NativeUser {
    /// A live document of `user` at `version`, staged on the first of January 2026.
    pub fn new(user: &UserId, version: i64) -> Self {
        let at = DateTime::from_millis(1_767_225_600_000);
        let location = Location::initial(user.user_type());
        let edit = match user.user_type() {
            UserType::Internal => Edit::new().set_meta(field::STAGED_AT, at),
            UserType::External => Edit::new(),
        };
        Self {
            user: user.clone(),
            version: Version::new(version).expect("versions begin at 1"),
            at,
            content: rawdoc! { "pages": 3, "z": 1.5, "a": "x" },
            location,
            edit,
        }
    }

    /// The user's id, which is also the document's `_id`.
    pub fn id(&self) -> &str {
        self.user.as_str()
    }

    /// With all its dates, `staged_at` among them, at `at`.
    #[must_use]
    pub fn dated(mut self, at: DateTime) -> Self {
        self.at = at;
        self.edit = self.edit.set_meta(field::STAGED_AT, at);
        self
    }

    /// Staged at `value`, which may be of any type.
    #[must_use]
    pub fn staged_at(mut self, value: impl Into<RawBson>) -> Self {
        self.edit = self.edit.set_meta(field::STAGED_AT, value);
        self
    }

    /// Without `staged_at`.
    #[must_use]
    pub fn unstaged(mut self) -> Self {
        self.edit = self.edit.unset_meta(field::STAGED_AT);
        self
    }

    /// With this content in `scan_cache`.
    #[must_use]
    pub fn content(mut self, content: RawDocumentBuf) -> Self {
        self.content = content;
        self
    }

    /// In this place.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.location = location;
        self
    }

    /// In this state.
    #[must_use]
    pub fn state(mut self, state: State) -> Self {
        self.edit = self.edit.set_meta(field::STATE, state.as_str());
        self
    }

    /// Entering under `nonce`, not staged yet.
    #[must_use]
    pub fn entering(self, nonce: &str, entered_at: DateTime) -> Self {
        let mut entering = self.state(State::Entering).unstaged();
        entering.edit = entering
            .edit
            .set_meta(field::NONCE, nonce)
            .set_meta(field::ENTERED_AT, entered_at);
        entering
    }

    /// With a field of its own at the top, which is replaced where it is there.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<RawBson>) -> Self {
        self.edit = self.edit.set(name, value);
        self
    }

    /// With a field of its own in `metadata`, which is replaced where it is there.
    #[must_use]
    pub fn set_meta(mut self, name: &str, value: impl Into<RawBson>) -> Self {
        self.edit = self.edit.set_meta(name, value);
        self
    }

    /// The document.
    pub fn build(&self) -> RawDocumentBuf {
        let section = Section::parse("scan_cache").expect("a section's name");
        let first = document::first(&self.user, &section, &self.content, self.version, self.at);
        let located = Edit::new().locate(self.location).apply(&first);
        self.edit.apply(&located)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_user_is_foreign_and_a_native_user_is_not() {
        let at = DateTime::from_millis(1_700_000_000_123);
        assert!(!document::is_native(&seed_user(7, at)));
        let native = native_user(7, 3).build();
        assert!(document::is_native(&native));
        assert_eq!(document::version(&native), Version::new(3));
        assert_eq!(document::state(&native), Some(State::Live));
    }

    #[test]
    fn naive_dates_name_no_zone() {
        let at = DateTime::from_millis(1_700_000_000_120);
        let user = SeedUser::new(7, at).naive_dates().build();
        assert_eq!(
            user.get_str("created_at").unwrap(),
            "2023-11-14T22:13:20.120000"
        );
    }
}
