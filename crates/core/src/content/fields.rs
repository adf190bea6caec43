//! Where the elements of a document lie in its bytes: owns which of them an answer shows and how, and what their keys say.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use bson::raw::RawDocument;
use bson::spec::ElementType;

use super::elements::{Damaged, Element, Elements, cstring};

/// The most keys that are compared each with each.
const FEW_KEYS: usize = 8;

/// Where something lies in the document's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) at: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.at..self.end).unwrap_or_default()
    }

    pub(super) fn len(self) -> usize {
        self.end.saturating_sub(self.at)
    }
}

/// How a field is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    /// As relaxed Extended JSON.
    Value,
    /// The same, of a field that tierkeep keeps and no caller can put back.
    Own,
    /// The same, and a date as an RFC 3339 text.
    OwnDate,
    /// An object, of which these fields are shown, each as an own date.
    Metadata(&'static [&'static str]),
}

/// An element of the document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Field {
    pub(super) of: ElementType,
    pub(super) key: Span,
    pub(super) value: Span,
    pub(super) how: How,
    /// How many more elements of its object have the same key.
    pub(super) repeats: u32,
}

impl Field {
    /// The first element after `at`.
    pub(super) fn read(bytes: &[u8], at: usize, end: usize) -> Result<Self, Damaged> {
        let rest = bytes.get(at..end).ok_or(Damaged)?;
        let element = Elements::from(rest).one()?;
        let key = Span {
            at: at + 1,
            end: at + 1 + element.key.len(),
        };
        let value = Span {
            at: key.end + 1,
            end: key.end + 1 + element.value.len(),
        };
        Ok(Self {
            of: element.of,
            key,
            value,
            how: How::Value,
            repeats: 0,
        })
    }

    pub(super) fn element(self, bytes: &[u8]) -> Element<'_> {
        Element {
            of: self.of,
            key: self.key.of(bytes),
            value: self.value.of(bytes),
        }
    }
}

/// A member of an object that is not shown from its first element to its last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) at: usize,
    pub(super) how: How,
    pub(super) repeats: u32,
}

/// The members of the object between `at` and `end` that `how` shows. Of a duplicate key, the last value counts, in
/// the place of the first.
pub(super) fn members(
    bytes: &[u8],
    span: Span,
    mut how: impl FnMut(&str, Element<'_>) -> Option<How>,
) -> Result<Vec<Member>, Damaged> {
    let mut members: Vec<Member> = Vec::new();
    let mut places: HashMap<Cow<'_, str>, usize> = HashMap::new();
    let mut at = span.at;
    while at < span.end {
        let field = Field::read(bytes, at, span.end)?;
        let name = String::from_utf8_lossy(field.key.of(bytes));
        if let Some(how) = how(&name, field.element(bytes)) {
            let member = Member {
                at,
                how,
                repeats: 0,
            };
            let first = places.get(&name);
            if let Some(first) = first.and_then(|place| members.get_mut(*place)) {
                let repeats = first.repeats + 1;
                *first = Member { repeats, ..member };
            } else {
                places.insert(name, members.len());
                members.push(member);
            }
        }
        at = field.value.end;
    }
    Ok(members)
}

/// The elements of a whole document.
pub(super) fn top(document: &RawDocument) -> Span {
    let end = document.as_bytes().len().saturating_sub(1);
    Span { at: 4, end }
}

/// The elements of an embedded document.
pub(super) fn inside(bytes: &[u8], span: Span) -> Result<Span, Damaged> {
    Elements::inside(span.of(bytes))?;
    Ok(Span {
        at: span.at + 4,
        end: span.end - 1,
    })
}

/// The first element of this name at the top of a document.
pub(super) fn find(document: &RawDocument, name: &str) -> Result<Option<Field>, Damaged> {
    let (bytes, span) = (document.as_bytes(), top(document));
    let mut at = span.at;
    while at < span.end {
        let field = Field::read(bytes, at, span.end)?;
        if field.key.of(bytes) == name.as_bytes() {
            return Ok(Some(field));
        }
        at = field.value.end;
    }
    Ok(None)
}

/// The keys of an object.
pub(super) struct Keys {
    pub(super) at: Vec<u32>,
    pub(super) has_operators: bool,
    are_utf8: bool,
}

impl Keys {
    pub(super) fn of(bytes: &[u8], span: Span) -> Result<Self, Damaged> {
        let mut keys = Self {
            at: Vec::new(),
            has_operators: false,
            are_utf8: true,
        };
        let mut at = span.at;
        while at < span.end {
            let field = Field::read(bytes, at, span.end)?;
            let key = field.key.of(bytes);
            keys.at
                .push(u32::try_from(field.key.at).map_err(|_| Damaged)?);
            keys.has_operators |= key.starts_with(b"$");
            keys.are_utf8 &= std::str::from_utf8(key).is_ok();
            at = field.value.end;
        }
        Ok(keys)
    }

    pub(super) fn are_repeated(&self, bytes: &[u8]) -> bool {
        let key = |at: &u32| key_at(bytes, *at);
        if !self.are_utf8 {
            let mut seen = HashSet::new();
            let mut names = self.at.iter().map(|at| String::from_utf8_lossy(key(at)));
            return !names.all(|name| seen.insert(name));
        }
        if self.at.len() <= FEW_KEYS {
            let mut rest = self.at.as_slice();
            while let Some((one, others)) = rest.split_first() {
                if others.iter().any(|other| key(other) == key(one)) {
                    return true;
                }
                rest = others;
            }
            return false;
        }
        let mut sorted = self.at.clone();
        sorted.sort_unstable_by(|one, other| key(one).cmp(key(other)));
        sorted
            .windows(2)
            .any(|pair| matches!(pair, [one, other] if key(one) == key(other)))
    }
}

fn key_at(bytes: &[u8], at: u32) -> &[u8] {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let key = bytes.get(at..).and_then(|rest| cstring(rest).ok());
    key.map_or(&[], |(key, _)| key)
}

/// Whether the object with elements at these places is a `DBRef`: `$ref`, a string, then `$id`, then `$db`, a string, where
/// there is one; no other key starts with `$` (source: MongoDB `DBRef` specification).
pub(super) fn is_dbref(
    bytes: &[u8],
    end: usize,
    places: impl Iterator<Item = impl TryInto<usize>>,
) -> Result<bool, Damaged> {
    let mut count = 0;
    for (place, at) in places.enumerate() {
        let at = at.try_into().map_err(|_| Damaged)?;
        let field = Field::read(bytes, at, end)?;
        let is_text = field.of == ElementType::String;
        let fits = match (place, field.key.of(bytes)) {
            (0, key) => key == b"$ref" && is_text,
            (1, key) => key == b"$id",
            (2, b"$db") => is_text,
            (_, key) => !key.starts_with(b"$"),
        };
        if !fits {
            return Ok(false);
        }
        count += 1;
    }
    Ok(count >= 2)
}
