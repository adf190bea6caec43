//! `/docs`: the OpenAPI document for people. Owns the page, which comes from the binary as a whole.
//!
//! Must never let the page load anything from elsewhere, or run a script that did not come from here.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_swagger_ui::Config;

use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

const PAGE: &str = "index.html";
/// The files of the page; the bundles of other ways to build it are not served.
const FILES: [&str; 7] = [
    "swagger-ui.css",
    "index.css",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-initializer.js",
    "favicon-16x16.png",
    "favicon-32x32.png",
];
/// The page draws some of its own styles and its icons from within; scripts come from files here alone.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The routes of the page.
pub(in crate::http) fn router() -> Router<HttpState> {
    Router::new()
        .route("/docs", get(page))
        .route("/docs/", get(page))
        .route("/docs/{file}", get(file))
}

async fn page() -> Response {
    serve(PAGE)
}

async fn file(Path(name): Path<String>) -> Response {
    if FILES.contains(&name.as_str()) {
        serve(&name)
    } else {
        Problem::UnknownPath.into_response()
    }
}

fn serve(name: &str) -> Response {
    let config = Config::from("/openapi.json").validator_url("none");
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, Arc::new(config)) else {
        return Problem::Internal.into_response();
    };
    let Ok(media_type) = HeaderValue::try_from(file.content_type) else {
        return Problem::Internal.into_response();
    };
    // Borrowed from the binary: an answer that waits to be read holds no copy.
    let mut bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    if name == PAGE {
        // The page is at /docs too, where what it names relative to itself would be elsewhere.
        bytes = String::from_utf8_lossy(&bytes)
            .replace("\"./", "\"/docs/")
            .replace("href=\"index.css\"", "href=\"/docs/index.css\"")
            .into_bytes()
            .into();
    }
    let mut answer = answer::bytes(StatusCode::OK, media_type, bytes);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    answer
}
