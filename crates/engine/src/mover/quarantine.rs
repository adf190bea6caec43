//! Quarantine marks: which documents of temp must not be touched, and why. They live in
//! `evaluation_audit`, never in the document.

use std::collections::{BTreeMap, BTreeSet};

use bson::oid::ObjectId;
use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, doc};
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::bson;
use tierkeep_core::content;
use tierkeep_core::db::{EvaluationAudit, Role, collection};
use tierkeep_core::digest::fingerprint;
use tierkeep_core::document::{self, Edit, State, field};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Change, Cursor, Find, Guard, Inserted, Query, StoreError, id_order};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use crate::databases::pages;
use crate::databases::retry::repeating;

const KIND: &str = "quarantine";

/// One mark.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// `_id` of the mark.
    key: String,
    /// `_id` of the document.
    pub(crate) document: Bson,
    /// The user that it says it is of.
    pub(crate) user_id: Option<String>,
    /// The document's fingerprint when it was marked.
    fingerprint: String,
    /// Its version when it was marked.
    version: Option<Version>,
    /// Whether copies contradict each other: then the mark lasts whatever is written, until an operator decides.
    pub(crate) conflict: bool,
    /// Why.
    pub(crate) reason: String,
    /// When it was marked.
    pub(crate) at: Option<DateTime>,
}

impl Mark {
    /// The document's `_id` as a person types it.
    pub(crate) fn name(&self) -> String {
        let text = self.document.as_str().map(str::to_owned);
        let text = text.or_else(|| self.document.as_object_id().map(ObjectId::to_hex));
        text.unwrap_or_else(|| as_json(&self.document))
    }

    /// The user, where the document's `user_id` is the id of one.
    pub(crate) fn user(&self) -> Option<UserId> {
        let user_id = self.user_id.as_deref()?;
        let user = UserId::parse(user_id).ok()?;
        (user.as_str() == user_id).then_some(user)
    }

    /// Whether the mark is still valid for `document`, which has its `_id`.
    fn holds(&self, document: &RawDocument) -> bool {
        self.fingerprint == form_of(document) || self.conflict && self.is_of_this_life(document)
    }

    /// Later writes of the user change nothing. An erasure ends what the copies contradicted each other about.
    fn is_of_this_life(&self, document: &RawDocument) -> bool {
        let epoch = |version: Option<Version>| version.map(Version::epoch);
        document::state(document) == Some(State::Live)
            && document::version(document).is_some()
            && epoch(document::version(document)) == epoch(self.version)
    }
}

/// An `_id` as relaxed Extended JSON.
pub(crate) fn as_json(id: &Bson) -> String {
    content::show(id.clone()).to_string()
}

/// The marks of temp, looked at page by page: of a page of documents, or one page of all of them.
#[derive(Debug)]
pub(crate) struct Marks {
    audit: Handle<EvaluationAudit>,
    /// Whether there were any, or one was made since. Where there were none, a page costs no look.
    any: bool,
    /// Those of the page that was looked at last.
    near: BTreeMap<Vec<u8>, Mark>,
}

fn key_of(id: &Bson) -> String {
    let named = RawDocumentBuf::try_from(&doc! { "_id": id.clone() }).unwrap_or_default();
    format!("{KIND}/{}/{}", Role::RaseenTempUser, fingerprint(&named))
}

/// The fingerprint of the form in which `document` was marked: reading it is no change.
fn form_of(document: &RawDocument) -> String {
    fingerprint(&Edit::new().unset(field::LAST_ACCESSED).apply(document))
}

/// Whether the document with this `_id` is quarantined.
pub(crate) async fn is_marked(
    audit: &Handle<EvaluationAudit>,
    id: &Bson,
) -> Result<bool, StoreError> {
    let find = Find::new(Query::Ids(vec![Bson::String(key_of(id))])).keys();
    let found = repeating(|| audit.store().find(collection::CONTROL, &find)).await?;
    Ok(!found.is_empty())
}

impl Marks {
    /// Asks whether there are any.
    pub(crate) async fn open(audit: &Handle<EvaluationAudit>) -> Result<Self, StoreError> {
        let mut marks = Self {
            audit: audit.clone(),
            any: true,
            near: BTreeMap::new(),
        };
        marks.any = marks.next(None, 1).await?.is_some();
        marks.near.clear();
        Ok(marks)
    }

    /// Reads the marks of these documents, for what is asked about them next.
    pub(crate) async fn look(&mut self, documents: &[RawDocumentBuf]) -> Result<(), StoreError> {
        self.near.clear();
        if !self.any || documents.is_empty() {
            return Ok(());
        }
        let keys: BTreeSet<String> = documents
            .iter()
            .map(|document| key_of(&document::id(document)))
            .collect();
        let keys: Vec<Bson> = keys.into_iter().map(Bson::String).collect();
        let find = Find::new(Query::Ids(keys))
            .limit(documents.len())
            .max_bytes(usize::MAX);
        let store = self.audit.store();
        let found = repeating(|| store.find(collection::CONTROL, &find)).await?;
        self.near = found.iter().filter_map(|mark| place(mark)).collect();
        Ok(())
    }

