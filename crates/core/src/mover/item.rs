//! One document on its way from temp to main.

use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;

use crate::digest::Digest;
use crate::user::UserId;
use crate::version::Version;

/// One document of a batch.
#[derive(Clone, PartialEq, Debug)]
pub struct Item {
    /// Whose it is; also the `_id` of its copies.
    pub user: UserId,
    /// The version that moves.
    pub version: Version,
    /// The digest of its content.
    pub digest: Digest,
    /// Its size in temp, in bytes of BSON.
    pub size: u64,
    /// The `_id` of its migration record.
    pub record: ObjectId,
    /// What temp holds, where another program wrote it and it moves without being adopted first. Else temp holds it under its
    /// user's `_id` at its version.
    pub original: Option<Original>,
}

/// A document as another program wrote it.
#[derive(Clone, PartialEq, Debug)]
pub struct Original {
    /// The document, byte for byte.
    pub document: RawDocumentBuf,
    /// Its fingerprint. The record of its move has it too: no two documents move under one version of one user.
    pub fingerprint: String,
}
