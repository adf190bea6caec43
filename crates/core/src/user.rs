//! Users: their type, their ids and the names of their sections. The constructors here are the only
//! way to such a value, so nothing below the edge carries an id as plain text.

use std::fmt;

use serde::Serialize;

/// Whether a user is internal (JWT and GitHub token) or external (public).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UserType {
    /// Known by a JWT and a GitHub token; stored in temp, later in main and its backup.
    Internal,
    /// Public, named by a user name; stored in `external_users` alone.
    External,
}

impl UserType {
    /// `internal` or `external`, as stored and logged.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
        }
    }

    /// What every id of such a user begins with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Internal => INTERNAL,
            Self::External => EXTERNAL,
        }
    }

    /// The marker that starts every log line about this type of user.
    #[doc(alias = "log_internal_operation")]
    #[doc(alias = "log_external_operation")]
    pub fn marker(self) -> &'static str {
        match self {
            Self::Internal => "🔐 [INTERNAL]",
            Self::External => "🌐 [EXTERNAL]",
        }
    }
}

impl fmt::Display for UserType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a user id, a user name or a subject.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidUser {
    /// The text has neither prefix.
    #[error("user id {0:?} starts with neither internal_ nor external_")]
    Prefix(String),
    /// What follows `internal_` is no object id.
    #[error("subject {0:?} is not 24 hexadecimal digits")]
    Subject(String),
    /// What follows `external_` is no user name.
    #[error("user name {0:?} is not 1 to 39 characters of A-Z, a-z, 0-9, - and _")]
    Name(String),
}

/// A user's id with its prefix: `internal_` and 24 lower-case hex digits, or `external_` and a
/// lower-case user name. Also the document's `_id`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
#[doc(alias = "get_user_id_with_prefix")]
pub struct UserId(String);

const INTERNAL: &str = "internal_";
const EXTERNAL: &str = "external_";
const SUBJECT_DIGITS: usize = 24;
const NAME_MAX: usize = 39;
/// Enough of a refused text to recognise it by.
const QUOTED_MAX: usize = 64;

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_MAX).collect()
}

impl UserId {
    /// The id of the internal user with this subject (24 hex digits, any case).
    ///
    /// # Errors
    /// [`InvalidUser::Subject`] for any other text.
    pub fn internal(subject: &str) -> Result<Self, InvalidUser> {
        let valid =
            subject.len() == SUBJECT_DIGITS && subject.bytes().all(|b| b.is_ascii_hexdigit());
        if !valid {
            return Err(InvalidUser::Subject(quoted(subject)));
        }
        Ok(Self(format!("{INTERNAL}{}", subject.to_ascii_lowercase())))
    }

    /// The id of the external user with this name (1 to 39 of `[A-Za-z0-9_-]`, any case).
    ///
    /// # Errors
    /// [`InvalidUser::Name`] for any other text.
    pub fn external(name: &str) -> Result<Self, InvalidUser> {
        let valid = (1..=NAME_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !valid {
            return Err(InvalidUser::Name(quoted(name)));
        }
        Ok(Self(format!("{EXTERNAL}{}", name.to_ascii_lowercase())))
    }

    /// Reads an id with its prefix, in any letter case after the prefix.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, InvalidUser> {
        if let Some(subject) = text.strip_prefix(INTERNAL) {
            Self::internal(subject)
        } else if let Some(name) = text.strip_prefix(EXTERNAL) {
            Self::external(name)
        } else {
            Err(InvalidUser::Prefix(quoted(text)))
        }
    }

    /// Internal or external, told by the prefix.
    pub fn user_type(&self) -> UserType {
        if self.0.starts_with(INTERNAL) {
            UserType::Internal
        } else {
            UserType::External
        }
    }

    /// The id as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The top-level fields that tierkeep keeps; no section may have such a name.
pub const OWN_FIELDS: [&str; 7] = [
    "_id",
    "user_id",
    "user_type",
    "created_at",
    "last_accessed",
    "data_location",
    "metadata",
];

/// The name of a section: a top-level field of the user document that holds an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct Section(String);

/// Why a text is not a section name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidSection {
    /// Not 1 to 64 characters of `[a-z0-9_]` that start with a letter.
    #[error(
        "section name {0:?} is not 1 to 64 characters of a-z, 0-9 and _ that start with a letter"
    )]
    Malformed(String),
    /// A field that tierkeep itself keeps in the document.
    #[error("section name {0:?} is a reserved field")]
    Reserved(String),
}

impl Section {
    /// The sections where `TIERKEEP_SECTIONS` says nothing.
    pub const DEFAULT: &'static str = "scan_cache,analysis_progress";

    /// A section name: 1 to 64 of `[a-z0-9_]`, a letter first, and none of the document's own fields.
    ///
    /// # Errors
    /// [`InvalidSection`] says why not.
    pub fn parse(name: &str) -> Result<Self, InvalidSection> {
        let valid = (1..=64).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !valid {
            return Err(InvalidSection::Malformed(quoted(name)));
        }
        if OWN_FIELDS.contains(&name) {
            return Err(InvalidSection::Reserved(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "internal_507F1F77BCF86CD799439011",
        Some("internal_507f1f77bcf86cd799439011")
    )]
    #[case("external_SRIE06", Some("external_srie06"))]
    #[case("internal_507f1f77bcf86cd79943901", None)]
    #[case("internal_507f1f77bcf86cd79943901g", None)]
    #[case("external_", None)]
    #[case("external_a.b", None)]
    #[case("srie06", None)]
    #[case("external_1234567890123456789012345678901234567890", None)]
    fn ids_have_one_form(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(
            UserId::parse(text).ok().as_ref().map(UserId::as_str),
            expected
        );
    }

    #[rstest]
    #[case("scan_cache", true)]
    #[case("metadata", false)]
    #[case("_id", false)]
    #[case("a.b", false)]
    #[case("Scan", false)]
    #[case("", false)]
    fn section_names_are_plain_and_not_our_own(#[case] name: &str, #[case] ok: bool) {
        assert_eq!(Section::parse(name).is_ok(), ok);
    }
}
