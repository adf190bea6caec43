//! The predecessor's data: owns what the verbs that read it have in common.
//!
//! Where to look: `import` (bringing it in, once or for as long as the predecessor runs), `verify` (comparing).

mod import;
mod text;
mod verify;

use std::collections::BTreeSet;
use std::sync::Arc;

use tierkeep_core::legacy::{Dates, Derived, Source};
use tierkeep_engine::{Engine, Purpose};
use tierkeep_legacy::{Followed, Importer, Options, Progress};
use tracing::warn;

use super::Context;
use super::progress::Progress as CommandProgress;
use crate::config::ImportSettings;

pub use import::ImportArgs;
pub(super) use import::run as import;
pub use verify::VerifyArgs;
pub(super) use verify::run as verify;

/// What is read, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct ReadingArgs {
    /// Also import data that can be recomputed: profile, rankings, scores
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = derived)]
    pub include: Vec<Derived>,
    /// The time zone of the machine that wrote scanDate and analyzedAt (Asia/Kolkata, +05:30); if not given, these
    /// dates are used only where a document has no other date, and read as UTC
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    pub local_zone: Option<jiff::tz::TimeZone>,
}

fn derived(word: &str) -> Result<Derived, String> {
    Derived::parse(word).ok_or_else(|| "expected profile, rankings or scores".to_owned())
}

fn zone(text: &str) -> Result<jiff::tz::TimeZone, String> {
    jiff::fmt::temporal::DateTimeParser::new()
        .parse_time_zone(text)
        .map_err(|_| "expected a time zone such as Asia/Kolkata, or +05:30".to_owned())
}

/// An import as the arguments and settings say, with its databases open.
async fn importer(
    context: &Context,
    mut settings: ImportSettings,
    purpose: Purpose,
    reading: &ReadingArgs,
    dry_run: bool,
) -> anyhow::Result<(Importer, Arc<Engine>)> {
    let mut sources: Vec<Arc<dyn Source>> = Vec::new();
    for source in &settings.sources {
        let (url, name) = (&source.url, Some(source.database.as_str()));
        let legacy = context
            .servers
            .legacy(url, source.variable, name, "")
            .await?;
        sources.push(Arc::new(legacy));
    }
    let kept = &mut settings.settings.hr_collections;
    for collection in tierkeep_legacy::hr_collections(&sources).await? {
        if !kept.contains(&collection) {
            warn!(
                collection = collection.as_str(),
                "the predecessor has HR records in a collection that TIERKEEP_HR_COLLECTIONS does not list: they are \
                 imported, but not served, compared or exported until it is listed",
            );
            kept.push(collection);
        }
    }
    let (engine, _) = context.open(&settings.settings, purpose).await?;
    let options = Options {
        include: reading.include.iter().copied().collect::<BTreeSet<_>>(),
        dates: Dates {
            local: reading.local_zone.clone(),
        },
        dry_run,
    };
    let mover = settings.settings.mover;
    let importer = Importer::new(sources, Arc::clone(&engine), mover, options);
    Ok((importer, engine))
}

/// Progress of an import; later how far behind the source it is.
struct Bar(CommandProgress);

impl Bar {
    fn of(context: &Context) -> Self {
        Self(CommandProgress::of(context, ""))
    }

    fn at(&self, what: &'static str, done: u64, all: u64) {
        self.0.begin(what);
        self.0.expect(all);
        self.0.at(done, "");
    }
}

impl Progress for Bar {
    fn looked_at(&self, done: u64, all: u64) {
        self.at("looking", done, all);
    }

    fn settled(&self, done: u64, all: u64) {
        self.at("importing", done, all);
    }

    fn follows(&self, followed: &Followed) {
        self.0.tell(format!(
            "following: {} changes, {} users, {} s behind; press Ctrl-C to stop",
            followed.changes, followed.users, followed.lag.0
        ));
    }
}
