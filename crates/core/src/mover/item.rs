//! One document on its way from temp to main.

use bson::oid::ObjectId;

use crate::digest::Digest;
use crate::user::UserId;
use crate::version::Version;

/// One document of a batch.
#[derive(Clone, PartialEq, Debug)]
pub struct Item {
    /// Whose it is; also its `_id`.
    pub user: UserId,
    /// The version that moves.
    pub version: Version,
    /// The digest of its content.
    pub digest: Digest,
    /// Its size in temp, in bytes of BSON.
    pub size: u64,
    /// The `_id` of its migration record.
    pub record: ObjectId,
}
