//! Section content: JSON as it is sent, BSON as it is stored, JSON as it is shown.
//!
//! What is PUT is what is read back: integers stay integers, `1.0` stays a double, key order stays. A
//! value that is a valid MongoDB Extended JSON v2 wrapper becomes that BSON type and is shown as relaxed
//! Extended JSON (source: MongoDB Extended JSON specification, version 2).

use std::collections::HashSet;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, Document};
use serde_json::{Map, Number, Value};
use struson::reader::{JsonReader, JsonStreamReader, ReaderError, ReaderSettings, ValueType};

use crate::document::{self, field};

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

/// Any BSON value as relaxed Extended JSON.
pub fn show(value: Bson) -> Value {
    value.into_relaxed_extjson()
}

/// One section as it is shown; `None` where the document has no such object.
pub fn show_section(document: &RawDocument, section: &str) -> Option<Value> {
    let section = document.get_document(section).ok()?;
    Some(show(Bson::Document(Document::try_from(section).ok()?)))
}

/// The whole user document as it is shown: its own dates as RFC 3339 texts, the rest as relaxed Extended
/// JSON; only tierkeep's own fields and `sections`, never what other programs added.
pub fn show_user<'a>(document: &RawDocument, sections: impl IntoIterator<Item = &'a str>) -> Value {
    const SHOWN_METADATA: [&str; 7] = [
        field::STORAGE_LOCATION,
        field::BACKUP_STATUS,
        field::VERSION,
        field::STAGED_AT,
        field::UPDATED_AT,
        field::DIGEST,
        field::SCHEMA_VERSION,
    ];
    let sections: HashSet<&str> = sections.into_iter().collect();
    let mut shown = Map::new();
    let Ok(document) = Document::try_from(document) else {
        return Value::Object(shown);
    };
    for (key, value) in document {
        let value = match (key.as_str(), value) {
            (field::CREATED_AT | field::LAST_ACCESSED, date) => show_own_date(date),
            (field::METADATA, Bson::Document(metadata)) => Value::Object(
                metadata
                    .into_iter()
                    .filter(|(name, _)| SHOWN_METADATA.contains(&name.as_str()))
                    .map(|(name, value)| (name, show_own_date(value)))
                    .collect(),
            ),
            (name, value) if document::OWN_FIELDS.contains(&name) || sections.contains(name) => {
                show(value)
            }
            _ => continue,
        };
        shown.insert(key, value);
    }
    Value::Object(shown)
}

/// A date as RFC 3339 with milliseconds, in UTC. Dates that this cannot say are shown in a form of their own.
pub fn rfc3339(at: DateTime) -> String {
    match jiff::Timestamp::from_millisecond(at.timestamp_millis()) {
        Ok(at) => format!("{at:.3}"),
        // The last day of the year 9999 is beyond what a timestamp holds, though not beyond RFC 3339.
        Err(_) => at
            .try_to_rfc3339_string()
            .unwrap_or_else(|_| at.to_string()),
    }
}

