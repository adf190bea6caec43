//! Tests of bodies, of what is shown of them, and of merge patches.

use bson::raw::RawBson;
use bson::rawdoc;
use rstest::rstest;

use super::*;

fn shown(json: &str) -> String {
    let mut whole = RawDocumentBuf::new();
    whole.append(bson::raw::cstr!("s"), parse(json.as_bytes()).unwrap());
    let mut text = Vec::new();
    show_section(whole, "s")
        .unwrap()
        .unwrap()
        .write_to(&mut text);
    String::from_utf8(text).unwrap()
}

#[rstest]
#[case(r#"{"z":1,"a":1.0,"big":9007199254740993,"f":1e300}"#)]
#[case(r#"{"a.b":{"":{}},"c":[],"d":[null,true,"x"]}"#)]
#[case(r#"{"min":-9223372036854775808,"max":9223372036854775807}"#)]
#[case(r#"{"at":{"$date":"2026-01-02T03:04:05.678Z"},"id":{"$oid":"507f1f77bcf86cd799439011"}}"#)]
#[case(r#"{"c":{"$code":"f()","$scope":{"a":[1,{"b":{"$numberDouble":"NaN"}}]}}}"#)]
#[case(r#"{"b":{"$binary":{"base64":"AQID","subType":"00"}},"t":{"$timestamp":{"t":4294967295,"i":1}}}"#)]
#[case(r#"{"t":"\b\f\n\r\t\"\\\u0001\u007f é 𝄞","e":{"":[[],[{}]]}}"#)]
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
        rawdoc! { "i": 1_i32, "l": 5_000_000_000_i64, "d": 1.0, "n": 1_i64 }
    );
}

#[rstest]
#[case("[]", "object")]
#[case("7", "object")]
#[case(r#"{"$oid":"507f1f77bcf86cd799439011"}"#, "object")]
#[case(r#"{"a":1,"a":2}"#, "duplicated")]
#[case(r#"{"a":18446744073709551616}"#, "int64")]
#[case(r#"{"a":9223372036854775808}"#, "int64")]
#[case(r#"{"a":1e999}"#, "f64")]
#[case(r#"{"$set":{}}"#, "$set")]
#[case(r#"{"a":{"$date":"yesterday"}}"#, "$date")]
#[case(r#"{"a":{"$oid":"507f1f77bcf86cd799439011","b":1}}"#, "$oid")]
#[case(
    r#"{"a":{"b":1,"$set":{"c":[{}]},"d":2}}"#,
    r#"{"b":1,"$set":{"c":[{}]},"d":2} has"#
)]
#[case(r#"{"a":{"$ref":"c"}}"#, r#"{"$ref":"c"} has"#)]
#[case(r#"{"a":{"$ref":1,"$id":2}}"#, "$ref")]
#[case(r#"{"a":{"$ref":"c","$id":2,"$db":3}}"#, "$db")]
#[case(r#"{"a":{"$ref":"c","$id":2,"$set":3}}"#, "$set")]
#[case(r#"{"a":{"$id":2,"$ref":"c"}}"#, "$ref")]
#[case(
    r#"{"a":{"$code":"c","$scope":{"$oid":"507f1f77bcf86cd799439011"}}}"#,
    "$scope"
)]
#[case(r#"{"a":{"$code":"c","$scope":{},"$more":1}}"#, "$more")]
#[case(
    r#"{"a":{"$oid":"507f1f77bcf86cd799439011","$oid":"507f1f77bcf86cd799439011"}}"#,
    "duplicated"
)]
#[case(
    r#"{"a":{"k1":1,"k2":1,"k3":1,"k4":1,"k5":1,"k6":1,"k7":1,"k8":1,"k3":{},"k9":1}}"#,
    "k3"
)]
#[case(r#"{"a":[{"b":1},{"b":2,"b":3}]}"#, "duplicated")]
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
    let target = rawdoc! { "a": "b", "c": { "d": "e", "f": "g" }, "k": 1 };
    let patch = rawdoc! {
        "c": { "f": RawBson::Null }, "a": "z", "n": { "x": RawBson::Null, "y": 1 }, "o": RawBson::Null,
    };
    let expected = rawdoc! { "a": "z", "c": { "d": "e" }, "k": 1, "n": { "y": 1 } };
    assert_eq!(merge(&target, &patch), Ok(expected));
}

