//! Restoring what main lost.

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::compare::vouched;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document::{self, Location, State};
use tierkeep_core::store::{Change, Guard, Inserted};
use tierkeep_testkit::documents::native_user;

use super::super::program::{Backend, Deployment};
use super::{Call, Trace, doom, killed, spare};

const RESTORE: [&str; 3] = ["restore", "--all", "--json"];

/// What must be in main once everything is restored.
struct Lost {
    main: Vec<RawDocumentBuf>,
    erased: String,
}

fn copy(n: u32, version: i64) -> RawDocumentBuf {
    vouched(&native_user(n, version).at(Location::Main).build())
}

fn id(n: u32) -> String {
    format!("internal_{n:024x}")
}

async fn insert(deployment: &Deployment, role: Role, documents: &[RawDocumentBuf]) {
    let store = deployment.open(role).await;
    let outcomes = store.insert("internal_users", documents).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Inserted::Stored));
}

async fn remove(deployment: &Deployment, role: Role, collection: &str, id: &str) {
    let store = deployment.open(role).await;
    let whatever = Guard::Fields(doc! {});
    let id = Bson::String(id.to_owned());
    let removed = store.write(collection, &id, &whatever, &Change::Remove);
    removed.await.unwrap();
}

/// Users in srie that main lacks, holds older and holds newer, one who was erased, and a main without its stamp.
async fn lose(deployment: &Deployment, round: u32) -> Lost {
    let base = round * 8;
    let erased = id(base + 4);
    insert(deployment, Role::SrieMainUser, &[copy(base + 4, 2)]).await;
    assert!(deployment.run(&["erase", &erased]).status.success());
    for role in [
        Role::RaseenTempUser,
        Role::RaseenMainUser,
        Role::SrieMainUser,
    ] {
        remove(deployment, role, "internal_users", &erased).await;
    }
    let backed_up: Vec<_> = (0..5).map(|n| copy(base + n, 2)).collect();
    insert(deployment, Role::SrieMainUser, &backed_up).await;
    let (older, newer) = (copy(base + 1, 1), copy(base + 2, 3));
    insert(deployment, Role::RaseenMainUser, &[older, newer.clone()]).await;
    remove(
        deployment,
        Role::RaseenMainUser,
        collection::IDENTITY,
        "tierkeep",
    )
    .await;
    let mut main = backed_up[..4].to_vec();
    main[2] = newer;
    Lost { main, erased }
}

async fn check(deployment: &Deployment, lost: &Lost, at: &str) {
    let main = deployment.users(Role::RaseenMainUser).await;
    for document in &lost.main {
        assert!(main.contains(document), "{at}: {document:?} is not back");
    }
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        let live = deployment.users(role).await.into_iter().any(|document| {
            document::user_id(&document) == Some(&lost.erased)
                && document::state(&document) == Some(State::Live)
        });
        assert!(
            !live || role == Role::SrieMainUser,
            "{at}: the erased user is back"
        );
    }
    let stamps = deployment.all(Role::RaseenMainUser, collection::IDENTITY);
    assert_eq!(stamps.await.len(), 1, "{at}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_killed_at_any_point_is_ended_by_the_next(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut deployment = Deployment::new(backend);
    deployment.json(&["init", "--json"]);
    // What is made once for good is there before calls are counted.
    lose(&deployment, 0).await;
    deployment.json(&RESTORE);
    let lost = lose(&deployment, 1).await;
    let trace = Trace::begin(&mut deployment);
    let restored = deployment.json(&RESTORE);
    let calls = trace.end(&mut deployment);
    assert_eq!(restored["restored"], 3, "{restored}");
    assert_eq!(restored["newer_in_main"], 2, "{restored}");
    check(&deployment, &lost, "without a crash").await;
    let points: Vec<String> = calls.iter().flat_map(Call::points).collect();
    for step in [
        "raseen_main_user insert tierkeep_identity",
        "raseen_main_user insert internal_users",
        "raseen_main_user put_newer internal_users",
    ] {
        assert!(
            points.iter().any(|point| point.starts_with(step)),
            "no {step} among {points:#?}"
        );
    }
    for (round, point) in (2..).zip(points) {
        let lost = lose(&deployment, round).await;
        doom(&mut deployment, &point);
        killed(deployment.command(&RESTORE), &point);
        spare(&mut deployment);
        let main = deployment.users(Role::RaseenMainUser).await;
        assert!(
            main.contains(&lost.main[2]),
            "{point}: a newer document is gone"
        );
        deployment.json(&RESTORE);
        check(&deployment, &lost, &point).await;
    }
}
