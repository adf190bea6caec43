//! Stored bytes as JSON text, a step at a time: owns what is open and what is written next. Holds no tree: a frame for each
//! level, and offsets of the keys of one object while it is looked through.
//!
//! Must never write more than a slice of a text in one step, so that an answer can be sent while it is made.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use bson::raw::RawDocument;
use bson::spec::ElementType;

use super::elements::{Damaged, Element, Elements, cstring};
use super::inexact::{Inexact, Reason, Step};
use super::scalar::{self, Part};

/// The most bytes of a text that are written in one step, and the most of a key beside its value.
const SLICE: usize = 8 * 1024;
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

    fn len(self) -> usize {
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
    how: How,
    /// How many more elements of its object have the same key.
    repeats: u32,
}

impl Field {
    /// The first element after `at`.
    fn read(bytes: &[u8], at: usize, end: usize) -> Result<Self, Damaged> {
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

    fn element(self, bytes: &[u8]) -> Element<'_> {
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
    at: usize,
    how: How,
    repeats: u32,
}

/// The members of the object between `at` and `end` that `how` shows. Of a key that stands twice, the last value counts, in
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
            match places.get(&name).and_then(|place| members.get_mut(*place)) {
                Some(first) => {
                    let repeats = first.repeats + 1;
                    *first = Member { repeats, ..member };
                }
                None => {
                    places.insert(name, members.len());
                    members.push(member);
                }
            }
        }
        at = field.value.end;
    }
    Ok(members)
}

#[derive(Clone, Debug)]
enum Kind {
    Object { has_operators: bool },
    /// The object of a whole answer: each key that starts with `$` is named by itself.
    Whole,
    Array { index: usize, counts_up: bool },
}

/// An object or array that is open.
#[derive(Clone, Debug)]
struct Frame {
    kind: Kind,
    /// What is left of it, where it is shown from its first element to its last.
    left: Span,
    list: Option<std::vec::IntoIter<Member>>,
    key: Span,
    begun: bool,
    close: &'static str,
}

impl Frame {
    fn next(&mut self, bytes: &[u8]) -> Result<Option<Field>, Damaged> {
        let end = self.left.end;
        if let Some(list) = &mut self.list {
            let Some(member) = list.next() else {
                return Ok(None);
            };
            let field = Field::read(bytes, member.at, end)?;
            let Member { how, repeats, .. } = member;
            return Ok(Some(Field {
                how,
                repeats,
                ..field
            }));
        }
        if self.left.at >= end {
            return Ok(None);
        }
        let field = Field::read(bytes, self.left.at, end)?;
        self.left.at = field.value.end;
        Ok(Some(field))
    }

    fn step<'a>(&self, bytes: &'a [u8]) -> Step<'a> {
        match self.kind {
            Kind::Object { .. } | Kind::Whole => Step::Key(self.key.of(bytes)),
            Kind::Array { index, .. } => Step::Index(index.saturating_sub(1)),
        }
    }
}

/// An own field, of which only a text that is not UTF-8 is told, once.
#[derive(Clone, Copy, Debug)]
struct Own {
    depth: usize,
    told: bool,
}

/// What is written, and how far.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    frames: Vec<Frame>,
    /// What is written before the next element; the last one first.
    parts: Vec<Part>,
    /// What is not exact, where that is asked for.
    pub(super) inexact: Option<Inexact>,
    own: Option<Own>,
}

impl Writer {
    /// Writes one value.
    pub(super) fn of_value(field: Field) -> Self {
        Self {
            parts: vec![Part::Value(field)],
            ..Self::default()
        }
    }

    /// Writes these members of a whole document.
    pub(super) fn of_members(document: &RawDocument, members: Vec<Member>) -> Self {
        let frame = Frame {
            kind: Kind::Whole,
            left: top(document),
            list: Some(members.into_iter()),
            key: Span { at: 0, end: 0 },
            begun: false,
            close: "}",
        };
        Self {
            frames: vec![frame],
            parts: vec![Part::Static("{")],
            ..Self::default()
        }
    }

