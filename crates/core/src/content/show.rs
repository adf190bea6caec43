//! Showing what is stored: owns which fields of a document an answer has, and the answer in pieces.
//!
//! A document is gone through twice: to know how long the answer is and what of it is not exact, and to write it. A short
//! answer is kept from the first time.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use bson::raw::RawDocument;
use bson::spec::ElementType;
use serde_json::Value;

use super::elements::{Damaged, Element};
use super::fields::{self, How};
use super::inexact::{Inexact, Reason};
use super::tree;
use super::writer::Writer;
use crate::document::{self, field};

/// The longest answer that is kept as a text, and about the length of a piece of a longer one.
const PIECE: usize = 64 * 1024;

/// JSON that is made of a document, and what of it is not exact.
pub struct Shown<'a> {
    document: Cow<'a, RawDocument>,
    /// Where to begin.
    start: Writer,
    /// The JSON, where it is short.
    text: Option<Vec<u8>>,
    length: usize,
    /// What of it would not be stored as it was if it were put back.
    pub inexact: Inexact,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown")
            .field("length", &self.length)
            .field("inexact", &self.inexact)
            .finish_non_exhaustive()
    }
}

impl<'a> Shown<'a> {
    fn new(
        document: Cow<'a, RawDocument>,
        start: Writer,
        inexact: Inexact,
    ) -> Result<Self, Damaged> {
        let mut measuring = start.clone();
        measuring.inexact = Some(inexact);
        let (mut length, mut text) = (0, Vec::new());
        let mut is_short = true;
        while measuring.step(document.as_bytes(), &mut text)? {
            if text.len() > PIECE {
                is_short = false;
                length += text.len();
                text.clear();
            }
        }
        length += text.len();
        Ok(Self {
            document,
            start,
            text: is_short.then_some(text),
            length,
            inexact: measuring.inexact.unwrap_or_default(),
        })
    }

    /// How many bytes the JSON has.
    pub fn length_bytes(&self) -> usize {
        self.length
    }

    /// The JSON, in pieces of about 64 KiB.
    pub fn into_pieces(self) -> Pieces<'a> {
        Pieces {
            document: self.document,
            writer: if self.text.is_some() {
                Writer::default()
            } else {
                self.start
            },
            text: self.text,
        }
    }

    /// Adds the JSON to `out`.
    pub fn write_to(self, out: &mut Vec<u8>) {
        out.reserve(self.length);
        for piece in self.into_pieces() {
            out.extend_from_slice(&piece);
        }
    }

    /// The JSON as a tree: many times its size, so for what is short or of an operator.
    pub fn into_value(self) -> Value {
        let mut text = Vec::new();
        self.write_to(&mut text);
        tree::read(&text).unwrap_or_default()
    }
}

/// JSON in pieces, each made when it is asked for.
pub struct Pieces<'a> {
    document: Cow<'a, RawDocument>,
    writer: Writer,
    text: Option<Vec<u8>>,
}

impl fmt::Debug for Pieces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}

impl Iterator for Pieces<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(text) = self.text.take() {
            return Some(text);
        }
        let mut piece = Vec::new();
        // The bytes were gone through before: they are not damaged.
        while piece.len() < PIECE
            && matches!(
                self.writer.step(self.document.as_bytes(), &mut piece),
                Ok(true)
            )
        {}
        (!piece.is_empty()).then_some(piece)
    }
}

/// Whether the document has something under the section's name, whatever another program stored there.
///
/// # Errors
/// As [`show_section`].
pub fn has_section(document: &RawDocument, section: &str) -> Result<bool, Damaged> {
    Ok(fields::find(document, section)?.is_some())
}

/// One section as it is shown, whatever another program stored under its name; `None` where the document has nothing
/// there.
///
/// # Errors
/// [`Damaged`] where the document is no BSON: that is never "not there".
pub fn show_section<'a>(
    document: impl Into<Cow<'a, RawDocument>>,
    section: &str,
) -> Result<Option<Shown<'a>>, Damaged> {
    let document = document.into();
    let Some(found) = fields::find(&document, section)? else {
        return Ok(None);
    };
    let mut inexact = Inexact::default();
    if found.of != ElementType::EmbeddedDocument {
        inexact.add(std::iter::empty(), Reason::NotAnObject);
    }
    Shown::new(document, Writer::of_value(found), inexact).map(Some)
}

/// The members of a document that `how` shows.
fn show_members(
    document: Cow<'_, RawDocument>,
    how: impl FnMut(&str, Element<'_>) -> Option<How>,
) -> Result<Shown<'_>, Damaged> {
    let members = fields::members(document.as_bytes(), fields::top(&document), how)?;
    let start = Writer::of_members(&document, members);
    Shown::new(document, start, Inexact::default())
}

/// The whole user document as it is shown: its own dates as RFC 3339 texts, the rest as relaxed Extended
/// JSON; only tierkeep's own fields and `sections`, never what other programs added.
///
/// # Errors
/// [`Damaged`] where it is no BSON.
pub fn show_user<'a, 's>(
    document: impl Into<Cow<'a, RawDocument>>,
    sections: impl IntoIterator<Item = &'s str>,
) -> Result<Shown<'a>, Damaged> {
    let sections: HashSet<&str> = sections.into_iter().collect();
    show_members(document.into(), |name, element| match name {
        field::CREATED_AT | field::LAST_ACCESSED => Some(How::OwnDate),
        field::METADATA if element.of == ElementType::EmbeddedDocument => {
            Some(How::Metadata(&SHOWN_METADATA))
        }
        name if document::OWN_FIELDS.contains(&name) => Some(How::Own),
        name => sections.contains(name).then_some(How::Value),
    })
}

/// The fields of a user document other than tierkeep's own fields and `sections`.
///
/// # Errors
/// [`Damaged`] where it is no BSON.
pub fn show_other<'a, 's>(
    document: impl Into<Cow<'a, RawDocument>>,
    sections: impl IntoIterator<Item = &'s str>,
) -> Result<Shown<'a>, Damaged> {
    let sections: HashSet<&str> = sections.into_iter().collect();
    show_members(document.into(), |name, _| {
        let is_known = document::OWN_FIELDS.contains(&name) || sections.contains(name);
        (!is_known).then_some(How::Value)
    })
}

/// An HR record as it is shown: its own dates as RFC 3339 texts, `metadata_shown` of its metadata, all else as relaxed
/// Extended JSON.
pub(crate) fn show_record<'a>(
    record: impl Into<Cow<'a, RawDocument>>,
    metadata_shown: &'static [&'static str],
) -> Result<Shown<'a>, Damaged> {
    show_members(record.into(), |name, element| {
        Some(match name {
            field::CREATED_AT | field::UPDATED_AT if element.of == ElementType::DateTime => {
                How::OwnDate
            }
            field::METADATA if element.of == ElementType::EmbeddedDocument => {
                How::Metadata(metadata_shown)
            }
            field::ID => How::Own,
            _ => How::Value,
        })
    })
}

/// The fields of a user's `metadata` that are shown.
const SHOWN_METADATA: [&str; 7] = [
    field::STORAGE_LOCATION,
    field::BACKUP_STATUS,
    field::VERSION,
    field::STAGED_AT,
    field::UPDATED_AT,
    field::DIGEST,
    field::SCHEMA_VERSION,
];
