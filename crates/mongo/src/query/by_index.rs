//! Pages that are read by an index other than the one over `_id`, which is given by its name.

use bson::raw::{RawArrayBuf, RawBson, RawDocumentBuf, cstr};
use bson::{Bson, DateTime, Timestamp, rawdoc};
use tierkeep_core::document::field;
use tierkeep_core::store::{CLAIMS_INDEX, Cursor, Fields, Find, Query};

use super::read::{PageQuery, after_id, of_users, with_expr};
use super::{READ_LIMIT, is_visible, key, millis, raw};

/// The index by which documents of users are found.
pub(crate) const USERS_INDEX: [&str; 2] = ["user_id", field::ID];
/// The index by which documents are found in the order in which they were staged.
pub(crate) const STAGED_INDEX: [&str; 2] = ["metadata.staged_at", field::ID];

/// The earliest date there is: the server orders every other type wholly before or after dates.
pub(super) const FIRST_DATE: DateTime = DateTime::from_millis(i64::MIN);
/// The first value of the type that follows dates.
const AFTER_DATES: Timestamp = Timestamp {
    time: 0,
    increment: 0,
};

/// The fields of the index by which [`find_by_index`] reads the page; `None` where no index is needed but the one over
/// `_id`, or where the server chooses.
pub(crate) fn index_fields(find: &Find) -> Option<&'static [&'static str]> {
    match (&find.query, find.fields) {
        (Query::Due(_) | Query::Staged(_) | Query::Unstaged, _) => Some(&STAGED_INDEX),
        (Query::Users(_), _) => Some(&USERS_INDEX),
        (Query::All, Fields::Claims) => Some(&CLAIMS_INDEX),
        (Query::All | Query::Ids(_) | Query::Equal(_) | Query::Newest(_), _) => None,
    }
}

/// As [`find`], by the index of this name over [`index_fields`]. It must hold every document: the server follows a hint also
/// where a partial index leaves documents out.
///
/// For [`Query::Unstaged`] it must hold each document in one place. What is unstaged then comes in the index's order.
pub(crate) fn find_by_index(
    collection: &str,
    find: &Find,
    seen: Option<Timestamp>,
    index: &str,
) -> Vec<RawDocumentBuf> {
    let page = PageQuery {
        collection,
        find,
        seen,
    };
    let after = find.after.as_ref();
    let everything = RawDocumentBuf::new;
    match &find.query {
        Query::All => vec![page.command(everything(), &by_claims_index(index, after))],
        Query::Users(users) => {
            let filter = with_expr(of_users(users), RawArrayBuf::from_iter(after_id(after)));
            // Left to itself the server reads all documents in order of `_id` rather than sort a page.
            let order = rawdoc! { "hint": index, "sort": { "_id": 1 } };
            vec![page.command(filter, &order)]
        }
        Query::Due(before) => {
            let visible = RawArrayBuf::from_iter([is_visible()]);
            let order = staged_until(index, *before, after);
            vec![page.command(with_expr(everything(), visible), &order)]
        }
        // Of places this index says everything: the server opens no document.
        Query::Staged(before) => {
            vec![page.command(everything(), &staged_until(index, *before, after))]
        }
        Query::Unstaged => {
            let below = |from: &RawDocumentBuf| {
                let to = staged_bound(FIRST_DATE, RawBson::MinKey);
                page.command(everything(), &by_staged_index(index, from, Some(&to)))
            };
            let above = |from: &RawDocumentBuf| {
                page.command(everything(), &by_staged_index(index, from, None))
            };
            let first = staged_bound(RawBson::MinKey, RawBson::MinKey);
            let second = staged_bound(AFTER_DATES, RawBson::MinKey);
            match after {
                None => vec![below(&first), above(&second)],
                Some(after) if orders_before_dates(&after.staged_at) => {
                    vec![below(&staged_cursor(after)), above(&second)]
                }
                Some(after) => vec![above(&staged_cursor(after))],
            }
        }
        // `index_fields` names none for these.
        Query::Ids(_) | Query::Equal(_) | Query::Newest(_) => super::find(collection, find, seen),
    }
}

