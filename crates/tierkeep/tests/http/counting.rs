//! Due, overdue, lag and quarantined are the same numbers wherever they are shown.

use std::time::Duration;

use bson::raw::RawDocumentBuf;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock as _};
use tierkeep_core::db::Role;
use tierkeep_core::document::Edit;
use tierkeep_engine::{Inspector, MoverPhase, NoProgress, RunOptions};
use tierkeep_testkit::documents::{SeedUser, native_user, seed_user};
use tokio_util::sync::CancellationToken;

use super::dashboard::{page, session};
use super::metrics::looked_at;
use crate::common::{Backend, HOUR, World};

const DAY: Duration = Duration::from_hours(24);

/// What temp holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Empty,
    Fresh,
    Due,
    Overdue,
    ForeignDue,
    ForeignOverdue,
    Quarantined,
    QuarantinedAndRun,
    TwoClaimOneUser,
    Paused,
}

/// (due, overdue, lag in hours, quarantined).
type Expected = (u64, u64, u64, u64);

impl State {
    fn documents(self, world: &World) -> Vec<RawDocumentBuf> {
        let ago = |hours: u32| clock::before(world.clock.now(), HOUR * hours);
        let native = |n, hours| native_user(n, 1).dated(ago(hours)).build();
        let foreign = |n, hours| seed_user(n, ago(hours));
        match self {
            Self::Empty => Vec::new(),
            Self::Fresh => vec![native(1, 1), foreign(2, 1)],
            Self::Due | Self::Paused => vec![native(1, 25), native(2, 1)],
            Self::Overdue => vec![native(1, 30), native(2, 25), foreign(3, 1)],
            Self::ForeignDue => vec![foreign(1, 25), foreign(2, 1)],
            Self::ForeignOverdue => vec![foreign(1, 30), native(2, 25)],
            Self::Quarantined | Self::QuarantinedAndRun => {
                let undated = Edit::new().unset("created_at").apply(&foreign(1, 30));
                let unnamed = Edit::new().set("user_id", "nobody").apply(&foreign(2, 30));
                vec![undated, unnamed, foreign(3, 1)]
            }
            Self::TwoClaimOneUser => {
                let user = SeedUser::new(1, ago(30)).user_id();
                let other = Edit::new().set("user_id", user.as_str());
                vec![foreign(1, 30), other.apply(&foreign(2, 30)), native(3, 25)]
            }
        }
    }

    fn expected(self) -> Expected {
        match self {
            Self::Empty | Self::Fresh => (0, 0, 0, 0),
            Self::Due | Self::Paused | Self::ForeignDue => (1, 0, 1, 0),
            Self::Overdue | Self::ForeignOverdue => (2, 1, 6, 0),
            Self::Quarantined | Self::QuarantinedAndRun => (0, 0, 0, 2),
            Self::TwoClaimOneUser => (1, 0, 1, 2),
        }
    }
}

/// The text of the page's entry `term`.
fn entry<'a>(page: &'a str, term: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("<dt>{term}</dt><dd>")).unwrap();
    rest.split("</dd>").next().unwrap()
}

