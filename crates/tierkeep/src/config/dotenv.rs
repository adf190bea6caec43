//! The file of `--env-file`. Owns its notation: `NAME=VALUE` lines, `export` before them, `#` comments,
//! single quotes as they are, double quotes with `\n`, `\"`, `\\` and `\$`. Nothing is ever substituted.

use std::path::Path;

use super::problem::Problem;
use super::small_file;
use super::source::{Given, Raw, Source};

/// Reads the lines of `text`, which came from `file`. A line that is none is a problem, never quoted.
pub(super) fn read(file: &Path, text: &str, problems: &mut Vec<Problem>) -> Vec<Given> {
    let mut all = Vec::new();
    for (number, line) in small_file::lines(text) {
        if let Some((name, value)) = pair(line) {
            let source = Source::EnvFile {
                file: file.to_owned(),
                line: number,
            };
            all.push(Given {
                name: name.to_owned(),
                value: Raw::Text(value),
                source,
            });
        } else {
            let message = format!("{} line {number} is not NAME=VALUE", file.display());
            problems.push(Problem::new(file.display().to_string(), message).remedy(
                "a quoted value must end with its quote on the same line; a comment starts with #",
            ));
        }
    }
    all
}

fn pair(line: &str) -> Option<(&str, String)> {
    let line = line
        .strip_prefix("export")
        .filter(|rest| rest.starts_with(char::is_whitespace))
        .unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    named.then_some(())?;
    Some((name, unquoted(value.trim())?))
}

fn unquoted(value: &str) -> Option<String> {
    if let Some(rest) = value.strip_prefix('\'') {
        let (inner, after) = rest.split_once('\'')?;
        return nothing_but_a_comment(after).then(|| inner.to_owned());
    }
    if let Some(rest) = value.strip_prefix('"') {
        return double_quoted(rest);
    }
    Some(without_comment(value).trim_end().to_owned())
}

/// A comment begins with `#` at the start of a value or behind a blank; within a word `#` is part of it.
fn without_comment(value: &str) -> &str {
    let mut before = ' ';
    for (at, character) in value.char_indices() {
        if character == '#' && before.is_whitespace() {
            return &value[..at];
        }
        before = character;
    }
    value
}

fn double_quoted(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return nothing_but_a_comment(chars.as_str()).then_some(value),
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                escaped @ ('"' | '\\' | '$') => value.push(escaped),
                _ => return None,
            },
            other => value.push(other),
        }
    }
}

fn nothing_but_a_comment(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with('#')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("A=b", Some("b"))]
    #[case("export A=b", Some("b"))]
    #[case("A = b # said", Some("b"))]
    #[case("A=b#c", Some("b#c"))]
    #[case("A=", Some(""))]
    #[case("export\tA=b", Some("b"))]
    #[case("export  A=b", Some("b"))]
    #[case("exported=b", Some("b"))]
    #[case("A=b\t# said", Some("b"))]
    #[case("A= # said", Some(""))]
    #[case("A=# said", Some(""))]
    #[case("A=\t#said", Some(""))]
    #[case("A=''\t# said", Some(""))]
    #[case("A=b# c", Some("b# c"))]
    #[case("A='b # $c' # said", Some("b # $c"))]
    #[case(r#"A="b \"c\" \\ \$d""#, Some(r#"b "c" \ $d"#))]
    #[case("A=$HOME", Some("$HOME"))]
    #[case("A", None)]
    #[case("A='b", None)]
    #[case("A='b' c", None)]
    #[case("a b=c", None)]
    fn lines_are_names_and_values(#[case] line: &str, #[case] value: Option<&str>) {
        assert_eq!(pair(line).map(|(_, value)| value).as_deref(), value);
    }

    #[test]
    fn a_bad_line_is_named_and_not_quoted() {
        let mut problems = Vec::new();
        let given = read(Path::new("x.env"), "# ok\nA=1\n\nhunter2\n", &mut problems);
        assert_eq!(given.len(), 1);
        assert_eq!(problems[0].message, "x.env line 4 is not NAME=VALUE");
    }
}
