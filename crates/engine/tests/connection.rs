//! Opening the seven databases.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{DateTime, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{Find, FoundCollection, Query, Store};
use tierkeep_engine::{ConnectError, ConnectionManager, Purpose, examine};
use tierkeep_testkit::fault::{Fault, Moment};
use tierkeep_testkit::{Faults, ManualClock, MemoryStore};
use tracing::Level;

use crate::logs::Logs;
use crate::world::{Backend, HOUR, NO_RETRIES, stores};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(DateTime::from_millis(1_800_000_000_000)))
}

fn seven() -> Vec<MemoryStore> {
    Role::ALL
        .into_iter()
        .map(|role| MemoryStore::new(role, role.name(), clock()))
        .collect()
}

fn manager(stores: &[MemoryStore], faults: &Faults) -> ConnectionManager {
    let stores = stores
        .iter()
        .map(|store| faults.over(Arc::new(store.clone())) as Arc<dyn Store>);
    ConnectionManager::new(stores, clock()).unwrap()
}

#[tokio::test]
async fn an_opening_stamps_every_database_once() {
    let stores = seven();
    let faults = Faults::new();
    manager(&stores, &faults)
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap();
    let stamps: Vec<_> = stores
        .iter()
        .map(|store| store.snapshot(collection::IDENTITY))
        .collect();
    assert!(stamps.iter().all(|stamp| stamp.len() == 1));
    manager(&stores, &faults)
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap();
    let again: Vec<_> = stores
        .iter()
        .map(|store| store.snapshot(collection::IDENTITY))
        .collect();
    assert_eq!(stamps, again);
}

#[tokio::test]
async fn looking_writes_nothing() {
    let stores = seven();
    manager(&stores, &Faults::new())
        .open(NO_RETRIES, Purpose::Look)
        .await
        .unwrap();
    assert!(
        stores
            .iter()
            .all(|store| store.snapshot(collection::IDENTITY).is_empty())
    );
}

#[tokio::test]
async fn a_stamp_of_another_role_is_refused_before_anything_is_written() {
    let stores = seven();
    let stamp = doc! { "_id": "tierkeep", "role": "srie_main_user", "deployment": "d" };
    stores[1].plant(
        collection::IDENTITY,
        RawDocumentBuf::try_from(&stamp).unwrap(),
    );
    let refused = manager(&stores, &Faults::new())
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap_err();
    assert!(matches!(
        refused,
        ConnectError::StampedAsOther {
            role: Role::RaseenTempUser,
            ..
        }
    ));
    assert!(
        refused.to_string().contains("RASEEN_TEMP_USER_DB_URL"),
        "{refused}"
    );
    let written = stores
        .iter()
        .filter(|store| !store.snapshot(collection::IDENTITY).is_empty())
        .count();
    assert_eq!(written, 1);
}

#[tokio::test]
async fn a_database_of_another_deployment_is_refused() {
    let stores = seven();
    let faults = Faults::new();
    manager(&stores, &faults)
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap();
    let mut mixed = seven();
    mixed[6] = stores[6].clone();
    mixed[2] = stores[2].clone();
    let other = seven();
    manager(&other, &faults)
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap();
    mixed[2] = other[2].clone();
    let refused = manager(&mixed, &faults)
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap_err();
    assert!(matches!(
        refused,
        ConnectError::OtherDeployment {
            role: Role::RaseenMainUser,
            ..
        }
    ));
}

#[tokio::test]
async fn an_empty_audit_beside_stamped_databases_is_refused_until_it_is_said_to_be_lost() {
    let mut stores = seven();
    let faults = Faults::new();
    let open = async |stores: &[MemoryStore], purpose| {
        let manager = manager(stores, &faults);
        manager.open(NO_RETRIES, purpose).await.map(|_| ())
    };
    open(&stores, Purpose::Work).await.unwrap();
    let audit = Role::ALL
        .iter()
        .position(|role| *role == Role::EvaluationAudit)
        .unwrap();
    stores[audit] = MemoryStore::new(Role::EvaluationAudit, "another", clock());
    for purpose in [Purpose::Look, Purpose::Work] {
        let refused = open(&stores, purpose).await.unwrap_err();
        assert!(matches!(refused, ConnectError::AuditLost { .. }));
        let said = refused.to_string();
        assert!(
            said.contains("EVALUATION_AUDIT_DB_URL") && said.contains("--new-audit"),
            "{said}"
        );
        assert!(stores[audit].snapshot(collection::IDENTITY).is_empty());
    }
    open(&stores, Purpose::WorkWithNewAudit).await.unwrap();
    open(&stores, Purpose::Work).await.unwrap();
    let deployments: std::collections::BTreeSet<String> = stores
        .iter()
        .flat_map(|store| store.snapshot(collection::IDENTITY))
        .map(|stamp| stamp.get_str("deployment").unwrap().to_owned())
        .collect();
    assert_eq!(deployments.len(), 1);
}