    /// Writes what comes next; whether anything did.
    pub(super) fn step(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, Damaged> {
        if let Some(part) = self.parts.pop() {
            self.part(bytes, part, out)?;
            return Ok(true);
        }
        let depth = self.frames.len();
        if self.own.is_some_and(|own| own.depth >= depth) {
            self.own = None;
        }
        let Some(frame) = self.frames.last_mut() else {
            return Ok(false);
        };
        match frame.next(bytes)? {
            Some(field) => self.member(bytes, field, out)?,
            None => self.close(bytes, out),
        }
        Ok(true)
    }

    fn part(&mut self, bytes: &[u8], part: Part, out: &mut Vec<u8>) -> Result<(), Damaged> {
        match part {
            Part::Static(text) => out.extend_from_slice(text.as_bytes()),
            Part::Owned(text) => out.extend_from_slice(text.as_bytes()),
            Part::Value(field) => return self.shown(bytes, field, out),
            Part::Object(span, close) => {
                out.push(b'{');
                return self.object(bytes, span, close);
            }
            Part::Text(span) => {
                let to = scalar::slice_of_text(span.of(bytes), SLICE);
                scalar::escape(span.of(bytes).get(..to).unwrap_or_default(), out);
                let at = span.at + to;
                if at < span.end {
                    self.parts.push(Part::Text(Span { at, ..span }));
                }
            }
            Part::Base64(span) => {
                // Three bytes are four characters.
                let to = span.len().min(SLICE / 3 * 3);
                scalar::base64(span.of(bytes).get(..to).unwrap_or_default(), out);
                let at = span.at + to;
                if at < span.end {
                    self.parts.push(Part::Base64(Span { at, ..span }));
                }
            }
        }
        Ok(())
    }

    fn member(&mut self, bytes: &[u8], field: Field, out: &mut Vec<u8>) -> Result<(), Damaged> {
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        if frame.begun {
            out.push(b',');
        }
        frame.begun = true;
        let key = field.key.of(bytes);
        match &mut frame.kind {
            Kind::Array { index, counts_up } => {
                *counts_up &= scalar::is_index(key, *index);
                *index += 1;
                return self.shown(bytes, field, out);
            }
            Kind::Object { .. } => frame.key = field.key,
            Kind::Whole => {
                frame.key = field.key;
                if key.starts_with(b"$") {
                    self.note(bytes, Reason::DollarKey);
                }
            }
        }
        for _ in 0..field.repeats {
            self.note(bytes, Reason::RepeatedKey);
        }
        self.note_text(bytes, field.key);
        out.push(b'"');
        if field.key.len() > SLICE {
            self.parts.push(Part::Value(field));
            self.parts.push(Part::Static("\":"));
            self.parts.push(Part::Text(field.key));
            return Ok(());
        }
        scalar::escape(key, out);
        out.extend_from_slice(b"\":");
        self.shown(bytes, field, out)
    }

    /// Writes the value of a field in the way in which the field is shown.
    fn shown(&mut self, bytes: &[u8], field: Field, out: &mut Vec<u8>) -> Result<(), Damaged> {
        match field.how {
            How::Value => return self.value(bytes, field, out),
            How::Own | How::OwnDate => {
                let depth = self.frames.len();
                self.own = Some(Own { depth, told: false });
            }
            How::Metadata(shown) => {
                let left = inside(bytes, field.value)?;
                let how = |name: &str, _: Element<'_>| shown.contains(&name).then_some(How::OwnDate);
                let list = Some(members(bytes, left, how)?.into_iter());
                out.push(b'{');
                self.frames.push(Frame {
                    kind: Kind::Object {
                        has_operators: false,
                    },
                    left,
                    list,
                    key: Span { at: 0, end: 0 },
                    begun: false,
                    close: "}",
                });
                return Ok(());
            }
        }
        if field.how == How::OwnDate
            && let Some(date) = scalar::own_date(field.element(bytes))
        {
            scalar::json(&date, out);
            return Ok(());
        }
        self.value(bytes, field, out)
    }

    fn value(&mut self, bytes: &[u8], field: Field, out: &mut Vec<u8>) -> Result<(), Damaged> {
        let Field { of, value, .. } = field;
        if of == ElementType::EmbeddedDocument {
            out.push(b'{');
            return self.object(bytes, value, "}");
        }
        if of == ElementType::Array {
            out.push(b'[');
            self.frames.push(Frame {
                kind: Kind::Array {
                    index: 0,
                    counts_up: true,
                },
                left: inside(bytes, value)?,
                list: None,
                key: Span { at: 0, end: 0 },
                begun: false,
                close: "]",
            });
            return Ok(());
        }
        if of == ElementType::String {
            let text = scalar::text(bytes, value)?;
            self.note_text(bytes, text);
            out.push(b'"');
            if text.len() > SLICE {
                self.parts.push(Part::Static("\""));
                self.parts.push(Part::Text(text));
            } else {
                scalar::escape(text.of(bytes), out);
                out.push(b'"');
            }
            return Ok(());
        }
        if let Some(reason) = scalar::plain(of, value.of(bytes), out)? {
            if let Some(reason) = reason {
                self.note(bytes, reason);
            }
            return Ok(());
        }
        let (parts, reason) = scalar::wrapped(bytes, of, value)?;
        if let Some(reason) = reason {
            self.note(bytes, reason);
        }
        for part in &parts {
            if let Part::Text(text) = part {
                self.note_text(bytes, *text);
            }
        }
        self.parts.extend(parts.into_iter().rev());
        Ok(())
    }

    fn object(&mut self, bytes: &[u8], span: Span, close: &'static str) -> Result<(), Damaged> {
        let left = inside(bytes, span)?;
        let keys = Keys::of(bytes, left)?;
        let list = if keys.are_repeated(bytes) {
            Some(members(bytes, left, |_, _| Some(How::Value))?)
        } else {
            None
        };
        let has_operators = keys.has_operators && {
            let shown = list.iter().flatten().map(|member| member.at);
            let all = keys.at.iter().map(|at| at.saturating_sub(1));
            let is_reference = if list.is_some() {
                is_dbref(bytes, left.end, shown)?
            } else {
                is_dbref(bytes, left.end, all)?
            };
            !is_reference
        };
        self.frames.push(Frame {
            kind: Kind::Object { has_operators },
            left,
            list: list.map(Vec::into_iter),
            key: Span { at: 0, end: 0 },
            begun: false,
            close,
        });
        Ok(())
    }

    fn close(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(frame) = self.frames.pop() else {
            return;
        };
        out.extend_from_slice(frame.close.as_bytes());
        match frame.kind {
            Kind::Object {
                has_operators: true,
            } => self.note(bytes, Reason::DollarKey),
            Kind::Array {
                counts_up: false, ..
            } => self.note(bytes, Reason::Form),
            Kind::Object { .. } | Kind::Whole | Kind::Array { .. } => {}
        }
    }

    fn note_text(&mut self, bytes: &[u8], text: Span) {
        if self.inexact.is_some() && std::str::from_utf8(text.of(bytes)).is_err() {
            self.note(bytes, Reason::NotUtf8);
        }
    }

    fn note(&mut self, bytes: &[u8], reason: Reason) {
        let Some(inexact) = &mut self.inexact else {
            return;
        };
        let mut depth = self.frames.len();
        if let Some(own) = &mut self.own {
            if own.told || reason != Reason::NotUtf8 {
                return;
            }
            own.told = true;
            depth = own.depth;
        }
        let frames = self.frames.iter().take(depth);
        inexact.add(frames.map(|frame| frame.step(bytes)), reason);
    }
}

/// The elements of a whole document.
pub(super) fn top(document: &RawDocument) -> Span {
    let end = document.as_bytes().len().saturating_sub(1);
    Span { at: 4, end }
}

/// The elements of an embedded document.
fn inside(bytes: &[u8], span: Span) -> Result<Span, Damaged> {
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
struct Keys {
    at: Vec<u32>,
    has_operators: bool,
    are_utf8: bool,
}

impl Keys {
    fn of(bytes: &[u8], span: Span) -> Result<Self, Damaged> {
        let mut keys = Self {
            at: Vec::new(),
            has_operators: false,
            are_utf8: true,
        };
        let mut at = span.at;
        while at < span.end {
            let field = Field::read(bytes, at, span.end)?;
            let key = field.key.of(bytes);
            keys.at.push(u32::try_from(field.key.at).map_err(|_| Damaged)?);
            keys.has_operators |= key.starts_with(b"$");
            keys.are_utf8 &= std::str::from_utf8(key).is_ok();
            at = field.value.end;
        }
        Ok(keys)
    }

    fn are_repeated(&self, bytes: &[u8]) -> bool {
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
fn is_dbref(
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
