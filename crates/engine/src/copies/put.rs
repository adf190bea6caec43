//! Putting copies on one side of a pair, so that nothing newer is overwritten and nobody who was erased comes
//! back: insert first, what is there already only where it is older, and the ledger after writing.

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::compare::{Kind, Side};
use tierkeep_core::document;
use tierkeep_core::hr::BackupStatus;
use tierkeep_core::store::{Change, Fault, Find, Guard, Inserted, Put, Query, StoreError, Written};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use crate::copies::pair::Pair;
use crate::databases::retry::repeating;
use crate::erasure::tombstones;

/// What became of one copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Placed {
    /// It is there, or something of its version or newer.
    There,
    /// Its user was erased, and the tombstones stand again.
    Erased,
    /// The database does not take it.
    Refused(String),
}

/// Puts `documents` on side `to`. Idempotent; a crash leaves some of them there.
pub(crate) async fn put(
    pair: &Pair,
    to: Side,
    documents: &[RawDocumentBuf],
) -> Result<Vec<Placed>, StoreError> {
    let store = pair.store(to);
    let inserted = repeating(|| store.insert(&pair.collection, documents)).await?;
    let mut placed = Vec::with_capacity(documents.len());
    let mut there = Vec::new();
    for (index, outcome) in inserted.into_iter().enumerate() {
        placed.push(match outcome {
            Inserted::Stored => Placed::There,
            Inserted::Exists => {
                there.push(index);
                Placed::There
            }
            Inserted::Rejected(fault) => Placed::Refused(fault.to_string()),
            Inserted::Unsettled(error) => Placed::Refused(error.to_string()),
        });
    }
    if !there.is_empty() {
        let older: Vec<RawDocumentBuf> = there
            .iter()
            .filter_map(|index| documents.get(*index).cloned())
            .collect();
        let put = match pair.kind {
            Kind::Users => repeating(|| store.put_newer(&pair.collection, &older)).await?,
            Kind::Hr => put_records(pair, to, &older).await?,
        };
        for (index, outcome) in there.into_iter().zip(put) {
            let refused = match outcome {
                Put::Settled => continue,
                Put::Rejected(fault) => fault.to_string(),
                Put::Unsettled(error) => error.to_string(),
            };
            if let Some(placed) = placed.get_mut(index) {
                *placed = Placed::Refused(refused);
            }
        }
    }
    // A crash here leaves copies whose users may have been erased meanwhile: a verification finds them, and a
    // repetition buries them.
    let erased = check_erasures(pair, documents).await?;
    for (placed, erased) in placed.iter_mut().zip(erased) {
        if erased {
            *placed = Placed::Erased;
        }
    }
    Ok(placed)
}

/// How often a record is looked at that somebody else changes at the same time.
const ROUNDS: u32 = 8;

/// Puts HR records, which need no `user_id`, where older ones are.
async fn put_records(
    pair: &Pair,
    to: Side,
    records: &[RawDocumentBuf],
) -> Result<Vec<Put>, StoreError> {
    let mut put = Vec::with_capacity(records.len());
    for record in records {
        put.push(put_record(pair, to, record).await?);
    }
    Ok(put)
}

/// Replaces exactly what was found older. What is pending in main stays, whatever its version: it was acknowledged
/// while srie was not looked at, and its delivery raises it above what srie holds.
async fn put_record(pair: &Pair, to: Side, record: &RawDocumentBuf) -> Result<Put, StoreError> {
    let Some(version) = document::version(record) else {
        return Ok(Put::Settled);
    };
    let store = pair.store(to);
    let (id, older) = (document::id(record), Guard::Older(version));
    let find = Find::new(Query::Ids(vec![id.clone()]));
    for _ in 0..ROUNDS {
        let found = repeating(|| store.find(&pair.collection, &find)).await?;
        let Some(there) = found.into_iter().next() else {
            return Ok(Put::Settled);
        };
        let pending = to == Side::Main && BackupStatus::of(&there) == Some(BackupStatus::Pending);
        if pending || !older.holds(&there) {
            return Ok(Put::Settled);
        }
        let guard = Guard::Whole(there);
        let change = Change::Replace(record.clone());
        match repeating(|| store.write(&pair.collection, &id, &guard, &change)).await? {
            Written::Applied(_) => return Ok(Put::Settled),
            // Somebody else was faster, or an answer was lost: the next look says.
            Written::Unmatched => {}
            Written::Rejected(fault) => return Ok(Put::Rejected(fault)),
            Written::TooLarge => return Ok(rejected("it is too large")),
        }
    }
    Ok(rejected("it changes again and again"))
}

fn rejected(reason: &str) -> Put {
    Put::Rejected(Fault {
        code: 0,
        reason: reason.to_owned(),
    })
}

/// Which of `documents`, just written to this pair, belong to users who were erased; their tombstones stand again.
pub(crate) async fn check_erasures(
    pair: &Pair,
    documents: &[RawDocumentBuf],
) -> Result<Vec<bool>, StoreError> {
    let mut erased = vec![false; documents.len()];
    if pair.kind == Kind::Hr {
        return Ok(erased);
    }
    let users: Vec<(usize, UserId, Option<Version>)> = documents
        .iter()
        .enumerate()
        .filter_map(|(index, document)| {
            let user = UserId::parse(document::user_id(document)?).ok()?;
            Some((index, user, document::version(document)))
        })
        .collect();
    let written: Vec<tombstones::Written<'_>> = users
        .iter()
        .map(|(_, user, version)| tombstones::Written {
            user,
            version: *version,
        })
        .collect();
    let below = tombstones::check_after_writing(pair.engine(), &written).await?;
    for ((index, ..), below) in users.iter().zip(below) {
        if let Some(erased) = erased.get_mut(*index) {
            *erased = below;
        }
    }
    Ok(erased)
}
