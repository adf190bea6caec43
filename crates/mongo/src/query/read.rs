//! Commands that read documents.

use bson::raw::{RawArrayBuf, RawDocumentBuf, cstr};
use bson::{DateTime, Document, Timestamp, rawdoc};
use tierkeep_core::store::{CLAIMS_INDEX, Cursor, Fields, Find, Query, ReadConcern, SIZE};

use super::by_index::FIRST_DATE;
use super::{
    COUNT_LIMIT, READ_LIMIT, fields_equal, has_type, id_runs, is_visible, key, literal, millis,
    path, raw,
};

/// The most whole documents in one batch of a page; a page that is full earlier costs no more than this.
const BATCH_WHOLE: usize = 1_001;
/// As [`BATCH_WHOLE`], for heads.
const BATCH_HEADS: usize = 5_000;
/// As [`BATCH_WHOLE`], for claims: less than 2 MB of them.
const BATCH_CLAIMS: usize = 10_001;

/// The read concern. `seen` is the time of this client's last write: a primary that was elected since then
/// waits until it can show that write.
fn read_concern(read: ReadConcern, seen: Option<Timestamp>) -> RawDocumentBuf {
    match (read, seen) {
        (ReadConcern::Linearizable, _) => rawdoc! { "level": "linearizable" },
        (ReadConcern::Majority, None) => rawdoc! { "level": "majority" },
        (ReadConcern::Majority, Some(seen)) => {
            rawdoc! { "level": "majority", "afterClusterTime": seen }
        }
    }
}

/// What all pages have in common.
pub(super) struct PageQuery<'a> {
    pub(super) collection: &'a str,
    pub(super) find: &'a Find,
    pub(super) seen: Option<Timestamp>,
}

impl PageQuery<'_> {
    /// The command that reads what satisfies `filter`, in the order that `order` gives.
    pub(super) fn command(&self, filter: RawDocumentBuf, order: &RawDocumentBuf) -> RawDocumentBuf {
        let mut command = rawdoc! { "find": self.collection, "filter": filter };
        if let Some(wanted) = projection(self.find) {
            command.append(cstr!("projection"), wanted);
        }
        for element in order.iter().flatten() {
            command.append(element.0, element.1);
        }
        let batch = i64::from(batch_size(self.find));
        command.append(cstr!("batchSize"), batch);
        command.append(
            cstr!("readConcern"),
            read_concern(self.find.read, self.seen),
        );
        command.append(cstr!("maxTimeMS"), millis(READ_LIMIT));
        command
    }
}

/// How many documents one batch of a page holds: where the limit allows it, the whole page and the document
/// at the cursor, or, where documents are named, one more than there can be: so the server sees the end, and
/// keeps no cursor that would have to be closed.
pub(crate) fn batch_size(find: &Find) -> u32 {
    let most = match find.fields {
        Fields::Whole => BATCH_WHOLE,
        Fields::Head | Fields::Sized | Fields::Keys | Fields::SortKey => BATCH_HEADS,
        Fields::Claims => BATCH_CLAIMS,
    };
    let has_end = matches!(find.query, Query::Ids(_));
    let one_more = find.after.is_some() || has_end;
    let wanted = find.limit.saturating_add(usize::from(one_more));
    u32::try_from(wanted.min(most)).unwrap_or(u32::MAX)
}

