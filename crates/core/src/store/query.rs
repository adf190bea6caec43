//! Queries as data, and what they mean over one raw document.

use std::cmp::Ordering;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, Document};

use super::write::{fields_match, value_at};
use crate::document::{self, Edit, State, field};

/// How sure a read must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadConcern {
    /// What a majority has acknowledged, read on the primary.
    #[default]
    Majority,
    /// As `Majority`, and the primary confirms that it still is one; slower.
    Linearizable,
}

/// Which fields of the documents are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fields {
    /// All of them, byte for byte.
    #[default]
    Whole,
    /// At least `_id`, `user_id`, `created_at`, `last_accessed` and `metadata`.
    Head,
    /// As `Head`, and the size of the stored document as the int64 [`SIZE`]: see [`stored_size`].
    Sized,
    /// At least `_id` and `user_id`.
    Keys,
    /// At least `_id`, `metadata.version` and `metadata.digest`: what a copy claims to be. One that is missing may come as
    /// null. By an index over [`CLAIMS_INDEX`], where there is one, a server need not open the documents of [`Query::All`].
    Claims,
    /// At least `_id`, and `metadata.staged_at` where pages are ordered by it: enough for a [`Cursor`]. A store may
    /// give an `_id` of another type that orders the same.
    SortKey,
}

/// What an index is over that alone answers [`Fields::Claims`], in the order of `_id`.
pub const CLAIMS_INDEX: [&str; 3] = [field::ID, "metadata.version", "metadata.digest"];

/// The field of a page of [`Fields::Sized`] that says how many bytes of BSON the whole document has.
pub const SIZE: &str = "bson_size";

/// How many bytes of BSON the whole document has that `head`, of a page of [`Fields::Sized`], is from.
pub fn stored_size(head: &RawDocument) -> Option<u64> {
    u64::try_from(head.get_i64(SIZE).ok()?).ok()
}

impl Fields {
    /// What of `document` is wanted.
    pub fn of(self, document: RawDocumentBuf) -> RawDocumentBuf {
        if self == Self::Whole {
            return document;
        }
        self.copied_from(&document)
    }

    /// As [`Fields::of`], of a document that stays where it is.
    pub fn copied_from(self, document: &RawDocument) -> RawDocumentBuf {
        match self {
            Self::Whole => document.to_owned(),
            Self::Head => only(document, &HEAD),
            Self::Sized => {
                let size = i64::try_from(document.as_bytes().len()).unwrap_or(i64::MAX);
                Edit::new().set(SIZE, size).apply(&only(document, &HEAD))
            }
            Self::Keys => only(document, &KEYS),
            Self::Claims => claims(document),
            Self::SortKey => only(document, &SORT_KEY),
        }
    }
}

fn only(document: &RawDocument, names: &[&str]) -> RawDocumentBuf {
    let mut kept = RawDocumentBuf::new();
    for element in document.iter_elements().map_while(Result::ok) {
        if names.contains(&element.key().as_str())
            && let Ok(value) = element.value()
        {
            kept.append(element.key(), value);
        }
    }
    kept
}

/// `_id`, and of `metadata` the version and the digest, with what pages of some queries are ordered by.
fn claims(document: &RawDocument) -> RawDocumentBuf {
    let mut kept = only(document, &[field::ID]);
    if let Some(metadata) = document::metadata(document) {
        let claimed = only(metadata, &[field::VERSION, field::DIGEST, field::STAGED_AT]);
        kept.append(bson::raw::cstr!("metadata"), claimed);
    }
    kept
}

const KEYS: [&str; 2] = [field::ID, field::USER_ID];

const SORT_KEY: [&str; 2] = [field::ID, field::METADATA];

const HEAD: [&str; 5] = [
    field::ID,
    field::USER_ID,
    field::CREATED_AT,
    field::LAST_ACCESSED,
    field::METADATA,
];

/// The place after which a page begins: the sort keys of the last document of the page before.
#[derive(Clone, PartialEq, Debug)]
pub struct Cursor {
    /// `metadata.staged_at` as stored; `Null` where it is missing.
    pub staged_at: Bson,
    /// `_id`.
    pub id: Bson,
}

impl Cursor {
    /// The place just after `document`.
    ///
    /// An `_id` that cannot be read counts as null: see [`Cursor::after_page`].
    pub fn after(document: &RawDocument) -> Self {
        let staged_at = document::metadata(document)
            .and_then(|m| m.get(field::STAGED_AT).ok().flatten())
            .and_then(|v| Bson::try_from(v).ok())
            .unwrap_or(Bson::Null);
        Self {
            staged_at,
            id: document::id(document),
        }
    }
}

