//! What users see while a database is unavailable, on the built binary: on servers that are killed, suspended or fail
//! over, and on a full disk. Each row says what they see, and nothing that was acknowledged is lost.

mod answers;
mod callers;
mod full_disk;
mod of_a_shard;
#[expect(dead_code, reason = "the engine's tests use the rest of it")]
#[path = "../../../../engine/tests/cluster/servers.rs"]
pub mod servers;
mod skew;

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tierkeep_core::db::Role;
use tokio::time::{Instant, sleep};

use self::callers::{Callers, Seen, User};
use self::servers::{ReplicaSet, free_ports};
use super::program::{Backend, Deployment, github};

/// How soon health must name what is away, and forget it.
const SOON: Duration = Duration::from_secs(10);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_mins(2);
const INTERVAL: Duration = Duration::from_millis(100);

impl Callers {
    async fn row(&self, role: Role) -> Value {
        let (_, row) = self.look(&format!("/health/databases/{role}")).await;
        row
    }

    /// Waits until health says this of a database; it must within ten seconds. One that is up is called again too: a
    /// connection that broke with the server may show itself, and open the breaker, after the first answer.
    async fn until(&self, role: Role, status: &str) {
        let began = Instant::now();
        loop {
            let row = self.row(role).await;
            if row["status"] == status && (status == "down" || row["breaker"] == "closed") {
                return;
            }
            assert!(began.elapsed() <= SOON, "{role} is not {status}: {row}");
            sleep(INTERVAL).await;
        }
    }

    /// What health says as a whole.
    async fn ready(&self) -> (u16, String) {
        let (status, ready) = self.look("/health/ready").await;
        (status, ready["status"].as_str().unwrap().to_owned())
    }

    /// Waits until both users are served again.
    async fn until_served(&self, at: &str) {
        let began = Instant::now();
        for user in [User::Internal(0), User::External(0)] {
            while self.write(user, "again").await != Seen::Done {
                assert!(began.elapsed() <= PATIENCE, "{at}: {user:?} is not served");
                sleep(INTERVAL).await;
            }
        }
    }
}

