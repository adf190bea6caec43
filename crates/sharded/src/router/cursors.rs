//! Cursors: which shard keeps each.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bson::raw::{RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, cstr};
use bson::rawdoc;

use super::{Router, refusal};
use crate::node;

const CURSOR_NOT_FOUND: i32 = 43;
/// How many documents a cursor that was given up sends at a time.
const DRAINED: i32 = 100_000;

/// The shard that each open cursor is on.
#[derive(Debug, Default)]
pub(super) struct Cursors(Mutex<HashMap<i64, String>>);

impl Cursors {
    /// Notes the cursor of an answer from `shard`, or that it came to its end.
    pub(super) fn note(&self, answer: &RawDocument, shard: &str, asked: Option<i64>) {
        let cursor = answer.get_document("cursor");
        let id = cursor.and_then(|cursor| cursor.get_i64("id"));
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (id, asked) {
            (Ok(0) | Err(_), Some(asked)) => drop(open.remove(&asked)),
            (Ok(0) | Err(_), None) => {}
            (Ok(id), _) => drop(open.insert(id, shard.to_owned())),
        }
    }

    fn shard_of(&self, id: i64) -> Option<String> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&id).cloned()
    }
}

impl Router {
    pub(super) async fn get_more(
        &self,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let id = command.get_i64("getMore").unwrap_or_default();
        let Some(shard) = self.cursors.shard_of(id) else {
            return Ok(refusal(CURSOR_NOT_FOUND, "the cursor is not known here"));
        };
        let command = node::renamed(command, "clusterGetMore");
        let answer = self.shard(&shard)?.ask(database, &command).await?;
        self.cursors.note(&answer, &shard, Some(id));
        Ok(answer)
    }

    /// Nothing kills a cursor of the routing code from outside: each is read to its end beside what follows.
    pub(super) fn kill_cursors(
        self: &Arc<Self>,
        database: &str,
        command: &RawDocument,
    ) -> RawDocumentBuf {
        let cursors = command.get_array("cursors").into_iter().flatten();
        let ids: Vec<i64> = cursors.filter_map(|cursor| cursor.ok()?.as_i64()).collect();
        let collection = command.get_str("killCursors").unwrap_or_default();
        for id in ids.iter().copied() {
            let mut more =
                rawdoc! { "getMore": id, "collection": collection, "batchSize": DRAINED };
            // A session's cursor is its alone.
            if let Ok(session) = command.get_document("lsid") {
                more.append(cstr!("lsid"), session.to_owned());
            }
            let (router, database) = (Arc::clone(self), database.to_owned());
            tokio::spawn(async move {
                while router.cursors.shard_of(id).is_some() {
                    let drained = router.get_more(&database, &more).await;
                    if !drained.is_ok_and(|answer| node::is_ok(&answer)) {
                        break;
                    }
                }
            });
        }
        let killed = ids.into_iter().map(RawBson::Int64);
        rawdoc! {
            "cursorsKilled": killed.collect::<RawArrayBuf>(),
            "cursorsNotFound": [],
            "cursorsAlive": [],
            "cursorsUnknown": [],
            "ok": 1.0,
        }
    }
}
