//! Why documents of a collection are refused, with the names of the indexes that may be the reason.
//!
//! Few of the server's refusals name the index, so its indexes are asked for: only where a document is refused by one,
//! and once for all documents of an operation. Never fails for that: an index that cannot be found out stays unnamed.

use bson::raw::RawDocumentBuf;
use tierkeep_core::store::Fault;

use super::MongoStore;
use crate::error::Refusal;

/// The refusals of one operation on one collection.
pub(super) struct Faults<'a> {
    store: &'a MongoStore,
    collection: &'a str,
    listed: Option<Vec<RawDocumentBuf>>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(store: &'a MongoStore, collection: &'a str) -> Self {
        Self {
            store,
            collection,
            listed: None,
        }
    }

    /// The fault of the document that is refused.
    pub(super) async fn of(&mut self, refusal: &Refusal) -> Fault {
        if let Some(index) = &refusal.index {
            return refusal.fault(std::slice::from_ref(index));
        }
        let Some(kind) = refusal.by else {
            return refusal.fault(&[]);
        };
        let listed = match &mut self.listed {
            Some(listed) => listed,
            unasked @ None => {
                let listed = self.store.indexes_of(self.collection).await;
                unasked.insert(listed.unwrap_or_default())
            }
        };
        let named = listed
            .iter()
            .filter(|index| kind.is(index))
            .filter_map(|index| index.get_str("name").ok());
        let named: Vec<String> = named.map(str::to_owned).collect();
        refusal.fault(&named)
    }
}
