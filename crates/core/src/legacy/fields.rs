//! The fields of a legacy document, told apart once for everything that is asked of them.

use bson::raw::{RawBsonRef, RawDocument};

/// The fields at the top of a document. What cannot be read is not among them.
#[derive(Clone, Debug)]
pub struct Fields<'a>(Vec<(&'a str, RawBsonRef<'a>)>);

impl<'a> Fields<'a> {
    /// Those of `document`, up to where it is damaged.
    pub fn of(document: &'a RawDocument) -> Self {
        let elements = document.iter_elements().map_while(Result::ok);
        let readable = elements.filter_map(|it| Some((it.key().as_str(), it.value().ok()?)));
        Self(readable.collect())
    }

    /// The field of this name; the first of several.
    pub fn get(&self, name: &str) -> Option<RawBsonRef<'a>> {
        let mut fields = self.0.iter();
        fields
            .find(|(field, _)| *field == name)
            .map(|(_, value)| *value)
    }

    /// The text in a field, without surrounding spaces; an object id as its digits.
    pub fn text(&self, name: &str) -> Option<String> {
        let value = self.get(name)?;
        let text = match value.as_object_id() {
            Some(id) => id.to_hex(),
            None => value.as_str()?.trim().to_owned(),
        };
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::rawdoc;

    use super::*;

    #[test]
    fn texts_are_trimmed_and_object_ids_are_digits() {
        let id = ObjectId::from_bytes([0x65; 12]);
        let document = rawdoc! { "a": " x ", "b": "  ", "c": id, "d": 1 };
        let fields = Fields::of(&document);
        let texts = ["a", "b", "c", "d", "e"].map(|name| fields.text(name));
        assert_eq!(
            texts,
            [Some("x".to_owned()), None, Some(id.to_hex()), None, None]
        );
        assert_eq!(fields.get("d"), Some(RawBsonRef::Int32(1)));
    }
}
