//! What an administrator does on the dashboard, after a question.

use rstest::rstest;
use tierkeep_core::bson::{DateTime, rawdoc};
use tierkeep_core::clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Location};
use tierkeep_core::mover::main_form;
use tierkeep_core::store::{Fence, Find, Query};
use tierkeep_engine::{NoProgress, RunOptions};
use tierkeep_testkit::documents::native_user;
use tokio_util::sync::CancellationToken;

use super::dashboard::{csrf, form, page, session};
use crate::common::{Answer, Backend, HOUR, SUBJECT, World};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_on_the_dashboard_is_done_and_kept_in_the_trail(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let id = due_user(&world).await;
    let cookie = session(&world).await;
    let act = async |name: &str, user: &str| {
        let answer = answer_to(&world, &cookie, name, user).await;
        let place = answer.expect(303).header("location").unwrap().to_owned();
        page(&world, &cookie, &place).await.expect(200)
    };
    let paused = act("pause", "").await;
    assert!(paused.text().contains("The mover is paused everywhere."));
    let by = format!("by <code>internal_{SUBJECT}</code>, on the dashboard");
    assert!(paused.text().contains(&by), "{}", paused.text());
    assert!(world.mover.service.is_paused().await.unwrap());
    let again = page(&world, &cookie, "/ui/").await;
    assert!(!again.text().contains("id=\"notice\""), "told once");
    let post = world
        .ask("POST", "/ui/actions/run")
        .header("cookie", &cookie);
    let refused = form(post, &[("csrf", &csrf(&paused))]).send().await;
    refused.expect(409);
    let resumed = act("resume", "").await;
    assert!(!resumed.text().contains(&by));
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

/// An internal user whose document is due, with the user's id as its `_id`.
async fn due_user(world: &World) -> String {
    let user = native_user(1, 1);
    let id = user.id().to_owned();
    let due = user.dated(long_ago(world).await).build();
    let temp = &world.stores[&Role::RaseenTempUser];
    temp.insert("internal_users", &[due]).await.unwrap();
    id
}

/// Longer ago than documents are kept in temp.
async fn long_ago(world: &World) -> DateTime {
    let temp = &world.stores[&Role::RaseenTempUser];
    clock::before(temp.hello().await.unwrap().now, 25 * HOUR)
}

/// What is answered when the action, which is asked about first, is confirmed.
async fn answer_to(world: &World, cookie: &str, action: &str, user: &str) -> Answer {
    let path = format!("/ui/actions/{action}");
    let question = format!("{path}?user={user}");
    let asked = page(world, cookie, &question).await.expect(200);
    let post = world.ask("POST", &path).header("cookie", cookie);
    let csrf = csrf(&asked);
    form(post, &[("csrf", &csrf), ("user", user)]).send().await
}

/// Moves what is due, which are so many documents.
async fn move_due(world: &World, moved: u64) {
    let service = &world.mover.service;
    let stop = CancellationToken::new();
    let run = service.migrate_expired_data(RunOptions::default(), &NoProgress, &stop);
    assert_eq!(run.await.unwrap().moved, moved);
}

#[rstest]
#[tokio::test]
async fn a_user_that_main_lacks_is_restored_after_a_question(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let id = due_user(&world).await;
    move_due(&world, 1).await;
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
        let answer = answer_to(&world, &cookie, "restore", &id).await.expect(303);
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

/// A document in temp that is older than what main and srie hold, and that is quarantined for it; answers its user.
async fn conflict(world: &World) -> String {
    let old = long_ago(world).await;
    let behind = native_user(2, 1).dated(old).build();
    let ahead = native_user(2, 3)
        .dated(old)
        .content(rawdoc! { "ahead": true })
        .at(Location::Main)
        .build();
    let ahead = main_form(&ahead, &Digest::of(&ahead));
    for (role, document) in [
        (Role::RaseenTempUser, &behind),
        (Role::RaseenMainUser, &ahead),
        (Role::SrieMainUser, &ahead),
    ] {
        let stored = world.stores[&role].insert("internal_users", std::slice::from_ref(document));
        stored.await.unwrap();
    }
    move_due(world, 0).await;
    document::user_id(&behind).unwrap().to_owned()
}

#[rstest]
#[tokio::test]
async fn copies_in_conflict_are_downloaded_and_one_of_them_kept(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = conflict(&world).await;
    let cookie = session(&world).await;
    let shown = async || {
        let page = page(&world, &cookie, "/ui/migrations").await.expect(200);
        page.text().to_owned()
    };
    let act = async |action: &str| answer_to(&world, &cookie, action, &user).await;
    let offered = shown().await;
    for action in ["keep-temp", "keep-main", "keep-srie", "download"] {
        let link = format!("/ui/actions/{action}?user={user}");
        assert!(offered.contains(&link), "{action}: {offered}");
    }
    assert!(!offered.contains("/ui/actions/release?"));

    let before = world.documents(Role::RaseenTempUser).await;
    let file = act("download").await.expect(200);
    let named = "attachment; filename=\"quarantined.json\"";
    assert_eq!(file.header("content-disposition"), Some(named));
    assert_eq!(file.header("content-type"), Some("application/json"));
    assert!(file.header("cache-control").unwrap().contains("no-store"));
    let copies: serde_json::Value = serde_json::from_str(file.text()).unwrap();
    assert_eq!(copies["copies"].as_array().unwrap().len(), 3, "{copies}");
    assert_eq!(world.documents(Role::RaseenTempUser).await, before);

    act("release").await.expect(303);
    assert!(
        shown().await.contains("Not released: copies of"),
        "a choice is needed"
    );
    act("keep-main").await.expect(303);
    let told = shown().await;
    assert!(
        told.contains("Kept the copy in raseen_main_user."),
        "{told}"
    );
    let written = std::fs::read_dir(world.copies.path().join("quarantine")).unwrap();
    let written: Vec<_> = written.map(|file| file.unwrap().path()).collect();
    assert_eq!(written.len(), 1, "{written:?}");
    let lines = std::fs::read_to_string(&written[0]).unwrap();
    assert!(lines.contains("\"ahead\":true"), "{lines}");
    move_due(&world, 1).await;
    let main = world.documents(Role::RaseenMainUser).await;
    assert!(document::version(&main[0]).unwrap().get() > 3);
    let kinds = world.stores[&Role::EvaluationAudit]
        .find(collection::AUDIT_TRAIL, &Find::new(Query::All))
        .await
        .unwrap();
    let decided = |what: &str| {
        kinds.iter().any(|entry| {
            let is = |field: &str, text: &str| entry.get_str(field).is_ok_and(|it| it == text);
            is("decision", what)
                && is("user_id", &user)
                && is("actor", &format!("internal_{SUBJECT}"))
        })
    };
    assert!(decided("quarantine export") && decided("quarantine release"));
}

#[tokio::test]
async fn no_copy_is_chosen_where_no_file_can_hold_the_others() {
    let world = World::new(Backend::Memory).await;
    let user = conflict(&world).await;
    std::fs::write(world.copies.path().join("quarantine"), "in the way").unwrap();
    let before = world.everything().await;
    let cookie = session(&world).await;
    let answer = answer_to(&world, &cookie, "keep-main", &user).await;
    answer.expect(303);
    let told = page(&world, &cookie, "/ui/migrations").await.expect(200);
    assert!(told.text().contains("Not released: "), "{}", told.text());
    for role in [
        Role::RaseenTempUser,
        Role::RaseenMainUser,
        Role::SrieMainUser,
    ] {
        let of = |all: &crate::common::Everything| all.get(&(role, "internal_users")).cloned();
        assert_eq!(of(&world.everything().await), of(&before), "{role}");
    }
}

/// Every kind of page of the trail, from the newest entry on, however many there are.
#[rstest]
#[tokio::test]
async fn the_trail_is_shown_from_the_newest_entry_on_whatever_is_asked_for(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    // Each makes an entry of its own.
    for n in 0..60 {
        let put = world.ask("PUT", "/v1/user/scan_cache");
        put.named(&format!("reader{n}"))
            .json("{}")
            .send()
            .await
            .expect(201);
    }
    let cookie = session(&world).await;
    let pages = async |first: &str| {
        let mut seqs: Vec<i64> = Vec::new();
        let mut next = Some(first.to_owned());
        while let Some(path) = next {
            let page = page(&world, &cookie, &path).await.expect(200);
            let text = page.text();
            seqs.extend(
                text.split("<tr><th scope=\"row\" class=\"n\">")
                    .skip(1)
                    .map(|row| row.split('<').next().unwrap().parse::<i64>().unwrap()),
            );
            let older = text.split("href=\"/ui/audit?kind=").nth(1);
            next = older.map(|rest| {
                let rest = rest
                    .split('"')
                    .next()
                    .unwrap()
                    .replace("&#38;", "&")
                    .replace("&amp;", "&");
                format!("/ui/audit?kind={rest}")
            });
            assert!(seqs.len() < 1_000, "{path}");
        }
        seqs
    };
    for first in [
        "/ui/audit",
        "/ui/audit?kind=decision",
        "/ui/audit?user=reader7",
    ] {
        let seqs = pages(first).await;
        let mut sorted = seqs.clone();
        sorted.sort_unstable_by(|one, other| other.cmp(one));
        sorted.dedup();
        assert_eq!(seqs, sorted, "{first}");
        let last = *seqs.last().unwrap();
        match first {
            "/ui/audit?user=reader7" => assert_eq!(seqs.len(), 1, "{seqs:?}"),
            "/ui/audit?kind=decision" => assert_eq!(seqs.len(), 60, "{seqs:?}"),
            // Without a gap, down to the first.
            _ => assert_eq!((last, seqs[0]), (1, i64::try_from(seqs.len()).unwrap())),
        }
    }
}
