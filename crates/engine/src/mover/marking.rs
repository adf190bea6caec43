//! Marking what cannot be moved, and releasing the marks of what changed since.

use crate::alerts::{AlertKind, Alerts};
use crate::claims::{Consistency, claims};
use crate::context::MoveOutcome;
use crate::databases::pages::Pages;
use crate::databases::retry::repeating;
use crate::mover::foreign;
use crate::mover::scan::Scan;
use bson::Bson;
use bson::raw::RawDocument;
use std::collections::BTreeSet;
use std::sync::Arc;
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::bson;
use tierkeep_core::db::{RaseenTempUser, UserDatabase};
use tierkeep_core::document::{self, State, field};
use tierkeep_core::mover::Item;
use tierkeep_core::store::{Find, Query, StoreError, id_order};
use tierkeep_core::user::UserId;
use tracing::warn;

/// How many marks are looked at in one go.
pub(super) const MARKS_AT_ONCE: usize = 500;

impl Scan {
    pub(super) async fn quarantine(
        &mut self,
        document: &RawDocument,
        reason: &Quarantine,
    ) -> Result<(), StoreError> {
        if self.marks.reason(document).is_some() {
            return Ok(());
        }
        if self.options.dry_run {
            self.unmarked += 1;
            return Ok(());
        }
        self.service.engine.moves().add(MoveOutcome::Quarantined);
        warn!(
            user_id = document::user_id(document).and_then(known),
            user_type = "internal",
            document_id = %short(&document::id(document)),
            %reason,
            "a document in raseen_temp_user was quarantined",
        );
        self.marks.mark(document, reason, self.now).await
    }

    /// Quarantines a document whose copies contradict each other, as temp holds it now; answers whether it
    /// moves again instead.
    pub(crate) async fn conflict(
        &mut self,
        item: &Item,
        reason: &Quarantine,
    ) -> Result<bool, StoreError> {
        let temp = self.service.engine.databases.raseen_temp_db();
        let store = temp.store();
        let original = item.original.as_ref();
        let id = original.map_or_else(
            || item.user.to_string().into(),
            |it| document::id(&it.document),
        );
        let find = Find::new(Query::Ids(vec![id]));
        let found = repeating(|| store.find(RaseenTempUser::USERS, &find)).await?;
        let is_same = |document: &RawDocument| match original {
            Some(original) => original.document.as_bytes() == document.as_bytes(),
            None => document::version(document) == Some(item.version),
        };
        let Some(document) = found
            .first()
            .filter(|document| is_same(document) || is_later(document, item, reason))
        else {
            return Ok(false);
        };
        let may_have_changed = self.service.settings.foreign_writers && original.is_none();
        if may_have_changed && matches!(reason, Quarantine::Conflict { .. }) {
            if !is_same(document) {
                return Ok(false);
            }
            // Another program changed it after it was copied: it moves again, under the next version.
            foreign::raise(temp, document, item).await?;
            return Ok(true);
        }
        self.marks.look(&found).await?;
        if self.marks.reason(document).is_none() {
            Alerts::new(Arc::clone(&self.service.engine))
                .raise(
                    AlertKind::CopiesConflict,
                    item.user.as_str(),
                    &reason.to_string(),
                )
                .await?;
        }
        self.quarantine(document, reason).await?;
        Ok(false)
    }

    /// Removes the marks of documents that are gone, were changed, or are their user's only ones again. Where copies
    /// contradict each other a change is no end.
    pub(crate) async fn release_mended(&mut self) -> Result<(), StoreError> {
        let mut after = None;
        while let Some(next) = self.marks.next(after, MARKS_AT_ONCE).await? {
            let ids: Vec<Bson> = self
                .marks
                .near()
                .map(|mark| mark.document.clone())
                .collect();
            let mut stand = self.standing(&ids).await?;
            for id in &ids {
                let unnamed = *id == Bson::Null && self.nameless;
                if !stand.remove(&id_order(id)) && !unnamed {
                    self.marks.release(id).await?;
                }
            }
            after = Some(next);
        }
        Ok(())
    }

    /// Those of `ids` whose marks still stand.
    pub(super) async fn standing(&self, ids: &[Bson]) -> Result<BTreeSet<Vec<u8>>, StoreError> {
        let store = self.service.engine.databases.raseen_temp_db().store();
        let mut stand = BTreeSet::new();
        let find = Find::new(Query::Ids(ids.to_vec()));
        let mut pages = Pages::new(store.as_ref(), RaseenTempUser::USERS, find);
        while let Some(page) = pages.next().await? {
            for document in &page {
                let Some(reason) = self.marks.reason(document) else {
                    continue;
                };
                if self.still_applies(reason, document).await? {
                    stand.insert(id_order(&document::id(document)));
                }
            }
        }
        Ok(stand)
    }

    /// A document that shares its user with others is resolved when the others are removed, without changing itself.
    pub(super) async fn still_applies(
        &self,
        reason: &str,
        document: &RawDocument,
    ) -> Result<bool, StoreError> {
        // This version may know a form that an earlier one did not.
        if document::newer_form(document).is_none() && is_of_a_form(reason) {
            return Ok(false);
        }
        let user = document::user_id(document).and_then(|user| UserId::parse(user).ok());
        let Some(user) =
            user.filter(|user| reason == Quarantine::SeveralClaims(user.clone()).to_string())
        else {
            return Ok(true);
        };
        let claims = claims(
            self.service.engine.databases.raseen_temp_db(),
            &user,
            Consistency::Majority,
        )
        .await?;
        Ok(claims.len() > 1)
    }
}

/// Whether the reason of a mark is a form that was not known, whichever form that was and whichever process said so.
fn is_of_a_form(reason: &str) -> bool {
    reason.starts_with(field::METADATA) && reason.contains(field::SCHEMA_VERSION)
}

/// Whether the user has written `document` since copies were found to contradict `item`: they still do.
fn is_later(document: &RawDocument, item: &Item, reason: &Quarantine) -> bool {
    reason.is_conflict()
        && document::state(document) == Some(State::Live)
        && document::version(document).is_some_and(|version| {
            version > item.version && version.epoch() == item.version.epoch()
        })
}

/// A user id of a document that may hold anything, for a log line.
pub(super) fn known(text: &str) -> Option<String> {
    UserId::parse(text).ok().map(|user| user.to_string())
}

pub(super) fn short(id: &Bson) -> String {
    id.to_string().chars().take(80).collect()
}
