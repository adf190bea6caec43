//! One collection in main and its backup in srie, and looking at single documents of both.
//!
//! Owns the order of a look: srie, main, temp, the ledger. A move writes srie first and empties temp last, so
//! what temp holds at the end of a look explains what was ahead at its beginning. Writes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::adopt;
use tierkeep_core::bson;
use tierkeep_core::compare::{CopyKind, Found, Held, Side, Sight};
use tierkeep_core::db::{BackedUp, RaseenMainUser, UserDatabase};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Location, State};
use tierkeep_core::erasure::{Erasure, Stage};
use tierkeep_core::hr::HrCollection;
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Find, Query, Store, StoreError};
use tierkeep_core::user::UserType;
use tierkeep_core::version::Version;

use crate::claims::by_user;
use crate::context::Engine;
use crate::databases::pages::ByNames;

/// The most documents of one look, and about the most bytes of one answer.
pub(crate) const LOOK_DOCUMENTS: usize = 64;
const LOOK_BYTES: usize = 4 * 1024 * 1024;

/// One collection in main and its backup in srie.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    engine: Arc<Engine>,
    main: Arc<dyn Store>,
    srie: Arc<dyn Store>,
    pub(crate) kind: CopyKind,
    /// The name of the collection on both sides.
    pub(crate) collection: String,
}

impl Pair {
    /// Internal users.
    pub(crate) fn users(engine: &Arc<Engine>) -> Self {
        let (main, srie) = (
            engine.databases.raseen_main_db(),
            engine.databases.srie_main_db(),
        );
        Self::of(engine, main, srie, CopyKind::Users, RaseenMainUser::USERS)
    }

    /// A collection of HR records.
    pub(crate) fn hr(engine: &Arc<Engine>, collection: &HrCollection) -> Self {
        let (main, srie) = (
            engine.databases.raseen_hr_db(),
            engine.databases.srie_hr_db(),
        );
        Self::of(engine, main, srie, CopyKind::Hr, collection.as_str())
    }

    /// A pair that is no backup of the other does not compile.
    fn of<M: BackedUp>(
        engine: &Arc<Engine>,
        main: &Handle<M>,
        srie: &Handle<M::Backup>,
        kind: CopyKind,
        collection: &str,
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            main: Arc::clone(main.store()),
            srie: Arc::clone(srie.store()),
            kind,
            collection: collection.to_owned(),
        }
    }

    /// The databases that this is about.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The store of a side.
    pub(crate) fn store(&self, side: Side) -> &Arc<dyn Store> {
        match side {
            Side::Main => &self.main,
            Side::Srie => &self.srie,
        }
    }

    /// Looks at the documents of these names on both sides and at everything that may explain how they differ.
    ///
    /// In the order of `names`, which holds no more than [`LOOK_DOCUMENTS`].
    pub(crate) async fn look(&self, names: &[String]) -> Result<Vec<Sight>, StoreError> {
        let mut srie = self.found(Side::Srie, names).await?;
        let mut main = self.found(Side::Main, names).await?;
        let mut temp = HashMap::new();
        let mut fences = vec![(None, false); names.len()];
        match self.kind {
            CopyKind::Users => {
                temp = self.in_temp(names, Find::new(Query::All)).await?;
                fences = self.fences(names).await?;
            }
            // Records are not users: temp holds none of them, and the ledger has no entry for them.
            CopyKind::Hr => {}
        }
        Ok(names
            .iter()
            .zip(fences)
            .map(|(name, (fence, erasing))| {
                let srie = srie.remove(name);
                let held = srie.as_ref().and_then(|srie| srie.held.as_ref().ok());
                let claims = temp.get(name).into_iter().flatten();
                Sight {
                    main: main.remove(name),
                    temp: claims.filter_map(|it| moving_version(it, held)).max(),
                    srie,
                    fence,
                    erasing,
                }
            })
            .collect())
    }

    /// What a side holds under these names. Reads whole documents and keeps none of them.
    async fn found(
        &self,
        side: Side,
        names: &[String],
    ) -> Result<HashMap<String, Found>, StoreError> {
        let mut found: HashMap<String, Found> = HashMap::new();
        let whole = Find::new(Query::All).max_bytes(LOOK_BYTES);
        let mut pages = self.by_names(side, names, whole);
        while let Some(page) = pages.next().await? {
            for document in page {
                let Some(name) = self.kind.key(&document) else {
                    continue;
                };
                let one = Found::of(&document, self.kind);
                let one = match found.remove(name) {
                    Some(other) => other.beside(one),
                    None => one,
                };
                found.insert(name.to_owned(), one);
            }
        }
        Ok(found)
    }

    /// The documents of these names on a side, whatever their `_id`, in pages.
    pub(crate) fn by_names<'a>(
        &'a self,
        side: Side,
        names: &'a [String],
        as_found: Find,
    ) -> ByNames<'a> {
        let store = self.store(side).as_ref();
        match self.kind {
            CopyKind::Users => ByNames::users(store, &self.collection, names, as_found),
            CopyKind::Hr => ByNames::ids(store, &self.collection, names, as_found),
        }
    }

    /// What temp holds of these users, live or entering, whatever the `_id`.
    pub(crate) async fn in_temp(
        &self,
        names: &[String],
        as_found: Find,
    ) -> Result<HashMap<String, Vec<RawDocumentBuf>>, StoreError> {
        let temp = self.engine.databases.raseen_temp_db();
        let mut claims = by_user(temp, names, as_found.max_bytes(LOOK_BYTES)).await?;
        claims.retain(|_, claims| {
            claims.retain(|it| document::state(it) != Some(State::Erased));
            !claims.is_empty()
        });
        Ok(claims)
    }

    /// Below which version content of these users counts as nothing, and whether it is still being erased.
    async fn fences(&self, names: &[String]) -> Result<Vec<(Option<Version>, bool)>, StoreError> {
        let users: Vec<&str> = names.iter().map(String::as_str).collect();
        let entries = self.engine.ledger().entries(&users).await?;
        let of = |entry: Erasure| (entry.fence(), entry.stage == Stage::Pending);
        Ok(entries
            .into_iter()
            .map(|entry| entry.map_or((None, false), of))
            .collect())
    }
}

/// The version under which a document of temp moves, beside what srie holds of its user: that of a copy which is what the document
/// of another program becomes.
fn moving_version(document: &RawDocument, srie: Option<&Held>) -> Option<Version> {
    if document::is_native(document) {
        return document::version(document);
    }
    let foreign = adopt::foreign(document, UserType::Internal).ok()?;
    let version = srie?.version;
    let moved = adopt::final_form(document, &foreign, Location::Main, version);
    (Digest::of(&moved) == srie?.digest).then_some(version)
}
