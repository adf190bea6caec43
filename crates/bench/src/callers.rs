//! Internal users that send requests over HTTP at a steady rate, and how long each request took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::{Client, Method};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tierkeep_identity::issue_development_token;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::measure::{median, quantile};
use crate::place::MachineClock;
use crate::{documents, program};

/// How long after one request each caller sends the next.
pub const PACE: Duration = Duration::from_millis(25);
/// The number of the first user who is new.
const FIRST_NEW: u64 = 1 << 32;

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CallKind {
    /// A section of a stored user is read.
    Read,
    /// It is replaced.
    Write,
    /// The first section of a user is written.
    Create,
}

impl CallKind {
    /// What it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
            Self::Create => "writes of new users",
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it was for.
    pub kind: CallKind,
    /// When it was sent.
    pub begun: Instant,
    /// How long the answer took.
    pub took_ms: f64,
    /// What was wrong with the answer.
    pub wrong: Option<String>,
}

/// Between two moments.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// It begins with this.
    pub from: Instant,
    /// And ends before this.
    pub to: Instant,
}

impl Window {
    /// How long the requests of this kind took that began in it, in milliseconds.
    pub fn of(self, kind: CallKind, samples: &[Sample]) -> Vec<f64> {
        let within = |at| at >= self.from && at < self.to;
        let kept = samples
            .iter()
            .filter(|sample| sample.kind == kind && within(sample.begun));
        kept.map(|sample| sample.took_ms).collect()
    }
}

/// The requests of one kind in one round: calm, and not.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// How long they took in calm, in milliseconds.
    pub calm: Vec<f64>,
    /// How long they took in the other half.
    pub other: Vec<f64>,
}

/// The cells of a table about rounds: the medians of p50 in calm, in the other half, and of their ratio; then the
/// goal for that, and the same of p99.
pub fn cells(rounds: &[Round], goal: f64) -> String {
    let of = |get: &dyn Fn(&Round) -> f64| median(rounds.iter().map(get).collect());
    let calm = |share| of(&|round| quantile(round.calm.clone(), share));
    let other = |share| of(&|round| quantile(round.other.clone(), share));
    let ratio = |share| {
        of(&|round| quantile(round.other.clone(), share) / quantile(round.calm.clone(), share))
    };
    format!(
        "{:.2} | {:.2} | {:.2} | {goal:.2} | {:.2} | {:.2} | {:.2}",
        calm(0.5),
        other(0.5),
        ratio(0.5),
        calm(0.99),
        other(0.99),
        ratio(0.99),
    )
}

/// How many ask at once, by what for.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Those who read.
    pub readers: usize,
    /// Those who write.
    pub writers: usize,
    /// Those who come for the first time with each request.
    pub newcomers: usize,
}

/// Users with their tokens.
#[derive(Clone, Debug)]
pub struct Callers {
    tokens: Arc<Vec<String>>,
    new: Arc<AtomicU64>,
}

impl Callers {
    /// These users, by their numbers.
    pub fn of(users: impl Iterator<Item = u64>) -> Result<Self> {
        Ok(Self {
            tokens: Arc::new(users.map(token).collect::<Result<_>>()?),
            new: Arc::new(AtomicU64::new(FIRST_NEW)),
        })
    }

    /// Sends requests for all of them in turn, until `stop`.
    pub fn ask(
        &self,
        url: &str,
        crowd: Crowd,
        stop: &CancellationToken,
    ) -> JoinSet<Result<Vec<Sample>>> {
        let client = Client::new();
        let body =
            json!({ "scan_date": "2026-11-24", "summary": "a word and another ".repeat(200) });
        let (section, body) = (
            Arc::<str>::from(format!("{url}/v1/user/scan_cache")),
            Arc::<str>::from(body.to_string()),
        );
        let readers = std::iter::repeat_n(CallKind::Read, crowd.readers);
        let writers = std::iter::repeat_n(CallKind::Write, crowd.writers);
        let newcomers = std::iter::repeat_n(CallKind::Create, crowd.newcomers);
        let mut at_work = JoinSet::new();
        for (worker, kind) in readers.chain(writers).chain(newcomers).enumerate() {
            let callers = self.clone();
            let (client, stop) = (client.clone(), stop.clone());
            let (section, body) = (Arc::clone(&section), Arc::clone(&body));
            at_work.spawn(async move {
                let mut samples = Vec::new();
                let mut pace = tokio::time::interval(PACE);
                pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                // Each worker begins elsewhere, and all go through every user.
                for known in callers.tokens.iter().cycle().skip(worker * 83) {
                    tokio::select! {
                        _ = pace.tick() => {}
                        () = stop.cancelled() => break,
                    }
                    let sample = match kind {
                        CallKind::Read | CallKind::Write => {
                            request(&client, &section, kind, known, &body).await
                        }
                        CallKind::Create => {
                            let new = token(callers.new.fetch_add(1, Ordering::Relaxed))?;
                            request(&client, &section, kind, &new, &body).await
                        }
                    };
                    samples.push(sample);
                }
                Ok(samples)
            });
        }
        at_work
    }
}

/// The JWT of user number `user`.
pub fn token(user: u64) -> Result<String> {
    let ttl = Duration::from_hours(2);
    let (secret, subject) = (program::SECRET.into(), documents::subject(user));
    let token = issue_development_token(&secret, &subject, None, ttl, &MachineClock)?;
    Ok(token.expose_secret().to_owned())
}

/// What all of them saw, after `stop`.
pub async fn seen(mut at_work: JoinSet<Result<Vec<Sample>>>) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    while let Some(done) = at_work.join_next().await {
        samples.extend(done??);
    }
    Ok(samples)
}

async fn request(
    client: &Client,
    section: &str,
    kind: CallKind,
    token: &str,
    body: &str,
) -> Sample {
    let method = match kind {
        CallKind::Read => Method::GET,
        CallKind::Write | CallKind::Create => Method::PUT,
    };
    let writes = method == Method::PUT;
    let mut request = client
        .request(method, section)
        .bearer_auth(token)
        .header("x-github-token", "a-token");
    if writes {
        request = request
            .header("content-type", "application/json")
            .body(body.to_owned());
    }
    let begun = Instant::now();
    let wrong = match request.send().await {
        Ok(answer) => {
            let status = answer.status();
            match answer.text().await {
                Ok(_) if status.is_success() => None,
                Ok(text) => Some(format!("{kind:?}: {status}: {text}")),
                Err(error) => Some(format!("{kind:?}: {error}")),
            }
        }
        Err(error) => Some(format!("{kind:?}: {error}")),
    };
    Sample {
        kind,
        begun,
        took_ms: begun.elapsed().as_secs_f64() * 1e3,
        wrong,
    }
}
