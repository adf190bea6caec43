//! Which documents of one database claim a user, and which of them is the current copy.
//!
//! A user is found by `user_id`, whatever the `_id`, because documents of other programs have ids of their own. On shards
//! that takes all of them, so what one shard alone can decide is asked first, by `_id`. Only reads.

use std::collections::HashMap;

use bson::raw::RawDocumentBuf;
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::bson;
use tierkeep_core::bson::Bson;
use tierkeep_core::db::UserDatabase;
use tierkeep_core::document::{self, State};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use crate::databases::pages::ByNames;
use crate::databases::retry::repeating;

/// The most documents of one user that are read: enough to see that several claim it.
const MOST_CLAIMS: usize = 16;

/// How sure a read is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Consistency {
    /// Acknowledged by a majority; a deposed primary may answer with what was current before.
    Majority,
    /// Answered by the primary that a majority follows now.
    Linearizable,
}

/// All documents of a database that claim `user`, whatever their `_id`.
pub(crate) async fn claims<D: UserDatabase>(
    database: &Handle<D>,
    user: &UserId,
    consistency: Consistency,
) -> Result<Vec<RawDocumentBuf>, StoreError> {
    let find = Find::new(Query::Users(vec![user.to_string()])).limit(MOST_CLAIMS);
    let find = match consistency {
        Consistency::Majority => find,
        Consistency::Linearizable => find.linearizable(),
    };
    repeating(|| database.store().find(D::USERS, &find)).await
}

/// Those documents that claim `user` in a database that decide which is the current copy: what is live or erased under the
/// user's own `_id` alone, without a look at other shards, else all.
async fn deciding<D: UserDatabase>(
    database: &Handle<D>,
    user: &UserId,
    consistency: Consistency,
) -> Result<Vec<RawDocumentBuf>, StoreError> {
    let store = database.store();
    if store.is_sharded() {
        let find = Find::new(Query::Ids(vec![Bson::String(user.to_string())])).limit(1);
        let find = match consistency {
            Consistency::Majority => find,
            Consistency::Linearizable => find.linearizable(),
        };
        let own = repeating(|| store.find(D::USERS, &find)).await?;
        let decides = native(&own, user).is_some_and(|own| match document::state(own) {
            Some(State::Live | State::Erased) | None => true,
            // Beside an entry of an adoption the document of the other program is the current copy.
            Some(State::Entering) => false,
        });
        if decides {
            return Ok(own);
        }
    }
    claims(database, user, consistency).await
}

/// The versions of tierkeep's own documents of `users` in a database, whatever their state, by user.
pub(crate) async fn versions<D: UserDatabase>(
    database: &Handle<D>,
    users: &[String],
    as_found: Find,
) -> Result<HashMap<String, Version>, StoreError> {
    let store = database.store().as_ref();
    // On shards by `_id`, which all of them have: a look at one user needs one shard.
    let mut pages = if store.is_sharded() {
        ByNames::ids(store, D::USERS, users, as_found)
    } else {
        ByNames::users(store, D::USERS, users, as_found)
    };
    let mut versions = HashMap::new();
    while let Some(page) = pages.next().await? {
        for own in page.iter().filter(|found| document::is_native(found)) {
            if let (Some(user), Some(version)) = (document::user_id(own), document::version(own)) {
                versions.insert(user.to_owned(), version);
            }
        }
    }
    Ok(versions)
}

/// The documents of a database that claim one of `users`, by user; `as_found` says which fields, how sure, and how
/// many bytes are held at once.
pub(crate) async fn by_user<D: UserDatabase>(
    database: &Handle<D>,
    users: &[String],
    as_found: Find,
) -> Result<HashMap<String, Vec<RawDocumentBuf>>, StoreError> {
    let mut claims: HashMap<String, Vec<RawDocumentBuf>> = HashMap::new();
    let store = database.store().as_ref();
    let mut pages = ByNames::users(store, D::USERS, users, as_found);
    while let Some(page) = pages.next().await? {
        for claim in page {
            if let Some(user) = document::user_id(&claim).map(str::to_owned) {
                claims.entry(user).or_default().push(claim);
            }
        }
    }
    Ok(claims)
}

/// The document in tierkeep's own form among the claims on a user.
pub(crate) fn native<'a>(
    claims: &'a [RawDocumentBuf],
    user: &UserId,
) -> Option<&'a RawDocumentBuf> {
    claims
        .iter()
        .find(|claim| document::is_native(claim) && document::user_id(claim) == Some(user.as_str()))
}

/// The native copy of a user in a database.
pub(crate) async fn copy_of<D: UserDatabase>(
    database: &Handle<D>,
    user: &UserId,
    consistency: Consistency,
) -> Result<Option<RawDocumentBuf>, StoreError> {
    Ok(native(&claims(database, user, consistency).await?, user).cloned())
}

/// What the claims on a user in one database amount to.
pub(crate) enum CurrentCopy {
    /// No document.
    Absent,
    /// A live document.
    Live(RawDocumentBuf),
    /// A live document of another program.
    Foreign(RawDocumentBuf),
    /// An entry that is not confirmed yet.
    Entering(RawDocumentBuf),
    /// A tombstone.
    Erased(RawDocumentBuf),
    /// Documents that contradict each other.
    Unclear(Quarantine),
}

impl CurrentCopy {
    /// The current copy among `claims`.
    pub(crate) fn among(claims: Vec<RawDocumentBuf>, user: &UserId) -> Self {
        let (natives, foreign): (Vec<_>, Vec<_>) = claims
            .into_iter()
            .partition(|claim| native(std::slice::from_ref(claim), user).is_some());
        let foreign_alone = |foreign: Vec<RawDocumentBuf>| match <[_; 1]>::try_from(foreign) {
            Ok([only]) => Self::Foreign(only),
            Err(several) if several.is_empty() => Self::Absent,
            Err(_) => Self::Unclear(Quarantine::SeveralClaims(user.clone())),
        };
        let Some(native) = natives.into_iter().next() else {
            return foreign_alone(foreign);
        };
        match document::state(&native) {
            Some(State::Live) => Self::Live(native),
            // The entry of an adoption: the foreign document is still the current copy.
            Some(State::Entering) if !foreign.is_empty() => foreign_alone(foreign),
            Some(State::Entering) => Self::Entering(native),
            Some(State::Erased) => Self::Erased(native),
            None => Self::Unclear(Quarantine::of_state(&native)),
        }
    }

    /// The current copy of `user` in one database. The caller logs a failure.
    pub(crate) async fn of<D: UserDatabase>(
        database: &Handle<D>,
        user: &UserId,
        consistency: Consistency,
    ) -> Result<Self, StoreError> {
        let claims = deciding(database, user, consistency).await?;
        Ok(Self::among(claims, user))
    }

    /// The version of what is live or erased.
    pub(crate) fn version(&self) -> Option<Version> {
        match self {
            Self::Live(document) | Self::Erased(document) => document::version(document),
            Self::Absent | Self::Foreign(_) | Self::Entering(_) | Self::Unclear(_) => None,
        }
    }
}
