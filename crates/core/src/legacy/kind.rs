//! What each of the predecessor's collections holds. A name that is not listed is unknown, whatever words are in
//! it; an unknown collection is reported and never read.

use std::fmt;

/// What a collection holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceKind {
    /// Scan documents, and at times progress documents among them.
    Scans,
    /// Progress documents.
    Progress,
    /// Accounts: they say which internal user has which GitHub user name and e-mail address.
    Accounts,
    /// Data about users that can be made again; taken only when asked for.
    Derived(Derived),
    /// HR records.
    Hr,
    /// HR data that can be made again.
    DerivedHr,
    /// The server's or this program's own.
    System,
    /// Unknown.
    Unknown,
}

/// Data about users that can be made again, by where it goes in `scan_cache`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Derived {
    /// `scan_cache.profile`.
    Profile,
    /// `scan_cache.rankings`.
    Rankings,
    /// `scan_cache.scores`.
    Scores,
}

impl Derived {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Profile, Self::Rankings, Self::Scores];

    /// The word by which it is asked for, and the field of `scan_cache` in which it is kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Rankings => "rankings",
            Self::Scores => "scores",
        }
    }

    /// The one with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }
}

impl fmt::Display for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl SourceKind {
    /// What the collection of this name holds.
    pub fn of(collection: &str) -> Self {
        match collection {
            "fast_scan_cache"
            | "external_scan_cache"
            | "internal_scan_cache"
            | "internal_users"
            | "external_users" => Self::Scans,
            "internal_analysis_progress"
            | "external_analysis_progress"
            | "analysis_progress"
            | "analysis_states" => Self::Progress,
            "users" => Self::Accounts,
            "internal_users_data"
            | "user_details"
            | "internal_users_profile"
            | "internal_user_profiles"
            | "user_profiles" => Self::Derived(Derived::Profile),
            "user_rankings" => Self::Derived(Derived::Rankings),
            "scores_comparison" => Self::Derived(Derived::Scores),
            "hr_users"
            | "approved_hr_users"
            | "hr_registrations"
            | "hr_google_form"
            | "hr_approved"
            | "hr_students_pool"
            | "hr_selected_students"
            | "hr_candidates"
            | "hr_evaluations"
            | "hr_reports" => Self::Hr,
            "hr_view" => Self::DerivedHr,
            crate::db::collection::IDENTITY => Self::System,
            name if name.starts_with("system.") => Self::System,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("fast_scan_cache", SourceKind::Scans)]
    #[case("analysis_states", SourceKind::Progress)]
    #[case("users", SourceKind::Accounts)]
    #[case("user_details", SourceKind::Derived(Derived::Profile))]
    #[case("hr_view", SourceKind::DerivedHr)]
    #[case("system.profile", SourceKind::System)]
    fn every_listed_collection_has_its_kind(#[case] name: &str, #[case] kind: SourceKind) {
        assert_eq!(SourceKind::of(name), kind);
    }

    #[rstest]
    #[case("internal_scan_cache_backup")]
    #[case("hr_users_old")]
    #[case("Users")]
    #[case("external_users_2024")]
    fn words_in_a_name_decide_nothing(#[case] name: &str) {
        assert_eq!(SourceKind::of(name), SourceKind::Unknown);
    }
}
