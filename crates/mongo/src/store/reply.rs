//! What replies say. Pure; never sends anything.

use std::collections::HashSet;

use bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf};
use bson::{Bson, rawdoc};
use tierkeep_core::document;
use tierkeep_core::store::{
    Cursor, Entries, Find, FoundCollection, Hello, IndexLayout, Query, ServerIdentity, id_order,
};

use crate::error::Failure;
use crate::query;

/// What a query asks for by name, so that a page of a thousand is not compared with a thousand names each.
enum Named<'a> {
    /// `_id`s, in the bytes that tell them apart.
    Ids(HashSet<Vec<u8>>),
    Users(HashSet<&'a str>),
    /// The query names nothing.
    No,
}

impl<'a> Named<'a> {
    fn of(query: &'a Query) -> Self {
        match query {
            Query::Ids(ids) => Self::Ids(ids.iter().map(id_order).collect()),
            Query::Users(users) => Self::Users(users.iter().map(String::as_str).collect()),
            Query::All
            | Query::Due(_)
            | Query::Staged(_)
            | Query::Unstaged
            | Query::Equal(_)
            | Query::Newest(_) => Self::No,
        }
    }
}

/// A page while it is read.
pub(super) struct PageReply<'a> {
    find: &'a Find,
    named: Named<'a>,
    after: Option<(Vec<u8>, &'a Cursor)>,
    documents: Vec<RawDocumentBuf>,
    bytes: usize,
}

impl<'a> PageReply<'a> {
    pub(super) fn new(find: &'a Find) -> Self {
        Self {
            find,
            named: Named::of(&find.query),
            after: find
                .after
                .as_ref()
                .map(|after| (id_order(&after.id), after)),
            documents: Vec::new(),
            bytes: 0,
        }
    }

    /// Whether nothing more belongs into the page.
    pub(super) fn is_full(&self) -> bool {
        self.documents.len() >= self.find.limit
            || (self.bytes >= self.find.max_bytes && !self.documents.is_empty())
    }

    /// Takes the document in, if the query means it and the page begins before it.
    pub(super) fn offer(&mut self, document: &RawDocument) {
        if self.is_where_the_page_begins(document) || !self.means(document) {
            return;
        }
        self.bytes += document.as_bytes().len();
        self.documents.push(document.to_owned());
    }

    /// What [`Query::matches`] answers.
    fn means(&self, document: &RawDocument) -> bool {
        match &self.named {
            Named::Ids(ids) => ids.contains(&id_order(&document::id(document))),
            Named::Users(users) => {
                document::user_id(document).is_some_and(|user| users.contains(user))
            }
            Named::No => self.find.query.matches(document),
        }
    }

    /// Whether the cursor is at this very document: lower bounds of an index are inclusive.
    fn is_where_the_page_begins(&self, document: &RawDocument) -> bool {
        // An `_id` that cannot be read counts as null, and matches no cursor.
        let Some((id, cursor)) = self.after.as_ref().filter(|_| document::has_id(document)) else {
            return false;
        };
        // Nearly every document of a page of users.
        if let (Bson::String(cursor), Ok(here)) = (&cursor.id, document.get_str("_id"))
            && here != cursor
        {
            return false;
        }
        let here = Cursor::after(document);
        let same_id = here.id == cursor.id || id_order(&here.id) == *id;
        match self.find.query {
            Query::Due(_) | Query::Staged(_) => same_id && here.staged_at == cursor.staged_at,
            Query::All
            | Query::Ids(_)
            | Query::Users(_)
            | Query::Unstaged
            | Query::Equal(_)
            | Query::Newest(_) => same_id,
        }
    }

    pub(super) fn documents(self) -> Vec<RawDocumentBuf> {
        self.documents
    }
}

/// What a single-document write answers.
pub(super) struct Answer {
    pub(super) document: RawDocumentBuf,
    size: usize,
}

impl Answer {
    /// Whether the document came through the driver byte for byte.
    pub(super) fn is_exact(&self) -> bool {
        self.has_size_of(&self.document)
    }

    pub(super) fn has_size_of(&self, document: &RawDocument) -> bool {
        self.size == document.as_bytes().len()
    }
}

/// The answer of a single-document write; `None` where nothing matched.
pub(super) fn answer(reply: &RawDocument) -> Result<Option<Answer>, Failure> {
    let Ok(value) = reply.get_document("value") else {
        return match reply.get("value") {
            Ok(None | Some(RawBsonRef::Null)) => Ok(None),
            Ok(Some(_)) | Err(_) => Err(Failure::corrupt()),
        };
    };
    let document = value
        .get_document("document")
        .map_err(|_| Failure::corrupt())?;
    Ok(Some(Answer {
        document: document.to_owned(),
        size: number(value, "size").ok_or_else(Failure::corrupt)?,
    }))
}

/// How many documents a command matched or counted.
pub(crate) fn count(reply: &RawDocument) -> Result<u64, Failure> {
    number(reply, "n").ok_or_else(Failure::corrupt)
}

fn number<N: TryFrom<i64>>(document: &RawDocument, name: &str) -> Option<N> {
    let value = document.get(name).ok().flatten()?;
    let value = value.as_i64().or_else(|| value.as_i32().map(i64::from))?;
    N::try_from(value).ok()
}

