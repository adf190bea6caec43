//! Property 3 of the mission: for any data that has been in temporary storage for its retention, migrating it
//! results in the data appearing in both main and srie while being removed from temp.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit};
use tierkeep_core::store::{Find, Query};
use tierkeep_engine::{Condition, RunOptions};
use tierkeep_testkit::documents::{SeedUser, arb_section};

use crate::scale;
use crate::world::{Backend, DAY, World, section, user};

const CASES: u32 = 256;

/// How a document came into temp.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// Through tierkeep.
    Own,
    /// By another program, with BSON dates.
    Foreign,
    /// By another program, with naive texts for dates.
    ForeignNaive,
}

/// One document of a case: where it came from, how far before or after its time it is, its content, and
/// whether its user was moved once before.
type Plan = (Origin, i32, RawDocumentBuf, bool);

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let origin = prop_oneof![
        Just(Origin::Own),
        Just(Origin::Foreign),
        Just(Origin::ForeignNaive)
    ];
    let minutes = prop_oneof![Just(-2), Just(2), -2_000..2_000_i32];
    vec((origin, minutes, arb_section(), any::<bool>()), 1..6)
}

async fn plant(world: &World, n: u32, plan: &Plan) -> String {
    let (origin, minutes, content, moved_before) = plan;
    let minutes_by = Duration::from_secs(60 * u64::from(minutes.unsigned_abs()));
    let at = if *minutes < 0 {
        world.ago(DAY.saturating_sub(minutes_by)).await
    } else {
        world.ago(DAY + minutes_by).await
    };
    let seed = match origin {
        Origin::Own => {
            let user = user(n);
            let put = |condition| world.users.put(&user, &SECTION, content.clone(), condition);
            put(Condition::None).await.unwrap();
            if *moved_before {
                world.date_back(&user, DAY + DAY).await;
                let only = RunOptions {
                    user: Some(user.clone()),
                    ..RunOptions::default()
                };
                world.migrate_with(only).await.unwrap();
                put(Condition::None).await.unwrap();
            }
            let ago = world.now().await.saturating_duration_since(at);
            world.date_back(&user, ago).await;
            return user.to_string();
        }
        Origin::Foreign => SeedUser::new(n, at),
        Origin::ForeignNaive => SeedUser::new(n, at).naive_dates(),
    };
    let document = Edit::new()
        .set("scan_cache", content.clone())
        .apply(&seed.build());
    world.plant(Role::RaseenTempUser, document).await;
    seed.user_id()
}

static SECTION: std::sync::LazyLock<tierkeep_core::user::Section> =
    std::sync::LazyLock::new(section);

async fn copies(world: &World, role: Role, user: &str) -> Vec<RawDocumentBuf> {
    let find = Find::new(Query::Users(vec![user.to_owned()]));
    world
        .store(role)
        .find("internal_users", &find)
        .await
        .unwrap()
}

async fn holds(world: &World, first: u32, plans: &[Plan]) -> Result<(), TestCaseError> {
    let mut users = BTreeMap::new();
    for (n, plan) in (first..).zip(plans) {
        users.insert(plant(world, n, plan).await, plan);
    }
    let before = world.now().await;
    world.migrate().await.unwrap();
    let after = world.now().await;
    for (user, (_, _, content, _)) in users {
        let temp = copies(world, Role::RaseenTempUser, &user).await;
        let main = copies(world, Role::RaseenMainUser, &user).await;
        let srie = copies(world, Role::SrieMainUser, &user).await;
        if let [staged] = temp.as_slice() {
            let at = document::staged_at(staged).unwrap_or_else(|| created(staged));
            prop_assert!(clock::after(at, DAY) > before, "{user} was due and stayed");
            prop_assert_eq!(staged.get_document("scan_cache").unwrap(), content.as_ref());
            continue;
        }
        prop_assert_eq!((temp.len(), main.len(), srie.len()), (0, 1, 1), "{}", user);
        prop_assert_eq!(&main, &srie);
        let copy = &main[0];
        prop_assert_eq!(copy.get_document("scan_cache").unwrap(), content.as_ref());
        prop_assert_eq!(Digest::claimed_by(copy), Some(Digest::of(copy)));
        let staged = document::staged_at(copy).unwrap();
        prop_assert!(
            clock::after(staged, DAY) <= after,
            "{user} moved before its time"
        );
        prop_assert_eq!(copy.get_str("data_location").unwrap(), "main");
    }
    Ok(())
}

fn created(document: &RawDocumentBuf) -> bson::DateTime {
    let value = document.get("created_at").unwrap().unwrap();
    tierkeep_core::adopt::date(&bson::Bson::try_from(value).unwrap()).unwrap()
}

#[rstest]
fn what_has_been_in_temp_for_its_retention_is_in_main_and_srie_and_nowhere_else(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::new(backend));
    let mut runner = TestRunner::new(Config {
        cases: scale::cases(CASES),
        max_shrink_iters: 64,
        ..Config::default()
    });
    let next = std::cell::Cell::new(1_u32);
    runner
        .run(&plans(), |plans| {
            let first = next.get();
            next.set(first + 10);
            runtime.block_on(holds(&world, first, &plans))
        })
        .unwrap();
    runtime.block_on(world.check_invariants());
}
