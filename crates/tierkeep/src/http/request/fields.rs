//! Fields of a JSON object: owns how a parsed body becomes the type of a request, and what is said about a wrong field.
//!
//! The errors name the field and what it takes: a type says in `expecting` what completes "`field` is …".

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, Visitor,
};
use tierkeep_core::bson::{Bson, Document};
use tierkeep_core::content::InvalidBody;

/// Reads the fields of an object.
///
/// # Errors
/// [`InvalidBody::Content`] for a field that the type does not have, or a value that the field does not take.
pub(super) fn read<T: DeserializeOwned>(body: &Document) -> Result<T, InvalidBody> {
    T::deserialize(Object(body)).map_err(|error| InvalidBody::Content(error.to_string()))
}

/// A whole number above 0. To JSON, `7.0` is the same number as `7`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct Amount(pub(in crate::http) u64);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl Visitor<'_> for Visit {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number above 0")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Amount, E> {
                let above_0 = u64::try_from(number).ok().filter(|number| *number > 0);
                let wrong = || E::invalid_value(Unexpected::Signed(number), &self);
                above_0.map(Amount).ok_or_else(wrong)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Amount, E> {
                let whole: Option<u64> = number.to_string().parse().ok();
                let above_0 = whole.filter(|number| *number > 0);
                let wrong = || E::invalid_value(Unexpected::Float(number), &self);
                above_0.map(Amount).ok_or_else(wrong)
            }
        }

        deserializer.deserialize_any(Visit)
    }
}

/// True or false.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::http) struct Flag(pub(in crate::http) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl Visitor<'_> for Visit {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Flag, E> {
                Ok(Flag(flag))
            }
        }

        deserializer.deserialize_any(Visit)
    }
}

/// A list.
#[derive(Debug)]
pub(in crate::http) struct List<T>(pub(in crate::http) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Visit<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(List(list))
            }
        }

        deserializer.deserialize_any(Visit(PhantomData))
    }
}

/// Reads a text field with `parse`, which says what the field takes where it does not take the text.
pub(in crate::http) fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct Visit<F>(F);

    impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for Visit<F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            // The error about a refused text says what the field accepts.
            match (self.0)("") {
                Ok(_) => f.write_str("a string"),
                Err(expected) => f.write_str(&expected),
            }
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            let wrong = |expected: String| E::invalid_value(Unexpected::Str(text), &&*expected);
            (self.0)(text).map_err(wrong)
        }
    }

    deserializer.deserialize_any(Visit(parse))
}

/// Why a body is not the request that it should be.
#[derive(Debug, thiserror::Error)]
enum InvalidField {
    /// What the field takes; its name is put in front.
    #[error("{0}")]
    Phrase(String),
    /// The whole message.
    #[error("{0}")]
    Sentence(String),
}

impl de::Error for InvalidField {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Sentence(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Phrase(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Phrase(expected.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::Sentence(format!(
            "the field {field:?} is unknown; the fields are {}",
            expected.join(", ")
        ))
    }
}

impl InvalidField {
    /// The error of the field of this name.
    fn of(self, field: &str) -> Self {
        match self {
            Self::Phrase(expected) => Self::Sentence(format!("{field} must be {expected}")),
            Self::Sentence(_) => self,
        }
    }
}

/// The body.
struct Object<'a>(&'a Document);

impl<'de> Deserializer<'de> for Object<'_> {
    type Error = InvalidField;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
        visitor.visit_map(Entries {
            left: self.0.iter(),
            value: None,
        })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Entries<'a, I> {
    left: I,
    value: Option<(&'a str, &'a Bson)>,
}

impl<'de, 'a, I: Iterator<Item = (&'a String, &'a Bson)>> MapAccess<'de> for Entries<'a, I> {
    type Error = InvalidField;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, InvalidField> {
        let Some((name, value)) = self.left.next() else {
            return Ok(None);
        };
        self.value = Some((name, value));
        let name: StrDeserializer<'_, InvalidField> = name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, InvalidField> {
        let (name, value) = self.value.take().unwrap_or(("", &Bson::Null));
        seed.deserialize(Value(value))
            .map_err(|error| error.of(name))
    }
}