#[rstest]
#[case(8_640_000_000_000_000)]
#[case(-62_135_596_800_001)]
#[case(253_402_300_800_000)]
#[case(-1)]
#[case(i64::MIN)]
#[case(i64::MAX)]
fn a_date_that_is_no_rfc_3339_text_is_shown_by_its_number(#[case] ms: i64) {
    let shown = show(Bson::DateTime(DateTime::from_millis(ms)));
    assert_eq!(
        shown,
        serde_json::json!({ "$date": { "$numberLong": ms.to_string() } })
    );
}

#[rstest]
#[case(r#"{"$numberDecimal":""}"#)]
#[case(r#"{"$numberDecimal":"."}"#)]
#[case(r#"{"$numberDecimal":"-"}"#)]
#[case(r#"{"$numberDecimal":"++5"}"#)]
#[case(r#"{"$numberDecimal":".+5"}"#)]
#[case(r#"{"$numberDecimal":"E5"}"#)]
#[case(r#"{"$numberDecimal":"sNaN"}"#)]
#[case(r#"{"$numberDecimal":"-NaN"}"#)]
#[case(r#"{"$numberDecimal":"1e7000"}"#)]
#[case(r#"{"$numberDecimal":"12345678901234567890123456789012345"}"#)]
#[case(r#"{"$numberDouble":"1e999"}"#)]
#[case(r#"{"$numberDouble":"inf"}"#)]
#[case(r#"{"$numberDouble":"-NaN"}"#)]
#[case(r#"{"$date":"2026-01-02T03:04:05.678901Z"}"#)]
#[case(r#"{"$date":"2016-12-31T23:59:60Z"}"#)]
#[case(r#"{"$regularExpression":{"pattern":"a","options":"xi"}}"#)]
fn a_wrapper_whose_value_cannot_be_kept_is_refused_by_name(#[case] value: &str) {
    let refused = parse(format!("{{\"a\":{value}}}").as_bytes()).unwrap_err();
    assert!(refused.to_string().contains(value), "{refused}");
}

#[rstest]
#[case(r#"{"r":{"$ref":"c","$id":{"$oid":"507f1f77bcf86cd799439011"}}}"#)]
#[case(r#"{"r":{"$ref":"c","$id":7,"$db":"d","more":1}}"#)]
fn a_dbref_is_put_back(#[case] json: &str) {
    assert_eq!(shown(json), json);
}

#[test]
fn what_is_not_exact_is_named_in_ascii_and_counted() {
    let mut whole = RawDocumentBuf::new();
    let many: bson::Document = (0..120)
        .map(|n| (format!("é {n}"), Bson::Int64(n)))
        .collect();
    whole.append(
        bson::raw::cstr!("s"),
        RawDocumentBuf::try_from(&many).unwrap(),
    );
    let shown = show_section(&*whole, "s").unwrap().unwrap();
    assert_eq!((shown.inexact.count, shown.inexact.named.len()), (120, 100));
    let text = shown.inexact.to_string();
    assert!(text.starts_with("int64 /%C3%A9%200, int64 /"), "{text}");
    assert!(text.ends_with(", 112 more"), "{text}");
}

#[test]
fn bytes_that_are_no_document_are_an_error_and_never_nothing() {
    let mut bytes = bson::rawdoc! { "a": { "b": "text" }, "c": 1 }.into_bytes();
    let at = bytes.windows(4).position(|it| it == b"text").unwrap();
    bytes[at - 4] = 0x7f;
    let damaged = RawDocumentBuf::from_bytes(bytes).unwrap();
    assert_eq!(show_section(&damaged, "a").unwrap_err(), Damaged);
    assert_eq!(show_user(&damaged, ["a"]).unwrap_err(), Damaged);
    assert!(show_section(&damaged, "x").unwrap().is_none());
}

