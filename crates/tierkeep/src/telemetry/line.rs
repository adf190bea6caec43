//! The two forms of a log line. Owns escaping: whatever a value holds, it neither ends the line, nor looks
//! like another field, nor steers a terminal.

use std::fmt::Write as _;

use jiff::Timestamp;
use tierkeep_core::bson::DateTime;
use tracing::{Level, Metadata};

use super::Style;
use super::fields::{FieldValue, Fields};
use crate::config::LogFormat;
use crate::terminal::disturbs;

/// The keys of a JSON line that are not fields of the event.
const OWN_KEYS: [&str; 4] = ["timestamp", "level", "message", "target"];

/// The line, its end included.
pub(super) fn line(
    style: Style,
    at: DateTime,
    metadata: &Metadata<'_>,
    mut fields: Fields,
) -> String {
    let message = fields.take_message();
    let mut line = String::with_capacity(256);
    match style.format {
        LogFormat::Json => json(&mut line, at, metadata, &message, &fields),
        LogFormat::Text => text(&mut line, style.colour, at, metadata, &message, &fields),
    }
    line.push('\n');
    line
}

fn json(line: &mut String, at: DateTime, metadata: &Metadata<'_>, message: &str, fields: &Fields) {
    let _ = write!(
        line,
        "{{\"timestamp\":\"{}\",\"level\":\"{}\",\"message\":",
        rfc3339(at),
        metadata.level()
    );
    push_quoted(line, message);
    for (name, value) in fields.ordered() {
        let prefix = if OWN_KEYS.contains(&name) {
            "field_"
        } else {
            ""
        };
        let _ = write!(line, ",\"{prefix}");
        push_escaped(line, name);
        line.push_str("\":");
        match value {
            FieldValue::Text(text) => push_quoted(line, text),
            FieldValue::Plain(plain) => line.push_str(plain),
        }
    }
    line.push_str(",\"target\":");
    push_quoted(line, metadata.target());
    line.push('}');
}

fn text(
    line: &mut String,
    colour: bool,
    at: DateTime,
    metadata: &Metadata<'_>,
    message: &str,
    fields: &Fields,
) {
    let level = *metadata.level();
    let (start, end) = if colour {
        (colour_of(level), "\u{1b}[0m")
    } else {
        ("", "")
    };
    let _ = write!(line, "{} {start}{level:>5}{end} ", rfc3339(at));
    push_escaped_control(line, message);
    for (name, value) in fields.ordered() {
        line.push(' ');
        push_escaped(line, name);
        line.push('=');
        match value {
            FieldValue::Text(text) if is_bare(text) => line.push_str(text),
            FieldValue::Text(text) => push_quoted(line, text),
            FieldValue::Plain(plain) => line.push_str(plain),
        }
    }
}

fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG | Level::TRACE => "\u{1b}[2m",
    }
}

/// RFC 3339 in UTC with milliseconds.
fn rfc3339(at: DateTime) -> String {
    Timestamp::from_millisecond(at.timestamp_millis())
        .map_or_else(|_| "unknown".to_owned(), |at| format!("{at:.3}"))
}

/// Whether a text needs no quotes to be told from what follows.
fn is_bare(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.:/@+".contains(c))
}

fn push_quoted(line: &mut String, text: &str) {
    line.push('"');
    push_escaped(line, text);
    line.push('"');
}

/// Escapes as a JSON string does (RFC 8259, section 7), and all that could disturb a terminal.
fn push_escaped(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            _ => push_char(line, c),
        }
    }
}

/// `text` with escapes in place of what could end the line or disturb a terminal.
pub(crate) fn harmless(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    push_escaped_control(&mut line, text);
    line
}

/// Escapes what could end the line or disturb a terminal, and leaves quotes alone.
fn push_escaped_control(line: &mut String, text: &str) {
    for c in text.chars() {
        push_char(line, c);
    }
}

fn push_char(line: &mut String, c: char) {
    match c {
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\t' => line.push_str("\\t"),
        c if disturbs(c) => {
            let _ = write!(line, "\\u{:04x}", u32::from(c));
        }
        c => line.push(c),
    }
}
