//! `/v1/user`: the whole document.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tierkeep_core::content;
use tierkeep_core::user::Section;
use tierkeep_engine::UsersError;

use super::caller::Asking;
use super::conditions::{self, Reading};
use super::openapi::ReadRefusals;
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
        (status = 200, description = "the document; dates are RFC 3339, other BSON types relaxed Extended JSON v2", body = Object,
            headers(
                ("ETag" = String, description = "the quoted version"),
                ("Tierkeep-Source" = String, description = "srie_main_user when the answer comes from the backup"),
            )),
        (status = 304, description = "the caller's copy is still right"),
        ReadRefusals,
    ),
    security(("jwt" = [], "github_token" = []), ("username" = [])),
)]
pub(super) async fn get(
    State(state): State<HttpState>,
    asking: Asking,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = state.users.read(asking.user()).await?;
    let found = found.ok_or(UsersError::NotFound)?;
    if conditions::of_read(&headers, found.version())? == Reading::Had {
        return Ok(answer::from_document(answer::not_modified(), &found));
    }
    let document = found.document.clone();
    let sections = state.sections;
    let shown = weight::work(document.as_bytes().len(), move || {
        let names = sections.iter().map(Section::as_str);
        answer::json(StatusCode::OK, &content::show_user(&document, names))
    });
    Ok(answer::from_document(shown.await??, &found))
}