#[tokio::test]
async fn a_database_that_was_emptied_is_warned_of_when_it_is_stamped_anew() {
    let logs = Logs::collected();
    let mut stores = seven();
    let faults = Faults::new();
    let databases = manager(&stores, &faults);
    let opened = databases.open(NO_RETRIES, Purpose::Work).await;
    opened.unwrap();
    let warned = |role: Role| {
        let parts = [role.name(), "emptied"];
        let lines = logs.taken();
        lines.iter().any(|line| line.says(Level::WARN, &parts))
    };
    assert!(!warned(Role::RaseenMainUser));

    let main = stores
        .iter()
        .position(|store| store.role() == Role::RaseenMainUser)
        .unwrap();
    stores[main] = MemoryStore::new(Role::RaseenMainUser, "raseen_main_user", clock());
    let databases = manager(&stores, &faults);
    let opened = databases.open(NO_RETRIES, Purpose::Work).await;
    opened.unwrap();
    assert!(warned(Role::RaseenMainUser));
}

#[tokio::test]
async fn damage_and_dangerous_options_are_findings_of_the_doctor() {
    let stores = seven();
    let databases = manager(&stores, &Faults::new());
    let opened = databases.open(NO_RETRIES, Purpose::Work).await;
    opened.unwrap();
    stores[1].plant_damage("3 documents do not match their checksums");
    let users = stores[1].role().users().unwrap();
    stores[1].plant_collection(FoundCollection {
        capped: true,
        ..FoundCollection::plain(users)
    });
    let all: Vec<Arc<dyn Store>> = stores
        .iter()
        .map(|store| Arc::new(store.clone()) as Arc<dyn Store>)
        .collect();
    let clock: Arc<dyn Clock> = clock();
    let examined = examine(&all, &clock).await;
    for (check, part) in [("damage", "3 documents"), ("options", "capped")] {
        let found = examined.findings.iter().find(|it| it.check == check);
        let found = found.unwrap_or_else(|| panic!("{:?}", examined.findings));
        assert_eq!(found.database, Some(stores[1].role()));
        assert!(found.message.contains(part), "{found:?}");
    }
}

#[tokio::test]
async fn a_ttl_index_on_a_user_collection_is_refused_with_its_remedy() {
    let stores = seven();
    stores[1].plant_ttl_index("internal_users", "created_at_1");
    let refused = manager(&stores, &Faults::new())
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap_err();
    let message = refused.to_string();
    assert!(
        message.contains("created_at_1") && message.contains("dropIndex"),
        "{message}"
    );
    assert!(
        stores
            .iter()
            .all(|store| store.snapshot(collection::IDENTITY).is_empty())
    );
}

#[tokio::test]
async fn an_option_by_which_a_server_deletes_or_confuses_documents_is_refused_with_its_remedy() {
    let users = seven()[1].role().users().unwrap();
    let plain = || FoundCollection::plain(users);
    let capped = FoundCollection {
        capped: true,
        ..plain()
    };
    let expires = FoundCollection {
        expires: true,
        ..plain()
    };
    let collation = FoundCollection {
        collation: Some("en".to_owned()),
        ..plain()
    };
    for (planted, parts) in [
        (capped, ["capped", "createCollection"]),
        (expires, ["expireAfterSeconds", "collMod"]),
        (collation, ["collation \"en\"", "createCollection"]),
    ] {
        let stores = seven();
        stores[1].plant_collection(planted);
        let opened = manager(&stores, &Faults::new())
            .open(NO_RETRIES, Purpose::Work)
            .await;
        let message = opened.unwrap_err().to_string();
        let role = stores[1].role();
        assert!(message.contains(role.name()), "{message}");
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
        assert!(
            stores
                .iter()
                .all(|store| store.snapshot(collection::IDENTITY).is_empty())
        );
    }
}

