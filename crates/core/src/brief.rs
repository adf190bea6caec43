//! Texts that are shown or kept: owns how long they may be.

/// The most characters of a text; what is longer is cut.
const MOST_CHARS: usize = 500;

/// The text, cut after 500 characters, so that a stored text of any length fits on a page and in a line.
pub fn brief(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(brief("short"), "short");
        let whole = "ü".repeat(MOST_CHARS);
        assert_eq!(brief(&whole), whole);
        let long = "ü".repeat(1 << 20);
        assert_eq!(brief(&long), format!("{whole}…"));
    }
}
