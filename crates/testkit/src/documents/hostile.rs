//! Documents that break naive copies.

use bson::oid::ObjectId;
use bson::raw::{CString, RawArrayBuf, RawBson, RawDocumentBuf, RawJavaScriptCodeWithScope};
use bson::spec::BinarySubtype;
use bson::{Binary, DateTime, Decimal128, Regex, Timestamp, rawdoc};
use tierkeep_core::document::{Edit, field};

use super::build::native_user;

/// A document with these keys in this order; a key may repeat.
pub fn object<K: AsRef<str>>(fields: impl IntoIterator<Item = (K, RawBson)>) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    for (key, value) in fields {
        let key = CString::try_from(key.as_ref()).expect("keys hold no NUL");
        out.append(&key, value.as_raw_bson_ref());
    }
    out
}

/// Contents of a section that break naive copies, each with what is hostile about it.
pub fn hostile_sections() -> Vec<(&'static str, RawDocumentBuf)> {
    vec![
        ("keys", keys()),
        (
            "order",
            rawdoc! { "b": 1, "a": 2, "10": 3, "9": 4, "A": 5, "c": { "z": 1, "y": 2 } },
        ),
        ("numbers", numbers()),
        ("types", types()),
        ("texts", texts()),
        ("empty", RawDocumentBuf::new()),
        ("empties", empties()),
        ("nested", nested(100)),
        (
            "timestamps",
            rawdoc! {
                "zero": Timestamp { time: 0, increment: 0 },
                "in": { "zero": Timestamp { time: 0, increment: 0 } },
                "all": [Timestamp { time: 0, increment: 0 }, Timestamp { time: u32::MAX, increment: 1 }],
            },
        ),
        (
            "wide",
            object((0..2_000).map(|n| (format!("k{n}"), RawBson::Int32(n)))),
        ),
        (
            "large",
            rawdoc! { "text": "0123456789abcdef".repeat(5 * 1024 * 1024 / 16) },
        ),
    ]
}

/// Whole user documents that break naive copies: every hostile section, and hostile fields at the top
/// and in `metadata`. All are live at version 1 and have ids of their own.
pub fn hostile_documents() -> Vec<(&'static str, RawDocumentBuf)> {
    let zero = Timestamp {
        time: 0,
        increment: 0,
    };
    let (types, numbers) = (types(), numbers());
    let tops: Vec<(&str, Vec<(&str, RawBson)>)> = vec![
        (
            "a dotted key at the top",
            vec![("a.b", 1.into()), ("a.", 2.into()), (".", 3.into())],
        ),
        (
            "an operator's name as a key at the top",
            vec![
                ("$set", rawdoc! { "a": 1 }.into()),
                ("$x", "$user_id".into()),
                ("$$ROOT", 1.into()),
                ("$", RawBson::Null),
            ],
        ),
        ("an empty key at the top", vec![("", 1.into())]),
        (
            "a zero timestamp at the top",
            vec![("ts", zero.into()), ("more", 1.into())],
        ),
        (
            "every type at the top",
            types.iter().flatten().map(owned).collect(),
        ),
        (
            "every number at the top",
            numbers.iter().flatten().map(owned).collect(),
        ),
        (
            "text that looks like an expression",
            vec![("expr", "$$NOW".into()), ("e2", "$a".into())],
        ),
        (
            "a field called like an expression",
            vec![("l", rawdoc! { "$literal": 1 }.into())],
        ),
    ];
    let mut documents: Vec<_> = hostile_sections()
        .into_iter()
        .map(|(name, section)| (name, Edit::new().set("scan_cache", section)))
        .collect();
    for (name, fields) in tops {
        let edit = fields
            .into_iter()
            .fold(Edit::new(), |edit, (key, value)| edit.set(key, value));
        documents.push((name, edit));
    }
    documents.push((
        "hostile keys in metadata",
        Edit::new()
            .set_meta("a.b", 1)
            .set_meta("$x", 2)
            .set_meta("", 3)
            .set_meta("ts", zero),
    ));
    documents.push(("no state", Edit::new().unset_meta(field::STATE)));
    let first = 0xbad_0000;
    let mut whole: Vec<_> = (first..)
        .zip(documents)
        .map(|(n, (name, edit))| (name, edit.apply(&native_user(n, 1).build())))
        .collect();
    whole.push(("a key spelled twice", {
        let user = native_user(first - 1, 1).build();
        let twice = object([("k", 1.into()), ("k", 2.into()), ("x", RawBson::Null)]);
        Edit::new().set("scan_cache", twice).apply(&user)
    }));
    whole
}

