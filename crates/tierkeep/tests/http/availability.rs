//! The answers to callers while a database is unavailable, slow or not open yet.

use std::time::Duration;

use axum::body::Body;
use rstest::rstest;
use tierkeep::http::Limits;
use tierkeep_core::db::Role;
use tierkeep_core::store::Class;
use tierkeep_engine::OnChange;
use tierkeep_testkit::fault::{Fault, Moment};

use crate::common::{Backend, Options, World};

const SECTION: &str = "/v1/user/scan_cache";

#[rstest]
#[tokio::test]
async fn nothing_is_assumed_while_a_database_is_away(
    #[values(Role::RaseenTempUser, Role::RaseenMainUser)] away: Role,
    #[values("GET", "PUT", "PATCH", "DELETE")] method: &str,
) {
    let world = World::new(Backend::Memory).await;
    // Which GitHub account a user has is known from the first request on.
    world.internal("GET", "/v1/route").send().await.expect(200);
    let before = world.everything().await;
    world.faults.set_down(away, true);
    let ask = world.internal(method, SECTION);
    let ask = if matches!(method, "PUT" | "PATCH") {
        ask.json("{}")
    } else {
        ask
    };
    let answer = ask.send().await.refused(503, "database_unavailable");
    assert!(answer.header("retry-after").is_some());
    assert!(answer.text().contains(away.name()), "{answer:?}");
    world.faults.heal();
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn external_users_need_their_own_database_alone() {
    let world = World::new(Backend::Memory).await;
    for role in Role::ALL {
        world.faults.set_down(role, role != Role::ExternalUsers);
    }
    world
        .external("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    world.external("GET", SECTION).send().await.expect(200);
    world.faults.set_down(Role::ExternalUsers, true);
    let answer = world.external("PUT", SECTION).json("{}").send().await;
    answer.refused(503, "database_unavailable");
}

#[tokio::test]
async fn internal_users_need_no_backup() {
    let world = World::new(Backend::Memory).await;
    world.faults.set_down(Role::SrieMainUser, true);
    world
        .internal("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    world.internal("GET", SECTION).send().await.expect(200);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_says_that_its_outcome_may_be_either() {
    let world = World::new(Backend::Memory).await;
    let lost = Fault::nth(1, Moment::After)
        .to(Role::ExternalUsers)
        .class(Class::Other, 1)
        .of("insert");
    world.faults.plan(lost);
    let answer = world.external("PUT", SECTION).json("{}").send().await;
    let answer = answer.refused(503, "database_unavailable");
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn requests_before_the_databases_are_open_are_asked_to_come_again() {
    let options = Options {
        closed: true,
        ..Options::default()
    };
    let world = World::with(Backend::Memory, options).await;
    for ask in [
        world.internal("PUT", SECTION),
        world.external("PUT", SECTION),
    ] {
        let answer = ask.json("{}").send().await;
        answer.refused(503, "database_unavailable");
    }
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let limits = Limits {
        body_timeout: Duration::from_millis(20),
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    let world = World::with(Backend::Memory, options).await;
    let silent = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let ask = world
        .external("PUT", SECTION)
        .json(Body::from_stream(silent));
    ask.send().await.refused(408, "request_timeout");
    assert_eq!(world.count(Role::ExternalUsers).await, 0);
}

#[rstest]
#[tokio::test]
async fn a_comparison_of_accounts_that_hangs_is_not_waited_for(
    #[values(OnChange::Refuse, OnChange::Follow)] on_change: OnChange,
) {
    let options = Options {
        on_change,
        ..Options::default()
    };
    let world = World::with(Backend::Memory, options).await;
    for nth in 1..100 {
        let call = Fault::nth(nth, Moment::Before).to(Role::EvaluationAudit);
        world.faults.hold(call);
    }
    let asked = world.internal("GET", "/v1/route").send();
    let answer = tokio::time::timeout(Duration::from_secs(10), asked).await;
    answer.expect("an answer in time").expect(200);
}

#[rstest]
#[case("GET", "database_unavailable")]
#[case("PUT", "outcome_unknown")]
#[tokio::test]
async fn no_request_takes_longer_than_it_may(#[case] method: &str, #[case] code: &str) {
    let limits = Limits {
        request_timeout: Duration::ZERO,
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    let world = World::with(Backend::Memory, options).await;
    // GitHub is asked over a real connection, which takes some time.
    let answer = world.internal(method, SECTION).json("{}").send().await;
    let answer = answer.refused(503, code);
    assert!(answer.header("retry-after").is_some());
}

#[rstest]
#[case(Role::ExternalUsers, 200, 503)]
#[case(Role::RaseenTempUser, 503, 200)]
#[case(Role::RaseenMainUser, 200, 200)]
#[case(Role::RaseenMainHr, 200, 200)]
#[case(Role::SrieMainUser, 200, 200)]
#[case(Role::SrieMainHr, 200, 200)]
#[case(Role::EvaluationAudit, 200, 200)]
#[tokio::test]
async fn while_a_database_is_away_users_whose_documents_are_elsewhere_notice_nothing(
    #[case] away: Role,
    #[case] internal: u16,
    #[case] external: u16,
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let asks = |method| {
        [
            (world.internal(method, SECTION), internal),
            (world.external(method, SECTION), external),
        ]
    };
    for (ask, _) in asks("PUT") {
        ask.json("{}").send().await.expect(201);
    }
    world.faults.set_down(away, true);
    for method in ["GET", "PUT", "PATCH"] {
        for (ask, status) in asks(method) {
            let ask = if method == "GET" { ask } else { ask.json("{}") };
            let answer = ask.send().await.expect(status);
            assert_eq!(
                answer.header("retry-after").is_some(),
                status == 503,
                "{method}"
            );
        }
    }
    world.faults.heal();
    for (ask, _) in asks("GET") {
        ask.send().await.expect(200);
    }
}
