//! Guards and changes of a single-document write, and what they mean over one raw document.

use bson::raw::{RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, Document};

use crate::document::{self, Edit, State, field};
use crate::user::Section;
use crate::version::{Version, Window};

/// What must be true of a document for a write to happen.
#[derive(Clone, PartialEq, Debug)]
pub enum Guard {
    /// It is live, its version is an int64 within `window`, and operation `unless_op` has not been applied to it.
    Live {
        /// The versions at which the write may find it.
        window: Window,
        /// The operation's own id: makes a repeat harmless.
        unless_op: String,
    },
    /// It is entering under this nonce.
    Entry {
        /// The nonce.
        nonce: String,
    },
    /// It is a tombstone of exactly this version.
    Tombstone(Version),
    /// Its version is an int64 below this one, whatever its state.
    Older(Version),
    /// It equals this one byte for byte.
    Whole(RawDocumentBuf),
    /// Its fields equal these, as in [`Store::amend`](super::Store::amend).
    Fields(Document),
}

impl Guard {
    /// Whether the guard holds for `document`.
    pub fn holds(&self, document: &RawDocument) -> bool {
        let state = document::state(document);
        match self {
            Self::Live { window, unless_op } => {
                state == Some(State::Live)
                    && document::version(document).is_some_and(|version| window.contains(version))
                    && document::version_of_op(document, unless_op).is_none()
            }
            Self::Entry { nonce } => {
                state == Some(State::Entering) && document::nonce(document) == Some(nonce)
            }
            Self::Tombstone(version) => {
                state == Some(State::Erased) && document::version(document) == Some(*version)
            }
            Self::Older(version) => is_older(document, *version),
            Self::Whole(whole) => whole.as_bytes() == document.as_bytes(),
            Self::Fields(fields) => fields_match(document, fields),
        }
    }
}

/// What a write does to a document.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// Sets or removes a section: version + 1, `updated_at` the server's time, the operation joins the
    /// ring. The document must stay within
    /// [`MAX_DOCUMENT_BYTES`](crate::document::MAX_DOCUMENT_BYTES).
    Section {
        /// Which section.
        section: Section,
        /// Its new content; `None` removes it.
        value: Option<RawDocumentBuf>,
        /// The operation's id.
        op: String,
    },
    /// Makes an entering document live. `staged_at`, `updated_at` and `last_accessed` are set to the
    /// server's time.
    Confirm {
        /// The user is new: `created_at` is set to that time too.
        created: bool,
    },
    /// Makes an entering document live, staged at this time; its other dates stay.
    Admit {
        /// When it counts as having entered temp.
        staged_at: DateTime,
    },
    /// Replaces the document, byte for byte; the `_id` must be the same.
    Replace(RawDocumentBuf),
    /// Removes it.
    Remove,
}

impl Change {
    /// The changed document (`None`: removed), or `Err(TooLarge)`. `now` is the store's clock.
    ///
    /// # Errors
    /// [`TooLarge`] when a section makes the document outgrow its limit.
    pub fn apply(
        &self,
        document: &RawDocument,
        now: DateTime,
    ) -> Result<Option<RawDocumentBuf>, TooLarge> {
        match self {
            Self::Section { section, value, op } => {
                let next = document::version(document)
                    .and_then(Version::next)
                    .ok_or(TooLarge)?;
                let ops: RawArrayBuf = document::ops_with(document, op, next);
                let edit = match value {
                    Some(value) => Edit::new().set(section.as_str(), value.clone()),
                    None => Edit::new().unset(section.as_str()),
                };
                let changed = edit
                    .set_meta(field::VERSION, next.get())
                    .set_meta(field::UPDATED_AT, now)
                    .set_meta(field::OPS, ops)
                    .apply(document);
                if changed.as_bytes().len() > document::MAX_DOCUMENT_BYTES {
                    return Err(TooLarge);
                }
                Ok(Some(changed))
            }
            Self::Confirm { created } => {
                let edit = admit()
                    .set(field::LAST_ACCESSED, now)
                    .set_meta(field::STAGED_AT, now)
                    .set_meta(field::UPDATED_AT, now);
                let edit = if *created {
                    edit.set(field::CREATED_AT, now)
                } else {
                    edit
                };
                Ok(Some(edit.apply(document)))
            }
            Self::Admit { staged_at } => Ok(Some(
                admit()
                    .set_meta(field::STAGED_AT, *staged_at)
                    .apply(document),
            )),
            Self::Replace(replacement) => Ok(Some(replacement.clone())),
            Self::Remove => Ok(None),
        }
    }
}

