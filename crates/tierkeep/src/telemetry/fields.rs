//! What a log line carries: owns the collection of fields from an event and the spans around it.

use std::fmt;

use tierkeep_core::user::UserType;
use tracing::field::{Field, Visit};

/// The value of a field.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum FieldValue {
    /// A text, unescaped.
    Text(String),
    /// A number or truth value, as it is written.
    Plain(String),
}

/// What fields are called that tell only a collector of traces something.
const FOR_TRACES: [&str; 2] = ["otel.", "http."];

/// Fields in the order in which they were first named; a later value replaces an earlier one.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, FieldValue)>);

/// The field that holds the message of an event.
const MESSAGE: &str = "message";
const USER_ID: &str = "user_id";
const USER_TYPE: &str = "user_type";

impl Fields {
    /// Takes all of `others`; on the same name, theirs count.
    pub(super) fn merge(&mut self, others: Self) {
        for (name, value) in others.0 {
            self.set(name, value);
        }
    }

    /// The message, taken out, behind the marker of the user type that the fields name.
    pub(super) fn take_message(&mut self) -> String {
        let message = match self.position(MESSAGE).map(|at| self.0.remove(at).1) {
            Some(FieldValue::Text(text) | FieldValue::Plain(text)) => text,
            None => String::new(),
        };
        match self.user_type() {
            Some(user_type) => format!("{} {message}", user_type.marker()),
            None => message,
        }
    }

    fn user_type(&self) -> Option<UserType> {
        let FieldValue::Text(text) = &self.0[self.position(USER_TYPE)?].1 else {
            return None;
        };
        [UserType::Internal, UserType::External]
            .into_iter()
            .find(|it| it.as_str() == text)
    }

    /// The fields, the user's first.
    pub(super) fn ordered(&self) -> impl Iterator<Item = (&'static str, &FieldValue)> {
        let rank = |name: &str| match name {
            USER_ID => 0,
            USER_TYPE => 1,
            _ => 2,
        };
        (0..=2).flat_map(move |wanted| {
            self.0
                .iter()
                .filter(move |(name, _)| rank(name) == wanted)
                .map(|(name, value)| (*name, value))
        })
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(other, _)| *other == name)
    }

    fn set(&mut self, name: &'static str, value: FieldValue) {
        if FOR_TRACES.iter().any(|prefix| name.starts_with(prefix)) {
            return;
        }
        match self.position(name) {
            Some(at) => self.0[at].1 = value,
            None => self.0.push((name, value)),
        }
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.set(field.name(), FieldValue::Plain(value.to_string()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), FieldValue::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), FieldValue::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value);
        } else {
            self.set(field.name(), FieldValue::Text(value.to_string()));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set(field.name(), FieldValue::Text(value.to_string()));
    }
}
