//! What a database must be able to do: the [`Store`] trait, one object per logical database.
//!
//! Both backends and the memory store of the test kit implement it; the conformance suite of the test
//! kit turns each numbered law below into a test that runs on all of them. Guards ([`Guard`]), changes
//! ([`Change`]) and queries ([`Query`]) are defined here once, as pure functions over raw documents;
//! stores that cannot run them on a server call those functions inside a transaction.

mod error;
mod handle;
mod query;
mod write;

use std::fmt::Debug;

use async_trait::async_trait;
use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, Document};

pub use error::{Class, StoreError, Verdict};
pub use handle::{Handle, WrongRole};
pub use query::{
    CLAIMS_INDEX, Cursor, Fields, Find, Query, ReadConcern, SIZE, id_order, id_text, index_key,
    place_of, stored_size,
};
pub use write::{Change, Guard, fields_match, put_replaces, with_fields};

use crate::db::Role;
use crate::document::{self, State};
use crate::version::Version;

/// The result of a store operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What a database's server says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The server's clock.
    pub now: DateTime,
    /// Who the server is, whatever host name led to it.
    pub server: ServerIdentity,
    /// The database's name on that server.
    pub database: String,
    /// What the server is, where it is another product than the one whose protocol it speaks: it promises less.
    pub imitator: Option<&'static str>,
}

/// A server or a file in which a database is, and why it was last not reached.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Whereabouts {
    /// Host and port, or the path of a file; no user and no password.
    pub place: String,
    /// Why the last attempt to reach it failed, in a few words; none where it answered, or was not tried.
    pub trouble: Option<String>,
}

/// Who a server is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServerIdentity {
    /// The running process, as the server names it; empty where it does not.
    pub process: String,
    /// The replica set's name and sorted members; empty for a single server.
    pub replica_set: Option<(String, Vec<String>)>,
    /// The member that answered.
    pub member: String,
}

impl ServerIdentity {
    /// Whether the two are one server or members of one replica set.
    pub fn is_same(&self, other: &Self) -> bool {
        if !self.process.is_empty() && self.process == other.process {
            return true;
        }
        self.replica_set.is_some()
            && self.replica_set == other.replica_set
            && self.member != other.member
    }
}

impl Hello {
    /// Whether the two are one database on one server.
    pub fn is_same_database(&self, other: &Self) -> bool {
        // MongoDB refuses two names that differ in letter case alone.
        self.database.eq_ignore_ascii_case(&other.database) && self.server.is_same(&other.server)
    }
}

/// The collections that a role needs, and how each is looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The collections.
    pub collections: Vec<CollectionLayout>,
}

/// One collection of a [`Layout`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CollectionLayout {
    /// Its name.
    pub name: String,
    /// The fields of each index, in order, all ascending, and whether their combination is unique.
    pub indexes: Vec<IndexLayout>,
    /// What the `user_id` of no document here may begin with. A server that other programs can write to refuses
    /// such a document with a validator (code 121); files that only this program writes need none.
    pub keeps_out: Option<&'static str>,
}

/// One index of a [`CollectionLayout`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexLayout {
    /// The fields, dotted, in order.
    pub fields: Vec<&'static str>,
    /// Which documents are in it.
    pub entries: Entries,
    /// Every query does without it, slower: see [`IndexLayout::optional`].
    pub is_optional: bool,
}

/// Which documents an index has an entry for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entries {
    /// All.
    All,
    /// All, and no two of them may agree in all of its fields.
    Unique,
    /// Those whose first field is a text that comes after this one: no query uses it for the others, and they cost no
    /// entry.
    Above(&'static str),
}

