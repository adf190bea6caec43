//! Editing documents: owns that every byte that is not meant stays as it was. Must never decode what it only copies.

use std::borrow::Cow;

use bson::raw::{CStr, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};
use bson::spec::ElementType;

use super::{Location, field, metadata};

/// A change to a document that leaves every other byte as it was. Fields keep their place; new ones go
/// to the end; `None` removes.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    top: Vec<(String, Option<RawBson>)>,
    metadata: Vec<(String, Option<RawBson>)>,
}

impl Edit {
    /// An edit that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a top-level field.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<RawBson>) -> Self {
        self.top.push((name.to_owned(), Some(value.into())));
        self
    }

    /// Removes a top-level field.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.top.push((name.to_owned(), None));
        self
    }

    /// Sets a field of `metadata`.
    #[must_use]
    pub fn set_meta(mut self, name: &str, value: impl Into<RawBson>) -> Self {
        self.metadata.push((name.to_owned(), Some(value.into())));
        self
    }

    /// Removes a field of `metadata`.
    #[must_use]
    pub fn unset_meta(mut self, name: &str) -> Self {
        self.metadata.push((name.to_owned(), None));
        self
    }

    /// Sets the location of the copy: `data_location`, `storage_location` and `backup_status`.
    #[must_use]
    pub fn locate(self, location: Location) -> Self {
        let located = self
            .set(field::DATA_LOCATION, location.data_location())
            .set_meta(field::STORAGE_LOCATION, location.storage_location());
        match location.backup_status() {
            Some(status) => located.set_meta(field::BACKUP_STATUS, status),
            None => located.unset_meta(field::BACKUP_STATUS),
        }
    }

    /// The edited document.
    pub fn apply(&self, document: &RawDocument) -> RawDocumentBuf {
        let mut top = changes(&self.top);
        if self.metadata.is_empty() {
            return rewrite(document, &top);
        }
        let empty = RawDocumentBuf::new();
        let old = metadata(document).unwrap_or(&empty);
        let inner = rewrite(old, &changes(&self.metadata));
        top.push((field::METADATA, Some(RawBsonRef::Document(&inner))));
        rewrite(document, &top)
    }
}

/// What becomes of a field: its new value, or `None` where it goes.
type FieldChange<'a> = (&'a str, Option<RawBsonRef<'a>>);

fn changes(owned: &[(String, Option<RawBson>)]) -> Vec<FieldChange<'_>> {
    owned
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_ref().map(RawBson::as_raw_bson_ref)))
        .collect()
}

/// Sets or removes the named fields of `document`; the last word on a name wins.
///
/// Elements that are not named are copied as bytes, never decoded: other programs may have stored texts
/// that are no UTF-8 or values that this crate cannot read, and those are kept too.
fn rewrite(document: &RawDocument, changes: &[FieldChange<'_>]) -> RawDocumentBuf {
    let change = |name: &str| {
        changes
            .iter()
            .rev()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v)
    };
    let source = document.as_bytes();
    let mut out = Vec::with_capacity(source.len() + ROOM_FOR_CHANGES);
    out.extend_from_slice(&[0; 4]);
    let mut seen: Vec<&str> = Vec::new();
    let mut start = 4;
    for element in document.iter_elements().map_while(Result::ok) {
        let name = element.key().as_str();
        let end = start + 1 + name.len() + 1 + element.size();
        match change(name) {
            Some(value) => {
                if let Some(value) = value
                    && !seen.contains(&name)
                {
                    append(&mut out, name, *value);
                }
                seen.push(name);
            }
            None => out.extend_from_slice(source.get(start..end).unwrap_or_default()),
        }
        start = end;
    }
    for (index, (name, value)) in changes.iter().enumerate() {
        let last = !changes
            .iter()
            .skip(index + 1)
            .any(|(later, _)| later == name);
        if last
            && !seen.contains(name)
            && let Some(value) = value
        {
            append(&mut out, name, *value);
        }
    }
    // Empty, unless the document is damaged: what cannot be split into elements stays as it is.
    let tail = start..source.len().saturating_sub(1);
    out.extend_from_slice(source.get(tail).unwrap_or_default());
    out.push(0);
    let length = i32::try_from(out.len()).unwrap_or(i32::MAX);
    out.splice(..4, length.to_le_bytes());
    RawDocumentBuf::from_bytes(out).unwrap_or_else(|_| document.to_owned())
}

/// What a changed document is expected to gain at most, in bytes; more is only slower.
const ROOM_FOR_CHANGES: usize = 512;

