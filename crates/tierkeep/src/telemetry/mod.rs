//! Logs: where lines go and which are written.
//!
//! Owns the set-up of `tracing` for the process. Lines go to stderr, one write each; a line that cannot be
//! written is lost without harm. Must never write to stdout, which belongs to results.
//!
//! Where to look: `layer` (from events to lines), `fields` (what a line carries), `line` (its two forms), `otel` (traces
//! for a collector).

mod fields;
mod layer;
mod line;
#[cfg(feature = "otel")]
mod otel;

use std::any::Any;
use std::io;
use std::sync::Arc;

use tierkeep_core::clock::Clock;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use layer::LineLayer;
pub(crate) use line::harmless;
#[cfg(feature = "otel")]
pub use otel::Traces;

use crate::config::LogFormat;
use crate::config::source::Raw;

/// What tierkeep's own targets start with, all crates of the workspace among them.
const OWN_TARGETS: &str = "tierkeep";

/// How lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    /// Their form.
    pub format: LogFormat,
    /// Whether text lines have colours.
    pub colour: bool,
}

/// What sends spans: nothing, without the feature `otel`.
#[cfg(not(feature = "otel"))]
#[derive(Clone, Copy, Debug)]
pub struct Traces;

#[cfg(not(feature = "otel"))]
impl Traces {
    fn of(_environment: &[(String, Raw)]) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "with the feature it is needed")]
    fn layer(self) -> Option<tracing_subscriber::layer::Identity> {
        None
    }

    /// Nothing is left to be sent.
    pub fn end(self) {}
}

/// Starts logging for this process; where it has started already, that stays. Spans go where the environment says.
///
/// Other libraries log at `warn` and above, whatever the level: their finer lines may quote what no
/// log may hold.
pub fn init(
    style: Style,
    level: LevelFilter,
    clock: Arc<dyn Clock>,
    environment: &[(String, Raw)],
) -> Traces {
    let traces = Traces::of(environment);
    let targets = Targets::new()
        .with_target(OWN_TARGETS, level)
        .with_default(level.min(LevelFilter::WARN));
    let lines = LineLayer::new(style, io::stderr, clock).with_filter(targets);
    let started = tracing_subscriber::registry()
        .with(lines)
        .with(traces.layer())
        .try_init();
    if started.is_err() {
        tracing::debug!("logging has started already");
        return traces;
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let text = literal(panic.payload()).unwrap_or("its text may quote a document");
        tracing::error!(place, text, "a defect: the program panicked");
    }));
    traces
}

/// The text of a panic, where it is a literal in the program that quotes nothing.
fn literal(payload: &dyn Any) -> Option<&'static str> {
    payload.downcast_ref::<&'static str>().copied()
}

/// The level for this many `-v` less this many `-q`, counted from `usual`.
pub fn level(usual: LevelFilter, louder: i16) -> LevelFilter {
    const LEVELS: [LevelFilter; 6] = [
        LevelFilter::OFF,
        LevelFilter::ERROR,
        LevelFilter::WARN,
        LevelFilter::INFO,
        LevelFilter::DEBUG,
        LevelFilter::TRACE,
    ];
    let at = LEVELS
        .iter()
        .position(|level| *level == usual)
        .unwrap_or_default();
    let wanted = i16::try_from(at)
        .unwrap_or_default()
        .saturating_add(louder)
        .clamp(0, 5);
    LEVELS[usize::try_from(wanted).unwrap_or_default()]
}

#[cfg(test)]
mod tests;
