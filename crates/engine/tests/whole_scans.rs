//! Scans that must be complete: users whose `_id` changes behind the cursor, and documents whose `_id` cannot be read.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::raw::{RawBson, RawDocumentBuf};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, Edit, Location};
use tierkeep_core::user::UserId;
use tierkeep_engine::{
    Backup, Condition, DumpProgress, DumpService, NoProgress, Restoration, RestoreOptions,
    RestoreScope, Users,
};
use tierkeep_testkit::documents::{NativeUser, SeedUser, native_user};
use tierkeep_testkit::fault::{Fault, Moment};
use tokio_util::sync::CancellationToken;

use crate::world::{Backend, DAY, HOUR, World, content, section};

/// The users in a file of a dump.
fn exported(place: &Path, role: Role) -> BTreeSet<String> {
    let file = place
        .join(role.name())
        .join(format!("{}.bson", role.users().unwrap()));
    let bytes = std::fs::read(file).unwrap();
    let mut rest = &bytes[..];
    let mut users = BTreeSet::new();
    while let Some(length) = rest.first_chunk::<4>() {
        let length = usize::try_from(i32::from_le_bytes(*length)).unwrap();
        let document = RawDocumentBuf::from_bytes(rest[..length].to_vec()).unwrap();
        users.extend(document::user_id(&document).map(str::to_owned));
        rest = &rest[length..];
    }
    users
}

/// More native users than a page of an export holds, by bytes.
async fn four_pages(world: &World, role: Role) {
    let filler = "x".repeat(1_100_000);
    for n in 100..112 {
        let content = bson::rawdoc! { "filler": filler.as_str() };
        let staged = world.ago(HOUR).await;
        let user = match role {
            Role::ExternalUsers => {
                let user = UserId::external(&format!("user{n}")).unwrap();
                NativeUser::new(&user, 1)
            }
            Role::RaseenTempUser
            | Role::RaseenMainUser
            | Role::RaseenMainHr
            | Role::SrieMainUser
            | Role::SrieMainHr
            | Role::EvaluationAudit => native_user(n, 1).staged_at(staged),
        };
        world.plant(role, user.content(content).build()).await;
    }
}

/// Which `_id` a document of another program has.
#[derive(Clone, Copy, Debug)]
enum Id {
    Number,
    Object,
    Before,
    After,
    /// Among the ids of users, and another one's.
    Among,
}

impl Id {
    fn of(self) -> RawBson {
        match self {
            Self::Number => 7_i64.into(),
            Self::Object => bson::oid::ObjectId::from_bytes([0x5e; 12]).into(),
            Self::Before => "a".into(),
            Self::After => "zzz".into(),
            Self::Among => "internal_ffffffffffffffffffffffff".into(),
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_a_user_who_was_adopted_at_any_moment_of_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Id::Number, Id::Object, Id::Before, Id::After, Id::Among)] id: Id,
) {
    for nth in 1.. {
        // Elsewhere every moment is looked at.
        if backend != Backend::Memory && nth % 3 != 1 && nth < 12 {
            continue;
        }
        let world = World::new(backend).await;
        four_pages(&world, Role::RaseenTempUser).await;
        let seed = SeedUser::new(1, world.ago(HOUR).await);
        let user = UserId::parse(&seed.user_id()).unwrap();
        let foreign = Edit::new().set("_id", id.of()).apply(&seed.build());
        world.plant(Role::RaseenTempUser, foreign).await;
        let look = Fault::nth(nth, Moment::Before)
            .to(Role::RaseenTempUser)
            .of("find");
        let service = DumpService::new(world.reopened().await);
        let hold = world.faults.hold(look);
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("dump");
        let export = service.export(&place, false, &NoProgress);
        let mut export = std::pin::pin!(export);
        tokio::select! {
            () = hold.reached() => {
                world.put(&user, 7).await.unwrap();
                hold.release();
                export.await.unwrap();
            }
            exported = &mut export => {
                exported.unwrap();
                assert!(nth > 4, "the export has more than one page");
                return;
            }
        }
        let users = exported(&place, Role::RaseenTempUser);
        assert!(users.contains(user.as_str()), "{nth}: {users:?}");
        assert_eq!(users.len(), 13, "{nth}");
    }
}

/// Writes a user at the first call.
struct Meanwhile {
    users: Users,
    user: UserId,
    is_done: AtomicBool,
}

impl Meanwhile {
    fn new(world: &World, user: &UserId) -> Self {
        Self {
            users: world.users.clone(),
            user: user.clone(),
            is_done: AtomicBool::new(false),
        }
    }

