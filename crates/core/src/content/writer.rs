//! Stored bytes as JSON text, a step at a time: owns what is open and what is written next. Holds no tree: a frame for each
//! level, and offsets of the keys of one object while it is looked through.
//!
//! Must never write more than a slice of a text in one step, so that an answer can be sent while it is made.

use bson::raw::RawDocument;
use bson::spec::ElementType;

use super::elements::{Damaged, Element};
use super::fields::{Field, How, Keys, Member, Span, inside, is_dbref, members, top};
use super::inexact::{Inexact, Reason, Step};
use super::scalar::{self, Part};

/// The most bytes of a text that are written in one step, and the most of a key beside its value.
const SLICE: usize = 8 * 1024;
#[derive(Clone, Debug)]
enum Kind {
    Object {
        has_operators: bool,
    },
    /// The object of a whole answer: each key that starts with `$` is named by itself.
    Whole,
    Array {
        index: usize,
        counts_up: bool,
    },
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

/// An own field, of which only a text that is not UTF-8 is reported, once.
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
                let how =
                    |name: &str, _: Element<'_>| shown.contains(&name).then_some(How::OwnDate);
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
