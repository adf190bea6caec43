//! `/ui/actions`: what an administrator tells the mover. Each is asked about first, and done by the code behind
//! `/v1/admin`.

use askama::Template;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{
    Failed, Keep, RestoreOptions, RestoreScope, Restored, RunOptions, Verified, VerifyOptions,
};

use super::backup::told;
use super::operator::{Operator, Signed};
use super::overview::PATIENCE;
use super::page::{Frame, PageResult, Place, ok, see};
use super::quarantine;
use super::words::many;
use crate::alerts;
use crate::http::response::problem::Problem;
use crate::http::routes::admin::mover::{MoverSwitch, switch};
use crate::http::routes::admin::task::TaskState;
use crate::http::routes::admin::verify::Comparison;
use crate::http::routes::admin::{restore, retry, run, verify};
use crate::http::state::HttpState;

/// How the audit trail says that an administrator came.
pub(super) const HOW: &str = "on the dashboard";

/// What can be done.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Action {
    Pause,
    Resume,
    Run,
    Retry(Failed),
    Verify,
    TestAlerts,
    /// The quarantined document that the text names.
    Release(String),
    /// The same, where copies contradict each other and this one counts from now on.
    Keep(Keep, String),
    /// What is stored of it, as a file.
    Download(String),
    /// An internal user, from the backup.
    Restore(UserId),
}

#[derive(Deserialize, Default)]
pub(super) struct ActionSubject {
    #[serde(default)]
    user: String,
}

#[derive(Template)]
#[template(path = "ui/confirm.html")]
struct Confirm {
    frame: Frame,
    csrf: String,
    path: String,
    user: Option<String>,
    /// Whether the audit trail keeps it.
    is_recorded: bool,
    what: &'static str,
    button: &'static str,
    back: String,
}

/// Asks whether it is meant.
pub(super) async fn ask(
    by: Operator,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<ActionSubject>, QueryRejection>,
) -> PageResult {
    let user = query.map_or_else(|_| String::new(), |Query(subject)| subject.user);
    let (name, action) = read(name, &user)?;
    ok(&Confirm {
        frame: Frame::inside(action.title(), None, &by),
        csrf: by.csrf.clone(),
        path: format!("/ui/actions/{name}"),
        user: action.subject().map(str::to_owned),
        is_recorded: action != Action::TestAlerts,
        what: action.what(),
        button: action.button(),
        back: action.back(),
    })
}

/// Does it, and goes back to where that shows.
pub(super) async fn post(
    State(state): State<HttpState>,
    name: Result<Path<String>, PathRejection>,
    signed: Signed,
) -> PageResult {
    let user = signed.fields.get("user").unwrap_or_default();
    let (_, action) = read(name, user)?;
    if let Action::Download(name) = &action {
        return quarantine::download(&state, &signed.by, name).await;
    }
    action.take(&state, &signed.by).await?;
    Ok(see(&action.back()))
}

fn read(
    name: Result<Path<String>, PathRejection>,
    user: &str,
) -> Result<(&'static str, Action), Problem> {
    let name = name.map_or_else(|_| String::new(), |Path(name)| name);
    let keep = |keep| Action::Keep(keep, user.to_owned());
    Ok(match name.as_str() {
        "pause" => ("pause", Action::Pause),
        "resume" => ("resume", Action::Resume),
        "run" => ("run", Action::Run),
        "verify" => ("verify", Action::Verify),
        "test-alerts" => ("test-alerts", Action::TestAlerts),
        "release" if !user.is_empty() => ("release", Action::Release(user.to_owned())),
        "keep-temp" if !user.is_empty() => ("keep-temp", keep(Keep::Temp)),
        "keep-main" if !user.is_empty() => ("keep-main", keep(Keep::Main)),
        "keep-srie" if !user.is_empty() => ("keep-srie", keep(Keep::Srie)),
        "download" if !user.is_empty() => ("download", Action::Download(user.to_owned())),
        "retry" if user.is_empty() => ("retry", Action::Retry(Failed::All)),
        "retry" => {
            let user = UserId::parse(user);
            let user = user.map_err(|_| Problem::Malformed("user is not a valid user id"))?;
            ("retry", Action::Retry(Failed::Of(user)))
        }
        "restore" if !user.is_empty() => ("restore", Action::Restore(internal(user)?)),
        _ => return Err(Problem::UnknownPath),
    })
}

/// A user who has a backup.
fn internal(user: &str) -> Result<UserId, Problem> {
    let user = UserId::parse(user).ok();
    user.filter(|user| user.user_type() == UserType::Internal)
        .ok_or(Problem::Malformed("user is not the id of an internal user"))
}