    fn told(&self) {
        if self.is_done.swap(true, Ordering::SeqCst) {
            return;
        }
        let handle = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            let section = section();
            let put = self
                .users
                .put(&self.user, &section, content(7, 1), Condition::None);
            handle.block_on(put).unwrap();
        });
    }
}

impl DumpProgress for Meanwhile {
    fn expect(&self, _: u64) {}

    fn report(&self, documents: u64) {
        // The first is a stamp.
        if documents > 1 {
            self.told();
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_an_external_user_who_was_adopted_behind_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    four_pages(&world, Role::ExternalUsers).await;
    let seed = SeedUser::new(1, world.ago(HOUR).await).external();
    let user = UserId::parse(&seed.user_id()).unwrap();
    world.plant(Role::ExternalUsers, seed.build()).await;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("dump");
    let service = DumpService::new(world.reopened().await);
    let meanwhile = Meanwhile::new(&world, &user);
    service.export(&place, false, &meanwhile).await.unwrap();
    let users = exported(&place, Role::ExternalUsers);
    assert!(users.contains(user.as_str()), "{users:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_a_restore_reach_a_user_who_was_adopted_behind_them(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::RaseenMainUser, Role::SrieMainUser)] source: Role,
) {
    let world = World::new(backend).await;
    let old = world.ago(DAY).await;
    let mut natives = Vec::new();
    for n in 100..700 {
        let native = native_user(n, 1).at(Location::Main).build();
        let digest = tierkeep_core::digest::Digest::of(&native);
        natives.push(tierkeep_core::mover::main_form(&native, &digest));
    }
    let store = world.store(source);
    store.insert("internal_users", &natives).await.unwrap();
    let seed = SeedUser::new(1, old).at(Location::Main);
    let user = UserId::parse(&seed.user_id()).unwrap();
    world.plant(source, seed.build()).await;
    let meanwhile = Meanwhile::new(&world, &user);
    let stop = CancellationToken::new();
    let (checked, failed, target) = if source == Role::RaseenMainUser {
        let backup = Backup::new(Arc::clone(&world.engine));
        let done = backup.run(&|_| meanwhile.told(), &stop).await.unwrap();
        (done.checked, done.failed(), Role::SrieMainUser)
    } else {
        let options = RestoreOptions {
            whom: RestoreScope::All,
            dry_run: false,
        };
        let restoration = Restoration::new(Arc::clone(&world.engine));
        let told = |_: &_| meanwhile.told();
        let done = restoration.run(&options, &told, &stop).await.unwrap();
        (done.checked, done.failed(), Role::RaseenMainUser)
    };
    assert_eq!((checked, failed), (601, 0));
    assert!(world.copy(target, &user).await.is_some());
    assert_eq!(world.all(target).await.len(), 601);
}

/// User number `n` as another program writes it, under an `_id` that is not UTF-8.
pub fn unreadable(n: u32, at: bson::DateTime) -> RawDocumentBuf {
    let seed = SeedUser::new(n, at).build();
    let id = format!("AAAA{n:08}");
    let mut bytes = Edit::new()
        .set("_id", id.as_str())
        .apply(&seed)
        .into_bytes();
    let at = bytes.windows(4).position(|bytes| bytes == b"AAAA").unwrap();
    bytes[at] = 0xff;
    RawDocumentBuf::from_bytes(bytes).unwrap()
}

/// Only `MongoDB` stores such a document.
#[tokio::test(flavor = "multi_thread")]
async fn scans_go_on_past_pages_of_documents_whose_id_cannot_be_read() {
    let world = World::new(Backend::Mongo).await;
    let old = world.ago(DAY + HOUR).await;
    let temp = world.store(Role::RaseenTempUser);
    for first in (1_000..2_500).step_by(500) {
        let some: Vec<RawDocumentBuf> = (first..first + 500).map(|n| unreadable(n, old)).collect();
        temp.insert("internal_users", &some).await.unwrap();
    }
    let behind = SeedUser::new(1, old);
    world.plant(Role::RaseenTempUser, behind.build()).await;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("dump");
    let service = DumpService::new(world.reopened().await);
    let done = service.export(&place, false, &NoProgress).await.unwrap();
    let users = exported(&place, Role::RaseenTempUser);
    assert!(users.contains(&behind.user_id()));
    assert_eq!(users.len(), 1_501);
    let temp = done
        .databases
        .iter()
        .find(|it| it.name == Role::RaseenTempUser);
    // And the stamp: none is there twice.
    assert_eq!(temp.unwrap().documents, 1_502);
    // The line is gone along in pages of seven.
    assert_eq!(world.migrate().await.unwrap().moved, 1);
}
