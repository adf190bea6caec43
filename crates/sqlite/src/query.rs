//! Reading: which rows a query looks at, and which of them are meant. Changes nothing.

use std::collections::{BTreeSet, HashSet};
use std::iter;

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, Document, rawdoc};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use tierkeep_core::document::{self, State};
use tierkeep_core::mover::Status;
use tierkeep_core::store::{Cursor, Fields, Find, Query, id_order, id_text};

use crate::checksum;
use crate::error::Failure;
use crate::index::{NOT_COMPLETED, UNDER_ANOTHER_ID};
use crate::table::Table;

const STATES: [State; 3] = [State::Live, State::Entering, State::Erased];

/// The rows that a query looks at, in its order.
enum Rows {
    /// Those of one statement; with what follows the table's name, and the parameters.
    Scan(String, Vec<Value>),
    /// Those with these keys.
    Keys(BTreeSet<Vec<u8>>),
}

/// One page of `find`. The connection must be in a transaction, so that all of it is of one moment.
pub(crate) fn find(
    connection: &Connection,
    table: &Table,
    find: &Find,
) -> Result<Vec<RawDocumentBuf>, Failure> {
    let mut failure = None;
    let mut noted = |result: Result<Option<RawDocumentBuf>, Failure>| match result {
        Ok(found) => found,
        Err(error) => {
            failure = Some(error);
            None
        }
    };
    let limit = i64::try_from(find.limit).unwrap_or(i64::MAX);
    let page = match rows(connection, table, &find.query, find.after.as_ref())? {
        Rows::Scan(mut rest, mut values) => {
            // Which rows are meant is known only after they were looked at, except where the columns
            // say all of it.
            if !names_fields(&find.query) {
                rest.push_str(" LIMIT ?");
                values.push(Value::Integer(limit));
            }
            let places = find.fields == Fields::SortKey && matches!(find.query, Query::Staged(_));
            let columns = if places {
                "key, staged_at"
            } else {
                checksum::CHECKED
            };
            let mut statement = connection.prepare_cached(&table.select(columns, &rest))?;
            let mut rows = statement.query(params_from_iter(values))?;
            find.cut(iter::from_fn(|| {
                noted(if places {
                    next_place(&mut rows, connection, table)
                } else {
                    next(&mut rows, find)
                })
            }))
        }
        Rows::Keys(keys) => {
            let mut keys = keys.into_iter();
            let users = users_of(&find.query);
            find.cut(iter::from_fn(|| {
                noted(loop {
                    let Some(key) = keys.next() else {
                        break Ok(None);
                    };
                    match one(connection, table, &key, find.fields, users.as_ref()) {
                        Ok(None) => {}
                        found => break found,
                    }
                })
            }))
        }
    };
    match failure {
        None => Ok(page),
        Some(failure) => Err(failure),
    }
}

/// The users that the query names.
fn users_of(query: &Query) -> Option<HashSet<&str>> {
    match query {
        Query::Users(users) => Some(users.iter().map(String::as_str).collect()),
        Query::All
        | Query::Ids(_)
        | Query::Due(_)
        | Query::Staged(_)
        | Query::Unstaged
        | Query::Equal(_)
        | Query::Newest(_) => None,
    }
}

/// Whether the query names fields of which only some are columns.
fn names_fields(query: &Query) -> bool {
    matches!(query, Query::Equal(_) | Query::Newest(_))
}

/// What is wanted of the document with this key, which is one of `users` where some are named: by its columns alone where
/// these say it.
fn one(
    connection: &Connection,
    table: &Table,
    key: &[u8],
    fields: Fields,
    users: Option<&HashSet<&str>>,
) -> Result<Option<RawDocumentBuf>, Failure> {
    let is_meant = |user: Option<&str>| {
        users.is_none_or(|users| user.is_some_and(|user| users.contains(user)))
    };
    if fields == Fields::Keys
        && let Some(id) = id_text(key)
        && let Some(user) = table.user(connection, key)?
        // Where the two differ, the document says whether the disk has changed one of them.
        && user == id
        && is_meant(Some(&user))
    {
        return Ok(Some(rawdoc! { "_id": id, "user_id": user }));
    }
    match table.get(connection, key)? {
        Some(document) if is_meant(document::user_id(&document)) => Ok(Some(fields.of(document))),
        Some(_) => Ok(None),
        None => table.check_absence(connection, key).map(|()| None),
    }
}

/// The next document that is meant.
fn next(rows: &mut rusqlite::Rows<'_>, find: &Find) -> Result<Option<RawDocumentBuf>, Failure> {
    while let Some(row) = rows.next()? {
        let document = checksum::document(row)?;
        if find.query.matches(document) {
            return Ok(Some(find.fields.copied_from(document)));
        }
    }
    Ok(None)
}

