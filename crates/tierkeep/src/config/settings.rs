//! The settings as types: what the verbs get. Owns what values mean together; a value of these types is complete and
//! free of contradictions, as far as that can be known without contacting a server.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use tierkeep_core::hr::HrCollection;
use tierkeep_core::mover::Verify;
use tierkeep_core::user::Section;
use tierkeep_engine::{ConnectSettings, MoverSettings};

use super::alerts::{self, AlertConfig};
use super::audit::{self, AuditConfig};
use super::databases::{self, Backend, CLUSTER_URL, Missing};
use super::identity::{self, IdentitySettings};
use super::loaded::Loaded;
use super::problem::{Problem, Problems};
use crate::http::TrafficSettings;

/// What every verb that opens the databases needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the seven databases are.
    pub backend: Backend,
    /// How patiently they are connected to.
    pub connect: ConnectSettings,
    /// Whether servers are taken that only speak the protocol of MongoDB.
    pub untested_server: bool,
    /// How the mover works.
    pub mover: MoverSettings,
    /// How often the service looks for documents that are due.
    pub scan_interval: Duration,
    /// In which time the service compares main with its backup once.
    pub verify_period: Duration,
    /// How long the tombstone of an erased user stays.
    pub tombstone_ttl: Duration,
    /// How long completed migration records are kept; `None` keeps them indefinitely.
    pub record_retention: Option<Duration>,
    /// Collections of HR records.
    pub hr_collections: Vec<HrCollection>,
    /// Interval at which HR records that are missing in the backup are delivered.
    pub reconcile_interval: Duration,
    /// How the audit trail is kept.
    pub audit: AuditConfig,
    /// How alerts are delivered.
    pub alerts: AlertConfig,
}

/// What the service needs.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// What every verb needs.
    pub settings: Settings,
    /// How callers are identified.
    pub identity: IdentitySettings,
    /// How HTTP is served.
    pub http: HttpSettings,
}

/// How HTTP is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpSettings {
    /// Address on which the service listens.
    pub listen: SocketAddr,
    /// Where operators look, if not there.
    pub ops_listen: Option<SocketAddr>,
    /// Sections of a user document that can be read and written.
    pub sections: Vec<Section>,
    /// The largest bodies.
    pub max_body: MaxBody,
    /// The memory of bodies that are received, parsed, written and shown.
    pub body_memory_bytes: usize,
    /// How much callers may ask.
    pub traffic: TrafficSettings,
}

/// The largest bodies of sections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxBody {
    /// Of internal users' sections and of HR records.
    pub internal_bytes: usize,
    /// Of external users' sections.
    pub external_bytes: usize,
}