/// Adds one element to the bytes of an unfinished document; a name that no document can have is left out.
fn append(out: &mut Vec<u8>, name: &str, value: RawBsonRef<'_>) {
    let Ok(key) = <&CStr>::try_from(name) else {
        return;
    };
    let mut begin = |of: ElementType| {
        out.push(of as u8);
        out.extend_from_slice(name.as_bytes());
        out.push(0);
    };
    // What nearly every edit sets goes where it belongs at once.
    if let Some(inner) = value.as_document() {
        begin(ElementType::EmbeddedDocument);
        out.extend_from_slice(inner.as_bytes());
    } else if let Some(text) = value.as_str() {
        begin(ElementType::String);
        let length = i32::try_from(text.len() + 1).unwrap_or(i32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    } else if let Some(number) = value.as_i64() {
        begin(ElementType::Int64);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Some(at) = value.as_datetime() {
        begin(ElementType::DateTime);
        out.extend_from_slice(&at.timestamp_millis().to_le_bytes());
    } else {
        let mut one = RawDocumentBuf::new();
        one.append(key, value);
        let bytes = one.as_bytes();
        out.extend_from_slice(bytes.get(4..bytes.len() - 1).unwrap_or_default());
    }
}

/// The bytes of [`without`] as pieces, most of them borrowed from the document, for callers that read them once.
pub fn pieces_without<'a>(
    document: &'a RawDocument,
    top: &[&str],
    meta: &[&str],
) -> Vec<Cow<'a, [u8]>> {
    let rewritten = |metadata: &RawDocument| {
        let inner = rewrite(metadata, &removed(meta));
        let mut element = Vec::with_capacity(inner.as_bytes().len() + field::METADATA.len() + 2);
        append(&mut element, field::METADATA, RawBsonRef::Document(&inner));
        element
    };
    let source = document.as_bytes();
    let mut pieces = vec![Cow::Borrowed([].as_slice())];
    let (mut from, mut start) = (4, 4);
    // Whether the first of that name, which is the one that counts, is a document: then the others go.
    let mut is_document = None;
    for element in document.iter_elements().map_while(Result::ok) {
        let name = element.key().as_str();
        let end = start + 1 + name.len() + 1 + element.size();
        let is_metadata = name == field::METADATA;
        let mut inner = None;
        if is_metadata && is_document.is_none() {
            let metadata = element.value().ok().and_then(RawBsonRef::as_document);
            inner = metadata.map(rewritten);
            is_document = Some(inner.is_some());
        }
        if (is_metadata && is_document == Some(true)) || top.contains(&name) {
            pieces.push(Cow::Borrowed(source.get(from..start).unwrap_or_default()));
            pieces.extend(inner.map(Cow::Owned));
            from = end;
        }
        start = end;
    }
    pieces.push(Cow::Borrowed(source.get(from..).unwrap_or_default()));
    let length: usize = 4 + pieces.iter().map(|piece| piece.len()).sum::<usize>();
    let length = i32::try_from(length).unwrap_or(i32::MAX).to_le_bytes();
    if let Some(first) = pieces.first_mut() {
        *first = Cow::Owned(length.to_vec());
    }
    pieces
}

fn removed<'a>(names: &[&'a str]) -> Vec<FieldChange<'a>> {
    names.iter().map(|name| (*name, None)).collect()
}

/// The document without the named top-level and metadata fields, all other bytes as they were.
pub fn without(document: &RawDocument, top: &[&str], meta: &[&str]) -> RawDocumentBuf {
    let mut edit = Edit::new();
    for name in top {
        edit = edit.unset(name);
    }
    if metadata(document).is_some() {
        for name in meta {
            edit = edit.unset_meta(name);
        }
    }
    edit.apply(document)
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::{Bson, DateTime, doc};

    use super::*;

    #[test]
    fn a_value_is_set_as_bson_has_it() {
        let values = doc! {
            "document": { "a": [1, { "b": 2_i64 }] }, "empty": {}, "array": ["x"], "text": "Größe\0", "long": -5_i64,
            "int": 7, "double": 0.5, "flag": true, "date": DateTime::from_millis(-9), "null": Bson::Null,
            "id": ObjectId::from_bytes([7; 12]), "symbol": Bson::Symbol("s".into()), "code": Bson::JavaScriptCode("c".into()),
        };
        for (name, value) in values {
            let expected =
                RawDocumentBuf::try_from(&doc! { name.as_str(): value.clone() }).unwrap();
            let set = Edit::new().set(&name, RawBson::try_from(value).unwrap());
            let there = RawDocumentBuf::try_from(&doc! { name.as_str(): "old" }).unwrap();
            assert_eq!(set.apply(&RawDocumentBuf::new()), expected, "{name}");
            assert_eq!(set.apply(&there), expected, "{name}");
        }
        let unusable = Edit::new().set("a\0b", 1_i64);
        assert_eq!(
            unusable.apply(&RawDocumentBuf::new()),
            RawDocumentBuf::new()
        );
    }
}
