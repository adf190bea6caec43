//! `GET /v1/admin/users/{user_id}`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tierkeep_core::db::Role;
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{Copy, ErasureView, Explanation, Inspector, RecordView};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{RefOr, Type};

use super::super::error::route_error;
use crate::http::openapi::schema::{BodyOf, Described, NonNegative, Rfc3339, body, of};
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::causes::{InternalError, RoleError, UserNotFound};
use crate::http::state::HttpState;

route_error! {
    /// Why a user is not explained.
    ExplainUserError after [RoleError] also [] {
        /// No database holds anything about the user.
        NotFound(UserNotFound),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

body! {
    /// The state of one user's data, without its content.
    component ExplanationBody("Explanation") from Explanation {
        user_id: String,
        user_type: UserType,
        authoritative: Option<Role>,
        due_at: Option<Rfc3339>,
        erased: bool,
        erasure: Option<ErasureBody>,
        copies: Vec<CopyBody>,
        records: Option<Vec<RecordBody>>,
        next: String,
        unreachable: Vec<Role>,
    }
}

body! {
    component CopyBody("Copy") from Copy {
        database: Role,
        collection: &'static str,
        version: Option<i64>,
        staged_at: Option<Rfc3339>,
        updated_at: Option<Rfc3339>,
        size: usize,
        digest: String,
        backup_status: Option<String>,
        state: CopyState,
    }
}

body! {
    inline ErasureBody("Erasure") from ErasureView {
        epoch: i64,
        stage: ErasureStage,
        requested_at: Option<Rfc3339>,
        verified_at: Option<Rfc3339>,
        pending: Vec<Role>,
    }
}

body! {
    inline RecordBody("Record") from RecordView {
        migration_id: String,
        version: i64,
        status: RecordStatus,
        retry_count: NonNegative,
        migration_date: Option<Rfc3339>,
        next_attempt_at: Option<Rfc3339>,
        error: Option<String>,
    }
}

/// Declares texts of the engine whose values the document lists.
macro_rules! texts {
    ($($(#[doc = $about:literal])* $name:ident [$($value:literal),*];)*) => {$(
        $(#[doc = $about])*
        #[derive(Serialize, Debug)]
        #[serde(transparent)]
        pub(in crate::http) struct $name(&'static str);

        impl Described for $name {
            fn described() -> RefOr<Schema> {
                RefOr::T(of(Type::String).enum_values(Some([$($value),*])).build().into())
            }
        }

        impl BodyOf<&'static str> for $name {
            fn body_of(value: &'static str) -> Self {
                Self(value)
            }
        }
    )*};
}

texts! {
    /// The state of a copy.
    CopyState ["live", "entering", "erased"];
    /// How far an erasure is.
    ErasureStage ["pending", "verified", "closed"];
    /// The status of a migration record.
    RecordStatus ["pending", "completed", "failed"];
}

/// Show one user: every copy, which one is current, and what happens next. The same as `tierkeep explain --json`.
#[utoipa::path(
    get,
    path = "/v1/admin/users/{user_id}",
    tag = "admin",
    operation_id = "explain_user",
    params(("user_id" = String, Path, description = "internal_… or external_…")),
    responses(
        (status = 200, description = "every copy, without its content", body = ExplanationBody),
        ExplainUserError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _admin: Admin,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ExplainUserError> {
    // A text that is not a user id names a user who is not stored.
    let user = id.ok().and_then(|Path(id)| UserId::parse(&id).ok());
    let user = user.ok_or(UserNotFound)?;
    let explanation = Inspector::from(&state.mover.service).explain(&user).await;
    let explanation = ExplanationBody::body_of(explanation.ok_or(UserNotFound)?);
    Ok(answer::json(StatusCode::OK, &explanation)?)
}
