//! `serve`: owns the service's arguments and the order in which it starts and stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tierkeep_core::clock::Clock;
use tierkeep_core::repeats::Repeats;
use tierkeep_engine::{
    AlertDelivery, AuditKeeper, Bindings, Channel, Engine, ErasureService, GuardSettings,
    HrRecords, MigrationService, Opened, Purpose, Reconciler, Upkeep, Users, VerificationWatch,
    Waiting, Watch, Worker,
};
use tierkeep_identity::{
    GithubVerification, GithubVerifier, JwtVerifier, NewerKeys, UserTypeDetector,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::field::display;
use tracing::{info, warn};

use super::Context;
use super::listeners::Listeners;
use crate::alerts::{WebhookKey, channels};
use crate::clock::SystemClock;
use crate::config::shown;
use crate::config::{Backend, ServiceSettings};
use crate::exit::Exit;
use crate::http::{
    self, BodyMemory, HealthSource, HttpState, Limits, Mover, Phase, Sessions, Shared, Traffic,
};
use crate::lifecycle::{self, Hangups};
use crate::metrics::{self, Metrics};
use crate::reload::SecretFiles;

/// Arguments of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}

/// Serves until it is stopped.
///
/// # Errors
/// Wrong configuration, databases that cannot be reached, an address that is taken.
pub async fn run(_args: &ServeArgs, context: &Context) -> anyhow::Result<Exit> {
    let service = context.service()?;
    let hangups = Hangups::of_this_process();
    let clock: Arc<dyn Clock> = Arc::clone(&context.clock);
    let channels = channels(&service.settings.alerts, &clock)?;
    let (detector, secrets) = detector(&service, context, channels.webhook_key)?;
    let stop = CancellationToken::new();
    let metrics = Metrics::new();
    // The addresses are taken first: a second service must not open the databases and then fail.
    let listeners = Listeners::at(&service.http, &metrics, &stop)?;
    let (address, ops_address) = (listeners.address(), listeners.ops_address().map(display));
    lifecycle::cancel_on_signal(stop.clone());
    let secrets = tokio::spawn(secrets.watch(hangups, stop.clone()));
    info!(%address, ops_address, "starting: opening the databases");
    let opening = context.open(&service.settings, Purpose::Serve);
    let Some(opened) = stop.run_until_cancelled(opening).await else {
        listeners.ended().await;
        return Ok(Exit::Done);
    };
    let (engine, opened) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            stop.cancel();
            listeners.ended().await;
            return Err(error);
        }
    };
    warn_of_away(&opened);
    let (phase, phases) = watch::channel(Phase::Serving);
    let mover = MigrationService::new(Arc::clone(&engine), service.settings.mover);
    let by_hand = Mover::new(mover.clone(), service.settings.scan_interval, stop.clone());
    let (waits, waiting) = watch::channel(None);
    let parts = StateParts {
        waiting,
        phases,
        detector,
        mover: by_hand.clone(),
        metrics: metrics.clone(),
        channels: channels.all.clone().into(),
    };
    let state = state(&service, &engine, parts, context);
    let identity = beside_detector(&state, &stop);
    let pending = tokio::spawn(watch_pending(state.users.clone(), stop.clone()));
    engine.databases().guard_calls(GuardSettings::default());
    engine.audit_trail().follow_spool();
    let health = tokio::spawn(state.health.clone().watch(stop.clone()));
    let refresh = tokio::spawn(metrics::refresh(
        metrics,
        by_hand.service.clone(),
        service.settings.scan_interval,
        waits,
        stop.clone(),
    ));
    listeners.open(state);
    let upkeep = Upkeep::new(Arc::clone(&engine), service.settings.tombstone_ttl)
        .with_record_retention(service.settings.record_retention);
    let watch = VerificationWatch::new(Arc::clone(&engine), service.settings.verify_period);
    let watch = tokio::spawn(watch.run(stop.clone()));
    let worker = Worker::new(mover, service.settings.scan_interval);
    let worker = tokio::spawn(worker.run(stop.clone()));
    let upkeep = tokio::spawn(upkeep.run(stop.clone()));
    let reconciler = tokio::spawn(reconciler(&service, &engine).run(stop.clone()));
    warn_of_weak_trail(&service, &engine);
    let standing = tokio::spawn(standing(&service, &engine).run(stop.clone()));
    let keeper = AuditKeeper::new(Arc::clone(&engine));
    let keeper = tokio::spawn(keeper.run(stop.clone()));
    let delivery = AlertDelivery::new(Arc::clone(&engine), channels.all);
    let delivery = tokio::spawn(delivery.run(stop.clone()));
    info!(%address, ops_address, "listening");
    greet(&service, listeners.ops_address().unwrap_or(address));
    // Notified until the end: finishing requests after a signal may take longer than the watchdog's timeout.
    let end = CancellationToken::new();
    let alive = tokio::spawn(lifecycle::report_alive(end.clone()));
    let draining = tokio::spawn(drain(phase, stop.clone()));
    listeners.ended().await;
    stop.cancel();
    if health.await.is_err() || refresh.await.is_err() {
        warn!("the database watcher ended early");
    }
    ended([(worker, "the mover")]).await;
    by_hand.finished().await;
    ended([
        (watch, "the background comparison"),
        (upkeep, "the upkeep"),
        (standing, "the stall monitor"),
        (reconciler, "the delivery of HR records"),
        (keeper, "the audit monitor"),
        (delivery, "the delivery of alerts"),
        (pending, "the query for pending erasures"),
        (secrets, "the watch over keys and secrets"),
    ])
    .await;
    ended(identity).await;
    AuditKeeper::finish(&engine).await;
    draining.await.ok();
    end.cancel();
    alive.await.ok();
    info!("stopped");
    Ok(Exit::Done)
}

