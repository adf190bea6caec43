//! Commands that change documents. Every one asks a majority to acknowledge it.

use std::fmt::Write as _;

use bson::raw::{RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, cstr};
use bson::spec::ElementType;
use bson::{Bson, Document, Timestamp, rawdoc};
use tierkeep_core::document::{MAX_DOCUMENT_BYTES, OPS_KEPT, field};
use tierkeep_core::store::{Change, Guard};
use tierkeep_core::user::Section;
use tierkeep_core::version::{Version, Window};

use super::{
    COMMAND_BYTES, READ_LIMIT, fields_equal, has_type, id_runs, is_live, is_of_known_form, literal,
    millis, path, raw, size_of, write_concern,
};

/// Whether a plain insert would store other bytes: the server fills a zero timestamp at the top level with
/// the current time.
pub(crate) fn altered_by_insert(document: &RawDocument) -> bool {
    const ZERO: Timestamp = Timestamp {
        time: 0,
        increment: 0,
    };
    document
        .iter_elements()
        .map_while(Result::ok)
        .filter(|element| element.element_type() == ElementType::Timestamp)
        .filter_map(|element| element.value().ok())
        .any(|value| value.as_timestamp() == Some(ZERO))
}

/// Inserts the documents, each for itself.
pub(crate) fn insert(collection: &str, documents: &[&RawDocumentBuf]) -> RawDocumentBuf {
    let mut command = rawdoc! { "insert": collection };
    command.append(cstr!("ordered"), false);
    command.append(cstr!("writeConcern"), write_concern());
    with_documents(command, documents)
}

/// Inserts the documents one after the other; the server stops at the first that it does not store.
pub(crate) fn append(collection: &str, documents: &[&RawDocumentBuf]) -> RawDocumentBuf {
    let mut command = rawdoc! { "insert": collection };
    command.append(cstr!("ordered"), true);
    command.append(cstr!("writeConcern"), write_concern());
    with_documents(command, documents)
}

/// The command with `documents` appended, each copied once: they are what moves.
fn with_documents(command: RawDocumentBuf, documents: &[&RawDocumentBuf]) -> RawDocumentBuf {
    const NAME: &[u8] = b"documents\0";
    const ARRAY: u8 = 0x04;
    const DOCUMENT: u8 = 0x03;
    // A statement has its type, its place in decimal digits and a zero byte beside the document.
    let room: usize = documents.iter().map(|one| one.as_bytes().len() + 8).sum();
    let mut bytes = command.into_bytes();
    bytes.reserve_exact(room + 64);
    bytes.pop();
    bytes.push(ARRAY);
    bytes.extend_from_slice(NAME);
    let array = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    let mut place = String::new();
    for (index, document) in documents.iter().enumerate() {
        place.clear();
        let _ = write!(place, "{index}\0");
        bytes.push(DOCUMENT);
        bytes.extend_from_slice(place.as_bytes());
        bytes.extend_from_slice(document.as_bytes());
    }
    bytes.push(0);
    let length =
        |from: usize, to: usize| i32::try_from(to - from).unwrap_or(i32::MAX).to_le_bytes();
    let of_array = length(array, bytes.len());
    bytes.push(0);
    let of_all = length(0, bytes.len());
    for (at, length) in [(array, of_array), (0, of_all)] {
        if let Some(place) = bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&length);
        }
    }
    RawDocumentBuf::from_bytes(bytes).unwrap_or_default()
}

/// Inserts the documents byte for byte, whatever is in them: no document matches the filter, so each
/// statement either makes one from the literal or clashes on `_id`.
pub(crate) fn insert_exactly(collection: &str, documents: &[&RawDocumentBuf]) -> RawDocumentBuf {
    let statements = documents.iter().map(|document| {
        rawdoc! {
            "q": { "$and": [{ "_id": { "$eq": id(document) } }, { "_id": { "$type": "array" } }] },
            "u": [{ "$replaceWith": literal((*document).clone()) }],
            "upsert": true,
        }
    });
    update(collection, statements.collect())
}

