//! Which collections, indexes and validators each database needs. No index ever deletes by age.

use tierkeep_core::db::{Role, collection};
use tierkeep_core::hr::{HrCollection, MARK_INDEX};
use tierkeep_core::mover::Status;
use tierkeep_core::store::{CLAIMS_INDEX, CollectionLayout, IndexLayout, Layout};
use tierkeep_core::user::UserType;

/// What the `user_id`s begin with that a server refuses in a users' collection of `role`. Temp takes everything:
/// other programs write there, and what does not belong is quarantined, not lost to its writer.
fn keeps_out(role: Role) -> Option<&'static str> {
    match role {
        Role::ExternalUsers => Some(UserType::Internal.prefix()),
        Role::RaseenMainUser | Role::SrieMainUser => Some(UserType::External.prefix()),
        Role::RaseenTempUser | Role::RaseenMainHr | Role::SrieMainHr | Role::EvaluationAudit => {
            None
        }
    }
}

/// The collections, indexes and validators of `role`, where these are the collections of HR records.
pub fn layout(role: Role, hr: &[HrCollection]) -> Layout {
    let mut collections = vec![CollectionLayout {
        name: collection::IDENTITY.into(),
        indexes: Vec::new(),
        keeps_out: None,
    }];
    if let Some(users) = role.users() {
        let mut indexes = vec![IndexLayout::over(&["user_id", "_id"])];
        if role == Role::RaseenTempUser {
            indexes.push(IndexLayout::over(&["metadata.staged_at", "_id"]));
        }
        if matches!(role, Role::RaseenMainUser | Role::SrieMainUser) {
            // What `verify --quick` reads instead of documents.
            indexes.push(IndexLayout::over(&CLAIMS_INDEX).optional());
        }
        collections.push(CollectionLayout {
            name: users.into(),
            indexes,
            keeps_out: keeps_out(role),
        });
    }
    if role.holds_hr() {
        collections.extend(hr.iter().map(|collection| CollectionLayout {
            name: collection.as_str().to_owned(),
            indexes: vec![IndexLayout::over(&MARK_INDEX)],
            keeps_out: None,
        }));
    }
    if role == Role::EvaluationAudit {
        collections.push(CollectionLayout {
            name: collection::MIGRATION_RECORDS.into(),
            indexes: vec![
                IndexLayout::over(&["user_id", "version"]),
                // Most records are completed, and no query looks for those by this index.
                IndexLayout::over(&["status", "_id"]).above(Status::Completed.as_str()),
            ],
            keeps_out: None,
        });
        collections.push(CollectionLayout {
            name: collection::MIGRATION_INTENTS.into(),
            indexes: Vec::new(),
            keeps_out: None,
        });
        collections.push(CollectionLayout {
            name: collection::CONTROL.into(),
            indexes: vec![IndexLayout::over(&["kind", "_id"])],
            keeps_out: None,
        });
        collections.push(CollectionLayout {
            name: collection::ERASURES.into(),
            indexes: vec![IndexLayout::over(&["stage", "_id"])],
            keeps_out: None,
        });
        collections.push(CollectionLayout {
            name: collection::AUDIT_TRAIL.into(),
            indexes: vec![
                IndexLayout::over(&["entry_id"]).unique(),
                IndexLayout::over(&["user_id", "_id"]),
                IndexLayout::over(&["kind", "_id"]),
            ],
            keeps_out: None,
        });
        collections.push(CollectionLayout {
            name: collection::ALERTS.into(),
            indexes: vec![
                IndexLayout::over(&["resolved_at", "_id"]),
                IndexLayout::over(&["webhook_notice", "_id"]),
                IndexLayout::over(&["email_notice", "_id"]),
            ],
            keeps_out: None,
        });
        collections.push(CollectionLayout {
            name: collection::LEASES.into(),
            indexes: Vec::new(),
            keeps_out: None,
        });
    }
    Layout { collections }
}