impl Cursor {
    /// The place after the last document of `page` whose `_id` can be read; `None` where there is none.
    ///
    /// A page that brings a scan no further than the one before it is the last that can be read: a text
    /// that is no UTF-8 names no place.
    pub fn after_page(page: &[RawDocumentBuf]) -> Option<Self> {
        page.iter()
            .rev()
            .find(|document| document::has_id(document))
            .map(|document| Self::after(document))
    }
}

/// Which documents are meant.
#[derive(Clone, PartialEq, Debug)]
pub enum Query {
    /// Every document, ordered by `_id`.
    All,
    /// Those with these `_id`s, ordered by `_id`.
    Ids(Vec<Bson>),
    /// Those whose `user_id` is one of these, whatever their `_id` or state, in no order.
    Users(Vec<String>),
    /// Documents that entered temp at or before this time and are neither entering nor erased, ordered by (`staged_at`,
    /// `_id`). One whose state or form is unknown is among them, so that it can be reported. Found by index.
    Due(DateTime),
    /// Documents that entered temp at or before this time, whatever their state, ordered by (`staged_at`, `_id`): those
    /// that are due, and the few that are entering or erased. Found by index; of [`Fields::SortKey`] it says everything.
    Staged(DateTime),
    /// Documents whose `metadata.staged_at` is missing or no date, in a stable order. Found by index.
    Unstaged,
    /// Documents whose top-level fields equal these, ordered by `_id`.
    Equal(Document),
    /// As [`Query::Equal`], ordered by `_id` from the highest down: the newest first where ids begin with a time.
    Newest(Document),
}

impl Query {
    /// Whether `document` is meant.
    pub fn matches(&self, document: &RawDocument) -> bool {
        match self {
            Self::All => true,
            Self::Ids(ids) => {
                let id = document::id(document);
                ids.contains(&id) || {
                    let key = id_order(&id);
                    ids.iter().any(|one| id_order(one) == key)
                }
            }
            Self::Users(users) => {
                document::user_id(document).is_some_and(|user| users.iter().any(|u| u == user))
            }
            Self::Due(before) => {
                !matches!(
                    document::stored_state(document),
                    Some(State::Entering | State::Erased)
                ) && document::staged_at(document).is_some_and(|staged| staged <= *before)
            }
            Self::Staged(before) => {
                document::staged_at(document).is_some_and(|staged| staged <= *before)
            }
            Self::Unstaged => document::staged_at(document).is_none(),
            Self::Equal(fields) | Self::Newest(fields) => fields_match(document, fields),
        }
    }

    /// Whether pages are ordered by (`staged_at`, `_id`) and not by `_id` alone.
    pub fn orders_by_staged_at(&self) -> bool {
        match self {
            Self::Due(_) | Self::Staged(_) | Self::Unstaged => true,
            Self::All | Self::Ids(_) | Self::Users(_) | Self::Equal(_) | Self::Newest(_) => false,
        }
    }
}

/// One page of a query.
#[derive(Clone, PartialEq, Debug)]
pub struct Find {
    /// Which documents.
    pub query: Query,
    /// Where the page begins; `None` for the first.
    pub after: Option<Cursor>,
    /// The most documents in the page.
    pub limit: usize,
    /// The page ends with the document that reaches this many bytes.
    pub max_bytes: usize,
    /// Which fields.
    pub fields: Fields,
    /// How sure.
    pub read: ReadConcern,
}

impl Find {
    /// The first page of `query`: whole documents, at most 1,000 and about 16 MiB of them.
    pub fn new(query: Query) -> Self {
        Self {
            query,
            after: None,
            limit: 1_000,
            max_bytes: 16 * 1024 * 1024,
            fields: Fields::Whole,
            read: ReadConcern::Majority,
        }
    }

    /// With at most `limit` documents in the page.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// With a page that ends with the document that reaches `max_bytes`.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Beginning after `cursor`.
    #[must_use]
    pub fn after(mut self, cursor: Option<Cursor>) -> Self {
        self.after = cursor;
        self
    }

    /// With only the fields that tierkeep itself reads.
    #[must_use]
    pub fn head(mut self) -> Self {
        self.fields = Fields::Head;
        self
    }

    /// With only the fields that tierkeep itself reads, and the size of the whole document.
    #[must_use]
    pub fn sized(mut self) -> Self {
        self.fields = Fields::Sized;
        self
    }

