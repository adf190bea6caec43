//! `kill -9` of an import, again and again: the result is that of a single run.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use serde_json::Value;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Query, Store};
use tierkeep_testkit::legacy::FORMS;

use super::super::kill::{Call, Trace, doom, full, killed, spare, was_killed};
use super::super::program::{Backend, Deployment};
use super::{Predecessor, import, stored};

const IMPORT: [&str; 2] = ["import-legacy", "--json"];
/// How often is looked how far an import has come.
const INTERVAL: Duration = Duration::from_millis(1);

/// How much there is to import, and how often that is ended.
struct Scale {
    people: u32,
    size: usize,
    kills: u64,
}

/// About 1,000 documents; 20,000 where everything is tried that takes long.
fn scale() -> Scale {
    if full() {
        Scale {
            people: 7_420,
            size: 2_000,
            kills: 10,
        }
    } else {
        Scale {
            people: 370,
            size: 20_000,
            kills: 4,
        }
    }
}

/// How many users' documents the databases hold.
struct Held(Vec<(Role, Arc<dyn Store>)>);

impl Held {
    async fn of(deployment: &Deployment) -> Self {
        let mut stores = Vec::new();
        for role in Role::ALL.into_iter().filter(|role| role.users().is_some()) {
            stores.push((role, deployment.open(role).await));
        }
        Self(stores)
    }

    async fn count(&self) -> u64 {
        let mut count = 0;
        for (role, store) in &self.0 {
            let users = role.users().unwrap();
            count += store.count(users, &Query::All).await.unwrap();
        }
        count
    }

    /// `kill -9` as soon as there are this many.
    async fn kill_at(&self, mut import: Child, count: u64) {
        while self.count().await < count {
            let ended = import.try_wait().unwrap();
            assert!(ended.is_none(), "it ended before {count}: {ended:?}");
            tokio::time::sleep(INTERVAL).await;
        }
        import.kill().unwrap();
        let ended = import.wait().unwrap();
        assert!(was_killed(ended), "it ended before {count}: {ended}");
    }
}

/// A report without what differs from run to run.
fn settled(mut report: Value) -> Value {
    report["elapsed_ms"] = Value::Null;
    report
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_again_and_again_ends_as_one_run(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let scale = scale();
    let (source, _) = Predecessor::of_people(scale.people, scale.size).await;
    let before = source.everything().await;
    let once = source.deployment(backend);
    let expected = settled(import(&once, &[]));
    let all = Held::of(&once).await.count().await;

    let often = source.deployment(backend);
    assert!(often.run(&["init"]).status.success());
    let held = Held::of(&often).await;
    for kill in 1..=scale.kills {
        let mut command = often.command(&IMPORT);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let import = command.spawn().unwrap();
        held.kill_at(import, all * kill / (scale.kills + 1)).await;
    }
    assert_eq!(settled(import(&often, &[])), expected);
    assert_eq!(stored(&often).await, stored(&once).await);
    let found = often.json(&["verify-import", "--json"]);
    assert_eq!(found["checked"], found["matched"], "{found}");
    assert_eq!(source.everything().await, before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_import_killed_at_any_call_that_writes_is_ended_by_the_next(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let (source, _) = Predecessor::of_people(FORMS, 300).await;
    let mut once = source.deployment(backend);
    assert!(once.run(&["init"]).status.success());
    let trace = Trace::begin(&mut once);
    let expected = settled(import(&once, &[]));
    let calls = trace.end(&mut once);
    let result = stored(&once).await;
    for wanted in [
        "external_users insert external_users",
        "raseen_temp_user insert internal_users",
        "raseen_temp_user write internal_users",
        "srie_main_user insert internal_users",
        "raseen_main_user insert internal_users",
        "raseen_main_hr insert hr_users",
        "srie_main_hr insert hr_users",
    ] {
        let is_made = calls.iter().any(|call| call.name == wanted);
        assert!(is_made, "no {wanted} among {calls:#?}");
    }
    let mut seen = BTreeSet::new();
    // The first call of each kind that stores something; all of them where everything is tried that takes long.
    let stores = |call: &&Call| call.writes() && !call.name.starts_with("evaluation_audit");
    let calls = calls.iter().filter(|call| stores(call) || full());
    let calls = calls.filter(|call| seen.insert(call.name.clone()) || full());
    for point in calls.flat_map(Call::points) {
        let mut deployment = source.deployment(backend);
        assert!(deployment.run(&["init"]).status.success());
        doom(&mut deployment, &point);
        killed(deployment.command(&IMPORT), &point);
        spare(&mut deployment);
        assert_eq!(settled(import(&deployment, &[])), expected, "{point}");
        assert_eq!(stored(&deployment).await, result, "{point}");
    }
}
