//! What the value of a setting may look like. Owns the reading of one value; must never quote a secret.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::units;

/// The kind of a setting's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueKind {
    /// A length of time, no shorter than this.
    Duration {
        /// The shortest that makes sense.
        least: Duration,
    },
    /// A number of bytes, no smaller than this.
    Size {
        /// The smallest that makes sense.
        least: u64,
    },
    /// A whole number within these bounds, both included.
    Integer {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// A whole number from 1, or `off`.
    Limit,
    /// `on` or `off`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// Words separated by commas.
    List,
    /// IP addresses and networks separated by commas.
    Networks,
    /// A file or directory.
    Path,
    /// An IP address and a port to listen on.
    Address,
    /// A web address.
    Url,
    /// A URL that may hold a password.
    SecretUrl,
    /// A text that is never shown.
    Secret,
}

/// A value, read.
#[derive(Clone, Debug)]
pub enum Value {
    /// Of [`ValueKind::Duration`].
    Duration(Duration),
    /// Of [`ValueKind::Size`] and [`ValueKind::Integer`]; of [`ValueKind::Limit`] with 0 for `off`.
    Number(u64),
    /// Of [`ValueKind::Switch`].
    Switch(bool),
    /// Of [`ValueKind::Choice`], [`ValueKind::Text`] and [`ValueKind::Url`].
    Text(String),
    /// Of [`ValueKind::List`] and [`ValueKind::Networks`].
    List(Vec<String>),
    /// Of [`ValueKind::Path`].
    Path(PathBuf),
    /// Of [`ValueKind::Address`].
    Address(SocketAddr),
    /// Of [`ValueKind::SecretUrl`] and [`ValueKind::Secret`].
    Secret(SecretString),
}

impl ValueKind {
    /// Whether values of this kind are never shown.
    pub fn is_secret(self) -> bool {
        match self {
            Self::SecretUrl | Self::Secret => true,
            Self::Duration { .. }
            | Self::Size { .. }
            | Self::Integer { .. }
            | Self::Limit
            | Self::Switch
            | Self::Choice(_)
            | Self::Text
            | Self::List
            | Self::Networks
            | Self::Path
            | Self::Address
            | Self::Url => false,
        }
    }

    /// Whether the value may come from a file that `NAME_FILE` names.
    pub fn has_file_variant(self) -> bool {
        self.is_secret() || self == Self::Url
    }

    /// Whether the settings file may hold the value as a number without quotes.
    pub fn is_number(self) -> bool {
        match self {
            Self::Size { .. } | Self::Integer { .. } | Self::Limit => true,
            Self::Duration { .. }
            | Self::Switch
            | Self::Choice(_)
            | Self::Text
            | Self::List
            | Self::Networks
            | Self::Path
            | Self::Address
            | Self::Url
            | Self::SecretUrl
            | Self::Secret => false,
        }
    }

    /// What a value looks like, to follow "expected".
    pub fn form(self) -> String {
        match self {
            Self::Duration { least } if least.is_zero() => units::DURATION_FORM.to_owned(),
            Self::Duration { least } => {
                format!(
                    "{}, no shorter than {}ms",
                    units::DURATION_FORM,
                    least.as_millis()
                )
            }
            Self::Size { least: 0 } => units::SIZE_FORM.to_owned(),
            Self::Size { least } => format!("{}, no smaller than {least} bytes", units::SIZE_FORM),
            Self::Integer {
                least,
                most: u64::MAX,
            } => {
                format!("a whole number, no smaller than {least}")
            }
            Self::Integer { least, most } => format!("a whole number from {least} to {most}"),
            Self::Limit => "a whole number from 1, or off".to_owned(),
            Self::Switch => "on or off".to_owned(),
            Self::Choice(words) => words.join(" or "),
            Self::Text => "a string without control characters".to_owned(),
            Self::List => "names separated by commas".to_owned(),
            Self::Networks => {
                "IP addresses or networks separated by commas, such as 10.0.0.0/8,::1".to_owned()
            }
            Self::Path => "a path".to_owned(),
            Self::Address => "an IP address and a port, such as 127.0.0.1:8080".to_owned(),
            Self::Url => "a URL that starts with https:// or http://".to_owned(),
            Self::SecretUrl => "a URL".to_owned(),
            Self::Secret => "a string".to_owned(),
        }
    }

