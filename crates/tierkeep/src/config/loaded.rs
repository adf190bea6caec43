//! All layers, put together. Owns which layer's value counts and what is wrong with single values; what
//! values mean together is decided in [`settings`](super::settings).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::kind::{Value, ValueKind};
use super::layers::layers;
use super::problem::Problem;
use super::small_file;
use super::source::{Given, Inputs, Raw, Source};
use super::table::{self, Setting};

/// Enough of a refused value to recognise it by.
const QUOTED_MAX: usize = 80;

/// The effective value of one setting.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The setting.
    pub setting: &'static Setting,
    /// Its value, read; `None` if none was given and there is no default.
    pub value: Option<Value>,
    /// The value as it was written; `None` for secrets too.
    pub text: Option<String>,
    /// Where it came from.
    pub source: Source,
    /// The file that held it, where the source only names a file.
    pub file: Option<PathBuf>,
}

impl Effective {
    /// No value was given, not even one that cannot be read.
    pub fn is_absent(&self) -> bool {
        self.value.is_none() && self.source == Source::Default
    }
}

/// The effective values of all settings, with what is wrong with them.
#[derive(Clone, Debug)]
pub struct Loaded {
    effective: BTreeMap<&'static str, Effective>,
    problems: Vec<Problem>,
    complete: bool,
}

impl Loaded {
    /// Reads all layers. What is wrong is kept, so that all of it can be said at once.
    pub fn gather(inputs: &Inputs) -> Self {
        let mut problems = Vec::new();
        let (layers, complete) = layers(inputs, &mut problems);
        let effective = table::settings()
            .map(|setting| (setting.name, effective(setting, &layers, &mut problems)))
            .collect();
        Self {
            effective,
            problems,
            complete,
        }
    }

    /// What is wrong with names and single values.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What is wrong with these settings; everything where a layer could not be read, which may have held them.
    pub fn problems_about(&self, names: &[&str]) -> Vec<Problem> {
        let is_about = |subject: &String| {
            let own = subject.strip_suffix(table::FILE_SUFFIX);
            names
                .iter()
                .any(|name| subject == name || own == Some(name))
        };
        let concerns = |problem: &&Problem| !self.complete || problem.subjects.iter().any(is_about);
        self.problems.iter().filter(concerns).cloned().collect()
    }

    /// Whether every layer could be read, so that what is missing is really missing.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// All settings in the order of the table.
    pub fn all(&self) -> impl Iterator<Item = &Effective> {
        table::settings().filter_map(|setting| self.effective.get(setting.name))
    }

    /// The setting of this name; every name in this crate is one of the table.
    pub fn get(&self, name: &str) -> Option<&Effective> {
        debug_assert!(table::setting(name).is_some(), "{name} is not in the table");
        self.effective.get(name)
    }

    /// Where its value came from, for messages.
    pub fn source(&self, name: &str) -> String {
        self.get(name)
            .map(|it| it.source.to_string())
            .unwrap_or_default()
    }

    /// Its value, where there is one.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.get(name)?.value.as_ref()
    }

    /// The secret of this name, where one is given.
    pub fn secret(&self, name: &str) -> Option<&SecretString> {
        match self.value(name) {
            Some(Value::Secret(secret)) => Some(secret),
            _ => None,
        }
    }

    /// The text of this name, where one is given.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The length of time of this name. Zero is used for a value that could not be read, which is a
    /// problem already; so do zero, off and nothing in the methods below.
    pub fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Some(Value::Duration(duration)) => *duration,
            _ => Duration::ZERO,
        }
    }

    /// The number of this name, where there is one.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// The switch of this name.
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Switch(true)))
    }

    /// The words of this name.
    pub fn words(&self, name: &str) -> &[String] {
        match self.value(name) {
            Some(Value::List(words)) => words,
            _ => &[],
        }
    }

    /// The address of this name, where there is one.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        match self.value(name) {
            Some(Value::Address(address)) => Some(*address),
            _ => None,
        }
    }

    /// The path of this name, where one is given.
    pub fn path(&self, name: &str) -> Option<&Path> {
        match self.value(name) {
            Some(Value::Path(path)) => Some(path),
            _ => None,
        }
    }
}