impl IndexLayout {
    /// An index over all documents.
    pub fn over(fields: &[&'static str]) -> Self {
        Self {
            fields: fields.to_vec(),
            entries: Entries::All,
            is_optional: false,
        }
    }

    /// The same, where every query does without it too: a large collection that lacks it is left without, because building
    /// it would hold up whatever waits for the preparation.
    #[must_use]
    pub fn optional(self) -> Self {
        Self {
            is_optional: true,
            ..self
        }
    }

    /// The same, for a combination of fields that no two documents share.
    #[must_use]
    pub fn unique(self) -> Self {
        Self {
            entries: Entries::Unique,
            ..self
        }
    }

    /// The same, of documents whose first field is a text after `text`.
    #[must_use]
    pub fn above(self, text: &'static str) -> Self {
        Self {
            entries: Entries::Above(text),
            ..self
        }
    }
}

/// An index that a database has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundIndex {
    /// The collection.
    pub collection: String,
    /// The index's name.
    pub name: String,
    /// Whether it makes the server delete documents by age.
    pub deletes_by_age: bool,
}

/// A collection that a sharded cluster spreads over its shards by something else than `_id`: each shard alone keeps an
/// `_id` from being stored twice, so the same one can be stored on two of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignShardKey {
    /// The database, as its server calls it.
    pub database: String,
    /// The collection.
    pub collection: String,
    /// The shard key, as a shell shows it.
    pub key: String,
}

impl ForeignShardKey {
    /// How an operator changes it, in a shell on the router.
    pub fn remedy(&self) -> String {
        let (database, collection) = (&self.database, &self.collection);
        format!(
            "db.adminCommand({{ reshardCollection: \"{database}.{collection}\", key: {{ _id: \"hashed\" }} }})"
        )
    }
}

/// A collection that a database has, with what makes its server delete or confuse documents by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundCollection {
    /// The collection's name.
    pub name: String,
    /// Whether the server removes the oldest documents as new ones come in.
    pub capped: bool,
    /// Whether the collection itself, and not an index, makes the server delete documents by age.
    pub expires: bool,
    /// The locale of the collation that comparisons in this collection go by unless told otherwise: with one, two ids that
    /// differ can be equal.
    pub collation: Option<String>,
}

impl FoundCollection {
    /// A collection that keeps what is stored and tells any two ids apart.
    pub fn plain(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            capped: false,
            expires: false,
            collation: None,
        }
    }
}

/// Something in a database's files that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Damage {
    /// What is wrong and where, without any content of a document.
    pub what: String,
}

/// What became of one document of an [`Store::insert`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// It is stored.
    Stored,
    /// A document with its `_id` was there already and was left alone.
    Exists,
    /// The document cannot be stored here for a reason of its own.
    Rejected(Fault),
    /// The outcome is unknown, for a reason that is not known to be the document's own: this document alone is left
    /// for later.
    Unsettled(StoreError),
}

/// What became of one document of a [`Store::put_newer`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Put {
    /// It is stored, or a document of the same or a higher version was left alone.
    Settled,
    /// The document cannot be stored here for a reason of its own.
    Rejected(Fault),
    /// As [`Inserted::Unsettled`].
    Unsettled(StoreError),
}

/// Why a database refuses one document while it takes others.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason} (code {code})")]
pub struct Fault {
    /// The database's code, for example 121 for a validator; 0 where it has none.
    pub code: i32,
    /// What is wrong, without any content of the document.
    pub reason: String,
}

/// What became of a [`Store::write`].
#[derive(Clone, PartialEq, Debug)]
pub enum Written {
    /// The guard held and the change was made; the document as it is now, or as it was last when the
    /// change removed it.
    Applied(RawDocumentBuf),
    /// No document with this `_id` satisfies the guard; nothing changed.
    Unmatched,
    /// The guard held, but the document would outgrow
    /// [`MAX_DOCUMENT_BYTES`](crate::document::MAX_DOCUMENT_BYTES); nothing changed.
    TooLarge,
    /// The guard held, but the changed document cannot be stored here for a reason of its own; nothing
    /// changed.
    Rejected(Fault),
}

