//! What reading the predecessor's database must be able to do. It is never written.

use std::fmt::Debug;

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Timestamp};

use crate::store::{Class, Hello};

/// The result of a read.
pub type Result<T, E = SourceError> = std::result::Result<T, E>;

/// The predecessor's database did not answer as it should have. Names no host and no user.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the predecessor's database {database}: {operation} failed: {} (code {code})", class.as_str())]
pub struct SourceError {
    /// The database's name.
    pub database: String,
    /// The operation, a method of [`Source`].
    pub operation: &'static str,
    /// The kind of failure.
    pub class: Class,
    /// The server's code; 0 where there is none.
    pub code: i32,
}

impl SourceError {
    /// Changes cannot be followed there: the server is no replica set.
    pub fn is_no_replica_set(&self) -> bool {
        /// The server's code for a change stream on a server by itself.
        const ONLY_ON_REPLICA_SETS: i32 = 40573;
        self.code == ONLY_ON_REPLICA_SETS
    }

    /// The place at which changes were to be taken up is not kept any more.
    pub fn is_history_lost(&self) -> bool {
        /// The server's codes for a history that does not reach back so far, for a stream that cannot be taken up there
        /// again, for a place in an oplog that was overwritten, and for the place of an invalidation, behind which
        /// nothing follows.
        const HISTORY_LOST: [i32; 4] = [286, 280, 136, 260];
        HISTORY_LOST.contains(&self.code)
    }
}

/// One database of the predecessor.
///
/// Every read sees what a majority has acknowledged, on a secondary where there is one. Where `not_before` is
/// given, it also sees everything up to that time of the cluster.
#[async_trait]
pub trait Source: Send + Sync + Debug {
    /// The database's name.
    fn name(&self) -> &str;

    /// Asks the server who it is.
    async fn hello(&self) -> Result<Hello>;

    /// The cluster's time; `None` where the server is by itself.
    async fn cluster_time(&self) -> Result<Option<Timestamp>>;

    /// The names of the collections that hold documents.
    async fn collections(&self) -> Result<Vec<String>>;

    /// How many documents a collection holds. Looks at all of them.
    async fn count(&self, collection: &str) -> Result<u64>;

    /// About how many documents a collection holds. Looks at none.
    async fn estimate(&self, collection: &str) -> Result<u64>;

    /// Every document of a collection, in no order; only `fields` of it where they are given.
    async fn scan(
        &self,
        collection: &str,
        fields: Option<&[&str]>,
        not_before: Option<Timestamp>,
    ) -> Result<Box<dyn Pages>>;

    /// The documents with these `_id`s, in no order; only `fields` of them where they are given.
    async fn fetch(
        &self,
        collection: &str,
        ids: &[Bson],
        fields: Option<&[&str]>,
        not_before: Option<Timestamp>,
    ) -> Result<Vec<RawDocumentBuf>>;

    /// Follows the database's changes, from now on or from after the place `token`.
    async fn watch(&self, token: Option<&Bson>) -> Result<Box<dyn Changes>>;
}

/// The documents of a scan, as many at once as the server sends together.
#[async_trait]
pub trait Pages: Send {
    /// The next ones; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<RawDocumentBuf>>>;
}

/// The changes of a database, in their order.
#[async_trait]
pub trait Changes: Send {
    /// Those that have come; none where none has for a moment.
    async fn next(&mut self) -> Result<Vec<Change>>;

    /// The place after everything that [`Changes::next`] has answered.
    fn token(&self) -> Option<Bson>;
}

/// One change.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// What changed.
    pub of: Changed,
    /// The cluster's time of it.
    pub at: Option<Timestamp>,
}

/// What changed.
#[derive(Clone, PartialEq, Debug)]
pub enum Changed {
    /// A document came, changed or went.
    Document {
        /// Its collection.
        collection: String,
        /// Its `_id`.
        id: Bson,
    },
    /// More than one document may have: a collection was dropped or renamed.
    Everything,
    /// The database itself was dropped; nothing follows.
    Ended,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(280, true)]
    #[case(286, true)]
    #[case(136, true)]
    #[case(260, true)]
    #[case(40573, false)]
    #[case(13, false)]
    #[case(0, false)]
    fn a_place_that_cannot_be_taken_up_again_is_known_by_its_code(
        #[case] code: i32,
        #[case] lost: bool,
    ) {
        let error = SourceError {
            database: "git_Evaluator".to_owned(),
            operation: "watch",
            class: Class::Other,
            code,
        };
        assert_eq!(error.is_history_lost(), lost);
    }
}