fn show_own_date(value: Bson) -> Value {
    crate::adopt::date(&value).map_or_else(|| show(value), |at| Value::String(rfc3339(at)))
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
        Value::Object(object) => {
            let Some(dollar) = object.keys().find(|key| key.starts_with('$')).cloned() else {
                let mut document = Document::new();
                for (key, value) in object {
                    document.insert(key, to_bson(value)?);
                }
                return Ok(Bson::Document(document));
            };
            match Bson::try_from(object) {
                Ok(Bson::Document(_)) | Err(_) => Err(InvalidBody::Content(format!(
                    "the key {dollar:?} starts with $ and its object is no Extended JSON value"
                ))),
                Ok(value) => Ok(value),
            }
        }
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
mod tests {
    use bson::doc;
    use rstest::rstest;

    use super::*;

    fn shown(json: &str) -> String {
        show(Bson::Document(parse(json.as_bytes()).unwrap())).to_string()
    }

    #[rstest]
    #[case(r#"{"z":1,"a":1.0,"big":9007199254740993,"f":1e300}"#)]
    #[case(r#"{"a.b":{"":{}},"c":[],"d":[null,true,"x"]}"#)]
    #[case(r#"{"min":-9223372036854775808,"max":9223372036854775807}"#)]
    #[case(
        r#"{"at":{"$date":"2026-01-02T03:04:05.678Z"},"id":{"$oid":"507f1f77bcf86cd799439011"}}"#
    )]
    fn what_is_put_is_what_is_read_back(#[case] json: &str) {
        assert_eq!(
            shown(json).parse::<Value>().unwrap().to_string(),
            json.parse::<Value>().unwrap().to_string()
        );
    }

    #[rstest]
    #[case(0, "1970-01-01T00:00:00.000Z")]
    #[case(253_402_300_799_999, "9999-12-31T23:59:59.999Z")]
    fn a_date_is_rfc_3339_to_the_end_of_its_years(#[case] ms: i64, #[case] expected: &str) {
        assert_eq!(rfc3339(DateTime::from_millis(ms)), expected);
    }

    #[test]
    fn types_are_kept_apart() {
        let document = parse(br#"{"i":1,"l":5000000000,"d":1.0,"n":{"$numberLong":"1"}}"#).unwrap();
        assert_eq!(
            document,
            doc! { "i": 1_i32, "l": 5_000_000_000_i64, "d": 1.0, "n": 1_i64 }
        );
    }

    #[rstest]
    #[case("[]", "object")]
    #[case("7", "object")]
    #[case(r#"{"$oid":"507f1f77bcf86cd799439011"}"#, "object")]
    #[case(r#"{"a":1,"a":2}"#, "twice")]
    #[case(r#"{"a":18446744073709551616}"#, "int64")]
    #[case(r#"{"a":9223372036854775808}"#, "int64")]
    #[case(r#"{"a":1e999}"#, "f64")]
    #[case(r#"{"$set":{}}"#, "$set")]
    #[case(r#"{"a":{"$date":"yesterday"}}"#, "$date")]
    #[case(r#"{"a":{"$oid":"507f1f77bcf86cd799439011","b":1}}"#, "$oid")]
    #[case("{\"a\\u0000b\":1}", "NUL")]
    fn what_cannot_be_stored_is_refused(#[case] json: &str, #[case] named: &str) {
        let InvalidBody::Content(message) = parse(json.as_bytes()).unwrap_err() else {
            panic!("{json} was taken for malformed")
        };
        assert!(message.contains(named), "{message}");
    }

    #[rstest]
    #[case("")]
    #[case("{")]
    #[case(r#"{"a":1}x"#)]
    #[case(r#"{"a":01}"#)]
    #[case(r#"{"a":NaN}"#)]
    #[case("{\"a\":\"\\ud800\"}")]
    fn what_is_not_json_is_malformed(#[case] json: &str) {
        assert!(
            matches!(parse(json.as_bytes()), Err(InvalidBody::Malformed(_))),
            "{json}"
        );
    }

    #[test]
    fn nesting_ends_at_a_hundred_levels() {
        let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        for levels in [MAX_DEPTH + 1, 400, 100_000] {
            let refused = parse(nested(levels).as_bytes()).unwrap_err();
            assert!(matches!(refused, InvalidBody::Content(m) if m.contains("nested")));
        }
    }

    #[test]
    fn merge_patch_follows_the_rfc() {
        let mut target = doc! { "a": "b", "c": { "d": "e", "f": "g" } };
        merge(
            &mut target,
            doc! { "a": "z", "c": { "f": Bson::Null }, "n": { "x": Bson::Null, "y": 1 } },
        );
        assert_eq!(
            target,
            doc! { "a": "z", "c": { "d": "e" }, "n": { "y": 1 } }
        );
    }
}
