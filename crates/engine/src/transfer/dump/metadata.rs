//! The metadata file beside each collection, in mongodump's form: canonical Extended JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use tierkeep_core::store::{CollectionLayout, Entries, IndexLayout};

/// Says in a metadata file that a manifest belongs to it; mongorestore passes over what it does not know.
pub(crate) const WRITTEN_BY: &str = "writtenBy";
/// The value of [`WRITTEN_BY`].
pub(crate) const TIERKEEP: &str = "tierkeep";

/// The metadata of a collection, as text.
pub(crate) fn render(collection: &CollectionLayout) -> String {
    let by_id = IndexLayout::over(&["_id"]);
    let indexes: Vec<Value> = std::iter::once(index(&by_id, "_id_"))
        .chain(collection.indexes.iter().map(|it| index(it, &name(it))))
        .collect();
    json!({
        "options": {},
        "indexes": indexes,
        "collectionName": collection.name,
        "type": "collection",
        WRITTEN_BY: TIERKEEP,
    })
    .to_string()
}

fn index(index: &IndexLayout, name: &str) -> Value {
    let int = |n: i32| json!({ "$numberInt": n.to_string() });
    let key: Map<String, Value> = index
        .fields
        .iter()
        .map(|field| ((*field).to_owned(), int(1)))
        .collect();
    let mut rendered = json!({ "v": int(2), "key": key, "name": name });
    match (index.entries, index.fields.first()) {
        (Entries::Unique, _) => rendered["unique"] = Value::Bool(true),
        (Entries::Above(above), Some(first)) => {
            rendered["partialFilterExpression"] = json!({ *first: { "$gt": above } });
        }
        (Entries::All | Entries::Above(_), _) => {}
    }
    rendered
}

/// The name that the server gives an index by default.
fn name(index: &IndexLayout) -> String {
    let parts: Vec<String> = index.fields.iter().map(|it| format!("{it}_1")).collect();
    parts.join("_")
}

/// The file name of a collection: whatever could lead out of its directory or is no plain letter is
/// percent-encoded, as mongodump does.
pub(crate) fn file_name(collection: &str) -> String {
    let mut name = String::with_capacity(collection.len());
    for byte in collection.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'~' => {
                name.push(char::from(byte));
            }
            _ => {
                // Writing to a text cannot fail.
                let _ = write!(name, "%{byte:02X}");
            }
        }
    }
    name
}

/// Whether metadata describes a view, of which mongodump writes nothing else.
pub(crate) fn is_of_view(metadata: &Value) -> bool {
    let is_view = metadata.get("type").and_then(Value::as_str) == Some("view");
    is_view || metadata.pointer("/options/viewOn").is_some()
}

/// The collection that a file is named after; `None` where the name is not that of a collection.
pub(crate) fn collection_of(file_name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(file_name.len());
    let mut rest = file_name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_has_the_form_that_mongorestore_reads() {
        let collection = CollectionLayout {
            name: "audit_trail".into(),
            indexes: vec![
                IndexLayout::over(&["user_id", "_id"]).unique(),
                IndexLayout::over(&["status"]).above("completed"),
            ],
            keeps_out: None,
        };
        assert_eq!(
            render(&collection),
            r#"{"options":{},"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"},"#
                .to_owned()
                + r#"{"v":{"$numberInt":"2"},"key":{"user_id":{"$numberInt":"1"},"_id":{"$numberInt":"1"}},"#
                + r#""name":"user_id_1__id_1","unique":true},"#
                + r#"{"v":{"$numberInt":"2"},"key":{"status":{"$numberInt":"1"}},"name":"status_1","#
                + r#""partialFilterExpression":{"status":{"$gt":"completed"}}}],"#
                + r#""collectionName":"audit_trail","type":"collection","writtenBy":"tierkeep"}"#
        );
    }

    #[test]
    fn names_of_files_lead_nowhere_else() {
        for name in ["internal_users", "a/b", "..", "ä $x%", "hr.x-1"] {
            let file = file_name(name);
            assert!(!file.contains(['/', '\\', ' ', '$']), "{file}");
            assert_eq!(collection_of(&file).as_deref(), Some(name));
        }
        for odd in ["", "%", "%4", "%zz", "%FF"] {
            assert_eq!(collection_of(odd), None, "{odd}");
        }
    }
}
