//! Changes of one document: to the shard that owns it.

use std::io;

use bson::Bson;
use bson::raw::{RawDocument, RawDocumentBuf};

use super::{PAUSE, REFRESHES, Router, STALE_CONFIG, is_stale, no_primary, refusal, target};
use crate::routing::{KeyKind, Placement, hash};

const SHARD_KEY_NOT_FOUND: i32 = 61;

impl Router {
    pub(super) async fn find_and_modify(
        &self,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let collection = target(command);
        let makes = command.get_bool("upsert").unwrap_or_default();
        let id = exact_id(command);
        for _ in 0..REFRESHES {
            let Some(placement) = self.placement(database, &collection, makes).await? else {
                return Ok(bson::rawdoc! { "value": bson::raw::RawBson::Null, "ok": 1.0 });
            };
            let Some(owner) = self.owner(&placement, id.as_ref()).await? else {
                let why = "the query names no exact shard key";
                return Ok(refusal(SHARD_KEY_NOT_FOUND, why));
            };
            let Some(node) = self.reachable(&owner).await? else {
                return Ok(no_primary(&owner));
            };
            let versioned = placement.versioned(command, &owner);
            let answer = node.ask(database, &versioned).await?;
            if !is_stale(&answer) {
                return Ok(answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(refusal(STALE_CONFIG, "the tables are always stale"))
    }

    /// The shard that owns the one document; `None` where the shard key is not known.
    async fn owner(&self, placement: &Placement, id: Option<&Bson>) -> io::Result<Option<String>> {
        let Some(sharded) = &placement.sharded else {
            return Ok(Some(placement.primary.clone()));
        };
        let key = match (sharded.kind(), id) {
            (KeyKind::Id, Some(id)) => id.clone(),
            (KeyKind::HashedId, Some(id)) => hash(&self.config, id).await?,
            (KeyKind::Other, _) | (_, None) => return Ok(None),
        };
        Ok(sharded.owner(&key).map(ToOwned::to_owned))
    }
}

/// The `_id` that the query asks for, and no other.
fn exact_id(command: &RawDocument) -> Option<Bson> {
    let query = command.get_document("query").ok()?;
    let id = query.get("_id").ok()??;
    let is_operator = |document: &RawDocument| {
        let first = document.iter().next().and_then(Result::ok);
        first.is_some_and(|(name, _)| name.as_str().starts_with('$'))
    };
    let id = match id.as_document() {
        Some(operators) if is_operator(operators) => operators.get("$eq").ok()??,
        Some(_) | None => id,
    };
    Bson::try_from(id).ok()
}
