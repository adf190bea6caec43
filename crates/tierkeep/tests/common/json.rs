//! Random JSON that is valid content.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Number, Value};

/// Objects, up to four levels deep, with their keys in any order.
pub fn arb_object() -> impl Strategy<Value = Value> {
    fields(arb_value())
}

fn arb_value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        Just(9_007_199_254_740_993_i64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n))),
        any::<f64>()
            .prop_filter_map("JSON has finite numbers alone", Number::from_f64)
            .prop_map(Value::Number),
    ];
    let scalar = prop_oneof![
        3 => number,
        3 => any::<String>().prop_map(Value::String),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => Just(Value::Null),
    ];
    scalar.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            2 => fields(inner.clone()),
            1 => vec(inner, 0..5).prop_map(Value::Array),
        ]
    })
}

fn fields(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    vec((arb_key(), value), 0..6)
        .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>()))
}

fn arb_key() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-z_]{1,8}",
        1 => "[0-9]{1,2}",
        1 => "[a-z]{0,2}\\.[a-z$]{0,2}",
        1 => Just(String::new()),
        2 => any::<String>().prop_map(|key| key.replace('\0', "").trim_start_matches('$').to_owned()),
    ]
}