/// Whether a router of a sharded cluster said hello.
pub(crate) fn is_of_router(hello: &RawDocument) -> bool {
    hello.get_str("msg").ok() == Some("isdbgrid")
}

/// The replica sets of which a router reaches no primary, by its answer to `connPoolStats`.
pub(super) fn sets_without_primary(known: &RawDocument) -> Vec<String> {
    let is_primary = |member: RawBsonRef<'_>| {
        let member = member.as_document();
        member.is_some_and(|it| it.get_bool("ismaster").unwrap_or_default())
    };
    let sets = known.get_document("replicaSets").into_iter().flatten();
    let lost = sets.map_while(Result::ok).filter(|(_, set)| {
        let members = set.as_document().map(|set| set.get_array("hosts"));
        let Some(Ok(members)) = members else {
            return false;
        };
        !members.into_iter().map_while(Result::ok).any(is_primary)
    });
    lost.map(|(name, _)| name.as_str().to_owned()).collect()
}

/// Who the server is and what time it has.
pub(crate) fn hello(reply: &RawDocument, database: &str) -> Result<Hello, Failure> {
    let process = reply
        .get_document("topologyVersion")
        .ok()
        .and_then(|version| version.get_object_id("processId").ok())
        .map(bson::oid::ObjectId::to_hex)
        .unwrap_or_default();
    let replica_set = reply.get_str("setName").ok().map(|name| {
        let mut members: Vec<String> = ["hosts", "passives", "arbiters"]
            .into_iter()
            .filter_map(|kind| reply.get_array(kind).ok())
            .flatten()
            .filter_map(|member| member.ok()?.as_str().map(str::to_owned))
            .collect();
        members.sort();
        (name.to_owned(), members)
    });
    Ok(Hello {
        now: reply
            .get_datetime("localTime")
            .map_err(|_| Failure::corrupt())?,
        server: ServerIdentity {
            process,
            replica_set,
            member: reply.get_str("me").unwrap_or_default().to_owned(),
        },
        database: database.to_owned(),
        imitator: None,
    })
}

/// Whether the plan scans an index in which a document may have several places, on any shard.
pub(super) fn is_multikey(plan: &RawDocument) -> bool {
    plan.into_iter()
        .map_while(Result::ok)
        .any(|(name, value)| is_multikey_in(name.as_str(), value))
}

fn is_multikey_in(name: &str, value: RawBsonRef<'_>) -> bool {
    if let Some(inner) = value.as_document() {
        return is_multikey(inner);
    }
    // A router gives the plans of the shards as an array.
    if let Some(shards) = value.as_array() {
        let mut plans = shards.into_iter().map_while(Result::ok);
        return plans.any(|plan| plan.as_document().is_some_and(is_multikey));
    }
    name == "isMultiKey" && value.as_bool() == Some(true)
}

/// Whether the index does what `wanted` asks for: the same fields, each document in it, as unique.
pub(super) fn serves(index: &RawDocument, wanted: &IndexLayout) -> bool {
    const OPTIONS: [&str; 3] = ["sparse", "collation", "hidden"];
    let plain = OPTIONS.iter().all(|option| {
        matches!(
            index.get(option),
            Ok(None | Some(RawBsonRef::Boolean(false)))
        )
    });
    let enough = match index.get("partialFilterExpression") {
        Ok(None) => true,
        Ok(Some(only)) => only.as_document() == query::partial_filter(wanted).as_deref(),
        Err(_) => false,
    };
    let unique = matches!(index.get("unique"), Ok(Some(RawBsonRef::Boolean(true))));
    let fields: Vec<(String, bool)> = index
        .get_document("key")
        .into_iter()
        .flatten()
        .map_while(Result::ok)
        .map(|(name, direction)| (name.as_str().to_owned(), ascending(direction)))
        .collect();
    let same = fields.len() == wanted.fields.len()
        && fields
            .iter()
            .zip(&wanted.fields)
            .all(|((name, ascending), wanted)| name == wanted && *ascending);
    plain && enough && same && (unique || wanted.entries != Entries::Unique)
}

/// The kind of an index that refuses documents by what their fields hold; `None` for one that takes every value, as the
/// one by which a collection is sharded: no `_id` is an array.
pub(super) fn choosy(index: &RawDocument) -> Option<&'static str> {
    const KINDS: [&str; 5] = ["text", "2dsphere", "2d", "hashed", "geoHaystack"];
    let key = index.get_document("key").ok()?;
    if key.as_bytes() == rawdoc! { "_id": "hashed" }.as_bytes() {
        return None;
    }
    let kinds: Vec<&str> = key
        .iter_elements()
        .map_while(Result::ok)
        .filter_map(|field| field.value().ok()?.as_str())
        .collect();
    KINDS.into_iter().find(|kind| kinds.contains(kind))
}

