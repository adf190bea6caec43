//! Looking at the trail: page by page, along the whole chain, and what pruning takes away.

use std::time::Duration;

use bson::{Bson, DateTime, Document, doc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tierkeep_core::audit::{
    AuditKey, AuditKind, Entry, Found, Head, Verdict, Verifier, audit_field,
};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::collection;
use tierkeep_core::document;
use tierkeep_core::store::{Change, Cursor, Find, Guard, Query, StoreError};
use tierkeep_core::user::UserId;

use crate::audit::AuditTrail;
use crate::databases::pages::Pages;
use crate::databases::retry::repeating;

/// How many entries are removed at once.
const REMOVED_AT_ONCE: usize = 16;

/// Which entries are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditFilter {
    /// Only of this kind.
    pub kind: Option<AuditKind>,
    /// Only about this user.
    pub user: Option<UserId>,
}

impl AuditFilter {
    fn fields(&self) -> Document {
        let mut wanted = doc! {};
        if let Some(user) = &self.user {
            wanted.insert(audit_field::USER_ID, user.as_str());
        }
        if let Some(kind) = self.kind {
            wanted.insert(audit_field::KIND, kind.as_str());
        }
        wanted
    }
}

/// A document of the trail as it is shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Listed {
    /// An entry.
    Entry(Box<Entry>),
    /// This was an entry and has been altered; the verification says more.
    Unreadable {
        /// The place that it claims.
        seq: Option<i64>,
        /// Always true.
        unreadable: bool,
    },
}

/// Some of the trail, in the order that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditPage {
    /// The entries.
    pub items: Vec<Listed>,
    /// The last place of this page, from where the next one continues; `None` on the last.
    pub next: Option<i64>,
}

/// What a pruning did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Pruned {
    /// How many entries went, or would go.
    pub pruned: u64,
    /// The last place that is gone; 0 where nothing ever went.
    pub through: i64,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Why nothing was pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// `evaluation_audit` did not answer. A repeat continues what was started.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
    /// The chain does not hold, and pruning would take the proof away.
    #[error(
        "the audit trail is not intact, so nothing was pruned; `tierkeep audit verify` lists what is wrong"
    )]
    Broken,
}

impl AuditTrail {
    /// A page of the trail from the oldest entry on, after this place.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn page(
        &self,
        filter: &AuditFilter,
        after: Option<i64>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let wanted = filter.fields();
        let query = if wanted.is_empty() {
            Query::All
        } else {
            Query::Equal(wanted)
        };
        self.page_of(query, after, limit).await
    }

    /// A page of the trail from the newest entry on, before this place.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn newest(
        &self,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let query = Query::Newest(filter.fields());
        self.page_of(query, before, limit).await
    }

    /// The last time that an administrator did this.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn last_action(&self, action: &str) -> Result<Option<Listed>, StoreError> {
        let wanted = doc! {
            audit_field::KIND: AuditKind::AdminAction.as_str(),
            audit_field::DECISION: action,
        };
        let page = self.page_of(Query::Newest(wanted), None, 1).await?;
        Ok(page.items.into_iter().next())
    }

    async fn page_of(
        &self,
        query: Query,
        after: Option<i64>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let after = after.map(|place| Cursor {
            staged_at: Bson::Null,
            id: Bson::Int64(place),
        });
        let find = Find::new(query).limit(limit.saturating_add(1)).after(after);
        let store = self.0.audit.store();
        let mut found = repeating(|| store.find(collection::AUDIT_TRAIL, &find)).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().and_then(|last| document::id(last).as_i64());
        let items = found.iter().map(|document| {
            Entry::read(document).map_or_else(
                || Listed::Unreadable {
                    seq: document.get_i64(audit_field::SEQ).ok(),
                    unreadable: true,
                },
                |entry| Listed::Entry(Box::new(entry)),
            )
        });
        Ok(AuditPage {
            items: items.collect(),
            next: last.filter(|_| more),
        })
    }

    /// Walks along the whole trail, and compares it with a head that was noted once.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn verify(&self, noted: Option<Head>) -> Result<Found, StoreError> {
        // Without a key nothing was ever written, and whatever is there is not ours.
        let key = self.key().await?.cloned();
        let key = key.unwrap_or_else(|| AuditKey::new(&[]));
        let mut walk = Verifier::new(key, noted);
        let store = self.0.audit.store();
        let all = Find::new(Query::All);
        let mut pages = Pages::new(store.as_ref(), collection::AUDIT_TRAIL, all);
        while let Some(page) = pages.next().await? {
            for document in &page {
                walk.next(document);
            }
        }
        Ok(walk.finish())
    }

    /// Removes what is older than this from the beginning of the trail, and leaves a checkpoint at its end
    /// that vouches for it.
    ///
    /// The checkpoint comes first: what a crash leaves is removed by a repeat, and holds meanwhile.
    ///
    /// # Errors
    /// [`PruneError`]; nothing was removed where the chain does not hold.
    pub async fn prune(
        &self,
        older_than: Duration,
        actor: &str,
        dry_run: bool,
    ) -> Result<Pruned, PruneError> {
        let found = self.verify(None).await?;
        if found.verdict == Verdict::Broken {
            return Err(PruneError::Broken);
        }
        let before = clock::before(self.0.clock.now(), older_than);
        let (count, through) = self.older(before).await?;
        let old = through.map_or(found.pruned_through, |head| head.count);
        let pruned = Pruned {
            pruned: count,
            through: old.max(found.pruned_through),
            dry_run,
        };
        let Some(through) = through.filter(|_| !dry_run) else {
            return Ok(pruned);
        };
        if through.count > found.pruned_through {
            let draft = self.draft(AuditKind::Checkpoint).by(Some(actor));
            let draft = draft.decided("prune").because(&through.checkpoint());
            self.record(draft).await?;
        }
        self.remove_through(through.count).await?;
        Ok(pruned)
    }

    /// How many entries at the beginning are older, and the last of them.
    async fn older(&self, before: DateTime) -> Result<(u64, Option<Head>), StoreError> {
        let mut count = 0;
        let mut through: Option<Head> = None;
        loop {
            let place = through.map(|head| head.count);
            let page = self.page(&AuditFilter::default(), place, 1_000).await?;
            for listed in &page.items {
                match listed {
                    Listed::Entry(entry) if entry.at() <= before => {
                        through = Some(Head::from(entry.as_ref()));
                        count += 1;
                    }
                    Listed::Entry(_) | Listed::Unreadable { .. } => return Ok((count, through)),
                }
            }
            if page.next.is_none() {
                return Ok((count, through));
            }
        }
    }

    async fn remove_through(&self, last: i64) -> Result<(), StoreError> {
        let store = self.0.audit.store();
        loop {
            let page = self.page(&AuditFilter::default(), None, 1_000).await?;
            let entries = page.items.into_iter().filter_map(|listed| match listed {
                Listed::Entry(entry) if entry.seq <= last => Some(entry),
                Listed::Entry(_) | Listed::Unreadable { .. } => None,
            });
            let entries: Vec<_> = entries.collect();
            if entries.is_empty() {
                return Ok(());
            }
            let removals = stream::iter(entries).map(|entry| async move {
                let id = Bson::Int64(entry.seq);
                let hash = entry.hash.to_string();
                let guard = Guard::Fields(doc! { audit_field::HASH: hash });
                let write = || store.write(collection::AUDIT_TRAIL, &id, &guard, &Change::Remove);
                repeating(write).await.map(|_| ())
            });
            removals
                .buffer_unordered(REMOVED_AT_ONCE)
                .try_collect::<()>()
                .await?;
        }
    }
}
