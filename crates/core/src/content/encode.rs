//! Values as BSON: owns the bytes that each kind of JSON value becomes.

use bson::Bson;
use bson::raw::{RawBson, RawDocumentBuf, cstr};
use bson::spec::ElementType;
use serde_json::Number;

use super::InvalidBody;

/// The key of an array's element, with its NUL.
pub(super) fn append_index(out: &mut Vec<u8>, index: usize) {
    let mut digits = [0_u8; 20];
    let (mut left, mut used) = (index, 0);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        used += 1;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
    out.push(0);
}

/// A text, with its length before it and a NUL behind it.
pub(super) fn append_text(out: &mut Vec<u8>, text: &str) {
    let length = i32::try_from(text.len() + 1).unwrap_or(i32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// A number; a whole one that an int32 holds is one.
pub(super) fn append_number(out: &mut Vec<u8>, number: &Number) -> ElementType {
    match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => {
            if let Ok(small) = i32::try_from(integer) {
                out.extend_from_slice(&small.to_le_bytes());
                return ElementType::Int32;
            }
            out.extend_from_slice(&integer.to_le_bytes());
            ElementType::Int64
        }
        (None, float) => {
            out.extend_from_slice(&float.unwrap_or(f64::NAN).to_le_bytes());
            ElementType::Double
        }
    }
}

/// Code with its scope, a document.
pub(super) fn append_code(out: &mut Vec<u8>, code: &str, scope: &[u8]) -> ElementType {
    let length = 4 + 4 + code.len() + 1 + scope.len();
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    append_text(out, code);
    out.extend_from_slice(scope);
    ElementType::JavaScriptCodeWithScope
}

/// The bytes of a value that is no document.
pub(super) fn append(out: &mut Vec<u8>, value: Bson) -> Result<ElementType, InvalidBody> {
    let unfit = || InvalidBody::Content("the body cannot be stored as BSON".into());
    let of = value.element_type();
    let value = RawBson::try_from(value).map_err(|_| unfit())?;
    let mut one = RawDocumentBuf::new();
    one.append(cstr!(""), value);
    // Its length, its type, an empty key, the value, the end.
    let bytes = one.as_bytes();
    let value = bytes.get(6..bytes.len() - 1).ok_or_else(unfit)?;
    out.extend_from_slice(value);
    Ok(of)
}

/// A number as it is written: whole ones are int64, others are doubles.
pub(super) fn number(text: &str) -> Result<Number, InvalidBody> {
    let outside = |range| {
        let text: String = text.chars().take(40).collect();
        InvalidBody::Content(format!("the number {text} is outside {range}"))
    };
    if text.contains(['.', 'e', 'E']) {
        let float: f64 = text.parse().map_err(|_| outside("f64"))?;
        Number::from_f64(float).ok_or_else(|| outside("f64"))
    } else {
        text.parse::<i64>()
            .map(Number::from)
            .map_err(|_| outside("int64"))
    }
}

/// The JSON type found in place of the object that a body must be.
pub(super) fn kind(of: ElementType) -> &'static str {
    match of {
        ElementType::Array => "an array",
        ElementType::String => "a string",
        ElementType::Null => "null",
        ElementType::Boolean => "a boolean",
        ElementType::Int32 | ElementType::Int64 | ElementType::Double => "a number",
        ElementType::EmbeddedDocument
        | ElementType::Binary
        | ElementType::Undefined
        | ElementType::ObjectId
        | ElementType::DateTime
        | ElementType::RegularExpression
        | ElementType::DbPointer
        | ElementType::JavaScriptCode
        | ElementType::Symbol
        | ElementType::JavaScriptCodeWithScope
        | ElementType::Timestamp
        | ElementType::Decimal128
        | ElementType::MinKey
        | ElementType::MaxKey => "an Extended JSON value",
    }
}
