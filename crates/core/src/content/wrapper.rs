//! Extended JSON v2 wrappers in a body: owns which of them are taken. One is taken only where the value that it becomes
//! is shown as a wrapper of the same value again; every other is refused by name. Must never round, clamp to another
//! number or cut off.

use bson::Bson;
use serde_json::{Map, Value};

/// The BSON value that an object with a key that starts with `$` stands for; why it stands for none, where more can be said
/// than that.
pub(super) fn read(object: Map<String, Value>) -> Result<Bson, Option<&'static str>> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    if text("$numberDecimal").is_some_and(|number| !is_decimal(number)) {
        return Err(Some("is not a decimal128 number"));
    }
    if text("$numberDouble").is_some_and(|number| !is_double(number)) {
        return Err(Some("is not a number within f64"));
    }
    if text("$date").is_some_and(|date| !is_to_the_millisecond(date)) {
        return Err(Some(
            "is not an RFC 3339 date of at most millisecond precision",
        ));
    }
    let options = object
        .get("$regularExpression")
        .and_then(|regex| regex.get("options")?.as_str());
    if options.is_some_and(|options| !options.bytes().is_sorted()) {
        return Err(Some("has options that are not in alphabetical order"));
    }
    match Bson::try_from(padded(object)) {
        Ok(Bson::Document(_)) | Err(_) => Err(None),
        Ok(value) => Ok(value),
    }
}

/// Decimal digits with at most one point among them.
fn are_digits(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
}

/// A number in decimal or exponential notation.
fn is_numeric(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned.split_once(['e', 'E']) {
        None => are_digits(unsigned),
        Some((digits, exponent)) => {
            let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            are_digits(digits)
                && !exponent.is_empty()
                && exponent.bytes().all(|byte| byte.is_ascii_digit())
        }
    }
}

/// The texts that the decimal128 specification calls numbers, without the NaNs that are shown as plain `NaN`. Whether
/// the number fits is for the parser, which rounds nothing.
fn is_decimal(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let unsigned = lower.strip_prefix(['-', '+']).unwrap_or(&lower);
    is_numeric(&lower) || lower == "nan" || ["inf", "infinity"].contains(&unsigned)
}

fn is_double(text: &str) -> bool {
    ["Infinity", "-Infinity", "NaN"].contains(&text)
        || is_numeric(text) && text.parse().is_ok_and(f64::is_finite)
}

/// Whether a date says no more than milliseconds hold: no digits but zeros after the third of the fraction, and no leap
/// second.
fn is_to_the_millisecond(date: &str) -> bool {
    let fraction = date.split_once('.').map_or("", |(_, fraction)| fraction);
    let mut digits = fraction.bytes().take_while(u8::is_ascii_digit).skip(3);
    digits.all(|digit| digit == b'0') && date.get(16..19) != Some(":60")
}

/// `$binary` with a `subType` of two digits, as the parser wants them; one digit is as good.
fn padded(mut object: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(binary)) = object.get_mut("$binary")
        && let Some(Value::String(subtype)) = binary.get_mut("subType")
        && subtype.len() == 1
    {
        subtype.insert(0, '0');
    }
    object
}