    /// Reads one page of all marks, those after `after`, for what is asked about their documents next.
    pub(crate) async fn next(
        &mut self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Option<Cursor>, StoreError> {
        self.near.clear();
        if !self.any {
            return Ok(None);
        }
        let find = Find::new(Query::Equal(doc! { "kind": KIND }))
            .limit(limit)
            .after(after);
        let store = self.audit.store().as_ref();
        let (page, next) = pages::page(store, collection::CONTROL, &find).await?;
        self.near = page.iter().filter_map(|mark| place(mark)).collect();
        Ok(next)
    }

    /// How many documents are marked.
    pub(crate) async fn count(&self) -> Result<u64, StoreError> {
        if !self.any {
            return Ok(0);
        }
        let marks = Query::Equal(doc! { "kind": KIND });
        repeating(|| self.audit.store().count(collection::CONTROL, &marks)).await
    }

    /// The marks that were looked at last.
    pub(crate) fn near(&self) -> impl Iterator<Item = &Mark> {
        self.near.values()
    }

    /// Whether the document with this `_id`, one of those looked at last, was quarantined, in whatever form it
    /// had then.
    pub(crate) fn has(&self, id: &Bson) -> bool {
        self.near.contains_key(&id_order(id))
    }

    /// Why `document`, one of those looked at last, is quarantined: exactly as it is, or, where copies contradict each
    /// other, whatever was written since.
    pub(crate) fn reason(&self, document: &RawDocument) -> Option<&str> {
        let mark = self.near.get(&id_order(&document::id(document)))?;
        mark.holds(document).then_some(mark.reason.as_str())
    }

    /// Marks `document`; a mark of an earlier form of it is replaced.
    pub(crate) async fn mark(
        &mut self,
        document: &RawDocument,
        reason: &Quarantine,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let id = document::id(document);
        let key = key_of(&id);
        let fingerprint = form_of(document);
        let version = document::version(document);
        let user_id = document::user_id(document).map(str::to_owned);
        let conflict = reason.is_conflict();
        let reason = reason.to_string();
        let body = doc! {
            "_id": &key,
            "kind": KIND,
            "database": Role::RaseenTempUser.name(),
            "collection": Role::RaseenTempUser.users(),
            "document_id": id.clone(),
            "user_id": &user_id,
            "fingerprint": &fingerprint,
            "version": version.map(Version::get),
            "conflict": conflict,
            "reason": &reason,
            "at": now,
        };
        if let Ok(raw) = RawDocumentBuf::try_from(&body) {
            let store = self.audit.store();
            let marks = [raw];
            let inserted = repeating(|| store.insert(collection::CONTROL, &marks)).await?;
            if inserted.first() == Some(&Inserted::Exists) {
                let mut set = body;
                set.remove("_id");
                let (ids, when) = ([Bson::String(key.clone())], doc! {});
                repeating(|| store.amend(collection::CONTROL, &ids, &when, &set)).await?;
            }
        }
        let mark = Mark {
            key,
            document: id.clone(),
            user_id,
            fingerprint,
            version,
            conflict,
            reason,
            at: Some(now),
        };
        self.any = true;
        self.near.insert(id_order(&id), mark);
        Ok(())
    }

    /// Removes the mark of a document, one of those looked at last, that is gone or has changed.
    pub(crate) async fn release(&mut self, id: &Bson) -> Result<(), StoreError> {
        let Some(mark) = self.near.remove(&id_order(id)) else {
            return Ok(());
        };
        Self::forget(&self.audit, &mark).await
    }

    /// Removes exactly this mark.
    pub(crate) async fn forget(
        audit: &Handle<EvaluationAudit>,
        mark: &Mark,
    ) -> Result<(), StoreError> {
        let guard = Guard::Fields(doc! { "fingerprint": &mark.fingerprint });
        let key = Bson::String(mark.key.clone());
        let store = audit.store();
        repeating(|| store.write(collection::CONTROL, &key, &guard, &Change::Remove)).await?;
        Ok(())
    }
}

fn place(mark: &RawDocument) -> Option<(Vec<u8>, Mark)> {
    let mark = read(mark)?;
    Some((id_order(&mark.document), mark))
}

fn read(mark: &RawDocument) -> Option<Mark> {
    Some(Mark {
        key: mark.get_str("_id").ok()?.to_owned(),
        document: mark
            .get("document_id")
            .ok()?
            .and_then(|id| Bson::try_from(id).ok())?,
        user_id: mark.get_str("user_id").ok().map(str::to_owned),
        fingerprint: mark.get_str("fingerprint").ok()?.to_owned(),
        version: mark.get_i64("version").ok().and_then(Version::new),
        conflict: mark.get_bool("conflict").unwrap_or(false),
        reason: mark.get_str("reason").ok()?.to_owned(),
        at: mark.get_datetime("at").ok(),
    })
}