/// Values of `staged_at` that are no dates, missing ones as `None`.
pub fn odd_staged_at() -> Vec<Option<RawBson>> {
    vec![
        None,
        Some(RawBson::Null),
        Some("2020-01-01T00:00:00Z".into()),
        Some("".into()),
        Some(0.into()),
        Some(1_577_836_800_000_i64.into()),
        Some(1.5.into()),
        Some(rawdoc! { "$date": "2020-01-01T00:00:00Z" }.into()),
        Some(true.into()),
        Some(
            Timestamp {
                time: 1,
                increment: 1,
            }
            .into(),
        ),
        Some(regex("^2020", "i").into()),
        Some(ObjectId::from_bytes([1; 12]).into()),
        Some(RawBson::MinKey),
        Some(RawBson::MaxKey),
    ]
}

fn owned<'a>(field: (&'a bson::raw::CStr, bson::raw::RawBsonRef<'_>)) -> (&'a str, RawBson) {
    (field.0.as_str(), field.1.into())
}

fn regex(pattern: &str, options: &str) -> Regex {
    Regex {
        pattern: CString::try_from(pattern).expect("no NUL in it"),
        options: CString::try_from(options).expect("no NUL in it"),
    }
}

fn keys() -> RawDocumentBuf {
    object([
        ("a.b", 1.into()),
        (".", 2.into()),
        ("..", 3.into()),
        ("$set", rawdoc! { "x": 1 }.into()),
        ("$", 4.into()),
        ("$$ROOT", 5.into()),
        ("", 6.into()),
        (" ", 7.into()),
        ("0", 8.into()),
        ("_id", 9.into()),
        ("__proto__", 10.into()),
        ("$ref", "x".into()),
        ("$id", 1.into()),
        (
            "$literal",
            rawdoc! { "$literal": { "a.b": { "": { "$cond": [1, 2, 3] } } } }.into(),
        ),
        ("clé", 11.into()),
        ("😀", 12.into()),
        (
            "in",
            object([("x.y", object([("$z.", 1.into())]).into())]).into(),
        ),
    ])
}

fn numbers() -> RawDocumentBuf {
    object([
        ("i32", 1.into()),
        ("i64", 1_i64.into()),
        ("f64", 1.0.into()),
        ("d128", decimal("1")),
        ("d128_1.0", decimal("1.0")),
        ("d128_nan", decimal("NaN")),
        ("d128_-0", decimal("-0E+3")),
        ("i32_min", i32::MIN.into()),
        ("i64_min", i64::MIN.into()),
        ("i64_max", i64::MAX.into()),
        ("beyond_f64", 9_007_199_254_740_993_i64.into()),
        ("-0", (-0.0).into()),
        ("nan", f64::NAN.into()),
        ("inf", f64::INFINITY.into()),
        ("-inf", f64::NEG_INFINITY.into()),
        ("tiny", 5e-324.into()),
        ("huge", f64::MAX.into()),
    ])
}

fn decimal(text: &str) -> RawBson {
    text.parse::<Decimal128>().expect("a decimal number").into()
}

