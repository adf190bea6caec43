//! The classification of callers: every row of the decision table, over HTTP.

use rstest::rstest;
use serde_json::json;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{Find, Query};
use tierkeep_engine::{AuditDecisions, OnChange};

use crate::common::{
    ACCOUNT_TOKEN, Ask, Backend, KNOWN_TOKEN, Options, SUBJECT, UNKNOWN_TOKEN, UNREACHABLE_TOKEN,
    World,
};

const SECTION: &str = "/v1/user/scan_cache";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Jwt {
    Absent,
    Expired,
    Forged,
    Valid,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Github {
    Absent,
    Invalid,
    Unreachable,
    Valid,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Absent,
    Given,
    Malformed,
}

/// What a row comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Internal,
    External,
    /// External, and credentials came along.
    Ambiguous,
    Refused(u16, &'static str),
}

const NOBODY: Outcome = Outcome::Refused(401, "credentials_required");
const AWAY: Outcome = Outcome::Refused(503, "identity_unavailable");
const MALFORMED: Outcome = Outcome::Refused(422, "invalid_username");

/// Why, where no name was given.
fn why(jwt: Jwt, github: Github) -> &'static str {
    match (jwt, github) {
        (Jwt::Absent, _) => "the JWT is missing",
        (Jwt::Expired, _) => "the JWT has expired",
        (Jwt::Forged, _) => "the JWT's signature is invalid",
        (Jwt::Valid, Github::Absent) => "the GitHub token is missing",
        (Jwt::Valid, Github::Invalid) => "GitHub rejects the GitHub token",
        (Jwt::Valid, Github::Unreachable) => "GitHub is unavailable",
        (Jwt::Valid, Github::Valid) => "the JWT and the GitHub token are valid",
    }
}

/// The table of the contract: JWT, GitHub token, and what they come to without a name and with one.
const TABLE: [(Jwt, Github, Outcome, Outcome); 16] = [
    (
        Jwt::Valid,
        Github::Valid,
        Outcome::Internal,
        Outcome::Ambiguous,
    ),
    (Jwt::Valid, Github::Unreachable, AWAY, Outcome::Ambiguous),
    (Jwt::Valid, Github::Invalid, NOBODY, Outcome::Ambiguous),
    (Jwt::Valid, Github::Absent, NOBODY, Outcome::Ambiguous),
    (Jwt::Expired, Github::Valid, NOBODY, Outcome::Ambiguous),
    (
        Jwt::Expired,
        Github::Unreachable,
        NOBODY,
        Outcome::Ambiguous,
    ),
    (Jwt::Expired, Github::Invalid, NOBODY, Outcome::Ambiguous),
    (Jwt::Expired, Github::Absent, NOBODY, Outcome::Ambiguous),
    (Jwt::Forged, Github::Valid, NOBODY, Outcome::Ambiguous),
    (Jwt::Forged, Github::Unreachable, NOBODY, Outcome::Ambiguous),
    (Jwt::Forged, Github::Invalid, NOBODY, Outcome::Ambiguous),
    (Jwt::Forged, Github::Absent, NOBODY, Outcome::Ambiguous),
    (Jwt::Absent, Github::Valid, NOBODY, Outcome::Ambiguous),
    (Jwt::Absent, Github::Unreachable, NOBODY, Outcome::Ambiguous),
    (Jwt::Absent, Github::Invalid, NOBODY, Outcome::Ambiguous),
    (Jwt::Absent, Github::Absent, NOBODY, Outcome::External),
];