/// The document would outgrow [`MAX_DOCUMENT_BYTES`](crate::document::MAX_DOCUMENT_BYTES).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLarge;

fn admit() -> Edit {
    Edit::new()
        .set_meta(field::STATE, State::Live.as_str())
        .unset_meta(field::NONCE)
        .unset_meta(field::ENTERED_AT)
}

/// Whether a [`Store::put_newer`](super::Store::put_newer) of `incoming` replaces `stored`: it has no
/// `user_id`, or its version is an int64 below that of `incoming`.
pub fn put_replaces(stored: &RawDocument, incoming: Version) -> bool {
    !matches!(stored.get(field::USER_ID), Ok(Some(_))) || is_older(stored, incoming)
}

/// Whether the version of `stored` is an int64 below `than`.
fn is_older(stored: &RawDocument, than: Version) -> bool {
    value_at(stored, "metadata.version")
        .and_then(RawBsonRef::as_i64)
        .is_some_and(|version| version < than.get())
}

/// The value at `path`; a dot reaches into an object.
pub(super) fn value_at<'a>(document: &'a RawDocument, path: &str) -> Option<RawBsonRef<'a>> {
    match path.split_once('.') {
        None => document.get(path).ok().flatten(),
        Some((outer, inner)) => document.get_document(outer).ok()?.get(inner).ok().flatten(),
    }
}

/// Whether the document's fields equal all of `fields`; a dot reaches into an object, `Null` also
/// matches a missing field.
pub fn fields_match(document: &RawDocument, fields: &Document) -> bool {
    fields.iter().all(
        |(path, expected)| match value_at(document, path).map(Bson::try_from) {
            Some(Ok(actual)) => actual == *expected,
            Some(Err(_)) => false,
            None => *expected == Bson::Null,
        },
    )
}

/// The document with `set` applied in order; a dot reaches into an object, and makes one where there
/// is none.
pub fn with_fields(document: &RawDocument, set: &Document) -> RawDocumentBuf {
    let mut changed = document.to_owned();
    for (path, value) in set {
        let Ok(value) = RawBson::try_from(value.clone()) else {
            continue;
        };
        let edit = match path.split_once('.') {
            None => Edit::new().set(path, value),
            Some((outer, inner)) => {
                let object = match changed.get_document(outer) {
                    Ok(object) => object.to_owned(),
                    Err(_) => RawDocumentBuf::new(),
                };
                Edit::new().set(outer, Edit::new().set(inner, value).apply(&object))
            }
        };
        changed = edit.apply(&changed);
    }
    changed
}

#[cfg(test)]
mod tests {
    use bson::{doc, rawdoc};

    use super::*;

    #[test]
    fn a_dot_reaches_into_any_object() {
        let before = rawdoc! { "_id": 1, "lease": { "by": "a", "n": 1 }, "metadata": { "v": 1 } };
        let set = doc! { "lease.n": 2, "lease.until": 3, "metadata.v": 2, "new.x": true };
        let after = rawdoc! {
            "_id": 1,
            "lease": { "by": "a", "n": 2, "until": 3 },
            "metadata": { "v": 2 },
            "new": { "x": true },
        };
        assert_eq!(with_fields(&before, &set), after);
        assert!(fields_match(&after, &set));
    }

    #[test]
    fn a_put_replaces_what_is_older_or_holds_no_user() {
        let two = Version::FIRST.next().unwrap();
        let stored = [
            (rawdoc! { "_id": 1 }, true),
            (
                rawdoc! { "_id": 1, "user_id": "a", "metadata": { "version": 1_i64 } },
                true,
            ),
            (
                rawdoc! { "_id": 1, "user_id": "a", "metadata": { "version": 0_i64 } },
                true,
            ),
            (
                rawdoc! { "_id": 1, "user_id": "a", "metadata": { "version": 2_i64 } },
                false,
            ),
            (
                rawdoc! { "_id": 1, "user_id": "a", "metadata": { "version": 3_i64 } },
                false,
            ),
            (
                rawdoc! { "_id": 1, "user_id": "a", "metadata": { "version": 1 } },
                false,
            ),
            (
                rawdoc! { "_id": 1, "user_id": "a", "metadata": { "version": "1" } },
                false,
            ),
            (rawdoc! { "_id": 1, "user_id": "a" }, false),
        ];
        for (stored, replaced) in stored {
            assert_eq!(put_replaces(&stored, two), replaced, "{stored:?}");
        }
    }
}
