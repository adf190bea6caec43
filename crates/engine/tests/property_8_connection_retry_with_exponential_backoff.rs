//! Property 8 of the mission: for any database connection failure, connecting is retried with exponential backoff
//! until it succeeds or the maximum number of retries is reached.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::DateTime;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, Store};
use tierkeep_engine::{
    ConnectError, ConnectSettings, ConnectionManager, Engine, Purpose, Randomness,
};
use tierkeep_testkit::fault::{Fault, Moment};
use tierkeep_testkit::{Faults, ManualClock, MemoryStore};
use tokio::time::Instant;
use tracing::Level;

use crate::logs::Logs;
use crate::scale;

const CASES: u32 = 256;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

const CLASSES: &[Class] = &[Class::Timeout, Class::Refused, Class::NoServer, Class::Auth];

/// One case: a database that does not answer `failures` times, and how patiently it is tried again.
#[derive(Clone, Debug)]
struct Plan {
    role: Role,
    failures: u32,
    class: Class,
    retries: u32,
    backoff: Duration,
    /// Drawn one after the other, for each wait.
    fractions: Vec<f64>,
}

fn plans() -> impl Strategy<Value = Plan> {
    let backoff = prop_oneof![Just(0), Just(200), 1..30_000_u64].prop_map(Duration::from_millis);
    let fraction = prop_oneof![Just(0.0), Just(0.999_999), 0.0..1.0_f64];
    (
        select(Role::ALL.to_vec()),
        0..14_u32,
        select(CLASSES),
        0..12_u32,
        backoff,
        vec(fraction, 14),
    )
        .prop_map(
            |(role, failures, class, retries, backoff, fractions)| Plan {
                role,
                failures,
                class,
                retries,
                backoff,
                fractions,
            },
        )
}

/// Draws what a plan says.
#[derive(Debug)]
struct Drawn {
    fractions: Mutex<VecDeque<f64>>,
    ids: AtomicU32,
}

impl Randomness for Drawn {
    fn unique(&self) -> [u8; 12] {
        let n = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut unique = [0; 12];
        unique[..4].copy_from_slice(&n.to_be_bytes());
        unique
    }

    fn fraction(&self) -> f64 {
        self.fractions.lock().unwrap().pop_front().unwrap_or(0.5)
    }
}

#[test]
fn connecting_is_retried_with_exponential_backoff_until_it_succeeds_or_retries_are_used_up() {
    let config = Config {
        cases: scale::cases(CASES),
        failure_persistence: None,
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let logs = Logs::collected();
    let (came_back, stayed_away) = (Cell::new(0), Cell::new(0));
    TestRunner::new(config)
        .run(&plans(), |plan| {
            runtime.block_on(holds(&plan, &logs))?;
            if plan.failures > plan.retries {
                stayed_away.set(stayed_away.get() + 1);
            } else if plan.failures > 0 {
                came_back.set(came_back.get() + 1);
            }
            Ok(())
        })
        .unwrap();
    assert!(
        came_back.get() > 20 && stayed_away.get() > 20,
        "{came_back:?} {stayed_away:?}"
    );
}

async fn holds(plan: &Plan, logs: &Logs) -> Result<(), TestCaseError> {
    let clock = Arc::new(ManualClock::new(DateTime::from_millis(1_800_000_000_000)));
    let faults = Faults::new();
    let stores = Role::ALL.map(|role| {
        let store = MemoryStore::new(role, role.name(), Arc::clone(&clock) as _);
        faults.over(Arc::new(store)) as Arc<dyn Store>
    });
    let drawn = Drawn {
        fractions: Mutex::new(plan.fractions.clone().into()),
        ids: AtomicU32::new(0),
    };
    let engine = Engine::new(
        ConnectionManager::new(stores, clock)
            .unwrap()
            .with_randomness(Arc::new(drawn)),
    );
    if plan.failures > 0 {
        let away = Fault::nth(1, Moment::Before)
            .to(plan.role)
            .of("hello")
            .class(plan.class, 0)
            .times(u64::from(plan.failures));
        faults.plan(away);
    }
    let settings = ConnectSettings {
        retries: plan.retries,
        backoff: plan.backoff,
    };
    logs.taken();
    let began = Instant::now();
    let opened = engine.databases().open(settings, Purpose::Work).await;
    let took = began.elapsed();

    let retried = plan.failures.min(plan.retries);
    let hellos = faults
        .calls()
        .into_iter()
        .filter(|call| (call.database, call.operation) == (plan.role, "hello"));
    prop_assert_eq!(
        hellos.count(),
        retried as usize + 1,
        "one attempt, and one for each retry"
    );
    prop_assert_eq!(
        engine.databases().connect_retries().of(plan.role),
        u64::from(retried)
    );

    // Each wait is drawn from everything up to the backoff, which doubles up to ten seconds.
    let waits = (0..retried).map(|n| {
        let whole = plan.backoff.saturating_mul(1 << n).min(LONGEST_WAIT);
        whole.mul_f64(plan.fractions[n as usize])
    });
    let waited: Duration = waits.sum();
    // Time moves in whole milliseconds.
    let latest = waited + Duration::from_millis(u64::from(retried) * 2);
    prop_assert!(
        took >= waited && took <= latest,
        "{took:?} is not {waited:?}"
    );

    match opened {
        Ok(opened) => {
            let away: &[Role] = if plan.failures > plan.retries {
                &[plan.role]
            } else {
                &[]
            };
            prop_assert_eq!(&opened.away, away);
            prop_assert!(away.is_empty() || !plan.role.critical());
        }
        Err(ConnectError::Unreachable(errors)) => {
            prop_assert!(plan.role.critical() && plan.failures > plan.retries);
            let named: Vec<_> = errors
                .iter()
                .map(|unreached| (unreached.role(), unreached.error.class))
                .collect();
            prop_assert_eq!(named, vec![(plan.role, plan.class)]);
        }
        Err(other) => prop_assert!(false, "{}", other),
    }

    let lines = logs.taken();
    let retries: Vec<_> = lines
        .iter()
        .filter(|line| line.text.contains("attempt"))
        .collect();
    prop_assert_eq!(
        retries.len(),
        retried as usize,
        "one warning for each retry"
    );
    for (n, line) in (1..).zip(retries) {
        let user_type = format!("user_type={}", plan.role.user_type());
        let parts = [
            &format!("attempt {n} of {}", plan.retries),
            &format!("database={}", plan.role),
            &format!("error={}", plan.class.as_str()),
            &user_type,
        ];
        let parts = parts.map(String::as_str);
        prop_assert!(line.says(Level::WARN, &parts), "{:?}", line);
    }
    Ok(())
}