#[tokio::test]
async fn every_database_that_is_away_is_named_where_a_critical_one_is() {
    let stores = seven();
    let faults = Faults::new();
    let faults_of = [
        Role::RaseenTempUser,
        Role::EvaluationAudit,
        Role::SrieMainUser,
    ];
    for role in faults_of {
        faults.set_down(role, true);
    }
    let refused = manager(&stores, &faults)
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap_err();
    let message = refused.to_string();
    for role in Role::ALL {
        let is_away = faults_of.contains(&role);
        assert_eq!(message.contains(role.name()), is_away, "{message}");
    }
}

#[tokio::test]
async fn a_database_that_was_away_stays_shut_until_it_is_checked() {
    let stores = seven();
    let faults = Faults::new();
    faults.set_down(Role::SrieMainUser, true);
    let manager = manager(&stores, &faults);
    let opened = manager.open(NO_RETRIES, Purpose::Work).await.unwrap();
    assert_eq!(opened.away, [Role::SrieMainUser]);
    faults.heal();
    let srie = manager.store(Role::SrieMainUser).unwrap();
    let all = Find::new(Query::All);
    assert!(srie.find("internal_users", &all).await.is_err());
    assert_eq!(healed(&manager).await, [(Role::SrieMainUser, true)]);
    assert!(srie.find("internal_users", &all).await.is_ok());
    assert_eq!(stores[4].snapshot(collection::IDENTITY).len(), 1);
}

/// The clock is paused, and jumps ahead only when all tasks wait for it: a wait for a call that has no timeout never
/// ends.
#[tokio::test(start_paused = true)]
async fn an_admission_that_stands_still_holds_up_another_for_a_time_only() {
    let stores = seven();
    let faults = Faults::new();
    faults.set_down(Role::SrieMainUser, true);
    let manager = Arc::new(manager(&stores, &faults));
    manager.open(NO_RETRIES, Purpose::Work).await.unwrap();
    faults.heal();
    let hold = faults.hold(
        Fault::nth(1, Moment::Before)
            .of("find")
            .to(Role::SrieMainUser),
    );
    let first = Arc::clone(&manager);
    let first = tokio::spawn(async move { healed(&first).await });
    hold.reached().await;

    let second = Arc::clone(&manager);
    let second = tokio::spawn(async move { healed(&second).await });
    for _ in 0..1_000 {
        if second.is_finished() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(second.is_finished());
    assert_eq!(second.await.unwrap(), []);
    hold.release();
    assert_eq!(first.await.unwrap(), [(Role::SrieMainUser, true)]);
    assert!(manager.away().is_empty());
}

/// What was tried, and whether it was let in.
async fn healed(manager: &ConnectionManager) -> Vec<(Role, bool)> {
    let tried = manager.heal().await.into_iter();
    tried
        .map(|(role, outcome)| (role, outcome.is_ok()))
        .collect()
}

#[tokio::test]
async fn a_database_that_comes_back_wrong_keeps_no_other_out() {
    let stores = seven();
    let faults = Faults::new();
    for role in [Role::RaseenMainHr, Role::SrieMainUser] {
        faults.set_down(role, true);
    }
    let manager = manager(&stores, &faults);
    manager.open(NO_RETRIES, Purpose::Work).await.unwrap();
    let stamp =
        bson::rawdoc! { "_id": "tierkeep", "role": "srie_main_hr", "deployment": "another" };
    let hr = stores
        .iter()
        .find(|store| store.role() == Role::RaseenMainHr);
    let planted = hr.unwrap().insert(collection::IDENTITY, &[stamp]).await;
    assert_eq!(planted.unwrap(), [tierkeep_core::store::Inserted::Stored]);
    faults.heal();
    assert_eq!(
        healed(&manager).await,
        [(Role::RaseenMainHr, false), (Role::SrieMainUser, true)]
    );
    assert_eq!(manager.away(), [Role::RaseenMainHr]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_far_apart_are_found(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let (stores, clock, _guard) = stores(backend).await;
    let here: Arc<dyn Clock> = clock;
    let found = examine(&stores, &here).await;
    let checks: Vec<&str> = found.findings.iter().map(|finding| finding.check).collect();
    assert_eq!(checks, ["stamps"], "nothing but that they are new");
    let wrong: Arc<dyn Clock> = Arc::new(ManualClock::new(tierkeep_core::clock::before(
        here.now(),
        HOUR,
    )));
    let found = examine(&stores, &wrong).await;
    let off: Vec<_> = found
        .findings
        .iter()
        .filter(|it| it.check == "clock")
        .collect();
    assert_eq!(off.len(), Role::ALL.len());
    assert!(
        off.iter()
            .all(|finding| finding.message.contains("ahead of"))
    );
}