impl Action {
    /// Takes it; the next page tells what was done.
    async fn take(&self, state: &HttpState, by: &Operator) -> Result<(), Problem> {
        let done = self.done(state, by).await?;
        if let Some(done) = done {
            state.sessions.tell(&by.session, done);
        }
        Ok(())
    }

    /// Takes the action and answers what was done, unless that is told elsewhere.
    async fn done(&self, state: &HttpState, by: &Operator) -> Result<Option<String>, Problem> {
        let admin = &by.admin;
        Ok(Some(match self {
            Self::Verify => return verified(state, by).await,
            Self::TestAlerts => tested(state).await,
            Self::Release(name) => quarantine::release(state, by, name, None).await?,
            Self::Keep(keep, name) => quarantine::release(state, by, name, Some(*keep)).await?,
            // Answered with the file by `post`.
            Self::Download(_) => return Ok(None),
            Self::Restore(user) => restored(state, by, user).await?,
            Self::Pause if switch(state, admin, MoverSwitch::Pause, HOW).await? => {
                "The mover is paused everywhere. Batches in progress are completed first.".into()
            }
            Self::Pause => "The mover was already paused.".into(),
            Self::Resume if switch(state, admin, MoverSwitch::Resume, HOW).await? => {
                "The mover is resumed everywhere.".into()
            }
            Self::Resume => "The mover was not paused.".into(),
            Self::Run => {
                let run_id = run::run(state, admin, RunOptions::default(), HOW).await?;
                format!("A run has started: {run_id}.")
            }
            Self::Retry(which) => {
                let retried = retry::retry(state, admin, which, HOW).await?.retried;
                let moves = many(retried, "failed move is", "failed moves are");
                format!("{moves} pending again and will be retried by the next run.")
            }
        }))
    }

    fn subject(&self) -> Option<&str> {
        match self {
            Self::Retry(Failed::Of(user)) | Self::Restore(user) => Some(user.as_str()),
            Self::Release(name) | Self::Keep(_, name) | Self::Download(name) => Some(name),
            Self::Pause
            | Self::Resume
            | Self::Run
            | Self::Verify
            | Self::TestAlerts
            | Self::Retry(Failed::All) => None,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::Pause => "Pause the mover?",
            Self::Resume => "Resume the mover?",
            Self::Run => "Move due documents now?",
            Self::Verify => "Compare main with its backup now?",
            Self::TestAlerts => "Send a test message?",
            Self::Release(_) => "Release this document from quarantine?",
            Self::Keep(Keep::Temp, _) => "Keep the copy in temp?",
            Self::Keep(Keep::Main, _) => "Keep the copy in main?",
            Self::Keep(Keep::Srie, _) => "Keep the copy in srie?",
            Self::Download(_) => "Download this document and its copies?",
            Self::Restore(_) => "Restore this user from the backup?",
            Self::Retry(Failed::All) => "Retry all failed moves?",
            Self::Retry(Failed::Of(_)) => "Retry this user's failed move?",
        }
    }

    fn what(&self) -> &'static str {
        match self {
            Self::Pause => {
                "Every process completes its batches in progress and starts no more until the mover is resumed. Reads \
                 and writes continue. Documents that become due in the meantime stay in temp, where they have no \
                 backup."
            }
            Self::Resume => "Every process moves due documents again.",
            Self::Run => {
                "This process moves due documents immediately, concurrently with other movers. No document is moved \
                 twice."
            }
            Self::Verify => {
                "This process compares every document and HR record of main with its copy in srie, byte for byte, and \
                 changes nothing. Reads and writes continue. With many documents, the comparison takes minutes and \
                 adds load to the databases. It counts the differences and names the first ones."
            }
            Self::TestAlerts => {
                "One message without alerts is sent through each configured channel. The Alerts page then shows whether it \
                 was delivered. No database is needed."
            }
            Self::Release(_) => {
                "The next run checks the document again and moves it if it can; otherwise it is quarantined again. The \
                 document does not change."
            }
            Self::Keep(_, _) => {
                "All copies are first written to a file on the host of this process. The kept copy is then \
                 stored in temp with a version higher than all others, and the next move overwrites the others with it."
            }
            Self::Download(_) => {
                "The file contains the content of the document, and of every copy of its user in temp, main and srie. \
                 Nothing changes."
            }
            Self::Restore(_) => {
                "The copy in srie is written to main, unless main holds the same version or a newer one. A user who was \
                 erased stays erased, and a copy that does not match its own digest is not restored. Temp does not change."
            }
            Self::Retry(_) => {
                "The record becomes pending again with all its retries, and the next run repeats the move. The \
                 document does not change. Fix the cause first; otherwise the move fails again."
            }
        }
    }

    fn button(&self) -> &'static str {
        match self {
            Self::Pause => "Pause",
            Self::Resume => "Resume",
            Self::Run => "Run now",
            Self::Verify => "Verify now",
            Self::TestAlerts => "Send",
            Self::Release(_) => "Release",
            Self::Keep(_, _) => "Keep this copy",
            Self::Download(_) => "Download",
            Self::Restore(_) => "Restore",
            Self::Retry(_) => "Retry",
        }
    }

    /// Where it shows what was done.
    fn back(&self) -> String {
        match self {
            Self::Pause | Self::Resume | Self::Run => Place::Overview.path().to_owned(),
            Self::Verify => Place::Backup.path().to_owned(),
            Self::TestAlerts => Place::Alerts.path().to_owned(),
            Self::Release(_) | Self::Keep(_, _) | Self::Download(_) | Self::Retry(Failed::All) => {
                Place::Migrations.path().to_owned()
            }
            Self::Retry(Failed::Of(user)) | Self::Restore(user) => format!("/ui/users/{user}"),
        }
    }
}

