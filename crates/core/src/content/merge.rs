//! JSON Merge Patch (RFC 7396) on raw BSON: owns what becomes of each field. Must never decode what it only copies.

use std::collections::HashMap;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::spec::ElementType;

use super::elements::{Damaged, Element, Elements, append, begin, end};

/// Applies a JSON Merge Patch: `Null` removes, objects merge, all else replaces. What the patch does not name stays as it
/// was, byte for byte and in its place; new fields come last.
///
/// # Errors
/// [`Damaged`] where one of the two is no BSON.
pub fn merge(target: &RawDocument, patch: &RawDocument) -> Result<RawDocumentBuf, Damaged> {
    let mut out = Vec::with_capacity(target.as_bytes().len() + patch.as_bytes().len());
    merge_into(&mut out, Elements::of(target), Elements::of(patch))?;
    RawDocumentBuf::from_bytes(out).map_err(|_| Damaged)
}

/// A field of the patch, and whether it is done.
struct Patched<'a> {
    value: Element<'a>,
    done: bool,
}

fn merge_into(out: &mut Vec<u8>, target: Elements<'_>, patch: Elements<'_>) -> Result<(), Damaged> {
    let start = begin(out);
    let mut changes = HashMap::new();
    for value in patch.clone() {
        let value = value?;
        changes.insert(value.key, Patched { value, done: false });
    }
    for element in target {
        let element = element?;
        match changes.get_mut(element.key) {
            None => append(out, element),
            // A key that another program stored twice is changed once.
            Some(change) if change.done => {}
            Some(change) => {
                change.done = true;
                apply(out, Some(element), change.value)?;
            }
        }
    }
    for element in patch {
        let element = element?;
        if let Some(change) = changes.get_mut(element.key)
            && !change.done
        {
            change.done = true;
            apply(out, None, change.value)?;
        }
    }
    end(out, start);
    Ok(())
}

/// Adds what `change` makes of a field.
fn apply(
    out: &mut Vec<u8>,
    field: Option<Element<'_>>,
    change: Element<'_>,
) -> Result<(), Damaged> {
    if change.of == ElementType::Null {
        return Ok(());
    }
    if change.of != ElementType::EmbeddedDocument {
        append(out, change);
        return Ok(());
    }
    let target = match field {
        Some(field) if field.of == ElementType::EmbeddedDocument => Elements::inside(field.value)?,
        Some(_) | None => Elements::none(),
    };
    out.push(ElementType::EmbeddedDocument as u8);
    out.extend_from_slice(change.key);
    out.push(0);
    merge_into(out, target, Elements::inside(change.value)?)
}
