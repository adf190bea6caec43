//! What pages load besides themselves: owns the style sheet and the icon, which are in the binary.

use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::response::Response;

use crate::http::response::answer;

const STYLE: &[u8] = include_bytes!("../../../assets/dashboard.css");
const ICON: &[u8] = include_bytes!("../../../assets/icon.svg");
pub(super) const ICON_PATH: &str = "/ui/icon.svg";

/// With a hash of its content: another content is another address.
static STYLE_PATH: LazyLock<String> =
    LazyLock::new(|| format!("/ui/style.css?v={:.16}", blake3::hash(STYLE).to_hex()));

pub(super) fn style_path() -> &'static str {
    STYLE_PATH.as_str()
}

pub(super) async fn style() -> Response {
    kept("text/css; charset=utf-8", STYLE)
}

pub(super) async fn icon() -> Response {
    kept("image/svg+xml", ICON)
}

fn kept(media_type: &'static str, content: &'static [u8]) -> Response {
    let media_type = HeaderValue::from_static(media_type);
    let mut answer = answer::bytes(StatusCode::OK, media_type, content);
    let lasts = HeaderValue::from_static("public, max-age=86400");
    answer.headers_mut().insert(CACHE_CONTROL, lasts);
    answer
}
