//! HR records: a service that is killed while it writes one, and while it delivers pending ones to the backup.

use std::time::Duration;

use bson::raw::RawDocumentBuf;
use reqwest::{Method, StatusCode};
use rstest::rstest;
use serde_json::json;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, State};
use tierkeep_core::hr::{self, BackupStatus};
use tierkeep_identity::RoleClaim;

use super::super::program::{Backend, Deployment, Service, token_of};
use super::{Call, Trace, doom, service_killed, spare};

const COLLECTION: &str = "hr_candidates";
const SUBJECT: &str = "507f1f77bcf86cd799439011";
/// So long that it does not come up while a call is traced.
const NEVER: &str = "1h";
const OFTEN: &str = "20ms";
/// How long delivery may take, and how often is looked.
const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(20);

/// What a request does to a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Write {
    Create,
    Replace,
    Patch,
    Remove,
}

impl Write {
    /// What readers must find before and after it.
    fn outcomes(self) -> (Option<i32>, Option<i32>) {
        match self {
            Self::Create => (None, Some(2)),
            Self::Replace | Self::Patch => (Some(1), Some(2)),
            Self::Remove => (Some(1), None),
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Create | Self::Replace => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Remove => Method::DELETE,
        }
    }
}

async fn send(service: &Service, method: Method, id: &str, n: i32) -> reqwest::Result<StatusCode> {
    let url = service.url(&format!("/v1/hr/{COLLECTION}/{id}"));
    let ask = reqwest::Client::new()
        .request(method.clone(), url)
        .bearer_auth(token_of(SUBJECT, Some(RoleClaim::Hr)));
    let ask = if method == Method::DELETE {
        ask
    } else {
        ask.json(&json!({ "n": n }))
    };
    Ok(ask.send().await?.status())
}

async fn copy(deployment: &Deployment, role: Role, id: &str) -> Option<RawDocumentBuf> {
    let mut all = deployment.all(role, COLLECTION).await.into_iter();
    all.find(|record| record.get_str("_id").is_ok_and(|it| it == id))
}

/// The `n` that a reader finds in main, whose record is sound.
async fn n_of(deployment: &Deployment, id: &str) -> Option<i32> {
    let record = copy(deployment, Role::RaseenMainHr, id).await?;
    assert!(hr::is_sound(&record), "{record:?}");
    let live = document::state(&record) == Some(State::Live);
    live.then(|| record.get_i32("n").unwrap())
}

/// Waits until nothing is pending and both hold the same.
async fn delivered(deployment: &Deployment, at: &str) {
    let mut waited = Duration::ZERO;
    loop {
        let main = deployment.all(Role::RaseenMainHr, COLLECTION).await;
        let srie = deployment.all(Role::SrieMainHr, COLLECTION).await;
        let completed = main
            .iter()
            .all(|record| BackupStatus::of(record) == Some(BackupStatus::Completed));
        if completed && main == srie {
            return;
        }
        assert!(waited < PATIENCE, "{at}: not delivered: {main:?} {srie:?}");
        tokio::time::sleep(INTERVAL).await;
        waited += INTERVAL;
    }
}

