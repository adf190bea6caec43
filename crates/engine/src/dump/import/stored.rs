//! Looking at what is stored of the users of a page. Reads only, in bounded pieces.

use std::collections::HashMap;

use tierkeep_core::bson::Bson;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::db::{Handle, UserDatabase};
use tierkeep_core::digest::Digest;
use tierkeep_core::document;
use tierkeep_core::store::{Find, Query, StoreError};

use crate::retry::repeating;

/// The most bytes of documents that are held at once, but for one that is larger.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The heads of all documents that claim one of `users`, by user.
pub(super) async fn claims_of<D: UserDatabase>(
    database: &Handle<D>,
    users: &[String],
    linearizable: bool,
) -> Result<HashMap<String, Vec<RawDocumentBuf>>, StoreError> {
    let mut claims: HashMap<String, Vec<RawDocumentBuf>> = HashMap::new();
    let mut runs = vec![users];
    while let Some(run) = runs.pop() {
        if run.is_empty() {
            continue;
        }
        let limit = run.len() * 2;
        let mut find = Find::new(Query::Users(run.to_vec()))
            .limit(limit)
            .max_bytes(PAGE_BYTES)
            .head();
        if linearizable {
            find = find.linearizable();
        }
        let page = repeating(|| database.store().find(D::USERS, &find)).await?;
        let bytes: usize = page.iter().map(|head| head.as_bytes().len()).sum();
        if (page.len() >= limit || bytes >= PAGE_BYTES) && run.len() > 1 {
            // There may be more than fit on the page.
            let (first, second) = run.split_at(run.len() / 2);
            runs.extend([first, second]);
            continue;
        }
        for head in page {
            let user = document::user_id(&head).unwrap_or_default().to_owned();
            claims.entry(user).or_default().push(head);
        }
    }
    Ok(claims)
}

/// How a document that is stored at the same version compares with one of a dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Same,
    Other,
}

/// What is stored under the `_id`s of `documents`, by user. Where that is nothing, or another version, there is no
/// entry: it has moved or changed since somebody saw this version there.
pub(super) async fn compared<D: UserDatabase>(
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