/// The databases of srie on one set, all others on another.
fn backed_up_apart(main: &ReplicaSet, srie: &ReplicaSet, options: &str) -> Deployment {
    let deployment = Deployment::new(Backend::Mongo);
    Role::ALL.into_iter().fold(deployment, |deployment, role| {
        let set = match role {
            Role::SrieMainUser | Role::SrieMainHr => srie,
            Role::ExternalUsers
            | Role::RaseenTempUser
            | Role::RaseenMainUser
            | Role::RaseenMainHr
            | Role::EvaluationAudit => main,
        };
        deployment.with(role.url_variable(), &set.url(role.name(), options))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_is_named_within_ten_seconds_and_cleared_within_ten_of_its_return()
 {
    let ports: [u16; 7] = free_ports();
    let sets = Role::ALL.into_iter().zip(ports);
    let sets = sets.map(async |(role, port)| (role, ReplicaSet::start(role.name(), &[port]).await));
    let mut sets = join_all(sets).await;
    let github = github().await;
    let mut deployment = Deployment::new(Backend::Mongo).with("GITHUB_API_URL", &github.uri());
    for (role, set) in &sets {
        let url = set.url(role.name(), "appName=outage");
        deployment = deployment.with(role.url_variable(), &url);
    }
    let service = deployment.serve();
    let callers = Callers::of(&service);
    callers.until_served("at the start").await;
    for (role, set) in &mut sets {
        let role = *role;
        set.kill(0);
        callers.until(role, "down").await;
        let row = callers.row(role).await;
        let error = row["error"].as_str().unwrap();
        assert!(
            ["no_server", "refused", "timeout"].contains(&error),
            "{row}"
        );
        for other in Role::ALL.into_iter().filter(|other| *other != role) {
            assert_eq!(
                callers.row(other).await["status"],
                "up",
                "{other} beside {role}"
            );
        }
        // Users served by another database are not affected; the others get a 503 with `Retry-After`.
        let internal = callers.write(User::Internal(0), "w").await;
        let external = callers.write(User::External(0), "w").await;
        let seen = match role {
            Role::RaseenTempUser => (Seen::Later, Seen::Done),
            Role::ExternalUsers => (Seen::Done, Seen::Later),
            Role::RaseenMainUser
            | Role::RaseenMainHr
            | Role::SrieMainUser
            | Role::SrieMainHr
            | Role::EvaluationAudit => (Seen::Done, Seen::Done),
        };
        assert_eq!((internal, external), seen, "{role} is away");
        // One that is away takes the service out of no load balancer.
        let (status, word) = callers.ready().await;
        assert_eq!((status, word.as_str()), (200, "degraded"), "{role} is away");

        set.heal().await;
        callers.until(role, "up").await;
        callers.until_served(&format!("{role} is back")).await;
        callers.until(role, "up").await;
    }
    assert_eq!(callers.ready().await, (200, "ok".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_hand_over_die_or_stand_still_cost_no_acknowledged_write() {
    let mut main = ReplicaSet::start("main", &free_ports::<3>()).await;
    let github = github().await;
    let deployment = backed_up_apart(&main, &main, "heartbeatFrequencyMS=500");
    let deployment = deployment.with("GITHUB_API_URL", &github.uri());
    let service = deployment.serve();
    let callers = Callers::of(&service);
    callers.until_served("at the start").await;
    let writers = callers.writers(1..=3);
    writers.more("in calm").await;

    // While there is no primary: served, or asked to come again.
    main.step_down(1).await;
    writers.more("after a step-down").await;
    let primary = main.primary().await;
    main.kill(primary);
    writers.more("after the primary died").await;
    main.heal().await;
    let primary = main.primary().await;
    main.freeze(primary);
    writers.more("while the primary stands still").await;
    main.heal().await;
    callers.until_served("the cluster is whole").await;
    writers.lost_nothing().await;
}

/// All other databases are on one server, so that no request is refused during an election.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_stands_still_is_noticed_by_no_user() {
    let ports: [u16; 2] = free_ports();
    let (main, srie) = tokio::join!(
        ReplicaSet::start("main", &ports[..1]),
        ReplicaSet::start("srie", &ports[1..])
    );
    let github = github().await;
    let deployment = backed_up_apart(&main, &srie, "heartbeatFrequencyMS=500");
    let deployment = deployment.with("GITHUB_API_URL", &github.uri());
    let service = deployment.serve();
    let callers = Callers::of(&service);
    callers.until_served("at the start").await;
    let writers = callers.writers(1..=3);
    writers.more("in calm").await;

    srie.freeze(0);
    callers.until(Role::SrieMainUser, "down").await;
    writers.more("while srie stands still").await;
    srie.thaw(0);
    callers.until(Role::SrieMainUser, "up").await;
    assert_eq!(writers.refused(), 0, "srie stood still and users noticed");
    writers.lost_nothing().await;
}

/// Of two services on the same databases one has its backup and the other lost it. Both write at the same time, so
/// that whatever else the machine does slows both.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_backup_a_service_takes_writes_as_fast_as_with_it() {
    let ports: [u16; 3] = free_ports();
    let (main, srie, mut lost) = tokio::join!(
        ReplicaSet::start("main", &ports[..1]),
        ReplicaSet::start("srie", &ports[1..2]),
        ReplicaSet::start("lost", &ports[2..])
    );
    let github = github().await;
    let serve = |srie: &ReplicaSet| {
        let deployment = backed_up_apart(&main, srie, "heartbeatFrequencyMS=500");
        deployment.with("GITHUB_API_URL", &github.uri()).serve()
    };
    let services = [serve(&srie), serve(&lost)];
    let [with, without] = services.each_ref().map(Callers::of);
    for callers in [&with, &without] {
        callers.until_served("at the start").await;
    }
    let (calm, degraded) = (with.writers(1..=3), without.writers(4..=6));
    tokio::join!(calm.more("in calm"), degraded.more("in calm"));

    lost.kill(0);
    for role in [Role::SrieMainUser, Role::SrieMainHr] {
        without.until(role, "down").await;
        assert_eq!(with.row(role).await["status"], "up", "{role}");
    }
    assert_eq!(without.ready().await, (200, "degraded".to_owned()));
    let refused = degraded.refused();
    let (with_it, without_it) = tokio::join!(calm.median("with"), degraded.median("without"));
    assert_eq!(degraded.refused(), refused, "srie is away and users notice");
    assert!(
        without_it <= with_it.mul_f64(1.5),
        "{without_it:?} without srie, {with_it:?} with it"
    );

    lost.heal().await;
    for role in [Role::SrieMainUser, Role::SrieMainHr] {
        without.until(role, "up").await;
    }
    calm.lost_nothing().await;
    degraded.lost_nothing().await;
}
