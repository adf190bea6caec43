//! Traces through OpenTelemetry (feature `otel`): owns the way from spans to a collector.
//!
//! Where to, how often and with which headers is said by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`
//! and others), which its libraries read by themselves; without an endpoint nothing is gathered. Must never carry more
//! than spans, which hold names, routes, statuses and request ids: events stay in the log, and so do users.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::OWN_TARGETS;
use crate::config::source::Raw;

/// The variables that say where a collector is.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];
const DISABLED: &str = "OTEL_SDK_DISABLED";
/// The name of the service, unless `OTEL_SERVICE_NAME` gives another.
const SERVICE: &str = "tierkeep";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// What sends spans. Ended by [`Traces::end`], else the last of them are lost.
#[derive(Debug, Default)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Sends spans where the environment says so; nowhere where it says nothing.
    pub(super) fn of(environment: &[(String, Raw)]) -> Self {
        let value = |wanted: &str| {
            let found = environment.iter().find(|(name, _)| name == wanted);
            match found.map(|(_, value)| value) {
                Some(Raw::Text(text)) if !text.is_empty() => Some(text.as_str()),
                Some(Raw::Text(_) | Raw::Number(_) | Raw::Switch(_) | Raw::Unfit(_)) | None => None,
            }
        };
        let disabled = value(DISABLED).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        if disabled || ENDPOINTS.into_iter().all(|name| value(name).is_none()) {
            return Self::default();
        }
        let Ok(exporter) = SpanExporter::builder().with_http().build() else {
            // What is wrong may be quoted, and hold a password.
            return Self::default();
        };
        let mut resource = Resource::builder();
        if value(SERVICE_NAME).is_none() {
            resource = resource.with_service_name(SERVICE);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build());
        Self(Some(provider.build()))
    }

    /// What gathers the program's own spans, if they are sent: all of them, whatever the log shows.
    pub(super) fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let tracer = self.0.as_ref()?.tracer(SERVICE);
        let own = filter_fn(|metadata| {
            metadata.is_span()
                && *metadata.level() <= Level::DEBUG
                && metadata.target().starts_with(OWN_TARGETS)
        })
        .with_max_level_hint(LevelFilter::DEBUG);
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false);
        Some(layer.with_filter(own))
    }

    /// Sends what was gathered and not sent yet. Not to be called within a runtime.
    pub fn end(self) {
        if let Some(provider) = self.0
            && provider.shutdown().is_err()
        {
            warn!("the last spans could not be sent");
        }
    }
}
