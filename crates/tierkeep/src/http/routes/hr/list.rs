//! `GET /v1/hr/{collection}`.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::content::Inexact;
use tierkeep_core::hr::{self, HrId};

use super::super::error::route_error;
use super::super::sending;
use super::{Collection, HrHolder};
use crate::http::request::caller::Hr;
use crate::http::request::query;
use crate::http::response::problem::causes::{
    InternalError, QueryError, RecordReadError, RoleError, ShowError, UnknownCollection,
};
use crate::http::response::{answer, offload};
use crate::http::state::HttpState;

route_error! {
    /// Why records are not listed.
    ListRecordsError after [RoleError, UnknownCollection] also [] {
        /// The query cannot be read.
        Query(QueryError),
        /// The records cannot be read.
        Read(RecordReadError),
        /// A record cannot be shown.
        Show(ShowError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

/// List the complete records of a collection, in order of their ids. A page of large records may be shorter than
/// `limit`.
#[utoipa::path(
    get,
    path = "/v1/hr/{collection}",
    tag = "hr",
    operation_id = "list_hr_records",
    params(
        ("collection" = String, Path, description = "the collection's name"),
        ("limit" = Option<usize>, Query, description = "page size, 1 to 1000 (default 100)"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the previous page"),
    ),
    responses(
        (status = 200, description = "`items`, and `next_cursor`, which is null on the last page", body = Object,
            headers(
                ("Tierkeep-Source" = String, description = "srie_main_hr if the answer comes from the backup"),
                ("Tierkeep-Inexact" = String, description = "lists the values in the answer that JSON cannot represent exactly"),
            )),
        ListRecordsError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _hr: Hr,
    Collection(collection): Collection,
    HrHolder(holder): HrHolder,
    uri: Uri,
) -> Result<Response, ListRecordsError> {
    let query = HrListQuery::read(&uri)?;
    let held = state.memory.read(holder, None).await;
    let mut held = held.map_err(ShowError::from)?;
    let page = state
        .hr
        .list(&collection, query.after.as_ref(), query.limit);
    let page = page.await.map_err(RecordReadError::from)?;
    let lengths = page.records.iter().map(|record| record.as_bytes().len());
    let size_bytes = lengths.sum();
    state.memory.found(&mut held, None, size_bytes);
    let source = page.source;
    let listed = offload::run(size_bytes, move || {
        let next = page.next.as_ref().map(HrId::as_str);
        (written(page.records, next), held)
    });
    let (listed, held) = listed.await?;
    let (text, inexact) = listed?;
    let sending = sending::reserved(&state, holder, (text.len(), text.len())).await;
    let sending = sending.map_err(ShowError::from)?;
    drop(held);
    let listed = answer::text(StatusCode::OK, text, sending);
    Ok(answer::from_source(
        answer::marked(listed, &inexact),
        source,
    ))
}

/// A page of records: `items` and `next_cursor`.
fn written(
    records: Vec<RawDocumentBuf>,
    next_cursor: Option<&str>,
) -> Result<(Vec<u8>, Inexact), ShowError> {
    let mut inexact = Inexact::default();
    let mut text = br#"{"items":["#.to_vec();
    for (place, record) in records.into_iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        let mut shown = hr::shown(record)?;
        inexact.extend(
            &format!("/items/{place}"),
            std::mem::take(&mut shown.inexact),
        );
        shown.write_to(&mut text);
    }
    text.extend_from_slice(br#"],"next_cursor":"#);
    serde_json::to_writer(&mut text, &next_cursor).map_err(|_| InternalError)?;
    text.push(b'}');
    Ok((text, inexact))
}

/// Which page is asked for.
struct HrListQuery {
    after: Option<HrId>,
    limit: usize,
}

impl HrListQuery {
    fn read(uri: &Uri) -> Result<Self, QueryError> {
        let mut query = Self {
            after: None,
            limit: query::DEFAULT_LIMIT,
        };
        for (name, value) in query::pairs(uri)? {
            match name.as_str() {
                "limit" => query.limit = query::limit(&value)?,
                "cursor" => {
                    let id = HrId::parse(&value).map_err(|_| query::INVALID_CURSOR)?;
                    query.after = Some(id);
                }
                _ => {}
            }
        }
        Ok(query)
    }
}
