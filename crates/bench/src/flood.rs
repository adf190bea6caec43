//! Internal users' requests while public requests flood the service, compared with calm, in alternating rounds; with
//! the bound on public requests and without.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use reqwest::{Client, Method};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Bench;
use crate::callers::{CallKind, Callers, Crowd, PACE, Round, Window, cells, seen};
use crate::measure::quantile;
use crate::place::{Home, Place};
use crate::report::{self, Section};
use crate::service::{Github, Service};

const CROWD: Crowd = Crowd {
    readers: 4,
    writers: 4,
    newcomers: 0,
};
/// How many public callers ask again as soon as they have an answer.
const FLOODERS: u64 = 64;
/// How long each half of a round takes.
const HALF: Duration = Duration::from_secs(5);
/// How long the service is given to get used to a change.
const BETWEEN: Duration = Duration::from_secs(1);
const USERS: u64 = 500;
/// How many public users are known.
const NAMES: u64 = 1_000;
const BOUND: &str = "TIERKEEP_PUBLIC_CONCURRENCY";
/// As good as none.
const UNBOUND: &str = "1000000";

/// Floods with and without the bound, on both.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let rounds = bench.arguments.rounds;
    let mut text = format!(
        "{}{}; {} readers and {} writers, each with a request every {} ms; {rounds} rounds of {} s calm and {} s in which \
         {FLOODERS} connections send requests as fast as they are answered, each from another address: reads and writes of \
         {NAMES} public users, and reads of users that do not exist. All run on the same machine. Medians of the \
         rounds, in ms.\n\n\
         | where | public at once | requests | calm p50 | flood p50 | ratio | goal | calm p99 | flood p99 | ratio | \
         public answers/s |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
        report::taken(),
        bench.settings(),
        CROWD.readers,
        CROWD.writers,
        PACE.as_millis(),
        HALF.as_secs(),
        HALF.as_secs(),
    );
    let mut wrong = Vec::new();
    for home in [&bench.mongodb, &bench.sqlite] {
        for bound in [None, Some(UNBOUND)] {
            let found = flooded(bench, home, bound, rounds).await?;
            wrong.extend(found.wrong);
            for (kind, all) in &found.rounds {
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} |",
                    home.name(),
                    bound.map_or("bounded", |_| "unbounded"),
                    kind.name(),
                    cells(all, 2.0),
                    found.public
                );
            }
        }
    }
    let _ = writeln!(
        text,
        "\n{} of the internal users' requests failed.",
        wrong.len()
    );
    if let Some(first) = wrong.first() {
        let _ = writeln!(text, "\nThe first that failed: {first}");
    }
    Ok(vec![Section {
        file: "benchmarks.md",
        name: "flood",
        text,
    }])
}

/// What one service went through.
struct Found {
    rounds: BTreeMap<CallKind, Vec<Round>>,
    wrong: Vec<String>,
    /// What the public was answered, in a second.
    public: String,
}

async fn flooded(bench: &Bench, home: &Home, bound: Option<&str>, rounds: usize) -> Result<Found> {
    let place = Place::fresh(home, "benchflood").await?;
    place.plant_young(0..USERS).await?;
    let github = Github::start().await?;
    let mut environment = bench.environment_of(&place);
    environment.push(("GITHUB_API_URL".into(), github.url.clone()));
    environment.push(("TIERKEEP_TRUSTED_PROXIES".into(), "127.0.0.1".into()));
    environment.extend(bound.map(|bound| (BOUND.to_owned(), bound.to_owned())));
    let service = Service::start(bench, &environment).await?;
    let stop = CancellationToken::new();
    let at_work = Callers::of(0..USERS)?.ask(&service.url, CROWD, &stop);
    let mut windows = Vec::new();
    let mut answered = Answered::default();
    // Every user is known, and every connection open.
    tokio::time::sleep(HALF).await;
    for _ in 0..rounds {
        let calm = half().await;
        let flood = Flood::begin(&service.url);
        tokio::time::sleep(BETWEEN).await;
        let flooded = half().await;
        answered.add(flood?.end()?);
        windows.push((calm, flooded));
        tokio::time::sleep(BETWEEN).await;
    }
    stop.cancel();
    let samples = seen(at_work).await?;
    drop(service);
    place.remove().await?;
    let mut found = Found {
        rounds: BTreeMap::new(),
        wrong: samples.iter().filter_map(|it| it.wrong.clone()).collect(),
        public: answered.text(),
    };
    for kind in [CallKind::Read, CallKind::Write] {
        for (calm, flood) in &windows {
            let round = Round {
                calm: calm.of(kind, &samples),
                other: flood.of(kind, &samples),
            };
            crate::say(&format!(
                "flood, {}, {}, {kind:?}: p50 {:.2} ms calm, {:.2} flooded",
                home.name(),
                bound.map_or("bounded", |_| "unbounded"),
                quantile(round.calm.clone(), 0.5),
                quantile(round.other.clone(), 0.5),
            ));
            found.rounds.entry(kind).or_default().push(round);
        }
    }
    Ok(found)
}