/// Where the dashboard is, and how a trial signs in.
fn greet(service: &ServiceSettings, address: SocketAddr) {
    let dashboard = format!("http://{address}/");
    if let Backend::Embedded { data_dir } = &service.settings.backend {
        let data_dir = data_dir.display();
        let token = format!(
            "tierkeep token --data-dir {data_dir} --sub 507f1f77bcf86cd799439011 --role admin"
        );
        info!(
            dashboard,
            token, "open the dashboard and sign in with the token that the command prints"
        );
    } else {
        info!(dashboard, "the dashboard accepts JWTs with the role admin");
    }
    if service.identity.github.verification == GithubVerification::Off {
        warn!(
            "any GitHub token is accepted, because TIERKEEP_GITHUB_VERIFY is off; a valid JWT is enough to be an \
             internal user"
        );
    }
}

/// Says that the service drains once it is to stop. The phase is known as long as what this answers is kept.
async fn drain(phase: watch::Sender<Phase>, stop: CancellationToken) -> watch::Sender<Phase> {
    stop.cancelled().await;
    lifecycle::report_stopping();
    phase.send_replace(Phase::Draining);
    phase
}

/// Background tasks of the detector: the comparisons of GitHub accounts that an outage deferred, and the fetching of
/// keys.
fn beside_detector(
    state: &HttpState,
    stop: &CancellationToken,
) -> [(JoinHandle<()>, &'static str); 2] {
    let bindings = state.bindings.clone().run(stop.clone());
    let keys = keep_keys(Arc::clone(&state.detector), stop.clone());
    [
        (tokio::spawn(bindings), "the comparison of GitHub accounts"),
        (tokio::spawn(keys), "the fetching of keys"),
    ]
}

/// How often keys are fetched that an identity provider publishes, and how soon again where they could not be had.
const KEYS_EVERY: Duration = Duration::from_hours(1);
const KEYS_AGAIN: Duration = Duration::from_secs(10);

/// Keeps the keys that verify JWTs up to date with the identity provider's, until `stop` is cancelled.
async fn keep_keys(detector: Arc<UserTypeDetector>, stop: CancellationToken) {
    let told = Repeats::default();
    loop {
        let Some(fetched) = stop.run_until_cancelled(detector.refresh_keys()).await else {
            return;
        };
        let pause = match fetched {
            Ok(()) => KEYS_EVERY,
            Err(error) => {
                if let Some(more) = told.due((), SystemClock.now()) {
                    warn!(%error, more, "the previous keys stay in use");
                }
                KEYS_AGAIN
            }
        };
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Learns which erasures are pending, until the service ends.
async fn watch_pending(users: Users, stop: CancellationToken) {
    stop.run_until_cancelled(users.watch_pending()).await;
}

/// Waits for the background tasks of the requests.
async fn ended(tasks: impl IntoIterator<Item = (JoinHandle<()>, &str)>) {
    for (task, what) in tasks {
        if task.await.is_err() {
            warn!("{what} ended early");
        }
    }
}

fn warn_of_away(opened: &Opened) {
    for role in &opened.away {
        warn!(
            user_type = %role.user_type(),
            database = %role,
            "starting without the database; it is admitted when it is available again",
        );
    }
}

fn standing(service: &ServiceSettings, engine: &Arc<Engine>) -> Watch {
    let settings = &service.settings;
    Watch::new(Arc::clone(engine), settings.mover, settings.scan_interval)
}

fn reconciler(service: &ServiceSettings, engine: &Arc<Engine>) -> Reconciler {
    let settings = &service.settings;
    let engine = Arc::clone(engine);
    Reconciler::new(engine, settings.reconcile_interval, settings.tombstone_ttl)
}

/// Warns of what an audit trail that was not configured cannot do.
fn warn_of_weak_trail(service: &ServiceSettings, engine: &Engine) {
    if !engine.audit_trail().has_own_key() {
        warn!(
            "the key of the audit trail is stored in evaluation_audit, where every user with write access can read it; \
             set TIERKEEP_AUDIT_KEY"
        );
    }
    if !service.settings.audit.has_spool() {
        warn!(
            "decisions made while evaluation_audit is unavailable are lost in a crash; set TIERKEEP_SPOOL_DIR"
        );
    }
}

/// Who tells callers apart, and what reads its keys and the secret that signs alerts again. Made before a database is opened:
/// it may find the settings unfit.
fn detector(
    service: &ServiceSettings,
    context: &Context,
    webhook_key: Option<WebhookKey>,
) -> anyhow::Result<(Arc<UserTypeDetector>, Arc<SecretFiles>)> {
    let jwt = JwtVerifier::new(service.identity.jwt()?, Arc::clone(&context.clock))?;
    let secrets = Arc::new(SecretFiles::new(
        context.inputs.clone(),
        &context.loaded,
        jwt.shared_keys(),
        webhook_key,
    ));
    let jwt = jwt.with_newer_keys(Arc::clone(&secrets) as Arc<dyn NewerKeys>);
    let github = GithubVerifier::new(&service.identity.github)?;
    let detector = UserTypeDetector::new(jwt, github, service.identity.strict);
    Ok((Arc::new(detector), secrets))
}

/// The directory of files with the copies of a conflict, in the service's own.
const COPIES: &str = "quarantine";

/// What the routes share with the rest of the service.
struct StateParts {
    waiting: watch::Receiver<Option<Waiting>>,
    phases: watch::Receiver<Phase>,
    detector: Arc<UserTypeDetector>,
    mover: Mover,
    metrics: Metrics,
    channels: Arc<[Arc<dyn Channel>]>,
}

fn state(
    service: &ServiceSettings,
    engine: &Arc<Engine>,
    parts: StateParts,
    context: &Context,
) -> HttpState {
    let settings = &service.settings;
    let limits = Limits {
        max_body_internal_bytes: service.http.max_body.internal_bytes,
        max_body_external_bytes: service.http.max_body.external_bytes,
        body_memory_bytes: service.http.body_memory_bytes,
        ..Limits::default()
    };
    HttpState::from(Shared {
        users: Users::new(Arc::clone(engine)),
        hr: HrRecords::new(Arc::clone(engine)),
        erasures: ErasureService::new(Arc::clone(engine)),
        detector: parts.detector,
        bindings: Bindings::new(Arc::clone(engine), service.identity.on_change),
        sections: service.http.sections.clone().into(),
        memory: BodyMemory::new(limits.body_memory_bytes),
        limits,
        audit: engine.audit_trail().clone(),
        traffic: Traffic::new(service.http.traffic.clone(), &http::steady()),
        health: HealthSource::new(
            parts.mover.service.clone(),
            parts.phases,
            settings.scan_interval,
            parts.waiting,
        ),
        mover: parts.mover,
        metrics: parts.metrics,
        copies_dir: settings.audit.own_dir().map(|own| own.join(COPIES)),
        channels: parts.channels,
        sessions: Sessions::new(Arc::clone(&context.clock)),
        settings: shown::all(&context.loaded).into(),
    })
}
