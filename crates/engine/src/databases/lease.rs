//! Leases: documents of `evaluation_audit` that keep several processes from doing the same work at once.
//!
//! A lease saves work and nothing else; versions are what guards a document. Each has a counter that rises with every
//! claim, and a change names the counter that it was read with, so that of two processes one loses.

use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, Document, doc};
use tierkeep_core::bson;
use tierkeep_core::db::collection;
use tierkeep_core::store::{Find, Query, Store, StoreError};

use crate::databases::control;
use crate::databases::retry::repeating;

/// Whether a claim until `until` is valid at `now`, both by the clock of the database that keeps it.
///
/// One that ends later than any claim can was made by a clock that has been set since, and does not stand.
pub(crate) fn stands(until: Option<DateTime>, now: DateTime, longest: Duration) -> bool {
    until.is_some_and(|until| until > now && until.saturating_duration_since(now) <= longest)
}

/// A lease kept in the collection `control`, beside what its holder notes there.
#[derive(Clone, Copy)]
pub(crate) struct Lease<'a> {
    audit: &'a dyn Store,
    id: &'a str,
    /// The field that counts the claims or changes.
    counter: &'static str,
}

impl<'a> Lease<'a> {
    /// The lease `id`, whose field `counter` rises with every claim.
    pub(crate) fn new(audit: &'a dyn Store, id: &'a str, counter: &'static str) -> Self {
        Self { audit, id, counter }
    }

    /// The document of the lease.
    pub(crate) async fn read(&self) -> Result<Option<RawDocumentBuf>, StoreError> {
        let find = Find::new(Query::Ids(vec![Bson::String(self.id.to_owned())]));
        let found = repeating(|| self.audit.find(collection::CONTROL, &find)).await?;
        Ok(found.into_iter().next())
    }

    /// Inserts the document with these fields; answers whether there was none before.
    pub(crate) async fn begin(&self, fields: Document) -> Result<bool, StoreError> {
        let mut first = doc! { "_id": self.id };
        first.extend(fields);
        control::insert_if_absent(self.audit, collection::CONTROL, &first).await
    }

    /// Sets fields while the counter is `seen`; answers whether that was so. Also `false` where the answer to an own
    /// change was lost.
    pub(crate) async fn set(&self, seen: i64, fields: &Document) -> Result<bool, StoreError> {
        let ids = [Bson::String(self.id.to_owned())];
        let when = doc! { self.counter: seen };
        let set = || self.audit.amend(collection::CONTROL, &ids, &when, fields);
        Ok(repeating(set).await? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clock_makes_a_claim_stand_for_longer_than_claims_last() {
        let longest = Duration::from_secs(10);
        let at = |seconds: i64| DateTime::from_millis(seconds * 1_000);
        let stands = |until: Option<DateTime>, now| stands(until, now, longest);
        assert!(stands(Some(at(108)), at(100)));
        assert!(stands(Some(at(108)), at(107)));
        assert!(!stands(Some(at(108)), at(108)));
        assert!(!stands(Some(at(108)), at(97)), "the clock was set back");
        assert!(!stands(Some(at(26 * 3_600)), at(0)));
        assert!(!stands(None, at(0)), "given back");
    }
}
