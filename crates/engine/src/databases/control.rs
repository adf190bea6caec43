//! Documents of tierkeep's own in `evaluation_audit`: marks, switches, alerts, entries of the ledger; and the collection
//! `control`, where each document is one switch or one note.

use bson::raw::RawDocumentBuf;
use bson::{Bson, Document, doc};
use tierkeep_core::bson;
use tierkeep_core::db::{EvaluationAudit, collection};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Class, Find, Inserted, Query, Store, StoreError};

use crate::databases::retry::repeating;

/// Makes a document; answers whether there was none with its `_id` before. One that is there stays as it is.
///
/// # Errors
/// [`StoreError`] also where the database answers and does not take the document: nothing that must be kept
/// is ever taken for kept.
pub(crate) async fn insert_if_absent(
    store: &dyn Store,
    collection: &str,
    document: &Document,
) -> Result<bool, StoreError> {
    let failed = |class, code| StoreError {
        database: store.role(),
        operation: "insert",
        class,
        code,
    };
    let raw = RawDocumentBuf::try_from(document).map_err(|_| failed(Class::Corrupt, 0))?;
    let one = std::slice::from_ref(&raw);
    let made = repeating(|| store.insert(collection, one)).await?;
    match made.into_iter().next() {
        Some(Inserted::Stored) => Ok(true),
        Some(Inserted::Exists) => Ok(false),
        Some(Inserted::Rejected(fault)) => Err(failed(Class::Other, fault.code)),
        Some(Inserted::Unsettled(error)) => Err(error),
        None => Err(failed(Class::Corrupt, 0)),
    }
}

/// The document `id` of the collection `control`.
pub(crate) async fn read(
    audit: &Handle<EvaluationAudit>,
    id: &str,
) -> Result<Option<RawDocumentBuf>, StoreError> {
    let find = Find::new(Query::Ids(vec![Bson::String(id.to_owned())]));
    let found = audit.store().find(collection::CONTROL, &find).await?;
    Ok(found.into_iter().next())
}

/// Sets fields of the document `id` of the collection `control`, which is inserted where it is missing.
pub(crate) async fn set(
    audit: &Handle<EvaluationAudit>,
    id: &str,
    fields: &Document,
) -> Result<(), StoreError> {
    let store = audit.store();
    let mut whole = doc! { "_id": id };
    whole.extend(fields.clone());
    if !insert_if_absent(store.as_ref(), collection::CONTROL, &whole).await? {
        let (ids, always) = ([Bson::String(id.to_owned())], doc! {});
        repeating(|| store.amend(collection::CONTROL, &ids, &always, fields)).await?;
    }
    Ok(())
}
