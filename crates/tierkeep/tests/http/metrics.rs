//! The metrics of the service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::DateTime;
use tierkeep::metrics::table::METRICS;
use tierkeep::metrics::{Metrics, refresh};
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_testkit::documents::native_user;
use tokio_util::sync::CancellationToken;

use super::exposition::{Exposition, Kind};
use crate::common::{ACCOUNT_TOKEN, Backend, HOUR, SUBJECT, UNREACHABLE_TOKEN, World};

const SECTION: &str = "/v1/user/scan_cache";

async fn scraped(world: &World) -> Exposition {
    let answer = world.ask("GET", "/metrics").send().await.expect(200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    Exposition::read(answer.text())
}

#[tokio::test]
async fn every_metric_of_the_contract_is_there_from_the_start() {
    let scraped = scraped(&World::new(Backend::Memory).await).await;
    let expected = [
        ("tierkeep_requests_total", Kind::Counter),
        ("tierkeep_request_seconds", Kind::Histogram),
        ("tierkeep_migrations_total", Kind::Counter),
        ("tierkeep_migration_lag_seconds", Kind::Gauge),
        ("tierkeep_documents", Kind::Gauge),
        ("tierkeep_due_documents", Kind::Gauge),
        ("tierkeep_quarantined_documents", Kind::Gauge),
        ("tierkeep_backup_pending", Kind::Gauge),
        ("tierkeep_verified_up_to_timestamp_seconds", Kind::Gauge),
        ("tierkeep_database_up", Kind::Gauge),
        ("tierkeep_breaker_open", Kind::Gauge),
        ("tierkeep_connect_retries_total", Kind::Counter),
        ("tierkeep_detector_decisions_total", Kind::Counter),
    ];
    let families: BTreeMap<&str, Kind> = scraped.families().collect();
    assert_eq!(families, expected.into());
    assert_eq!(METRICS.len(), expected.len());
    for role in Role::ALL {
        for name in [
            "documents",
            "database_up",
            "breaker_open",
            "connect_retries_total",
        ] {
            let labels = [("database", role.name())];
            let value = scraped.value(&format!("tierkeep_{name}"), &labels);
            let up = name == "database_up";
            assert_eq!(value, Some(if up { 1.0 } else { 0.0 }), "{name} {role}");
        }
    }
    for kind in ["user", "hr"] {
        assert_eq!(
            scraped.value("tierkeep_backup_pending", &[("kind", kind)]),
            Some(0.0)
        );
    }
    for outcome in ["moved", "retried", "failed", "deferred", "quarantined"] {
        let value = scraped.value("tierkeep_migrations_total", &[("outcome", outcome)]);
        assert_eq!(value, Some(0.0), "{outcome}");
    }
    for (user_type, status) in [
        ("internal", "200"),
        ("external", "503"),
        ("internal", "412"),
    ] {
        let labels = [
            ("user_type", user_type),
            ("route", "/v1/user/{section}"),
            ("status", status),
        ];
        assert_eq!(scraped.value("tierkeep_requests_total", &labels), Some(0.0));
    }
    assert_eq!(
        scraped.value("tierkeep_request_seconds_count", &[]),
        Some(0.0)
    );
}

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_user() {
    let world = World::new(Backend::Memory).await;
    world
        .internal("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    world.external("GET", SECTION).send().await.expect(404);
    world.external("GET", SECTION).send().await.expect(404);
    world.ask("GET", "/no/such/path").send().await.expect(404);
    world.ask("GET", "/health/live").send().await.expect(200);
    let scraped = scraped(&world).await;
    let requests = |user_type, route, status| {
        let labels = [
            ("user_type", user_type),
            ("route", route),
            ("status", status),
        ];
        scraped.value("tierkeep_requests_total", &labels)
    };
    assert_eq!(requests("internal", "/v1/user/{section}", "201"), Some(1.0));
    assert_eq!(requests("external", "/v1/user/{section}", "404"), Some(2.0));
    assert_eq!(requests("none", "-", "404"), Some(1.0));
    assert_eq!(requests("none", "/health/live", "200"), Some(1.0));
    assert_eq!(
        scraped.value("tierkeep_request_seconds_count", &[]),
        Some(5.0)
    );
    let text = scraped.text();
    for secret in [SUBJECT, "reader", "no/such"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn decisions_are_counted() {
    let world = World::new(Backend::Memory).await;
    world.internal("GET", "/v1/route").send().await.expect(200);
    world.external("GET", "/v1/route").send().await.expect(200);
    world
        .internal("GET", "/v1/route")
        .named("reader")
        .send()
        .await
        .expect(200);
    world.ask("GET", "/v1/route").send().await.expect(401);
    world
        .ask("GET", "/v1/route")
        .named("a.b")
        .send()
        .await
        .expect(422);
    let unreachable = world
        .ask("GET", "/v1/route")
        .jwt(&world.token(SUBJECT, None));
    unreachable
        .github(UNREACHABLE_TOKEN)
        .send()
        .await
        .expect(503);
    let scraped = scraped(&world).await;
    for (decision, expected) in [
        ("internal", 1.0),
        ("external", 1.0),
        ("ambiguous", 1.0),
        ("credentials_required", 1.0),
        ("invalid_username", 1.0),
        ("identity_unavailable", 1.0),
        ("ambiguous_identity", 0.0),
    ] {
        let value = scraped.value(
            "tierkeep_detector_decisions_total",
            &[("decision", decision)],
        );
        assert_eq!(value, Some(expected), "{decision}");
    }
    assert!(!scraped.text().contains(ACCOUNT_TOKEN));
}

#[tokio::test]
async fn a_database_that_is_away_is_seen() {
    let world = World::new(Backend::Memory).await;
    world.faults.set_down(Role::SrieMainHr, true);
    let scraped = scraped(&world).await;
    for role in Role::ALL {
        let up = scraped.value("tierkeep_database_up", &[("database", role.name())]);
        assert_eq!(
            up,
            Some(if role == Role::SrieMainHr { 0.0 } else { 1.0 }),
            "{role}"
        );
    }
}

#[tokio::test]
async fn what_waits_and_what_moved_is_told() {
    let world = World::new(Backend::Memory).await;
    let old: DateTime = tierkeep_core::clock::before(world.clock.now(), 25 * HOUR);
    let temp = &world.stores[&Role::RaseenTempUser];
    let documents = [
        native_user(1, 1).dated(old).build(),
        native_user(2, 1).dated(old).build(),
    ];
    temp.insert("internal_users", &documents).await.unwrap();
    let looked = looked_at(&world).await;
    assert_eq!(looked.value("tierkeep_due_documents", &[]), Some(2.0));
    assert_eq!(
        looked.value("tierkeep_migration_lag_seconds", &[]),
        Some(3_600.0)
    );
    let temp = [("database", "raseen_temp_user")];
    assert_eq!(looked.value("tierkeep_documents", &temp), Some(2.0));

    world
        .admin("POST", "/v1/admin/migrations/run")
        .send()
        .await
        .expect(202);
    world.mover.finished().await;
    let looked = looked_at(&world).await;
    assert_eq!(looked.value("tierkeep_due_documents", &[]), Some(0.0));
    assert_eq!(
        looked.value("tierkeep_migration_lag_seconds", &[]),
        Some(0.0)
    );
    assert_eq!(
        looked.value("tierkeep_migrations_total", &[("outcome", "moved")]),
        Some(2.0)
    );
    let up_to = "tierkeep_verified_up_to_timestamp_seconds";
    assert_eq!(looked.value(up_to, &[]), Some(0.0));
    let verify = world.admin("POST", "/v1/admin/verify");
    verify.send().await.expect(200);
    let overview = world.admin("GET", "/v1/admin/overview").send().await;
    let overview = overview.expect(200).value();
    let shown = overview["verified_up_to"].as_str().unwrap();
    let shown = DateTime::parse_rfc3339_str(shown).unwrap();
    let value = looked_at(&world).await.value(up_to, &[]).unwrap();
    let value = format!("{:.0}", value * 1_000.0);
    assert_eq!(value, shown.timestamp_millis().to_string());
    for (role, documents) in [("raseen_temp_user", 0.0), ("srie_main_user", 2.0)] {
        let held = looked.value("tierkeep_documents", &[("database", role)]);
        assert_eq!(held, Some(documents), "{role}");
    }
}

#[tokio::test]
async fn hr_records_are_counted_and_so_is_what_their_backup_lacks() {
    let world = World::new(Backend::Memory).await;
    let put = async |id: &str| {
        let path = format!("/v1/hr/hr_candidates/{id}");
        let put = world.hr("PUT", &path).json("{}").send().await;
        put.expect(201);
    };
    put("c1").await;
    world.faults.set_down(Role::SrieMainHr, true);
    put("c2").await;
    put("c3").await;
    let pending = [("kind", "hr")];
    let looked = looked_at(&world).await;
    assert_eq!(looked.value("tierkeep_backup_pending", &pending), Some(2.0));
    let main = [("database", "raseen_main_hr")];
    assert_eq!(looked.value("tierkeep_documents", &main), Some(3.0));
    // What a database that is away knows stays as it was.
    world.faults.set_down(Role::RaseenMainHr, true);
    let looked = looked_at(&world).await;
    assert_eq!(looked.value("tierkeep_backup_pending", &pending), Some(2.0));
    assert_eq!(looked.value("tierkeep_documents", &main), Some(3.0));
}

/// The metrics after everything was looked up once.
pub(super) async fn looked_at(world: &World) -> Exposition {
    let stop = CancellationToken::new();
    let service = world.mover.service.clone();
    let (waits, _) = tokio::sync::watch::channel(None);
    let metrics = world.state.metrics.clone();
    let refreshing = refresh(metrics, service, HOUR, waits, stop.clone());
    // In memory all gauges are set at the first refresh, before the first pause.
    let refreshed = tokio::time::timeout(Duration::from_millis(50), refreshing).await;
    assert!(refreshed.is_err(), "it was never cancelled");
    scraped(world).await
}

#[test]
fn the_page_about_metrics_has_every_one() {
    let page = file(PAGE);
    let rows: BTreeSet<String> = page
        .lines()
        .filter(|line| line.starts_with("| `tierkeep_"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            cells[1..4].join(" ")
        })
        .collect();
    let expected: BTreeSet<String> = METRICS
        .iter()
        .map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
            format!(
                "`{}` {} {}",
                metric.name,
                metric.kind.as_str(),
                labels.join(", ")
            )
        })
        .collect();
    let expected: BTreeSet<String> = expected.iter().map(|row| row.trim().to_owned()).collect();
    let rows: BTreeSet<String> = rows.iter().map(|row| row.trim().to_owned()).collect();
    assert_eq!(rows, expected);
}

#[test]
fn a_scrape_before_the_databases_are_open_has_every_family() {
    let scraped = Exposition::read(&Metrics::new().render());
    assert_eq!(scraped.families().count(), METRICS.len());
}

/// A file of the repository.
fn file(path: &str) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

const RULES: &str = "deploy/prometheus/rules.yaml";
const PAGE: &str = "docs/operations/metrics.md";

#[test]
fn the_page_about_metrics_has_every_alerting_rule_with_its_severity() {
    let rules = file(RULES);
    let mut written = BTreeMap::new();
    let mut name = "";
    for line in rules.lines().map(str::trim) {
        if let Some(alert) = line.strip_prefix("- alert: ") {
            name = alert;
        } else if let Some(labels) = line.strip_prefix("labels: {severity: ") {
            written.insert(name, labels.trim_end_matches('}'));
        }
    }
    assert_eq!(written.len(), rules.matches("- alert: ").count());
    let page = file(PAGE);
    let described: BTreeMap<&str, &str> = page
        .lines()
        .filter(|line| line.starts_with("| `Tierkeep"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`'), cells[2])
        })
        .collect();
    assert_eq!(described, written);
}

#[test]
fn the_alerting_rules_name_metrics_that_exist() {
    let rules = file(RULES);
    let known: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let expressions: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "))
        .collect();
    assert!(expressions.len() > 5, "{rules}");
    for expression in expressions {
        let named: Vec<&str> = expression
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("tierkeep_"))
            .collect();
        assert!(!named.is_empty(), "{expression}");
        for name in named {
            assert!(known.contains(name), "{name} in {expression}");
        }
        // Labels in braces and after `by` are some that its metrics have.
        let labels: Vec<&str> = METRICS
            .iter()
            .filter(|metric| expression.contains(metric.name))
            .flat_map(|metric| metric.labels)
            .copied()
            .collect();
        let by = expression
            .split("by (")
            .skip(1)
            .map(|rest| &rest[..rest.find(')').unwrap()]);
        let braced = expression
            .split('{')
            .skip(1)
            .map(|rest| &rest[..rest.find('=').unwrap()]);
        for label in by.chain(braced) {
            assert!(labels.contains(&label), "{label} in {expression}");
        }
    }
}