/// Which fields the server sends; `None` for all.
fn projection(find: &Find) -> Option<RawDocumentBuf> {
    let mut names = match find.fields {
        Fields::Whole => return None,
        // By an index over (`user_id`, `_id`) the server need not open the documents.
        Fields::Keys => vec!["user_id"],
        // By an index over exactly these the server need not open the documents.
        Fields::Claims if matches!(find.query, Query::All | Query::Ids(_)) => CLAIMS_INDEX.to_vec(),
        // What the query means is looked at once more when the page has come.
        Fields::Head | Fields::Sized | Fields::Claims => {
            vec!["user_id", "created_at", "last_accessed", "metadata"]
        }
        Fields::SortKey if matches!(find.query, Query::Users(_)) => vec!["user_id"],
        Fields::SortKey if find.query.orders_by_staged_at() => vec!["_id", "metadata.staged_at"],
        Fields::SortKey => vec!["_id"],
    };
    // What the query means is looked at once more when the page has come.
    if let Query::Equal(fields) | Query::Newest(fields) = &find.query {
        for name in fields.keys() {
            // The whole of it: two paths into one object would collide.
            let name = name.split('.').next().unwrap_or(name);
            if name != "_id" && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let mut wanted = RawDocumentBuf::new();
    for name in names {
        wanted.append(key(name), 1);
    }
    if find.fields == Fields::Sized {
        let size = rawdoc! { "$toLong": { "$bsonSize": "$$ROOT" } };
        wanted.append(key(SIZE), size);
    }
    Some(wanted)
}

/// In index order of `_id`, which crosses types, from `after` (inclusive) on.
///
/// One server reads the index in this order anyway; a router merges what several shards send only where the command
/// names an order, and else passes their batches on as they arrive.
fn by_id_index(after: Option<&Cursor>) -> RawDocumentBuf {
    let mut order = rawdoc! { "hint": { "_id": 1 }, "sort": { "_id": 1 } };
    if let Some(after) = after {
        order.append(cstr!("min"), rawdoc! { "_id": raw(&after.id) });
    }
    order
}

/// In index order of `_id` from the highest down, from `after` (exclusive) on.
fn from_the_highest_id(after: Option<&Cursor>) -> RawDocumentBuf {
    let mut order = rawdoc! { "sort": { "_id": -1 } };
    if let Some(after) = after {
        order.append(cstr!("hint"), rawdoc! { "_id": 1 });
        order.append(cstr!("max"), rawdoc! { "_id": raw(&after.id) });
    }
    order
}

/// In order of `_id`, by whatever index the filter deserves.
fn by_id() -> RawDocumentBuf {
    rawdoc! { "sort": { "_id": 1 } }
}

/// The condition that `_id` comes after the cursor, across types.
pub(super) fn after_id(after: Option<&Cursor>) -> Option<RawDocumentBuf> {
    after.map(|after| rawdoc! { "$gt": ["$_id", literal(raw(&after.id))] })
}

/// Adds a condition to a filter.
pub(super) fn with_expr(mut filter: RawDocumentBuf, all: RawArrayBuf) -> RawDocumentBuf {
    if !all.is_empty() {
        filter.append(cstr!("$expr"), rawdoc! { "$and": all });
    }
    filter
}

/// The commands that together read the page, in order; each may send more than the query means, and the
/// first document may be the one at the cursor. Needs no index but the one over `_id`, and is slow where [`index_fields`]
/// names another: the server then reads the whole collection.
///
/// Due documents come in their order, all others ordered by `_id`.
pub(crate) fn find(collection: &str, find: &Find, seen: Option<Timestamp>) -> Vec<RawDocumentBuf> {
    let page = PageQuery {
        collection,
        find,
        seen,
    };
    let after = find.after.as_ref();
    let later = || RawArrayBuf::from_iter(after_id(after));
    match &find.query {
        Query::All => vec![page.command(RawDocumentBuf::new(), &by_id_index(after))],
        Query::Ids(ids) => {
            let mut ids = ids.clone();
            ids.sort_by_cached_key(tierkeep_core::store::id_order);
            id_runs(&ids)
                .into_iter()
                .map(|run| {
                    let filter = rawdoc! { "_id": { "$in": run } };
                    page.command(with_expr(filter, later()), &by_id())
                })
                .collect()
        }
        Query::Users(users) => vec![page.command(with_expr(of_users(users), later()), &by_id())],
        Query::Equal(fields) => vec![page.command(with_expr(equal(fields), later()), &by_id())],
        Query::Newest(fields) if fields.is_empty() => {
            vec![page.command(RawDocumentBuf::new(), &from_the_highest_id(after))]
        }
        // An index over the fields and `_id` brings them in this order.
        Query::Newest(fields) => {
            let before = after.map(|after| rawdoc! { "$lt": ["$_id", literal(raw(&after.id))] });
            let filter = with_expr(equal(fields), RawArrayBuf::from_iter(before));
            vec![page.command(filter, &rawdoc! { "sort": { "_id": -1 } })]
        }
        Query::Due(before) | Query::Staged(before) => {
            let all = RawArrayBuf::from_iter(after.map(is_staged_after));
            let order = rawdoc! { "sort": { "metadata.staged_at": 1, "_id": 1 } };
            vec![page.command(with_expr(due(*before), all), &order)]
        }
        Query::Unstaged => {
            let mut all = later();
            all.push(is_unstaged());
            vec![page.command(with_expr(RawDocumentBuf::new(), all), &by_id())]
        }
    }
}

/// That a document comes after the cursor in the order in which documents were staged.
fn is_staged_after(after: &Cursor) -> RawDocumentBuf {
    let staged_at = literal(raw(&after.staged_at));
    rawdoc! { "$or": [
        { "$gt": ["$metadata.staged_at", staged_at.clone()] },
        { "$and": [
            { "$eq": ["$metadata.staged_at", staged_at] },
            { "$gt": ["$_id", literal(raw(&after.id))] },
        ] },
    ] }
}

pub(super) fn of_users(users: &[String]) -> RawDocumentBuf {
    let users = users.iter().map(String::as_str).collect::<RawArrayBuf>();
    rawdoc! { "user_id": { "$in": users } }
}

/// The fields equal these, as far as an index can tell.
fn equal(fields: &Document) -> RawDocumentBuf {
    let mut filter = RawDocumentBuf::new();
    for (name, value) in fields {
        filter.append(key(name), rawdoc! { "$eq": raw(value) });
    }
    filter
}

/// What is due, as far as an index can tell.
fn due(before: DateTime) -> RawDocumentBuf {
    rawdoc! { "metadata.staged_at": { "$type": "date", "$lte": before } }
}

fn is_unstaged() -> RawDocumentBuf {
    rawdoc! { "$ne": [{ "$type": path("metadata.staged_at") }, "date"] }
}

/// Counts exactly what [`Query::matches`] accepts. `by_index`: for [`Query::Unstaged`], whether the index
/// over (`metadata.staged_at`, `_id`) holds each document in one place.
pub(crate) fn count(
    collection: &str,
    query: &Query,
    by_index: bool,
    seen: Option<Timestamp>,
) -> Vec<RawDocumentBuf> {
    let filters = match query {
        Query::All => vec![RawDocumentBuf::new()],
        Query::Ids(ids) => {
            let mut ids: Vec<_> = ids
                .iter()
                .map(|id| (tierkeep_core::store::id_order(id), id.clone()))
                .collect();
            ids.sort_by(|one, other| one.0.cmp(&other.0));
            ids.dedup_by(|one, other| one.0 == other.0);
            let ids: Vec<_> = ids.into_iter().map(|(_, id)| id).collect();
            id_runs(&ids)
                .into_iter()
                .map(|run| rawdoc! { "_id": { "$in": run } })
                .collect()
        }
        Query::Users(users) => {
            let all = RawArrayBuf::from_iter([has_type("user_id", "string")]);
            vec![with_expr(of_users(users), all)]
        }
        Query::Due(before) => {
            let all =
                RawArrayBuf::from_iter([has_type("metadata.staged_at", "date"), is_visible()]);
            vec![with_expr(due(*before), all)]
        }
        Query::Staged(before) => {
            let all = RawArrayBuf::from_iter([has_type("metadata.staged_at", "date")]);
            vec![with_expr(due(*before), all)]
        }
        Query::Unstaged => {
            let filter = if by_index {
                rawdoc! { "metadata.staged_at": { "$not": { "$gte": FIRST_DATE } } }
            } else {
                RawDocumentBuf::new()
            };
            vec![with_expr(filter, RawArrayBuf::from_iter([is_unstaged()]))]
        }
        Query::Equal(fields) | Query::Newest(fields) => {
            vec![with_expr(equal(fields), fields_equal(fields))]
        }
    };
    filters
        .into_iter()
        .map(|filter| {
            rawdoc! {
                "aggregate": collection,
                "pipeline": [{ "$match": filter }, { "$count": "n" }],
                "cursor": {},
                "readConcern": read_concern(ReadConcern::Majority, seen),
                "maxTimeMS": millis(COUNT_LIMIT),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bson::{Bson, doc};
    use insta::assert_json_snapshot;

    use super::super::tests::shown;
    use super::super::{explain_scan, find_by_index, index_fields};
    use super::*;

    fn date(ms: i64) -> DateTime {
        DateTime::from_millis(ms)
    }

    fn cursor(staged_at: impl Into<Bson>, id: impl Into<Bson>) -> Cursor {
        Cursor {
            staged_at: staged_at.into(),
            id: id.into(),
        }
    }

    fn pages(page: &Find) -> Vec<serde_json::Value> {
        let commands = find("internal_users", page, None);
        commands.iter().map(shown).collect()
    }

    fn pages_by_index(page: &Find) -> Vec<serde_json::Value> {
        assert!(index_fields(page).is_some());
        let commands = find_by_index("internal_users", page, None, "name");
        commands.iter().map(shown).collect()
    }

    #[test]
    fn pages_of_everything() {
        assert_json_snapshot!("find_all", pages(&Find::new(Query::All)));
        let next = Find::new(Query::All)
            .head()
            .limit(7)
            .after(Some(cursor(Bson::Null, 1)));
        assert_json_snapshot!("find_all_next_heads", pages(&next));
    }

    #[test]
    fn pages_of_what_was_staged() {
        let page = Find::new(Query::Staged(date(5_000))).sort_keys();
        assert_json_snapshot!("find_staged_places", pages_by_index(&page));
        let next = page.after(Some(cursor(date(4_000), "a")));
        assert_json_snapshot!("find_staged_places_next", pages_by_index(&next));
    }

    #[test]
    fn where_documents_are_named_the_server_sees_the_end_of_the_page() {
        let batch = |query, limit| batch_size(&Find::new(query).limit(limit));
        assert_eq!(batch(Query::All, 7), 7);
        assert_eq!(batch(Query::Ids(vec![1.into()]), 1), 2);
        assert_eq!(batch(Query::Ids(Vec::new()), 5_000), 1_001);
    }

    #[test]
    fn pages_of_named_documents() {
        let ids = Query::Ids(vec!["b".into(), 7.into(), "a".into()]);
        assert_json_snapshot!("find_ids", pages(&Find::new(ids.clone()).linearizable()));
        let next = Find::new(ids).after(Some(cursor(Bson::Null, "a")));
        assert_json_snapshot!("find_ids_next", pages(&next));
        let users = Find::new(Query::Users(vec!["internal_1".into(), "$x".into()]));
        assert_json_snapshot!("find_users", pages_by_index(&users));
        assert_json_snapshot!("find_users_unindexed", pages(&users));
    }

    #[test]
    fn pages_of_equal_documents() {
        let equal =
            Query::Equal(doc! { "status": "pending", "error": null, "lease.n": { "$gt": 1 } });
        let page = Find::new(equal).head().after(Some(cursor(Bson::Null, "a")));
        assert_json_snapshot!("find_equal", pages(&page));
    }

    #[test]
    fn pages_of_due_documents() {
        let page = Find::new(Query::Due(date(5_000)));
        assert_json_snapshot!("find_due", pages_by_index(&page));
        let next = page.after(Some(cursor(date(4_000), "a")));
        assert_json_snapshot!("find_due_next", pages_by_index(&next));
        assert_json_snapshot!("find_due_unindexed", pages(&next));
        assert_json_snapshot!("find_due_sizes", pages_by_index(&next.sized()));
    }

    #[test]
    fn pages_of_unstaged_documents() {
        let page = Find::new(Query::Unstaged).head();
        assert_json_snapshot!("find_unstaged", pages_by_index(&page));
        let next = page.after(Some(cursor("2024-01-01", "a")));
        assert_json_snapshot!("find_unstaged_next", pages_by_index(&next));
        let later = next.clone().after(Some(cursor(
            Timestamp {
                time: 1,
                increment: 2,
            },
            "a",
        )));
        assert_json_snapshot!("find_unstaged_later", pages_by_index(&later));
        assert_json_snapshot!("find_unstaged_unindexed", pages(&next));
        assert_json_snapshot!("explain", shown(&explain_scan("internal_users", "name")));
    }

    #[test]
    fn pages_of_claims() {
        let page = Find::new(Query::All).claims();
        assert_json_snapshot!("find_claims", pages_by_index(&page));
        let next = page.after(Some(cursor(Bson::Null, "a")));
        assert_json_snapshot!("find_claims_next", pages_by_index(&next));
        assert_json_snapshot!("find_claims_unindexed", pages(&next));
        let named = Query::Equal(doc! { "metadata.state": "live" });
        assert_json_snapshot!("find_claims_equal", pages(&Find::new(named).claims()));
    }

    #[test]
    fn pages_after_a_write_of_this_client() {
        let seen = Some(Timestamp {
            time: 7,
            increment: 3,
        });
        let page = find("internal_users", &Find::new(Query::All), seen);
        assert_json_snapshot!("find_after_write", shown(page.first().unwrap()));
    }

    #[test]
    fn counts() {
        let counts: Vec<_> = [
            (Query::All, true),
            (Query::Ids(vec![2.into(), 1.into(), 2.into()]), true),
            (Query::Users(vec!["internal_1".into()]), true),
            (Query::Due(date(5_000)), true),
            (Query::Staged(date(5_000)), true),
            (Query::Unstaged, true),
            (Query::Unstaged, false),
            (
                Query::Equal(doc! { "user_id": "a", "version": 1_i64, "gone": null }),
                true,
            ),
        ]
        .iter()
        .flat_map(|(query, by_index)| count("internal_users", query, *by_index, None))
        .map(|command| shown(&command))
        .collect();
        assert_json_snapshot!("counts", counts);
    }
}
