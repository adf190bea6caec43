//! `/v1/hr/{collection}/{id}`: one record.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tierkeep_core::user::UserType;
use tierkeep_engine::{HrError, HrReceipt};

use super::super::body::{self, Kind};
use super::super::caller::Hr;
use super::super::conditions::{self, Reading};
use super::super::openapi::{HrReadRefusals, HrRemoveRefusals, HrWriteRefusals};
use super::super::problem::Problem;
use super::super::{HttpState, answer};
use super::{Named, content, shown};

/// Read a record.
#[utoipa::path(
    get,
    path = "/v1/hr/{collection}/{id}",
    tag = "hr",
    operation_id = "read_hr_record",
    params(
        ("collection" = String, Path, description = "the collection's name"),
        ("id" = String, Path, description = "the record's id: 1 to 128 of A-Z, a-z, 0-9, ., _, :, @ and -"),
        ("If-Match" = Option<String>, Header, description = "quoted versions; 412 where the record is at none of them"),
        ("If-None-Match" = Option<String>, Header, description = "quoted versions; 304 where the record is at one of them"),
    ),
    responses(
        (status = 200, description = "the whole record: as it was put, with `_id`, `created_at`, `updated_at` and `metadata`", body = Object,
            headers(
                ("ETag" = String, description = "the quoted version of the record"),
                ("Tierkeep-Source" = String, description = "srie_main_hr when the answer comes from the backup"),
                ("Tierkeep-Inexact" = String, description = "names the values of the answer that would not be stored as they were if they were put back"),
            )),
        (status = 304, description = "the caller's copy is still right"),
        HrReadRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _hr: Hr,
    named: Named,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = state.hr.read(&named.collection, &named.id).await?;
    let found = found.ok_or(HrError::NotFound)?;
    let (version, source) = (found.version(), found.source);
    let answer = match conditions::of_hr_read(&headers, version)? {
        Reading::Had => answer::tagged(answer::not_modified(), version),
        Reading::Wanted => shown(StatusCode::OK, found.record).await?,
    };
    Ok(answer::from_source(answer, source))
}

/// Put a record into `raseen_main_hr` and its backup, whether there was one or not.
#[utoipa::path(
    put,
    path = "/v1/hr/{collection}/{id}",
    tag = "hr",
    operation_id = "replace_hr_record",
    params(
        ("collection" = String, Path, description = "the collection's name"),
        ("id" = String, Path, description = "the record's id: 1 to 128 of A-Z, a-z, 0-9, ., _, :, @ and -"),
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 where the record is at none of them"),
        ("If-None-Match" = Option<String>, Header, description = "* creates only; 412 where the record is stored"),
    ),
    request_body(content = Object, content_type = "application/json", description = "one JSON object, without the keys `_id`, `created_at`, `updated_at` and `metadata`"),
    responses(
        (status = 200, description = "replaced; the whole record. `metadata.backup_status` is `completed`, or `pending` while the backup is away", body = Object, headers(("ETag" = String, description = "the quoted version"))),
        (status = 201, description = "the record is new; the same", body = Object, headers(("ETag" = String, description = "the quoted version"))),
        HrWriteRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn put(
    State(state): State<HttpState>,
    hr: Hr,
    named: Named,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let body = body::object(request, Kind::Section, &state.limits, UserType::Internal).await?;
    let content = content(&body)?;
    let Named { collection, id } = &named;
    let condition = conditions::of_hr_write(&headers, &state.hr, collection, id).await?;
    hr.does(&state.audit, "put", &named.text()).await?;
    let receipt = state.hr.put(collection, id, content, condition).await?;
    written(receipt).await
}

/// Change a record by a JSON Merge Patch (RFC 7396); a missing record counts as empty.
#[utoipa::path(
    patch,
    path = "/v1/hr/{collection}/{id}",
    tag = "hr",
    operation_id = "patch_hr_record",
    params(
        ("collection" = String, Path, description = "the collection's name"),
        ("id" = String, Path, description = "the record's id: 1 to 128 of A-Z, a-z, 0-9, ., _, :, @ and -"),
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 where the record is at none of them"),
        ("If-None-Match" = Option<String>, Header, description = "* creates only; 412 where the record is stored"),
    ),
    request_body(
        content((Object = "application/merge-patch+json"), (Object = "application/json")),
        description = "one JSON object, without the keys `_id`, `created_at`, `updated_at` and `metadata`; null removes a key",
    ),
    responses(
        (status = 200, description = "changed; the whole record. `metadata.backup_status` is `completed`, or `pending` while the backup is away", body = Object, headers(("ETag" = String, description = "the quoted version"))),
        (status = 201, description = "the record is new; the same", body = Object, headers(("ETag" = String, description = "the quoted version"))),
        HrWriteRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn patch(
    State(state): State<HttpState>,
    hr: Hr,
    named: Named,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let patch = body::object(request, Kind::Patch, &state.limits, UserType::Internal).await?;
    content(&patch)?;
    let Named { collection, id } = &named;
    let condition = conditions::of_hr_write(&headers, &state.hr, collection, id).await?;
    hr.does(&state.audit, "patch", &named.text()).await?;
    let receipt = state.hr.patch(collection, id, &patch, condition).await?;
    written(receipt).await
}

/// Remove a record from `raseen_main_hr` and its backup.
#[utoipa::path(
    delete,
    path = "/v1/hr/{collection}/{id}",
    tag = "hr",
    operation_id = "remove_hr_record",
    params(
        ("collection" = String, Path, description = "the collection's name"),
        ("id" = String, Path, description = "the record's id: 1 to 128 of A-Z, a-z, 0-9, ., _, :, @ and -"),
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 where the record is at none of them"),
    ),
    responses(
        (status = 204, description = "removed; from the backup too, or as soon as that is back"),
        HrRemoveRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn delete(
    State(state): State<HttpState>,
    hr: Hr,
    named: Named,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Named { collection, id } = &named;
    let condition = conditions::of_hr_write(&headers, &state.hr, collection, id).await?;
    hr.does(&state.audit, "delete", &named.text()).await?;
    state.hr.remove(collection, id, condition).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

async fn written(receipt: HrReceipt) -> Result<Response, Problem> {
    let status = if receipt.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    shown(status, receipt.record).await
}
