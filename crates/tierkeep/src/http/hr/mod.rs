//! `/v1/hr`: HR records. One file for a collection, one for a record.
//!
//! Every route takes a JWT with the role hr, and looks at nothing else to know who is asking; the role admin does
//! not imply it.

pub(super) mod list;
pub(super) mod record;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::Deserialize;
use tierkeep_core::bson::Document;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::content::{self, InvalidBody};
use tierkeep_core::document;
use tierkeep_core::hr::{self, Content, HrCollection, HrId};
use tierkeep_engine::HrRecords;

use super::problem::Problem;
use super::{HttpState, answer, weight};

/// The collection that the path names. As an extractor it refuses names that are no collection's.
#[derive(Debug)]
pub(in crate::http) struct Collection(HrCollection);

/// The record that the path names. As an extractor it refuses names of no collection, then ids that no record can
/// have.
#[derive(Debug)]
pub(in crate::http) struct Named {
    collection: HrCollection,
    id: HrId,
}

#[derive(Deserialize)]
struct Segments {
    collection: String,
    id: Option<String>,
}

fn known(records: &HrRecords, name: Option<&str>) -> Result<HrCollection, Problem> {
    let collections = records.collections();
    let known = name.and_then(|name| collections.iter().find(|one| one.as_str() == name));
    known.cloned().ok_or_else(|| {
        let names: Vec<&str> = collections.iter().map(HrCollection::as_str).collect();
        Problem::UnknownCollection(names.join(", "))
    })
}

async fn segments(parts: &mut Parts, state: &HttpState) -> Option<Segments> {
    // A name that cannot be decoded is no collection's either.
    let segments: Result<Path<Segments>, PathRejection> =
        Path::from_request_parts(parts, state).await;
    segments.ok().map(|Path(segments)| segments)
}

impl FromRequestParts<HttpState> for Collection {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Problem> {
        let segments = segments(parts, state).await;
        let name = segments
            .as_ref()
            .map(|segments| segments.collection.as_str());
        known(&state.hr, name).map(Self)
    }
}

impl FromRequestParts<HttpState> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Problem> {
        let segments = segments(parts, state).await;
        let name = segments
            .as_ref()
            .map(|segments| segments.collection.as_str());
        let collection = known(&state.hr, name)?;
        let id = segments
            .and_then(|segments| segments.id)
            .unwrap_or_default();
        let id = HrId::parse(&id).map_err(unfit)?;
        Ok(Self { collection, id })
    }
}

impl Named {
    /// What the audit trail calls the record.
    fn text(&self) -> String {
        format!("{}/{}", self.collection, self.id)
    }
}

/// The request says something that cannot be stored.
fn unfit(why: impl std::fmt::Display) -> Problem {
    Problem::Body(InvalidBody::Content(why.to_string()))
}

/// The body as the content of a record.
fn content(body: &Document) -> Result<Content, Problem> {
    Content::new(content::to_raw(body)?).map_err(unfit)
}

/// The whole record, with its version as ETag.
async fn shown(status: StatusCode, record: RawDocumentBuf) -> Result<Response, Problem> {
    let version = document::version(&record);
    let shown = weight::work(record.as_bytes().len(), move || {
        answer::shown(status, &hr::shown(&record)?)
    });
    Ok(answer::tagged(shown.await??, version))
}