    /// With only `_id` and `user_id`.
    #[must_use]
    pub fn keys(mut self) -> Self {
        self.fields = Fields::Keys;
        self
    }

    /// With only `_id`, version and digest.
    #[must_use]
    pub fn claims(mut self) -> Self {
        self.fields = Fields::Claims;
        self
    }

    /// With only what a [`Cursor`] is made of.
    #[must_use]
    pub fn sort_keys(mut self) -> Self {
        self.fields = Fields::SortKey;
        self
    }

    /// Read linearizably.
    #[must_use]
    pub fn linearizable(mut self) -> Self {
        self.read = ReadConcern::Linearizable;
        self
    }

    /// Cuts documents that already match, in order, to this page.
    pub fn cut(&self, documents: impl IntoIterator<Item = RawDocumentBuf>) -> Vec<RawDocumentBuf> {
        let mut bytes = 0;
        let mut page = Vec::new();
        for document in documents {
            if page.len() >= self.limit || (bytes >= self.max_bytes && !page.is_empty()) {
                break;
            }
            bytes += document.as_bytes().len();
            page.push(document);
        }
        page
    }
}

/// What the bytes of a text begin with in [`id_order`].
const TEXT: u8 = 5;

/// A total order of `_id`s, the same as MongoDB's for the types that ids have: numbers, texts, binary, object ids,
/// booleans, dates. Decimals and objects have their place among the types, and an order of their own.
///
/// Stores that keep their own index of `_id` order by the bytes this returns; equal ids have equal bytes.
pub fn id_order(id: &Bson) -> Vec<u8> {
    let mut key = Vec::with_capacity(32);
    let mut put = |rank: u8, bytes: &[u8]| {
        key.push(rank);
        key.extend_from_slice(bytes);
    };
    match id {
        Bson::MinKey => put(0, &[]),
        Bson::Undefined => put(1, &[]),
        Bson::Null => put(2, &[]),
        Bson::Int32(n) => put(3, &number_order(f64::from(*n), i64::from(*n))),
        #[expect(
            clippy::cast_precision_loss,
            reason = "the integer follows and breaks ties"
        )]
        Bson::Int64(n) => put(3, &number_order(*n as f64, *n)),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates; the float comes first"
        )]
        Bson::Double(n) => put(3, &number_order(*n, *n as i64)),
        Bson::Decimal128(n) => put(4, &n.bytes()),
        Bson::String(text) | Bson::Symbol(text) => put(TEXT, text.as_bytes()),
        Bson::Document(document) => put(6, &encoded(document.clone())),
        Bson::Array(array) => put(7, &encoded(bson::doc! { "": array.clone() })),
        Bson::Binary(binary) => {
            put(
                8,
                &u64::try_from(binary.bytes.len())
                    .unwrap_or(u64::MAX)
                    .to_be_bytes(),
            );
            key.push(binary.subtype.into());
            key.extend_from_slice(&binary.bytes);
        }
        Bson::ObjectId(oid) => put(9, &oid.bytes()),
        Bson::Boolean(value) => put(10, &[u8::from(*value)]),
        Bson::DateTime(at) => put(11, &signed_order(at.timestamp_millis())),
        Bson::Timestamp(ts) => {
            put(12, &ts.time.to_be_bytes());
            key.extend_from_slice(&ts.increment.to_be_bytes());
        }
        Bson::RegularExpression(_)
        | Bson::DbPointer(_)
        | Bson::JavaScriptCode(_)
        | Bson::JavaScriptCodeWithScope(_) => {
            put(13, &encoded(bson::doc! { "": id.clone() }));
        }
        Bson::MaxKey => put(255, &[]),
    }
    key
}

/// The place of `document` in [`id_order`]; an `_id` that cannot be read counts as null.
pub fn place_of(document: &RawDocument) -> Vec<u8> {
    match document.get_str(field::ID) {
        Ok(text) => {
            let mut key = Vec::with_capacity(1 + text.len());
            key.push(TEXT);
            key.extend_from_slice(text.as_bytes());
            key
        }
        Err(_) => id_order(&document::id(document)),
    }
}

/// The text that [`id_order`] gives these bytes, where it is one.
pub fn id_text(key: &[u8]) -> Option<&str> {
    let text = key.strip_prefix(&[TEXT])?;
    std::str::from_utf8(text).ok()
}

