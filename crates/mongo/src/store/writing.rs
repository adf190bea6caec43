//! Changes to documents.
//!
//! Nothing is repeated here but what no caller could: an upsert that lost a race, and a batch in which one
//! document keeps the others out.

use std::collections::BTreeMap;

use bson::Bson;
use bson::raw::RawDocumentBuf;
use tierkeep_core::document;
use tierkeep_core::store::{
    Change, Class, Fault, Fence, Find, Guard, Inserted, Put, Query, Result, Written, id_order,
};

use super::faults::Faults;
use super::{LIMIT, MongoStore, reply};
use crate::error::{self, Blame, Failure, WriteError};
use crate::query::{self, Recognised};

/// How often an upsert that lost a race is repeated. The winner has stored a document by then, so the first repeat
/// settles it unless that document is deleted again at once.
const RACES: usize = 10;
/// The largest document that the server stores.
const STORED_MAX_BYTES: usize = 16 * 1024 * 1024;

impl MongoStore {
    /// Sends the documents in as many commands as they need; for each the error of its statement, if any.
    ///
    /// A command that fails as a whole for a reason that only a document can have is repeated in halves,
    /// until that document is alone.
    pub(super) async fn each(
        &self,
        documents: Vec<&RawDocumentBuf>,
        build: impl Fn(&[&RawDocumentBuf]) -> RawDocumentBuf + Send + Sync,
    ) -> Result<Vec<Option<WriteError>>, Failure> {
        let mut outcomes = Vec::with_capacity(documents.len());
        let mut waiting = query::runs(documents, |document| document.as_bytes().len());
        waiting.reverse();
        while let Some(mut run) = waiting.pop() {
            match self.change(build(&run), LIMIT).await {
                Ok(reply) => {
                    let from = outcomes.len();
                    outcomes.resize(from + run.len(), None);
                    for error in error::write_errors(&reply)? {
                        let slot = outcomes.get_mut(from + error.index);
                        *slot.ok_or_else(Failure::corrupt)? = Some(error);
                    }
                }
                Err(failure) if failure.refusal().is_none() => return Err(failure),
                Err(_) if run.len() > 1 => {
                    let second = run.split_off(run.len() / 2);
                    waiting.push(second);
                    waiting.push(run);
                }
                Err(failure) => outcomes.push(Some(WriteError::alone(failure))),
            }
        }
        Ok(outcomes)
    }