#[rstest]
#[tokio::test]
async fn every_output_has_the_same_counts(
    #[values(
        State::Empty,
        State::Fresh,
        State::Due,
        State::Overdue,
        State::ForeignDue,
        State::ForeignOverdue,
        State::Quarantined,
        State::QuarantinedAndRun,
        State::TwoClaimOneUser,
        State::Paused
    )]
    state: State,
) {
    let world = World::new(Backend::Memory).await;
    let temp = &world.stores[&Role::RaseenTempUser];
    let documents = state.documents(&world);
    temp.insert("internal_users", &documents).await.unwrap();
    let service = world.mover.service.clone();
    let stop = CancellationToken::new();
    match state {
        State::Paused => {
            service.pause().await.unwrap();
        }
        State::QuarantinedAndRun => {
            let run = service.migrate_expired_data(RunOptions::default(), &NoProgress, &stop);
            run.await.unwrap();
        }
        State::Empty
        | State::Fresh
        | State::Due
        | State::Overdue
        | State::ForeignDue
        | State::ForeignOverdue
        | State::Quarantined
        | State::TwoClaimOneUser => {}
    }
    let (due, overdue, lag, quarantined) = state.expected();
    let lag_seconds = lag * 3_600;

    // `status`, `migrate status`, `doctor`.
    let status = Inspector::from(&service).status(HOUR).await;
    assert_eq!(status.due, Some(due), "status");
    assert_eq!(status.overdue, Some(overdue), "status");
    assert_eq!(status.lag_seconds, Some(lag_seconds), "status");
    assert_eq!(status.quarantined, Some(quarantined), "status");
    let paused = status.mover.phase == MoverPhase::Paused;
    assert_eq!(paused, state == State::Paused);
    // `simulate`.
    let simulation = Inspector::from(&service).simulate(DAY).await.unwrap();
    assert_eq!(simulation.due_now.documents, due, "simulate");
    assert_eq!(simulation.quarantined.documents, quarantined, "simulate");
    // `migrate run --dry-run`.
    let dry = RunOptions {
        dry_run: true,
        ..RunOptions::default()
    };
    let dry = service
        .migrate_expired_data(dry, &NoProgress, &stop)
        .await
        .unwrap();
    assert_eq!((dry.due, dry.quarantined), (due, quarantined), "dry run");
    // The overview, and the page.
    let overview = world.admin("GET", "/v1/admin/overview").send().await;
    let overview: Value = overview.expect(200).value();
    let shown = ["due", "overdue", "lag_seconds", "quarantined"].map(|name| &overview[name]);
    let expected = [due, overdue, lag_seconds, quarantined].map(|count| json!(count));
    assert_eq!(shown, expected.each_ref(), "overview");
    let cookie = session(&world).await;
    let front = page(&world, &cookie, "/ui/").await.expect(200);
    assert_eq!(entry(front.text(), "Due"), due.to_string());
    let of_page = entry(front.text(), "Overdue").split(',').next().unwrap();
    assert_eq!(of_page, overdue.to_string());
    for path in ["/ui/", "/ui/migrations"] {
        let page = page(&world, &cookie, path).await.expect(200);
        let says_none = page.text().contains("No document is quarantined");
        assert_eq!(says_none, quarantined == 0, "{path}");
    }
    // Readiness.
    let ready: Value = world.ask("GET", "/health/ready").send().await.value();
    let reasons = ready["reasons"].to_string();
    assert_eq!(reasons.contains("overdue"), overdue > 0, "{reasons}");
    assert_eq!(
        reasons.contains("quarantined"),
        quarantined > 0,
        "{reasons}"
    );
    // The metrics.
    let looked = looked_at(&world).await;
    for (name, expected) in [
        ("tierkeep_due_documents", due),
        ("tierkeep_migration_lag_seconds", lag_seconds),
        ("tierkeep_quarantined_documents", quarantined),
    ] {
        let value = looked.value(name, &[]).unwrap();
        assert_eq!(value.to_string(), expected.to_string(), "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_counted_is_unknown_and_never_zero() {
    let world = World::new(Backend::Memory).await;
    let cookie = session(&world).await;
    for role in Role::ALL {
        world.faults.set_down(role, true);
    }
    let overview = world.admin("GET", "/v1/admin/overview").send().await;
    let overview: Value = overview.expect(200).value();
    for name in [
        "due",
        "overdue",
        "lag_seconds",
        "failed",
        "quarantined",
        "paused",
    ] {
        assert_eq!(overview[name], Value::Null, "{name}");
    }
    assert_eq!(overview["mover"]["phase"], "unknown");
    let front = page(&world, &cookie, "/ui/").await.expect(200);
    for term in ["Due", "Overdue"] {
        assert_eq!(entry(front.text(), term), "unknown");
    }
    assert!(!front.text().contains("no documents are due"));
    assert!(!front.text().contains("come from the backup"));
    let user = "/ui/users/internal_507f1f77bcf86cd799439011";
    let user = page(&world, &cookie, user).await.expect(200);
    assert!(user.text().contains("unknown") && !user.text().contains("no copies"));
    // With what it is about away, a page keeps its navigation.
    let migrations = page(&world, &cookie, "/ui/migrations").await.expect(200);
    assert!(migrations.text().contains("href=\"/ui/databases\""));
    assert!(migrations.text().contains("Unknown"));
}

#[tokio::test]
async fn two_documents_that_claim_one_user_count_neither_and_are_not_fine() {
    let world = World::new(Backend::Memory).await;
    let temp = &world.stores[&Role::RaseenTempUser];
    let documents = State::TwoClaimOneUser.documents(&world);
    temp.insert("internal_users", &documents).await.unwrap();
    let user = SeedUser::new(1, world.clock.now()).user_id();
    let cookie = session(&world).await;
    let shown = page(&world, &cookie, &format!("/ui/users/{user}")).await;
    let shown = shown.expect(200);
    assert!(
        !shown.text().contains(">current</span>"),
        "{}",
        shown.text()
    );
    assert!(!shown.text().contains(">OK</span>"));
    let path = format!("/v1/admin/users/{user}");
    let explained: Value = world.admin("GET", &path).send().await.value();
    assert_eq!(explained["authoritative"], Value::Null);
}
