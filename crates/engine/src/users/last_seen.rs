//! The versions at which users' documents were last seen where writes go, so that most writes need no read first.
//!
//! No decision depends on a version from here: one that is out of date matches no document, and the write looks.

use moka::sync::Cache;
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

/// Of how many users a version is remembered.
const REMEMBERED: u64 = 20_000;

/// The last seen versions. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct LastSeen(Cache<UserId, Version>);

impl Default for LastSeen {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl LastSeen {
    pub(super) fn of(&self, user: &UserId) -> Option<Version> {
        self.0.get(user)
    }

    pub(super) fn note(&self, user: &UserId, version: Version) {
        self.0.insert(user.clone(), version);
    }
}
