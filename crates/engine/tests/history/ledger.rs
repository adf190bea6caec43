//! The state of the erasure ledger, which is the point of no return of an erasure, independent of the answer to its
//! client.

use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::erasure::{Erasure, Stage as Done, erasure_field};
use tierkeep_core::store::{Find, Query};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use super::reference::{Contradiction, Reference};
use super::stage::Stage;

/// What is known of the erasures of one user.
#[derive(Clone, Default)]
pub struct Ledger {
    /// An erasure was requested.
    pub asked: bool,
    entry: Option<String>,
    pub fence: Option<Version>,
    /// A mover that stood still has outlived the tombstones: until it, or the sweep after it, has looked into
    /// the ledger, what was erased may show.
    pub outlived: bool,
}

impl Ledger {
    /// Takes over what the ledger says of this user. `moving`: some mover stands still.
    pub async fn look(
        &mut self,
        stage: &Stage,
        id: &UserId,
        reference: &mut Reference,
        moving: bool,
    ) -> Result<(), Contradiction> {
        if !self.asked {
            return Ok(());
        }
        let query = match &self.entry {
            Some(id) => Query::Ids(vec![Bson::String(id.clone())]),
            None => Query::Equal(doc! { erasure_field::USER_ID: id.as_str() }),
        };
        let audit = stage.store(Role::EvaluationAudit);
        let found = audit.find(collection::ERASURES, &Find::new(query)).await;
        let found = found.unwrap();
        let Some(entry) = found.first().and_then(|entry| Erasure::read(entry)) else {
            return Ok(());
        };
        let fence = entry.fence().unwrap();
        self.entry = Some(entry.id);
        self.fence = Some(fence);
        reference.erasing(fence);
        match entry.stage {
            Done::Pending => Ok(()),
            Done::Verified => reference.erased(fence),
            Done::Closed => {
                self.outlived |= moving;
                reference.erased(fence)
            }
        }
    }
}
