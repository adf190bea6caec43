//! `GET /v1/hr/{collection}`.

use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::json;
use tierkeep_core::content::Inexact;
use tierkeep_core::hr::{self, HrId};

use super::super::admin::{USUAL_LIMIT, limit};
use super::super::caller::Hr;
use super::super::openapi::HrListRefusals;
use super::super::problem::Problem;
use super::super::{HttpState, answer, weight};
use super::Collection;

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
            headers(
                ("Tierkeep-Source" = String, description = "srie_main_hr when the answer comes from the backup"),
                ("Tierkeep-Inexact" = String, description = "names the values of the answer that would not be stored as they were if they were put back"),
            )),
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
    let wanted = Wanted::read(&uri)?;
    let page = state
        .hr
        .list(&collection, wanted.after.as_ref(), wanted.limit);
    let page = page.await?;
    let size_bytes = page
        .records
        .iter()
        .map(|record| record.as_bytes().len())
        .sum();
    let source = page.source;
    let listed = weight::work(size_bytes, move || {
        let mut inexact = Inexact::default();
        let mut items = Vec::with_capacity(page.records.len());
        for record in &page.records {
            let shown = hr::shown(record)?;
            inexact.extend(&format!("/items/{}", items.len()), shown.inexact);
            items.push(shown.value);
        }
        let next_cursor = page.next.as_ref().map(HrId::as_str);
        let listed = json!({ "items": items, "next_cursor": next_cursor });
        Ok::<_, Problem>(answer::marked(
            answer::json(StatusCode::OK, &listed)?,
            &inexact,
        ))
    });
    Ok(answer::from_source(listed.await??, source))
}

struct Wanted {
    after: Option<HrId>,
    limit: usize,
}

impl Wanted {
    /// Parameters of other names mean nothing here and are passed over.
    fn read(uri: &Uri) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::Malformed("the query cannot be read"))?;
        let mut wanted = Self {
            after: None,
            limit: USUAL_LIMIT,
        };
        for (name, value) in pairs {
            match name.as_str() {
                "limit" => wanted.limit = limit(&value)?,
                "cursor" => wanted.after = Some(cursor(&value)?),
                _ => {}
            }
        }
        Ok(wanted)
    }
}

fn cursor(text: &str) -> Result<HrId, Problem> {
    HrId::parse(text)
        .map_err(|_| Problem::Malformed("cursor is the next_cursor of the page before"))
}
