//! Documents of tierkeep's own in `evaluation_audit`: marks, switches, alerts, entries of the ledger.

use bson::Document;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::store::{Class, Inserted, Store, StoreError};

use crate::retry::repeating;

/// Makes a document; answers whether there was none with its `_id` before. One that is there stays as it is.
///
/// # Errors
/// [`StoreError`] also where the database answers and does not take the document: nothing that must be kept
/// is ever taken for kept.
pub(crate) async fn make(
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
