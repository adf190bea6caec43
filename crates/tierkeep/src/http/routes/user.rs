//! `/v1/user`: the whole document, and its erasure.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use tierkeep_core::content;
use tierkeep_core::db::Role;
use tierkeep_core::user::Section;
use tierkeep_engine::{Condition, UsersError};
use utoipa::ToSchema;

use crate::http::openapi::{EraseRefusals, ReadRefusals};
use crate::http::request::caller::AuthenticatedCaller;
use crate::http::request::conditions::{self, ConditionalRead};
use crate::http::response::answer;
use crate::http::response::offload;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// Read the whole document, `metadata` included.
#[utoipa::path(
    get,
    path = "/v1/user",
    tag = "user",
    operation_id = "read_user",
    params(
        ("If-Match" = Option<String>, Header, description = "quoted versions; 412 where the document is at none of them"),
        ("If-None-Match" = Option<String>, Header, description = "quoted versions; 304 where the document is at one of them"),
    ),
    responses(
        (status = 200, description = "the document; dates are RFC 3339, other BSON types relaxed Extended JSON v2", body = ref("#/components/schemas/User"),
            headers(
                ("ETag" = String, description = "the quoted version"),
                ("Tierkeep-Source" = String, description = "srie_main_user when the answer comes from the backup"),
            )),
        (status = 304, description = "the caller's copy is still right"),
        ReadRefusals,
    ),
    security((), ("jwt" = [], "github_token" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    caller: AuthenticatedCaller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let permit = caller.permit(&state).await?;
    let found = state.users.read(caller.user()).await?;
    drop(permit);
    let found = found.ok_or(UsersError::NotFound)?;
    if conditions::of_read(&headers, found.version())? == ConditionalRead::NotModified {
        return Ok(answer::from_document(answer::not_modified(), &found));
    }
    let document = found.document.clone();
    let sections = state.sections;
    let shown = offload::run(document.as_bytes().len(), move || {
        let names = sections.iter().map(Section::as_str);
        answer::json(StatusCode::OK, &content::show_user(&document, names))
    });
    Ok(answer::from_document(shown.await??, &found))
}

/// An erasure that some database has not confirmed.
#[derive(Serialize, ToSchema, Debug)]
pub(in crate::http) struct Erasing {
    /// The databases that have not confirmed it.
    #[schema(value_type = Vec<String>)]
    pending: Vec<Role>,
}

/// Erase the user: the content goes from every database, and nothing brings it back. For a public user this
/// takes a JWT with the role admin.
///
/// Erasing again is harmless. A later write starts a new life at a higher version. A condition is looked at
/// before the erasure begins; what is written in that moment is erased too.
#[utoipa::path(
    delete,
    path = "/v1/user",
    tag = "user",
    operation_id = "erase_user",
    params(
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 where the document is at none of them"),
    ),
    responses(
        (status = 204, description = "erased: every database has confirmed it"),
        (status = 202, description = "erased: it counts from now on, and is finished in the background where a database is away", body = Erasing),
        EraseRefusals,
    ),
    security(("jwt" = []), ("jwt" = [], "github_token" = [])),
)]
pub(in crate::http) async fn delete(
    State(state): State<HttpState>,
    caller: AuthenticatedCaller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let user = caller.user();
    let HttpState {
        users,
        erasures,
        audit,
        ..
    } = &state;
    caller.may_remove(&state).await?;
    let condition = conditions::of_write(&headers, users, user).await?;
    if condition != Condition::None {
        let found = users.read(user).await?;
        conditions::check(condition, found.as_ref())?;
    }
    if !erasures.is_known(user).await? {
        return Err(UsersError::NotFound.into());
    }
    caller.erases(audit).await?;
    let pending = erasures.erase(user).await?.pending;
    if pending.is_empty() {
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    answer::json(StatusCode::ACCEPTED, &Erasing { pending })
}
