//! Progress of commands that may take minutes: a bar on a terminal, a log line a minute where there is none.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tierkeep_core::db::Role;
use tierkeep_engine::{DumpProgress, Engine, Progress as MoveProgress, Summary};
use tracing::info;

use super::Context;
use crate::output::Format;

/// Where the end is known.
const WITH_END: &str = "{prefix} {wide_bar} {pos}/{len}, {per_sec}, {eta} left{msg}";
/// Where it is not.
const WITHOUT_END: &str = "{spinner} {prefix} {pos}, {per_sec}{msg}";
const SECONDS_PER_MINUTE: u64 = 60;

/// How far a command is. The bar goes when this is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    is_shown: bool,
    /// How many minutes of it are in the log.
    minutes: AtomicU64,
}

impl Progress {
    /// Of a command that does `what` to one document after the other, such as "compared".
    pub(crate) fn of(context: &Context, what: &'static str) -> Self {
        let is_shown = context.format == Format::Text && io::stderr().is_terminal();
        let bar = if is_shown {
            ProgressBar::no_length()
        } else {
            ProgressBar::hidden()
        };
        bar.set_prefix(what);
        let progress = Self {
            bar,
            is_shown,
            minutes: AtomicU64::new(0),
        };
        progress.style(WITHOUT_END);
        progress
    }

    /// Counts what these databases hold if the bar is shown: only then is the total worth the count.
    pub(crate) async fn counting(self, engine: &Engine, roles: &[Role]) -> Self {
        if !self.is_shown {
            return self;
        }
        let mut all = 0;
        for role in roles {
            match engine.databases().documents(*role).await {
                Ok(documents) => all += documents,
                Err(_) => return self,
            }
        }
        self.expect(all);
        self
    }

    /// Whether the bar is shown.
    pub(crate) fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// There are this many.
    pub(crate) fn expect(&self, all: u64) {
        if self.bar.length() != Some(all) {
            self.bar.set_length(all);
            self.style(WITH_END);
        }
    }

    /// Another kind of work begins.
    pub(crate) fn begin(&self, what: &'static str) {
        if self.bar.prefix() != what {
            self.bar.reset();
            self.bar.set_prefix(what);
            self.minutes.store(0, Ordering::Relaxed);
        }
    }

    /// This many are done; `more` is what else there is to tell, such as ", 3 failed".
    pub(crate) fn at(&self, done: u64, more: impl Into<String>) {
        // Documents come while the command runs.
        if self.bar.length().is_some_and(|all| all < done) {
            self.bar.set_length(done);
        }
        self.bar.set_message(more.into());
        self.bar.set_position(done);
        let elapsed = self.bar.elapsed();
        if !self.is_shown && self.is_another_minute(elapsed) {
            let of = self.bar.length().filter(|all| *all < u64::MAX);
            let per_second = done / elapsed.as_secs().max(1);
            info!(
                done,
                of,
                per_second,
                "{} {done}{}",
                self.bar.prefix(),
                self.bar.message()
            );
        }
    }

    /// Tells what goes on where nothing is counted.
    pub(crate) fn tell(&self, message: String) {
        self.style("{spinner} {msg}");
        self.bar.set_message(message);
        self.bar.tick();
    }

    /// Whether a minute has begun that is not in the log.
    fn is_another_minute(&self, elapsed: Duration) -> bool {
        let minutes = elapsed.as_secs() / SECONDS_PER_MINUTE;
        self.minutes.fetch_max(minutes, Ordering::Relaxed) < minutes
    }

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl DumpProgress for Progress {
    fn expect(&self, documents: u64) {
        Self::expect(self, documents);
    }

    fn report(&self, documents: u64) {
        self.at(documents, "");
    }
}

impl MoveProgress for Progress {
    fn report(&self, summary: &Summary) {
        let failed = match summary.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        self.at(summary.moved, failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_logged_once() {
        let progress = Progress {
            bar: ProgressBar::hidden(),
            is_shown: false,
            minutes: AtomicU64::new(0),
        };
        let logged = [0, 59, 60, 61, 119, 120, 300, 301].map(Duration::from_secs);
        let logged = logged.map(|elapsed| progress.is_another_minute(elapsed));
        assert_eq!(
            logged,
            [false, false, true, false, false, true, true, false]
        );
    }
}