impl Default for MaxBody {
    /// 8 MiB and 1 MiB.
    fn default() -> Self {
        Self {
            internal_bytes: 8 << 20,
            external_bytes: 1 << 20,
        }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The form of log lines that was asked for.
pub fn log_format(loaded: &Loaded) -> Option<LogFormat> {
    match loaded.text("TIERKEEP_LOG")? {
        "json" => Some(LogFormat::Json),
        _ => Some(LogFormat::Text),
    }
}

impl Settings {
    /// The settings of a verb that opens the databases.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn of(loaded: &Loaded) -> Result<Self, Problems> {
        let mut problems = loaded.problems().to_vec();
        let mut missing = Vec::new();
        let settings = Self::collect(loaded, &mut missing, &mut problems);
        finish(settings, loaded, &missing, problems)
    }

    pub(super) fn collect(
        loaded: &Loaded,
        missing: &mut Vec<Missing>,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let audit = audit::audit(loaded, problems);
        let hr_collections = hr_collections(loaded, problems);
        let alerts = alerts::alerts(loaded, missing, problems);
        let backend = databases::backend(loaded, missing, problems)?;
        let connect = ConnectSettings {
            retries: u32::try_from(number(loaded, "TIERKEEP_CONNECT_RETRIES")).unwrap_or(u32::MAX),
            backoff: loaded.duration("TIERKEEP_CONNECT_BACKOFF"),
        };
        let mover = MoverSettings {
            retention: loaded.duration("TIERKEEP_RETENTION"),
            batch_documents: number(loaded, "TIERKEEP_BATCH_DOCUMENTS"),
            batch_bytes: number(loaded, "TIERKEEP_BATCH_BYTES"),
            batches_in_flight: number(loaded, "TIERKEEP_BATCHES_IN_FLIGHT"),
            max_rate: NonZeroU32::new(
                u32::try_from(number(loaded, "TIERKEEP_MAX_RATE")).unwrap_or(u32::MAX),
            ),
            retry_backoff: loaded.duration("TIERKEEP_RETRY_BACKOFF"),
            foreign_writers: loaded.is_on("TIERKEEP_FOREIGN_WRITERS"),
            verify: match loaded.text("TIERKEEP_VERIFY") {
                Some("version") => Verify::Version,
                _ => Verify::Full,
            },
            ..MoverSettings::default()
        };
        let scan_interval = loaded.duration("TIERKEEP_SCAN_INTERVAL");
        Some(Self {
            backend,
            connect,
            untested_server: loaded.is_on("TIERKEEP_UNTESTED_SERVER"),
            mover,
            scan_interval,
            verify_period: loaded.duration("TIERKEEP_VERIFY_PERIOD"),
            tombstone_ttl: loaded.duration("TIERKEEP_TOMBSTONE_TTL"),
            hr_collections,
            reconcile_interval: loaded.duration("TIERKEEP_RECONCILE_INTERVAL"),
            record_retention: loaded
                .value(RECORD_RETENTION)
                .map(|_| loaded.duration(RECORD_RETENTION)),
            audit,
            alerts,
        })
    }
}

const RECORD_RETENTION: &str = "TIERKEEP_RECORD_RETENTION";
const PUBLIC_CONCURRENCY: &str = "TIERKEEP_PUBLIC_CONCURRENCY";

impl ServiceSettings {
    /// The settings of the service.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn of(loaded: &Loaded) -> Result<Self, Problems> {
        let mut problems = loaded.problems().to_vec();
        let mut missing = Vec::new();
        let settings = Settings::collect(loaded, &mut missing, &mut problems);
        let identity = identity::identity(loaded, &mut missing, &mut problems);
        let backend = settings.as_ref().map(|settings| &settings.backend);
        let http = http(loaded, backend, &mut problems);
        let service = settings.zip(identity).zip(http);
        let service = service.map(|((settings, identity), http)| Self {
            settings,
            identity,
            http,
        });
        finish(service, loaded, &missing, problems)
    }
}

/// How many public requests are at work at once where nothing is said. Measured, so that a flood of them leaves internal
/// users their pace: a file of SQLite has one writer, whom they would otherwise wait for, and beside a server they would
/// wait for a processor.
fn turns(backend: Option<&Backend>) -> u64 {
    const FEWEST: u64 = 2;
    match backend {
        Some(Backend::Embedded { .. }) => FEWEST,
        Some(Backend::Mongo(_)) | None => {
            let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            u64::try_from(processors).unwrap_or(FEWEST).max(FEWEST)
        }
    }
}

fn http(
    loaded: &Loaded,
    backend: Option<&Backend>,
    problems: &mut Vec<Problem>,
) -> Option<HttpSettings> {
    let sections = sections(loaded, problems);
    let max_body = loaded
        .number("TIERKEEP_MAX_BODY")
        .map_or_else(MaxBody::default, |bytes| {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            MaxBody {
                internal_bytes: bytes,
                external_bytes: bytes,
            }
        });
    let networks = loaded.words("TIERKEEP_TRUSTED_PROXIES");
    let network = |word: &str| {
        let address = || word.parse().ok().map(|address: IpAddr| address.into());
        word.parse().ok().or_else(address)
    };
    let traffic = TrafficSettings {
        rate: count(loaded, "TIERKEEP_PUBLIC_RATE"),
        burst: count(loaded, "TIERKEEP_PUBLIC_BURST"),
        new_users: count(loaded, "TIERKEEP_PUBLIC_NEW_USERS"),
        concurrency: at_least_one(
            loaded
                .number(PUBLIC_CONCURRENCY)
                .unwrap_or_else(|| turns(backend)),
        ),
        writes: loaded.is_on("TIERKEEP_PUBLIC_WRITES"),
        trusted_proxies: networks.iter().filter_map(|word| network(word)).collect(),
    };
    Some(HttpSettings {
        ops_listen: ops_listen(loaded, problems),
        listen: loaded.address("TIERKEEP_LISTEN")?,
        traffic,
        sections,
        max_body,
        body_memory_bytes: usize::try_from(loaded.number("TIERKEEP_BODY_MEMORY")?)
            .unwrap_or(usize::MAX),
    })
}

