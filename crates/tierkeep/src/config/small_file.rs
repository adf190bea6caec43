//! Text files that people write: settings, secrets, keys, lists of ids. Owns what an editor may add to them; must never
//! quote one in an error.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// What some editors put before UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of a file, without a byte-order mark.
///
/// # Errors
/// What the operating system says, or that the file is not UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    let bytes = fs::read(path)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let reason = if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            "it is UTF-16; save it as UTF-8"
        } else {
            "it is not UTF-8"
        };
        io::Error::new(ErrorKind::InvalidData, reason)
    })?;
    match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => Ok(rest.to_owned()),
        None => Ok(text),
    }
}

/// The lines of `text` that say something, with their numbers from 1: without blanks around them, empty lines and
/// comments, which begin with `#`.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> io::Result<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(written(b"\xef\xbb\xbfA=1\r\n").unwrap(), "A=1\r\n");
        assert_eq!(written(b"A=1").unwrap(), "A=1");
    }

    #[test]
    fn another_encoding_is_named() {
        let utf16 = written(b"\xff\xfeA\0=\0b\0").unwrap_err();
        assert_eq!(utf16.to_string(), "it is UTF-16; save it as UTF-8");
        let latin1 = written(b"A=\xe4").unwrap_err();
        assert_eq!(latin1.to_string(), "it is not UTF-8");
    }

    #[test]
    fn comments_and_empty_lines_say_nothing() {
        let said: Vec<_> = lines("# a\n\n b \r\n\tc\n").collect();
        assert_eq!(said, [(3, "b"), (4, "c")]);
    }
}
