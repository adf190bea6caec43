//! `/v1/user/{section}`: one section of the document.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tierkeep_core::content;
use tierkeep_core::user::Section;
use tierkeep_engine::UsersError;

use super::answer::Changed;
use super::body::{self, Kind};
use super::caller::Asking;
use super::conditions::{self, Reading};
use super::openapi::{RemoveRefusals, SectionRefusals, WriteRefusals};
use super::problem::Problem;
use super::{HttpState, answer, weight};

/// The section that the path names. As an extractor it refuses names that are no section's.
#[derive(Debug)]
pub(super) struct Named(Section);

impl FromRequestParts<HttpState> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Problem> {
        // A name that cannot be decoded is no section's either.
        let named: Result<Path<String>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let known = named.ok().and_then(|Path(name)| {
            state
                .sections
                .iter()
                .find(|section| section.as_str() == name)
                .cloned()
        });
        known.map(Self).ok_or_else(|| unknown(&state.sections))
    }
}

fn unknown(sections: &[Section]) -> Problem {
    let names: Vec<&str> = sections.iter().map(Section::as_str).collect();
    Problem::UnknownSection(names.join(", "))
}

/// Read a section.
#[utoipa::path(
    get,
    path = "/v1/user/{section}",
    tag = "user",
    operation_id = "read_section",
    params(
        ("section" = String, Path, description = "the section's name"),
        ("If-Match" = Option<String>, Header, description = "quoted versions; 412 where the document is at none of them"),
        ("If-None-Match" = Option<String>, Header, description = "quoted versions; 304 where the document is at one of them"),
    ),
    responses(
        (status = 200, description = "the section alone, as it was put", body = Object,
            headers(
                ("ETag" = String, description = "the quoted version of the document"),
                ("Tierkeep-Source" = String, description = "srie_main_user when the answer comes from the backup"),
                ("Tierkeep-Inexact" = String, description = "names the values of the answer that would not be stored as they were if they were put back"),
            )),
        (status = 304, description = "the caller's copy is still right"),
        SectionRefusals,
    ),
    security((), ("jwt" = [], "github_token" = [])),
)]
pub(super) async fn get(
    State(state): State<HttpState>,
    asking: Asking,
    Named(section): Named,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let turn = asking.turn(&state).await?;
    let found = state.users.read(asking.user()).await?;
    drop(turn);
    let found = found.ok_or(UsersError::NotFound)?;
    let size_bytes = content::section_bytes(&found.document, section.as_str())?;
    let size_bytes = size_bytes.ok_or(Problem::SectionNotFound)?;
    if conditions::of_read(&headers, found.version())? == Reading::Had {
        return Ok(answer::from_document(answer::not_modified(), &found));
    }
    let document = found.document.clone();
    let shown = weight::work(size_bytes, move || {
        let shown = content::show_section(&document, section.as_str());
        answer::shown(StatusCode::OK, &shown?.ok_or(Problem::SectionNotFound)?)
    });
    Ok(answer::from_document(shown.await??, &found))
}

/// Replace a section, creating the user where there is none.
#[utoipa::path(
    put,
    path = "/v1/user/{section}",
    tag = "user",
    operation_id = "replace_section",
    params(
        ("section" = String, Path, description = "the section's name"),
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 where the document is at none of them"),
        ("If-None-Match" = Option<String>, Header, description = "* creates only; 412 where the user is stored"),
    ),
    request_body(content = ref("#/components/schemas/Section"), content_type = "application/json", description = "one JSON object"),
    responses(
        (status = 200, description = "replaced", body = Changed<'static>, headers(("ETag" = String, description = "the quoted version"))),
        (status = 201, description = "replaced, and the user is new", body = Changed<'static>, headers(("ETag" = String, description = "the quoted version"))),
        WriteRefusals,
    ),
    security((), ("jwt" = [], "github_token" = [])),
)]
pub(super) async fn put(
    State(state): State<HttpState>,
    asking: Asking,
    Named(section): Named,
    request: Request,
) -> Result<Response, Problem> {
    let HttpState { users, limits, .. } = &state;
    let user = asking.user();
    asking.may_write(&state).await?;
    let headers = request.headers().clone();
    let value = body::object(request, Kind::Section, limits, asking.user_type()).await?;
    let _turn = asking.turn(&state).await?;
    let value = content::to_raw(&value)?;
    let condition = conditions::of_write(&headers, users, user).await?;
    let receipt = users.put(user, &section, value, condition).await?;
    asking.wrote(&state, &receipt);
    answer::changed(user, &receipt)
}

/// Change a section by a JSON Merge Patch (RFC 7396); a missing section counts as empty.
#[utoipa::path(
    patch,
    path = "/v1/user/{section}",
    tag = "user",
    operation_id = "patch_section",
    params(
        ("section" = String, Path, description = "the section's name"),
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 where the document is at none of them"),
        ("If-None-Match" = Option<String>, Header, description = "* creates only; 412 where the user is stored"),
    ),
    request_body(
        content((ref("#/components/schemas/Section") = "application/merge-patch+json"), (ref("#/components/schemas/Section") = "application/json")),
        description = "one JSON object; null removes a key",
    ),
    responses(
        (status = 200, description = "changed", body = Changed<'static>, headers(("ETag" = String, description = "the quoted version"))),
        (status = 201, description = "changed, and the user is new", body = Changed<'static>, headers(("ETag" = String, description = "the quoted version"))),
        WriteRefusals,
    ),
    security((), ("jwt" = [], "github_token" = [])),
)]
pub(super) async fn patch(
    State(state): State<HttpState>,
    asking: Asking,
    Named(section): Named,
    request: Request,
) -> Result<Response, Problem> {
    let HttpState { users, limits, .. } = &state;
    let user = asking.user();
    asking.may_write(&state).await?;
    let headers = request.headers().clone();
    let patch = body::object(request, Kind::Patch, limits, asking.user_type()).await?;
    let _turn = asking.turn(&state).await?;
    let condition = conditions::of_write(&headers, users, user).await?;
    let receipt = users.patch(user, &section, &patch, condition).await?;
    asking.wrote(&state, &receipt);
    answer::changed(user, &receipt)
}

/// Remove a section. For a public user this takes a JWT with the role admin.
#[utoipa::path(
    delete,
    path = "/v1/user/{section}",
    tag = "user",
    operation_id = "remove_section",
    params(
        ("section" = String, Path, description = "the section's name"),
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 where the document is at none of them"),
    ),
    responses(
        (status = 200, description = "removed", body = Changed<'static>, headers(("ETag" = String, description = "the quoted version"))),
        RemoveRefusals,
    ),
    security(("jwt" = []), ("jwt" = [], "github_token" = [])),
)]
pub(super) async fn delete(
    State(state): State<HttpState>,
    asking: Asking,
    Named(section): Named,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let HttpState { users, .. } = &state;
    let user = asking.user();
    asking.may_remove(&state).await?;
    let condition = conditions::of_write(&headers, users, user).await?;
    match users.remove(user, &section, condition).await {
        Ok(receipt) => answer::changed(user, &receipt),
        // The engine does not tell apart which of the two is missing.
        Err(UsersError::NotFound) if users.read(user).await?.is_some() => {
            Err(Problem::SectionNotFound)
        }
        Err(error) => Err(error.into()),
    }
}