/// The points at which a call to a database of HR records may end.
fn points(calls: &[Call]) -> Vec<String> {
    let ours = calls
        .iter()
        .filter(|call| call.writes() && call.name.ends_with(&format!(" {COLLECTION}")));
    ours.flat_map(Call::points).collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_while_a_record_is_written_leaves_the_old_or_the_new_and_its_backup_follows(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Write::Create, Write::Replace, Write::Patch, Write::Remove)] write: Write,
) {
    let mut deployment = Deployment::new(backend).with("TIERKEEP_RECONCILE_INTERVAL", NEVER);
    deployment.json(&["init", "--json"]);
    let plant = async |service: &Service, id: &str| {
        if write != Write::Create {
            let status = send(service, Method::PUT, id, 1).await.unwrap();
            assert_eq!(status, StatusCode::CREATED);
        }
    };
    let mut healthy = deployment.serve();
    plant(&healthy, "r0").await;
    healthy.kill();
    let trace = Trace::begin(&mut deployment);
    let mut service = deployment.serve();
    assert!(
        send(&service, write.method(), "r0", 2)
            .await
            .unwrap()
            .is_success()
    );
    service.kill();
    let points = points(&trace.end(&mut deployment));
    for step in ["raseen_main_hr", "srie_main_hr"] {
        assert!(
            points.iter().any(|point| point.starts_with(step)),
            "no {step} among {points:#?}"
        );
    }
    let (before, after) = write.outcomes();
    for (round, point) in (1..).zip(points) {
        let id = format!("r{round}");
        let mut healthy = deployment.serve();
        plant(&healthy, &id).await;
        healthy.kill();
        doom(&mut deployment, &point);
        let mut service = deployment.serve();
        send(&service, write.method(), &id, 2).await.unwrap_err();
        service_killed(&mut service, &point).await;
        spare(&mut deployment);
        let found = n_of(&deployment, &id).await;
        assert!(found == before || found == after, "{point}: {found:?}");
        let often = deployment
            .environment
            .insert("TIERKEEP_RECONCILE_INTERVAL".into(), OFTEN.into());
        let mut reconciling = deployment.serve();
        delivered(&deployment, &point).await;
        assert_eq!(n_of(&deployment, &id).await, found, "{point}");
        // As the caller repeats it.
        let status = send(&reconciling, write.method(), &id, 2).await.unwrap();
        let gone = write == Write::Remove && found.is_none();
        assert!(
            status.is_success() || (gone && status == StatusCode::NOT_FOUND),
            "{point}: {status}"
        );
        assert_eq!(n_of(&deployment, &id).await, after, "{point}");
        delivered(&deployment, &point).await;
        reconciling.kill();
        let name = "TIERKEEP_RECONCILE_INTERVAL".to_owned();
        deployment.environment.insert(name, often.unwrap());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_while_it_delivers_what_is_pending_is_followed_by_one_that_delivers_it_once(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut deployment = Deployment::new(backend).with("TIERKEEP_RECONCILE_INTERVAL", NEVER);
    deployment.json(&["init", "--json"]);
    let set = |deployment: &mut Deployment, interval: &str| {
        let name = "TIERKEEP_RECONCILE_INTERVAL".to_owned();
        deployment.environment.insert(name, interval.to_owned());
    };
    // A record, a second version and a deletion that srie does not have: as if it had been away.
    let plant = async |deployment: &Deployment, round: u32| {
        let mut service = deployment.serve();
        let ids = ["new", "changed", "gone"].map(|kind| format!("{kind}{round}"));
        for id in &ids {
            send(&service, Method::PUT, id, 1).await.unwrap();
        }
        let old: Vec<_> = deployment.all(Role::SrieMainHr, COLLECTION).await;
        send(&service, Method::PUT, &ids[1], 2).await.unwrap();
        send(&service, Method::DELETE, &ids[2], 0).await.unwrap();
        service.kill();
        undeliver(deployment, &ids, &old).await;
        ids
    };
    plant(&deployment, 0).await;
    set(&mut deployment, OFTEN);
    let trace = Trace::begin(&mut deployment);
    let mut service = deployment.serve();
    delivered(&deployment, "without a crash").await;
    service.kill();
    let points = points(&trace.end(&mut deployment));
    for step in [
        "srie_main_hr insert",
        "srie_main_hr write",
        "raseen_main_hr amend",
    ] {
        assert!(
            points.iter().any(|point| point.starts_with(step)),
            "no {step} among {points:#?}"
        );
    }
    for (round, point) in (1..).zip(points) {
        set(&mut deployment, NEVER);
        let ids = plant(&deployment, round).await;
        set(&mut deployment, OFTEN);
        doom(&mut deployment, &point);
        let mut service = deployment.serve_unheard();
        service_killed(&mut service, &point).await;
        spare(&mut deployment);
        let mut next = deployment.serve();
        delivered(&deployment, &point).await;
        next.kill();
        let found = [
            n_of(&deployment, &ids[0]).await,
            n_of(&deployment, &ids[1]).await,
            n_of(&deployment, &ids[2]).await,
        ];
        assert_eq!(found, [Some(1), Some(2), None], "{point}");
    }
}

/// Takes back from srie what it was given, and marks it in main.
async fn undeliver(deployment: &Deployment, ids: &[String; 3], old: &[RawDocumentBuf]) {
    use tierkeep_core::document::Edit;
    use tierkeep_core::store::{Change, Guard};
    let main = deployment.open(Role::RaseenMainHr).await;
    let srie = deployment.open(Role::SrieMainHr).await;
    let whatever = Guard::Fields(bson::doc! {});
    for id in ids {
        let key = bson::Bson::String(id.clone());
        let record = copy(deployment, Role::RaseenMainHr, id).await.unwrap();
        let pending = Edit::new().set_meta("backup_status", "pending");
        let marked = Change::Replace(pending.apply(&record));
        main.write(COLLECTION, &key, &whatever, &marked)
            .await
            .unwrap();
        let before = old.iter().find(|record| {
            record.get_str("_id").is_ok_and(|it| it == id) && !id.starts_with("new")
        });
        let change = before.map_or(Change::Remove, |it| Change::Replace(it.clone()));
        srie.write(COLLECTION, &key, &whatever, &change)
            .await
            .unwrap();
    }
}
