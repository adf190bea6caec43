//! The fields of a legacy document, told apart once for everything that is asked of them.

use bson::raw::{RawBsonRef, RawDocument, RawElement};

/// The fields at the top of a document. Only the values that are asked for are read.
pub struct Fields<'a>(Vec<RawElement<'a>>);

impl<'a> Fields<'a> {
    /// Those of `document`, up to where it is damaged.
    pub fn of(document: &'a RawDocument) -> Self {
        Self(document.iter_elements().map_while(Result::ok).collect())
    }

    /// The field of this name, the first of several.
    pub fn element(&self, name: &str) -> Option<&RawElement<'a>> {
        self.0.iter().find(|field| field.key().as_str() == name)
    }

    /// The value of the field of this name, the first of several; `None` also where it cannot be read.
    pub fn get(&self, name: &str) -> Option<RawBsonRef<'a>> {
        self.element(name)?.value().ok()
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
