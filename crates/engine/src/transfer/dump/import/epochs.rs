//! Erasures that a dump knows of and the ledger here does not: a version says how often its user was erased, and a
//! tombstone that the last life has ended.
//!
//! Without an entry an erasure here would begin again at the first epoch, below what was imported, and hide nothing.

use tierkeep_core::bson::{Bson, doc};
use tierkeep_core::db::collection;
use tierkeep_core::erasure::{Erasure, Stage, erasure_field};
use tierkeep_core::store::{Class, StoreError};
use tierkeep_core::user::UserId;

use crate::context::Engine;
use crate::databases::control;
use crate::databases::retry::repeating;

/// How often a step that lost a race looks again.
const ROUNDS: u32 = 8;

/// Makes the ledger know that `user` was erased at least `epoch` times. A tombstone's erasure is brought to every
/// database; of a live document only the fence is kept. Answers whether something is left to be finished.
pub(crate) async fn carry_over(
    engine: &Engine,
    user: &UserId,
    epoch: i64,
    is_tombstone: bool,
) -> Result<bool, StoreError> {
    let ledger = engine.ledger();
    let key = ledger.key_or_new(engine.randomness()).await?;
    let id = key.entry_id(user.as_str());
    let store = engine.databases.audit_db().store();
    for _ in 0..ROUNDS {
        let now = engine.clock().now();
        let Some(entry) = ledger.entry(user).await? else {
            let mut first = doc! { "_id": &id };
            first.extend(Erasure::begun(user, epoch, now));
            if !is_tombstone {
                first.extend(Erasure::brought(&[], now));
                first.extend(Erasure::closed());
            }
            if control::insert_if_absent(store.as_ref(), collection::ERASURES, &first).await? {
                return Ok(is_tombstone);
            }
            continue;
        };
        if entry.epoch >= epoch {
            // A pending one was begun by an import that was cut off, or by another process.
            return Ok(is_tombstone && entry.stage == Stage::Pending);
        }
        // What is stored of earlier lives goes, wherever it is.
        let set = Erasure::begun(user, epoch, now);
        let when = doc! { erasure_field::EPOCH: entry.epoch };
        let ids = [Bson::String(id.clone())];
        if repeating(|| store.amend(collection::ERASURES, &ids, &when, &set)).await? > 0 {
            return Ok(true);
        }
    }
    Err(StoreError {
        database: store.role(),
        operation: "ledger",
        class: Class::Busy,
        code: 0,
    })
}
