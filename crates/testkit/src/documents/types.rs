//! One value of every BSON type and the edges of each, made byte by byte after the BSON specification, with what showing
//! them as JSON is expected to say.

use bson::raw::RawDocumentBuf;
use tierkeep_core::content::Reason;

/// A stored value.
#[derive(Clone, Debug)]
pub struct TypedValue {
    /// What it is.
    pub name: &'static str,
    /// A section with the value in its field `v`.
    pub section: RawDocumentBuf,
    /// Why JSON cannot say it so that putting it back stores the same bytes; `None` where it can.
    pub inexact: Option<Reason>,
}

const DOUBLE: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const ARRAY: u8 = 0x04;
const BINARY: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const OID: u8 = 0x07;
const BOOLEAN: u8 = 0x08;
const DATE: u8 = 0x09;
const NULL: u8 = 0x0a;
const REGEX: u8 = 0x0b;
const POINTER: u8 = 0x0c;
const CODE: u8 = 0x0d;
const SYMBOL: u8 = 0x0e;
const SCOPED: u8 = 0x0f;
const INT32: u8 = 0x10;
const TIMESTAMP: u8 = 0x11;
const INT64: u8 = 0x12;
const DECIMAL: u8 = 0x13;
const MIN_KEY: u8 = 0xff;
const MAX_KEY: u8 = 0x7f;

/// The edges of every type.
pub fn typed_values() -> Vec<TypedValue> {
    let mut values = numbers();
    values.extend(dates());
    values.extend(decimals());
    values.extend(texts());
    values.extend(binaries());
    values.extend(objects());
    values.extend(others());
    values
}

fn numbers() -> Vec<TypedValue> {
    let double = |name, bits: u64, inexact| value(name, DOUBLE, &bits.to_le_bytes(), inexact);
    let int32 = |name, number: i32| value(name, INT32, &number.to_le_bytes(), None);
    let int64 = |name, number: i64, inexact| value(name, INT64, &number.to_le_bytes(), inexact);
    vec![
        double("double 0", 0, None),
        double("double -0", 1 << 63, None),
        double("double 1", 1.0_f64.to_bits(), None),
        double("double 0.1", 0.1_f64.to_bits(), None),
        double("double 1e300", 1e300_f64.to_bits(), None),
        double(
            "double 2^53 + 2",
            9_007_199_254_740_994.0_f64.to_bits(),
            None,
        ),
        double("least double above 0", 1, None),
        double("greatest subnormal double", 0x000f_ffff_ffff_ffff, None),
        double("greatest double", f64::MAX.to_bits(), None),
        double("least double", f64::MIN.to_bits(), None),
        double("double infinity", f64::INFINITY.to_bits(), None),
        double("double -infinity", f64::NEG_INFINITY.to_bits(), None),
        double("NaN", 0x7ff8_0000_0000_0000, None),
        double("negative NaN", 0xfff8_0000_0000_0000, Some(Reason::Form)),
        double("signalling NaN", 0x7ff0_0000_0000_0001, Some(Reason::Form)),
        double(
            "NaN with a payload",
            0x7ff8_0000_0000_002a,
            Some(Reason::Form),
        ),
        int32("int32 0", 0),
        int32("int32 -1", -1),
        int32("least int32", i32::MIN),
        int32("greatest int32", i32::MAX),
        int64("int64 that an int32 could hold", 7, Some(Reason::Int64)),
        int64("int64 0", 0, Some(Reason::Int64)),
        int64(
            "int64 of the least int32",
            i64::from(i32::MIN),
            Some(Reason::Int64),
        ),
        int64(
            "int64 above the greatest int32",
            i64::from(i32::MAX) + 1,
            None,
        ),
        int64("int64 below the least int32", i64::from(i32::MIN) - 1, None),
        int64("int64 that no double holds", 9_007_199_254_740_993, None),
        int64("least int64", i64::MIN, None),
        int64("greatest int64", i64::MAX, None),
    ]
}

