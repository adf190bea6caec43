//! Reading a body: owns the way from JSON to raw BSON. Each value goes to its place in the document as it is read; there is no
//! tree, and beside the document nothing grows but the offsets of the keys of the objects that are open.
//!
//! Must never keep more than [`MAX_DOCUMENT_BYTES`] of BSON, or go deeper than [`MAX_DEPTH`].

use bson::raw::RawDocumentBuf;
use bson::spec::ElementType;
use serde_json::{Map, Value};
use struson::reader::{JsonReader, JsonStreamReader, ReaderError, ReaderSettings, ValueType};

use super::elements::{begin, end};
use super::encode::{append, append_code, append_index, append_number, append_text, kind, number};
use super::{InvalidBody, MAX_DEPTH, wrapper};
use crate::document::MAX_DOCUMENT_BYTES;

/// The most members of an object that is read as Extended JSON; no wrapper has more.
const WRAPPER_MEMBERS: usize = 4;
/// How deep a wrapper goes: `{"$dbPointer":{"$id":{"$oid":"…"}}}`.
const WRAPPER_LEVELS: usize = 3;
/// The most bytes of a refused value that are quoted, and the most characters.
const QUOTED_BYTES: usize = 480;
const QUOTED_CHARS: usize = 120;
/// The most keys that are compared each with each.
const FEW_KEYS: usize = 8;

const NOT_EXTENDED_JSON: &str = "has a key that starts with $ and is not an Extended JSON value";

/// The object that `body` is.
pub(super) fn object(body: &[u8]) -> Result<RawDocumentBuf, InvalidBody> {
    let mut reading = Reading::of(body);
    match reading.whole() {
        // What is no JSON at all is said first.
        Err(InvalidBody::Content(why)) => {
            let mut json = reader(body);
            json.skip_value().map_err(malformed)?;
            json.consume_trailing_whitespace().map_err(malformed)?;
            Err(InvalidBody::Content(why))
        }
        read => read,
    }
}

pub(super) fn reader(body: &[u8]) -> JsonStreamReader<&[u8]> {
    let settings = ReaderSettings {
        track_path: false,
        max_nesting_depth: None,
        restrict_number_values: false,
        ..ReaderSettings::default()
    };
    JsonStreamReader::new_custom(body, settings)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function in map_err"
)]
pub(super) fn malformed(error: ReaderError) -> InvalidBody {
    InvalidBody::Malformed(error.to_string())
}

fn check_depth(depth: usize) -> Result<(), InvalidBody> {
    if depth > MAX_DEPTH {
        return Err(InvalidBody::Content(format!(
            "the body is nested deeper than {MAX_DEPTH} levels"
        )));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), InvalidBody> {
    if key.contains('\0') {
        return Err(InvalidBody::Content(format!(
            "the key {key:?} contains NUL"
        )));
    }
    Ok(())
}

fn twice(key: &str) -> InvalidBody {
    InvalidBody::Content(format!("the key {key:?} is duplicated"))
}

/// What is read, and what it has become so far.
struct Reading<'a> {
    body: &'a [u8],
    json: JsonStreamReader<&'a [u8]>,
    out: Vec<u8>,
    /// Where in `out` the keys of the open objects begin.
    keys: Vec<u32>,
}

impl<'a> Reading<'a> {
    fn of(body: &'a [u8]) -> Self {
        Self {
            body,
            json: reader(body),
            out: Vec::with_capacity(body.len().min(MAX_DOCUMENT_BYTES)),
            keys: Vec::new(),
        }
    }

    fn whole(&mut self) -> Result<RawDocumentBuf, InvalidBody> {
        let of = self.value(1)?;
        if of != ElementType::EmbeddedDocument {
            // Trailing text is looked for by the caller.
            return Err(InvalidBody::Content(format!(
                "the body must be a JSON object, not {}",
                kind(of)
            )));
        }
        self.check_size()?;
        let json = std::mem::replace(&mut self.json, reader(b""));
        json.consume_trailing_whitespace().map_err(malformed)?;
        RawDocumentBuf::from_bytes(std::mem::take(&mut self.out))
            .map_err(|_| InvalidBody::Content("the body cannot be stored as BSON".into()))
    }

    fn check_size(&self) -> Result<(), InvalidBody> {
        if self.out.len() > MAX_DOCUMENT_BYTES {
            return Err(InvalidBody::TooLarge);
        }
        Ok(())
    }

    /// Reads the next value to the end of `out`, where its type and key stand already.
    fn value(&mut self, depth: usize) -> Result<ElementType, InvalidBody> {
        self.check_size()?;
        Ok(match self.json.peek().map_err(malformed)? {
            ValueType::Object => {
                check_depth(depth)?;
                self.json.begin_object().map_err(malformed)?;
                self.object(depth)?
            }
            ValueType::Array => {
                check_depth(depth)?;
                self.json.begin_array().map_err(malformed)?;
                self.array(depth)?
            }
            ValueType::String => {
                let text = self.json.next_str().map_err(malformed)?;
                append_text(&mut self.out, text);
                ElementType::String
            }
            ValueType::Number => {
                let text = self.json.next_number_as_str().map_err(malformed)?;
                append_number(&mut self.out, &number(text)?)
            }
            ValueType::Boolean => {
                let value = self.json.next_bool().map_err(malformed)?;
                self.out.push(u8::from(value));
                ElementType::Boolean
            }
            ValueType::Null => {
                self.json.next_null().map_err(malformed)?;
                ElementType::Null
            }
        })
    }