/// One value of every type, the deprecated ones too.
fn types() -> RawDocumentBuf {
    let scoped = RawJavaScriptCodeWithScope {
        code: "f()".to_owned(),
        scope: rawdoc! { "x": 1 },
    };
    let binary = |subtype, bytes: &[u8]| {
        RawBson::from(Binary {
            subtype,
            bytes: bytes.to_vec(),
        })
    };
    object([
        ("double", 0.5.into()),
        ("string", "s".into()),
        ("object", rawdoc! { "x": 1 }.into()),
        ("array", RawArrayBuf::from_iter([1, 2]).into()),
        ("binary", binary(BinarySubtype::Generic, &[0, 255, 0])),
        ("binary_old", binary(BinarySubtype::BinaryOld, &[1, 2, 3])),
        ("binary_uuid", binary(BinarySubtype::Uuid, &[7; 16])),
        ("binary_own", binary(BinarySubtype::UserDefined(0x80), &[])),
        ("undefined", RawBson::Undefined),
        ("oid", ObjectId::from_bytes([9; 12]).into()),
        ("true", true.into()),
        ("date", DateTime::from_millis(1_700_000_000_001).into()),
        ("date_min", DateTime::from_millis(i64::MIN).into()),
        ("date_max", DateTime::from_millis(i64::MAX).into()),
        ("null", RawBson::Null),
        ("regex", regex("^a/(b)$", "ix").into()),
        ("pointer", pointer()),
        ("code", RawBson::JavaScriptCode("f()".to_owned())),
        ("symbol", RawBson::Symbol("sym".to_owned())),
        ("scoped", scoped.into()),
        ("i32", 7.into()),
        (
            "timestamp",
            Timestamp {
                time: 7,
                increment: 8,
            }
            .into(),
        ),
        ("i64", 7_i64.into()),
        ("decimal", decimal("7.70")),
        ("min", RawBson::MinKey),
        ("max", RawBson::MaxKey),
    ])
}

/// A value of the type `DBPointer`, which has no constructor.
fn pointer() -> RawBson {
    let mut bytes = vec![0, 0, 0, 0, 0x0c, b'p', 0, 4, 0, 0, 0, b'd', b'.', b'c', 0];
    bytes.extend_from_slice(&[3; 12]);
    bytes.push(0);
    let length = i32::try_from(bytes.len()).expect("a few bytes");
    bytes.splice(..4, length.to_le_bytes());
    RawDocumentBuf::from_bytes(bytes)
        .ok()
        .and_then(|document| document.get("p").ok().flatten().map(RawBson::from))
        .expect("a document with one pointer")
}

fn texts() -> RawDocumentBuf {
    rawdoc! {
        "nul": "a\0b\0",
        "astral": "😀👩‍👩‍👧𝕏",
        "combining": "e\u{301} not é",
        "bidi": "\u{202e}abc\u{200b}",
        "bom": "\u{feff}x",
        "highest": "\u{10ffff}",
        "control": "\u{1}\u{7f}\u{85}\r\n\t",
        "surrogate_like": "\\ud800",
        "empty": "",
        "spaces": "  x  ",
        "number": "1",
        "dollar": "$user_id",
    }
}

fn empties() -> RawDocumentBuf {
    rawdoc! {
        "object": {},
        "array": [],
        "objects": [{}, {}],
        "arrays": [[], [[]]],
        "text": "",
        "deep": { "a": { "b": {} } },
    }
}

fn nested(levels: usize) -> RawDocumentBuf {
    (0..levels).fold(rawdoc! { "leaf": 1 }, |inner, level| {
        if level % 3 == 2 {
            rawdoc! { "a": [inner] }
        } else {
            rawdoc! { "o": inner }
        }
    })
}

#[cfg(test)]
mod tests {
    use tierkeep_core::document;

    use super::*;

    #[test]
    fn hostile_documents_have_ids_of_their_own_and_survive_an_empty_edit() {
        let documents = hostile_documents();
        let mut ids: Vec<String> = Vec::new();
        for (name, hostile) in documents {
            assert!(document::is_native(&hostile), "{name}");
            ids.push(document::user_id(&hostile).unwrap().to_owned());
            assert_eq!(Edit::new().apply(&hostile), hostile, "{name}");
            assert_eq!(
                Edit::new().set_meta("q", 1).unset_meta("q").apply(&hostile),
                hostile,
                "{name}"
            );
        }
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }
}