/// The place of the next document, by the index alone where its `_id` is a text.
fn next_place(
    rows: &mut rusqlite::Rows<'_>,
    connection: &Connection,
    table: &Table,
) -> Result<Option<RawDocumentBuf>, Failure> {
    while let Some(row) = rows.next()? {
        let key = row.get_ref(0)?.as_blob().map_err(|_| Failure::Damaged)?;
        let staged_at = DateTime::from_millis(row.get(1)?);
        if let Some(id) = id_text(key) {
            let metadata = rawdoc! { "staged_at": staged_at };
            return Ok(Some(rawdoc! { "_id": id, "metadata": metadata }));
        }
        if let Some(document) = table.get(connection, key)? {
            return Ok(Some(Fields::SortKey.of(document)));
        }
    }
    Ok(None)
}

/// How many documents `query` means.
pub(crate) fn count(connection: &Connection, table: &Table, query: &Query) -> Result<u64, Failure> {
    match rows(connection, table, query, None)? {
        Rows::Keys(keys) => {
            let users = users_of(query);
            keys.iter().try_fold(0, |count, key| {
                let found = one(connection, table, key, Fields::Keys, users.as_ref())?;
                Ok(count + u64::from(found.is_some()))
            })
        }
        Rows::Scan(rest, values) if names_fields(query) => {
            let selected = table.select(checksum::CHECKED, &rest);
            let mut statement = connection.prepare_cached(&selected)?;
            let mut rows = statement.query(params_from_iter(values))?;
            let mut count = 0;
            while let Some(row) = rows.next()? {
                count += u64::from(query.matches(checksum::document(row)?));
            }
            Ok(count)
        }
        Rows::Scan(rest, values) => {
            let mut statement = connection.prepare_cached(&table.select("count(*)", &rest))?;
            let count: i64 = statement.query_row(params_from_iter(values), |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or(0))
        }
    }
}

fn rows(
    connection: &Connection,
    table: &Table,
    query: &Query,
    after: Option<&Cursor>,
) -> Result<Rows, Failure> {
    let after_key = after.map(|cursor| id_order(&cursor.id)).unwrap_or_default();
    Ok(match query {
        Query::All => Rows::Scan(
            "WHERE key > ? ORDER BY key".into(),
            vec![Value::Blob(after_key)],
        ),
        Query::Ids(ids) => {
            let keys = ids.iter().map(id_order);
            Rows::Keys(keys.filter(|key| *key > after_key).collect())
        }
        Query::Users(users) => {
            // The document whose `_id` is the user is looked for by its key alone: what its columns say is not
            // covered by its checksum.
            let other = format!("WHERE user_id = ? AND {UNDER_ANOTHER_ID}");
            let mut statement = connection.prepare_cached(&table.select("key", &other))?;
            let mut keys = BTreeSet::new();
            for user in users {
                keys.insert(id_order(&Bson::String(user.clone())));
                let mut rows = statement.query([user])?;
                while let Some(row) = rows.next()? {
                    keys.insert(row.get(0)?);
                }
            }
            keys.retain(|key| *key > after_key);
            Rows::Keys(keys)
        }
        Query::Due(before) | Query::Staged(before) => {
            let (staged_at, key) = match after.map(|cursor| &cursor.staged_at) {
                None => (i64::MIN, Vec::new()),
                Some(Bson::DateTime(staged_at)) => (staged_at.timestamp_millis(), after_key),
                Some(other) if id_order(other) < id_order(&Bson::DateTime(DateTime::MIN)) => {
                    (i64::MIN, Vec::new())
                }
                Some(_) => return Ok(Rows::Keys(BTreeSet::new())),
            };
            let visible = if matches!(query, Query::Due(_)) {
                "AND (state IS NULL OR state = 'live')"
            } else {
                ""
            };
            Rows::Scan(
                format!(
                    "WHERE staged_at <= ? {visible} AND (staged_at, key) > (?, ?) ORDER BY staged_at, key"
                ),
                vec![
                    Value::Integer(before.timestamp_millis()),
                    Value::Integer(staged_at),
                    Value::Blob(key),
                ],
            )
        }
        Query::Unstaged => Rows::Scan(
            "WHERE staged_at IS NULL AND key > ? ORDER BY key".into(),
            vec![Value::Blob(after_key)],
        ),
        Query::Equal(fields) => equal(
            "WHERE key > ?",
            vec![Value::Blob(after_key)],
            fields,
            "ORDER BY key",
        ),
        Query::Newest(fields) => {
            let (before, values) = match after {
                None => ("WHERE true", vec![]),
                Some(_) => ("WHERE key < ?", vec![Value::Blob(after_key)]),
            };
            equal(before, values, fields, "ORDER BY key DESC")
        }
    })
}

