//! Section content: JSON as it is sent, BSON as it is stored, JSON as it is shown. Bodies become raw BSON and raw BSON becomes
//! text without a tree of values between them (ADR 24).
//!
//! What is PUT is what is read back: integers stay integers, `1.0` stays a double, key order stays. A
//! value that is a valid MongoDB Extended JSON v2 wrapper becomes that BSON type and is shown as relaxed
//! Extended JSON (source: MongoDB Extended JSON specification, version 2).

mod elements;
mod encode;
mod fields;
mod inexact;
mod merge;
mod parse;
mod scalar;
mod show;
mod tree;
mod wrapper;
mod writer;

use std::ops::RangeInclusive;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime};
use serde_json::Value;

use self::elements::Elements;

pub use elements::Damaged;
pub use inexact::{Inexact, InexactValue, Reason};
pub use merge::merge;
pub(crate) use show::show_record;
pub use show::{Pieces, Shown, has_section, show_other, show_section, show_user};

/// The deepest nesting accepted; the body itself is the first level.
pub const MAX_DEPTH: usize = 100;

/// Why a body is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidBody {
    /// Not JSON at all.
    #[error("the body is not valid JSON: {0}")]
    Malformed(String),
    /// JSON that cannot be stored.
    #[error("{0}")]
    Content(String),
    /// JSON that no document has room for.
    #[error("the body would be stored as more than 16 MiB minus 4 KiB")]
    TooLarge,
}

/// Reads a section body, one JSON object, into the form in which it is stored.
///
/// # Errors
/// [`InvalidBody::Malformed`] for what is not JSON; [`InvalidBody::Content`] for what is no object, has
/// duplicate keys, integers outside int64, floats outside f64, keys that start with `$` outside Extended
/// JSON or contain NUL, or is nested deeper than [`MAX_DEPTH`]; [`InvalidBody::TooLarge`] for what would be stored as more
/// than [`MAX_DOCUMENT_BYTES`](crate::document::MAX_DOCUMENT_BYTES).
pub fn parse(body: &[u8]) -> Result<RawDocumentBuf, InvalidBody> {
    parse::object(body)
}

/// Any short BSON value as relaxed Extended JSON; what is not exact is not told.
pub fn show(value: Bson) -> Value {
    let whole = RawDocumentBuf::try_from(&bson::doc! { "": value }).unwrap_or_default();
    let shown = show_section(whole, "").ok().flatten();
    shown.map_or(Value::Null, Shown::into_value)
}

/// Whether every element, down to `levels` levels, can be parsed. Texts need not be UTF-8: other programs store
/// such, and they are kept.
pub fn is_bson(document: &RawDocument, levels: usize) -> bool {
    elements::are_sound(Elements::of(document), levels)
}

/// Whether RFC 3339 can say the date: the years 1 to 9999.
fn is_rfc3339(at: DateTime) -> bool {
    /// The first millisecond of the year 1, and the last of 9999.
    const YEARS: RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;
    YEARS.contains(&at.timestamp_millis())
}

/// A date as RFC 3339 with milliseconds, in UTC. One outside the years 1 to 9999, which that cannot say, as its number
/// of milliseconds since 1970.
pub fn rfc3339(at: DateTime) -> String {
    if !is_rfc3339(at) {
        return format!("{} ms since 1970", at.timestamp_millis());
    }
    match jiff::Timestamp::from_millisecond(at.timestamp_millis()) {
        Ok(at) => format!("{at:.3}"),
        // The last day of the year 9999 is beyond what a timestamp holds, though not beyond RFC 3339.
        Err(_) => at
            .try_to_rfc3339_string()
            .unwrap_or_else(|_| at.to_string()),
    }
}

#[cfg(test)]
mod tests;
