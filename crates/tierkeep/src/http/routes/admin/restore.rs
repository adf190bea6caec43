//! `POST /v1/admin/restore`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use tierkeep_core::bson::{Bson, Document};
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{Restoration, RestoreOptions, Whom};

use super::{flag, only, optional_object, outliving, wrong};
use crate::http::openapi::AdminWriteRefusals;
use crate::http::request::caller::Admin;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// Bring documents back from the backup to main. What is newer in main stays, and who was erased stays erased.
#[utoipa::path(
    post,
    path = "/v1/admin/restore",
    tag = "admin",
    operation_id = "restore",
    request_body(content = ref("#/components/schemas/RestoreRequest"), content_type = "application/json",
        description = "one of `user_id`, `user_ids` (a list) and `all` (true: everybody, and HR records); `dry_run`: only count"),
    responses(
        (status = 200, description = "the same as `tierkeep restore --json`: `checked`, `restored`, `unchanged`, `newer_in_main`, `shadowed`, `erased`, `corrupt`, `conflicts`, `refused`, `missing`, and the first `problems`", body = ref("#/components/schemas/Restored")),
        (status = 202, description = "it takes long and goes on; `run_id` names it in the log", body = ref("#/components/schemas/Begun")),
        AdminWriteRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
    request: Request,
) -> Result<Response, Problem> {
    let options = options(&optional_object(request, &state.limits).await?)?;
    let whom = match &options.whom {
        Whom::Users(users) if users.len() == 1 => users.first(),
        Whom::Users(_) | Whom::All => None,
    };
    if !options.dry_run {
        admin.restores(&state.audit, whom).await?;
    }
    let restoration = Restoration::new(Arc::clone(state.mover.service.databases()));
    let stop = state.mover.stop.clone();
    let work = async move { restoration.run(&options, &|_| (), &stop).await };
    outliving(&state, "restore", work).await
}

fn options(body: &Document) -> Result<RestoreOptions, Problem> {
    only(body, &["user_id", "user_ids", "all", "dry_run"])?;
    let dry_run = flag(body, "dry_run")?;
    let whom = match (
        body.get("user_id"),
        body.get("user_ids"),
        flag(body, "all")?,
    ) {
        (Some(id), None, false) => Whom::Users(vec![user(id)?]),
        (None, Some(Bson::Array(ids)), false) => {
            Whom::Users(ids.iter().map(user).collect::<Result<_, _>>()?)
        }
        (None, None, true) => Whom::All,
        (_, _, _) => {
            return Err(wrong(
                "say whom to restore by one of user_id, user_ids (a list) and all: true".into(),
            ));
        }
    };
    Ok(RestoreOptions { whom, dry_run })
}

fn user(id: &Bson) -> Result<UserId, Problem> {
    let user = id.as_str().and_then(|id| UserId::parse(id).ok());
    user.filter(|user| user.user_type() == UserType::Internal)
        .ok_or_else(|| {
            wrong(
                "a user id here is internal_ and 24 hex digits; external users have no backup"
                    .into(),
            )
        })
}
