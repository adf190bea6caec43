//! `GET /v1/admin/migrations`.

use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::json;
use tierkeep_core::bson::oid::ObjectId;
use tierkeep_core::mover::Status;
use tierkeep_core::user::UserId;
use tierkeep_engine::RecordFilter;

use crate::http::openapi::AdminListRefusals;
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

pub(in crate::http) const USUAL_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

/// Migration records, page by page, in the order in which their documents entered temp.
#[utoipa::path(
    get,
    path = "/v1/admin/migrations",
    tag = "admin",
    operation_id = "list_migrations",
    params(
        ("status" = Option<String>, Query, pattern = "^(pending|completed|failed)$", description = "only pending, completed or failed ones"),
        ("user" = Option<String>, Query, description = "only this user's, by id"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "at most so many, 1 to 1000; 100 where nothing is said"),
        ("cursor" = Option<String>, Query, pattern = "^[0-9a-f]{24}$", description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "`items`, and `next_cursor`, which is null on the last page", body = ref("#/components/schemas/Migrations")),
        AdminListRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _admin: Admin,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = MigrationListQuery::read(&uri)?;
    let page = state
        .mover
        .service
        .migrations(&query.filter, query.after, query.limit)
        .await?;
    let next_cursor = page.next.map(ObjectId::to_hex);
    answer::json(
        StatusCode::OK,
        &json!({ "items": page.records, "next_cursor": next_cursor }),
    )
}

struct MigrationListQuery {
    filter: RecordFilter,
    after: Option<ObjectId>,
    limit: usize,
}

impl MigrationListQuery {
    /// Parameters of other names mean nothing here and are passed over.
    fn read(uri: &Uri) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::Malformed("the query cannot be read"))?;
        let mut query = Self {
            filter: RecordFilter::default(),
            after: None,
            limit: USUAL_LIMIT,
        };
        for (name, value) in pairs {
            match name.as_str() {
                "status" => query.filter.status = Some(status(&value)?),
                "user" => query.filter.user = Some(user(&value)?),
                "limit" => query.limit = limit(&value)?,
                "cursor" => query.after = Some(cursor(&value)?),
                _ => {}
            }
        }
        Ok(query)
    }
}

fn status(text: &str) -> Result<Status, Problem> {
    Status::parse(text).ok_or(Problem::Malformed("status is pending, completed or failed"))
}

pub(in crate::http) fn user(text: &str) -> Result<UserId, Problem> {
    UserId::parse(text)
        .map_err(|_| Problem::Malformed("user is a user id: internal_… or external_…"))
}

pub(in crate::http) fn limit(text: &str) -> Result<usize, Problem> {
    let limit = text.parse().ok();
    limit
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or(Problem::Malformed("limit is a whole number from 1 to 1000"))
}

fn cursor(text: &str) -> Result<ObjectId, Problem> {
    ObjectId::parse_str(text)
        .map_err(|_| Problem::Malformed("cursor is the next_cursor of the page before"))
}
