//! Stamps: what each database says of itself, its role and its deployment.
//!
//! Must never stamp a database before all that were reached agree, or change a stamp.

use std::collections::BTreeMap;

use bson::doc;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{Find, Query, Store, StoreError};
use tracing::warn;

use crate::databases::error::ConnectError;
use crate::databases::manager::ConnectionManager;

const STAMP_ID: &str = "tierkeep";

#[derive(Clone, Default, Debug)]
pub(crate) struct Stamp {
    pub(crate) role: String,
    pub(crate) deployment: String,
}

pub(crate) async fn read(store: &dyn Store) -> Result<Option<Stamp>, StoreError> {
    let query = Query::Ids(vec![STAMP_ID.into()]);
    let found = store.find(collection::IDENTITY, &Find::new(query)).await?;
    Ok(found.first().map(|stamp| Stamp {
        role: stamp.get_str("role").unwrap_or_default().to_owned(),
        deployment: stamp.get_str("deployment").unwrap_or_default().to_owned(),
    }))
}

impl ConnectionManager {
    pub(crate) fn agree_on_deployment(
        &self,
        stamps: &BTreeMap<Role, Option<Stamp>>,
    ) -> Result<Option<String>, ConnectError> {
        let mut expected = self.identities.deployment.get().cloned();
        let audit_first = |role: &Role| usize::from(*role != Role::EvaluationAudit);
        let mut roles: Vec<Role> = stamps.keys().copied().collect();
        roles.sort_by_key(audit_first);
        for role in roles {
            let Some(Some(stamp)) = stamps.get(&role) else {
                continue;
            };
            if stamp.role != role.name() {
                return Err(ConnectError::StampedAsOther {
                    role,
                    found: stamp.role.clone(),
                });
            }
            match &expected {
                Some(expected) if *expected != stamp.deployment => {
                    return Err(ConnectError::OtherDeployment {
                        role,
                        found: stamp.deployment.clone(),
                        expected: expected.clone(),
                    });
                }
                Some(_) => {}
                None => expected = Some(stamp.deployment.clone()),
            }
        }
        Ok(expected)
    }

    /// An empty `evaluation_audit` beside stamped databases has lost the erasure ledger. While the process runs,
    /// its deployment is known, and an `evaluation_audit` that was recreated is stamped again.
    pub(crate) async fn refuse_lost_audit(
        &self,
        stamps: &BTreeMap<Role, Option<Stamp>>,
    ) -> Result<(), ConnectError> {
        let audit_is_empty = matches!(stamps.get(&Role::EvaluationAudit), Some(None));
        let stamped = stamps
            .iter()
            .find_map(|(role, stamp)| Some((*role, stamp.as_ref()?)));
        let (true, None, Some((beside, stamp))) =
            (audit_is_empty, self.identities.deployment.get(), stamped)
        else {
            return Ok(());
        };
        // It is stamped first: another process may have founded the deployment since it was looked at.
        if let Some(gate) = self.gates.get(&Role::EvaluationAudit)
            && read(gate.unchecked()).await?.is_some()
        {
            return Ok(());
        }
        Err(ConnectError::AuditLost {
            beside,
            found: stamp.deployment.clone(),
        })
    }

    /// Stamps what has no stamp. `evaluation_audit` comes first: of two processes that start a deployment at
    /// once, the second takes over the id that the first has put there.
    pub(crate) async fn stamp_missing(
        &self,
        stamps: &BTreeMap<Role, Option<Stamp>>,
        known: Option<String>,
    ) -> Result<(), ConnectError> {
        let mut deployment = known.clone().unwrap_or_else(|| self.randomness.id());
        let mut missing: Vec<Role> = stamps
            .iter()
            .filter(|(_, stamp)| stamp.is_none())
            .map(|(role, _)| *role)
            .collect();
        missing.sort_by_key(|role| *role != Role::EvaluationAudit);
        for role in missing {
            let Some(gate) = self.gates.get(&role) else {
                continue;
            };
            let store = gate.unchecked();
            if known.is_some() {
                warn!(
                    user_type = %role.user_type(),
                    database = %role,
                    "the database has no stamp, but others belong to a deployment: it is new, or it was emptied; \
                     `tierkeep restore` and `tierkeep backup` restore documents",
                );
            }
            let stamp = doc! {
                "_id": STAMP_ID,
                "role": role.name(),
                "deployment": &deployment,
                "created_at": self.clock.now(),
            };
            let Ok(raw) = RawDocumentBuf::try_from(&stamp) else {
                continue;
            };
            store.insert(collection::IDENTITY, &[raw]).await?;
            let found = read(store).await?.unwrap_or_default();
            if found.role != role.name() {
                return Err(ConnectError::StampedAsOther {
                    role,
                    found: found.role,
                });
            }
            if role == Role::EvaluationAudit && known.is_none() {
                deployment = found.deployment;
            } else if found.deployment != deployment {
                let found = found.deployment;
                return Err(ConnectError::OtherDeployment {
                    role,
                    found,
                    expected: deployment,
                });
            }
        }
        self.identities.deployment.get_or_init(|| deployment);
        Ok(())
    }
}