/// Puts each document unless the same `_id` is there with a `user_id` and a version that is not an int64
/// below the document's.
pub(crate) fn put_newer(collection: &str, documents: &[&RawDocumentBuf]) -> RawDocumentBuf {
    let statements = documents.iter().map(|document| {
        let version = tierkeep_core::document::version(document).map_or(i64::MIN, Version::get);
        rawdoc! {
            "q": { "_id": { "$eq": id(document) } },
            "u": [{ "$replaceWith": { "$cond": [
                { "$or": [
                    has_type("user_id", "missing"),
                    { "$and": [
                        has_type("metadata.version", "long"),
                        { "$lt": ["$metadata.version", literal(version)] },
                    ] },
                ] },
                literal((*document).clone()),
                "$$ROOT",
            ] } }],
            "upsert": true,
        }
    });
    update(collection, statements.collect())
}

fn update(collection: &str, statements: RawArrayBuf) -> RawDocumentBuf {
    rawdoc! {
        "update": collection,
        "updates": statements,
        "ordered": false,
        "writeConcern": write_concern(),
    }
}

fn id(document: &RawDocument) -> RawBson {
    raw(&tierkeep_core::document::id(document))
}

/// Sets fields of those of `ids` whose fields equal all of `when`. A path through a value that is no object
/// replaces that value by one.
pub(crate) fn amend(
    collection: &str,
    ids: &[Bson],
    when: &Document,
    set: &Document,
) -> Vec<RawDocumentBuf> {
    let update = if is_plain(set) {
        RawBson::Document(rawdoc! { "$set": fields(set, raw) })
    } else {
        let literals = fields(set, |value| literal(raw(value)).into());
        RawBson::Array(RawArrayBuf::from_iter([rawdoc! { "$set": literals }]))
    };
    id_runs(ids)
        .into_iter()
        .map(|ids| {
            let mut filter = rawdoc! { "_id": { "$in": ids } };
            if !when.is_empty() {
                filter.append(cstr!("$expr"), rawdoc! { "$and": fields_equal(when) });
            }
            let statement = rawdoc! {
                "q": filter,
                "u": update.clone(),
                "multi": true,
                // Left to itself the server may look at every document with the status that `when` names.
                "hint": { "_id": 1 },
            };
            self::update(collection, RawArrayBuf::from_iter([statement]))
        })
        .collect()
}

fn fields(set: &Document, value: impl Fn(&Bson) -> RawBson) -> RawDocumentBuf {
    let mut all = RawDocumentBuf::new();
    for (name, one) in set {
        all.append(super::key(name), value(one));
    }
    all
}

/// Whether the update operator does with `set` exactly what the pipeline does, for half the server's work: it
/// adds fields in order of their names, takes dots and dollars for paths and operators, and may take a
/// timestamp for the current time.
fn is_plain(set: &Document) -> bool {
    set.iter().all(|(name, value)| {
        let word = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        word && !name.is_empty() && name != field::ID && !matches!(value, Bson::Timestamp(_))
    }) && set.keys().is_sorted()
}

/// How the server is to recognise the document of [`Guard::Whole`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recognised {
    /// By the guard itself.
    ByGuard,
    /// By this hash of the server's own, because guard and replacement together outgrow a command.
    ByHash(i64),
}

/// Whether the guard and the change together outgrow a command.
pub(crate) fn outgrows(guard: &Guard, change: &Change) -> bool {
    match (guard, change) {
        (Guard::Whole(whole), Change::Replace(replacement)) => {
            whole.as_bytes().len() + replacement.as_bytes().len() > COMMAND_BYTES
        }
        _ => false,
    }
}

/// Asks for the server's hash of the document that equals `whole`.
pub(crate) fn hash_of(collection: &str, id: &Bson, whole: &RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! {
        "aggregate": collection,
        "pipeline": [
            { "$match": { "_id": { "$eq": raw(id) }, "$expr": { "$and": is_whole(whole) } } },
            { "$project": { "_id": 0, "hash": { "$toHashedIndexKey": "$$ROOT" } } },
        ],
        "cursor": {},
        "readConcern": { "level": "majority" },
        "maxTimeMS": millis(READ_LIMIT),
    }
}

