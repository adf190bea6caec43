//! MongoDB's wire protocol, as far as a router for tests needs it: `OP_MSG`, and the `OP_QUERY` in which drivers say
//! hello for the first time. No compression, no checksums.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use bson::raw::{CStr, RawArrayBuf, RawDocument, RawDocumentBuf};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;
/// A message's length, its number, the number that it answers, and its kind.
const HEAD: usize = 16;
/// Flags, a cursor, its position, and how many documents follow.
const REPLY_HEAD: usize = 20;
/// The sender wants no answer.
const MORE_TO_COME: u32 = 1 << 1;
/// The largest message that a server takes.
const MAX_BYTES: usize = 48_000_000;

/// A command, or the answer to one.
#[derive(Debug)]
pub(crate) struct Message {
    /// The number that an answer names.
    pub(crate) id: i32,
    /// The command with all its arguments.
    pub(crate) body: RawDocumentBuf,
    /// Whether it came as `OP_QUERY`, and is answered in kind.
    pub(crate) is_query: bool,
    /// Whether it is to be answered.
    pub(crate) wants_answer: bool,
}

/// Numbers of messages.
static NUMBER: AtomicI32 = AtomicI32::new(1);

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The next message; `None` where the other side has gone.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Message>> {
    let mut head = [0; HEAD];
    match from.read_exact(&mut head).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => drop(read?),
    }
    let length = usize::try_from(number(&head, 0)?).unwrap_or(0);
    if !(HEAD..=MAX_BYTES).contains(&length) {
        return Err(malformed("a message of an impossible length"));
    }
    let mut rest = vec![0; length - HEAD];
    from.read_exact(&mut rest).await?;
    let id = number(&head, 4)?;
    match number(&head, 12)? {
        OP_MSG => message(id, &rest).map(Some),
        OP_QUERY => query(id, &rest).map(Some),
        OP_REPLY => {
            let (body, _) = document(rest.get(REPLY_HEAD..).unwrap_or_default())?;
            Ok(Some(Message {
                id,
                body,
                is_query: true,
                wants_answer: false,
            }))
        }
        kind => Err(malformed(&format!("a message of the kind {kind}"))),
    }
}

/// Sends a command, or the answer to the message `answers`; says which number it has.
pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    answers: Option<&Message>,
    body: &RawDocument,
) -> io::Result<i32> {
    let id = NUMBER.fetch_add(1, Ordering::Relaxed);
    let as_reply = answers.is_some_and(|message| message.is_query);
    let kind = if as_reply { OP_REPLY } else { OP_MSG };
    let mut bytes = Vec::with_capacity(HEAD + REPLY_HEAD + body.as_bytes().len());
    for field in [0, id, answers.map_or(0, |message| message.id), kind] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    if as_reply {
        for field in [0, 0, 0, 0, 1_i32] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
    } else {
        // No flags, then the one section that is a whole document.
        bytes.extend_from_slice(&[0; 5]);
    }
    bytes.extend_from_slice(body.as_bytes());
    let length = i32::try_from(bytes.len()).map_err(|_| malformed("a message too long"))?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&bytes).await?;
    Ok(id)
}

fn number(bytes: &[u8], at: usize) -> io::Result<i32> {
    let bytes = bytes
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(i32::from_le_bytes)
        .ok_or_else(|| malformed("a message that ends early"))
}

/// The document that `bytes` begin with, and what follows it.
fn document(bytes: &[u8]) -> io::Result<(RawDocumentBuf, &[u8])> {
    let length = usize::try_from(number(bytes, 0)?).unwrap_or(0);
    let cut = bytes.split_at_checked(length);
    let (document, rest) = cut.ok_or_else(|| malformed("a document that ends early"))?;
    let document = RawDocumentBuf::from_bytes(document.to_vec());
    Ok((document.map_err(io::Error::other)?, rest))
}

/// The text up to a zero byte, and what follows it.
fn text(bytes: &[u8]) -> io::Result<(&CStr, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.ok_or_else(|| malformed("a text without an end"))?;
    let text = std::str::from_utf8(&bytes[..end]).map_err(io::Error::other)?;
    let text = text.try_into().map_err(io::Error::other)?;
    Ok((text, &bytes[end + 1..]))
}

/// A command whose long arguments may be in separate sections.
fn message(id: i32, bytes: &[u8]) -> io::Result<Message> {
    let flags = number(bytes, 0)?.cast_unsigned();
    let mut rest = &bytes[4..];
    let mut body = None;
    let mut sequences = Vec::new();
    while let Some((kind, section)) = rest.split_first() {
        if *kind == 0 {
            let (whole, after) = document(section)?;
            body = Some(whole);
            rest = after;
            continue;
        }
        let length = usize::try_from(number(section, 0)?).unwrap_or(0);
        let cut = section.split_at_checked(length);
        let (sequence, after) = cut.ok_or_else(|| malformed("a section that ends early"))?;
        let (name, mut documents) = text(sequence.get(4..).unwrap_or_default())?;
        let mut array = RawArrayBuf::new();
        while !documents.is_empty() {
            let (one, others) = document(documents)?;
            array.push(one);
            documents = others;
        }
        sequences.push((name.to_owned(), array));
        rest = after;
    }
    let mut body = body.ok_or_else(|| malformed("a message without a command"))?;
    for (name, array) in sequences {
        body.append(name, array);
    }
    Ok(Message {
        id,
        body,
        is_query: false,
        wants_answer: flags & MORE_TO_COME == 0,
    })
}

fn query(id: i32, bytes: &[u8]) -> io::Result<Message> {
    let (_, rest) = text(bytes.get(4..).unwrap_or_default())?;
    let (body, _) = document(rest.get(8..).unwrap_or_default())?;
    Ok(Message {
        id,
        body,
        is_query: true,
        wants_answer: true,
    })
}
