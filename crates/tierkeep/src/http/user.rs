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

use super::caller::Asking;
use super::conditions::{self, Reading};
use super::openapi::{EraseRefusals, ReadRefusals};
use super::problem::Problem;
use super::{HttpState, answer, weight};

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
                ("Tierkeep-Inexact" = String, description = "names the values of the answer that would not be stored as they were if they were put back"),
            )),
        (status = 304, description = "the caller's copy is still right"),
        ReadRefusals,
    ),
    security((), ("jwt" = [], "github_token" = [])),
)]
pub(super) async fn get(
    State(state): State<HttpState>,
    asking: Asking,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let turn = asking.turn(&state).await?;
    let found = state.users.read(asking.user()).await?;
    drop(turn);
    let found = found.ok_or(UsersError::NotFound)?;
    if conditions::of_read(&headers, found.version())? == Reading::Had {
        return Ok(answer::from_document(answer::not_modified(), &found));
    }
    let document = found.document.clone();
    let sections = state.sections;
    let shown = weight::work(document.as_bytes().len(), move || {
        let names = sections.iter().map(Section::as_str);
        answer::shown(StatusCode::OK, &content::show_user(&document, names)?)
    });
    Ok(answer::from_document(shown.await??, &found))
}

/// An erasure that some database has not confirmed.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct Erasing {
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
pub(super) async fn delete(
    State(state): State<HttpState>,
    asking: Asking,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let user = asking.user();
    let HttpState {
        users,
        erasures,
        audit,
        ..
    } = &state;
    asking.may_remove(&state).await?;
    let condition = conditions::of_write(&headers, users, user).await?;
    if condition != Condition::None {
        let found = users.read(user).await?;
        conditions::check(condition, found.as_ref())?;
    }
    if !erasures.is_known(user).await? {
        return Err(UsersError::NotFound.into());
    }
    asking.erases(audit).await?;
    let pending = erasures.erase(user).await?.pending;
    if pending.is_empty() {
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    answer::json(StatusCode::ACCEPTED, &Erasing { pending })
}