/// The conditions under which `guard` holds.
fn guarded(guard: &Guard, recognised: Recognised) -> RawArrayBuf {
    let mut all = RawArrayBuf::new();
    match guard {
        Guard::Live { window, unless_op } => {
            all.push(is_live());
            all.push(has_type("metadata.version", "long"));
            for bound in version_within(*window) {
                all.push(bound);
            }
            all.push(rawdoc! { "$not": [{ "$in": [
                literal(unless_op.as_str()),
                { "$cond": [{ "$isArray": "$metadata.ops.id" }, "$metadata.ops.id", []] },
            ] }] });
        }
        Guard::Entry { nonce } => {
            all.push(rawdoc! { "$eq": ["$metadata.state", "entering"] });
            all.push(is_of_known_form());
            all.push(rawdoc! { "$eq": ["$metadata.nonce", literal(nonce.as_str())] });
        }
        Guard::Tombstone(version) => {
            all.push(rawdoc! { "$eq": ["$metadata.state", "erased"] });
            all.push(is_of_known_form());
            all.push(has_type("metadata.version", "long"));
            all.push(version_is(*version));
        }
        Guard::Older(version) => {
            all.push(has_type("metadata.version", "long"));
            all.push(rawdoc! { "$lt": ["$metadata.version", literal(version.get())] });
        }
        Guard::Whole(whole) => match recognised {
            Recognised::ByGuard => all = is_whole(whole),
            Recognised::ByHash(hash) => {
                all.push(has_size(whole));
                all.push(rawdoc! { "$eq": [{ "$toHashedIndexKey": "$$ROOT" }, literal(hash)] });
            }
        },
        Guard::Fields(fields) => all = fields_equal(fields),
    }
    all
}

/// The document equals `whole`: same fields in the same order with values that compare as equal, and as many
/// bytes. What remains open, a double for an int64, the caller decides by reading the document first.
///
/// One of a list of one: MongoDB 5.0 fails to optimise a plain equality of the whole document (code 16409).
fn is_whole(whole: &RawDocumentBuf) -> RawArrayBuf {
    RawArrayBuf::from_iter([
        has_size(whole),
        rawdoc! { "$in": ["$$ROOT", [literal(whole.clone())]] },
    ])
}

fn has_size(whole: &RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! { "$eq": [{ "$bsonSize": "$$ROOT" }, size_of(whole)] }
}

fn version_within(window: Window) -> Vec<RawDocumentBuf> {
    let (lowest, highest) = (window.lowest(), window.highest());
    if lowest == highest {
        return vec![version_is(lowest)];
    }
    vec![
        rawdoc! { "$gte": ["$metadata.version", literal(lowest.get())] },
        rawdoc! { "$lte": ["$metadata.version", literal(highest.get())] },
    ]
}

fn version_is(version: Version) -> RawDocumentBuf {
    rawdoc! { "$eq": ["$metadata.version", literal(version.get())] }
}

/// The largest document that comes with the reply of the command that wrote it.
const REPLIED_BYTES: i64 = 256 * 1024;

/// Changes the one document `id` if `guard` holds. Answers the document, or the head of a large one, and its size in bytes.
pub(crate) fn write(
    collection: &str,
    id: &Bson,
    guard: &Guard,
    change: &Change,
    recognised: Recognised,
) -> RawDocumentBuf {
    let mut query = rawdoc! { "_id": { "$eq": raw(id) } };
    let all = guarded(guard, recognised);
    if !all.is_empty() {
        query.append(cstr!("$expr"), rawdoc! { "$and": all });
    }
    let mut command = rawdoc! { "findAndModify": collection, "query": query };
    let becomes = match change {
        Change::Section { section, value, op } => Some(section_set(section, value.as_ref(), op)),
        Change::Confirm { created } => Some(confirmed(*created)),
        Change::Admit { staged_at } => {
            let metadata = set(field::STAGED_AT, admitted(), literal(*staged_at));
            Some(with_metadata("$$ROOT".into(), metadata))
        }
        Change::Replace(replacement) => Some(literal(replacement.clone())),
        Change::Remove => None,
    };
    match becomes {
        Some(becomes) => {
            command.append(
                cstr!("update"),
                RawArrayBuf::from_iter([rawdoc! { "$replaceWith": becomes }]),
            );
            command.append(cstr!("new"), true);
        }
        None => command.append(cstr!("remove"), true),
    }
    // The driver makes a tree of the reply, many times its size. Of a large document only what says its version comes with it,
    // and the document itself is read as bytes.
    let size = rawdoc! { "$bsonSize": "$$ROOT" };
    let head = rawdoc! { "_id": "$_id", "user_id": "$user_id", "metadata": "$metadata" };
    let is_large = rawdoc! { "$gt": [size.clone(), REPLIED_BYTES] };
    let document = rawdoc! { "$cond": [is_large, head, "$$ROOT"] };
    let answer = rawdoc! { "_id": 0, "document": document, "size": size };
    command.append(cstr!("fields"), answer);
    command.append(cstr!("writeConcern"), write_concern());
    command
}

