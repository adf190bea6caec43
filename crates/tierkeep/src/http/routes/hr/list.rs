//! `GET /v1/hr/{collection}`.

use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::json;
use tierkeep_core::hr::{self, HrId};

use super::Collection;
use crate::http::openapi::HrListRefusals;
use crate::http::request::caller::Hr;
use crate::http::response::answer;
use crate::http::response::offload;
use crate::http::response::problem::Problem;
use crate::http::routes::admin::migrations::{USUAL_LIMIT, limit};
use crate::http::state::HttpState;

/// The records of a collection, whole, page by page, in order of their ids. A page ends early where records are large.
#[utoipa::path(
    get,
    path = "/v1/hr/{collection}",
    tag = "hr",
    operation_id = "list_hr_records",
    params(
        ("collection" = String, Path, description = "the collection's name"),
        ("limit" = Option<usize>, Query, description = "at most so many, 1 to 1000; 100 where nothing is said"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "`items`, and `next_cursor`, which is null on the last page", body = Object,
            headers(("Tierkeep-Source" = String, description = "srie_main_hr when the answer comes from the backup"))),
        HrListRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _hr: Hr,
    Collection(collection): Collection,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = HrListQuery::read(&uri)?;
    let page = state
        .hr
        .list(&collection, query.after.as_ref(), query.limit);
    let page = page.await?;
    let size_bytes = page
        .records
        .iter()
        .map(|record| record.as_bytes().len())
        .sum();
    let source = page.source;
    let listed = offload::run(size_bytes, move || {
        let items: Vec<_> = page
            .records
            .iter()
            .filter_map(|record| hr::shown(record))
            .collect();
        let next_cursor = page.next.as_ref().map(HrId::as_str);
        answer::json(
            StatusCode::OK,
            &json!({ "items": items, "next_cursor": next_cursor }),
        )
    });
    Ok(answer::from_source(listed.await??, source))
}

struct HrListQuery {
    after: Option<HrId>,
    limit: usize,
}

impl HrListQuery {
    /// Parameters of other names mean nothing here and are passed over.
    fn read(uri: &Uri) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::Malformed("the query cannot be read"))?;
        let mut query = Self {
            after: None,
            limit: USUAL_LIMIT,
        };
        for (name, value) in pairs {
            match name.as_str() {
                "limit" => query.limit = limit(&value)?,
                "cursor" => query.after = Some(cursor(&value)?),
                _ => {}
            }
        }
        Ok(query)
    }
}

fn cursor(text: &str) -> Result<HrId, Problem> {
    HrId::parse(text)
        .map_err(|_| Problem::Malformed("cursor is the next_cursor of the page before"))
}