fn effective(
    setting: &'static Setting,
    layers: &[Vec<Given>],
    problems: &mut Vec<Problem>,
) -> Effective {
    let file_variable = setting.file_variable();
    for layer in layers {
        let find = |name: &str| {
            layer
                .iter()
                .rfind(|given| given.name == name && !is_empty(&given.value))
        };
        let own = find(setting.name);
        let file = file_variable.as_deref().and_then(find);
        match (own, file) {
            (Some(own), Some(file)) => {
                let message = format!(
                    "{} and {} are both set ({}; {})",
                    own.name, file.name, own.source, file.source
                );
                problems.push(
                    Problem::among([own.name.as_str(), file.name.as_str()], message)
                        .remedy("set only one of them"),
                );
                return unset(setting, own.source.clone());
            }
            (Some(own), None) => return read(setting, own, None, problems),
            (None, Some(file)) => return read_file(setting, file, problems),
            (None, None) => {}
        }
    }
    let value = setting
        .default
        .and_then(|default| setting.kind.read(default).ok());
    let text = setting.default.map(str::to_owned);
    Effective {
        setting,
        value,
        text,
        source: Source::Default,
        file: None,
    }
}

/// An empty value counts as none, so that a template may name what it does not set.
fn is_empty(value: &Raw) -> bool {
    match value {
        Raw::Text(text) => text.trim().is_empty(),
        Raw::Number(_) | Raw::Switch(_) | Raw::Unfit(_) => false,
    }
}

fn unset(setting: &'static Setting, source: Source) -> Effective {
    Effective {
        setting,
        value: None,
        text: None,
        source,
        file: None,
    }
}

fn read(
    setting: &'static Setting,
    given: &Given,
    file: Option<PathBuf>,
    problems: &mut Vec<Problem>,
) -> Effective {
    let kind = setting.kind;
    let text = match &given.value {
        Raw::Text(text) => Some(text.as_str()),
        Raw::Number(number) => kind.is_number().then_some(number.as_str()),
        Raw::Switch(on) if kind == ValueKind::Switch => Some(if *on { "on" } else { "off" }),
        Raw::Switch(_) | Raw::Unfit(_) => None,
    };
    let value = text.and_then(|text| kind.read(text).ok());
    if value.is_none() {
        problems.push(misread(setting, given, file.as_deref()));
    }
    let text = text
        .filter(|_| !kind.is_secret())
        .map(|text| shown(kind, text.trim()));
    Effective {
        setting,
        value,
        text,
        source: given.source.clone(),
        file,
    }
}

fn read_file(setting: &'static Setting, given: &Given, problems: &mut Vec<Problem>) -> Effective {
    let source = given.source.clone();
    let Raw::Text(path) = &given.value else {
        problems.push(Problem::new(
            given.name.as_str(),
            format!("{} ({source}) must be the path of a file", given.name),
        ));
        return unset(setting, source);
    };
    let path = Path::new(path.trim());
    let reason = match small_file::read(path) {
        Ok(text) if text.trim().is_empty() => "is empty".to_owned(),
        Ok(text) => {
            let value = Raw::Text(text.trim().to_owned());
            let inside = Given {
                name: given.name.clone(),
                value,
                source,
            };
            return read(setting, &inside, Some(path.to_owned()), problems);
        }
        Err(error) => format!("cannot be read: {error}"),
    };
    let message = format!(
        "the file {} of {} ({source}) {reason}",
        path.display(),
        given.name
    );
    problems.push(Problem::new(given.name.as_str(), message));
    unset(setting, source)
}

fn misread(setting: &Setting, given: &Given, file: Option<&Path>) -> Problem {
    let kind = setting.kind;
    let value = match &given.value {
        _ if kind.is_secret() => "a value that is not shown".to_owned(),
        Raw::Text(text) => {
            let start: String = shown(kind, text).chars().take(QUOTED_MAX).collect();
            format!("{start:?}")
        }
        Raw::Number(number) => format!("the number {number}"),
        Raw::Switch(on) => format!("the truth value {on}"),
        Raw::Unfit(what) => (*what).to_owned(),
    };
    let within = file
        .map(|file| format!(" in {}", file.display()))
        .unwrap_or_default();
    let message = format!(
        "{} is {value}{within} ({}); expected {}",
        given.name,
        given.source,
        kind.form()
    );
    Problem::new(setting.name, message)
}

/// A web address may hold a password where it should not.
fn shown(kind: ValueKind, text: &str) -> String {
    if kind == ValueKind::Url && text.contains('@') {
        "***".to_owned()
    } else {
        text.to_owned()
    }
}