    pub(super) async fn insert_all(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>, Failure> {
        let mut outcomes: Vec<Inserted> = documents
            .iter()
            .map(|document| match unfit(document) {
                Some(fault) => Inserted::Rejected(fault),
                None => Inserted::Stored,
            })
            .collect();
        let fit =
            (0..documents.len()).filter(|index| outcomes.get(*index) == Some(&Inserted::Stored));
        let (altered, plain): (Vec<usize>, Vec<usize>) = fit.partition(|index| {
            let document = documents.get(*index);
            document.is_some_and(|document| query::altered_by_insert(document))
        });
        let mut faults = Faults::new(self, collection);
        for (exactly, of_this_form) in [(false, plain), (true, altered)] {
            let chosen: Vec<_> = of_this_form
                .iter()
                .filter_map(|index| documents.get(*index))
                .collect();
            let build = if exactly {
                query::insert_exactly
            } else {
                query::insert
            };
            let errors = self.each(chosen, |run| build(collection, run)).await?;
            for (index, error) in of_this_form.into_iter().zip(errors) {
                if let (Some(error), Some(outcome)) = (error, outcomes.get_mut(index)) {
                    *outcome = if error.on_id {
                        Inserted::Exists
                    } else {
                        match error.blame()? {
                            Blame::Document(refusal) => {
                                Inserted::Rejected(faults.of(&refusal).await)
                            }
                            Blame::Nobody(failure) => {
                                Inserted::Unsettled(failure.at(self.role, "insert"))
                            }
                        }
                    };
                }
            }
        }
        Ok(outcomes)
    }

    /// Sends the documents in as many commands as they need, each once the one before it is stored whole.
    pub(super) async fn append_all(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>, Failure> {
        let mut outcomes = Vec::with_capacity(documents.len());
        let odd = documents
            .iter()
            .position(|one| unfit(one).is_some() || query::altered_by_insert(one));
        let (fit, rest) = documents.split_at(odd.unwrap_or(documents.len()));
        for run in query::runs(fit.iter().collect(), |one: &&RawDocumentBuf| {
            one.as_bytes().len()
        }) {
            let reply = self.change(query::append(collection, &run), LIMIT).await?;
            let error = error::write_errors(&reply)?.into_iter().next();
            let stored = error.as_ref().map_or(run.len(), |error| error.index);
            outcomes.resize(outcomes.len() + stored, Inserted::Stored);
            if let Some(error) = error {
                outcomes.push(if error.on_id {
                    Inserted::Exists
                } else {
                    match error.blame()? {
                        Blame::Document(refusal) => {
                            let mut faults = Faults::new(self, collection);
                            Inserted::Rejected(faults.of(&refusal).await)
                        }
                        Blame::Nobody(failure) => {
                            Inserted::Unsettled(failure.at(self.role, "append"))
                        }
                    }
                });
                return Ok(outcomes);
            }
        }
        // The server would store other bytes.
        outcomes.extend(rest.first().map(|first| {
            Inserted::Rejected(unfit(first).unwrap_or_else(|| Fault {
                code: 0,
                reason: "a timestamp of zero cannot be appended".to_owned(),
            }))
        }));
        Ok(outcomes)
    }

    pub(super) async fn put_all(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Put>, Failure> {
        let mut outcomes: Vec<Put> = documents
            .iter()
            .map(
                |document| match unfit(document).or_else(|| unversioned(document)) {
                    Some(fault) => Put::Rejected(fault),
                    None => Put::Settled,
                },
            )
            .collect();
        let mut waiting: Vec<usize> = (0..documents.len())
            .filter(|index| outcomes.get(*index) == Some(&Put::Settled))
            .collect();
        let mut faults = Faults::new(self, collection);
        for _ in 0..RACES {
            let chosen: Vec<_> = waiting
                .iter()
                .filter_map(|index| documents.get(*index))
                .collect();
            let errors = self
                .each(chosen, |run| query::put_newer(collection, run))
                .await?;
            let mut lost = Vec::new();
            for (index, error) in waiting.into_iter().zip(errors) {
                match (error, outcomes.get_mut(index)) {
                    (Some(error), _) if error.on_id => lost.push(index),
                    (Some(error), Some(outcome)) => {
                        *outcome = match error.blame()? {
                            Blame::Document(refusal) => Put::Rejected(faults.of(&refusal).await),
                            Blame::Nobody(failure) => {
                                Put::Unsettled(failure.at(self.role, "put_newer"))
                            }
                        };
                    }
                    (_, _) => {}
                }
            }
            if lost.is_empty() {
                return Ok(outcomes);
            }
            waiting = lost;
        }
        Err(Failure::new(Class::Busy, error::DUPLICATE_KEY))
    }

    pub(super) async fn write_one(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written, Failure> {
        if let Change::Section {
            value: Some(value), ..
        } = change
            && value.as_bytes().len() > STORED_MAX_BYTES
        {
            return Ok(Written::TooLarge);
        }
        let mut recognised = Recognised::ByGuard;
        if let Guard::Whole(whole) = guard {
            // The server's comparison takes an int64 for the double of the same value; this one does not.
            let read = self.read_one(collection, id).await?;
            if read.is_none_or(|read| read != *whole) {
                return Ok(Written::Unmatched);
            }
            if query::outgrows(guard, change) {
                let hash = query::hash_of(collection, id, whole);
                let Some(found) = self.list(hash, LIMIT).await?.pop() else {
                    return Ok(Written::Unmatched);
                };
                let hash = found.get_i64("hash").map_err(|_| Failure::corrupt())?;
                recognised = Recognised::ByHash(hash);
            }
        }
        let command = query::write(collection, id, guard, change, recognised);
        let reply = match self.change(command, LIMIT).await {
            Ok(reply) => reply,
            Err(failure) if matches!(failure.code, error::TOO_LARGE | 17419 | 17420) => {
                return Ok(Written::TooLarge);
            }
            Err(failure) => {
                let refusal = failure.refusal().ok_or(failure)?;
                let mut faults = Faults::new(self, collection);
                return Ok(Written::Rejected(faults.of(&refusal).await));
            }
        };
        let Some(answer) = reply::answer(&reply)? else {
            return Ok(Written::Unmatched);
        };
        if let Change::Section { op, .. } = change
            && document::version_of_op(&answer.document, op).is_none()
        {
            return Ok(Written::TooLarge);
        }
        if answer.is_exact() {
            return Ok(Written::Applied(answer.document));
        }
        // Only its head came along, or the driver's decoding dropped a key that is spelled twice: what the document is now,
        // byte for byte, is read again.
        if let (Guard::Whole(whole), Change::Remove) = (guard, change) {
            return Ok(Written::Applied(whole.clone()));
        }
        match self.read_one(collection, id).await? {
            Some(read) if answer.has_size_of(&read) => Ok(Written::Applied(read)),
            Some(_) | None => Ok(Written::Applied(answer.document)),
        }
    }

    pub(super) async fn delete_fenced(
        &self,
        collection: &str,
        fences: &[Fence],
    ) -> Result<u64, Failure> {
        let (mut wholes, mut fenced) = (Vec::new(), Vec::new());
        for fence in fences {
            match fence {
                Fence::Version { .. } => fenced.push(fence.clone()),
                Fence::Whole(whole) => wholes.push(whole),
            }
        }
        // The server's comparison takes an int64 for the double of the same value; this one does not.
        let stored = self.those_stored(collection, wholes).await?;
        fenced.extend(stored.into_iter().map(Fence::Whole));
        self.matched(query::delete(collection, &fenced)).await
    }

    /// Those of `documents` that are stored byte for byte.
    async fn those_stored(
        &self,
        collection: &str,
        documents: Vec<&RawDocumentBuf>,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let mut stored = Vec::with_capacity(documents.len());
        let keyed = |it: &'_ RawDocumentBuf| id_order(&document::id(it));
        let mut left: BTreeMap<Vec<u8>, &RawDocumentBuf> =
            documents.into_iter().map(|it| (keyed(it), it)).collect();
        while !left.is_empty() {
            let ids = left.values().map(|it| document::id(it)).collect();
            let find = Find::new(Query::Ids(ids)).limit(left.len());
            let before = left.len();
            for found in self.find_page(collection, &find).await? {
                if left.remove(&keyed(&found)).is_some_and(|it| *it == found) {
                    stored.push(found);
                }
            }
            if left.len() == before {
                break;
            }
        }
        Ok(stored)
    }

    /// Sends commands whose statements have no fault of their own; how many documents they matched.
    pub(super) async fn matched(&self, commands: Vec<RawDocumentBuf>) -> Result<u64, Failure> {
        let mut matched = 0;
        for command in commands {
            let reply = self.change(command, LIMIT).await?;
            if let Some(error) = error::write_errors(&reply)?.first() {
                return Err(Failure::of_code(error.code));
            }
            matched += reply::count(&reply)?;
        }
        Ok(matched)
    }
}

/// Why no server would store the document as it is.
fn unfit(document: &RawDocumentBuf) -> Option<Fault> {
    let fault = |code, reason: &str| {
        Some(Fault {
            code,
            reason: reason.to_owned(),
        })
    };
    if document.as_bytes().len() > STORED_MAX_BYTES {
        return fault(error::TOO_LARGE, "it is larger than 16 MiB");
    }
    match document.iter_elements().next() {
        Some(Ok(first)) if first.key() == "_id" => None,
        _ => match document.get(document::field::ID) {
            Ok(Some(_)) => fault(
                error::INVALID_ID,
                "its _id is not its first field, and would be moved there",
            ),
            Ok(None) | Err(_) => fault(error::INVALID_ID, "it has no _id"),
        },
    }
}

fn unversioned(document: &RawDocumentBuf) -> Option<Fault> {
    document::version(document).is_none().then(|| Fault {
        code: 0,
        reason: "it has no int64 version".to_owned(),
    })
}