    fn array(&mut self, depth: usize) -> Result<ElementType, InvalidBody> {
        let start = begin(&mut self.out);
        let mut index = 0_usize;
        while self.json.has_next().map_err(malformed)? {
            let tag = self.out.len();
            self.out.push(0);
            append_index(&mut self.out, index);
            let of = self.value(depth + 1)?;
            self.tag(tag, of);
            index += 1;
        }
        self.json.end_array().map_err(malformed)?;
        end(&mut self.out, start);
        Ok(ElementType::Array)
    }

    fn tag(&mut self, at: usize, of: ElementType) {
        if let Some(tag) = self.out.get_mut(at) {
            *tag = of as u8;
        }
    }

    /// The rest of an object, whose brace was read.
    fn object(&mut self, depth: usize) -> Result<ElementType, InvalidBody> {
        let from = self.position().saturating_sub(1);
        let start = begin(&mut self.out);
        let first = self.keys.len();
        let mut reference = Reference::No;
        while self.json.has_next().map_err(malformed)? {
            let place = self.keys.len() - first;
            let name = self.json.next_name().map_err(malformed)?;
            check_key(name)?;
            if place == 0 && name.starts_with('$') && name != "$ref" {
                let name = name.to_owned();
                self.out.truncate(start);
                return self.wrapper(name, from, depth);
            }
            let fits = reference.takes(place, name);
            let tag = self.out.len();
            self.out.push(0);
            self.keys.push(offset(self.out.len()));
            self.out.extend_from_slice(name.as_bytes());
            self.out.push(0);
            if !fits {
                self.json.skip_value().map_err(malformed)?;
                return Err(self.refused(from, NOT_EXTENDED_JSON)?);
            }
            let wants_text = reference.wants_text(place, name);
            let of = self.value(depth + 1)?;
            if wants_text && of != ElementType::String {
                return Err(self.refused(from, NOT_EXTENDED_JSON)?);
            }
            self.tag(tag, of);
        }
        if reference == Reference::Yes && self.keys.len() - first < 2 {
            return Err(self.refused(from, NOT_EXTENDED_JSON)?);
        }
        self.json.end_object().map_err(malformed)?;
        self.check_keys(first)?;
        end(&mut self.out, start);
        Ok(ElementType::EmbeddedDocument)
    }

    /// Refuses a duplicate key among those from `first` on, and forgets these.
    fn check_keys(&mut self, first: usize) -> Result<(), InvalidBody> {
        let out = &self.out;
        let keys = self.keys.get_mut(first..).unwrap_or_default();
        let repeated = if keys.len() <= FEW_KEYS {
            let mut rest = &*keys;
            loop {
                let Some((key, others)) = rest.split_first() else {
                    break None;
                };
                let key = key_at(out, *key);
                if others.iter().any(|other| key_at(out, *other) == key) {
                    break Some(key);
                }
                rest = others;
            }
        } else {
            keys.sort_unstable_by(|one, other| key_at(out, *one).cmp(key_at(out, *other)));
            let mut pairs = keys.windows(2).filter_map(|pair| match pair {
                [one, other] => Some((key_at(out, *one), key_at(out, *other))),
                _ => None,
            });
            pairs.find(|(one, other)| one == other).map(|pair| pair.0)
        };
        if let Some(key) = repeated {
            return Err(twice(&String::from_utf8_lossy(key)));
        }
        self.keys.truncate(first);
        Ok(())
    }

    /// How many bytes of the body were read.
    fn position(&self) -> usize {
        let position = self.json.current_position(false).data_pos;
        position
            .and_then(|position| usize::try_from(position).ok())
            .unwrap_or_default()
    }

    /// Reads to the end of the object that began at `from`, and refuses it.
    fn refused(&mut self, from: usize, why: &str) -> Result<InvalidBody, InvalidBody> {
        while self.json.has_next().map_err(malformed)? {
            self.json.skip_name().map_err(malformed)?;
            self.json.skip_value().map_err(malformed)?;
        }
        self.json.end_object().map_err(malformed)?;
        Ok(InvalidBody::Content(format!("{} {why}", self.quoted(from))))
    }

    /// What was read from `from` on, as far as it is quoted.
    fn quoted(&self, from: usize) -> String {
        let to = self.position().min(from.saturating_add(QUOTED_BYTES));
        let read = self.body.get(from..to).unwrap_or_default();
        String::from_utf8_lossy(read)
            .chars()
            .take(QUOTED_CHARS)
            .collect()
    }