fn dates() -> Vec<TypedValue> {
    let date = |name, millis: i64| value(name, DATE, &millis.to_le_bytes(), None);
    vec![
        date("date 1970", 0),
        date("date with milliseconds", 1_765_495_622_123),
        date("date with tenths", 1_765_495_622_500),
        date("date before 1970", -1),
        date("first date of the year 1", -62_135_596_800_000),
        date("date before the year 1", -62_135_596_800_001),
        date("last date of the year 9999", 253_402_300_799_999),
        date("date after the year 9999", 253_402_300_800_000),
        date("greatest date of JavaScript", 8_640_000_000_000_000),
        date("least date of JavaScript", -8_640_000_000_000_000),
        date("least date", i64::MIN),
        date("greatest date", i64::MAX),
    ]
}

/// Sign, exponent and coefficient in the place where the format has them: the first digits at the high end.
fn decimal128(sign: bool, exponent: i32, coefficient: u128) -> [u8; 16] {
    let biased = u128::try_from(exponent + 6_176).expect("an exponent of the format");
    (u128::from(sign) << 127 | biased << 113 | coefficient).to_le_bytes()
}

fn decimals() -> Vec<TypedValue> {
    const GREATEST: u128 = 9_999_999_999_999_999_999_999_999_999_999_999;
    let finite = |name, sign, exponent, coefficient, inexact| {
        let bytes = decimal128(sign, exponent, coefficient);
        value(name, DECIMAL, &bytes, inexact)
    };
    let special = |name, high: u8, low: u8, inexact| {
        let mut bytes = [0; 16];
        bytes[15] = high;
        bytes[0] = low;
        value(name, DECIMAL, &bytes, inexact)
    };
    vec![
        finite("decimal 0", false, 0, 0, None),
        finite("decimal -0", true, 0, 0, None),
        finite("decimal 0E+3", false, 3, 0, None),
        finite("decimal 0E-6176", false, -6_176, 0, None),
        finite("decimal -0E+6111", true, 6_111, 0, None),
        finite("decimal 1", false, 0, 1, None),
        finite("decimal 1.0", false, -1, 10, None),
        finite("decimal 1E+3", false, 3, 1, None),
        finite("decimal 0.000001", false, -6, 1, None),
        finite("decimal 1E-7", false, -7, 1, None),
        finite("least decimal above 0", false, -6_176, 1, None),
        finite("greatest decimal", false, 6_111, GREATEST, None),
        finite("least decimal", true, 6_111, GREATEST, None),
        finite("decimal of 34 digits", false, -33, GREATEST, None),
        finite(
            "decimal beyond 34 digits",
            false,
            0,
            GREATEST + 1,
            Some(Reason::Form),
        ),
        special("decimal infinity", 0x78, 0, None),
        special("decimal -infinity", 0xf8, 0, None),
        special(
            "decimal infinity with a payload",
            0x78,
            1,
            Some(Reason::Form),
        ),
        special("decimal NaN", 0x7c, 0, None),
        special("negative decimal NaN", 0xfc, 0, Some(Reason::Form)),
        special("signalling decimal NaN", 0x7e, 0, Some(Reason::Form)),
        special("decimal NaN with a payload", 0x7c, 18, Some(Reason::Form)),
        special("decimal of the second form", 0x6c, 7, Some(Reason::Form)),
    ]
}

