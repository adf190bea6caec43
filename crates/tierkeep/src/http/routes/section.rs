//! `/v1/user/{section}`: one section of the document.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use tierkeep_core::content::{self, Damaged};
use tierkeep_core::user::{Section, UserId};
use tierkeep_engine::{Receipt, UsersError};
use utoipa::ToSchema;

use super::error::route_error;
use super::section_content::SectionContent;
use super::sending::{self, Working};
use crate::http::request::body::{self, BodyFormat, ParsedBody};
use crate::http::request::caller::AuthenticatedCaller;
use crate::http::request::conditions::{self, ConditionalRead};
use crate::http::response::answer;
use crate::http::response::problem::causes::{
    BodyError, CallerError, InternalError, NoPermit, RoleError, SectionNotFound,
    SectionRemoveError, SectionWriteError, ShowError, UnknownSection, UserConditionError,
    UserNotFound, UserReadError, WriteDenied,
};
use crate::http::state::HttpState;

route_error! {
    /// Why a section is not answered.
    ReadSectionError after [CallerError, UnknownSection] also [] {
        /// No permit to use the databases.
        NoPermit(NoPermit),
        /// The document cannot be read.
        Read(UserReadError),
        /// The user does not exist.
        UserNotFound(UserNotFound),
        /// The user has no such section.
        SectionNotFound(SectionNotFound),
        /// A condition does not hold.
        Condition(UserConditionError),
        /// The section cannot be shown.
        Show(ShowError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

route_error! {
    /// Why a section is neither replaced nor patched.
    WriteSectionError after [CallerError, UnknownSection] also [] {
        /// The caller may not write.
        Denied(WriteDenied),
        /// The body cannot be read.
        Body(BodyError),
        /// No permit to use the databases.
        NoPermit(NoPermit),
        /// A condition does not hold.
        Condition(UserConditionError),
        /// The engine did not write the section.
        Write(SectionWriteError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

route_error! {
    /// Why a section is not removed.
    RemoveSectionError after [CallerError, UnknownSection] also [] {
        /// A section of an external user is removed by an administrator.
        Role(RoleError),
        /// A condition does not hold.
        Condition(UserConditionError),
        /// The user does not exist.
        UserNotFound(UserNotFound),
        /// The user has no such section.
        SectionNotFound(SectionNotFound),
        /// The engine did not remove the section.
        Remove(SectionRemoveError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

/// The outcome of a write.
#[derive(Serialize, ToSchema, Debug)]
pub(in crate::http) struct Changed<'a> {
    /// The user's id, with its prefix.
    user_id: &'a str,
    /// The document's version after the write; the same as the ETag.
    version: i64,
    /// The database that holds the document.
    database: &'static str,
    /// When the content changed, RFC 3339.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// The answer to a write: 201 where the user is new.
fn changed(user: &UserId, receipt: &Receipt) -> Result<Response, InternalError> {
    let status = answer::created_or_ok(receipt.created);
    let changed = Changed {
        user_id: user.as_str(),
        version: receipt.version.get(),
        database: receipt.database.name(),
        updated_at: content::rfc3339(receipt.updated_at),
    };
    Ok(answer::tagged(
        answer::json(status, &changed)?,
        Some(receipt.version),
    ))
}

/// The section that the path names. As an extractor it refuses the names of no section.
#[derive(Debug)]
pub(in crate::http) struct Named(Section);

impl FromRequestParts<HttpState> for Named {
    type Rejection = UnknownSection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &HttpState,
    ) -> Result<Self, UnknownSection> {
        // A name that cannot be decoded names no section either.
        let named: Result<Path<String>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let named = named.ok();
        let known = named.and_then(|Path(name)| {
            let mut sections = state.sections.iter();
            sections.find(|section| section.as_str() == name).cloned()
        });
        known.map(Self).ok_or_else(|| unknown(&state.sections))
    }
}

fn unknown(sections: &[Section]) -> UnknownSection {
    let names: Vec<&str> = sections.iter().map(Section::as_str).collect();
    UnknownSection(names.join(", "))
}

/// Read a section.
#[utoipa::path(
    get,
    path = "/v1/user/{section}",
    tag = "user",
    operation_id = "read_section",
    params(
        ("section" = String, Path, description = "the section's name"),
        ("If-Match" = Option<String>, Header, description = "quoted versions; 412 if the document has none of them"),
        ("If-None-Match" = Option<String>, Header, description = "quoted versions; 304 if the document has one of them"),
    ),
    responses(
        (status = 200, description = "the section, as it was stored", body = Object,
            headers(
                ("ETag" = String, description = "the quoted version of the document"),
                ("Tierkeep-Source" = String, description = "srie_main_user if the answer comes from the backup"),
                ("Tierkeep-Inexact" = String, description = "lists the values in the answer that JSON cannot represent exactly"),
            )),
        (status = 304, description = "the caller's copy is current"),
        ReadSectionError,
    ),
    security((), ("jwt" = [], "github_token" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    caller: AuthenticatedCaller,
    Named(section): Named,
    headers: HeaderMap,
) -> Result<Response, ReadSectionError> {
    let holder = caller.holder(&state);
    let permit = caller.permit(&state).await?;
    let held = state.memory.read(holder, Some(caller.user())).await;
    let mut held = held.map_err(ShowError::from)?;
    let found = state.users.read(caller.user()).await;
    let found = found.map_err(UserReadError::from)?.ok_or(UserNotFound)?;
    let bytes = found.document.as_bytes().len();
    state.memory.found(&mut held, Some(caller.user()), bytes);
    let (version, source) = (found.version(), found.source);
    let has_section = content::has_section(&found.document, section.as_str());
    if !has_section.map_err(ShowError::from)? {
        return Err(SectionNotFound.into());
    }
    if conditions::of_read(&headers, version)? == ConditionalRead::NotModified {
        let answer = answer::not_modified();
        return Ok(answer::from_document(answer, version, source));
    }
    let document = (StatusCode::OK, found.document);
    let working = Working {
        holder,
        held,
        permit,
    };
    let shown = sending::document(&state, working, document, move |document| {
        content::show_section(document, section.as_str())?.ok_or(Damaged)
    });
    let answer = shown.await?;
    Ok(answer::from_document(answer, version, source))
}

/// Replace a section; creates the user if necessary.
#[utoipa::path(
    put,
    path = "/v1/user/{section}",
    tag = "user",
    operation_id = "replace_section",
    params(
        ("section" = String, Path, description = "the section's name"),
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 if the document has none of them"),
        ("If-None-Match" = Option<String>, Header, description = "*: only create; 412 if the user exists"),
    ),
    request_body(content = SectionContent, content_type = "application/json", description = "one JSON object"),
    responses(
        (status = 200, description = "replaced", body = Changed<'static>, headers(("ETag" = String, description = "the quoted version"))),
        (status = 201, description = "replaced; the user was created", body = Changed<'static>, headers(("ETag" = String, description = "the quoted version"))),
        WriteSectionError,
    ),
    security((), ("jwt" = [], "github_token" = [])),
)]
pub(in crate::http) async fn put(
    State(state): State<HttpState>,
    caller: AuthenticatedCaller,
    Named(section): Named,
    request: Request,
) -> Result<Response, WriteSectionError> {
    write(&state, &caller, &section, (request, BodyFormat::Json)).await
}

/// Change a section by a JSON Merge Patch (RFC 7396); a missing section counts as empty.
#[utoipa::path(
    patch,
    path = "/v1/user/{section}",
    tag = "user",
    operation_id = "patch_section",
    params(
        ("section" = String, Path, description = "the section's name"),
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 if the document has none of them"),
        ("If-None-Match" = Option<String>, Header, description = "*: only create; 412 if the user exists"),
    ),
    request_body(
        content((SectionContent = "application/merge-patch+json"), (SectionContent = "application/json")),
        description = "one JSON object; null removes a key",
    ),
    responses(
        (status = 200, description = "changed", body = Changed<'static>, headers(("ETag" = String, description = "the quoted version"))),
        (status = 201, description = "changed; the user was created", body = Changed<'static>, headers(("ETag" = String, description = "the quoted version"))),
        WriteSectionError,
    ),
    security((), ("jwt" = [], "github_token" = [])),
)]
pub(in crate::http) async fn patch(
    State(state): State<HttpState>,
    caller: AuthenticatedCaller,
    Named(section): Named,
    request: Request,
) -> Result<Response, WriteSectionError> {
    write(&state, &caller, &section, (request, BodyFormat::MergePatch)).await
}

/// Replaces or patches a section, as the format of the body says.
async fn write(
    state: &HttpState,
    caller: &AuthenticatedCaller,
    section: &Section,
    (request, format): (Request, BodyFormat),
) -> Result<Response, WriteSectionError> {
    let (users, memory) = (&state.users, &state.memory);
    let user = caller.user();
    caller.may_write(state).await?;
    let headers = request.headers().clone();
    let body = body::receive(request, format, state, caller.holder(state)).await?;
    let _permit = caller.permit(state).await?;
    let ParsedBody { document, held } = body.parse(memory, Some(user)).await?;
    let condition = conditions::of_write(&headers, users, user).await?;
    if !caller.is_recorded() {
        // A name for which nothing will be stored leaves no entry of its own.
        conditions::holds_now(condition, users, user).await?;
    }
    caller.before_change(state).await?;
    let written = match format {
        BodyFormat::Json => users.put(user, section, document, condition).await,
        BodyFormat::MergePatch => users.patch(user, section, &document, condition).await,
    };
    drop(held);
    let receipt = written.map_err(SectionWriteError)?;
    caller.wrote(state, &receipt);
    Ok(changed(user, &receipt)?)
}

/// Remove a section. For a public user, this requires a JWT with the role admin.
#[utoipa::path(
    delete,
    path = "/v1/user/{section}",
    tag = "user",
    operation_id = "remove_section",
    params(
        ("section" = String, Path, description = "the section's name"),
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 if the document has none of them"),
    ),
    responses(
        (status = 200, description = "removed", body = Changed<'static>, headers(("ETag" = String, description = "the quoted version"))),
        RemoveSectionError,
    ),
    security(("jwt" = []), ("jwt" = [], "github_token" = [])),
)]
pub(in crate::http) async fn delete(
    State(state): State<HttpState>,
    caller: AuthenticatedCaller,
    Named(section): Named,
    headers: HeaderMap,
) -> Result<Response, RemoveSectionError> {
    let users = &state.users;
    let user = caller.user();
    caller.may_remove(&state).await?;
    let condition = conditions::of_write(&headers, users, user).await?;
    match users.remove(user, &section, condition).await {
        Ok(receipt) => Ok(changed(user, &receipt)?),
        Err(UsersError::NotFound) => Err(UserNotFound.into()),
        Err(UsersError::SectionNotFound) => Err(SectionNotFound.into()),
        Err(error) => Err(SectionRemoveError(error).into()),
    }
}