/// What goes in a [`Store::delete`].
#[derive(Clone, PartialEq, Debug)]
pub enum Fence {
    /// Live documents of exactly one version.
    Version {
        /// The version.
        version: Version,
        /// The `_id`s.
        ids: Vec<Bson>,
    },
    /// The one document that is stored byte for byte like this.
    Whole(RawDocumentBuf),
}

impl Fence {
    /// The `_id`s of the documents that it names.
    pub fn ids(&self) -> Vec<Bson> {
        match self {
            Self::Version { ids, .. } => ids.clone(),
            Self::Whole(whole) => vec![document::id(whole)],
        }
    }

    /// How many documents it names.
    pub fn documents(&self) -> usize {
        match self {
            Self::Version { ids, .. } => ids.len(),
            Self::Whole(_) => 1,
        }
    }

    /// Whether `stored`, which has one of its `_id`s, goes.
    pub fn takes(&self, stored: &RawDocument) -> bool {
        match self {
            Self::Version { version, .. } => {
                document::state(stored) == Some(State::Live)
                    && document::version(stored) == Some(*version)
            }
            Self::Whole(whole) => stored.as_bytes() == whole.as_bytes(),
        }
    }

    /// The first half of these fences, as a connection that breaks within the command leaves it: half of each version's
    /// documents, and half of the whole ones.
    #[must_use]
    pub fn first_half(fences: &[Self]) -> Vec<Self> {
        let whole = |fence: &&Self| matches!(fence, Self::Whole(_));
        let halves = fences.iter().filter_map(|fence| match fence {
            Self::Version { version, ids } => Some(Self::Version {
                version: *version,
                ids: ids.iter().take(ids.len() / 2).cloned().collect(),
            }),
            Self::Whole(_) => None,
        });
        let wholes = fences.iter().filter(whole);
        let half = wholes.clone().count() / 2;
        halves.chain(wholes.take(half).cloned()).collect()
    }
}

