//! `/v1/user`: the whole document, and its erasure.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use tierkeep_core::content;
use tierkeep_core::db::Role;
use tierkeep_core::store::StoreError;
use tierkeep_core::user::Section;
use tierkeep_engine::{Condition, EraseError};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType};
use utoipa::openapi::{RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use super::error::route_error;
use super::sending::{self, Working};
use crate::http::openapi::schema::of;
use crate::http::request::caller::AuthenticatedCaller;
use crate::http::request::conditions::{self, ConditionalRead};
use crate::http::response::answer;
use crate::http::response::problem::causes::{
    CallerError, InternalError, NoPermit, RoleError, ShowError, UserConditionError, UserNotFound,
    UserReadError,
};
use crate::http::state::HttpState;

route_error! {
    /// Why a user's document is not answered.
    ReadUserError after [CallerError] also [] {
        /// No permit to use the databases.
        NoPermit(NoPermit),
        /// The document cannot be read.
        Read(UserReadError),
        /// The user does not exist.
        NotFound(UserNotFound),
        /// A condition does not hold.
        Condition(UserConditionError),
        /// The document cannot be shown.
        Show(ShowError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

route_error! {
    /// Why a user is not erased.
    EraseUserError after [CallerError] also [] {
        /// An external user is erased by an administrator.
        Role(RoleError),
        /// A condition does not hold.
        Condition(UserConditionError),
        /// The document cannot be read.
        Read(UserReadError),
        /// The user does not exist.
        NotFound(UserNotFound),
        /// The audit trail or the ledger did not answer.
        Database(StoreError),
        /// The engine did not erase the user.
        Erase(EraseError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

/// A user's document as it is sent. Written from the stored bytes, so that the type describes it and holds nothing.
#[derive(Debug)]
pub(in crate::http) struct UserDocument;

impl PartialSchema for UserDocument {
    fn schema() -> RefOr<Schema> {
        let texts = |names: [&str; 5]| {
            let object = of(Type::Object).property(
                "_id",
                ObjectBuilder::new().schema_type(SchemaType::AnyValue),
            );
            names.iter().fold(object, |object, name| {
                object.property(*name, of(Type::String))
            })
        };
        let metadata = [
            ("storage_location", Type::String),
            ("backup_status", Type::String),
            ("version", Type::Integer),
            ("staged_at", Type::String),
            ("updated_at", Type::String),
            ("digest", Type::String),
            ("schema_version", Type::Integer),
        ];
        let metadata = metadata
            .into_iter()
            .fold(of(Type::Object), |object, (name, kind)| {
                object.property(name, of(kind))
            });
        let fields = [
            "user_id",
            "user_type",
            "created_at",
            "last_accessed",
            "data_location",
        ];
        let document = texts(fields)
            .property("metadata", metadata)
            .required("_id")
            .required("user_id")
            .description(Some(
                "A user's document. In addition to these fields, it has the sections that were stored.",
            ));
        RefOr::T(document.build().into())
    }
}

impl ToSchema for UserDocument {
    fn name() -> std::borrow::Cow<'static, str> {
        "User".into()
    }
}

/// Read the whole document, `metadata` included.
#[utoipa::path(
    get,
    path = "/v1/user",
    tag = "user",
    operation_id = "read_user",
    params(
        ("If-Match" = Option<String>, Header, description = "quoted versions; 412 if the document has none of them"),
        ("If-None-Match" = Option<String>, Header, description = "quoted versions; 304 if the document has one of them"),
    ),
    responses(
        (status = 200, description = "the document; dates are RFC 3339, other BSON types relaxed Extended JSON v2", body = UserDocument,
            headers(
                ("ETag" = String, description = "the quoted version"),
                ("Tierkeep-Source" = String, description = "srie_main_user if the answer comes from the backup"),
                ("Tierkeep-Inexact" = String, description = "lists the values in the answer that JSON cannot represent exactly"),
            )),
        (status = 304, description = "the caller's copy is current"),
        ReadUserError,
    ),
    security((), ("jwt" = [], "github_token" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    caller: AuthenticatedCaller,
    headers: HeaderMap,
) -> Result<Response, ReadUserError> {
    let holder = caller.holder(&state);
    let permit = caller.permit(&state).await?;
    let held = state.memory.read(holder, Some(caller.user())).await;
    let mut held = held.map_err(ShowError::from)?;
    let found = state.users.read(caller.user()).await;
    let found = found.map_err(UserReadError::from)?.ok_or(UserNotFound)?;
    let bytes = found.document.as_bytes().len();
    state.memory.found(&mut held, Some(caller.user()), bytes);
    let (version, source) = (found.version(), found.source);
    if conditions::of_read(&headers, version)? == ConditionalRead::NotModified {
        let answer = answer::not_modified();
        return Ok(answer::from_document(answer, version, source));
    }
    let sections = Arc::clone(&state.sections);
    let document = (StatusCode::OK, found.document);
    let working = Working {
        holder,
        held,
        permit,
    };
    let shown = sending::document(&state, working, document, move |document| {
        content::show_user(document, sections.iter().map(Section::as_str))
    });
    let answer = shown.await?;
    Ok(answer::from_document(answer, version, source))
}

/// An erasure that some database has not confirmed.
#[derive(Serialize, ToSchema, Debug)]
pub(in crate::http) struct Erasing {
    /// The databases that have not confirmed it.
    #[schema(value_type = Vec<String>)]
    pending: Vec<Role>,
}

/// Permanently erase the user's content from every database. For a public user, this requires a JWT with the role
/// admin.
///
/// Repeating the erasure is safe. A later write creates the user again at a higher version. A condition is checked
/// before the erasure starts; writes between the check and the erasure are erased too.
#[utoipa::path(
    delete,
    path = "/v1/user",
    tag = "user",
    operation_id = "erase_user",
    params(
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 if the document has none of them"),
    ),
    responses(
        (status = 204, description = "erased and confirmed by every database"),
        (status = 202, description = "erased; takes effect now, and is completed in the background in databases that are unavailable", body = Erasing),
        EraseUserError,
    ),
    security(("jwt" = []), ("jwt" = [], "github_token" = [])),
)]
pub(in crate::http) async fn delete(
    State(state): State<HttpState>,
    caller: AuthenticatedCaller,
    headers: HeaderMap,
) -> Result<Response, EraseUserError> {
    let user = caller.user();
    caller.may_remove(&state).await?;
    let condition = conditions::of_write(&headers, &state.users, user).await?;
    if condition != Condition::None {
        let found = state.users.read(user).await.map_err(UserReadError::from)?;
        conditions::check(condition, found.as_ref())?;
    }
    if !state.erasures.is_known(user).await? {
        return Err(UserNotFound.into());
    }
    caller.erases(&state.audit).await?;
    let pending = state.erasures.erase(user).await?.pending;
    if pending.is_empty() {
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    Ok(answer::json(StatusCode::ACCEPTED, &Erasing { pending })?)
}
