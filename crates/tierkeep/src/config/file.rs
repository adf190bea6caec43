//! The settings file. Owns the way from TOML to names and raw values: keys are the variables' names in
//! any letter case, with or without `tierkeep_`. Must never quote the file in an error, for it holds
//! secrets.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use super::source::{Given, Raw, Source};
use super::suggest;
use super::table::{FILE_SUFFIX, PREFIX, setting};

/// Reads `text`, which came from `file`. `None` where it is no TOML, after one problem.
pub(super) fn read(file: &Path, text: &str, problems: &mut Vec<Problem>) -> Option<Vec<Given>> {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let message = format!(
                "{} line {line} cannot be read: {}",
                file.display(),
                error.message()
            );
            problems.push(Problem::new(file.display().to_string(), message));
            return None;
        }
    };
    let mut all: Vec<Given> = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_of(text, key.span().start);
        let key: &str = key.get_ref();
        let Some(name) = variable(key) else {
            let message = format!(
                "unknown key {key:?} in {} line {line}{}",
                file.display(),
                suggest::among(key, suggest::keys())
            );
            problems.push(Problem::new(key, message));
            continue;
        };
        if let Some(twice) = all.iter().find(|given| given.name == name) {
            let message = format!(
                "{name} is set twice: {} and line {line}, key {key}",
                twice.source
            );
            problems.push(Problem::new(name, message));
            continue;
        }
        let source = Source::SettingsFile {
            file: file.to_owned(),
            key: key.to_owned(),
            line,
        };
        all.push(Given {
            name,
            value: raw(value.get_ref()),
            source,
        });
    }
    Some(all)
}

/// The variable that a key denotes, or that variable with `_FILE`.
fn variable(key: &str) -> Option<String> {
    let name = key.to_ascii_uppercase();
    [name.clone(), format!("{PREFIX}{name}")]
        .into_iter()
        .find(|name| {
            setting(name).is_some()
                || name
                    .strip_suffix(FILE_SUFFIX)
                    .and_then(setting)
                    .is_some_and(|setting| setting.kind.has_file_variant())
        })
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Raw::Number(number.as_str().to_owned()),
        DeValue::Boolean(on) => Raw::Switch(*on),
        DeValue::Array(items) => words(items),
        DeValue::Integer(_) => Raw::Unfit("a number that is not decimal"),
        DeValue::Float(_) => Raw::Unfit("a fraction"),
        DeValue::Datetime(_) => Raw::Unfit("a date"),
        DeValue::Table(_) => Raw::Unfit("a table"),
    }
}

fn words(items: &[Spanned<DeValue<'_>>]) -> Raw {
    let words: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
    words
        .filter(|words| words.iter().all(|word| !word.contains(',')))
        .map_or(
            Raw::Unfit("an array with elements other than strings"),
            |words| Raw::Text(words.join(",")),
        )
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn names(text: &str) -> (Vec<String>, Vec<String>) {
        let mut problems = Vec::new();
        let given = read(Path::new("t.toml"), text, &mut problems).unwrap_or_default();
        (
            given.into_iter().map(|given| given.name).collect(),
            problems
                .into_iter()
                .map(|problem| problem.message)
                .collect(),
        )
    }

    #[rstest]
    #[case("retention = '1h'", "TIERKEEP_RETENTION")]
    #[case("tierkeep_retention = '1h'", "TIERKEEP_RETENTION")]
    #[case("TIERKEEP_RETENTION = '1h'", "TIERKEEP_RETENTION")]
    #[case("secret_key_file = 'x'", "SECRET_KEY_FILE")]
    #[case("jwks_file = 'x'", "TIERKEEP_JWKS_FILE")]
    #[case("Raseen_Main_User_DB_URL = 'x'", "RASEEN_MAIN_USER_DB_URL")]
    #[case("cluster_url_file = 'x'", "TIERKEEP_CLUSTER_URL_FILE")]
    fn keys_are_variables_in_any_case(#[case] text: &str, #[case] name: &str) {
        assert_eq!(names(text), (vec![name.to_owned()], vec![]));
    }

    #[test]
    fn an_unknown_key_names_the_file_and_the_closest_key() {
        let (_, problems) = names("\nretension = '1h'");
        assert_eq!(
            problems,
            ["unknown key \"retension\" in t.toml line 2; did you mean \"retention\"?"]
        );
    }

    #[test]
    fn a_key_in_two_spellings_is_set_twice() {
        let (_, problems) = names("retention = '1h'\ntierkeep_retention = '2h'");
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].starts_with("TIERKEEP_RETENTION is set twice"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_broken_file_is_not_quoted() {
        let (_, problems) = names("secret_key = \"hunter2");
        assert_eq!(problems.len(), 1);
        assert!(!problems[0].contains("hunter2"), "{problems:?}");
    }
}
