//! `GET /v1/admin/audit`.

use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::json;
use tierkeep_core::audit::Kind;
use tierkeep_engine::AuditFilter;

use super::migrations::{USUAL_LIMIT, limit, user};
use crate::http::openapi::AdminListRefusals;
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// The audit trail, page by page, in the order in which its entries were chained.
#[utoipa::path(
    get,
    path = "/v1/admin/audit",
    tag = "admin",
    operation_id = "list_audit",
    params(
        ("kind" = Option<String>, Query, pattern = "^(decision|erasure|admin_action|hr_action|restore|import|failed_move|checkpoint)$", description = "only decision, erasure, admin_action, hr_action, restore, import, failed_move or checkpoint"),
        ("user" = Option<String>, Query, description = "only what is about this user, by id"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "at most so many, 1 to 1000; 100 where nothing is said"),
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,18}$", description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "`items`, and `next_cursor`, which is null on the last page", body = ref("#/components/schemas/AuditPage")),
        AdminListRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _admin: Admin,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = AuditListQuery::read(&uri)?;
    let page = state.audit.page(&query.filter, query.after, query.limit);
    let page = page.await?;
    let next_cursor = page.next.map(|place| place.to_string());
    answer::json(
        StatusCode::OK,
        &json!({ "items": page.items, "next_cursor": next_cursor }),
    )
}

struct AuditListQuery {
    filter: AuditFilter,
    after: Option<i64>,
    limit: usize,
}

impl AuditListQuery {
    /// Parameters of other names mean nothing here and are passed over.
    fn read(uri: &Uri) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::Malformed("the query cannot be read"))?;
        let mut query = Self {
            filter: AuditFilter::default(),
            after: None,
            limit: USUAL_LIMIT,
        };
        for (name, value) in pairs {
            match name.as_str() {
                "kind" => query.filter.kind = Some(kind(&value)?),
                "user" => query.filter.user = Some(user(&value)?),
                "limit" => query.limit = limit(&value)?,
                "cursor" => query.after = Some(cursor(&value)?),
                _ => {}
            }
        }
        Ok(query)
    }
}

fn kind(text: &str) -> Result<Kind, Problem> {
    Kind::parse(text).ok_or(Problem::Malformed(
        "kind is decision, erasure, admin_action, hr_action, restore, import, failed_move or checkpoint",
    ))
}

fn cursor(text: &str) -> Result<i64, Problem> {
    let place = text.parse().ok();
    place.ok_or(Problem::Malformed(
        "cursor is the next_cursor of the page before",
    ))
}
