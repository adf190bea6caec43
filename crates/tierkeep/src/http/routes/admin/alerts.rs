//! `GET /v1/admin/alerts`.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tierkeep_core::store::StoreError;
use tierkeep_engine::{Alert, AlertCursor, AlertFilter, AlertKind};

use super::super::error::route_error;
use crate::http::openapi::schema::{BodyOf, Rfc3339, body};
use crate::http::request::caller::Admin;
use crate::http::request::query;
use crate::http::response::answer;
use crate::http::response::problem::causes::{InternalError, QueryError, RoleError};
use crate::http::state::HttpState;

route_error! {
    /// Why alerts are not listed.
    ListAlertsError after [RoleError] also [UserNotFound] {
        /// The query cannot be read.
        Query(QueryError),
        /// `evaluation_audit` did not answer.
        Database(StoreError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

body! {
    component AlertBody("Alert") from Alert {
        kind: AlertKind,
        subject: String,
        first_at: Rfc3339,
        last_at: Rfc3339,
        count: i64,
        resolved_at: Option<Rfc3339>,
        message: String,
    }
}

body! {
    /// A page of alerts; `next_cursor` is null on the last.
    component AlertPage("AlertPage") {
        items: Vec<AlertBody>,
        next_cursor: Option<String>,
    }
}

/// List alerts, newest first: open alerts, or all.
#[utoipa::path(
    get,
    path = "/v1/admin/alerts",
    tag = "admin",
    operation_id = "list_alerts",
    params(
        ("filter" = Option<String>, Query, pattern = "^(open|all)$", description = "open or all (default open)"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "page size, 1 to 1000 (default 100)"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the previous page"),
    ),
    responses(
        (status = 200, description = "`items`, and `next_cursor`, which is null on the last page", body = AlertPage),
        ListAlertsError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _admin: Admin,
    uri: Uri,
) -> Result<Response, ListAlertsError> {
    let query = AlertListQuery::read(&uri)?;
    let alerts = state.mover.service.alerts();
    let page = alerts
        .page(query.filter, query.after.as_ref(), query.limit)
        .await?;
    let page = AlertPage {
        items: BodyOf::body_of(page.items),
        next_cursor: page
            .next
            .map(|cursor| URL_SAFE_NO_PAD.encode(cursor.to_string())),
    };
    Ok(answer::json(StatusCode::OK, &page)?)
}

/// Which page is asked for.
struct AlertListQuery {
    filter: AlertFilter,
    after: Option<AlertCursor>,
    limit: usize,
}

impl AlertListQuery {
    fn read(uri: &Uri) -> Result<Self, QueryError> {
        let mut query = Self {
            filter: AlertFilter::Open,
            after: None,
            limit: query::DEFAULT_LIMIT,
        };
        for (name, value) in query::pairs(uri)? {
            match name.as_str() {
                "filter" => query.filter = filter(&value)?,
                "limit" => query.limit = query::limit(&value)?,
                "cursor" => query.after = Some(cursor(&value)?),
                _ => {}
            }
        }
        Ok(query)
    }
}

fn filter(text: &str) -> Result<AlertFilter, QueryError> {
    match text {
        "open" => Ok(AlertFilter::Open),
        "all" => Ok(AlertFilter::All),
        _ => Err(QueryError("filter must be open or all")),
    }
}

fn cursor(text: &str) -> Result<AlertCursor, QueryError> {
    let decoded = URL_SAFE_NO_PAD.decode(text).ok();
    decoded
        .and_then(|text| AlertCursor::parse(std::str::from_utf8(&text).ok()?))
        .ok_or(query::INVALID_CURSOR)
}