/// `input` with the field `name` set, which keeps its place; a new one goes to the end.
fn set(name: &str, input: RawBson, value: impl Into<RawBson>) -> RawBson {
    let set = rawdoc! { "field": literal(name), "input": input, "value": value.into() };
    RawBson::Document(rawdoc! { "$setField": set })
}

/// `input` without the field `name`.
fn unset(name: &str, input: RawBson) -> RawBson {
    RawBson::Document(rawdoc! { "$unsetField": { "field": literal(name), "input": input } })
}

/// `input` with `metadata` replaced.
fn with_metadata(input: RawBson, metadata: RawBson) -> RawDocumentBuf {
    rawdoc! { "$setField": {
        "field": literal(field::METADATA), "input": input, "value": metadata,
    } }
}

/// The document with the section set or removed, its version raised, and the operation in its ring; the
/// document as it is where that would outgrow the limit.
fn section_set(section: &Section, value: Option<&RawDocumentBuf>, op: &str) -> RawDocumentBuf {
    let next = rawdoc! { "$add": ["$metadata.version", literal(1_i64)] };
    let ring = rawdoc! { "$cond": [{ "$isArray": "$metadata.ops" }, "$metadata.ops", []] };
    let entry = rawdoc! { "id": literal(op), "v": next.clone() };
    let kept = i32::try_from(OPS_KEPT).unwrap_or(i32::MAX);
    let ring = rawdoc! { "$slice": [{ "$concatArrays": [ring, [entry]] }, -kept] };

    let metadata = set(field::VERSION, path(field::METADATA).into(), next);
    let metadata = set(field::UPDATED_AT, metadata, "$$NOW");
    let metadata = set(field::OPS, metadata, ring);
    // The section is outermost, so that its content is nested as little as possible: the server limits the
    // nesting of the whole command.
    let root: RawBson = "$$ROOT".into();
    let placed = match value {
        Some(value) => set(section.as_str(), root, literal(value.clone())),
        None => unset(section.as_str(), root),
    };
    let changed = with_metadata(placed, metadata);
    let limit = i64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(i64::MAX);
    rawdoc! { "$let": {
        "vars": { "changed": changed },
        "in": { "$cond": [
            { "$or": [
                { "$gt": [{ "$bsonSize": "$$changed" }, limit] },
                { "$gte": ["$metadata.version", literal(i64::MAX)] },
            ] },
            "$$ROOT",
            "$$changed",
        ] },
    } }
}

/// The metadata of an entering document, made live.
fn admitted() -> RawBson {
    let metadata = set(field::STATE, path(field::METADATA).into(), "live");
    unset(field::ENTERED_AT, unset(field::NONCE, metadata))
}

