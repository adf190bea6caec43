//! `serve`: owns the service's arguments and the order in which it starts and stops.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use tierkeep_engine::{
    AuditKeeper, Bindings, ConnectionManager, ErasureService, MigrationService, Purpose, Upkeep,
    Users, Worker,
};
use tierkeep_identity::{GithubVerifier, JwtVerifier, UserTypeDetector};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Context;
use crate::config::ServiceSettings;
use crate::exit::{Exit, UsageError};
use crate::http::{self, HealthSource, HttpState, Limits, Mover, Phase, Traffic};
use crate::lifecycle;

/// How long requests in flight may take to finish when the service is told to stop.
const GRACE: Duration = Duration::from_secs(20);

/// Arguments of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Listen on this address [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}

/// Serves until it is told to stop.
///
/// # Errors
/// Wrong configuration, databases that cannot be reached, an address that is taken.
pub async fn run(_args: &ServeArgs, context: &Context) -> anyhow::Result<Exit> {
    let service = context.service()?;
    let detector = Arc::new(detector(&service, context)?);
    let listen = service.http.listen;
    // The address is taken first: a second service must not open the databases and then fail.
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| UsageError {
            message: format!("cannot listen on {listen}: {error}"),
            remedy: Some("stop what listens there, or give another address with --listen".into()),
        })?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    lifecycle::cancel_on_signal(stop.clone());
    let ready = Arc::new(OnceLock::new());
    let router = http::starting(Arc::clone(&ready));
    let serving = tokio::spawn(http::serve(listener, router, stop.clone(), GRACE));
    info!(%address, "starting: opening the databases");
    let opening = context.open(&service.settings, Purpose::Work);
    let Some(opened) = stop.run_until_cancelled(opening).await else {
        serving.await.ok();
        return Ok(Exit::Done);
    };
    let (databases, opened) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            stop.cancel();
            serving.await.ok();
            return Err(error);
        }
    };
    for role in opened.away {
        warn!(
            user_type = %role.user_type(),
            database = %role,
            "starting without the database; it is let in when it is back",
        );
    }
    let (phase, phases) = watch::channel(Phase::Serving);
    let mover = MigrationService::new(Arc::clone(&databases), service.settings.mover);
    let by_hand = Mover::new(mover.clone(), service.settings.scan_interval, stop.clone());
    let state = state(&service, &databases, phases, detector, by_hand.clone());
    databases.audit_trail().follow_spool();
    ready.set(http::router(state)).ok();
    let upkeep = Upkeep::new(Arc::clone(&databases), service.settings.tombstone_ttl);
    let worker = Worker::new(mover, service.settings.scan_interval);
    let worker = tokio::spawn(worker.run(stop.clone()));
    let upkeep = tokio::spawn(upkeep.run(stop.clone()));
    warn_of_weak_trail(&service, &databases);
    let keeper = AuditKeeper::new(Arc::clone(&databases));
    let keeper = tokio::spawn(keeper.run(stop.clone()));
    info!(%address, "listening");
    let drain = stop.clone();
    let draining = tokio::spawn(async move {
        drain.cancelled().await;
        phase.send_replace(Phase::Draining);
        phase
    });
    if serving.await.is_err() {
        warn!("the service ended early");
    }
    stop.cancel();
    if worker.await.is_err() {
        warn!("the mover ended early");
    }
    by_hand.finished().await;
    if upkeep.await.is_err() {
        warn!("the upkeep ended early");
    }
    if keeper.await.is_err() {
        warn!("the watch over the audit trail ended early");
    }
    AuditKeeper::finish(&databases).await;
    draining.await.ok();
    info!("stopped");
    Ok(Exit::Done)
}

/// What an audit trail that nobody configured cannot do.
fn warn_of_weak_trail(service: &ServiceSettings, databases: &ConnectionManager) {
    if !databases.audit_trail().has_own_key() {
        warn!(
            "the key of the audit trail is kept in evaluation_audit, where whoever can write there can read it; \
             set TIERKEEP_AUDIT_KEY"
        );
    }
    if !service.settings.audit.has_spool() {
        warn!(
            "decisions that are made while evaluation_audit is away are lost in a crash; set TIERKEEP_SPOOL_DIR"
        );
    }
}

/// Who tells callers apart. Made before a database is opened: it may find the settings unfit.
fn detector(service: &ServiceSettings, context: &Context) -> anyhow::Result<UserTypeDetector> {
    let jwt = JwtVerifier::new(service.identity.jwt()?, Arc::clone(&context.clock))?;
    let github = GithubVerifier::new(&service.identity.github)?;
    Ok(UserTypeDetector::new(jwt, github, service.identity.strict))
}

fn state(
    service: &ServiceSettings,
    databases: &Arc<ConnectionManager>,
    phases: watch::Receiver<Phase>,
    detector: Arc<UserTypeDetector>,
    mover: Mover,
) -> HttpState {
    let settings = &service.settings;
    let overdue_after = settings
        .mover
        .retention
        .saturating_add(settings.scan_interval.saturating_mul(2));
    HttpState {
        users: Users::new(Arc::clone(databases)),
        erasures: ErasureService::new(Arc::clone(databases)),
        detector,
        bindings: Bindings::new(Arc::clone(databases), service.identity.on_change),
        sections: service.http.sections.clone().into(),
        limits: Limits {
            max_body_internal_bytes: service.http.max_body.internal_bytes,
            max_body_external_bytes: service.http.max_body.external_bytes,
            ..Limits::default()
        },
        audit: databases.audit_trail().clone(),
        traffic: Traffic::new(service.http.traffic.clone(), &http::steady()),
        health: HealthSource::new(Arc::clone(databases), phases, overdue_after),
        mover,
    }
}