    /// Reads a value that is not empty.
    ///
    /// # Errors
    /// What was expected instead; never the text itself.
    pub fn read(self, text: &str) -> Result<Value, String> {
        // Spaces may be part of a secret.
        let text = if self == Self::Secret {
            text
        } else {
            text.trim()
        };
        self.read_or_none(text).ok_or_else(|| self.form())
    }

    fn read_or_none(self, text: &str) -> Option<Value> {
        let value = match self {
            Self::Duration { least } => {
                Value::Duration(units::duration(text).ok().filter(|it| *it >= least)?)
            }
            Self::Size { least } => {
                Value::Number(units::size(text).ok().filter(|it| *it >= least)?)
            }
            Self::Integer { least, most } => {
                Value::Number(text.parse().ok().filter(|it| (least..=most).contains(it))?)
            }
            Self::Limit if text == "off" => Value::Number(0),
            Self::Limit => Value::Number(text.parse().ok().filter(|it| *it >= 1)?),
            Self::Switch => Value::Switch(match text {
                "on" => true,
                "off" => false,
                _ => return None,
            }),
            Self::Choice(words) => Value::Text(words.contains(&text).then(|| text.to_owned())?),
            Self::Text => Value::Text(printable(text)?.to_owned()),
            Self::List => Value::List(words(text)?),
            Self::Networks => {
                let networks = words(text)?;
                networks
                    .iter()
                    .all(|it| is_network(it))
                    .then_some(Value::List(networks))?
            }
            Self::Path => Value::Path(PathBuf::from(text)),
            Self::Address => Value::Address(address(text)?),
            Self::Url => {
                let known = text.starts_with("https://") || text.starts_with("http://");
                Value::Text(known.then(|| printable(text)).flatten()?.to_owned())
            }
            Self::SecretUrl => {
                let known = text
                    .split_once("://")
                    .is_some_and(|(scheme, _)| !scheme.is_empty());
                Value::Secret(known.then(|| SecretString::from(text))?)
            }
            Self::Secret => Value::Secret(SecretString::from(text)),
        };
        Some(value)
    }
}

fn printable(text: &str) -> Option<&str> {
    (!text.chars().any(char::is_control)).then_some(text)
}

fn words(text: &str) -> Option<Vec<String>> {
    let words: Vec<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
    words
        .iter()
        .all(|word| !word.is_empty() && printable(word).is_some())
        .then_some(words)
}

fn is_network(text: &str) -> bool {
    let (address, bits) = text
        .split_once('/')
        .map_or((text, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= longest))
}

fn address(text: &str) -> Option<SocketAddr> {
    let text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(ValueKind::Switch, "on", true)]
    #[case(ValueKind::Switch, "yes", false)]
    #[case(ValueKind::Limit, "off", true)]
    #[case(ValueKind::Limit, "0", false)]
    #[case(ValueKind::Integer { least: 1, most: 10 }, "10", true)]
    #[case(ValueKind::Integer { least: 1, most: 10 }, "11", false)]
    #[case(ValueKind::Integer { least: 1, most: 10 }, "0", false)]
    #[case(ValueKind::Choice(&["json", "text"]), "text", true)]
    #[case(ValueKind::Choice(&["json", "text"]), "xml", false)]
    #[case(ValueKind::List, "a, b", true)]
    #[case(ValueKind::List, "a,,b", false)]
    #[case(ValueKind::Networks, "10.0.0.0/8,::1,192.0.2.1", true)]
    #[case(ValueKind::Networks, "10.0.0.0/33", false)]
    #[case(ValueKind::Address, "[::1]:8080", true)]
    #[case(ValueKind::Address, "localhost:8080", true)]
    #[case(ValueKind::Address, "8080", false)]
    #[case(ValueKind::Url, "https://api.github.com", true)]
    #[case(ValueKind::Url, "api.github.com", false)]
    #[case(ValueKind::SecretUrl, "mongodb://localhost", true)]
    #[case(ValueKind::SecretUrl, "localhost", false)]
    #[case(ValueKind::Text, "a\u{7}b", false)]
    fn values_fit_their_kind(#[case] kind: ValueKind, #[case] text: &str, #[case] fits: bool) {
        assert_eq!(kind.read(text).is_ok(), fits);
    }

    #[test]
    fn bounds_are_part_of_the_form() {
        let kind = ValueKind::Duration {
            least: Duration::from_millis(10),
        };
        assert!(
            kind.read("5ms")
                .unwrap_err()
                .ends_with("no shorter than 10ms")
        );
    }
}