/// The value of a field.
struct Value<'a>(&'a Bson);

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = InvalidField;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
        if let Bson::Boolean(flag) = self.0 {
            return visitor.visit_bool(*flag);
        }
        if let Bson::String(text) = self.0 {
            return visitor.visit_str(text);
        }
        if let Bson::Array(items) = self.0 {
            return visitor.visit_seq(Items(items.iter()));
        }
        if let Bson::Double(number) = self.0 {
            return visitor.visit_f64(*number);
        }
        match self.0.as_i64().or(self.0.as_i32().map(i64::from)) {
            Some(number) => visitor.visit_i64(number),
            None => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
        // A field is left out or has a value; null is none.
        visitor.visit_some(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Items<I>(I);

impl<'de, 'a, I: Iterator<Item = &'a Bson>> SeqAccess<'de> for Items<I> {
    type Error = InvalidField;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, InvalidField> {
        let next = self.0.next().map(|item| seed.deserialize(Value(item)));
        next.transpose()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde::Deserialize;
    use tierkeep_core::content;

    use super::*;

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(deny_unknown_fields)]
    struct Request {
        #[serde(default)]
        dry_run: Flag,
        limit: Option<Amount>,
        #[serde(default, deserialize_with = "colour")]
        colour: Option<Colour>,
    }

    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Colour(&'static str);

    fn colour<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Colour>, D::Error> {
        let parse = |text: &str| match text {
            "red" => Ok(Colour("red")),
            _ => Err("red".to_owned()),
        };
        text(deserializer, parse).map(Some)
    }

    fn read_json(body: &str) -> Result<Request, InvalidBody> {
        let body = content::parse(body.as_bytes()).unwrap();
        read(&Document::try_from(&*body).unwrap())
    }

    #[rstest]
    #[case("{}", false, None, None)]
    #[case(
        r#"{"dry_run":true,"limit":7,"colour":"red"}"#,
        true,
        Some(7),
        Some("red")
    )]
    #[case(r#"{"limit":7.0}"#, false, Some(7), None)]
    fn fields_are_read_and_may_be_left_out(
        #[case] body: &str,
        #[case] dry_run: bool,
        #[case] limit: Option<u64>,
        #[case] colour: Option<&'static str>,
    ) {
        let expected = Request {
            dry_run: Flag(dry_run),
            limit: limit.map(Amount),
            colour: colour.map(Colour),
        };
        assert_eq!(read_json(body), Ok(expected));
    }

    #[rstest]
    #[case(
        r#"{"dryrun":true}"#,
        "the field \"dryrun\" is unknown; the fields are dry_run, limit, colour"
    )]
    #[case(r#"{"dry_run":"yes"}"#, "dry_run must be true or false")]
    #[case(r#"{"dry_run":null}"#, "dry_run must be true or false")]
    #[case(r#"{"limit":0}"#, "limit must be a whole number above 0")]
    #[case(r#"{"limit":-1}"#, "limit must be a whole number above 0")]
    #[case(r#"{"limit":7.5}"#, "limit must be a whole number above 0")]
    #[case(r#"{"limit":null}"#, "limit must be a whole number above 0")]
    #[case(r#"{"limit":{"of":7}}"#, "limit must be a whole number above 0")]
    #[case(r#"{"colour":7}"#, "colour must be red")]
    #[case(r#"{"colour":"blue"}"#, "colour must be red")]
    fn an_error_names_the_field_and_what_it_takes(#[case] body: &str, #[case] expected: &str) {
        let error = read_json(body).unwrap_err();
        assert_eq!(error, InvalidBody::Content(expected.to_owned()));
    }
}
