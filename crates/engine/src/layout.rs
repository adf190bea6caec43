//! Which collections and indexes each database needs. No index ever deletes by age.

use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{CollectionLayout, IndexLayout, Layout};

fn index(fields: &[&'static str]) -> IndexLayout {
    IndexLayout {
        fields: fields.to_vec(),
        unique: false,
    }
}

/// The collections and indexes of `role`.
pub fn layout(role: Role) -> Layout {
    let mut collections = vec![CollectionLayout {
        name: collection::IDENTITY.into(),
        indexes: Vec::new(),
    }];
    if let Some(users) = role.users() {
        let mut indexes = vec![index(&["user_id", "_id"])];
        if role == Role::RaseenTempUser {
            indexes.push(index(&["metadata.staged_at", "_id"]));
        }
        collections.push(CollectionLayout {
            name: users.into(),
            indexes,
        });
    }
    if role == Role::EvaluationAudit {
        collections.push(CollectionLayout {
            name: collection::MIGRATION_RECORDS.into(),
            indexes: vec![index(&["user_id", "version"]), index(&["status", "_id"])],
        });
        collections.push(CollectionLayout {
            name: collection::CONTROL.into(),
            indexes: vec![index(&["kind", "_id"])],
        });
        collections.push(CollectionLayout {
            name: collection::ERASURES.into(),
            indexes: vec![index(&["stage", "_id"])],
        });
        collections.push(CollectionLayout {
            name: collection::AUDIT_TRAIL.into(),
            indexes: vec![
                IndexLayout {
                    unique: true,
                    ..index(&["entry_id"])
                },
                index(&["user_id", "_id"]),
                index(&["kind", "_id"]),
            ],
        });
        collections.push(CollectionLayout {
            name: collection::ALERTS.into(),
            indexes: vec![index(&["resolved_at", "_id"])],
        });
        collections.push(CollectionLayout {
            name: collection::LEASES.into(),
            indexes: Vec::new(),
        });
    }
    Layout { collections }
}
