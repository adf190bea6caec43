//! Showing what is stored: owns the relaxed Extended JSON of every BSON type, and which values it cannot say so that
//! putting them back stores the same bytes (source: MongoDB Extended JSON specification, version 2).
//!
//! Reads bytes, so that a text that is not UTF-8 costs no more than itself: it is shown with U+FFFD, and named.

use std::borrow::Cow;
use std::fmt;

use bson::oid::ObjectId;
use bson::raw::RawDocument;
use bson::spec::ElementType;
use bson::{DateTime, Decimal128};
use serde::{Serialize, Serializer};
use serde_json::{Map, Number, Value, json};

use super::elements::{Damaged, Element, Elements, cstring, length, string};
use super::wrapper::is_dbref;

/// The most values that are named; more are counted.
const NAMED_MAX: usize = 100;
/// The most bytes of a path that names one.
const PATH_MAX: usize = 512;

/// Why a shown value would not be stored as it was if it were put back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A text or key is not UTF-8; U+FFFD stands for what is not.
    NotUtf8,
    /// An int64 that an int32 could hold is shown as a number, which becomes an int32.
    Int64,
    /// A key that starts with `$`, outside a `DBRef`: the object would be refused, or taken for Extended JSON.
    DollarKey,
    /// A key that stands twice in its object; the last of its values is shown.
    RepeatedKey,
    /// Bits that the text of the value does not say: the payload of a NaN, a decimal in a form of its own, options of a
    /// regular expression out of order, keys of an array that do not count up.
    Form,
    /// A section that is not an object.
    NotAnObject,
}

impl Reason {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::Int64 => "int64",
            Self::DollarKey => "dollar_key",
            Self::RepeatedKey => "repeated_key",
            Self::Form => "form",
            Self::NotAnObject => "not_an_object",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One value that is not shown exactly.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct InexactValue {
    /// Where it is in what is shown: a JSON Pointer (RFC 6901).
    pub path: String,
    /// Why.
    pub reason: Reason,
}

/// The values that are not shown exactly: putting them back would store something else.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inexact {
    /// How many there are.
    pub count: u64,
    /// The first of them, at most a hundred.
    pub named: Vec<InexactValue>,
}

impl Inexact {
    /// Whether everything is shown exactly.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds what a part of the same answer says, which stands at `path`.
    pub fn extend(&mut self, path: &str, part: Self) {
        self.count += part.count;
        let room = NAMED_MAX.saturating_sub(self.named.len());
        let named = part.named.into_iter().take(room);
        self.named.extend(named.map(|value| InexactValue {
            path: format!("{path}{}", value.path),
            ..value
        }));
    }

    fn add(&mut self, path: &[Step<'_>], reason: Reason) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            let path = pointer(path);
            self.named.push(InexactValue { path, reason });
        }
    }
}

/// The first eight as `reason path`, separated by commas, and how many more there are: ASCII, as a header wants it. What a
/// URI would not hold of a path is percent-encoded.
impl fmt::Display for Inexact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How many are written out.
        const WRITTEN: usize = 8;
        let mut written = 0;
        for value in self.named.iter().take(WRITTEN) {
            let separator = if written > 0 { ", " } else { "" };
            write!(f, "{separator}{} ", value.reason)?;
            let path = if value.path.is_empty() {
                "/"
            } else {
                &value.path
            };
            for byte in path.bytes() {
                if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
                    write!(f, "{}", char::from(byte))?;
                } else {
                    write!(f, "%{byte:02X}")?;
                }
            }
            written += 1;
        }
        match self.count.saturating_sub(written) {
            0 => Ok(()),
            more => write!(f, ", {more} more"),
        }
    }
}

/// JSON, and what of it is not exact.
#[derive(Clone, PartialEq, Debug)]
pub struct Shown {
    /// The JSON.
    pub value: Value,
    /// What of it would not be stored as it was if it were put back.
    pub inexact: Inexact,
}

/// One step of the way to a value.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Key(&'a [u8]),
    Index(usize),
}

