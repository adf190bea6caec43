//! Section content: JSON as it is sent, BSON as it is stored, JSON as it is shown.
//!
//! What is PUT is what is read back: integers stay integers, `1.0` stays a double, key order stays. A
//! value that is a valid MongoDB Extended JSON v2 wrapper becomes that BSON type and is shown as relaxed
//! Extended JSON (source: MongoDB Extended JSON specification, version 2).

mod elements;
mod show;
mod wrapper;

use std::collections::HashSet;
use std::ops::RangeInclusive;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::spec::ElementType;
use bson::{Bson, DateTime, Document};
use serde_json::{Map, Number, Value};
use struson::reader::{JsonReader, JsonStreamReader, ReaderError, ReaderSettings, ValueType};

use self::elements::{Element, Elements};
use self::show::Showing;
use crate::adopt;
use crate::document::{self, field};

pub use elements::Damaged;
pub use show::{Inexact, InexactValue, Reason, Shown};

/// The deepest nesting accepted; the body itself is the first level.
pub const MAX_DEPTH: usize = 100;

/// Why a body is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidBody {
    /// Not JSON at all.
    #[error("the body is not valid JSON: {0}")]
    Malformed(String),
    /// JSON that cannot be stored.
    #[error("{0}")]
    Content(String),
}

/// Reads a section body: one JSON object.
///
/// # Errors
/// [`InvalidBody::Malformed`] for what is not JSON; [`InvalidBody::Content`] for what is no object, has
/// duplicate keys, integers outside int64, floats outside f64, keys that start with `$` outside Extended
/// JSON or contain NUL, or is nested deeper than [`MAX_DEPTH`].
pub fn parse(body: &[u8]) -> Result<Document, InvalidBody> {
    let value = to_bson(read(body)?)?;
    if let Bson::Document(document) = value {
        return Ok(document);
    }
    Err(InvalidBody::Content(format!(
        "the body must be a JSON object, not {}",
        kind(&value)
    )))
}

/// Applies a JSON Merge Patch (RFC 7396): `Null` removes, objects merge, all else replaces.
pub fn merge(target: &mut Document, patch: Document) {
    for (key, value) in patch {
        if value == Bson::Null {
            target.remove(&key);
        } else if let Bson::Document(patch) = value {
            let mut inner = match target.get_mut(&key) {
                Some(Bson::Document(inner)) => std::mem::take(inner),
                Some(_) | None => Document::new(),
            };
            merge(&mut inner, patch);
            target.insert(key, inner);
        } else {
            target.insert(key, value);
        }
    }
}

/// The content in the form in which it is stored.
///
/// # Errors
/// [`InvalidBody::Content`] where BSON cannot hold it.
pub fn to_raw(document: &Document) -> Result<RawDocumentBuf, InvalidBody> {
    RawDocumentBuf::try_from(document)
        .map_err(|_| InvalidBody::Content("the body cannot be stored as BSON".into()))
}

/// Any BSON value as relaxed Extended JSON; what is not exact is not told.
pub fn show(value: Bson) -> Value {
    let whole = RawDocumentBuf::try_from(&bson::doc! { "": value }).unwrap_or_default();
    let shown = Showing::default().fields(&whole, |showing, _, element| {
        showing.value(element).map(Some)
    });
    let value = shown.ok().and_then(|mut shown| shown.remove(""));
    value.unwrap_or(Value::Null)
}

/// Whether every element, down to `levels` levels, can be told apart. Texts need not be UTF-8: other programs store such,
/// and they are kept.
pub fn is_bson(document: &RawDocument, levels: usize) -> bool {
    elements::are_sound(Elements::of(document), levels)
}

/// How many bytes a section has, whatever another program stored under its name; `None` where the document has nothing
/// there.
///
/// # Errors
/// As [`show_section`].
pub fn section_bytes(document: &RawDocument, section: &str) -> Result<Option<usize>, Damaged> {
    Ok(elements::find(document, section)?.map(|element| element.value.len()))
}

/// One section as it is shown, whatever another program stored under its name; `None` where the document has nothing
/// there.
///
/// # Errors
/// [`Damaged`] where the document is no BSON: that is never "not there".
pub fn show_section(document: &RawDocument, section: &str) -> Result<Option<Shown>, Damaged> {
    let Some(element) = elements::find(document, section)? else {
        return Ok(None);
    };
    let mut showing = Showing::default();
    if element.of != ElementType::EmbeddedDocument {
        showing.note(Reason::NotAnObject);
    }
    let value = showing.value(element)?;
    let inexact = showing.inexact;
    Ok(Some(Shown { value, inexact }))
}

