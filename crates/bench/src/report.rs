//! The pages that hold the results: each part's section is replaced by its last result, with
//! the machine and the date, and the other sections stay as they are.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, thread};

use anyhow::{Context, Result};
use tierkeep_core::clock::Clock as _;

use crate::place::MachineClock;

/// What one part measured.
#[derive(Clone, Debug)]
pub struct Section {
    /// The file that it belongs into.
    pub file: &'static str,
    /// Its place in that file, between `<!-- name -->` and `<!-- /name -->`.
    pub name: &'static str,
    /// Its text.
    pub text: String,
}

impl Section {
    /// Puts it into its place; at the end of a file that has none.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(self.file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        fs::write(&path, replaced(&text, self.name, &self.text))
            .with_context(|| path.display().to_string())
    }
}

fn replaced(text: &str, name: &str, section: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let section = format!("{begin}\n{}\n{end}", section.trim_end());
    let parts = text.split_once(&begin).and_then(|(before, rest)| {
        rest.split_once(&end)
            .map(|(_, after)| format!("{before}{section}{after}"))
    });
    parts.unwrap_or_else(|| format!("{}\n\n{section}\n", text.trim_end()))
}

/// On which machine, and when.
pub fn taken() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let date = MachineClock
        .now()
        .try_to_rfc3339_string()
        .unwrap_or_default();
    let day = date.split('T').next().unwrap_or_default();
    format!("{cores} cores, {model}, {day}")
}

/// A bar for each of these parts of one.
pub fn bars(parts: &[(&str, f64)]) -> String {
    let height = 24 + parts.len() * 28;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n"
    );
    for (line, (name, part)) in parts.iter().enumerate() {
        let y = 16 + line * 28;
        let _ = writeln!(
            text,
            "<text x=\"0\" y=\"{}\">{name}</text><rect x=\"290\" y=\"{y}\" width=\"{:.0}\" height=\"18\" \
             fill=\"#4472a8\"/><text x=\"{:.0}\" y=\"{}\">{part:.2}</text>",
            y + 14,
            part * 360.0,
            296.0 + part * 360.0,
            y + 14,
        );
    }
    text.push_str("</svg>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_itself_and_nothing_else() {
        let text = "# T\n\n<!-- a -->\nold\n<!-- /a -->\n\n<!-- b -->\nkept\n<!-- /b -->\n";
        let new = "# T\n\n<!-- a -->\nnew\n<!-- /a -->\n\n<!-- b -->\nkept\n<!-- /b -->\n";
        assert_eq!(replaced(text, "a", "new\n"), new);
        assert_eq!(replaced(new, "a", "new"), new);
    }

    #[test]
    fn a_section_without_a_place_comes_last() {
        let text = replaced("# T\n", "a", "new");
        assert_eq!(text, "# T\n\n<!-- a -->\nnew\n<!-- /a -->\n");
    }
}
