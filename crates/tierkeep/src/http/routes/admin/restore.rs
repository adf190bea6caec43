//! `POST /v1/admin/restore`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Deserializer, de};
use tierkeep_core::content::InvalidBody;
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{Restoration, RestoreOptions, RestoreScope, Restored, Trouble};
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, Object, Schema};
use utoipa::openapi::{RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use super::OVER_HTTP;
use super::task::{self, Begun, TaskError, TaskState};
use crate::http::openapi::schema::{INTERNAL_USER_ID, body, constant, of, request};
use crate::http::request::body;
use crate::http::request::caller::Admin;
use crate::http::request::fields::{self, Flag, List};
use crate::http::response::problem::causes::BodyError;
use crate::http::state::HttpState;

/// Whose documents to restore, said in one way.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RestoreRequest {
    user_id: Option<InternalUser>,
    user_ids: Option<List<InternalUser>>,
    #[serde(default)]
    all: Flag,
    #[serde(default)]
    dry_run: Flag,
}

/// The id of an internal user; external users have no backup.
#[derive(Debug)]
struct InternalUser(UserId);

impl<'de> Deserialize<'de> for InternalUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| {
            let user = UserId::parse(text).ok();
            user.filter(|user| user.user_type() == UserType::Internal)
                .ok_or_else(String::new)
        };
        let user = fields::text(deserializer, parse).map_err(|_| {
            de::Error::custom(
                "a user id must be internal_ and 24 hex digits; external users have no backup",
            )
        });
        user.map(Self)
    }
}

impl TryFrom<RestoreRequest> for RestoreOptions {
    type Error = BodyError;

    fn try_from(request: RestoreRequest) -> Result<Self, BodyError> {
        let whom = match (request.user_id, request.user_ids, request.all) {
            (Some(InternalUser(user)), None, Flag(false)) => RestoreScope::Users(vec![user]),
            (None, Some(List(users)), Flag(false)) => {
                RestoreScope::Users(users.into_iter().map(|InternalUser(user)| user).collect())
            }
            (None, None, Flag(true)) => RestoreScope::All,
            (_, _, _) => {
                let why = "name the users to restore with one of user_id, user_ids (a list) and all: true";
                return Err(InvalidBody::Content(why.into()).into());
            }
        };
        let dry_run = request.dry_run.0;
        Ok(Self { whom, dry_run })
    }
}

impl PartialSchema for RestoreRequest {
    fn schema() -> RefOr<Schema> {
        let user = || of(Type::String).pattern(Some(INTERNAL_USER_ID));
        let users = ArrayBuilder::new().items(user()).build();
        let not_all = || Schema::from(constant(false).build());
        let all = constant(true).description(Some("all users and HR records"));
        let either = AnyOfBuilder::new()
            .description(Some(
                "The users to restore: exactly one of `user_id`, `user_ids` and `all`.",
            ))
            .item(one_way([
                ("user_id", user().build().into()),
                ("all", not_all()),
            ]))
            .item(one_way([("user_ids", users.into()), ("all", not_all())]))
            .item(one_way([("all", all.build().into())]));
        RefOr::T(either.build().into())
    }
}

/// One way to name the users to restore; the first field is the one that names them.
fn one_way<const N: usize>(fields: [(&str, Schema); N]) -> Object {
    let dry_run = of(Type::Boolean).description(Some("only count"));
    let required = fields.first().map(|(name, _)| (*name).to_owned());
    let fields = fields
        .into_iter()
        .chain([("dry_run", dry_run.build().into())]);
    request(fields, required.as_deref().as_slice())
}

impl ToSchema for RestoreRequest {}

body! {
    /// The outcome of a restore or a dry run.
    component RestoredBody("Restored") from Restored {
        checked: u64,
        restored: u64,
        unchanged: u64,
        newer_in_main: u64,
        shadowed: u64,
        erased: u64,
        corrupt: u64,
        conflicts: u64,
        refused: u64,
        missing: u64,
        /// The first documents that were not restored, and the reasons.
        problems: Vec<TroubleBody>,
        dry_run: bool,
        complete: bool,
        elapsed_ms: u64,
    }
}

body! {
    inline TroubleBody("Trouble") from Trouble {
        collection: String,
        id: String,
        reason: String,
    }
}

/// Restore documents from the backup to main. Keeps newer documents in main, and never restores erased users.
#[utoipa::path(
    post,
    path = "/v1/admin/restore",
    tag = "admin",
    operation_id = "restore",
    request_body(content = RestoreRequest, content_type = "application/json",
        description = "one of `user_id`, `user_ids` (a list) and `all` (true: all users and HR records); `dry_run`: only count"),
    responses(
        (status = 200, description = "the same as `tierkeep restore --json`: `checked`, `restored`, `unchanged`, `newer_in_main`, `shadowed`, `erased`, `corrupt`, `conflicts`, `refused`, `missing`, and the first `problems`", body = RestoredBody),
        (status = 202, description = "still running; `run_id` identifies it in the log", body = Begun),
        TaskError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
    request: Request,
) -> Result<Response, TaskError> {
    let request: RestoreRequest = body::optional(request, &state).await?;
    let options = RestoreOptions::try_from(request)?;
    let longest_wait = task::longest_wait(&state.limits);
    let restored = restore(&state, &admin, options, OVER_HTTP, longest_wait).await?;
    Ok(task::answer_of::<_, RestoredBody>(restored)?)
}

/// Restores, after the audit trail has recorded it, and waits `longest_wait` at most for the result.
///
/// # Errors
/// [`TaskError::Database`] and [`TaskError::Internal`].
pub(in crate::http) async fn restore(
    state: &HttpState,
    admin: &Admin,
    options: RestoreOptions,
    how: &'static str,
    longest_wait: Duration,
) -> Result<TaskState<Restored>, TaskError> {
    let about = match &options.whom {
        RestoreScope::Users(users) if users.len() == 1 => users.first(),
        RestoreScope::Users(_) | RestoreScope::All => None,
    };
    if !options.dry_run {
        admin.restores(&state.audit, about, how).await?;
    }
    let restoration = Restoration::new(Arc::clone(state.mover.service.engine()));
    let stop = state.mover.stop.clone();
    let work = async move { restoration.run(&options, &|_| (), &stop).await };
    task::run(state, "restore", longest_wait, work).await
}