/// The whole user document as it is shown: its own dates as RFC 3339 texts, the rest as relaxed Extended
/// JSON; only tierkeep's own fields and `sections`, never what other programs added.
///
/// # Errors
/// [`Damaged`] where it is no BSON.
pub fn show_user<'a>(
    document: &RawDocument,
    sections: impl IntoIterator<Item = &'a str>,
) -> Result<Shown, Damaged> {
    let sections: HashSet<&str> = sections.into_iter().collect();
    let mut showing = Showing::default();
    let shown = showing.fields(document, |showing, name, element| match name {
        field::CREATED_AT | field::LAST_ACCESSED => own_date(showing, element).map(Some),
        field::METADATA if element.of == ElementType::EmbeddedDocument => {
            own_metadata(showing, element, &SHOWN_METADATA).map(Some)
        }
        name if document::OWN_FIELDS.contains(&name) => showing.own(element).map(Some),
        name if sections.contains(name) => showing.value(element).map(Some),
        _ => Ok(None),
    });
    let value = Value::Object(shown?);
    let inexact = showing.inexact;
    Ok(Shown { value, inexact })
}

/// What stands in a user document beside tierkeep's own fields and `sections`.
///
/// # Errors
/// [`Damaged`] where it is no BSON.
pub fn show_other<'a>(
    document: &RawDocument,
    sections: impl IntoIterator<Item = &'a str>,
) -> Result<Shown, Damaged> {
    let sections: HashSet<&str> = sections.into_iter().collect();
    let mut showing = Showing::default();
    let shown = showing.fields(document, |showing, name, element| {
        let is_known = document::OWN_FIELDS.contains(&name) || sections.contains(name);
        (!is_known).then(|| showing.value(element)).transpose()
    });
    let value = Value::Object(shown?);
    let inexact = showing.inexact;
    Ok(Shown { value, inexact })
}

/// An HR record as it is shown: its own dates as RFC 3339 texts, `metadata_shown` of its metadata, all else as relaxed
/// Extended JSON.
pub(crate) fn show_record(record: &RawDocument, metadata_shown: &[&str]) -> Result<Shown, Damaged> {
    let mut showing = Showing::default();
    let shown = showing.fields(record, |showing, name, element| {
        let value = match name {
            field::CREATED_AT | field::UPDATED_AT if element.of == ElementType::DateTime => {
                own_date(showing, element)
            }
            field::METADATA if element.of == ElementType::EmbeddedDocument => {
                own_metadata(showing, element, metadata_shown)
            }
            field::ID => showing.own(element),
            _ => showing.value(element),
        };
        value.map(Some)
    });
    let value = Value::Object(shown?);
    let inexact = showing.inexact;
    Ok(Shown { value, inexact })
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

/// Metadata, of which nothing can be put back: only texts that are not UTF-8 are told.
fn own_metadata<'a>(
    showing: &mut Showing<'a>,
    element: Element<'a>,
    shown: &[&str],
) -> Result<Value, Damaged> {
    let metadata = RawDocument::from_bytes(element.value).map_err(|_| Damaged)?;
    let fields = showing.fields(metadata, |showing, name, element| {
        let is_shown = shown.contains(&name);
        is_shown.then(|| own_date(showing, element)).transpose()
    })?;
    Ok(Value::Object(fields))
}

/// A field that tierkeep keeps: a date as RFC 3339 where that can say it, all else as relaxed Extended JSON.
fn own_date<'a>(showing: &mut Showing<'a>, element: Element<'a>) -> Result<Value, Damaged> {
    let value = showing.own(element)?;
    Ok(match adopt::date(&element.to_bson()) {
        Some(at) if is_rfc3339(at) => Value::String(rfc3339(at)),
        Some(_) | None => value,
    })
}

/// Whether RFC 3339 can say the date: the years 1 to 9999.
fn is_rfc3339(at: DateTime) -> bool {
    /// The first millisecond of the year 1, and the last of 9999.
    const YEARS: RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;
    YEARS.contains(&at.timestamp_millis())
}

/// A date as RFC 3339 with milliseconds, in UTC. One outside the years 1 to 9999, which that cannot say, as its number
/// of milliseconds since 1970.
pub fn rfc3339(at: DateTime) -> String {
    if !is_rfc3339(at) {
        return format!("{} ms since 1970", at.timestamp_millis());
    }
    match jiff::Timestamp::from_millisecond(at.timestamp_millis()) {
        Ok(at) => format!("{at:.3}"),
        // The last day of the year 9999 is beyond what a timestamp holds, though not beyond RFC 3339.
        Err(_) => at
            .try_to_rfc3339_string()
            .unwrap_or_else(|_| at.to_string()),
    }
}

