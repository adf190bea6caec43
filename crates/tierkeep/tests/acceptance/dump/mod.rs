//! Dumps by the built binary: written, read as another program would, and imported again.

mod copy;
mod export;
mod import;
mod killed;
mod torn;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock as _};
use tierkeep_core::db::{Role, collection};
use tierkeep_core::user::UserId;
use tierkeep_testkit::documents::{NativeUser, SeedUser, hostile_documents, seed_user};

use super::program::Deployment;

/// The databases of users' documents.
pub const USERS: [Role; 4] = [
    Role::ExternalUsers,
    Role::RaseenTempUser,
    Role::RaseenMainUser,
    Role::SrieMainUser,
];

/// Users everywhere: moved ones, one that was erased, hostile and foreign ones in temp, external ones.
pub async fn populated(backend: super::program::Backend) -> Deployment {
    let deployment = Deployment::new(backend);
    deployment.json(&["init", "--json"]);
    let temp = deployment.open(Role::RaseenTempUser).await;
    let old = clock::before(SystemClock.now(), Duration::from_hours(25));
    let moved: Vec<_> = (0..20).map(|n| seed_user(n, old)).collect();
    temp.insert("internal_users", &moved).await.unwrap();
    deployment.json(&["migrate", "run", "--json"]);
    let erased = SeedUser::new(3, old).user_id();
    deployment.json(&["erase", &erased, "--json"]);
    // Not due, whatever a test does.
    let young = SystemClock.now();
    let mut staged: Vec<_> = hostile_documents()
        .into_iter()
        .map(|(_, document)| document)
        .collect();
    staged.extend((20..25).map(|n| seed_user(n, young)));
    temp.insert("internal_users", &staged).await.unwrap();
    let external = deployment.open(Role::ExternalUsers).await;
    let mut public: Vec<_> = (0..5)
        .map(|n| {
            let user = UserId::external(&format!("public{n}")).unwrap();
            NativeUser::new(&user, 1 + i64::from(n)).build()
        })
        .collect();
    public.push(SeedUser::new(9, young).external().build());
    external.insert("external_users", &public).await.unwrap();
    deployment
}

/// Every user document of every database.
pub async fn users(deployment: &Deployment) -> BTreeMap<Role, Vec<RawDocumentBuf>> {
    let mut users = BTreeMap::new();
    for role in USERS {
        users.insert(role, deployment.users(role).await);
    }
    users
}

/// The names of the collections of a database.
pub fn collections(role: Role) -> Vec<&'static str> {
    let mut names = vec![collection::IDENTITY];
    names.extend(role.users());
    if role == Role::EvaluationAudit {
        names.extend([
            collection::MIGRATION_RECORDS,
            collection::CONTROL,
            collection::ERASURES,
            collection::AUDIT_TRAIL,
            collection::ALERTS,
            collection::LEASES,
        ]);
    }
    names
}

/// Every file below a directory, by its path there.
pub fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap();
                files.insert(name.display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// The documents of a file, cut by the lengths that they begin with.
pub fn documents(mut bytes: &[u8]) -> Vec<RawDocumentBuf> {
    let mut documents = Vec::new();
    while let Some(length) = bytes.first_chunk::<4>() {
        let length = usize::try_from(i32::from_le_bytes(*length)).unwrap();
        documents.push(RawDocumentBuf::from_bytes(bytes[..length].to_vec()).unwrap());
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty());
    documents
}

/// Documents in the order of their `_id`s.
pub fn sorted(mut documents: Vec<RawDocumentBuf>) -> Vec<RawDocumentBuf> {
    documents.sort_by_key(|it| tierkeep_core::store::id_order(&tierkeep_core::document::id(it)));
    documents
}
