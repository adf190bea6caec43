//! Looking at what is stored of the users of a page. Reads only, in bounded pieces.

use std::collections::HashMap;

use tierkeep_core::bson::Bson;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::db::UserDatabase;
use tierkeep_core::digest::Digest;
use tierkeep_core::document;
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Find, Query, StoreError};

use crate::databases::retry::repeating;

/// The most bytes of documents that are held at once, but for one that is larger.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The heads of documents, as many at once as may be held.
pub(crate) fn heads() -> Find {
    Find::new(Query::All).max_bytes(PAGE_BYTES).head()
}

/// How a document that is stored at the same version compares with one of a dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    Same,
    Other,
}

/// What is stored under the `_id`s of `documents`, by user. A user whose document is missing, or has another version,
/// has no entry: the document has moved or changed since this version was seen there.
pub(crate) async fn compared<D: UserDatabase>(
    database: &Handle<D>,
    documents: &[&RawDocumentBuf],
) -> Result<HashMap<String, Content>, StoreError> {
    let mut wanted: HashMap<String, &RawDocumentBuf> = documents
        .iter()
        .filter_map(|it| Some((document::user_id(it)?.to_owned(), *it)))
        .collect();
    let mut contents = HashMap::new();
    while !wanted.is_empty() {
        let ids = wanted.keys().cloned().map(Bson::String).collect();
        let find = Find::new(Query::Ids(ids))
            .limit(wanted.len())
            .max_bytes(PAGE_BYTES);
        let page = repeating(|| database.store().find(D::USERS, &find)).await?;
        let before = wanted.len();
        for stored in page {
            let Some((id, document)) =
                document::user_id(&stored).and_then(|user| wanted.remove_entry(user))
            else {
                continue;
            };
            if document::version(&stored) != document::version(document) {
                continue;
            }
            let is_same = stored == *document
                || document::state(&stored) == document::state(document)
                    && Digest::of(&stored) == Digest::of(document);
            contents.insert(
                id,
                if is_same {
                    Content::Same
                } else {
                    Content::Other
                },
            );
        }
        if wanted.len() == before {
            break;
        }
    }
    Ok(contents)
}