#[rstest]
#[case(DateTime::from_millis(8_640_000_000_000_000))]
#[case(DateTime::from_millis(-62_135_596_800_001))]
fn an_own_date_that_rfc_3339_cannot_say_is_shown_by_its_number(#[case] at: DateTime) {
    let user = bson::rawdoc! { "_id": "a", "created_at": at };
    let shown = show_user(&user, []).unwrap().into_value();
    let millis = at.timestamp_millis().to_string();
    let expected = serde_json::json!({ "$date": { "$numberLong": millis } });
    assert_eq!(shown["created_at"], expected);
    assert!(rfc3339(at).contains(&millis));
}

/// A long answer is written in pieces, and is the same text.
#[test]
fn a_long_answer_is_written_in_pieces_of_any_content() {
    let text = "é𝄞\u{1}\"".repeat(20_000);
    let json = serde_json::json!({
        text.clone(): { "text": text, "array": vec![serde_json::json!([1.5, null, {}]); 20_000] },
        "code": { "$code": text },
        "bytes": { "$binary": { "base64": "AQID".repeat(50_000), "subType": "00" } },
    });
    let json = json.to_string();
    let mut whole = RawDocumentBuf::new();
    whole.append(bson::raw::cstr!("s"), parse(json.as_bytes()).unwrap());
    let shown = show_section(whole, "s").unwrap().unwrap();
    assert!(shown.inexact.is_empty(), "{:?}", shown.inexact);
    assert_eq!(shown.length_bytes(), json.len());
    let pieces: Vec<Vec<u8>> = shown.into_pieces().collect();
    assert!(pieces.len() > 10, "{}", pieces.len());
    // An escaped piece of a text is six times as long at most.
    assert!(pieces.iter().all(|piece| piece.len() < 128 * 1024));
    assert!(pieces.concat() == json.as_bytes());
}

/// Whatever lies at the place where a text is cut, it is shown as if it were not.
#[test]
fn a_text_that_is_not_utf8_is_shown_as_a_whole() {
    for lead in 0..4_usize {
        let mut bytes = bson::rawdoc! { "s": { "t": "a".repeat(100_000) } }.into_bytes();
        let at = bytes.windows(4).position(|four| four == b"aaaa").unwrap();
        let bad: [u8; 5] = [0xf0, 0x9d, 0x84, 0x80, 0xe2];
        for (place, byte) in bytes[at + lead..at + 90_000].iter_mut().enumerate() {
            *byte = bad[place % 5];
        }
        let expected = String::from_utf8_lossy(&bytes[at..at + 100_000]).into_owned();
        let whole = RawDocumentBuf::from_bytes(bytes).unwrap();
        let shown = show_section(whole, "s").unwrap().unwrap();
        assert_eq!(shown.inexact.named[0].reason, Reason::NotUtf8);
        assert_eq!(shown.inexact.named[0].path, "/t");
        let text = shown.into_value()["t"].as_str().unwrap().to_owned();
        assert!(text == expected, "{lead}");
    }
}

#[test]
fn a_key_that_stands_twice_is_shown_once_with_its_last_value() {
    let mut whole = RawDocumentBuf::new();
    let mut bytes = bson::rawdoc! { "a": 1, "b": 2, "x": { "c": 3_i64 } }.into_bytes();
    let at = bytes.windows(2).position(|two| two == b"x\0").unwrap();
    bytes[at] = b'a';
    whole.append(
        bson::raw::cstr!("s"),
        RawDocumentBuf::from_bytes(bytes).unwrap(),
    );
    let shown = show_section(whole, "s").unwrap().unwrap();
    let told: Vec<_> = shown.inexact.named.iter().map(|it| it.reason).collect();
    assert_eq!(told, [Reason::RepeatedKey, Reason::Int64]);
    assert_eq!(shown.into_value().to_string(), r#"{"a":{"c":3},"b":2}"#);
}
