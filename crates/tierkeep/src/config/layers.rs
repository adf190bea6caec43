//! The layers, one by one. Owns their order, the reading of files, and what is wrong with names; a value is
//! not looked at here.

use std::io;
use std::path::Path;

use super::problem::Problem;
use super::source::{Given, Inputs, Raw, Source};
use super::table::{self, FILE_SUFFIX, PREFIX};
use super::{dotenv, file, kubernetes, small_file, suggest};

/// What variables of the tests start with; they are never settings.
const TESTS_PREFIX: &str = "TIERKEEP_TEST_";

/// The names and values of all layers, the strongest first, and whether all could be read.
pub(super) fn layers(inputs: &Inputs, problems: &mut Vec<Problem>) -> (Vec<Vec<Given>>, bool) {
    let mut complete = true;
    let flags = inputs.flags.iter().map(|flag| Given {
        name: flag.setting.to_owned(),
        value: Raw::Text(flag.value.clone()),
        source: Source::Flag(flag.option),
    });
    let environment = inputs.environment.iter().map(|(name, value)| Given {
        name: name.clone(),
        value: value.clone(),
        source: Source::Environment,
    });
    let mut layers: Vec<Vec<Given>> = vec![flags.collect(), environment.collect()];
    if let Some(path) = &inputs.env_file {
        match small_file::read(path) {
            Ok(text) => layers.push(dotenv::read(path, &text, problems)),
            Err(error) => {
                problems.push(unreadable(path, &error));
                complete = false;
            }
        }
    }
    for given in layers.iter().flatten() {
        problems.extend(unknown_variable(given));
    }
    if let Some((path, required)) = inputs.settings_file() {
        match small_file::read(path) {
            Ok(text) => match file::read(path, &text, problems) {
                Some(given) => layers.push(given),
                None => complete = false,
            },
            Err(error) if !required && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                problems.push(unreadable(path, &error));
                complete = false;
            }
        }
    }
    (layers, complete)
}

fn unknown_variable(given: &Given) -> Option<Problem> {
    let name = given.name.as_str();
    if !name.starts_with(PREFIX) || name.starts_with(TESTS_PREFIX) || table::setting(name).is_some()
    {
        return None;
    }
    if given.source == Source::Environment
        && let Raw::Text(value) = &given.value
        && kubernetes::is_service_variable(name, value)
    {
        return None;
    }
    let message = match name.strip_suffix(FILE_SUFFIX).and_then(table::setting) {
        Some(setting) if setting.kind.has_file_variant() => return None,
        Some(setting) => format!(
            "{} cannot come from a file ({}: {name})",
            setting.name, given.source
        ),
        None => format!(
            "unknown variable {name} ({}){}",
            given.source,
            suggest::among(name, suggest::variables())
        ),
    };
    Some(Problem::new(name, message))
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let path = path.display().to_string();
    Problem::new(path.as_str(), format!("{path} cannot be read: {error}"))
}