/// What `document` is looked up by in an index over `fields`, each with at most one dot: equal in all
/// of them means equal bytes. A missing field counts as null.
///
/// Stores that keep their own unique indexes compare these bytes.
pub fn index_key(document: &RawDocument, fields: &[&str]) -> Vec<u8> {
    let mut key = Vec::with_capacity(48);
    for path in fields {
        let value = value_at(document, path)
            .and_then(|value| Bson::try_from(value).ok())
            .unwrap_or(Bson::Null);
        let part = id_order(&value);
        key.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        key.extend_from_slice(&part);
    }
    key
}

fn encoded(document: Document) -> Vec<u8> {
    RawDocumentBuf::try_from(document)
        .map(RawDocumentBuf::into_bytes)
        .unwrap_or_default()
}

fn signed_order(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn number_order(float: f64, integer: i64) -> [u8; 16] {
    let float = if float == 0.0 { 0.0 } else { float };
    let bits = float.to_bits();
    let ordered = match float.partial_cmp(&0.0) {
        Some(Ordering::Less) => !bits,
        None => 0,
        Some(Ordering::Equal | Ordering::Greater) => bits | (1 << 63),
    };
    let mut key = [0; 16];
    key[..8].copy_from_slice(&ordered.to_be_bytes());
    key[8..].copy_from_slice(&signed_order(integer));
    key
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;

    use super::*;

    #[test]
    fn ids_order_as_the_database_orders_them() {
        let ordered = [
            Bson::MinKey,
            Bson::Null,
            Bson::Double(-1.5),
            Bson::Int32(-1),
            Bson::Int64(0),
            Bson::Double(0.5),
            Bson::Int32(1),
            Bson::Int64(9_007_199_254_740_993),
            Bson::String(String::new()),
            Bson::String("a".into()),
            Bson::String("ab".into()),
            Bson::String("b".into()),
            Bson::ObjectId(ObjectId::from_bytes([0; 12])),
            Bson::Boolean(false),
            Bson::DateTime(DateTime::from_millis(-1)),
            Bson::DateTime(DateTime::from_millis(1)),
            Bson::MaxKey,
        ];
        for pair in ordered.windows(2) {
            assert!(
                id_order(&pair[0]) < id_order(&pair[1]),
                "{:?} < {:?}",
                pair[0],
                pair[1]
            );
        }
        assert_eq!(id_order(&Bson::Int32(7)), id_order(&Bson::Int64(7)));
        assert_eq!(id_order(&Bson::Int32(7)), id_order(&Bson::Double(7.0)));
    }

    #[test]
    fn a_document_has_the_place_of_its_id() {
        for id in [Bson::String("é".into()), Bson::Int64(7), Bson::Null] {
            let document = RawDocumentBuf::try_from(bson::doc! { "_id": id.clone() }).unwrap();
            assert_eq!(place_of(&document), id_order(&id));
        }
        let none = bson::rawdoc! { "a": 1 };
        assert_eq!(place_of(&none), id_order(&Bson::Null));
    }

    #[test]
    fn ids_that_are_equal_numbers_are_found_by_each_other() {
        let seven = bson::rawdoc! { "_id": 7_i64 };
        assert!(Query::Ids(vec![Bson::Int32(7)]).matches(&seven));
        assert!(!Query::Ids(vec![Bson::String("7".into())]).matches(&seven));
    }

    #[test]
    fn the_head_holds_what_tierkeep_reads_and_no_content() {
        let whole = bson::rawdoc! {
            "_id": "a", "user_id": "a", "scan_cache": { "x": 1 }, "metadata": { "version": 1_i64 }
        };
        let head = bson::rawdoc! { "_id": "a", "user_id": "a", "metadata": { "version": 1_i64 } };
        assert_eq!(Fields::Head.of(whole.clone()), head);
        assert_eq!(Fields::Whole.of(whole.clone()), whole);
        let sized = Fields::Sized.of(whole.clone());
        assert_eq!(stored_size(&sized), whole.as_bytes().len().try_into().ok());
        assert_eq!(stored_size(&whole), None);
    }

    #[test]
    fn index_keys_are_equal_only_where_all_fields_are() {
        let fields = ["user_id", "metadata.n"];
        let key = |document: RawDocumentBuf| index_key(&document, &fields);
        let one = key(bson::rawdoc! { "user_id": "a", "metadata": { "n": 1_i64 } });
        assert_eq!(
            one,
            key(bson::rawdoc! { "metadata": { "n": 1.0 }, "user_id": "a", "x": 1 })
        );
        assert_ne!(one, key(bson::rawdoc! { "user_id": "a" }));
        assert_eq!(
            key(bson::rawdoc! { "user_id": "a" }),
            key(bson::rawdoc! { "user_id": "a", "metadata": { "n": bson::raw::RawBson::Null } }),
        );
    }
}
