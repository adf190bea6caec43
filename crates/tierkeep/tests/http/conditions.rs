//! ETags and what depends on them.

use rstest::rstest;

use crate::common::{Backend, World};

const SECTION: &str = "/v1/user/scan_cache";

#[rstest]
#[tokio::test]
async fn a_write_under_a_condition_happens_when_it_holds(
    #[values("PUT", "PATCH")] method: &str,
    #[values(("if-match", "\"1\""), ("if-match", "*"), ("if-match", "\"7\", \"1\""), ("if-match", "W/\"9\", \"1\""))]
    condition: (&str, &str),
) {
    let world = World::new(Backend::Memory).await;
    world
        .internal("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    let write = world.internal(method, SECTION).json(r#"{"a":1}"#);
    let answer = write
        .header(condition.0, condition.1)
        .send()
        .await
        .expect(200);
    assert_eq!(answer.header("etag"), Some("\"2\""));
}

#[tokio::test]
async fn create_only_creates_once() {
    let world = World::new(Backend::Memory).await;
    let create = || {
        world
            .external("PUT", SECTION)
            .json("{}")
            .header("if-none-match", "*")
    };
    create().send().await.expect(201);
    create().send().await.refused(412, "version_mismatch");
}

#[rstest]
#[tokio::test]
async fn a_condition_on_a_user_who_is_not_stored_does_not_hold(
    #[values("PUT", "PATCH")] method: &str,
    #[values("*", "\"1\"", "\"1\", \"2\"")] condition: &str,
    #[values(true, false)] internal: bool,
) {
    let world = World::new(Backend::Memory).await;
    let ask = if internal {
        world.internal(method, SECTION)
    } else {
        world.external(method, SECTION)
    };
    let answer = ask.json("{}").header("if-match", condition).send().await;
    answer.refused(412, "version_mismatch");
}

#[tokio::test]
async fn of_two_writers_at_one_version_one_is_told_that_it_lost() {
    let world = World::new(Backend::Memory).await;
    world
        .external("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    let write = || {
        world
            .external("PUT", SECTION)
            .json("{}")
            .header("if-match", "\"1\"")
    };
    write().send().await.expect(200);
    let lost = write().send().await.refused(412, "version_mismatch");
    assert_eq!(lost.header("etag"), Some("\"2\""));
}

#[rstest]
#[tokio::test]
async fn what_the_caller_has_is_not_sent_again(
    #[values("/v1/user", "/v1/user/scan_cache")] path: &str,
    #[values("\"1\"", "W/\"1\"", "*", "\"9\", \"1\"")] had: &str,
) {
    let world = World::new(Backend::Memory).await;
    world
        .internal("PUT", SECTION)
        .json(r#"{"a":1}"#)
        .send()
        .await
        .expect(201);
    let answer = world
        .internal("GET", path)
        .header("if-none-match", had)
        .send()
        .await
        .expect(304);
    assert_eq!(answer.header("etag"), Some("\"1\""));
    assert!(answer.body.is_empty());
    let answer = world
        .internal("GET", path)
        .header("if-none-match", "\"2\"")
        .send()
        .await;
    assert!(!answer.expect(200).body.is_empty());
}

#[tokio::test]
async fn reads_take_if_match_too() {
    let world = World::new(Backend::Memory).await;
    world
        .internal("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    let read = |tag: &'static str| {
        world
            .internal("GET", SECTION)
            .header("if-match", tag)
            .send()
    };
    read("\"1\"").await.expect(200);
    read("\"2\"").await.refused(412, "version_mismatch");
    read("1").await.refused(400, "malformed");
}

#[tokio::test]
async fn a_section_that_is_not_there_is_not_found_whatever_the_caller_has() {
    let world = World::new(Backend::Memory).await;
    world
        .internal("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    let ask = world.internal("GET", "/v1/user/analysis_progress");
    let answer = ask.header("if-none-match", "\"1\"").send().await;
    answer.refused(404, "section_not_found");
}