fn pointer(path: &[Step<'_>]) -> String {
    let mut pointer = String::new();
    for step in path {
        pointer.push('/');
        match step {
            Step::Key(key) => {
                let key = String::from_utf8_lossy(key);
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Step::Index(index) => pointer.push_str(&index.to_string()),
        }
        if pointer.len() > PATH_MAX {
            let end = pointer.floor_char_boundary(PATH_MAX);
            pointer.truncate(end);
            pointer.push('…');
            break;
        }
    }
    pointer
}

/// What is being shown.
#[derive(Debug, Default)]
pub(super) struct Showing<'a> {
    path: Vec<Step<'a>>,
    pub(super) inexact: Inexact,
}

impl<'a> Showing<'a> {
    pub(super) fn note(&mut self, reason: Reason) {
        self.inexact.add(&self.path, reason);
    }

    /// The fields of a document at the top, each with its name as it is shown.
    pub(super) fn fields(
        &mut self,
        document: &'a RawDocument,
        mut each: impl FnMut(&mut Self, &str, Element<'a>) -> Result<Option<Value>, Damaged>,
    ) -> Result<Map<String, Value>, Damaged> {
        let mut shown = Map::new();
        for element in Elements::of(document) {
            let element = element?;
            self.path.push(Step::Key(element.key));
            let name = String::from_utf8_lossy(element.key);
            if let Some(value) = each(self, &name, element)? {
                if name.starts_with('$') {
                    self.note(Reason::DollarKey);
                }
                self.insert(&mut shown, element.key, value);
            }
            self.path.pop();
        }
        Ok(shown)
    }

    /// Adds a member whose path is the current one.
    fn insert(&mut self, object: &mut Map<String, Value>, key: &[u8], value: Value) {
        let name = self.text(key);
        if object.insert(name, value).is_some() {
            self.note(Reason::RepeatedKey);
        }
    }

    fn text(&mut self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        if matches!(text, Cow::Owned(_)) {
            self.note(Reason::NotUtf8);
        }
        text.into_owned()
    }

    fn object(&mut self, elements: Elements<'a>) -> Result<Map<String, Value>, Damaged> {
        let mut object = Map::new();
        let mut dollar = false;
        for element in elements {
            let element = element?;
            dollar |= element.key.starts_with(b"$");
            self.path.push(Step::Key(element.key));
            let value = self.value(element)?;
            self.insert(&mut object, element.key, value);
            self.path.pop();
        }
        if dollar && !is_dbref(&object) {
            self.note(Reason::DollarKey);
        }
        Ok(object)
    }

    fn array(&mut self, elements: Elements<'a>) -> Result<Vec<Value>, Damaged> {
        let mut array = Vec::new();
        let mut counts_up = true;
        for (index, element) in elements.enumerate() {
            let element = element?;
            counts_up &= is_index(element.key, index);
            self.path.push(Step::Index(index));
            array.push(self.value(element)?);
            self.path.pop();
        }
        if !counts_up {
            self.note(Reason::Form);
        }
        Ok(array)
    }

    /// A field that tierkeep maintains and no client can write: only values that a reader would misread are reported.
    pub(super) fn own(&mut self, element: Element<'a>) -> Result<Value, Damaged> {
        let (count, named) = (self.inexact.count, self.inexact.named.len());
        let value = self.value(element)?;
        let mut told = self.inexact.named.drain(named..);
        let is_told = told.any(|value| value.reason == Reason::NotUtf8);
        drop(told);
        self.inexact.count = count;
        if is_told {
            self.note(Reason::NotUtf8);
        }
        Ok(value)
    }

    /// One value, whose path is the current one.
    pub(super) fn value(&mut self, element: Element<'a>) -> Result<Value, Damaged> {
        let bytes = element.value;
        Ok(match element.of {
            ElementType::Double => self.double(f64::from_bits(u64::from_le_bytes(fixed(bytes)?))),
            ElementType::String => Value::String(self.text(string(bytes)?.0)),
            ElementType::EmbeddedDocument => Value::Object(self.object(Elements::inside(bytes)?)?),
            ElementType::Array => Value::Array(self.array(Elements::inside(bytes)?)?),
            ElementType::Binary => self.binary(bytes)?,
            ElementType::Undefined => json!({ "$undefined": true }),
            ElementType::ObjectId => json!({ "$oid": oid(bytes)? }),
            ElementType::Boolean => {
                let [byte] = fixed(bytes)?;
                if byte > 1 {
                    self.note(Reason::Form);
                }
                Value::Bool(byte != 0)
            }
            ElementType::DateTime => date(DateTime::from_millis(int64(bytes)?)),
            ElementType::Null => Value::Null,
            ElementType::RegularExpression => self.regex(bytes)?,
            ElementType::DbPointer => {
                let (namespace, id) = string(bytes)?;
                let namespace = self.text(namespace);
                json!({ "$dbPointer": { "$ref": namespace, "$id": { "$oid": oid(id)? } } })
            }
            ElementType::JavaScriptCode => json!({ "$code": self.text(string(bytes)?.0) }),
            ElementType::Symbol => json!({ "$symbol": self.text(string(bytes)?.0) }),
            ElementType::JavaScriptCodeWithScope => {
                let (code, scope) = string(bytes.get(4..).unwrap_or_default())?;
                let code = self.text(code);
                if length(scope)? != scope.len() {
                    return Err(Damaged);
                }
                json!({ "$code": code, "$scope": self.object(Elements::inside(scope)?)? })
            }
            ElementType::Int32 => i32::from_le_bytes(fixed(bytes)?).into(),
            ElementType::Timestamp => {
                let bits = u64::from_le_bytes(fixed(bytes)?);
                json!({ "$timestamp": { "t": bits >> 32, "i": bits & u64::from(u32::MAX) } })
            }
            ElementType::Int64 => {
                let number = int64(bytes)?;
                if i32::try_from(number).is_ok() {
                    self.note(Reason::Int64);
                }
                number.into()
            }
            ElementType::Decimal128 => self.decimal(fixed(bytes)?),
            ElementType::MinKey => json!({ "$minKey": 1 }),
            ElementType::MaxKey => json!({ "$maxKey": 1 }),
        })
    }

    fn double(&mut self, number: f64) -> Value {
        if let Some(number) = Number::from_f64(number) {
            return Value::Number(number);
        }
        if number.is_nan() && number.to_bits() != f64::NAN.to_bits() {
            self.note(Reason::Form);
        }
        let text = match (number.is_nan(), number > 0.0) {
            (true, _) => "NaN",
            (false, true) => "Infinity",
            (false, false) => "-Infinity",
        };
        json!({ "$numberDouble": text })
    }

    fn decimal(&mut self, bytes: [u8; 16]) -> Value {
        let text = Decimal128::from_bytes(bytes).to_string();
        let again = text.parse::<Decimal128>().map(|number| number.bytes());
        if again.ok() != Some(bytes) {
            self.note(Reason::Form);
        }
        json!({ "$numberDecimal": text })
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<Value, Damaged> {
        /// The subtype whose bytes have a length of their own before them.
        const OLD: u8 = 2;
        let (subtype, bytes) = bytes
            .get(4..)
            .and_then(<[u8]>::split_first)
            .ok_or(Damaged)?;
        let bytes = match bytes.split_at_checked(4) {
            Some((inner, rest)) if *subtype == OLD && length(inner) == Ok(rest.len()) => rest,
            Some(_) | None => {
                if *subtype == OLD {
                    self.note(Reason::Form);
                }
                bytes
            }
        };
        let binary = bson::Binary {
            subtype: (*subtype).into(),
            bytes: bytes.to_vec(),
        };
        Ok(bson::Bson::Binary(binary).into_relaxed_extjson())
    }

    fn regex(&mut self, bytes: &[u8]) -> Result<Value, Damaged> {
        let (pattern, rest) = cstring(bytes)?;
        let (options, _) = cstring(rest)?;
        if !options.is_sorted() {
            self.note(Reason::Form);
        }
        let (pattern, options) = (self.text(pattern), self.text(options));
        Ok(json!({ "$regularExpression": { "pattern": pattern, "options": options } }))
    }
}

/// A date as relaxed Extended JSON has it: a text from 1970 to 9999, else its number of milliseconds.
pub(super) fn date(at: DateTime) -> Value {
    /// The last millisecond of the year 9999.
    const LAST: i64 = 253_402_300_799_999;
    let millis = at.timestamp_millis();
    match at.try_to_rfc3339_string() {
        Ok(text) if (0..=LAST).contains(&millis) => json!({ "$date": text }),
        Ok(_) | Err(_) => json!({ "$date": { "$numberLong": millis.to_string() } }),
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Damaged> {
    bytes.try_into().map_err(|_| Damaged)
}

fn int64(bytes: &[u8]) -> Result<i64, Damaged> {
    Ok(i64::from_le_bytes(fixed(bytes)?))
}

fn oid(bytes: &[u8]) -> Result<String, Damaged> {
    Ok(ObjectId::from_bytes(fixed(bytes)?).to_hex())
}

/// Whether the key of an array's element is its index, in decimal digits.
fn is_index(key: &[u8], index: usize) -> bool {
    let digits = std::str::from_utf8(key).ok();
    let is_plain = key.iter().all(u8::is_ascii_digit) && (key == b"0" || !key.starts_with(b"0"));
    is_plain && digits.and_then(|digits| digits.parse().ok()) == Some(index)
}
