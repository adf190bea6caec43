//! Random calls have the same outcome on SQLite and in memory, and leave the same documents.

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tierkeep_core::bson::raw::{RawBson, RawDocumentBuf};
use tierkeep_core::bson::{Bson, DateTime, Document, doc};
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, State, field};
use tierkeep_core::store::{
    Change, CollectionLayout, Cursor, Fence, Find, Guard, IndexLayout, Layout, Query, Store,
    StoreError, id_order,
};
use tierkeep_core::user::Section;
use tierkeep_core::version::{Version, Window};
use tierkeep_sqlite::SqliteStore;
use tierkeep_testkit::documents::{arb_section, native_user};
use tierkeep_testkit::{ManualClock, MemoryStore};

const USERS: &str = "internal_users";
const NUMBERS: std::ops::Range<u32> = 0..6;

#[derive(Clone, Debug)]
enum Call {
    Insert(Vec<RawDocumentBuf>),
    Put(Vec<RawDocumentBuf>),
    Write(Bson, Guard, Change),
    Delete(Vec<Fence>),
    Amend(Bson, Document, Document),
    Find(Find),
}

fn id(n: u32) -> Bson {
    native_user(n, 1).id().into()
}

fn version() -> std::ops::Range<i64> {
    1..5_i64
}

/// A user's document in any state, sometimes with odd fields, and with a unique one that may clash.
fn user() -> impl Strategy<Value = RawDocumentBuf> {
    let odd = prop_oneof![
        6 => Just(None),
        1 => Just(Some((field::STAGED_AT, RawBson::Null))),
        1 => Just(Some((field::STAGED_AT, RawBson::from("2026-01-01")))),
        1 => Just(Some((field::VERSION, RawBson::Double(2.0)))),
        1 => Just(Some((field::STATE, RawBson::from("frozen")))),
    ];
    let state = prop_oneof![
        4 => Just(State::Live),
        1 => Just(State::Entering),
        1 => Just(State::Erased),
    ];
    let slot = 0..40_i32;
    (
        NUMBERS,
        version(),
        state,
        odd,
        0..9_i64,
        slot,
        arb_section(),
    )
        .prop_map(|(n, version, state, odd, staged, slot, content)| {
            let at = DateTime::from_millis(staged);
            let mut user = native_user(n, version).dated(at).content(content);
            user = match state {
                State::Entering => user.entering("nonce", at),
                State::Live | State::Erased => user.state(state),
            };
            if let Some((name, value)) = odd {
                user = user.set_meta(name, value);
            }
            user.set("slot", slot)
                .set("status", format!("s{}", slot % 3))
                .build()
        })
}

fn guard() -> impl Strategy<Value = Guard> {
    let versions = version().prop_map(|number| Version::new(number).expect("above 0"));
    prop_oneof![
        3 => (versions.clone(), 1..9_usize, "[a-c]").prop_map(|(from, width, unless_op)| {
            let window = Window::from(from, width);
            Guard::Live { window, unless_op }
        }),
        1 => Just(Guard::Entry { nonce: "nonce".into() }),
        1 => versions.clone().prop_map(Guard::Tombstone),
        1 => versions.prop_map(Guard::Older),
        1 => user().prop_map(Guard::Whole),
        1 => "s[0-2]".prop_map(|status| Guard::Fields(doc! { "status": status })),
    ]
}

fn change(n: u32) -> impl Strategy<Value = Change> {
    let replacement = user().prop_map(move |user| {
        let replaced = document::Edit::new().set(field::ID, native_user(n, 1).id());
        Change::Replace(replaced.apply(&user))
    });
    prop_oneof![
        3 => (proptest::option::of(arb_section()), "[a-c]").prop_map(|(value, op)| {
            Change::Section { section: Section::parse("scan_cache").expect("a name"), value, op }
        }),
        1 => any::<bool>().prop_map(|created| Change::Confirm { created }),
        1 => Just(Change::Admit { staged_at: DateTime::from_millis(7) }),
        1 => replacement,
        1 => Just(Change::Remove),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        Just(Query::All),
        vec(NUMBERS.prop_map(id), 0..4).prop_map(Query::Ids),
        vec(NUMBERS, 0..4).prop_map(|numbers| {
            Query::Users(
                numbers
                    .iter()
                    .map(|n| native_user(*n, 1).id().to_owned())
                    .collect(),
            )
        }),
        (0..9_i64).prop_map(|ms| Query::Due(DateTime::from_millis(ms))),
        (0..9_i64).prop_map(|ms| Query::Staged(DateTime::from_millis(ms))),
        Just(Query::Unstaged),
        "s[0-2]".prop_map(|status| Query::Equal(doc! { "status": status })),
        Just(Query::Equal(doc! { "metadata.state": "erased" })),
        Just(Query::Equal(
            doc! { "metadata.state": "live", "metadata.backup_status": "pending" }
        )),
        (0..40_i32).prop_map(|slot| Query::Equal(doc! { "slot": slot })),
    ]
}

