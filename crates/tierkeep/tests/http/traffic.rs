//! Rate limits, and that no caller uses up the allowance of another.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use rstest::rstest;
use tierkeep_core::db::Role;
use tierkeep_testkit::fault::{Fault, Moment};

use crate::common::{
    ACCOUNT_TOKEN, Ask, Backend, HOUR, LIMITED_TOKEN, MADE_UP_TOKEN, Options, Public, SUBJECT,
    UNREACHABLE_TOKEN, World,
};

const SECTION: &str = "/v1/user/scan_cache";
const USUAL: Public = Public {
    rate: 2,
    burst: 4,
    new_users: 2,
    concurrency: 2,
    writes: true,
};

async fn world(public: Public) -> World {
    world_on(Backend::Memory, public).await
}

async fn world_on(backend: Backend, public: Public) -> World {
    let options = Options {
        public: Some(public),
        ..Options::default()
    };
    World::with(backend, options).await
}

fn from(ask: Ask, address: &str) -> Ask {
    ask.header("x-forwarded-for", address)
}

#[tokio::test]
async fn a_flood_from_one_address_does_not_block_other_addresses() {
    let world = world(USUAL).await;
    let ask = |n: u32, address: &str| {
        let ask = world.ask("GET", "/v1/route").named(&format!("user{n}"));
        from(ask, address).send()
    };
    for n in 0..4 {
        let answer = ask(n, "192.0.2.1").await.expect(200);
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"public\";q=4;w=2")
        );
        let left = format!("\"public\";r={};t={}", 3 - n, (n + 1).div_ceil(2));
        assert_eq!(answer.header("ratelimit"), Some(left.as_str()));
    }
    let calls = world.faults.count();
    let refused = ask(4, "192.0.2.1").await.refused(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("ratelimit"), Some("\"public\";r=0;t=1"));
    assert_eq!(world.faults.count(), calls);
    ask(5, "192.0.2.2").await.expect(200);
    let internal = from(world.internal("PUT", SECTION).json("{}"), "192.0.2.1");
    internal.send().await.expect(201);
    let admin = world.admin("GET", "/v1/admin/overview");
    from(admin, "192.0.2.1").send().await.expect(200);
    let nobody = from(world.ask("GET", "/v1/user"), "192.0.2.1");
    nobody.send().await.refused(401, "credentials_required");
    world.jwt_clock.advance(Duration::from_millis(500));
    ask(6, "192.0.2.1").await.expect(200);
    ask(7, "192.0.2.1").await.refused(429, "rate_limited");
}

#[tokio::test]
async fn no_address_shuts_a_named_user_out() {
    let world = world(USUAL).await;
    let ask = |address: &str, name: &str| {
        let ask = world.ask("GET", "/v1/route").named(name);
        from(ask, address).send()
    };
    for n in 0..20 {
        let flood = ask("192.0.2.1", if n % 2 == 0 { "Reader" } else { "reader" });
        flood.await.expect(if n < 4 { 200 } else { 429 });
    }
    for n in 2..40 {
        let answer = ask(&format!("192.0.2.{n}"), "READER").await.expect(200);
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"public\";q=4;w=2")
        );
    }
}

#[tokio::test]
async fn failed_authentication_has_a_bucket_of_its_own() {
    let world = world(USUAL).await;
    let forged = |path: &str| {
        let ask = world.ask("GET", path).jwt(&world.forged(SUBJECT));
        from(ask, "192.0.2.1").send()
    };
    for path in ["/v1/user", "/v1/admin/overview", "/v1/route", "/v1/user"] {
        forged(path).await.refused(401, "credentials_required");
    }
    for path in ["/v1/user", "/v1/admin/overview"] {
        let refused = forged(path).await.refused(429, "rate_limited");
        let policy = Some("\"failed-authentication\";q=4;w=2");
        assert_eq!(refused.header("ratelimit-policy"), policy);
    }
    let internal = from(world.internal("GET", "/v1/route"), "192.0.2.1");
    internal.send().await.expect(200);
    let public = from(world.external("GET", "/v1/route"), "192.0.2.1");
    public.send().await.expect(200);
}

