//! Random content, as proptest strategies.

use bson::oid::ObjectId;
use bson::raw::{CString, RawArrayBuf, RawBson, RawDocumentBuf};
use bson::spec::BinarySubtype;
use bson::{Binary, DateTime, Decimal128, Regex, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use super::hostile::object;

/// Keys: ordinary ones, and those with dots, dollars, digits, nothing in them, or any text.
pub fn arb_key() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-z_]{1,8}",
        1 => "[0-9]{1,2}",
        1 => "[a-z]{0,2}\\.[a-z]{0,2}",
        1 => "\\$[a-z]{0,4}",
        1 => Just(String::new()),
        2 => any::<String>().prop_map(|key| key.replace('\0', "")),
    ]
}

/// Values of every type that a program still writes, nested up to four levels.
pub fn arb_value() -> impl Strategy<Value = RawBson> {
    scalar().prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            2 => fields(inner.clone()).prop_map(RawBson::Document),
            1 => vec(inner, 0..5).prop_map(|items| {
                RawBson::Array(items.into_iter().collect::<RawArrayBuf>())
            }),
        ]
    })
}

/// The content of a section: any object, with its keys in any order.
pub fn arb_section() -> impl Strategy<Value = RawDocumentBuf> {
    fields(arb_value())
}

fn fields(value: impl Strategy<Value = RawBson>) -> impl Strategy<Value = RawDocumentBuf> {
    vec((arb_key(), value), 0..6).prop_map(|fields| {
        let mut once: Vec<(String, RawBson)> = Vec::new();
        for (key, value) in fields {
            if once.iter().all(|(seen, _)| *seen != key) {
                once.push((key, value));
            }
        }
        object(once)
    })
}

fn scalar() -> impl Strategy<Value = RawBson> {
    let number = prop_oneof![
        any::<i32>().prop_map(RawBson::Int32),
        any::<i64>().prop_map(RawBson::Int64),
        proptest::num::f64::ANY.prop_map(RawBson::Double),
        any::<[u8; 16]>().prop_map(|bytes| RawBson::Decimal128(Decimal128::from_bytes(bytes))),
    ];
    let dated = prop_oneof![
        any::<i64>().prop_map(|ms| RawBson::DateTime(DateTime::from_millis(ms))),
        any::<(u32, u32)>()
            .prop_map(|(time, increment)| { RawBson::Timestamp(Timestamp { time, increment }) }),
        Just(RawBson::Timestamp(Timestamp {
            time: 0,
            increment: 0
        })),
    ];
    let other = prop_oneof![
        Just(RawBson::Null),
        any::<bool>().prop_map(RawBson::Boolean),
        any::<[u8; 12]>().prop_map(|bytes| RawBson::ObjectId(ObjectId::from_bytes(bytes))),
        vec(any::<u8>(), 0..16).prop_map(|bytes| {
            RawBson::Binary(Binary {
                subtype: BinarySubtype::Generic,
                bytes,
            })
        }),
        ("[a-z^$.]{0,6}", "(i|m|im|x)?").prop_map(|(pattern, options)| {
            match (CString::try_from(pattern), CString::try_from(options)) {
                (Ok(pattern), Ok(options)) => {
                    RawBson::RegularExpression(Regex { pattern, options })
                }
                _ => RawBson::Null,
            }
        }),
    ];
    prop_oneof![
        3 => number,
        3 => any::<String>().prop_map(RawBson::String),
        1 => dated,
        1 => other,
    ]
}

#[cfg(test)]
mod tests {
    use tierkeep_core::document::Edit;

    use super::*;

    proptest! {
        #[test]
        fn random_sections_survive_an_edit_of_another_field(section in arb_section()) {
            let whole = Edit::new().set("s", section.clone()).apply(&RawDocumentBuf::new());
            let edited = Edit::new().set("other", 1).apply(&whole);
            prop_assert_eq!(edited.get_document("s").unwrap().as_bytes(), section.as_bytes());
        }
    }
}
