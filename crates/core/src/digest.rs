//! The digest of a document's content: what makes two copies equal.

use std::fmt;

use bson::raw::RawDocument;

use crate::document::{self, field};

/// BLAKE3 over the content's raw BSON, written as 64 lower-case hex digits.
///
/// Content is everything except the location of the copy and the time of the last access: `data_location`,
/// `last_accessed` and the metadata fields of [`field::NOT_CONTENT`]. Equal versions must have equal
/// digests.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Digest(String);

impl Digest {
    /// The digest of `document`'s content; of an HR record, as [`Digest::of_hr_record`].
    pub fn of(document: &RawDocument) -> Self {
        if document::is_hr_record(document) {
            Self::of_hr_record(document)
        } else {
            Self::leaving_out(document, &field::NOT_CONTENT_TOP)
        }
    }

    /// The digest of an HR record: all of its top-level fields are content, whatever they are called.
    pub fn of_hr_record(record: &RawDocument) -> Self {
        Self::leaving_out(record, &[])
    }

    fn leaving_out(document: &RawDocument, top: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for piece in document::pieces_without(document, top, &field::NOT_CONTENT) {
            hasher.update(&piece);
        }
        Self(hasher.finalize().to_hex().to_string())
    }

    /// The digest that a copy says it has; unverified.
    pub fn claimed_by(document: &RawDocument) -> Option<Self> {
        Self::claim(document).map(|hex| Self(hex.to_owned()))
    }

    /// As [`Digest::claimed_by`], as it is written there.
    pub(crate) fn claim(document: &RawDocument) -> Option<&str> {
        Self::claim_in(document::metadata(document)?)
    }

    /// As [`Digest::claim`], of the `metadata` of a document.
    pub(crate) fn claim_in(metadata: &RawDocument) -> Option<&str> {
        metadata.get_str(field::DIGEST).ok()
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fingerprint of the document byte for byte, as 64 hex digits: changes when anything changes.
pub fn fingerprint(document: &RawDocument) -> String {
    blake3::hash(document.as_bytes()).to_hex().to_string()
}
