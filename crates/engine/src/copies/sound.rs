//! Which of a user's copies in main and srie the user's next document is made from: the newest whose content matches
//! its own digest.
//!
//! A copy whose bytes rotted is never copied onward. Rule source: the contract's section 3, copy-up. Reads nothing.

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::bson;
use tierkeep_core::digest::Digest;
use tierkeep_core::document;

/// Whether the content of a copy matches its own digest. One without a digest was never moved.
pub(crate) fn is_sound(copy: &RawDocument) -> bool {
    Digest::claimed_by(copy).is_none_or(|claimed| claimed == Digest::of(copy))
}

/// The newest copy of a user in main and srie.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum NewestCopy {
    /// Neither holds one.
    None,
    /// Main's.
    Main(RawDocumentBuf),
    /// srie's: main holds none, an older one, or a damaged one of the same version.
    Srie(RawDocumentBuf),
    /// Of the newest version no copy is sound.
    Damaged,
}

impl NewestCopy {
    /// The newest of the live copies that main and srie hold of one life of a user.
    ///
    /// An older sound copy does not stand in for a newer damaged one: what was acknowledged since would be lost, and
    /// an operator may still recover it.
    pub(crate) fn of(main: Option<RawDocumentBuf>, srie: Option<RawDocumentBuf>) -> Self {
        let version = |copy: &Option<RawDocumentBuf>| copy.as_deref().and_then(document::version);
        let newest = version(&main).max(version(&srie));
        let usable = |copy: &RawDocumentBuf| document::version(copy) == newest && is_sound(copy);
        match (main, srie) {
            (None, None) => Self::None,
            (Some(main), _) if usable(&main) => Self::Main(main),
            (_, Some(srie)) if usable(&srie) => Self::Srie(srie),
            (Some(_), _) | (None, Some(_)) => Self::Damaged,
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use tierkeep_core::document::{Edit, field};
    use tierkeep_core::mover::main_form;

    use super::*;

    fn copy(version: i64, content: i32) -> RawDocumentBuf {
        let document = rawdoc! {
            "_id": "internal_000000000000000000000001",
            "user_id": "internal_000000000000000000000001",
            "scan_cache": { "n": content },
            "metadata": { "version": version, "state": "live" },
        };
        main_form(&document, &Digest::of(&document))
    }

    fn damaged(version: i64) -> RawDocumentBuf {
        Edit::new().set("scan_cache", 7).apply(&copy(version, 1))
    }

    #[test]
    fn the_newest_version_counts_and_only_a_sound_copy_of_it() {
        let old = || Some(copy(1, 1));
        let new = || Some(copy(2, 2));
        let cases = [
            (None, None, NewestCopy::None),
            (old(), None, NewestCopy::Main(copy(1, 1))),
            (None, old(), NewestCopy::Srie(copy(1, 1))),
            (new(), old(), NewestCopy::Main(copy(2, 2))),
            (old(), new(), NewestCopy::Srie(copy(2, 2))),
            (new(), new(), NewestCopy::Main(copy(2, 2))),
            (Some(damaged(2)), new(), NewestCopy::Srie(copy(2, 2))),
            (new(), Some(damaged(2)), NewestCopy::Main(copy(2, 2))),
            (Some(damaged(2)), old(), NewestCopy::Damaged),
            (old(), Some(damaged(2)), NewestCopy::Damaged),
            (Some(damaged(2)), None, NewestCopy::Damaged),
            (None, Some(damaged(2)), NewestCopy::Damaged),
        ];
        for (at, (main, srie, expected)) in cases.into_iter().enumerate() {
            assert_eq!(NewestCopy::of(main, srie), expected, "case {at}");
        }
        let without = Edit::new().unset_meta(field::DIGEST).apply(&copy(1, 1));
        assert!(is_sound(&without));
    }
}