async fn half() -> Window {
    let from = Instant::now();
    tokio::time::sleep(HALF).await;
    Window {
        from,
        to: Instant::now(),
    }
}

/// What the public was answered, by status.
#[derive(Clone, Debug, Default)]
struct Answered {
    by_status: BTreeMap<u16, u64>,
    seconds: f64,
}

impl Answered {
    fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
    }

    fn text(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let rate = |count: &u64| *count as f64 / self.seconds.max(1e-9);
        let told = self
            .by_status
            .iter()
            .map(|(status, count)| format!("{status}: {:.0}", rate(count)));
        told.collect::<Vec<_>>().join(", ")
    }
}

/// Public callers on a thread of their own, so that measuring does not wait for them.
struct Flood {
    stop: CancellationToken,
    thread: JoinHandle<Result<BTreeMap<u16, u64>>>,
    begun: Instant,
}

impl Flood {
    fn begin(url: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let stop = CancellationToken::new();
        let (section, ended) = (
            Arc::<str>::from(format!("{url}/v1/user/scan_cache")),
            stop.clone(),
        );
        let thread = std::thread::spawn(move || runtime.block_on(pour(&section, &ended)));
        Ok(Self {
            stop,
            thread,
            begun: Instant::now(),
        })
    }

    fn end(self) -> Result<Answered> {
        self.stop.cancel();
        let seconds = self.begun.elapsed().as_secs_f64();
        let by_status = self
            .thread
            .join()
            .map_err(|_| anyhow!("the flood broke off"))??;
        Ok(Answered { by_status, seconds })
    }
}

/// Numbers for addresses and names, never the same in one run.
static NEXT: AtomicU64 = AtomicU64::new(0);

async fn pour(section: &Arc<str>, stop: &CancellationToken) -> Result<BTreeMap<u16, u64>> {
    let client = Client::new();
    let mut at_work = JoinSet::new();
    for _ in 0..FLOODERS {
        let (client, section, stop) = (client.clone(), Arc::clone(section), stop.clone());
        at_work.spawn(async move {
            let mut answered = BTreeMap::<u16, u64>::new();
            while !stop.is_cancelled() {
                let n = NEXT.fetch_add(1, Ordering::Relaxed);
                let (method, name) = match n % 3 {
                    0 => (Method::GET, format!("known{}", n % NAMES)),
                    1 => (Method::PUT, format!("known{}", n % NAMES)),
                    _ => (Method::GET, format!("stranger{n}")),
                };
                let address = u32::try_from(n % (1 << 24)).unwrap_or_default() | 0x0a00_0000;
                let address = std::net::Ipv4Addr::from_bits(address);
                let mut request = client
                    .request(method.clone(), format!("{section}?username={name}"))
                    .header("x-forwarded-for", address.to_string());
                if method == Method::PUT {
                    let body = "{\"scan_date\":\"2026-11-24\"}";
                    request = request
                        .header("content-type", "application/json")
                        .body(body);
                }
                let status = match request.send().await {
                    Ok(answer) => {
                        let status = answer.status().as_u16();
                        answer.bytes().await.ok();
                        status
                    }
                    Err(_) => 0,
                };
                *answered.entry(status).or_default() += 1;
            }
            answered
        });
    }
    let mut all = BTreeMap::new();
    while let Some(done) = at_work.join_next().await {
        for (status, count) in done? {
            *all.entry(status).or_default() += count;
        }
    }
    Ok(all)
}