/// The documents of a user: the one whose `_id` is the user by its key, the others by the index that they alone have.
/// Takes [`user_values`].
fn of_user() -> String {
    format!("((user_id = ? AND key = ?) OR (user_id = ? AND {UNDER_ANOTHER_ID}))")
}

fn user_values(user: &str) -> [Value; 3] {
    let text = || Value::Text(user.to_owned());
    let key = id_order(&Bson::String(user.to_owned()));
    [text(), Value::Blob(key), text()]
}

/// The rows among which those with equal `fields` are, from where the page begins, in this order.
fn equal(begins: &str, mut values: Vec<Value>, fields: &Document, order: &str) -> Rows {
    let mut rest = begins.to_owned();
    if let Some(id) = fields.get("_id") {
        rest.push_str(" AND key = ?");
        values.push(Value::Blob(id_order(id)));
    }
    let user = fields.get_str("user_id").ok();
    if let Some(user) = user {
        rest.push_str(" AND ");
        rest.push_str(&of_user());
        values.extend(user_values(user));
    }
    if let Ok(status) = fields.get_str("status") {
        // One user has few; the plus keeps the statuses of all users from being gone through.
        rest.push_str(if user.is_some() {
            " AND +status = ?"
        } else {
            " AND status = ?"
        });
        values.push(Value::Text(status.to_owned()));
        if user.is_none() && status > Status::Completed.as_str() {
            rest.push_str(" AND ");
            rest.push_str(NOT_COMPLETED);
        }
    }
    if let Some(Bson::String(text)) = fields.get("metadata.backup_status") {
        rest.push_str(" AND backup_status = ?");
        values.push(Value::Text(text.clone()));
    }
    // The column knows no others.
    if let Some(Bson::String(text)) = fields.get("metadata.state")
        && STATES.map(State::as_str).contains(&text.as_str())
    {
        rest.push_str(" AND state = ?");
        values.push(Value::Text(text.clone()));
    }
    rest.push(' ');
    rest.push_str(order);
    Rows::Scan(rest, values)
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use tierkeep_core::hr::MARK_INDEX;
    use tierkeep_core::store::IndexLayout;

    use super::*;

    /// The steps by which SQLite goes through `table` for `query`.
    fn plan(connection: &Connection, table: &Table, query: &Query) -> Vec<String> {
        let after = Cursor {
            staged_at: DateTime::from_millis(1).into(),
            id: "a".into(),
        };
        let Rows::Scan(rest, values) = rows(connection, table, query, Some(&after)).unwrap() else {
            panic!("{query:?} goes by keys");
        };
        let sql = format!("EXPLAIN QUERY PLAN {}", table.select("doc", &rest));
        let mut statement = connection.prepare(&sql).unwrap();
        let steps = statement.query_map(params_from_iter(values), |row| row.get(3));
        steps.unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn every_query_goes_by_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(crate::table::SCHEMA).unwrap();
        let mut table = Table::make(&connection, "all").unwrap();
        let by_status = IndexLayout::over(&["status", "_id"]).above(Status::Completed.as_str());
        for index in [
            IndexLayout::over(&["metadata.staged_at", "_id"]),
            by_status,
            IndexLayout::over(&MARK_INDEX),
        ] {
            table.make_index(&connection, "all", &index).unwrap();
        }
        let before = DateTime::from_millis(5);
        let by_status = |status: Status| match status {
            Status::Completed => "sqlite_autoindex",
            Status::Pending | Status::Failed => "status_of_all",
        };
        let mut plans = vec![
            (Query::All, "sqlite_autoindex"),
            (Query::Due(before), "staged_of_all"),
            (Query::Staged(before), "staged_of_all"),
            (Query::Unstaged, "staged_of_all"),
            (
                Query::Equal(
                    doc! { "metadata.backup_status": "pending", "metadata.state": "live" },
                ),
                "backup_of_all",
            ),
        ];
        plans.push((Query::Newest(doc! {}), "sqlite_autoindex"));
        for query in [Query::Equal, Query::Newest] {
            plans.extend(Status::ALL.map(|status| {
                let fields = doc! { "status": status.as_str() };
                (query(fields), by_status(status))
            }));
        }
        for (query, index) in plans {
            let steps = plan(&connection, &table, &query);
            assert_eq!(steps.len(), 1, "{query:?}: {steps:?}");
            assert!(
                steps[0].starts_with("SEARCH") && steps[0].contains(index),
                "{query:?}: {steps:?}"
            );
        }
    }
}