fn texts() -> Vec<TypedValue> {
    let not_utf8 = Some(Reason::NotUtf8);
    let text = |name, bytes: &[u8], inexact| value(name, STRING, &string(bytes), inexact);
    vec![
        text("empty text", b"", None),
        text("text with NULs", b"a\0b\0", None),
        text(
            "text of four-byte characters",
            "😀𝕏\u{10ffff}".as_bytes(),
            None,
        ),
        text("text with controls", b"\x01\x1f\x7f\r\n\t\"\\/", None),
        text("text with a byte order mark", "\u{feff}x".as_bytes(), None),
        text("text in Latin-1", b"caf\xe9", not_utf8),
        text("text cut off in a character", b"caf\xc3", not_utf8),
        text("text with a surrogate", b"\xed\xa0\x80", not_utf8),
        text("overlong text", b"\xc0\xaf", not_utf8),
        value("symbol", SYMBOL, &string(b"sym"), None),
        value(
            "symbol that is not UTF-8",
            SYMBOL,
            &string(b"\xff"),
            not_utf8,
        ),
        value("code", CODE, &string(b"function () { return 1; }"), None),
        value("empty code", CODE, &string(b""), None),
        value("code that is not UTF-8", CODE, &string(b"\xfe"), not_utf8),
        value(
            "code with a scope",
            SCOPED,
            &scoped(b"f()", &element(INT32, b"x", &[1, 0, 0, 0])),
            None,
        ),
        value("code with an empty scope", SCOPED, &scoped(b"", b""), None),
        value(
            "code with a date in its scope",
            SCOPED,
            &scoped(
                b"f()",
                &element(DATE, b"x", &8_640_000_000_000_000_i64.to_le_bytes()),
            ),
            None,
        ),
        value(
            "code with a scope that is not UTF-8",
            SCOPED,
            &scoped(b"f()", &element(STRING, b"x", &string(b"\xff"))),
            not_utf8,
        ),
        value("regular expression", REGEX, b"^a/(b)$\0imsx\0", None),
        value("empty regular expression", REGEX, b"\0\0", None),
        value(
            "regular expression with options out of order",
            REGEX,
            b"a\0xi\0",
            Some(Reason::Form),
        ),
        value(
            "regular expression that is not UTF-8",
            REGEX,
            b"\xff\0i\0",
            not_utf8,
        ),
    ]
}

fn binaries() -> Vec<TypedValue> {
    let binary = |name, subtype: u8, bytes: &[u8], inexact| {
        let mut payload = length(bytes.len());
        payload.push(subtype);
        payload.extend_from_slice(bytes);
        value(name, BINARY, &payload, inexact)
    };
    vec![
        binary("empty binary", 0x00, b"", None),
        binary("binary", 0x00, &[0, 255, 0], None),
        binary("function", 0x01, &[1], None),
        binary("old binary", 0x02, &[3, 0, 0, 0, 1, 2, 3], None),
        binary("empty old binary", 0x02, &[0, 0, 0, 0], None),
        binary(
            "old binary of a wrong length",
            0x02,
            &[9, 0, 0, 0, 1],
            Some(Reason::Form),
        ),
        binary(
            "old binary without a length",
            0x02,
            &[1],
            Some(Reason::Form),
        ),
        binary("old UUID", 0x03, &[7; 16], None),
        binary("UUID", 0x04, &[7; 16], None),
        binary("UUID of three bytes", 0x04, &[7; 3], None),
        binary("MD5", 0x05, &[9; 16], None),
        binary("vector", 0x09, &[0x27, 0, 1, 2], None),
        binary("reserved binary", 0x7f, &[1], None),
        binary("binary of a user's own kind", 0x80, &[1], None),
        binary("binary of the last kind", 0xff, &[1], None),
    ]
}

fn objects() -> Vec<TypedValue> {
    let one = element(INT32, b"a", &[1, 0, 0, 0]);
    let dollar = Some(Reason::DollarKey);
    let dbref = [
        element(STRING, b"$ref", &string(b"c")),
        element(OID, b"$id", &[7; 12]),
    ]
    .concat();
    let with_database = [&*dbref, &element(STRING, b"$db", &string(b"d")), &one].concat();
    let turned = [
        element(OID, b"$id", &[7; 12]),
        element(STRING, b"$ref", &string(b"c")),
    ]
    .concat();
    let object = |name, elements: &[u8], inexact| value(name, OBJECT, &document(elements), inexact);
    vec![
        object("empty object", b"", None),
        object("object", &one, None),
        object("key with a dot", &element(NULL, b"a.b", b""), None),
        object("empty key", &element(NULL, b"", b""), None),
        object("DBRef", &dbref, None),
        object("DBRef with a database", &with_database, None),
        object("DBRef out of order", &turned, dollar),
        object(
            "object with a key of Extended JSON",
            &element(STRING, b"$oid", &string(b"070707070707070707070707")),
            dollar,
        ),
        object(
            "object with an operator's key",
            &element(INT32, b"$set", &[1, 0, 0, 0]),
            dollar,
        ),
        object(
            "object with a key twice",
            &[&*one, &*one].concat(),
            Some(Reason::RepeatedKey),
        ),
        object(
            "key that is not UTF-8",
            &element(NULL, b"\xff", b""),
            Some(Reason::NotUtf8),
        ),
        value("empty array", ARRAY, &document(b""), None),
        value(
            "array",
            ARRAY,
            &document(&[element(NULL, b"0", b""), element(BOOLEAN, b"1", &[1])].concat()),
            None,
        ),
        value(
            "array with a hole",
            ARRAY,
            &document(&element(NULL, b"1", b"")),
            Some(Reason::Form),
        ),
        value(
            "array with words for keys",
            ARRAY,
            &document(&one),
            Some(Reason::Form),
        ),
        value(
            "array with a text that is not UTF-8",
            ARRAY,
            &document(&element(STRING, b"0", &string(b"\xff"))),
            Some(Reason::NotUtf8),
        ),
    ]
}

