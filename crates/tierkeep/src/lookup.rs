//! Which user a text names: owns the forms in which operators name a user.

use tierkeep_core::user::UserId;

/// The ids that a text may mean, in any letter case: the likelier first.
pub fn candidates(text: &str) -> Vec<UserId> {
    let text = text.trim().to_ascii_lowercase();
    if text.starts_with("internal_") || text.starts_with("external_") {
        let parsed = UserId::parse(&text).ok();
        // A public user may be called internal_something.
        return parsed
            .into_iter()
            .chain(UserId::external(&text).ok())
            .collect();
    }
    let internal = UserId::internal(&text).ok();
    internal
        .into_iter()
        .chain(UserId::external(&text).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("SRIE06", &["external_srie06"])]
    #[case("external_Srie06", &["external_srie06", "external_external_srie06"])]
    #[case("INTERNAL_507F1F77BCF86CD799439011", &["internal_507f1f77bcf86cd799439011", "external_internal_507f1f77bcf86cd799439011"])]
    #[case("507f1f77bcf86cd799439011", &["internal_507f1f77bcf86cd799439011", "external_507f1f77bcf86cd799439011"])]
    #[case("no such name", &[])]
    fn a_text_may_be_an_id_or_a_name_in_any_case(#[case] text: &str, #[case] ids: &[&str]) {
        let found = candidates(text);
        assert_eq!(found.iter().map(UserId::as_str).collect::<Vec<_>>(), ids);
    }
}
