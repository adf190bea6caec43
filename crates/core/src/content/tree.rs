//! JSON as a tree: for what is short and for operators. Numbers are as exact as those of a body.

use serde_json::{Map, Value};
use struson::reader::{JsonReader, ValueType};

use super::InvalidBody;
use super::encode::number;
use super::parse::{malformed, reader};

/// Any JSON as a tree.
pub(super) fn read(text: &[u8]) -> Result<Value, InvalidBody> {
    let mut json = reader(text);
    let value = value_of(&mut json)?;
    json.consume_trailing_whitespace().map_err(malformed)?;
    Ok(value)
}

fn value_of<R: JsonReader>(json: &mut R) -> Result<Value, InvalidBody> {
    Ok(match json.peek().map_err(malformed)? {
        ValueType::Object => {
            json.begin_object().map_err(malformed)?;
            let mut object = Map::new();
            while json.has_next().map_err(malformed)? {
                let name = json.next_name_owned().map_err(malformed)?;
                object.insert(name, value_of(json)?);
            }
            json.end_object().map_err(malformed)?;
            Value::Object(object)
        }
        ValueType::Array => {
            json.begin_array().map_err(malformed)?;
            let mut array = Vec::new();
            while json.has_next().map_err(malformed)? {
                array.push(value_of(json)?);
            }
            json.end_array().map_err(malformed)?;
            Value::Array(array)
        }
        ValueType::String => Value::String(json.next_string().map_err(malformed)?),
        ValueType::Number => {
            let text = json.next_number_as_str().map_err(malformed)?;
            Value::Number(number(text)?)
        }
        ValueType::Boolean => Value::Bool(json.next_bool().map_err(malformed)?),
        ValueType::Null => {
            json.next_null().map_err(malformed)?;
            Value::Null
        }
    })
}
