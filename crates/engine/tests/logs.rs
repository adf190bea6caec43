//! The log lines of the engine on the thread of a test, for tests of what must be logged.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Line {
    pub level: Level,
    /// The message and the fields, `name=value`, each after a space.
    pub text: String,
}

impl Line {
    pub fn says(&self, level: Level, parts: &[&str]) -> bool {
        self.level == level && parts.iter().all(|part| self.text.contains(part))
    }
}

/// Collects what is logged on this thread while it lives; the thread's runtime must have no other.
pub struct Logs {
    lines: Arc<Mutex<Vec<Line>>>,
    _guard: DefaultGuard,
}

impl Logs {
    pub fn collected() -> Self {
        let lines = Arc::default();
        let layer = Collector(Arc::clone(&lines));
        Self {
            lines,
            _guard: tracing::subscriber::set_default(tracing_subscriber::registry().with(layer)),
        }
    }

    /// What was logged since this was last asked.
    pub fn taken(&self) -> Vec<Line> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }
}

struct Collector(Arc<Mutex<Vec<Line>>>);

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = *event.metadata().level();
        let line = Line {
            level,
            text: text.0,
        };
        self.0.lock().unwrap().push(line);
    }
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {field}={value}").unwrap();
    }
}
