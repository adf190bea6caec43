//! From events to lines: owns what spans remember and the one place where a line is made and written, with
//! the 🔐/🌐 marker of its user type.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use tierkeep_core::clock::Clock;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::Style;
use super::fields::Fields;
use super::line::line;

/// Writes every event as one line that carries the fields of the spans around it; on the same name the
/// innermost counts.
pub struct LineLayer<W> {
    style: Style,
    writer: W,
    clock: Arc<dyn Clock>,
}

impl<W> LineLayer<W> {
    /// A layer that writes lines of this style.
    pub fn new(style: Style, writer: W, clock: Arc<dyn Clock>) -> Self {
        Self {
            style,
            writer,
            clock,
        }
    }
}

impl<W> fmt::Debug for LineLayer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineLayer")
            .field("style", &self.style)
            .finish_non_exhaustive()
    }
}

impl<S, W> Layer<S> for LineLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(Scope::from_root)
        {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.merge(outer.clone());
            }
        }
        event.record(&mut fields);
        let line = line(self.style, self.clock.now(), event.metadata(), fields);
        // There is nowhere left to report that the log cannot be written.
        let _ = self
            .writer
            .make_writer_for(event.metadata())
            .write_all(line.as_bytes());
    }
}
