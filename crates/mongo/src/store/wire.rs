//! How commands travel: every one with a limit of its own, and writes only count once acknowledged.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bson::Timestamp;
use bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf};
use futures_util::StreamExt as _;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tierkeep_core::store::Result;

use super::MongoStore;
use crate::error::{self, Failure};

impl MongoStore {
    /// Sends a command and waits for its reply, no longer than `limit`.
    pub(super) async fn send(
        &self,
        command: RawDocumentBuf,
        limit: Duration,
    ) -> Result<RawDocumentBuf, Failure> {
        let sent = self.database.run_raw_command(command).into_future();
        match tokio::time::timeout(limit, sent).await {
            Err(_) => Err(Failure::timeout()),
            Ok(Ok(reply)) => RawDocumentBuf::try_from(&reply).map_err(|_| Failure::corrupt()),
            Ok(Err(failed)) => error::undecoded(&failed).ok_or_else(|| failed.into()),
        }
    }

    /// Sends a command that writes; its reply, once a majority has acknowledged what is in it.
    pub(super) async fn change(
        &self,
        command: RawDocumentBuf,
        limit: Duration,
    ) -> Result<RawDocumentBuf, Failure> {
        let reply = self.send(command, limit).await?;
        error::acknowledged(&reply)?;
        if let Ok(at) = reply.get_timestamp("operationTime") {
            let at = (u64::from(at.time) << 32) | u64::from(at.increment);
            self.seen.fetch_max(at, Ordering::AcqRel);
        }
        Ok(reply)
    }

    /// The cluster's time of this store's last write.
    pub(super) fn seen(&self) -> Option<Timestamp> {
        let seen = self.seen.load(Ordering::Acquire);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        (seen > 0).then(|| Timestamp {
            time: half(seen >> 32),
            increment: half(seen),
        })
    }

    /// Sends a command that answers with a cursor.
    pub(super) async fn open(
        &self,
        command: RawDocumentBuf,
        batch_size: Option<u32>,
        limit: Duration,
    ) -> Result<RawBatchCursor, Failure> {
        let mut sent = self.database.run_raw_cursor_command(command);
        if let Some(batch_size) = batch_size {
            sent = sent.batch_size(batch_size);
        }
        match tokio::time::timeout(limit, sent.batch()).await {
            Err(_) => Err(Failure::timeout()),
            Ok(opened) => Ok(opened?),
        }
    }

    /// The next documents that the server sends together, as they came.
    pub(super) async fn next(
        batches: &mut RawBatchCursor,
        limit: Duration,
    ) -> Result<Option<RawBatch>, Failure> {
        match tokio::time::timeout(limit, batches.next()).await {
            Err(_) => Err(Failure::timeout()),
            Ok(batch) => Ok(batch.transpose()?),
        }
    }

    /// Everything that a command with a short answer brings.
    pub(super) async fn list(
        &self,
        command: RawDocumentBuf,
        limit: Duration,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let mut batches = self.open(command, None, limit).await?;
        let mut all = Vec::new();
        while let Some(batch) = Self::next(&mut batches, limit).await? {
            for document in documents(&batch)? {
                all.push(document?.to_owned());
            }
        }
        Ok(all)
    }
}

/// The documents of a batch, where they lie.
pub(crate) fn documents(
    batch: &RawBatch,
) -> Result<impl Iterator<Item = Result<&RawDocument, Failure>>, Failure> {
    let documents = batch.doc_slices()?.into_iter();
    Ok(documents.map(|document| {
        document
            .ok()
            .and_then(RawBsonRef::as_document)
            .ok_or_else(Failure::corrupt)
    }))
}