/// Where operators look, if not where the service listens.
fn ops_listen(loaded: &Loaded, problems: &mut Vec<Problem>) -> Option<SocketAddr> {
    const NAME: &str = "TIERKEEP_OPS_LISTEN";
    let address = loaded.address(NAME)?;
    // The system chooses two ports for two zeros.
    if address.port() != 0 && loaded.address("TIERKEEP_LISTEN") == Some(address) {
        let source = loaded.source(NAME);
        let message = format!("{NAME} is {address}, the same as TIERKEEP_LISTEN ({source})");
        let remedy = "set another address, or remove it: then TIERKEEP_LISTEN serves everything";
        problems.push(Problem::new(NAME, message).remedy(remedy));
    }
    Some(address)
}

/// The sections of a user document that can be read and written, for verbs that show users.
///
/// # Errors
/// Everything that is wrong with their names.
pub fn user_sections(loaded: &Loaded) -> Result<Vec<Section>, Problems> {
    let mut problems = Vec::new();
    let sections = sections(loaded, &mut problems);
    Problems::check(problems)?;
    Ok(sections)
}

fn sections(loaded: &Loaded, problems: &mut Vec<Problem>) -> Vec<Section> {
    const NAME: &str = "TIERKEEP_SECTIONS";
    let mut sections: Vec<Section> = Vec::new();
    let source = loaded.source(NAME);
    for word in loaded.words(NAME) {
        match Section::parse(word) {
            Ok(section) if sections.contains(&section) => {
                problems.push(Problem::new(
                    NAME,
                    format!("{NAME} lists {word:?} twice ({source})"),
                ));
            }
            Ok(section) => sections.push(section),
            Err(error) => problems.push(Problem::new(NAME, format!("{NAME} ({source}): {error}"))),
        }
    }
    sections
}

fn hr_collections(loaded: &Loaded, problems: &mut Vec<Problem>) -> Vec<HrCollection> {
    const NAME: &str = "TIERKEEP_HR_COLLECTIONS";
    let mut collections: Vec<HrCollection> = Vec::new();
    let source = loaded.source(NAME);
    for word in loaded.words(NAME) {
        match HrCollection::parse(word) {
            Ok(collection) if collections.contains(&collection) => {
                problems.push(Problem::new(
                    NAME,
                    format!("{NAME} lists {word:?} twice ({source})"),
                ));
            }
            Ok(collection) => collections.push(collection),
            Err(error) => problems.push(Problem::new(NAME, format!("{NAME} ({source}): {error}"))),
        }
    }
    collections
}

/// A number from 1 upwards, as the table makes sure.
fn count(loaded: &Loaded, name: &str) -> NonZeroU32 {
    at_least_one(loaded.number(name).unwrap_or_default())
}

fn at_least_one(number: u64) -> NonZeroU32 {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

fn number(loaded: &Loaded, name: &str) -> usize {
    usize::try_from(loaded.number(name).unwrap_or_default()).unwrap_or(usize::MAX)
}

/// `settings` if nothing is wrong or missing.
pub(super) fn finish<T>(
    settings: Option<T>,
    loaded: &Loaded,
    missing: &[Missing],
    mut problems: Vec<Problem>,
) -> Result<T, Problems> {
    // If a file could not be read, it is unknown what is missing.
    if !missing.is_empty() && loaded.is_complete() {
        problems.insert(0, all_missing(missing));
    }
    Problems::check(problems)?;
    settings.ok_or_else(|| Problem::new("configuration", "the configuration is incomplete").into())
}

fn all_missing(missing: &[Missing]) -> Problem {
    let width = missing
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    let lines = missing
        .iter()
        .map(|(name, purpose)| format!("\n  {name:width$}  {purpose}"));
    let message = format!("missing configuration:{}", lines.collect::<String>());
    let databases = missing.iter().any(|(name, _)| name.ends_with("_DB_URL"));
    let problem = Problem::among(missing.iter().map(|(name, _)| *name), message);
    if databases {
        problem.remedy(format!(
            "--data-dir DIR keeps everything in a directory, for a trial without a server;\n\
             {CLUSTER_URL} gives one connection string for all seven databases;\n\
             each variable may also be NAME_FILE, the path of a file that holds the value"
        ))
    } else {
        problem
    }
}