fn staged_bound(staged_at: impl Into<RawBson>, id: RawBson) -> RawDocumentBuf {
    rawdoc! { "metadata.staged_at": staged_at.into(), "_id": id }
}

/// In index order of (`metadata.staged_at`, `_id`), from the cursor, or the first date, to `before`.
fn staged_until(index: &str, before: DateTime, after: Option<&Cursor>) -> RawDocumentBuf {
    let from = after.map_or(staged_bound(FIRST_DATE, RawBson::MinKey), staged_cursor);
    by_staged_index(index, &from, Some(&staged_bound(before, RawBson::MaxKey)))
}

fn staged_cursor(after: &Cursor) -> RawDocumentBuf {
    staged_bound(raw(&after.staged_at), raw(&after.id))
}

/// In index order of (`metadata.staged_at`, `_id`), which crosses types, from `from` (inclusive) up to `to`
/// (exclusive) or the end. Sorted because a router merges what several shards send only where the command names an order.
/// The end is named: left to itself MongoDB 5.0 leaves out what is staged at the highest value of all, and later releases do
/// not.
///
/// Where a document has an array among the indexed values, the server sorts by itself instead of reading the index in
/// order; it may write to disk then, so that a large collection does not make it give up.
fn by_staged_index(
    index: &str,
    from: &RawDocumentBuf,
    to: Option<&RawDocumentBuf>,
) -> RawDocumentBuf {
    let mut order = rawdoc! {
        "hint": index,
        "sort": { "metadata.staged_at": 1, "_id": 1 },
        "allowDiskUse": true,
        "min": from.clone(),
    };
    let end = || staged_bound(RawBson::MaxKey, RawBson::MaxKey);
    order.append(cstr!("max"), to.map_or_else(end, Clone::clone));
    order
}

/// In index order of `_id` from `after` (inclusive) on, by the index of this name over [`CLAIMS_INDEX`].
fn by_claims_index(index: &str, after: Option<&Cursor>) -> RawDocumentBuf {
    let mut order = rawdoc! { "hint": index, "sort": { "_id": 1 } };
    if let Some(after) = after {
        let mut from = RawDocumentBuf::new();
        for name in CLAIMS_INDEX {
            let is_id = name == field::ID;
            let bound = if is_id {
                raw(&after.id)
            } else {
                RawBson::MinKey
            };
            from.append(key(name), bound);
        }
        order.append(cstr!("min"), from);
    }
    order
}

/// Whether the server orders values of this type before dates.
fn orders_before_dates(value: &Bson) -> bool {
    match value {
        Bson::MinKey
        | Bson::Undefined
        | Bson::Null
        | Bson::Int32(_)
        | Bson::Int64(_)
        | Bson::Double(_)
        | Bson::Decimal128(_)
        | Bson::String(_)
        | Bson::Symbol(_)
        | Bson::Document(_)
        | Bson::Array(_)
        | Bson::Binary(_)
        | Bson::ObjectId(_)
        | Bson::Boolean(_) => true,
        Bson::DateTime(_)
        | Bson::Timestamp(_)
        | Bson::RegularExpression(_)
        | Bson::DbPointer(_)
        | Bson::JavaScriptCode(_)
        | Bson::JavaScriptCodeWithScope(_)
        | Bson::MaxKey => false,
    }
}

/// Asks for the plan of a scan of the index of this name, without running it: shows whether the index is there, and whether
/// any document has several places in it.
pub(crate) fn explain_scan(collection: &str, index: &str) -> RawDocumentBuf {
    rawdoc! {
        "explain": { "find": collection, "hint": index },
        "verbosity": "queryPlanner",
        "maxTimeMS": millis(READ_LIMIT),
    }
}
