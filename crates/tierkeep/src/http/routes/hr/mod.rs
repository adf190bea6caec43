//! `/v1/hr`: HR records. One file for a collection, one for a record.
//!
//! Every route takes a JWT with the role hr, and no other credential counts; the role admin does not imply it.

pub(in crate::http) mod list;
pub(in crate::http) mod record;

use std::convert::Infallible;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::Deserialize;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::document;
use tierkeep_core::hr::{self, Content, HrCollection, HrId};
use tierkeep_core::user::UserType;
use tierkeep_engine::HrRecords;

use super::error::route_error;
use super::sending::{self, Working};
use crate::http::limits::budget::{Holder, Reservation};
use crate::http::response::answer;
use crate::http::response::problem::causes::{InvalidRecord, ShowError, UnknownCollection};
use crate::http::state::HttpState;

/// The collection that the path names. As an extractor it refuses names of no collection.
#[derive(Debug)]
pub(in crate::http) struct Collection(HrCollection);

/// The record that the path names. As an extractor it refuses names of no collection, then ids that no record can
/// have.
#[derive(Debug)]
pub(in crate::http) struct Named {
    collection: HrCollection,
    id: HrId,
}

route_error! {
    /// Why the path names no record.
    RecordNameError after [] also [] {
        /// The path names no collection.
        Collection(UnknownCollection),
        /// The id cannot be that of a record.
        Id(InvalidRecord),
    }
}

#[derive(Deserialize)]
struct Segments {
    collection: String,
    id: Option<String>,
}

fn known(records: &HrRecords, name: Option<&str>) -> Result<HrCollection, UnknownCollection> {
    let collections = records.collections();
    let known = name.and_then(|name| collections.iter().find(|one| one.as_str() == name));
    known.cloned().ok_or_else(|| {
        let names: Vec<&str> = collections.iter().map(HrCollection::as_str).collect();
        UnknownCollection(names.join(", "))
    })
}

async fn segments(parts: &mut Parts, state: &HttpState) -> Option<Segments> {
    // A name that cannot be decoded names no collection either.
    let segments: Result<Path<Segments>, PathRejection> =
        Path::from_request_parts(parts, state).await;
    segments.ok().map(|Path(segments)| segments)
}

impl FromRequestParts<HttpState> for Collection {
    type Rejection = UnknownCollection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &HttpState,
    ) -> Result<Self, UnknownCollection> {
        let segments = segments(parts, state).await;
        let name = segments
            .as_ref()
            .map(|segments| segments.collection.as_str());
        known(&state.hr, name).map(Self)
    }
}

impl FromRequestParts<HttpState> for Named {
    type Rejection = RecordNameError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &HttpState,
    ) -> Result<Self, RecordNameError> {
        let segments = segments(parts, state).await;
        let name = segments
            .as_ref()
            .map(|segments| segments.collection.as_str());
        let collection = known(&state.hr, name)?;
        let id = segments
            .and_then(|segments| segments.id)
            .unwrap_or_default();
        let id = HrId::parse(&id).map_err(|why| InvalidRecord(why.to_string()))?;
        Ok(Self { collection, id })
    }
}

impl Named {
    /// The name of the record in the audit trail.
    fn text(&self) -> String {
        format!("{}/{}", self.collection, self.id)
    }
}

/// The body as the content of a record.
fn content(body: RawDocumentBuf) -> Result<Content, InvalidRecord> {
    Content::new(body).map_err(|why| InvalidRecord(why.to_string()))
}

/// The whole record, with its version as ETag.
async fn shown(
    state: &HttpState,
    (holder, held): (Holder, Reservation),
    (status, record): (StatusCode, RawDocumentBuf),
) -> Result<Response, ShowError> {
    let version = document::version(&record);
    let working = Working {
        holder,
        held,
        permit: None,
    };
    let shown = sending::document(state, working, (status, record), hr::shown);
    Ok(answer::tagged(shown.await?, version))
}

/// On whose behalf a request of HR holds memory. As an extractor it refuses none.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct HrHolder(Holder);

impl FromRequestParts<HttpState> for HrHolder {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Infallible> {
        let address = state.traffic.address(&parts.extensions, &parts.headers);
        Ok(Self(state.traffic.holder(UserType::Internal, address)))
    }
}
