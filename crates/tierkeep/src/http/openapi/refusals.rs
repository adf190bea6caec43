//! Refusals in the document: owns the responses that the codes of an error are described by.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::ToSchema;
use utoipa::openapi::{ContentBuilder, Header, Ref, RefOr, Response, ResponseBuilder};

use crate::http::response::problem::{Code, ProblemDetails};

/// A response for each status that these codes have.
pub(in crate::http) fn by_status<'a>(
    codes: impl IntoIterator<Item = &'a Code>,
) -> BTreeMap<String, RefOr<Response>> {
    let mut grouped: BTreeMap<String, BTreeSet<Code>> = BTreeMap::new();
    for code in codes {
        let status = code.status().as_str().to_owned();
        grouped.entry(status).or_default().insert(*code);
    }
    grouped
        .into_iter()
        .map(|(status, codes)| (status, RefOr::T(refusal(&codes))))
        .collect()
}

fn refusal(codes: &BTreeSet<Code>) -> Response {
    let described: Vec<String> = codes
        .iter()
        .map(|code| format!("`{}`: {}", code.as_str(), code.title()))
        .collect();
    let schema = RefOr::Ref(Ref::from_schema_name(ProblemDetails::name()));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let mut response = ResponseBuilder::new()
        .description(described.join("; "))
        .content("application/problem+json", content);
    let any = |holds: fn(&Code) -> bool| codes.iter().any(holds);
    if any(|code| code.retry_after_seconds().is_some() || *code == Code::RateLimited) {
        response = response.header("Retry-After", header("seconds"));
    }
    if any(|code| *code == Code::CredentialsRequired) {
        response = response.header("WWW-Authenticate", header("Bearer"));
    }
    if any(|code| *code == Code::VersionMismatch) {
        let about = "the quoted current version, if known";
        response = response.header("ETag", header(about));
    }
    response.build()
}

/// A header of a response.
pub(super) fn header(about: &str) -> Header {
    let mut header = Header::default();
    header.description = Some(about.to_owned());
    header
}