fn kind(value: &Bson) -> &'static str {
    if value.as_array().is_some() {
        "an array"
    } else if value.as_str().is_some() {
        "a text"
    } else if value.as_null().is_some() {
        "null"
    } else if value.as_bool().is_some() {
        "a boolean"
    } else if value.as_i32().is_some() || value.as_i64().is_some() || value.as_f64().is_some() {
        "a number"
    } else {
        "an Extended JSON value"
    }
}

fn read(body: &[u8]) -> Result<Value, InvalidBody> {
    let settings = ReaderSettings {
        track_path: false,
        max_nesting_depth: None,
        restrict_number_values: false,
        ..ReaderSettings::default()
    };
    let mut reader = JsonStreamReader::new_custom(body, settings);
    let value = read_value(&mut reader, 1)?;
    reader.consume_trailing_whitespace().map_err(malformed)?;
    Ok(value)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function in map_err"
)]
fn malformed(error: ReaderError) -> InvalidBody {
    InvalidBody::Malformed(error.to_string())
}

fn read_value<R: JsonReader>(reader: &mut R, depth: usize) -> Result<Value, InvalidBody> {
    match reader.peek().map_err(malformed)? {
        ValueType::Object => {
            check_depth(depth)?;
            reader.begin_object().map_err(malformed)?;
            let mut object = Map::new();
            while reader.has_next().map_err(malformed)? {
                let key = reader.next_name_owned().map_err(malformed)?;
                if key.contains('\0') {
                    return Err(InvalidBody::Content(format!(
                        "the key {key:?} contains NUL"
                    )));
                }
                if object.contains_key(&key) {
                    return Err(InvalidBody::Content(format!(
                        "the key {key:?} stands twice"
                    )));
                }
                let value = read_value(reader, depth + 1)?;
                object.insert(key, value);
            }
            reader.end_object().map_err(malformed)?;
            Ok(Value::Object(object))
        }
        ValueType::Array => {
            check_depth(depth)?;
            reader.begin_array().map_err(malformed)?;
            let mut array = Vec::new();
            while reader.has_next().map_err(malformed)? {
                array.push(read_value(reader, depth + 1)?);
            }
            reader.end_array().map_err(malformed)?;
            Ok(Value::Array(array))
        }
        ValueType::String => reader.next_string().map(Value::String).map_err(malformed),
        ValueType::Number => number(reader.next_number_as_str().map_err(malformed)?),
        ValueType::Boolean => reader.next_bool().map(Value::Bool).map_err(malformed),
        ValueType::Null => reader.next_null().map(|()| Value::Null).map_err(malformed),
    }
}

fn check_depth(depth: usize) -> Result<(), InvalidBody> {
    if depth > MAX_DEPTH {
        return Err(InvalidBody::Content(format!(
            "the body is nested deeper than {MAX_DEPTH} levels"
        )));
    }
    Ok(())
}

fn number(text: &str) -> Result<Value, InvalidBody> {
    let outside = |range| {
        let text: String = text.chars().take(40).collect();
        InvalidBody::Content(format!("the number {text} is outside {range}"))
    };
    if text.contains(['.', 'e', 'E']) {
        let float: f64 = text.parse().map_err(|_| outside("f64"))?;
        Number::from_f64(float)
            .map(Value::Number)
            .ok_or_else(|| outside("f64"))
    } else {
        text.parse::<i64>()
            .map(Value::from)
            .map_err(|_| outside("int64"))
    }
}

fn to_bson(value: Value) -> Result<Bson, InvalidBody> {
    match value {
        Value::Object(object) if object.keys().any(|key| key.starts_with('$')) => {
            wrapper::read(object)
        }
        Value::Object(object) => wrapper::entries(object).map(Bson::Document),
        Value::Array(array) => array
            .into_iter()
            .map(to_bson)
            .collect::<Result<_, _>>()
            .map(Bson::Array),
        Value::String(text) => Ok(Bson::String(text)),
        Value::Bool(value) => Ok(Bson::Boolean(value)),
        Value::Null => Ok(Bson::Null),
        Value::Number(number) => Ok(match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => i32::try_from(integer).map_or(Bson::Int64(integer), Bson::Int32),
            (None, float) => Bson::Double(float.unwrap_or(f64::NAN)),
        }),
    }
}

#[cfg(test)]
mod tests;
