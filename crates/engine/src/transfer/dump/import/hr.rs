//! What becomes of HR records: the version alone decides; a deletion is a tombstone that is imported like any other
//! version, and a record that is pending in main is delivered to srie by the reconciler as ever.

use std::collections::HashMap;

use tierkeep_core::bson::Bson;
use tierkeep_core::bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, State, field};
use tierkeep_core::hr::HrId;
use tierkeep_core::store::{Change, Find, Guard, Inserted, Query, Store, StoreError, Written};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use crate::databases::retry::repeating;
use crate::transfer::dump::import::DumpOutcome;

/// The most bytes of documents that are held at once, but for one that is larger.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Takes a page of records in; what became of each, by its id.
pub(crate) async fn page(
    store: &dyn Store,
    collection: &str,
    records: Vec<RawDocumentBuf>,
    dry_run: bool,
) -> Result<Vec<(String, DumpOutcome)>, StoreError> {
    let mut outcomes = Vec::with_capacity(records.len());
    let mut sound = Vec::new();
    for record in records {
        match read(&record) {
            Ok((id, version)) => sound.push((id, version, record)),
            Err((id, reason)) => outcomes.push((id, DumpOutcome::Refused(reason))),
        }
    }
    let stored = stored(store, collection, &sound).await?;
    let mut writes = Vec::new();
    for (id, version, record) in sound {
        match stored
            .get(id.as_str())
            .map(|found| compare(found, version, &record))
        {
            Some(Some(outcome)) => outcomes.push((id.to_string(), outcome)),
            Some(None) | None if dry_run => outcomes.push((id.to_string(), DumpOutcome::Imported)),
            Some(None) | None => writes.push((id, version, record)),
        }
    }
    if writes.is_empty() {
        return Ok(outcomes);
    }
    let documents: Vec<RawDocumentBuf> = writes.iter().map(|(_, _, it)| it.clone()).collect();
    let inserted = repeating(|| store.insert(collection, &documents)).await?;
    for ((id, version, record), inserted) in writes.into_iter().zip(inserted) {
        let outcome = match inserted {
            Inserted::Stored => DumpOutcome::Imported,
            Inserted::Rejected(fault) => {
                DumpOutcome::Refused(format!("the database refuses it: {fault}"))
            }
            Inserted::Unsettled(error) => return Err(error),
            Inserted::Exists => {
                let (key, guard) = (id.to_bson(), Guard::Older(version));
                let change = Change::Replace(record);
                match repeating(|| store.write(collection, &key, &guard, &change)).await? {
                    Written::Applied(_) => DumpOutcome::Imported,
                    // A concurrent writer was faster, or the answer was lost.
                    Written::Unmatched | Written::TooLarge => DumpOutcome::NewerKept,
                    Written::Rejected(fault) => {
                        DumpOutcome::Refused(format!("the database refuses it: {fault}"))
                    }
                }
            }
        };
        outcomes.push((id.to_string(), outcome));
    }
    Ok(outcomes)
}

/// The heads of digests and versions that are stored, by id.
struct Found {
    version: Option<Version>,
    state: Option<State>,
    digest: Digest,
}

async fn stored(
    store: &dyn Store,
    collection: &str,
    records: &[(HrId, Version, RawDocumentBuf)],
) -> Result<HashMap<String, Found>, StoreError> {
    let mut missing: Vec<Bson> = records.iter().map(|(id, _, _)| id.to_bson()).collect();
    let mut found = HashMap::new();
    while !missing.is_empty() {
        let find = Find::new(Query::Ids(missing.clone()))
            .limit(missing.len())
            .max_bytes(PAGE_BYTES);
        let page = repeating(|| store.find(collection, &find)).await?;
        let before = missing.len();
        for record in page {
            let id = document::id(&record);
            missing.retain(|it| *it != id);
            if let Bson::String(id) = id {
                let head = Found {
                    version: document::version(&record),
                    state: document::state(&record),
                    digest: Digest::of_hr_record(&record),
                };
                found.insert(id, head);
            }
        }
        if missing.len() == before {
            break;
        }
    }
    Ok(found)
}

/// What becomes of a record of which something is stored; `None`: it takes the place of an older version.
fn compare(found: &Found, version: Version, record: &RawDocument) -> Option<DumpOutcome> {
    let Some(stands) = found.version else {
        return Some(DumpOutcome::Refused(
            "the stored record has no version to compare with".to_owned(),
        ));
    };
    if stands > version {
        return Some(DumpOutcome::NewerKept);
    }
    if stands < version {
        return None;
    }
    let is_same =
        found.state == document::state(record) && found.digest == Digest::of_hr_record(record);
    Some(if is_same {
        DumpOutcome::Unchanged
    } else {
        DumpOutcome::Refused(format!(
            "version {version} is stored with different content"
        ))
    })
}

fn read(record: &RawDocument) -> Result<(HrId, Version), (String, String)> {
    let refused = |reason: &str| (document::id(record).to_string(), reason.to_owned());
    let id =
        HrId::of(record).ok_or_else(|| refused("its _id is not a valid id of an HR record"))?;
    let refused = |reason: &str| (id.to_string(), reason.to_owned());
    let is_user = document::user_id(record) == Some(id.as_str())
        && UserId::parse(id.as_str()).is_ok()
        && !matches!(record.get(field::USER_TYPE), Ok(None));
    if is_user {
        return Err(refused("it is a user's document"));
    }
    let Some(version) = document::version(record) else {
        return Err(refused("metadata.version is not an int64 of at least 1"));
    };
    match document::state(record) {
        Some(State::Live | State::Erased) => {}
        Some(State::Entering) | None => {
            return Err(refused("metadata.state is not live or erased"));
        }
    }
    if Digest::claimed_by(record).is_some_and(|it| it != Digest::of_hr_record(record)) {
        return Err(refused("its content does not match its digest"));
    }
    Ok((id, version))
}
