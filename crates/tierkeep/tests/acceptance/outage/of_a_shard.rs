//! A sharded cluster from nothing to running by the operators' page, and the outage of one shard: named by health, status
//! and doctor, while users whose documents lie on the other are served.

use std::collections::BTreeSet;

use bson::{Document, rawdoc};
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_sharded::ShardedCluster;
use tokio::time::{Instant, sleep};

use super::super::program::github;
use super::super::sharded::{behind, shard_as_documented};
use super::callers::{Callers, Seen, User};
use super::{INTERVAL, PATIENCE, SOON};

const USERS: u8 = 12;

/// The databases whose documents are spread over the shards.
const SPREAD: [Role; 5] = [
    Role::ExternalUsers,
    Role::RaseenTempUser,
    Role::RaseenMainUser,
    Role::SrieMainUser,
    Role::EvaluationAudit,
];

/// The numbers of the users whose documents in temp lie on the first shard.
async fn on_first(cluster: &ShardedCluster) -> BTreeSet<u8> {
    let all = rawdoc! { "find": "internal_users", "projection": { "_id": 1 }, "batchSize": 1_000 };
    let found = cluster.ask_shard("s0", "raseen_temp_user", &all).await;
    let found = Document::try_from(&*found.unwrap()).unwrap();
    let found = found.get_document("cursor").unwrap();
    let found = found.get_array("firstBatch").unwrap().iter();
    let number = |id: &str| u8::from_str_radix(&id[id.len() - 2..], 16).unwrap();
    let ids = found.map(|it| number(it.as_document().unwrap().get_str("_id").unwrap()));
    ids.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_one_shard_is_named_and_users_on_the_other_are_served() {
    let cluster = ShardedCluster::start(2).unwrap();
    shard_as_documented(&cluster).await;
    // It has no collection that is spread; what a database has so lies on the shard on which it is made.
    let made = rawdoc! { "enableSharding": "raseen_main_hr" };
    cluster.ask("admin", &made).await.unwrap();
    let github = github().await;
    let deployment = behind(&cluster).with("GITHUB_API_URL", &github.uri());
    let prepared = deployment.run(&["init"]);
    assert!(prepared.status.success(), "{prepared:?}");
    let doctor = deployment.run(&["doctor", "--json"]);
    let found: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let findings = found["findings"].as_array().unwrap();
    let is_grave = |it: &&Value| it["severity"] != "note";
    assert!(!findings.iter().any(|it| is_grave(&it)), "{found:#}");
    let service = deployment.serve();
    let callers = Callers::of(&service);
    for n in 0..USERS {
        for user in [User::Internal(n), User::External(n)] {
            assert_eq!(callers.write(user, "w").await, Seen::Done, "{user:?}");
        }
    }
    let first = on_first(&cluster).await;
    let (here, there): (Vec<u8>, Vec<u8>) = (0..USERS).partition(|n| first.contains(n));
    assert!(!here.is_empty() && !there.is_empty(), "{here:?} {there:?}");

    cluster.kill("s1").unwrap();
    for role in SPREAD {
        callers.until(role, "down").await;
        let row = callers.row(role).await;
        assert_eq!(
            (&row["error"], &row["breaker"]),
            (&"shard_away".into(), &"closed".into())
        );
    }
    callers.until(Role::RaseenMainHr, "up").await;
    let (code, ready) = callers.look("/health/ready").await;
    assert_eq!(
        (code, &ready["status"]),
        (200, &"degraded".into()),
        "{ready}"
    );
    let reasons = ready["reasons"].to_string();
    assert!(
        reasons.contains("a shard of raseen_temp_user is unavailable"),
        "{reasons}"
    );
    for n in &here {
        let began = Instant::now();
        let user = User::Internal(*n);
        assert_eq!(callers.write(user, "while away").await, Seen::Done, "{n}");
        callers.read(user).await;
        assert!(began.elapsed() < SOON, "{n}: {:?}", began.elapsed());
    }
    let away = User::Internal(there[0]);
    let refused = callers.clone();
    let refused = tokio::spawn(async move { refused.write(away, "while away").await });
    let (status, doctor) = std::thread::scope(|scope| {
        let status = scope.spawn(|| deployment.run(&["status", "-o", "text"]));
        let doctor = scope.spawn(|| deployment.run(&["doctor", "-o", "text"]));
        (status.join().unwrap(), doctor.join().unwrap())
    });
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.status.code(), Some(3), "{said}");
    assert!(said.contains("not the shard s1"), "{said}");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot reach the shard s1"), "{said}");
    assert_eq!(refused.await.unwrap(), Seen::Later);
    // A restart makes the outage no larger.
    let restarted = deployment.serve();
    let since = Callers::of(&restarted);
    for n in &here {
        since.read(User::Internal(*n)).await;
        assert_eq!(since.write(User::Internal(*n), "since").await, Seen::Done);
    }
    drop(restarted);

    cluster.start_again("s1").unwrap();
    let began = Instant::now();
    for role in SPREAD {
        while callers.row(role).await["status"] != "up" {
            assert!(began.elapsed() < PATIENCE, "{role} is not up");
            sleep(INTERVAL).await;
        }
    }
    for n in 0..USERS {
        for user in [User::Internal(n), User::External(n)] {
            assert_eq!(callers.write(user, "again").await, Seen::Done, "{user:?}");
        }
    }
    assert_eq!(callers.ready().await, (200, "ok".to_owned()));
}
