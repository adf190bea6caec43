//! `GET /v1/admin/alerts`.

use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tierkeep_engine::AlertFilter;

use super::migrations::{USUAL_LIMIT, limit};
use crate::http::openapi::AdminListRefusals;
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// Alerts, page by page, by kind and subject: those whose cause is not gone, or all.
#[utoipa::path(
    get,
    path = "/v1/admin/alerts",
    tag = "admin",
    operation_id = "list_alerts",
    params(
        ("filter" = Option<String>, Query, pattern = "^(open|all)$", description = "open or all; open where nothing is said"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "at most so many, 1 to 1000; 100 where nothing is said"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "`items`, and `next_cursor`, which is null on the last page", body = ref("#/components/schemas/AlertPage")),
        AdminListRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _admin: Admin,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = AlertListQuery::read(&uri)?;
    let alerts = state.mover.service.alerts();
    let page = alerts
        .page(query.filter, query.after.as_deref(), query.limit)
        .await?;
    let next_cursor = page.next.map(|place| URL_SAFE_NO_PAD.encode(place));
    answer::json(
        StatusCode::OK,
        &json!({ "items": page.items, "next_cursor": next_cursor }),
    )
}

struct AlertListQuery {
    filter: AlertFilter,
    after: Option<String>,
    limit: usize,
}

impl AlertListQuery {
    /// Parameters of other names mean nothing here and are passed over.
    fn read(uri: &Uri) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::Malformed("the query cannot be read"))?;
        let mut query = Self {
            filter: AlertFilter::Open,
            after: None,
            limit: USUAL_LIMIT,
        };
        for (name, value) in pairs {
            match name.as_str() {
                "filter" => query.filter = filter(&value)?,
                "limit" => query.limit = limit(&value)?,
                "cursor" => query.after = Some(cursor(&value)?),
                _ => {}
            }
        }
        Ok(query)
    }
}

fn filter(text: &str) -> Result<AlertFilter, Problem> {
    match text {
        "open" => Ok(AlertFilter::Open),
        "all" => Ok(AlertFilter::All),
        _ => Err(Problem::Malformed("filter is open or all")),
    }
}

fn cursor(text: &str) -> Result<String, Problem> {
    let place = URL_SAFE_NO_PAD.decode(text).ok();
    place
        .and_then(|place| String::from_utf8(place).ok())
        .ok_or(Problem::Malformed(
            "cursor is the next_cursor of the page before",
        ))
}
