//! Another web service with tierkeep inside. It keeps one report of each caller: a public user's in
//! `external_users`, an internal user's in `raseen_temp_user` and, a day later, in `raseen_main_user` with a backup.
//!
//! `SECRET_KEY=… cargo run -p tierkeep-example-embed -- DIR 127.0.0.1:8090` serves `GET` and `PUT /report` for
//! all users and, for administrators, `POST /move`, which moves documents without waiting for a day.

#![expect(
    clippy::print_stdout,
    reason = "where it listens is said on the terminal"
)]

mod caller;
mod clock;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router, body::Bytes};
use serde_json::{Value, json};
use tierkeep_engine::core::store::{Store, StoreError};
use tierkeep_engine::core::user::Section;
use tierkeep_engine::core::{clock::Clock, content, content::Shown, db::Role};
use tierkeep_engine::{Condition, ConnectSettings, ConnectionManager, Engine, MigrationService};
use tierkeep_engine::{MoverSettings, NoProgress, Purpose, RunOptions, Upkeep, Users, Worker};
use tierkeep_identity::UserTypeDetector;
use tierkeep_identity::{GithubSettings, GithubVerification, GithubVerifier};
use tierkeep_identity::{JwtKeys, JwtSettings, JwtVerifier};
use tierkeep_sqlite::SqliteStore;
use tokio_util::sync::CancellationToken;

use caller::{Administrator, Asking};
use clock::SystemClock;

#[derive(Clone)]
struct App {
    detector: Arc<UserTypeDetector>,
    users: Users,
    mover: MigrationService,
    report: Section,
}

type Refusal = (StatusCode, String);
type Answer = Result<Json<Value>, Refusal>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().context("name a directory")?);
    let address = arguments.next().context("name an address")?;
    #[expect(clippy::disallowed_methods, reason = "the example's only setting")]
    let secret = std::env::var("SECRET_KEY").context("set SECRET_KEY")?;

    // The seven databases, each in a file of its own; on servers, by MongoStore::connect of tierkeep-mongo.
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    std::fs::create_dir_all(&dir)?;
    let open = |role: Role| {
        let store = SqliteStore::open(&dir.join(format!("{role}.db")), role, clock.clone())?;
        Ok(Arc::new(store) as Arc<dyn Store>)
    };
    let stores: Result<Vec<_>, StoreError> = Role::ALL.into_iter().map(open).collect();
    let engine = Arc::new(Engine::new(ConnectionManager::new(stores?, clock.clone())?));
    let (retries, backoff) = (5, Duration::from_millis(200));
    let patience = ConnectSettings { retries, backoff };
    engine.databases().open(patience, Purpose::Work).await?;

    // Who is asking. Here any GitHub token will do; with the default settings GitHub is asked.
    let (current, previous) = (secret.into(), None);
    let jwt = JwtSettings::new(JwtKeys::Secret { current, previous });
    let verification = GithubVerification::Off;
    let github = GithubSettings {
        verification,
        ..GithubSettings::default()
    };
    let (jwt, github) = (JwtVerifier::new(jwt, clock)?, GithubVerifier::new(&github)?);
    let detector = Arc::new(UserTypeDetector::new(jwt, github, false));

    // Where each user's document is written and read, and what moves it after 24 hours.
    let users = Users::new(engine.clone());
    let mover = MigrationService::new(engine.clone(), MoverSettings::default());
    let stop = CancellationToken::new();
    let worker = Worker::new(mover.clone(), Duration::from_mins(1)).run(stop.clone());
    let upkeep = Upkeep::new(engine, Duration::from_hours(30 * 24)).run(stop.clone());
    let at_work = [tokio::spawn(worker), tokio::spawn(upkeep)];

    let report = Section::parse("report")?;
    let routes = Router::new()
        .route("/report", get(read).put(write))
        .route("/move", post(move_now))
        .with_state(App {
            detector,
            users,
            mover,
            report,
        });
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let ctrl_c = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let served = axum::serve(listener, routes).with_graceful_shutdown(ctrl_c);
    served.await?;
    // A batch at work is finished. If the process is killed instead, the next one finishes it.
    stop.cancel();
    for task in at_work {
        task.await?;
    }
    Ok(())
}

async fn write(State(app): State<App>, Asking(user): Asking, body: Bytes) -> Answer {
    let report = content::parse(&body);
    let report = report.map_err(|why| (StatusCode::UNPROCESSABLE_ENTITY, why.to_string()))?;
    let (app, always) = (&app, Condition::None);
    let written = app.users.put(&user, &app.report, report, always).await;
    let database = written.map_err(unavailable)?.database;
    Ok(Json(
        json!({ "user_id": user.as_str(), "database": database.name() }),
    ))
}

async fn read(State(app): State<App>, Asking(user): Asking) -> Answer {
    let Some(found) = app.users.read(&user).await.map_err(unavailable)? else {
        let nothing = format!("no data is stored for {user}");
        return Err((StatusCode::NOT_FOUND, nothing));
    };
    let report = content::show_section(&found.document, app.report.as_str());
    let report = report.map_err(|why| (StatusCode::INTERNAL_SERVER_ERROR, why.to_string()))?;
    let report = report.map(Shown::into_value);
    Ok(Json(
        json!({ "database": found.source.name(), "report": report }),
    ))
}

async fn move_now(State(app): State<App>, _: Administrator) -> Answer {
    let options = RunOptions {
        older_than: Some(Duration::ZERO),
        ..RunOptions::default()
    };
    let (mover, to_the_end) = (&app.mover, CancellationToken::new());
    let run = mover.migrate_expired_data(options, &NoProgress, &to_the_end);
    Ok(Json(json!(run.await.map_err(unavailable)?)))
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn unavailable(error: impl ToString) -> Refusal {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