/// A collection, as the server lists it with its options.
pub(super) fn collection(name: String, options: &RawDocument) -> FoundCollection {
    FoundCollection {
        name,
        capped: matches!(options.get("capped"), Ok(Some(capped)) if capped.as_bool() != Some(false)),
        expires: matches!(options.get("expireAfterSeconds"), Ok(Some(_))),
        collation: options
            .get_document("collation")
            .ok()
            .map(|collation| collation.get_str("locale").unwrap_or_default().to_owned()),
    }
}

fn ascending(direction: RawBsonRef<'_>) -> bool {
    direction.as_i32() == Some(1)
        || direction.as_i64() == Some(1)
        || direction.as_f64() == Some(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_serves_when_it_holds_every_document_that_is_wanted_under_the_same_fields() {
        let whole = IndexLayout::over(&["user_id", "version"]);
        let unique = whole.clone().unique();
        let partial = whole.clone().above("m");
        let index = |more: RawDocumentBuf| {
            let mut index = rawdoc! { "v": 2, "key": { "user_id": 1, "version": 1 }, "name": "x" };
            for (name, value) in more.iter().flatten() {
                index.append(name, value);
            }
            index
        };
        assert!(serves(&index(rawdoc! {}), &whole));
        assert!(!serves(&index(rawdoc! {}), &unique));
        assert!(serves(&index(rawdoc! { "unique": true }), &unique));
        assert!(serves(&index(rawdoc! { "unique": true }), &whole));
        for other in [
            rawdoc! { "sparse": true },
            rawdoc! { "hidden": true },
            rawdoc! { "collation": { "locale": "de" } },
            rawdoc! { "partialFilterExpression": { "a": 1 } },
        ] {
            assert!(!serves(&index(other.clone()), &whole));
            assert!(!serves(&index(other), &partial));
        }
        let above = |text| rawdoc! { "partialFilterExpression": { "user_id": { "$gt": text } } };
        assert!(serves(&index(above("m")), &partial));
        assert!(!serves(&index(above("n")), &partial));
        assert!(!serves(&index(above("m")), &whole));
        assert!(serves(&index(rawdoc! {}), &partial));
        let other = rawdoc! { "key": { "user_id": 1, "version": -1 } };
        assert!(!serves(&other, &whole));
        let shorter = rawdoc! { "key": { "user_id": 1 } };
        assert!(!serves(&shorter, &whole));
    }

    #[test]
    fn indexes_that_refuse_documents_by_their_content_are_told_by_their_kind() {
        for (key, kind) in [
            (rawdoc! { "a": 1, "b": -1 }, None),
            (rawdoc! { "a": 1, "_fts": "text", "_ftsx": 1 }, Some("text")),
            (rawdoc! { "place": "2dsphere" }, Some("2dsphere")),
            (rawdoc! { "place": "2d" }, Some("2d")),
            (rawdoc! { "a": "hashed" }, Some("hashed")),
            (rawdoc! { "_id": "hashed" }, None),
            (rawdoc! { "_id": "hashed", "a": 1 }, Some("hashed")),
        ] {
            assert_eq!(choosy(&rawdoc! { "key": key.clone() }), kind, "{key:?}");
        }
    }

    #[test]
    fn a_set_of_which_no_member_is_a_primary_is_away() {
        let set = |primaries: &[bool]| {
            let members = primaries
                .iter()
                .map(|is| rawdoc! { "ok": true, "ismaster": *is });
            rawdoc! { "hosts": members.collect::<bson::raw::RawArrayBuf>() }
        };
        let known = rawdoc! { "replicaSets": {
            "cfg": set(&[true]), "s0": set(&[false, true]), "s1": set(&[false, false]), "s2": set(&[]),
        } };
        assert_eq!(sets_without_primary(&known), ["s1", "s2"]);
        assert!(sets_without_primary(&rawdoc! { "ok": 1.0 }).is_empty());
    }

    #[test]
    fn a_multikey_index_is_seen_at_any_depth_of_a_plan() {
        let plan = |multikey: bool| {
            rawdoc! { "queryPlanner": { "winningPlan": { "stage": "FETCH", "inputStage": {
                "stage": "IXSCAN", "isMultiKey": multikey,
            } } } }
        };
        assert!(is_multikey(&plan(true)));
        assert!(!is_multikey(&plan(false)));
        let of_shards = |multikey: bool| {
            rawdoc! { "queryPlanner": { "winningPlan": {
                "stage": "SHARD_MERGE", "shards": [plan(false), plan(multikey)],
            } } }
        };
        assert!(is_multikey(&of_shards(true)));
        assert!(!is_multikey(&of_shards(false)));
        assert!(!is_multikey(
            &rawdoc! { "queryPlanner": { "winningPlan": { "stage": "EOF" } } }
        ));
    }

    #[test]
    fn an_answer_in_which_nothing_matched_is_none() {
        assert!(
            answer(&rawdoc! { "value": bson::raw::RawBson::Null })
                .unwrap()
                .is_none()
        );
        let found = rawdoc! { "value": { "document": { "_id": 1 }, "size": 14 } };
        assert!(answer(&found).unwrap().unwrap().is_exact());
        let collapsed = rawdoc! { "value": { "document": { "_id": 1 }, "size": 21 } };
        assert!(!answer(&collapsed).unwrap().unwrap().is_exact());
    }
}