/// Compares main with srie. What it finds is told to the session whenever it is there, also after the answer.
async fn verified(state: &HttpState, by: &Operator) -> Result<Option<String>, Problem> {
    let (sessions, session) = (state.sessions.clone(), by.session);
    // Before the comparison begins: what it finds takes the place of this.
    sessions.tell(
        &session,
        "The comparison is in progress. Reload the page later to see its result.".into(),
    );
    let tell = move |found: &Verified| sessions.tell(&session, told(found));
    let comparison = Comparison {
        options: VerifyOptions::default(),
        how: HOW,
        longest_wait: PATIENCE,
    };
    match verify::verify(state, &by.admin, comparison, tell).await {
        Ok(TaskState::Done(_) | TaskState::Running(_)) => Ok(None),
        Err(error) => {
            state.sessions.told(&by.session);
            Err(error.into())
        }
    }
}

/// Copies a user from srie to main where main lacks it or holds an older version, and says what came of it.
async fn restored(state: &HttpState, by: &Operator, user: &UserId) -> Result<String, Problem> {
    let options = RestoreOptions {
        whom: RestoreScope::Users(vec![user.clone()]),
        dry_run: false,
    };
    let Restored {
        restored,
        unchanged,
        newer_in_main,
        shadowed,
        erased,
        problems,
        ..
    } = match restore::restore(state, &by.admin, options, HOW, PATIENCE).await? {
        TaskState::Done(restored) => restored,
        TaskState::Running(run_id) => {
            return Ok(format!(
                "The restore is still in progress: {run_id}. Reload the page later."
            ));
        }
    };
    let why = problems.into_iter().next().map(|problem| problem.reason);
    Ok(match why {
        Some(why) => format!("Not restored: {why}."),
        None if restored > 0 && shadowed > 0 => {
            "Restored to main. Temp holds the user too, and its document remains the current one."
                .into()
        }
        None if restored > 0 => "Restored to main from the copy in srie.".into(),
        None if newer_in_main > 0 => "Nothing to restore: main holds a newer version.".into(),
        None if unchanged > 0 => "Nothing to restore: main holds the same version.".into(),
        None if erased > 0 => "Nothing to restore: the user was erased.".into(),
        None => "Nothing to restore: srie holds no copy.".into(),
    })
}

/// Sends a test message through each channel and says what came of it.
async fn tested(state: &HttpState) -> String {
    if state.channels.is_empty() {
        return "No channel is configured: set TIERKEEP_ALERT_WEBHOOK_URL or TIERKEEP_ALERT_EMAIL."
            .into();
    }
    let now = state.mover.service.engine().clock().now();
    let sent = tokio::time::timeout(PATIENCE, alerts::test(&state.channels, now)).await;
    let Ok(channels) = sent else {
        let seconds = PATIENCE.as_secs();
        return format!("The test message was not acknowledged within {seconds} seconds.");
    };
    let outcomes = channels.into_iter().map(|test| match test.error {
        None => format!("{}: delivered.", test.channel),
        Some(error) => format!("{}: not delivered: {error}.", test.channel),
    });
    outcomes.collect::<Vec<_>>().join(" ")
}
