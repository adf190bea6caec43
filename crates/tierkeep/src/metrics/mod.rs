//! Metrics: owns every number that the service tells a monitoring system.
//!
//! Must never carry a user, a token or anything else that a caller chose: the values of labels are the routes,
//! statuses and names that the service itself has. Where to look: `table` (every metric, once), `refresh` (numbers
//! that are looked up from time to time).

mod refresh;
pub mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tierkeep_core::breaker::BreakerState;
use tierkeep_core::bson::DateTime;
use tierkeep_core::db::Role;
use tierkeep_engine::{BackupPending, Engine, MoveOutcome, Waiting};

pub use refresh::refresh;
use table::{METRICS, Metric, MetricKind};

/// Between a hit in a cache and a body that takes a minute to arrive, in seconds.
const SECONDS: [f64; 14] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];
/// The user type of a request that belongs to no user.
pub const NO_USER_TYPE: &str = "none";

/// Every metric. Clones are the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    seconds: Histogram,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Every series at zero.
    pub fn new() -> Self {
        let seconds = Matcher::Full(table::REQUEST_SECONDS.name.to_owned());
        let builder = PrometheusBuilder::new();
        let recorder = match builder.set_buckets_for_metric(seconds, &SECONDS) {
            Ok(builder) => builder.build_recorder(),
            // Only for no buckets at all.
            Err(_) => PrometheusBuilder::new().build_recorder(),
        };
        for metric in METRICS {
            let (name, help) = (metric.name.into(), metric.help.into());
            match metric.kind {
                MetricKind::Counter => recorder.describe_counter(name, None, help),
                MetricKind::Gauge => recorder.describe_gauge(name, None, help),
                MetricKind::Histogram => recorder.describe_histogram(name, None, help),
            }
        }
        let handle = recorder.handle();
        let seconds = histogram(&recorder, &table::REQUEST_SECONDS);
        let metrics = Self(Arc::new(Inner {
            recorder,
            handle,
            seconds,
        }));
        metrics.at_zero();
        metrics
    }

    fn at_zero(&self) {
        for metric in METRICS {
            let (Some(label), Some(values)) = (metric.labels.first(), metric.values) else {
                continue;
            };
            for value in values() {
                let labels = vec![Label::from_static_parts(label, value)];
                match metric.kind {
                    MetricKind::Counter => self.counter(metric, labels).absolute(0),
                    MetricKind::Gauge => self.gauge(metric, labels).set(0.0),
                    MetricKind::Histogram => {}
                }
            }
        }
        self.counter(
            &table::REQUESTS,
            of_request(NO_USER_TYPE, "/health/live".into(), "200".into()),
        )
        .absolute(0);
        self.waits(Waiting {
            quarantined: Some(0),
            backup_pending: BackupPending {
                user: Some(0),
                hr: Some(0),
            },
            verified_up_to: Some(DateTime::from_millis(0)),
            ..Waiting::default()
        });
    }

    /// The text of all of them.
    pub fn render(&self) -> String {
        self.0.handle.render()
    }

    /// Clears up after what was measured; for a timer, so that nothing piles up while the metrics are not read.
    pub fn upkeep(&self) {
        self.0.handle.run_upkeep();
    }

    /// A request that this route may answer with this status.
    pub(crate) fn expect_request(&self, user_type: &'static str, route: &str, status: &str) {
        let labels = of_request(user_type, route.to_owned(), status.to_owned());
        self.counter(&table::REQUESTS, labels).increment(0);
    }

    /// A request that was answered.
    pub(crate) fn request(
        &self,
        user_type: &'static str,
        route: &str,
        status: &str,
        took: Duration,
    ) {
        let labels = of_request(user_type, route.to_owned(), status.to_owned());
        self.counter(&table::REQUESTS, labels).increment(1);
        self.0.seconds.record(took);
    }

    /// Who was found to be asking, one of [`table::DECISIONS`].
    pub(crate) fn decided(&self, decision: &'static str) {
        let labels = vec![Label::from_static_parts("decision", decision)];
        self.counter(&table::DETECTOR_DECISIONS, labels)
            .increment(1);
    }

    /// What the engine counted, and what becomes of calls.
    pub(crate) fn take(&self, engine: &Engine) {
        let (moves, retries) = (engine.moves(), engine.databases().connect_retries());
        for outcome in MoveOutcome::ALL {
            let labels = vec![Label::from_static_parts("outcome", outcome.as_str())];
            self.counter(&table::MIGRATIONS, labels)
                .absolute(moves.of(outcome));
        }
        for role in Role::ALL {
            self.counter(&table::CONNECT_RETRIES, of_database(role))
                .absolute(retries.of(role));
            let open = engine
                .databases()
                .breaker(role)
                .unwrap_or(BreakerState::Closed);
            self.gauge(&table::BREAKER_OPEN, of_database(role))
                .set(flag(open != BreakerState::Closed));
        }
    }

    /// Whether a database answers.
    pub(crate) fn is_up(&self, role: Role, up: bool) {
        self.gauge(&table::DATABASE_UP, of_database(role))
            .set(flag(up));
    }

    /// How many documents a database holds.
    fn holds(&self, role: Role, documents: u64) {
        self.gauge(&table::DOCUMENTS, of_database(role))
            .set(number(documents));
    }

    fn waits(&self, waiting: Waiting) {
        self.gauge(&table::DUE_DOCUMENTS, Vec::new())
            .set(number(waiting.due));
        self.gauge(&table::MIGRATION_LAG_SECONDS, Vec::new())
            .set(waiting.lag.as_secs_f64());
        // What a database that is away knows stays as it was.
        if let Some(quarantined) = waiting.quarantined {
            self.gauge(&table::QUARANTINED_DOCUMENTS, Vec::new())
                .set(number(quarantined));
        }
        if let Some(up_to) = waiting.verified_up_to {
            self.gauge(&table::VERIFIED_UP_TO, Vec::new())
                .set(seconds(up_to));
        }
        for (kind, pending) in [
            ("user", waiting.backup_pending.user),
            ("hr", waiting.backup_pending.hr),
        ] {
            if let Some(pending) = pending {
                let labels = vec![Label::from_static_parts("kind", kind)];
                self.gauge(&table::BACKUP_PENDING, labels)
                    .set(number(pending));
            }
        }
    }

    fn counter(&self, metric: &Metric, labels: Vec<Label>) -> Counter {
        let key = Key::from_parts(metric.name, labels);
        self.0.recorder.register_counter(&key, &METADATA)
    }

    fn gauge(&self, metric: &Metric, labels: Vec<Label>) -> Gauge {
        let key = Key::from_parts(metric.name, labels);
        self.0.recorder.register_gauge(&key, &METADATA)
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn histogram(recorder: &PrometheusRecorder, metric: &Metric) -> Histogram {
    recorder.register_histogram(&Key::from_static_name(metric.name), &METADATA)
}

fn of_request(user_type: &'static str, route: String, status: String) -> Vec<Label> {
    vec![
        Label::from_static_parts("user_type", user_type),
        Label::new("route", route),
        Label::new("status", status),
    ]
}

fn of_database(role: Role) -> Vec<Label> {
    vec![Label::from_static_parts("database", role.name())]
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

/// Seconds since 1970.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of any date that a clock shows are exact"
)]
fn seconds(at: DateTime) -> f64 {
    at.timestamp_millis() as f64 / 1_000.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a double; beyond 2^53 documents an exact count is not needed"
)]
fn number(count: u64) -> f64 {
    count as f64
}
