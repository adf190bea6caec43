//! Pages of claims that an index alone answers.

use bson::raw::{RawBson, RawDocumentBuf, cstr};
use bson::{Timestamp, rawdoc};
use tierkeep_core::store::{CLAIMS_INDEX, Cursor, Find};

use super::read::PageQuery;
use super::{key, raw};

/// The command that reads a page of [`Fields::Claims`](tierkeep_core::store::Fields::Claims) of everything by the index of this name. It must hold every document: the server
/// follows a hint also where a partial index leaves documents out.
pub(crate) fn find_claims(
    collection: &str,
    find: &Find,
    seen: Option<Timestamp>,
    index: &str,
) -> RawDocumentBuf {
    let page = PageQuery {
        collection,
        find,
        seen,
    };
    let order = by_claims_index(index, find.after.as_ref());
    page.command(RawDocumentBuf::new(), &order)
}

/// In index order of `_id` from `after` (inclusive) on, by the index of this name over [`CLAIMS_INDEX`].
fn by_claims_index(index: &str, after: Option<&Cursor>) -> RawDocumentBuf {
    let mut from = RawDocumentBuf::new();
    for field in CLAIMS_INDEX {
        match after {
            Some(after) if field == "_id" => from.append(key(field), raw(&after.id)),
            Some(_) => from.append(key(field), RawBson::MinKey),
            None => {}
        }
    }
    let mut order = rawdoc! { "hint": index, "sort": { "_id": 1 } };
    if !from.is_empty() {
        order.append(cstr!("min"), from);
    }
    order
}

#[cfg(test)]
mod tests {
    use bson::{Bson, doc};
    use insta::assert_json_snapshot;
    use tierkeep_core::store::Query;

    use super::super::tests::shown;
    use super::*;

    fn shown_pages(page: &Find) -> Vec<serde_json::Value> {
        let commands = super::super::find("internal_users", page, None);
        commands.iter().map(shown).collect()
    }

    #[test]
    fn pages_of_claims() {
        let page = Find::new(Query::All).claims();
        let by_index = |page: &Find| shown(&find_claims("internal_users", page, None, "name"));
        assert_json_snapshot!("find_claims", by_index(&page));
        let next = page.after(Some(Cursor {
            staged_at: Bson::Null,
            id: "a".into(),
        }));
        assert_json_snapshot!("find_claims_next", by_index(&next));
        assert_json_snapshot!("find_claims_unindexed", shown_pages(&next));
        let named = Query::Equal(doc! { "metadata.state": "live" });
        assert_json_snapshot!("find_claims_equal", shown_pages(&Find::new(named).claims()));
    }
}