fn ask(world: &World, (jwt, github, name): (Jwt, Github, Name), method: &str, path: &str) -> Ask {
    let ask = world.ask(method, path);
    let ask = match jwt {
        Jwt::Absent => ask,
        Jwt::Expired => ask.jwt(&world.expired(SUBJECT)),
        Jwt::Forged => ask.jwt(&world.forged(SUBJECT)),
        Jwt::Valid => ask.jwt(&world.token(SUBJECT, None)),
    };
    let ask = match github {
        Github::Absent => ask,
        Github::Invalid => ask.github(UNKNOWN_TOKEN),
        Github::Unreachable => ask.github(UNREACHABLE_TOKEN),
        Github::Valid => ask.github(KNOWN_TOKEN),
    };
    match name {
        Name::Absent => ask,
        Name::Given => ask.named("Srie06"),
        Name::Malformed => ask.named("a%20b"),
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_decision_table(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(false, true)] strict: bool,
) {
    let options = Options {
        strict,
        decisions: AuditDecisions::All,
        ..Options::default()
    };
    let world = World::with(backend, options).await;
    for (jwt, github, alone, named) in TABLE {
        let named = match named {
            Outcome::Ambiguous if strict => Outcome::Refused(400, "ambiguous_identity"),
            Outcome::Internal | Outcome::External | Outcome::Ambiguous | Outcome::Refused(_, _) => {
                named
            }
        };
        for (name, outcome) in [
            (Name::Absent, alone),
            (Name::Given, named),
            (Name::Malformed, MALFORMED),
        ] {
            row(&world, (jwt, github, name), outcome).await;
        }
    }
}

/// The decision and its reason, as the trail has them of the request.
async fn kept(world: &World, request_id: &str) -> [String; 2] {
    let of_request = Find::new(Query::Equal(bson::doc! { "request_id": request_id }));
    let audit = &world.stores[&Role::EvaluationAudit];
    let found = audit.find(collection::AUDIT_TRAIL, &of_request).await;
    let [entry] = &found.unwrap()[..] else {
        panic!("not one entry of {request_id}");
    };
    ["decision", "reason"].map(|name| entry.get_str(name).unwrap().to_owned())
}

async fn row(world: &World, sent: (Jwt, Github, Name), outcome: Outcome) {
    let before = world.everything().await;
    let (jwt, github, name) = sent;
    let of_row = format!("{jwt:?}-{github:?}-{name:?}");
    let [route_id, put_id] = ["route", "put"].map(|what| format!("{of_row}-{what}"));
    let route = ask(world, sent, "GET", "/v1/route");
    let route = route.header("x-request-id", &route_id).send().await;
    let put = ask(world, sent, "PUT", SECTION).header("x-request-id", &put_id);
    let put = put.json("{}").send().await;
    let decided = match outcome {
        Outcome::Internal => ["internal", why(jwt, github)],
        Outcome::External => ["external", "the request names a public user"],
        Outcome::Ambiguous => [
            "external; ambiguous",
            "the request names a public user; the credentials were ignored",
        ],
        Outcome::Refused(400, _) => [
            "refused; ambiguous",
            "the request names a public user and carries credentials",
        ],
        Outcome::Refused(422, _) => ["refused", "the user name is invalid"],
        Outcome::Refused(401, _) if (jwt, github) != (Jwt::Absent, Github::Absent) => {
            ["refused; ambiguous", why(jwt, github)]
        }
        Outcome::Refused(_, _) => ["refused", why(jwt, github)],
    };
    for request_id in [&route_id, &put_id] {
        assert_eq!(kept(world, request_id).await, decided, "{request_id}");
    }
    let (user_type, id, writes) = match outcome {
        Outcome::Internal => (
            "internal",
            format!("internal_{SUBJECT}"),
            Role::RaseenTempUser,
        ),
        Outcome::External | Outcome::Ambiguous => (
            "external",
            "external_srie06".to_owned(),
            Role::ExternalUsers,
        ),
        Outcome::Refused(status, code) => {
            let route = route.refused(status, code);
            assert_eq!(route.header("tierkeep-decision"), None, "{sent:?}");
            put.refused(status, code);
            assert_eq!(world.everything().await, before, "{sent:?}");
            return;
        }
    };
    let mark = (outcome == Outcome::Ambiguous).then_some("external; ambiguous");
    for answer in [&route, &put] {
        assert!(answer.status.is_success(), "{sent:?}: {answer:?}");
        assert_eq!(answer.header("tierkeep-decision"), mark, "{sent:?}");
    }
    let route = route.value();
    assert_eq!(
        (&route["user_type"], &route["user_id"], &route["writes"]),
        (&json!(user_type), &json!(id), &json!(writes)),
        "{sent:?}"
    );
    assert_eq!(put.value()["database"], writes.name(), "{sent:?}");
    let mut after = world.everything().await;
    let users = (writes, writes.users().unwrap());
    let control = (Role::EvaluationAudit, "control");
    assert_ne!(after.get(&users), before.get(&users), "{sent:?}");
    // The account with which an internal user came is kept beside.
    for kept in [users, control] {
        let untouched = before.get(&kept).unwrap().clone();
        after.insert(kept, untouched);
    }
    assert_eq!(after, before, "{sent:?}");
}

fn from_account(world: &World, subject: &str, account: u32) -> Ask {
    world
        .ask("GET", "/v1/route")
        .jwt(&world.token(subject, None))
        .github(&format!("{ACCOUNT_TOKEN}{account}"))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_arrives_with_another_github_account_is_refused(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let other = "60b8d295f1d2c8a7e4f3b2a1";
    from_account(&world, SUBJECT, 7).send().await.expect(200);
    from_account(&world, other, 8).send().await.expect(200);
    for _ in 0..2 {
        let refused = from_account(&world, SUBJECT, 8).send().await;
        let refused = refused.refused(401, "credentials_required");
        assert!(refused.text().contains("a different account than before"));
        from_account(&world, SUBJECT, 7).send().await.expect(200);
    }
    // The refusal is in the audit trail, with the subject of the JWT.
    let refused = Find::new(Query::Equal(
        bson::doc! { "decision": "refused; ambiguous" },
    ));
    let audit = &world.stores[&Role::EvaluationAudit];
    let found = audit.find(collection::AUDIT_TRAIL, &refused).await;
    let found = found.unwrap();
    let actor = found[0].get_str("actor").unwrap();
    assert_eq!(actor, format!("internal_{SUBJECT}"));
    // The bound account is known to a process that starts later.
    let later = World::over(&world, OnChange::Refuse).await;
    from_account(&later, SUBJECT, 8)
        .send()
        .await
        .refused(401, "credentials_required");
    // Without the database, what is known counts and others are served.
    world.faults.set_down(Role::EvaluationAudit, true);
    from_account(&world, SUBJECT, 8)
        .send()
        .await
        .refused(401, "credentials_required");
    from_account(&world, SUBJECT, 7).send().await.expect(200);
    let unknown = "70b8d295f1d2c8a7e4f3b2a1";
    from_account(&world, unknown, 9).send().await.expect(200);
}

#[tokio::test]
async fn the_account_that_the_jwt_names_outranks_the_bound_one() {
    let world = World::new(Backend::Memory).await;
    from_account(&world, SUBJECT, 7).send().await.expect(200);
    let now = world.jwt_clock.now().timestamp_millis() / 1_000;
    let naming = |account: u32| {
        let claims = json!({
            "sub": SUBJECT, "type": "access", "exp": now + 60, "github_id": account,
        });
        let header = json!({ "alg": "HS256" });
        world.ask("GET", "/v1/route").jwt(&crate::tokens::hs256(
            header,
            claims,
            crate::common::SECRET,
        ))
    };
    let token = |account: u32| format!("{ACCOUNT_TOKEN}{account}");
    naming(8).github(&token(8)).send().await.expect(200);
    for (named, owner) in [(8, 7), (7, 8)] {
        let refused = naming(named).github(&token(owner)).send().await;
        refused.refused(401, "credentials_required");
    }
    // It does not change the binding.
    from_account(&world, SUBJECT, 7).send().await.expect(200);
    from_account(&world, SUBJECT, 8).send().await.expect(401);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_arrives_with_another_github_account_is_followed_where_binding_is_off(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let options = Options {
        on_change: OnChange::Follow,
        ..Options::default()
    };
    let world = World::with(backend, options).await;
    for account in [7, 8, 7] {
        from_account(&world, SUBJECT, account)
            .send()
            .await
            .expect(200);
    }
    let bound = World::over(&world, OnChange::Refuse).await;
    from_account(&bound, SUBJECT, 8)
        .send()
        .await
        .refused(401, "credentials_required");
    from_account(&bound, SUBJECT, 7).send().await.expect(200);
    world.faults.set_down(Role::EvaluationAudit, true);
    from_account(&world, SUBJECT, 9).send().await.expect(200);
}