fn find() -> impl Strategy<Value = Find> {
    let after = (NUMBERS, 0..9_i64).prop_map(|(n, ms)| Cursor {
        staged_at: DateTime::from_millis(ms).into(),
        id: id(n),
    });
    (
        query(),
        proptest::option::of(after),
        1..8_usize,
        1..3_000_usize,
    )
        .prop_map(|(query, after, limit, max_bytes)| {
            // Pages of this query differ in their order between stores.
            let whole = query == Query::Unstaged;
            let find = Find::new(query);
            if whole {
                find
            } else {
                find.after(after).limit(limit).max_bytes(max_bytes)
            }
        })
}

fn call() -> impl Strategy<Value = Call> {
    let versions = (version(), vec(NUMBERS.prop_map(id), 0..4)).prop_map(|(version, ids)| {
        let version = Version::new(version).expect("above 0");
        Fence::Version { version, ids }
    });
    let fence = prop_oneof![3 => versions, 1 => user().prop_map(Fence::Whole)];
    let amend = (NUMBERS, "s[0-2]", 0..40_i32).prop_map(|(n, status, slot)| {
        Call::Amend(
            id(n),
            doc! { "status": status },
            doc! { "slot": slot, "metadata.mark": slot },
        )
    });
    prop_oneof![
        2 => vec(user(), 1..4).prop_map(Call::Insert),
        2 => vec(user(), 1..4).prop_map(Call::Put),
        3 => NUMBERS.prop_flat_map(|n| {
            (Just(id(n)), guard(), change(n)).prop_map(|(id, g, c)| Call::Write(id, g, c))
        }),
        1 => vec(fence, 0..3).prop_map(Call::Delete),
        1 => amend,
        2 => find().prop_map(Call::Find),
    ]
}

/// What a call came to, as text that is equal only for equal outcomes.
async fn outcome(store: &dyn Store, call: &Call) -> String {
    fn text<T: std::fmt::Debug>(outcome: &Result<T, StoreError>) -> String {
        format!("{outcome:?}")
    }
    match call {
        Call::Insert(documents) => text(&store.insert(USERS, documents).await),
        Call::Put(documents) => text(&store.put_newer(USERS, documents).await),
        Call::Write(id, guard, change) => text(&store.write(USERS, id, guard, change).await),
        Call::Delete(fences) => text(&store.delete(USERS, fences).await),
        Call::Amend(id, when, set) => text(
            &store
                .amend(USERS, std::slice::from_ref(id), when, set)
                .await,
        ),
        Call::Find(find) => {
            let count = store.count(USERS, &find.query).await;
            let mut found = store.find(USERS, find).await;
            if let (Query::Unstaged, Ok(found)) = (&find.query, &mut found) {
                found.sort_by_key(|stored| id_order(&document::id(stored)));
            }
            text(&count) + &text(&found)
        }
    }
}

fn layout() -> Layout {
    Layout {
        collections: vec![CollectionLayout {
            name: USERS.to_owned(),
            indexes: vec![IndexLayout::over(&["slot"]).unique()],
            keeps_out: None,
        }],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn sqlite_and_memory_agree(calls in vec(call(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(ManualClock::default());
        let role = Role::RaseenTempUser;
        let path = directory.path().join("a.db");
        let sqlite = SqliteStore::open(&path, role, Arc::clone(&clock) as Arc<dyn Clock>);
        let sqlite = sqlite.expect("the file opens");
        let memory = MemoryStore::new(role, "memory", Arc::clone(&clock) as Arc<dyn Clock>);
        runtime.block_on(async {
            sqlite.prepare(&layout()).await.expect("prepare succeeds");
            memory.prepare(&layout()).await.expect("prepare succeeds");
            for call in &calls {
                clock.advance(Duration::from_millis(1));
                let (on_disk, in_memory) = (outcome(&sqlite, call).await, outcome(&memory, call).await);
                prop_assert_eq!(on_disk, in_memory, "{:?}", call);
                let all = sqlite.find(USERS, &Find::new(Query::All)).await.expect("find succeeds");
                prop_assert_eq!(all, memory.snapshot(USERS));
            }
            Ok(())
        })?;
    }
}