#[tokio::test]
async fn an_address_makes_so_many_public_users_in_an_hour() {
    let public = Public {
        rate: 1_000,
        burst: 1_000,
        ..USUAL
    };
    let world = world(public).await;
    let put = |name: &str, address: &str| {
        let ask = world.ask("PUT", SECTION).named(name).json("{}");
        from(ask, address).send()
    };
    put("one", "192.0.2.1").await.expect(201);
    put("two", "192.0.2.1").await.expect(201);
    let refused = put("three", "192.0.2.1").await.refused(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("1800"));
    assert_eq!(world.count(Role::ExternalUsers).await, 2);
    put("two", "192.0.2.1").await.expect(200);
    put("three", "192.0.2.2").await.expect(201);
    let internal = from(world.internal("PUT", SECTION).json("{}"), "192.0.2.1");
    internal.send().await.expect(201);
    world.jwt_clock.advance(HOUR / 2);
    put("four", "192.0.2.1").await.expect(201);
    put("five", "192.0.2.1").await.refused(429, "rate_limited");
}

#[tokio::test]
async fn external_users_only_read_where_their_writes_are_off() {
    let public = Public {
        writes: false,
        ..USUAL
    };
    let world = world(public).await;
    let before = world.everything().await;
    for method in ["PUT", "PATCH"] {
        let write = world.external(method, SECTION).json("{}");
        write.send().await.refused(403, "public_writes_off");
    }
    assert_eq!(world.everything().await, before);
    let read = world.external("GET", SECTION).send().await;
    read.refused(404, "user_not_found");
    world
        .internal("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
}

#[rstest]
#[tokio::test]
async fn internal_users_are_served_while_public_requests_hold_every_turn(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let public = Public {
        rate: 1_000,
        burst: 1_000,
        ..USUAL
    };
    let world = world_on(backend, public).await;
    let put = world.external("PUT", SECTION).json("{}");
    put.send().await.expect(201);
    let stuck = |nth| Fault::nth(nth, Moment::Before).to(Role::ExternalUsers);
    let holds = [1, 2].map(|nth| world.faults.hold(stuck(nth)));
    let read = || tokio::spawn(world.external("GET", SECTION).send());
    let turns = [read(), read()];
    for hold in &holds {
        hold.reached().await;
    }
    // Public requests of every kind wait, and reach no database.
    let calls = world.faults.count();
    let mut waiting = [
        world.external("GET", "/v1/user"),
        world.external("GET", "/v1/route"),
        world.external("PUT", SECTION).json("{}"),
        world.ask("GET", "/v1/user").jwt(&world.forged(SUBJECT)),
        world.ask("GET", "/v1/admin/overview"),
        world.external("DELETE", SECTION),
    ]
    .map(|ask| Box::pin(ask.send()));
    for ask in &mut waiting {
        assert!(poll!(ask).is_pending());
    }
    assert_eq!(world.faults.count(), calls);

    let section = world.internal("PUT", SECTION).json("{}");
    section.send().await.expect(201);
    for path in [SECTION, "/v1/user", "/v1/route"] {
        world.internal("GET", path).send().await.expect(200);
    }
    let admin = world.admin("GET", "/v1/admin/migrations");
    admin.send().await.expect(200);
    let record = world.hr("PUT", "/v1/hr/hr_candidates/c1").json("{}");
    record.send().await.expect(201);
    let other = world.internal("GET", "/v1/admin/overview");
    other.send().await.refused(403, "role_required");

    for hold in holds {
        hold.release();
    }
    for turn in turns {
        turn.await.unwrap().expect(200);
    }
    // A request that is dropped gives up its place in the queue.
    drop(waiting);
    world.external("GET", SECTION).send().await.expect(200);
}

#[tokio::test(start_paused = true)]
async fn a_public_request_that_gets_no_turn_is_asked_to_come_again() {
    let public = Public {
        concurrency: 1,
        ..USUAL
    };
    let world = world(public).await;
    let hold = Fault::nth(1, Moment::Before).to(Role::ExternalUsers);
    let hold = world.faults.hold(hold);
    let first = tokio::spawn(world.external("GET", SECTION).send());
    hold.reached().await;
    let second = world.external("PUT", SECTION).json("{}");
    let refused = second.send().await.refused(503, "database_unavailable");
    assert_eq!(refused.header("retry-after"), Some("5"));
    hold.release();
    first.await.unwrap().refused(404, "user_not_found");
    assert_eq!(world.count(Role::ExternalUsers).await, 0);
    let third = world.external("PUT", SECTION).json("{}");
    third.send().await.expect(201);
}

/// With a valid JWT and this GitHub token, from this address.
fn with_token(world: &World, token: &str, address: &str) -> Ask {
    let ask = world.ask("GET", "/v1/route");
    from(ask.jwt(&world.token(SUBJECT, None)).github(token), address)
}

#[tokio::test(flavor = "multi_thread")]
async fn github_hears_of_made_up_tokens_no_more_than_the_limit() {
    let world = world(USUAL).await;
    let asked = (0..200).map(|n| {
        let token = format!("{MADE_UP_TOKEN}{n}");
        with_token(&world, &token, "192.0.2.1").send()
    });
    let answers = join_all(asked).await;
    let count = |status: u16| {
        let of_status = answers.iter().filter(|it| it.status.as_u16() == status);
        of_status.count()
    };
    assert_eq!((count(401), count(429)), (4, 196));
    assert_eq!(world.asked_github().await, 4);
    let refused = answers.iter().find(|it| it.status == 429).unwrap();
    assert_eq!(refused.outcome().1, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some("\"github\";q=4;w=2")
    );
    // From another address the same JWT is checked, and what is known by then is known here too.
    with_token(&world, "gho_known", "192.0.2.2")
        .send()
        .await
        .expect(200);
    with_token(&world, "gho_known", "192.0.2.1")
        .send()
        .await
        .expect(200);
    assert_eq!(world.asked_github().await, 5);
    world.jwt_clock.advance(Duration::from_millis(500));
    let once_more = with_token(&world, &format!("{MADE_UP_TOKEN}x"), "192.0.2.1");
    once_more.send().await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_who_come_with_valid_tokens_are_served_from_one_address() {
    let world = world(USUAL).await;
    let asked = (0..200_u32).map(|n| {
        let ask = world.ask("GET", "/v1/route");
        let ask = ask.jwt(&world.token(&format!("{n:024x}"), None));
        from(
            ask.github(&format!("{ACCOUNT_TOKEN}{}", n + 1)),
            "192.0.2.1",
        )
        .send()
    });
    for answer in join_all(asked).await {
        answer.expect(200);
    }
    assert_eq!(world.asked_github().await, 200);
}

#[tokio::test]
async fn made_up_tokens_do_not_keep_other_callers_from_being_checked() {
    let world = world(USUAL).await;
    for n in 0..20 {
        let made_up = with_token(&world, &format!("{MADE_UP_TOKEN}{n}"), "192.0.2.1");
        made_up.send().await.expect(if n < 4 { 401 } else { 429 });
    }
    let neighbour = world.ask("GET", "/v1/route");
    let neighbour = neighbour.jwt(&world.token("60b8d295f1d2c8a7e4f3b2a1", None));
    let neighbour = neighbour.github("gho_as_9");
    from(neighbour, "192.0.2.1").send().await.expect(200);
}

#[tokio::test]
async fn a_caller_is_told_for_how_long_github_wants_to_be_left_alone() {
    let world = World::new(Backend::Memory).await;
    for _ in 0..3 {
        let refused = with_token(&world, LIMITED_TOKEN, "192.0.2.1").send().await;
        let refused = refused.refused(503, "identity_unavailable");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((110..=120).contains(&wait), "{wait}");
    }
    assert_eq!(world.asked_github().await, 1);
    let other = with_token(&world, UNREACHABLE_TOKEN, "192.0.2.1")
        .send()
        .await;
    let other = other.refused(503, "identity_unavailable");
    assert_eq!(other.header("retry-after"), Some("5"));
    with_token(&world, "gho_known", "192.0.2.1")
        .send()
        .await
        .expect(200);
}
