//! What an administrator does on the dashboard, after a question.

use rstest::rstest;
use tierkeep_core::clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document;
use tierkeep_core::store::{Fence, Find, Query};
use tierkeep_engine::{NoProgress, RunOptions};
use tierkeep_testkit::documents::native_user;
use tokio_util::sync::CancellationToken;

use super::dashboard::{csrf, form, page, session};
use crate::common::{Backend, HOUR, SUBJECT, World};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_on_the_dashboard_is_done_and_kept_in_the_trail(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let temp = &world.stores[&Role::RaseenTempUser];
    let now = temp.hello().await.unwrap().now;
    let user = native_user(1, 1);
    let id = user.id().to_owned();
    let old = user.dated(clock::before(now, 25 * HOUR)).build();
    temp.insert("internal_users", &[old]).await.unwrap();
    let cookie = session(&world).await;
    let act = async |name: &str, user: &str| {
        let path = format!("/ui/actions/{name}");
        let asked = page(&world, &cookie, &path).await.expect(200);
        let post = world.ask("POST", &path).header("cookie", &cookie);
        let csrf = csrf(&asked);
        let answer = form(post, &[("csrf", &csrf), ("user", user)]).send().await;
        let place = answer.expect(303).header("location").unwrap().to_owned();
        page(&world, &cookie, &place).await.expect(200)
    };
    let paused = act("pause", "").await;
    assert!(paused.text().contains("The mover is paused everywhere."));
    assert!(world.mover.service.is_paused().await.unwrap());
    let again = page(&world, &cookie, "/ui/").await;
    assert!(!again.text().contains("id=\"notice\""), "told once");
    let post = world
        .ask("POST", "/ui/actions/run")
        .header("cookie", &cookie);
    let refused = form(post, &[("csrf", &csrf(&paused))]).send().await;
    refused.expect(409);
    act("resume", "").await;
    assert!(!world.mover.service.is_paused().await.unwrap());
    act("run", "").await;
    world.mover.finished().await;
    assert_eq!(world.count(Role::RaseenMainUser).await, 1);
    let retried = act("retry", &id).await;
    assert!(retried.text().contains("0 failed moves are pending again"));
    assert!(retried.text().contains("Main and its backup agree"));

    let compared = act("verify", "").await;
    let compared = compared.text();
    assert!(
        compared.contains("1 document was compared: main and its backup agree."),
        "{compared}"
    );
    let copies = world.documents(Role::SrieMainUser).await;
    let copy = &copies[0];
    let fence = Fence::Version {
        version: document::version(copy).unwrap(),
        ids: vec![document::id(copy)],
    };
    let srie = &world.stores[&Role::SrieMainUser];
    assert_eq!(srie.delete("internal_users", &[fence]).await.unwrap(), 1);
    let compared = act("verify", "").await;
    let compared = compared.text();
    assert!(
        compared.contains("1 missing in the backup, 0 missing in main, 0 different."),
        "{compared}"
    );
    assert!(compared.contains(&id), "{compared}");

    let trail = Find::new(Query::Equal(bson::doc! { "kind": "admin_action" }));
    let audit = &world.stores[&Role::EvaluationAudit];
    let kept = audit.find(collection::AUDIT_TRAIL, &trail).await.unwrap();
    let done: Vec<&str> = kept
        .iter()
        .map(|it| it.get_str("decision").unwrap())
        .collect();
    assert_eq!(
        done,
        ["pause", "resume", "run", "retry", "verify", "verify"]
    );
    let actor = format!("internal_{SUBJECT}");
    for entry in &kept {
        assert_eq!(entry.get_str("actor").unwrap(), actor);
        assert_eq!(entry.get_str("reason").unwrap(), "on the dashboard");
    }
}

/// An internal user whose copies are the same in main and srie; the `_id` is the user's.
async fn moved_user(world: &World) -> String {
    let temp = &world.stores[&Role::RaseenTempUser];
    let now = temp.hello().await.unwrap().now;
    let user = native_user(1, 1);
    let id = user.id().to_owned();
    let old = user.dated(clock::before(now, 25 * HOUR)).build();
    temp.insert("internal_users", &[old]).await.unwrap();
    let service = &world.mover.service;
    let stop = CancellationToken::new();
    let run = service.migrate_expired_data(RunOptions::default(), &NoProgress, &stop);
    assert_eq!(run.await.unwrap().moved, 1);
    id
}

#[rstest]
#[tokio::test]
async fn a_user_that_main_lacks_is_restored_after_a_question(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let id = moved_user(&world).await;
    let cookie = session(&world).await;
    let user_page = format!("/ui/users/{id}");
    let restore = format!("/ui/actions/restore?user={id}");
    let shown = async || {
        let page = page(&world, &cookie, &user_page).await.expect(200);
        page.text().to_owned()
    };
    assert!(!shown().await.contains(&restore), "main has it");

    let main = &world.stores[&Role::RaseenMainUser];
    let ids = vec![id.as_str().into()];
    let version = document::version(&world.documents(Role::RaseenMainUser).await[0]).unwrap();
    let fence = Fence::Version { version, ids };
    assert_eq!(main.delete("internal_users", &[fence]).await.unwrap(), 1);
    assert!(shown().await.contains(&restore));
    let asked = page(&world, &cookie, &restore).await.expect(200);
    assert!(asked.text().contains("Restore this user from the backup?"));
    assert_eq!(world.count(Role::RaseenMainUser).await, 0, "only asked");
    let act = async || {
        let post = world.ask("POST", "/ui/actions/restore");
        let post = post.header("cookie", &cookie);
        let fields = [("csrf", csrf(&asked)), ("user", id.clone())];
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = form(post, &fields).send().await.expect(303);
        assert_eq!(answer.header("location"), Some(user_page.as_str()));
        shown().await
    };
    let told = act().await;
    assert!(
        told.contains("Restored to main from the copy in srie."),
        "{told}"
    );
    assert_eq!(
        world.documents(Role::RaseenMainUser).await,
        world.documents(Role::SrieMainUser).await
    );
    assert!(act().await.contains("main holds the same version"));
    for none in ["external_0123456789abcdef01234567", "x", ""] {
        let path = format!("/ui/actions/restore?user={none}");
        let status = page(&world, &cookie, &path).await.status.as_u16();
        assert!(matches!(status, 400 | 404), "{none}: {status}");
    }
}

#[tokio::test]
async fn a_comparison_that_cannot_be_made_is_refused_and_tells_nothing_later() {
    let world = World::new(Backend::Memory).await;
    let cookie = session(&world).await;
    let asked = page(&world, &cookie, "/ui/actions/verify").await;
    let csrf = csrf(&asked);
    let compare = || {
        let post = world
            .ask("POST", "/ui/actions/verify")
            .header("cookie", &cookie);
        form(post, &[("csrf", &csrf)]).send()
    };
    for away in [Role::SrieMainUser, Role::EvaluationAudit] {
        world.faults.set_down(away, true);
        let refused = compare().await.expect(503);
        assert!(refused.header("retry-after").is_some());
        assert!(refused.text().contains(away.name()), "{}", refused.text());
        world.faults.heal();
        let next = page(&world, &cookie, "/ui/backup").await.expect(200);
        assert!(!next.text().contains("id=\"notice\""), "{away}");
    }
}