/// The entering document made live and staged now; a new user is also created now.
fn confirmed(created: bool) -> RawDocumentBuf {
    let metadata = set(field::STAGED_AT, admitted(), "$$NOW");
    let metadata = set(field::UPDATED_AT, metadata, "$$NOW");
    let dated = set(field::LAST_ACCESSED, "$$ROOT".into(), "$$NOW");
    let dated = if created {
        set(field::CREATED_AT, dated, "$$NOW")
    } else {
        dated
    };
    with_metadata(dated, metadata)
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use insta::assert_json_snapshot;

    use super::super::tests::shown;
    use super::*;

    fn document(id: &str) -> RawDocumentBuf {
        rawdoc! { "_id": id, "user_id": id, "$set": "$x", "metadata": { "version": 7_i64 } }
    }

    fn version(number: i64) -> Version {
        Version::new(number).unwrap()
    }

    fn shown_write(guard: &Guard, change: &Change) -> serde_json::Value {
        let command = write("users", &"a".into(), guard, change, Recognised::ByGuard);
        shown(&command)
    }

    #[test]
    fn only_zero_timestamps_at_the_top_are_altered_by_an_insert() {
        let at = |time, increment| Timestamp { time, increment };
        assert!(altered_by_insert(
            &rawdoc! { "_id": 1, "a": 2, "t": at(0, 0) }
        ));
        assert!(!altered_by_insert(
            &rawdoc! { "_id": 1, "t": at(0, 1), "u": at(1, 0) }
        ));
        assert!(!altered_by_insert(
            &rawdoc! { "_id": 1, "o": { "t": at(0, 0) } }
        ));
    }

    #[test]
    fn inserts() {
        let (a, b) = (document("a"), document("b"));
        assert_json_snapshot!("insert", shown(&insert("users", &[&a, &b])));
        assert_json_snapshot!("append", shown(&append("trail", &[&a, &b])));
        assert_json_snapshot!("insert_exactly", shown(&insert_exactly("users", &[&a])));
        assert_json_snapshot!("put_newer", shown(&put_newer("users", &[&a, &b])));
    }

    #[test]
    fn amends() {
        let when = doc! { "status": "pending", "version": 3_i64, "error": null };
        let set = doc! { "status": "$done", "lease.n": 2, "error": { "$x": 1 } };
        let commands: Vec<_> = amend("records", &["a".into(), 5.into()], &when, &set)
            .iter()
            .map(shown)
            .collect();
        assert_json_snapshot!("amend", commands);
    }

    #[test]
    fn section_writes() {
        let section = Section::parse("scan_cache").unwrap();
        let set = Change::Section {
            section: section.clone(),
            value: Some(rawdoc! { "$x": "$y" }),
            op: "op-1".into(),
        };
        let unset = Change::Section {
            section,
            value: None,
            op: "op-2".into(),
        };
        let any = Guard::Live {
            window: Window::from(version(5), 8),
            unless_op: "op-1".into(),
        };
        let exact = Guard::Live {
            window: Window::exactly(version(5)),
            unless_op: "op-2".into(),
        };
        assert_json_snapshot!("write_section", shown_write(&any, &set));
        assert_json_snapshot!("write_section_removed", shown_write(&exact, &unset));
    }

    #[test]
    fn entries_and_tombstones() {
        let entry = Guard::Entry { nonce: "n".into() };
        let tombstone = Guard::Tombstone(version(1 << 40));
        let replace = Change::Replace(document("a"));
        let created = Change::Confirm { created: true };
        let copied = Change::Confirm { created: false };
        assert_json_snapshot!("write_confirm_created", shown_write(&entry, &created));
        assert_json_snapshot!("write_confirm", shown_write(&entry, &copied));
        let admit = Change::Admit {
            staged_at: bson::DateTime::from_millis(1_800_000_000_000),
        };
        assert_json_snapshot!("write_admit", shown_write(&entry, &admit));
        assert_json_snapshot!("write_over_tombstone", shown_write(&tombstone, &replace));
        let older = Guard::Older(version(9));
        assert_json_snapshot!("write_over_older", shown_write(&older, &replace));
        assert_json_snapshot!("write_remove_entry", shown_write(&entry, &Change::Remove));
    }

    #[test]
    fn whole_documents() {
        let whole = Guard::Whole(document("a"));
        let replace = Change::Replace(document("a"));
        let fields = Guard::Fields(doc! { "status": "pending" });
        assert_json_snapshot!("write_whole", shown_write(&whole, &replace));
        assert_json_snapshot!("write_fields", shown_write(&fields, &replace));
        assert_json_snapshot!(
            "hash_of",
            shown(&hash_of("users", &"a".into(), &document("a")))
        );
        let hashed = write(
            "users",
            &"a".into(),
            &whole,
            &replace,
            Recognised::ByHash(7),
        );
        assert_json_snapshot!("write_whole_by_hash", shown(&hashed));
    }
}
