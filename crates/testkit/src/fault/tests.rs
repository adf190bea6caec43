//! Faults strike when and as often as planned.

use tierkeep_core::store::Verdict;

use super::*;
use crate::documents::native_user;
use crate::{ManualClock, MemoryStore};

fn faulty() -> (MemoryStore, Arc<FaultStore>, Faults) {
    let clock = Arc::new(ManualClock::default());
    let memory = MemoryStore::new(Role::RaseenTempUser, "memory", clock);
    let faults = Faults::new();
    let store = faults.over(Arc::new(memory.clone()));
    (memory, store, faults)
}

fn users(numbers: std::ops::Range<u32>) -> Vec<RawDocumentBuf> {
    numbers.map(|n| native_user(n, 1).build()).collect()
}

#[tokio::test]
async fn a_fault_before_a_call_has_no_effect_and_one_after_it_has() {
    let (memory, store, faults) = faulty();
    faults.plan(Fault::nth(1, Moment::Before).of("insert"));
    faults.plan(Fault::nth(2, Moment::After).of("insert"));
    store.hello().await.unwrap();

    let lost = store.insert("c", &users(0..1)).await.unwrap_err();
    assert_eq!((lost.class, lost.operation), (Class::Refused, "insert"));
    assert_eq!(memory.snapshot("c"), []);

    let lost = store.insert("c", &users(0..1)).await.unwrap_err();
    assert_eq!(
        (lost.class, lost.verdict()),
        (Class::Timeout, Verdict::Retry)
    );
    assert_eq!(memory.snapshot("c"), users(0..1));

    assert_eq!(
        store.insert("c", &users(0..1)).await.unwrap(),
        [Inserted::Exists]
    );
    assert_eq!((faults.count(), faults.count_of("insert")), (4, 3));
}

#[tokio::test]
async fn a_fault_midway_has_half_of_its_effect() {
    let (memory, store, faults) = faulty();
    faults.plan(Fault::nth(1, Moment::Midway));
    assert!(store.insert("c", &users(0..4)).await.is_err());
    assert_eq!(memory.snapshot("c"), users(0..2));
}

#[tokio::test]
async fn a_database_that_is_down_refuses_until_it_is_back() {
    let (memory, store, faults) = faulty();
    faults.set_down(Role::SrieMainUser, true);
    assert!(store.hello().await.is_ok());
    faults.set_down(Role::RaseenTempUser, true);
    for _ in 0..3 {
        let refused = store.insert("c", &users(0..1)).await.unwrap_err();
        assert_eq!(refused.class, Class::Refused);
    }
    assert_eq!(memory.snapshot("c"), []);
    faults.set_down(Role::RaseenTempUser, false);
    assert!(store.insert("c", &users(0..1)).await.is_ok());
}

#[tokio::test]
async fn after_a_crash_nothing_arrives_until_it_is_healed() {
    let (memory, store, faults) = faulty();
    faults.crash_after(2);
    assert!(store.insert("c", &users(0..1)).await.is_ok());
    assert!(!faults.has_crashed());
    assert!(store.insert("c", &users(1..2)).await.is_ok());
    assert!(faults.has_crashed());
    let dead = store.insert("c", &users(2..3)).await.unwrap_err();
    assert_eq!(dead.verdict(), Verdict::Defer);
    assert!(store.hello().await.is_err());
    assert_eq!(memory.snapshot("c"), users(0..2));
    faults.heal();
    assert!(store.hello().await.is_ok());
    let hello = Call {
        database: Role::RaseenTempUser,
        operation: "hello",
    };
    assert_eq!(faults.calls().last(), Some(&hello));
}

#[tokio::test]
async fn a_call_that_is_held_waits_until_it_is_let_go() {
    let (memory, store, faults) = faulty();
    let hold = faults.hold(Fault::nth(2, Moment::Before).of("insert"));
    store.insert("c", &users(0..1)).await.unwrap();
    let held = tokio::spawn(async move { store.insert("c", &users(1..2)).await });
    hold.reached().await;
    assert_eq!(memory.snapshot("c"), users(0..1));
    hold.release();
    assert_eq!(held.await.unwrap().unwrap(), [Inserted::Stored]);
    assert_eq!(memory.snapshot("c"), users(0..2));
}

#[tokio::test]
async fn a_fault_strikes_as_often_as_planned_and_as_what_was_planned() {
    let (_, store, faults) = faulty();
    let fault = Fault::nth(2, Moment::Before).of("count").times(2);
    faults.plan(fault.to(Role::RaseenTempUser).class(Class::DiskFull, 14031));
    let mut failed = Vec::new();
    for _ in 0..5 {
        let outcome = store.count("c", &Query::All).await;
        failed.push(outcome.is_err_and(|e| (e.class, e.code) == (Class::DiskFull, 14031)));
    }
    assert_eq!(failed, [false, true, true, false, false]);
}
