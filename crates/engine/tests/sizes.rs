//! Documents at the limits of what a database stores, and nested as deep as it allows: each moves or stays whole, and
//! does not delay other documents.

use bson::raw::RawDocumentBuf;
use bson::rawdoc;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, MAX_DOCUMENT_BYTES};
use tierkeep_testkit::documents::native_user;

use crate::world::{Backend, DAY, HOUR, World};

/// What MongoDB stores at most.
const STORED_MAX_BYTES: usize = 16 * 1024 * 1024;
/// How deep it lets documents be nested is 180, with the document itself and the array that carries it to the server.
const LEVELS: usize = 170;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_outgrows_a_database_while_it_moves_stays_and_holds_nothing_up(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let old = world.ago(DAY + HOUR).await;
    let with =
        |n: u32, content: RawDocumentBuf| native_user(n, 1).dated(old).content(content).build();
    let sized = |n: u32, bytes: usize| {
        let rest = bytes - with(n, rawdoc! { "text": "" }).as_bytes().len();
        let document = with(n, rawdoc! { "text": "x".repeat(rest) });
        assert_eq!(document.as_bytes().len(), bytes);
        document
    };
    let nested = (0..LEVELS).fold(rawdoc! { "leaf": 1 }, |inner, _| rawdoc! { "in": inner });
    let fit = [
        sized(3, MAX_DOCUMENT_BYTES),
        with(4, nested),
        native_user(5, 1).dated(old).build(),
    ];
    let too_large = [sized(1, STORED_MAX_BYTES), sized(2, STORED_MAX_BYTES - 1)];
    for document in too_large.iter().chain(&fit) {
        world.plant(Role::RaseenTempUser, document.clone()).await;
    }

    let run = world.migrate().await.unwrap();
    assert_eq!((run.moved, run.failed), (3, 2), "{run:?}");
    // As often as is tried.
    for _ in 0..4 {
        world.migrate().await.unwrap();
    }
    assert_eq!(world.all(Role::RaseenTempUser).await.len(), 2);
    for stays in &too_large {
        let found = world.all(Role::RaseenTempUser).await;
        assert!(found.iter().any(|it| Digest::of(it) == Digest::of(stays)));
    }
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        let found = world.all(role).await;
        assert_eq!(found.len(), fit.len(), "{role}");
        for moved in &fit {
            assert!(
                found.iter().any(|it| Digest::of(it) == Digest::of(moved)),
                "{role}"
            );
        }
    }
    let records = world.records().await;
    let failed = records
        .iter()
        .filter(|it| it.get_str("status").ok() == Some("failed"));
    let failed: Vec<_> = failed.collect();
    assert_eq!(failed.len(), 2, "{records:?}");
    for record in failed {
        assert!(!record.get_str("error").unwrap().is_empty(), "{record:?}");
        assert!(document::user_id(record).is_some());
    }
}
