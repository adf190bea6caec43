//! Going by what copies claim: a pair of one version and one claimed digest is equal, and nothing of its content is read.
//!
//! Everything else is read whole and judged as in any other verification. So what this does not find is content that has
//! changed under an intact claim, on one side or on both.

use bson::Bson;
use tierkeep_core::bson;
use tierkeep_core::compare::claimed_version;
use tierkeep_core::document;
use tierkeep_core::store::{Cursor, Query, StoreError, id_order};

use crate::backup::verify::examine::Examination;
use crate::backup::verify::merge::{Both, Merge};
use crate::copies::pair::Pair;

/// How many documents are read whole at once.
const WHOLE_DOCUMENTS: usize = 500;

/// Judges a collection by what its documents claim.
pub(crate) struct Quick<'a> {
    pair: &'a Pair,
    claims: Merge,
    /// The `_id`s of those that do not claim to be equal.
    unclear: Vec<Bson>,
    /// The last `_id` that could be read; before the first, the lowest there is.
    last: Bson,
    /// After this `_id` stand documents whose own cannot be read.
    unreadable_after: Option<Bson>,
    /// The place of what has no `_id` that can be read.
    nowhere: Vec<u8>,
}

impl<'a> Quick<'a> {
    pub(crate) fn of(pair: &'a Pair) -> Self {
        Self {
            pair,
            claims: Merge::of_claims(pair),
            unclear: Vec::new(),
            last: Bson::MinKey,
            unreadable_after: None,
            nowhere: id_order(&Bson::Null),
        }
    }

    /// Takes in the next pair; answers whether it is a good moment to stop, and `None` after the last.
    pub(crate) async fn next(
        &mut self,
        examination: &mut Examination<'_>,
    ) -> Result<Option<bool>, StoreError> {
        let Some(both) = self.claims.next().await? else {
            self.read_unreadable(None, examination).await?;
            self.read_unclear(examination).await?;
            return Ok(None);
        };
        if both.place == self.nowhere {
            if self.unreadable_after.is_none() {
                self.unreadable_after = Some(self.last.clone());
            }
            return Ok(Some(false));
        }
        self.read_unreadable(Some(&both.place), examination).await?;
        self.take(both, examination).await.map(Some)
    }

    async fn take(
        &mut self,
        both: Both,
        examination: &mut Examination<'_>,
    ) -> Result<bool, StoreError> {
        let Some(one) = both.either() else {
            return Ok(false);
        };
        if let (Some(main), Some(srie)) = (&both.main, &both.srie)
            && let Ok(name) = main.get_str(document::field::ID)
            && let Some(version) = claimed_version(main, srie)
        {
            let name = name.to_owned();
            self.last = Bson::String(name.clone());
            return examination.equal(name, version, both.place).await;
        }
        let id = document::id(one);
        self.last = id.clone();
        self.unclear.push(id);
        if self.unclear.len() >= WHOLE_DOCUMENTS {
            self.read_unclear(examination).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Reads whole what does not claim to be equal.
    async fn read_unclear(&mut self, examination: &mut Examination<'_>) -> Result<(), StoreError> {
        if self.unclear.is_empty() {
            return Ok(());
        }
        let unclear = Query::Ids(std::mem::take(&mut self.unclear));
        let mut whole = Merge::of_query(self.pair, unclear, None);
        while let Some(both) = whole.next().await? {
            examination.take(both).await?;
        }
        Ok(())
    }

    /// Reads whole what no `_id` names, of the stretch that ends before `until`.
    async fn read_unreadable(
        &mut self,
        until: Option<&[u8]>,
        examination: &mut Examination<'_>,
    ) -> Result<(), StoreError> {
        let Some(id) = self.unreadable_after.take() else {
            return Ok(());
        };
        let after = Cursor {
            staged_at: Bson::Null,
            id,
        };
        let mut whole = Merge::of(self.pair, Some(&after));
        while let Some(both) = whole.next().await? {
            if both.place == self.nowhere {
                examination.take(both).await?;
            } else if until.is_some_and(|until| both.place.as_slice() >= until) {
                break;
            }
        }
        Ok(())
    }
}
