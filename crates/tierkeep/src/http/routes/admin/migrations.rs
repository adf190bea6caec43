//! `GET /v1/admin/migrations`.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use tierkeep_core::bson::oid::ObjectId;
use tierkeep_core::mover::Status;
use tierkeep_core::store::StoreError;
use tierkeep_engine::{Inspector, MigrationView, RecordFilter};

use super::super::error::route_error;
use crate::http::openapi::schema::{BodyOf, Rfc3339, body};
use crate::http::request::caller::Admin;
use crate::http::request::query;
use crate::http::response::answer;
use crate::http::response::problem::causes::{InternalError, QueryError, RoleError};
use crate::http::state::HttpState;

route_error! {
    /// Why migration records are not listed.
    ListMigrationsError after [RoleError] also [UserNotFound] {
        /// The query cannot be read.
        Query(QueryError),
        /// `evaluation_audit` did not answer.
        Database(StoreError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

body! {
    /// A migration record.
    component MigrationBody("Migration") from MigrationView {
        migration_id: String,
        user_id: String,
        source_db: String,
        target_db: String,
        backup_db: String,
        migration_date: Option<Rfc3339>,
        status: String,
        data_size: i64,
        retry_count: i32,
        version: i64,
        run_id: Option<String>,
        started_at: Option<Rfc3339>,
        finished_at: Option<Rfc3339>,
        next_attempt_at: Option<Rfc3339>,
        error: Option<String>,
    }
}

body! {
    /// A page of records; `next_cursor` is null on the last.
    component MigrationPage("Migrations") {
        items: Vec<MigrationBody>,
        next_cursor: Option<String>,
    }
}

/// List migration records. Those of documents that entered temp last come first.
#[utoipa::path(
    get,
    path = "/v1/admin/migrations",
    tag = "admin",
    operation_id = "list_migrations",
    params(
        ("status" = Option<String>, Query, pattern = "^(pending|completed|failed)$", description = "only records with this status: pending, completed or failed"),
        ("user" = Option<String>, Query, description = "only records of this user, by id"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "page size, 1 to 1000 (default 100)"),
        ("cursor" = Option<String>, Query, pattern = "^[0-9a-f]{24}$", description = "`next_cursor` of the previous page"),
    ),
    responses(
        (status = 200, description = "`items`, and `next_cursor`, which is null on the last page", body = MigrationPage),
        ListMigrationsError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _admin: Admin,
    uri: Uri,
) -> Result<Response, ListMigrationsError> {
    let query = MigrationListQuery::read(&uri)?;
    let page = Inspector::from(&state.mover.service)
        .migrations(&query.filter, query.after, query.limit)
        .await?;
    let page = MigrationPage {
        items: BodyOf::body_of(page.records),
        next_cursor: page.next.map(ObjectId::to_hex),
    };
    Ok(answer::json(StatusCode::OK, &page)?)
}

/// Which page is asked for.
struct MigrationListQuery {
    filter: RecordFilter,
    after: Option<ObjectId>,
    limit: usize,
}

impl MigrationListQuery {
    fn read(uri: &Uri) -> Result<Self, QueryError> {
        let mut query = Self {
            filter: RecordFilter::default(),
            after: None,
            limit: query::DEFAULT_LIMIT,
        };
        for (name, value) in query::pairs(uri)? {
            match name.as_str() {
                "status" => query.filter.status = Some(status(&value)?),
                "user" => query.filter.user = Some(query::user(&value)?),
                "limit" => query.limit = query::limit(&value)?,
                "cursor" => query.after = Some(cursor(&value)?),
                _ => {}
            }
        }
        Ok(query)
    }
}

fn status(text: &str) -> Result<Status, QueryError> {
    Status::parse(text).ok_or(QueryError("status must be pending, completed or failed"))
}

fn cursor(text: &str) -> Result<ObjectId, QueryError> {
    ObjectId::parse_str(text).map_err(|_| query::INVALID_CURSOR)
}
