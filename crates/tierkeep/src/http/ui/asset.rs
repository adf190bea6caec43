//! What pages load besides themselves: owns the style sheet, the script and the icon, which are in the binary.

use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::response::Response;

use crate::http::response::answer;

const STYLE: &[u8] = include_bytes!("../../../assets/dashboard.css");
const SCRIPT: &[u8] = include_bytes!("../../../assets/dashboard.js");
const ICON: &[u8] = include_bytes!("../../../assets/icon.svg");
pub(super) const ICON_PATH: &str = "/ui/icon.svg";

static STYLE_PATH: LazyLock<String> = LazyLock::new(|| address("/ui/style.css", STYLE));
static SCRIPT_PATH: LazyLock<String> = LazyLock::new(|| address("/ui/live.js", SCRIPT));

/// With a hash of its content: another content is another address.
fn address(path: &str, content: &[u8]) -> String {
    format!("{path}?v={:.16}", blake3::hash(content).to_hex())
}

pub(super) fn style_path() -> &'static str {
    STYLE_PATH.as_str()
}

pub(super) fn script_path() -> &'static str {
    SCRIPT_PATH.as_str()
}

pub(super) async fn script() -> Response {
    kept("text/javascript; charset=utf-8", SCRIPT)
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