    /// The rest of an object whose first key, which was read, starts with `$`.
    fn wrapper(
        &mut self,
        name: String,
        from: usize,
        depth: usize,
    ) -> Result<ElementType, InvalidBody> {
        let mut object = Map::new();
        let mut scope = None;
        let mut is_small = true;
        let mut next = Some(name);
        while let Some(name) = next.take() {
            check_key(&name)?;
            if object.contains_key(&name) {
                return Err(twice(&name));
            }
            let is_scope = name == "$scope" && self.is_object()?;
            if is_scope {
                scope = Some(self.scope(depth + 1)?);
                object.insert(name, Value::Null);
            } else {
                match self.small(depth + 1, WRAPPER_LEVELS)? {
                    Some(value) if object.len() < WRAPPER_MEMBERS => {
                        object.insert(name, value);
                    }
                    Some(_) | None => is_small = false,
                }
            }
            if self.json.has_next().map_err(malformed)? {
                next = Some(self.json.next_name_owned().map_err(malformed)?);
            }
        }
        self.json.end_object().map_err(malformed)?;
        let refused = |why: &str| Err(InvalidBody::Content(format!("{} {why}", self.quoted(from))));
        match scope {
            _ if !is_small => refused(NOT_EXTENDED_JSON),
            None => match wrapper::read(object) {
                Ok(value) => append(&mut self.out, value),
                Err(why) => refused(why.unwrap_or(NOT_EXTENDED_JSON)),
            },
            Some((ElementType::EmbeddedDocument, scope)) if object.len() == 2 => {
                match object.get("$code").and_then(Value::as_str) {
                    Some(code) => Ok(append_code(&mut self.out, code, &scope)),
                    None => refused(NOT_EXTENDED_JSON),
                }
            }
            Some((ElementType::EmbeddedDocument, _)) => refused(NOT_EXTENDED_JSON),
            Some(_) => refused("has a $scope that is not an object"),
        }
    }

    fn is_object(&mut self) -> Result<bool, InvalidBody> {
        Ok(self.json.peek().map_err(malformed)? == ValueType::Object)
    }

    /// The object of a `$scope`, as bytes.
    fn scope(&mut self, depth: usize) -> Result<(ElementType, Vec<u8>), InvalidBody> {
        let at = self.out.len();
        let of = self.value(depth)?;
        Ok((of, self.out.split_off(at)))
    }

    /// The next value as a tree, where it is one that a wrapper can have; read and forgotten where not.
    fn small(&mut self, depth: usize, levels: usize) -> Result<Option<Value>, InvalidBody> {
        Ok(match self.json.peek().map_err(malformed)? {
            ValueType::Object if levels > 0 => {
                check_depth(depth)?;
                self.json.begin_object().map_err(malformed)?;
                let mut object = Some(Map::new());
                while self.json.has_next().map_err(malformed)? {
                    let name = self.json.next_name_owned().map_err(malformed)?;
                    check_key(&name)?;
                    if object.as_ref().is_some_and(|it| it.contains_key(&name)) {
                        return Err(twice(&name));
                    }
                    let value = self.small(depth + 1, levels - 1)?;
                    object = object.zip(value).and_then(|(mut object, value)| {
                        object.insert(name, value);
                        (object.len() <= WRAPPER_MEMBERS).then_some(object)
                    });
                }
                self.json.end_object().map_err(malformed)?;
                object.map(Value::Object)
            }
            ValueType::Object | ValueType::Array => {
                self.json.skip_value().map_err(malformed)?;
                None
            }
            ValueType::String => Some(Value::String(self.json.next_string().map_err(malformed)?)),
            ValueType::Number => {
                let text = self.json.next_number_as_str().map_err(malformed)?;
                Some(Value::Number(number(text)?))
            }
            ValueType::Boolean => Some(Value::Bool(self.json.next_bool().map_err(malformed)?)),
            ValueType::Null => {
                self.json.next_null().map_err(malformed)?;
                Some(Value::Null)
            }
        })
    }
}

/// Whether an object is a `DBRef` as far as it was read: `$ref`, a string, then `$id`, then `$db`, a string, where there is
/// one; no other key starts with `$` (source: MongoDB `DBRef` specification). It is stored as the document that it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reference {
    Yes,
    No,
}

impl Reference {
    /// Whether the object may have this key in this place.
    fn takes(&mut self, place: usize, key: &str) -> bool {
        if place == 0 && key == "$ref" {
            *self = Self::Yes;
        }
        match (*self, place) {
            (Self::Yes, 0) => true,
            (Self::Yes, 1) => key == "$id",
            (Self::Yes, 2) if key == "$db" => true,
            (Self::Yes | Self::No, _) => !key.starts_with('$'),
        }
    }

    /// Whether the value of this key must be a text.
    fn wants_text(self, place: usize, key: &str) -> bool {
        self == Self::Yes && (place == 0 || place == 2 && key == "$db")
    }
}

/// Where something begins, in a document of at most 16 MiB and one value.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The key at this place.
fn key_at(out: &[u8], at: u32) -> &[u8] {
    let from = usize::try_from(at).unwrap_or(usize::MAX);
    let rest = out.get(from..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == 0);
    rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
}
