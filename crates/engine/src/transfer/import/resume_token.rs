//! How far the changes of elsewhere were followed, kept in `evaluation_audit`. Only saves work: a follower looks at
//! everything once when it starts.

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, doc};
use tierkeep_core::bson;
use tierkeep_core::db::collection;
use tierkeep_core::store::{Find, Query, StoreError};

use crate::databases::control;
use crate::databases::retry::repeating;
use crate::transfer::import::Import;

/// What these documents are among those of `control`.
const KIND: &str = "followed";

impl Import {
    /// The place up to which `source` was followed.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn followed_to(&self, source: &str) -> Result<Option<Bson>, StoreError> {
        let find = Find::new(Query::Ids(vec![id(source)]));
        let store = self.engine.databases.audit_db().store();
        let found = repeating(|| store.find(collection::CONTROL, &find)).await?;
        let token = |it: &RawDocumentBuf| {
            let token = it.get("token").ok().flatten()?;
            Bson::try_from(token).ok().filter(|it| *it != Bson::Null)
        };
        Ok(found.first().and_then(token))
    }

    /// Notes the place up to which `source` was followed: everything before it is stored.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn note_followed(
        &self,
        source: &str,
        token: &Bson,
        at: DateTime,
    ) -> Result<(), StoreError> {
        let store = self.engine.databases.audit_db().store();
        let set = doc! { "token": token.clone(), "at": at };
        let when = doc! { "kind": KIND };
        let ids = [id(source)];
        let amend = || store.amend(collection::CONTROL, &ids, &when, &set);
        if repeating(amend).await? > 0 {
            return Ok(());
        }
        let mut first = doc! { "_id": id(source), "kind": KIND };
        first.extend(set.clone());
        if !control::insert_if_absent(store.as_ref(), collection::CONTROL, &first).await? {
            repeating(amend).await?;
        }
        Ok(())
    }
}

impl Import {
    /// Forgets the place up to which `source` was followed: changes are not told from there any more.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn forget_followed(&self, source: &str) -> Result<(), StoreError> {
        let store = self.engine.databases.audit_db().store();
        let (when, set) = (doc! { "kind": KIND }, doc! { "token": Bson::Null });
        let ids = [id(source)];
        repeating(|| store.amend(collection::CONTROL, &ids, &when, &set)).await?;
        Ok(())
    }
}

fn id(source: &str) -> Bson {
    Bson::String(format!("{KIND}:{source}"))
}
