//! The elements of a BSON document as bytes: owns where each begins and ends. Must never decode a text, so that a
//! document in which one is not UTF-8 is read to its end.

use bson::Bson;
use bson::raw::{RawDocument, RawDocumentBuf};
use bson::spec::ElementType;

/// The bytes are not those of a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the stored document is not valid BSON")]
pub struct Damaged;

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) of: ElementType,
    pub(super) key: &'a [u8],
    /// The value, as long as its type says.
    pub(super) value: &'a [u8],
}

impl Element<'_> {
    /// The value where it can be decoded; `Null` where not.
    pub(super) fn to_bson(self) -> Bson {
        let mut bytes = vec![0; 4];
        bytes.push(self.of as u8);
        bytes.push(0);
        bytes.extend_from_slice(self.value);
        bytes.push(0);
        let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        bytes.splice(..4, length.to_le_bytes());
        let whole = RawDocumentBuf::from_bytes(bytes).unwrap_or_default();
        let value = whole.get("").ok().flatten();
        value
            .and_then(|value| Bson::try_from(value).ok())
            .unwrap_or(Bson::Null)
    }
}

/// The elements of a document, up to the first damaged one.
#[derive(Clone, Debug)]
pub(super) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    pub(super) fn of(document: &'a RawDocument) -> Self {
        let bytes = document.as_bytes();
        Self(bytes.get(4..bytes.len() - 1).unwrap_or_default())
    }

    /// Those of a document without any.
    pub(super) fn none() -> Self {
        Self(&[])
    }

    /// Those in these bytes, from an element on.
    pub(super) fn from(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Those of an embedded document, whose length has been read already.
    pub(super) fn inside(bytes: &'a [u8]) -> Result<Self, Damaged> {
        let end = bytes.len().checked_sub(1).ok_or(Damaged)?;
        match (bytes.get(4..end), bytes.last()) {
            (Some(elements), Some(0)) => Ok(Self(elements)),
            (Some(_) | None, _) => Err(Damaged),
        }
    }

    pub(super) fn one(&mut self) -> Result<Element<'a>, Damaged> {
        let (tag, rest) = self.0.split_first().ok_or(Damaged)?;
        let of = ElementType::from(*tag).ok_or(Damaged)?;
        let (key, rest) = cstring(rest)?;
        let (value, rest) = rest.split_at_checked(size(of, rest)?).ok_or(Damaged)?;
        self.0 = rest;
        Ok(Element { of, key, value })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let element = self.one();
        if element.is_err() {
            self.0 = &[];
        }
        Some(element)
    }
}

/// Begins a document at the end of `out`; where.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    start
}

/// Ends the document that began at `start`.
pub(super) fn end(out: &mut Vec<u8>, start: usize) {
    out.push(0);
    let length = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    if let Some(bytes) = out.get_mut(start..start + 4) {
        bytes.copy_from_slice(&length.to_le_bytes());
    }
}

/// Adds an element as it is.
pub(super) fn append(out: &mut Vec<u8>, element: Element<'_>) {
    out.push(element.of as u8);
    out.extend_from_slice(element.key);
    out.push(0);
    out.extend_from_slice(element.value);
}

/// Whether every element can be parsed, down to `levels` levels.
pub(super) fn are_sound(mut elements: Elements<'_>, levels: usize) -> bool {
    const NESTED: [ElementType; 2] = [ElementType::EmbeddedDocument, ElementType::Array];
    elements.all(|element| match element {
        Ok(element) if NESTED.contains(&element.of) => {
            levels > 0
                && Elements::inside(element.value).is_ok_and(|inner| are_sound(inner, levels - 1))
        }
        Ok(_) => true,
        Err(Damaged) => false,
    })
}

/// The bytes up to a NUL, and those after it.
pub(super) fn cstring(bytes: &[u8]) -> Result<(&[u8], &[u8]), Damaged> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(Damaged)?;
    let (text, rest) = bytes.split_at(end);
    Ok((text, rest.get(1..).unwrap_or_default()))
}

/// The bytes of a text with its length before it and a NUL behind it, and those after it.
pub(super) fn string(bytes: &[u8]) -> Result<(&[u8], &[u8]), Damaged> {
    let (text, rest) = bytes.split_at_checked(4 + length(bytes)?).ok_or(Damaged)?;
    match text.get(4..) {
        Some([text @ .., 0]) => Ok((text, rest)),
        Some(_) | None => Err(Damaged),
    }
}

/// The int32 at the start, as a length.
pub(super) fn length(bytes: &[u8]) -> Result<usize, Damaged> {
    let length = bytes.first_chunk().map(|first| i32::from_le_bytes(*first));
    length
        .and_then(|length| usize::try_from(length).ok())
        .ok_or(Damaged)
}

/// How many of these bytes are the value.
fn size(of: ElementType, bytes: &[u8]) -> Result<usize, Damaged> {
    Ok(match of {
        ElementType::Null | ElementType::Undefined | ElementType::MinKey | ElementType::MaxKey => 0,
        ElementType::Boolean => 1,
        ElementType::Int32 => 4,
        ElementType::Double
        | ElementType::DateTime
        | ElementType::Int64
        | ElementType::Timestamp => 8,
        ElementType::ObjectId => 12,
        ElementType::Decimal128 => 16,
        ElementType::EmbeddedDocument
        | ElementType::Array
        | ElementType::JavaScriptCodeWithScope => length(bytes)?,
        ElementType::String | ElementType::JavaScriptCode | ElementType::Symbol => {
            4 + length(bytes)?
        }
        ElementType::DbPointer => 4 + length(bytes)? + 12,
        ElementType::Binary => 4 + 1 + length(bytes)?,
        ElementType::RegularExpression => {
            let (pattern, rest) = cstring(bytes)?;
            let (options, _) = cstring(rest)?;
            pattern.len() + 1 + options.len() + 1
        }
    })
}