fn others() -> Vec<TypedValue> {
    let mut pointer = string(b"d.c");
    pointer.extend_from_slice(&[3; 12]);
    let mut odd_pointer = string(b"\xff");
    odd_pointer.extend_from_slice(&[3; 12]);
    let timestamp = |name, time: u32, increment: u32| {
        let bits = u64::from(time) << 32 | u64::from(increment);
        value(name, TIMESTAMP, &bits.to_le_bytes(), None)
    };
    vec![
        value("null", NULL, b"", None),
        value("undefined", UNDEFINED, b"", None),
        value("true", BOOLEAN, &[1], None),
        value("false", BOOLEAN, &[0], None),
        value("least object id", OID, &[0; 12], None),
        value("greatest object id", OID, &[0xff; 12], None),
        value("pointer", POINTER, &pointer, None),
        value(
            "pointer that is not UTF-8",
            POINTER,
            &odd_pointer,
            Some(Reason::NotUtf8),
        ),
        timestamp("timestamp 0", 0, 0),
        timestamp("timestamp", 7, 8),
        timestamp("greatest timestamp", u32::MAX, u32::MAX),
        value("least key", MIN_KEY, b"", None),
        value("greatest key", MAX_KEY, b"", None),
    ]
}

fn value(name: &'static str, tag: u8, bytes: &[u8], inexact: Option<Reason>) -> TypedValue {
    let section = document(&element(tag, b"v", bytes));
    TypedValue {
        name,
        section: RawDocumentBuf::from_bytes(section).expect("a document"),
        inexact,
    }
}

fn length(bytes: usize) -> Vec<u8> {
    i32::try_from(bytes)
        .expect("a few bytes")
        .to_le_bytes()
        .to_vec()
}

fn element(tag: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    [&[tag], key, &[0], value].concat()
}

fn document(elements: &[u8]) -> Vec<u8> {
    [&*length(elements.len() + 5), elements, &[0]].concat()
}

fn string(text: &[u8]) -> Vec<u8> {
    [&*length(text.len() + 1), text, &[0]].concat()
}

fn scoped(code: &[u8], scope: &[u8]) -> Vec<u8> {
    let inner = [string(code), document(scope)].concat();
    [length(inner.len() + 4), inner].concat()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use tierkeep_core::content::{parse, show_section};

    use super::*;

    #[test]
    fn every_value_is_put_back_as_it_was_or_the_answer_says_that_it_cannot_be() {
        let mut wrong = Vec::new();
        for TypedValue {
            name,
            section,
            inexact,
        } in typed_values()
        {
            let whole = rawdoc! { "_id": "a", "scan_cache": section.clone() };
            let shown = show_section(&whole, "scan_cache").unwrap().unwrap();
            let told = shown.inexact.named.first().map(|value| value.reason);
            let mut text = Vec::new();
            shown.write_to(&mut text);
            let again = parse(&text);
            let is_same = matches!(&again, Ok(again) if *again == section);
            let shown = String::from_utf8_lossy(&text).into_owned();
            if told != inexact || is_same != inexact.is_none() {
                wrong.push((name, shown, again));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_type_of_the_specification_is_among_the_values() {
        let tags: std::collections::BTreeSet<u8> = typed_values()
            .iter()
            .map(|value| value.section.as_bytes()[4])
            .collect();
        let all: std::collections::BTreeSet<u8> = (0x01..=0x13).chain([0x7f, 0xff]).collect();
        assert_eq!(tags, all);
    }
}