/// One logical database.
///
/// Laws of every method: (L1) an answer of success means that the effect is durable on a majority and
/// survives a crash; (L2) an error may leave the effect applied, in part or whole, so callers repeat
/// steps and guards make repeats harmless; (L3) dropping the future has the same outcome as an error;
/// (L4) documents are stored byte for byte: field order, types and duplicate spellings are kept.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// The role it was opened for.
    fn role(&self) -> Role;

    /// How often the client has lost its server and may have reached another since. Where that shows in failed calls
    /// alone, always 0.
    fn times_reached(&self) -> u64 {
        0
    }

    /// Where the database is, a place for each of its servers or files, and why each was last not reached. For operators:
    /// without a user or a password, and never part of an answer to a caller. Empty where the backend does not know.
    fn whereabouts(&self) -> Vec<Whereabouts> {
        Vec::new()
    }

    /// Whether documents are spread by `_id` over shards, of which each can be away while the others answer: then what is
    /// asked for by `_id` needs one of them, and everything else all of them. False until the server has said hello.
    fn is_sharded(&self) -> bool {
        false
    }

    /// Asks every shard; those that cannot be reached, as far as the router names them. A database without shards has
    /// none.
    async fn shards_away(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Asks the server who it is and what time it has.
    async fn hello(&self) -> Result<Hello>;

    /// Creates what is missing of `layout`.
    ///
    /// (L5) Doing it twice changes nothing. (L6) Nothing is ever dropped or altered.
    async fn prepare(&self, layout: &Layout) -> Result<()>;

    /// Lists the indexes of every collection, including those that tierkeep did not create.
    ///
    /// (L26) Of a prepared collection those that its layout asks for are among them, as far as this store's queries go
    /// by them, and each has a name of its own.
    async fn indexes(&self) -> Result<Vec<FoundIndex>>;

    /// Lists the collections that are sharded by something else than `_id`, ranged or hashed. A database that is not
    /// behind a router has none; nor does one whose server does not let this client read how collections are sharded.
    async fn foreign_shard_keys(&self) -> Result<Vec<ForeignShardKey>> {
        Ok(Vec::new())
    }

    /// Lists all collections of the database, with the options that endanger documents.
    ///
    /// (L27) Those that were prepared are among them, each once, and have no such option.
    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        Ok(Vec::new())
    }

    /// Reads everything that the database keeps in files of its own and compares it with its checksums. Takes as long as
    /// reading the files does. A server that checks its own files answers with nothing.
    ///
    /// (L28) A database that only stores wrote to has no damage.
    async fn damage(&self) -> Result<Vec<Damage>> {
        Ok(Vec::new())
    }

    /// Reads one page of documents.
    ///
    /// (L7) The page holds what matches the query, in the query's order, after `find.after`. (L8) It is
    /// no longer than `find.limit` documents and stops once `find.max_bytes` are reached, but holds at
    /// least one document where one matches. (L9) Only what a majority has acknowledged is seen, and
    /// everything this client was told is stored. (L10) A collection that does not exist is empty. (L29) A stored
    /// document whose bytes have changed is an error of class [`Class::Corrupt`], and never missing.
    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>>;

    /// Counts what matches. (L11) It equals the number of documents that [`Store::find`] pages through
    /// while nothing is written.
    async fn count(&self, collection: &str, query: &Query) -> Result<u64>;

    /// Inserts the documents, each for itself.
    ///
    /// (L12) A document whose `_id` exists is left alone and reported. (L13) One that is rejected does
    /// not keep the others out, and neither does one that is left unsettled. (L14) The outcomes are in the order of the documents.
    async fn insert(&self, collection: &str, documents: &[RawDocumentBuf])
    -> Result<Vec<Inserted>>;

    /// Inserts the documents one after the other, up to the first that is not stored.
    ///
    /// (L23) A document is stored only once all before it are. (L24) The outcomes are those of the documents
    /// that are stored, and that of the first that is not; what follows it is not tried. (L25) An error may
    /// leave the first of them stored, never one without those before it.
    async fn append(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let mut outcomes = Vec::new();
        for document in documents {
            let outcome = self
                .insert(collection, std::slice::from_ref(document))
                .await?;
            let stored = outcome.iter().all(|outcome| *outcome == Inserted::Stored);
            outcomes.extend(outcome);
            if !stored {
                break;
            }
        }
        Ok(outcomes)
    }

    /// Puts each document unless the same `_id` is there at the same or a higher version.
    ///
    /// For documents of users alone: HR records need not have a `user_id`, and are put by [`Store::insert`] and
    /// [`Store::write`] under [`Guard::Older`].
    ///
    /// (L15) A document without `user_id` or whose version is not an int64 is no reason to refuse: the
    /// former is replaced, the latter is left alone. (L16) Versions never fall. Otherwise as
    /// [`Store::insert`]. Each document must have an int64 version.
    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>>;

    /// Changes the one document `id` if `guard` holds, in one atomic step.
    ///
    /// (L17) Of two concurrent writes under guards that exclude each other, one applies. (L18) Nothing
    /// is ever created. (L19) Dates that the change asks for are the server's. (L31) No
    /// guard that asks for a state holds for a document of a newer form than this version knows
    /// ([`document::newer_form`]), nor is it deleted by its version.
    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written>;

    /// Deletes live documents at exactly the versions given, and documents that equal a given one; answers how many went.
    ///
    /// (L20) A document of another version, entering, or erased stays. (L30) So does one that differs in any byte from the
    /// whole one that has its `_id`.
    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64>;

    /// Sets fields (one dot reaches into an object) of those of `ids` whose fields equal all of `when`;
    /// answers how many matched.
    ///
    /// For records and marks; never for the content of a user document. (L21) A document that does not
    /// match stays as it is. (L22) Nothing is created but the fields set.
    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64>;
}
