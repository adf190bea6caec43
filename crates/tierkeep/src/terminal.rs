//! What may reach a terminal: owns which characters steer one, and how they are written instead.
//!
//! Stored texts are written by callers, other programs and servers; whatever they hold, it is shown and not obeyed.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Control characters, line and paragraph separators, and what changes the direction of writing.
pub(crate) fn disturbs(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text as lines that steer no terminal: all but line ends and tabs is escaped as JSON escapes it (RFC 8259, section 7), so
/// that JSON stays the same JSON.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let steers = |c: char| disturbs(c) && c != '\n' && c != '\t';
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut harmless = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            // All of them have four digits.
            let _ = write!(harmless, "\\u{:04x}", u32::from(c));
        } else {
            harmless.push(c);
        }
    }
    Cow::Owned(harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str =
        "a\u{1b}]0;title\u{7}b\u{9b}2Jc\rd\u{202e}e\u{2028}f\u{7f}g\u{0}h\u{feff}";

    #[test]
    fn what_steers_a_terminal_is_shown() {
        let shown = harmless(HOSTILE);
        assert!(!shown.chars().any(disturbs), "{shown:?}");
        assert!(shown.starts_with("a\\u001b]0;title\\u0007b\\u009b2Jc\\u000dd"));
        assert_eq!(harmless("a\tb\nc ü 🔐\n"), "a\tb\nc ü 🔐\n");
    }

    #[test]
    fn json_says_the_same() {
        let json = serde_json::to_string(HOSTILE).unwrap();
        assert!(json.contains('\u{9b}'));
        let shown = harmless(&json);
        assert!(!shown.chars().any(disturbs), "{shown:?}");
        let read: String = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, HOSTILE);
    }
}
