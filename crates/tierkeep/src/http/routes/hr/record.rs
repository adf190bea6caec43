//! `/v1/hr/{collection}/{id}`: one record.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tierkeep_core::store::StoreError;

use super::super::error::route_error;
use super::{HrHolder, Named, content, shown};
use crate::http::request::body::{self, BodyFormat, ParsedBody};
use crate::http::request::caller::Hr;
use crate::http::request::conditions::{self, ConditionalRead};
use crate::http::response::answer;
use crate::http::response::problem::causes::{
    BodyError, InvalidRecord, RecordConditionError, RecordNotFound, RecordReadError,
    RecordRemoveError, RecordWriteError, RoleError, ShowError, UnknownCollection,
};
use crate::http::state::HttpState;

route_error! {
    /// Why a record is not answered.
    ReadRecordError after [RoleError, ShowError, UnknownCollection, InvalidRecord] also [] {
        /// The record cannot be read.
        Read(RecordReadError),
        /// The record does not exist.
        NotFound(RecordNotFound),
        /// A condition does not hold.
        Condition(RecordConditionError),
        /// The record cannot be shown.
        Show(ShowError),
    }
}

route_error! {
    /// Why a record is neither replaced nor patched.
    WriteRecordError after [RoleError, UnknownCollection] also [] {
        /// The body cannot be read.
        Body(BodyError),
        /// The body cannot be the content of a record, or the id cannot be one.
        Content(InvalidRecord),
        /// A condition does not hold.
        Condition(RecordConditionError),
        /// The audit trail did not answer.
        Database(StoreError),
        /// The engine did not write the record.
        Write(RecordWriteError),
        /// The record cannot be shown.
        Show(ShowError),
    }
}

route_error! {
    /// Why a record is not removed.
    RemoveRecordError after [RoleError, ShowError, UnknownCollection, InvalidRecord] also [Internal] {
        /// A condition does not hold.
        Condition(RecordConditionError),
        /// The audit trail did not answer.
        Database(StoreError),
        /// The engine did not remove the record.
        Remove(RecordRemoveError),
    }
}

/// Read a record.
#[utoipa::path(
    get,
    path = "/v1/hr/{collection}/{id}",
    tag = "hr",
    operation_id = "read_hr_record",
    params(
        ("collection" = String, Path, description = "the collection's name"),
        ("id" = String, Path, description = "the record's id: 1 to 128 of A-Z, a-z, 0-9, ., _, :, @ and -"),
        ("If-Match" = Option<String>, Header, description = "quoted versions; 412 if the record has none of them"),
        ("If-None-Match" = Option<String>, Header, description = "quoted versions; 304 if the record has one of them"),
    ),
    responses(
        (status = 200, description = "the complete record: as it was stored, with `_id`, `created_at`, `updated_at` and `metadata`", body = Object,
            headers(
                ("ETag" = String, description = "the quoted version of the record"),
                ("Tierkeep-Source" = String, description = "srie_main_hr if the answer comes from the backup"),
                ("Tierkeep-Inexact" = String, description = "lists the values in the answer that JSON cannot represent exactly"),
            )),
        (status = 304, description = "the caller's copy is current"),
        ReadRecordError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _hr: Hr,
    named: Named,
    HrHolder(holder): HrHolder,
    headers: HeaderMap,
) -> Result<Response, ReadRecordError> {
    let held = state.memory.read(holder, None).await;
    let mut held = held.map_err(ShowError::from)?;
    let found = state.hr.read(&named.collection, &named.id).await;
    let found = found.map_err(RecordReadError::from)?;
    let found = found.ok_or(RecordNotFound)?;
    let (version, source) = (found.version(), found.source);
    let bytes = found.record.as_bytes().len();
    state.memory.found(&mut held, None, bytes);
    let answer = match conditions::of_hr_read(&headers, version)? {
        ConditionalRead::NotModified => answer::tagged(answer::not_modified(), version),
        ConditionalRead::Send => {
            let record = (StatusCode::OK, found.record);
            shown(&state, (holder, held), record).await?
        }
    };
    Ok(answer::from_source(answer, source))
}

