//! Single values as relaxed Extended JSON: owns the text of every BSON type that holds no other value, and how texts are
//! escaped (source: MongoDB Extended JSON specification, version 2; RFC 8259).

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::oid::ObjectId;
use bson::spec::ElementType;
use bson::{DateTime, Decimal128};
use serde::Serialize;
use serde_json::{Value, json};

use super::elements::{Damaged, Element, cstring, length, string};
use super::fields::{Field, Span};
use super::inexact::Reason;
use super::{is_rfc3339, rfc3339};
use crate::adopt;

/// A piece of the text of a value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Part {
    Static(&'static str),
    Owned(String),
    /// The inside of a JSON text.
    Text(Span),
    /// The same in Base64.
    Base64(Span),
    /// An object, and how it ends.
    Object(Span, &'static str),
    Value(Field),
}

/// Adds a short value. A vector takes every byte.
pub(super) fn json(value: &impl Serialize, out: &mut Vec<u8>) {
    let written: io::Result<()> = serde_json::to_writer(out, value).map_err(Into::into);
    written.unwrap_or_default();
}

/// Adds the value where it is one that JSON has itself, with the reason where it is not exact; `None` for every other.
#[expect(clippy::option_option, reason = "written or not; exact or not")]
pub(super) fn plain(
    of: ElementType,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<Option<Option<Reason>>, Damaged> {
    let mut reason = None;
    if of == ElementType::Int32 {
        json(&i32::from_le_bytes(fixed(bytes)?), out);
    } else if of == ElementType::Int64 {
        let number = i64::from_le_bytes(fixed(bytes)?);
        reason = i32::try_from(number).ok().map(|_| Reason::Int64);
        json(&number, out);
    } else if of == ElementType::Double {
        let number = f64::from_le_bytes(fixed(bytes)?);
        if !number.is_finite() {
            let text = match (number.is_nan(), number > 0.0) {
                (true, _) => "NaN",
                (false, true) => "Infinity",
                (false, false) => "-Infinity",
            };
            let is_other_nan = number.is_nan() && number.to_bits() != f64::NAN.to_bits();
            json(&json!({ "$numberDouble": text }), out);
            return Ok(Some(is_other_nan.then_some(Reason::Form)));
        }
        json(&number, out);
    } else if of == ElementType::Boolean {
        let [byte] = fixed(bytes)?;
        reason = (byte > 1).then_some(Reason::Form);
        json(&(byte != 0), out);
    } else if of == ElementType::Null {
        json(&(), out);
    } else {
        return Ok(None);
    }
    Ok(Some(reason))
}

/// The parts of a value that JSON does not have, and why it is not exact.
pub(super) fn wrapped(
    bytes: &[u8],
    of: ElementType,
    span: Span,
) -> Result<(Vec<Part>, Option<Reason>), Damaged> {
    let value = span.of(bytes);
    let exact = |value: Value| (vec![Part::Owned(value.to_string())], None);
    Ok(match of {
        ElementType::Binary => binary(bytes, span)?,
        ElementType::Undefined => exact(json!({ "$undefined": true })),
        ElementType::ObjectId => exact(json!({ "$oid": oid(value)? })),
        ElementType::DateTime => exact(date(DateTime::from_millis(i64::from_le_bytes(fixed(
            value,
        )?)))),
        ElementType::RegularExpression => regex(bytes, span)?,
        ElementType::DbPointer => {
            let namespace = text(bytes, span)?;
            let (_, id) = string(value)?;
            let id = json!({ "$oid": oid(id)? });
            let parts = vec![
                Part::Static(r#"{"$dbPointer":{"$ref":""#),
                Part::Text(namespace),
                Part::Owned(format!(r#"","$id":{id}}}}}"#)),
            ];
            (parts, None)
        }
        ElementType::JavaScriptCode => {
            let start = Part::Static(r#"{"$code":""#);
            let code = Part::Text(text(bytes, span)?);
            (vec![start, code, Part::Static("\"}")], None)
        }
        ElementType::Symbol => {
            let start = Part::Static(r#"{"$symbol":""#);
            let symbol = Part::Text(text(bytes, span)?);
            (vec![start, symbol, Part::Static("\"}")], None)
        }
        ElementType::JavaScriptCodeWithScope => (code_with_scope(bytes, span)?, None),
        ElementType::Timestamp => {
            let bits = u64::from_le_bytes(fixed(value)?);
            let (t, i) = (bits >> 32, bits & u64::from(u32::MAX));
            exact(json!({ "$timestamp": { "t": t, "i": i } }))
        }
        ElementType::Decimal128 => {
            let bytes: [u8; 16] = fixed(value)?;
            let text = Decimal128::from_bytes(bytes).to_string();
            let again = text.parse::<Decimal128>().map(|number| number.bytes());
            let reason = (again.ok() != Some(bytes)).then_some(Reason::Form);
            (exact(json!({ "$numberDecimal": text })).0, reason)
        }
        ElementType::MinKey => exact(json!({ "$minKey": 1 })),
        ElementType::MaxKey => exact(json!({ "$maxKey": 1 })),
        ElementType::Double
        | ElementType::String
        | ElementType::EmbeddedDocument
        | ElementType::Array
        | ElementType::Boolean
        | ElementType::Null
        | ElementType::Int32
        | ElementType::Int64 => return Err(Damaged),
    })
}

fn code_with_scope(bytes: &[u8], span: Span) -> Result<Vec<Part>, Damaged> {
    let inner = Span {
        at: span.at + 4,
        ..span
    };
    let code = text(bytes, inner)?;
    let scope = Span {
        at: code.end + 1,
        end: span.end,
    };
    if length(scope.of(bytes))? != scope.of(bytes).len() {
        return Err(Damaged);
    }
    Ok(vec![
        Part::Static(r#"{"$code":""#),
        Part::Text(code),
        Part::Static(r#"","$scope":"#),
        Part::Object(scope, "}}"),
    ])
}

fn binary(bytes: &[u8], span: Span) -> Result<(Vec<Part>, Option<Reason>), Damaged> {
    /// The subtype whose bytes have a length of their own before them.
    const OLD: u8 = 2;
    let (subtype, content) = span
        .of(bytes)
        .get(4..)
        .and_then(<[u8]>::split_first)
        .ok_or(Damaged)?;
    let mut content = Span {
        at: span.end - content.len(),
        end: span.end,
    };
    let mut reason = None;
    if *subtype == OLD {
        match content.of(bytes).split_at_checked(4) {
            Some((inner, rest)) if length(inner) == Ok(rest.len()) => content.at += 4,
            Some(_) | None => reason = Some(Reason::Form),
        }
    }
    let parts = vec![
        Part::Static(r#"{"$binary":{"base64":""#),
        Part::Base64(content),
        Part::Owned(format!(r#"","subType":"{subtype:02x}"}}}}"#)),
    ];
    Ok((parts, reason))
}

fn regex(bytes: &[u8], span: Span) -> Result<(Vec<Part>, Option<Reason>), Damaged> {
    let (pattern, rest) = cstring(span.of(bytes))?;
    let (options, _) = cstring(rest)?;
    let reason = (!options.is_sorted()).then_some(Reason::Form);
    let pattern = Span {
        at: span.at,
        end: span.at + pattern.len(),
    };
    let at = pattern.end + 1;
    let options = Span {
        at,
        end: at + options.len(),
    };
    let parts = vec![
        Part::Static(r#"{"$regularExpression":{"pattern":""#),
        Part::Text(pattern),
        Part::Static(r#"","options":""#),
        Part::Text(options),
        Part::Static("\"}}"),
    ];
    Ok((parts, reason))
}

/// Where the text of a value lies that begins with its length.
pub(super) fn text(bytes: &[u8], span: Span) -> Result<Span, Damaged> {
    let (text, _) = string(span.of(bytes))?;
    let at = span.at + 4;
    Ok(Span {
        at,
        end: at + text.len(),
    })
}

/// A date as relaxed Extended JSON has it: a text from 1970 to 9999, else its number of milliseconds.
fn date(at: DateTime) -> Value {
    /// The last millisecond of the year 9999.
    const LAST: i64 = 253_402_300_799_999;
    let millis = at.timestamp_millis();
    match at.try_to_rfc3339_string() {
        Ok(text) if (0..=LAST).contains(&millis) => json!({ "$date": text }),
        Ok(_) | Err(_) => json!({ "$date": { "$numberLong": millis.to_string() } }),
    }
}

/// A date that tierkeep keeps, as RFC 3339 has it where that can say it.
pub(super) fn own_date(element: Element<'_>) -> Option<String> {
    /// Longer texts are not dates.
    const DATE_BYTES: usize = 256;
    let is_short = element.value.len() <= DATE_BYTES;
    let may_be_date = [ElementType::DateTime, ElementType::String].contains(&element.of);
    let at = (is_short && may_be_date).then(|| adopt::date(&element.to_bson()))??;
    is_rfc3339(at).then(|| rfc3339(at))
}

/// How many bytes of a text are written at once: all, or at most `most`, up to the beginning of a character.
pub(super) fn slice_of_text(text: &[u8], most: usize) -> usize {
    /// The most bytes of a character after its first.
    const MORE: usize = 3;
    if text.len() <= most {
        return text.len();
    }
    let continues = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let start = (most - MORE..=most).rev().find(|at| !continues(*at));
    start.unwrap_or(most)
}

/// Adds the inside of a JSON text; U+FFFD stands for what is not UTF-8.
pub(super) fn escape(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        escape_utf8(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn escape_utf8(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    while let Some(at) = rest.iter().position(special) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, after)) = from.split_first() else {
            return;
        };
        let short = match byte {
            b'"' | b'\\' => *byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => 0,
        };
        if short == 0 {
            let digit = |half: u8| HEX.get(usize::from(half)).copied().unwrap_or(b'0');
            out.extend_from_slice(b"\\u00");
            out.extend([digit(byte >> 4), digit(byte & 0xf)]);
        } else {
            out.extend([b'\\', short]);
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// Adds the bytes in Base64.
pub(super) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Damaged> {
    bytes.try_into().map_err(|_| Damaged)
}

fn oid(bytes: &[u8]) -> Result<String, Damaged> {
    Ok(ObjectId::from_bytes(fixed(bytes)?).to_hex())
}

/// Whether the key of an array's element is its index, in decimal digits.
pub(super) fn is_index(key: &[u8], index: usize) -> bool {
    let digits = std::str::from_utf8(key).ok();
    let is_plain = key.iter().all(u8::is_ascii_digit) && (key == b"0" || !key.starts_with(b"0"));
    is_plain && digits.and_then(|digits| digits.parse().ok()) == Some(index)
}
