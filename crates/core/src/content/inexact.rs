//! What a shown value does not say: owns the reasons, and how the values are named.

use std::fmt;

use serde::{Serialize, Serializer};

/// The most values that are named; more are counted.
const NAMED_MAX: usize = 100;
/// The most bytes of a path that names one.
const PATH_MAX: usize = 512;

/// Why a shown value would not be stored as it was if it were put back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A text or key is not UTF-8; U+FFFD stands for what is not.
    NotUtf8,
    /// An int64 that an int32 could hold is shown as a number, which becomes an int32.
    Int64,
    /// A key that starts with `$`, outside a `DBRef`: the object would be refused, or taken for Extended JSON.
    DollarKey,
    /// A duplicate key in an object; the last of its values is shown.
    RepeatedKey,
    /// Bits that the text of the value does not say: the payload of a NaN, a decimal in a form of its own, options of a
    /// regular expression out of order, keys of an array that do not count up.
    Form,
    /// A section that is not an object.
    NotAnObject,
}

impl Reason {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::Int64 => "int64",
            Self::DollarKey => "dollar_key",
            Self::RepeatedKey => "repeated_key",
            Self::Form => "form",
            Self::NotAnObject => "not_an_object",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One value that is not shown exactly.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct InexactValue {
    /// Where it is in what is shown: a JSON Pointer (RFC 6901).
    pub path: String,
    /// Why.
    pub reason: Reason,
}

/// The values that are not shown exactly: putting them back would store something else.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inexact {
    /// How many there are.
    pub count: u64,
    /// The first of them, at most a hundred.
    pub named: Vec<InexactValue>,
}

impl Inexact {
    /// Whether everything is shown exactly.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the findings of a part of the same answer, which is at `path`.
    pub fn extend(&mut self, path: &str, part: Self) {
        self.count += part.count;
        let room = NAMED_MAX.saturating_sub(self.named.len());
        let named = part.named.into_iter().take(room);
        self.named.extend(named.map(|value| InexactValue {
            path: format!("{path}{}", value.path),
            ..value
        }));
    }

    pub(super) fn add<'a>(&mut self, path: impl Iterator<Item = Step<'a>>, reason: Reason) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            let path = pointer(path);
            self.named.push(InexactValue { path, reason });
        }
    }
}

/// The first eight as `reason path`, separated by commas, and how many more there are: ASCII, as a header wants it. What a
/// URI would not hold of a path is percent-encoded.
impl fmt::Display for Inexact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How many are written out.
        const WRITTEN: usize = 8;
        let mut written = 0;
        for value in self.named.iter().take(WRITTEN) {
            let separator = if written > 0 { ", " } else { "" };
            write!(f, "{separator}{} ", value.reason)?;
            let path = if value.path.is_empty() {
                "/"
            } else {
                &value.path
            };
            for byte in path.bytes() {
                if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
                    write!(f, "{}", char::from(byte))?;
                } else {
                    write!(f, "%{byte:02X}")?;
                }
            }
            written += 1;
        }
        match self.count.saturating_sub(written) {
            0 => Ok(()),
            more => write!(f, ", {more} more"),
        }
    }
}

/// One step of the way to a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Key(&'a [u8]),
    Index(usize),
}

fn pointer<'a>(path: impl Iterator<Item = Step<'a>>) -> String {
    let mut pointer = String::new();
    for step in path {
        pointer.push('/');
        match step {
            Step::Key(key) => {
                let key = String::from_utf8_lossy(key);
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Step::Index(index) => pointer.push_str(&index.to_string()),
        }
        if pointer.len() > PATH_MAX {
            let end = pointer.floor_char_boundary(PATH_MAX);
            pointer.truncate(end);
            pointer.push('…');
            break;
        }
    }
    pointer
}