/// Create or replace a record in `raseen_main_hr` and its backup.
#[utoipa::path(
    put,
    path = "/v1/hr/{collection}/{id}",
    tag = "hr",
    operation_id = "replace_hr_record",
    params(
        ("collection" = String, Path, description = "the collection's name"),
        ("id" = String, Path, description = "the record's id: 1 to 128 of A-Z, a-z, 0-9, ., _, :, @ and -"),
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 if the record has none of them"),
        ("If-None-Match" = Option<String>, Header, description = "*: only create; 412 if the record exists"),
    ),
    request_body(content = Object, content_type = "application/json", description = "one JSON object, without the keys `_id`, `created_at`, `updated_at` and `metadata`"),
    responses(
        (status = 200, description = "replaced; the complete record. `metadata.backup_status` is `completed`, or `pending` while the backup is unavailable", body = Object, headers(("ETag" = String, description = "the quoted version"))),
        (status = 201, description = "created; the complete record", body = Object, headers(("ETag" = String, description = "the quoted version"))),
        WriteRecordError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn put(
    State(state): State<HttpState>,
    hr: Hr,
    named: Named,
    holder: HrHolder,
    request: Request,
) -> Result<Response, WriteRecordError> {
    write(&state, (&hr, holder), &named, (request, BodyFormat::Json)).await
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
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 if the record has none of them"),
        ("If-None-Match" = Option<String>, Header, description = "*: only create; 412 if the record exists"),
    ),
    request_body(
        content((Object = "application/merge-patch+json"), (Object = "application/json")),
        description = "one JSON object, without the keys `_id`, `created_at`, `updated_at` and `metadata`; null removes a key",
    ),
    responses(
        (status = 200, description = "changed; the complete record. `metadata.backup_status` is `completed`, or `pending` while the backup is unavailable", body = Object, headers(("ETag" = String, description = "the quoted version"))),
        (status = 201, description = "created; the complete record", body = Object, headers(("ETag" = String, description = "the quoted version"))),
        WriteRecordError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn patch(
    State(state): State<HttpState>,
    hr: Hr,
    named: Named,
    holder: HrHolder,
    request: Request,
) -> Result<Response, WriteRecordError> {
    write(
        &state,
        (&hr, holder),
        &named,
        (request, BodyFormat::MergePatch),
    )
    .await
}

/// Replaces or patches a record, as the format of the body says.
async fn write(
    state: &HttpState,
    (hr, HrHolder(holder)): (&Hr, HrHolder),
    named: &Named,
    (request, format): (Request, BodyFormat),
) -> Result<Response, WriteRecordError> {
    let headers = request.headers().clone();
    let body = body::receive(request, format, state, holder).await?;
    let ParsedBody { document, held } = body.parse(&state.memory, None).await?;
    let content = content(document)?;
    let Named { collection, id } = named;
    let condition = conditions::of_hr_write(&headers, &state.hr, collection, id).await?;
    let (records, name) = (&state.hr, named.text());
    let written = match format {
        BodyFormat::Json => {
            hr.does(&state.audit, "put", &name).await?;
            records.put(collection, id, content, condition).await
        }
        BodyFormat::MergePatch => {
            hr.does(&state.audit, "patch", &name).await?;
            let patch = content.as_raw();
            records.patch(collection, id, patch, condition).await
        }
    };
    let receipt = written.map_err(RecordWriteError)?;
    let status = answer::created_or_ok(receipt.created);
    let record = (status, receipt.record);
    Ok(shown(state, (holder, held), record).await?)
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
        ("If-Match" = Option<String>, Header, description = "quoted versions, or * for any; 412 if the record has none of them"),
    ),
    responses(
        (status = 204, description = "removed from main, and from the backup as soon as that is available"),
        RemoveRecordError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn delete(
    State(state): State<HttpState>,
    hr: Hr,
    named: Named,
    headers: HeaderMap,
) -> Result<Response, RemoveRecordError> {
    let Named { collection, id } = &named;
    let condition = conditions::of_hr_write(&headers, &state.hr, collection, id).await?;
    hr.does(&state.audit, "delete", &named.text()).await?;
    let removed = state.hr.remove(collection, id, condition).await;
    removed.map_err(RecordRemoveError)?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
