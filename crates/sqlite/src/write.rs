//! Changing documents: each function is the body of one transaction, beside which no other transaction writes.
//!
//! Every outcome is decided by the core's functions before a row is touched, so a document that is
//! refused needs no rollback of the others.

use std::collections::BTreeSet;

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, Document};
use rusqlite::{Connection, ErrorCode};
use tierkeep_core::document;
use tierkeep_core::store::{
    Change, Fault, Fence, Guard, Inserted, Layout, Put, Written, fields_match, id_order,
    put_replaces, with_fields,
};

use crate::error::Failure;
use crate::table::{Table, key_of};

pub(crate) fn prepare(connection: &Connection, layout: &Layout) -> Result<(), Failure> {
    for collection in &layout.collections {
        let mut table = Table::make(connection, &collection.name)?;
        for index in &collection.indexes {
            table.make_index(connection, &collection.name, index)?;
        }
    }
    Ok(())
}

pub(crate) fn insert(
    connection: &Connection,
    collection: &str,
    documents: &[RawDocumentBuf],
) -> Result<Vec<Inserted>, Failure> {
    let table = Table::make(connection, collection)?;
    documents
        .iter()
        .map(|document| insert_one(connection, &table, document))
        .collect()
}

/// What follows the first document that is not stored is not tried.
pub(crate) fn append(
    connection: &Connection,
    collection: &str,
    documents: &[RawDocumentBuf],
) -> Result<Vec<Inserted>, Failure> {
    let table = Table::make(connection, collection)?;
    let mut outcomes = Vec::with_capacity(documents.len());
    for document in documents {
        let outcome = insert_one(connection, &table, document)?;
        let stored = outcome == Inserted::Stored;
        outcomes.push(outcome);
        if !stored {
            break;
        }
    }
    Ok(outcomes)
}

fn insert_one(
    connection: &Connection,
    table: &Table,
    document: &RawDocumentBuf,
) -> Result<Inserted, Failure> {
    let key = key_of(document);
    Ok(if table.has(connection, &key)? {
        Inserted::Exists
    } else if let Some(fault) = table.fault(connection, &key, document)? {
        Inserted::Rejected(fault)
    } else if let Some(fault) = refusal(table.put(connection, &key, None, document))? {
        Inserted::Rejected(fault)
    } else {
        Inserted::Stored
    })
}

pub(crate) fn put_newer(
    connection: &Connection,
    collection: &str,
    documents: &[RawDocumentBuf],
) -> Result<Vec<Put>, Failure> {
    let table = Table::make(connection, collection)?;
    let mut outcomes = Vec::with_capacity(documents.len());
    for document in documents {
        let Some(version) = document::version(document) else {
            outcomes.push(Put::Rejected(Fault {
                code: 0,
                reason: "it has no int64 version".to_owned(),
            }));
            continue;
        };
        let key = key_of(document);
        let stored = table.get(connection, &key)?;
        outcomes.push(
            if stored
                .as_ref()
                .is_some_and(|stored| !put_replaces(stored, version))
            {
                Put::Settled
            } else if let Some(fault) = table.fault(connection, &key, document)? {
                Put::Rejected(fault)
            } else if let Some(fault) =
                refusal(table.put(connection, &key, stored.as_deref(), document))?
            {
                Put::Rejected(fault)
            } else {
                Put::Settled
            },
        );
    }
    Ok(outcomes)
}

pub(crate) fn write(
    connection: &Connection,
    collection: &str,
    id: &Bson,
    guard: &Guard,
    change: &Change,
    now: DateTime,
) -> Result<Written, Failure> {
    let Some(table) = Table::find(connection, collection)? else {
        return Ok(Written::Unmatched);
    };
    let key = id_order(id);
    let Some(stored) = table.get(connection, &key)? else {
        table.check_absence(connection, &key)?;
        return Ok(Written::Unmatched);
    };
    if !guard.holds(&stored) {
        return Ok(Written::Unmatched);
    }
    match change.apply(&stored, now) {
        Err(_) => Ok(Written::TooLarge),
        Ok(Some(changed)) => {
            if let Some(fault) = table.fault(connection, &key, &changed)? {
                return Ok(Written::Rejected(fault));
            }
            Ok(
                match refusal(table.put(connection, &key, Some(&stored), &changed))? {
                    Some(fault) => Written::Rejected(fault),
                    None => Written::Applied(changed),
                },
            )
        }
        Ok(None) => {
            table.remove(connection, &key, &stored)?;
            Ok(Written::Applied(stored))
        }
    }
}

/// A row that a trigger or a constraint of another program refuses is that document's matter: the statement
/// is undone, and the others continue.
fn refusal(put: rusqlite::Result<()>) -> Result<Option<Fault>, Failure> {
    match put {
        Ok(()) => Ok(None),
        Err(error) => match error.sqlite_error() {
            Some(said) if said.code == ErrorCode::ConstraintViolation => Ok(Some(Fault {
                code: said.extended_code,
                reason: "a constraint or trigger of the file rejects it".to_owned(),
            })),
            Some(_) | None => Err(error.into()),
        },
    }
}

pub(crate) fn delete(
    connection: &Connection,
    collection: &str,
    fences: &[Fence],
) -> Result<u64, Failure> {
    let Some(table) = Table::find(connection, collection)? else {
        return Ok(0);
    };
    let mut gone = 0;
    for fence in fences {
        match fence {
            Fence::Version { version, ids } => {
                for id in ids {
                    let went = table.remove_live(connection, &id_order(id), version.get())?;
                    gone += u64::from(went);
                }
            }
            Fence::Whole(whole) => {
                let key = id_order(&document::id(whole));
                let stored = table.get(connection, &key)?;
                if let Some(stored) = stored.filter(|stored| stored == whole) {
                    table.remove(connection, &key, &stored)?;
                    gone += 1;
                }
            }
        }
    }
    Ok(gone)
}

pub(crate) fn amend(
    connection: &Connection,
    collection: &str,
    ids: &[Bson],
    when: &Document,
    set: &Document,
) -> Result<u64, Failure> {
    let Some(table) = Table::find(connection, collection)? else {
        return Ok(0);
    };
    let mut matched = 0;
    for key in ids.iter().map(id_order).collect::<BTreeSet<_>>() {
        let Some(stored) = table.get(connection, &key)? else {
            continue;
        };
        if fields_match(&stored, when) {
            let changed = with_fields(&stored, set);
            if table.clashes(connection, &key, &changed)? {
                return Err(Failure::Clash);
            }
            table.put(connection, &key, Some(&stored), &changed)?;
            matched += 1;
        }
    }
    Ok(matched)
}
