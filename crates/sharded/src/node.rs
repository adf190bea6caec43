//! A mongod that commands are sent to, without a driver: over reused connections, or over a new one.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bson::raw::{CString, RawDocument, RawDocumentBuf, cstr};
use tokio::net::TcpStream;

use crate::wire;

/// How long a server may take for any command.
const LIMIT: Duration = Duration::from_mins(2);

/// One mongod.
#[derive(Debug)]
pub(crate) struct Node {
    port: u16,
    idle: Mutex<Vec<TcpStream>>,
}

impl Node {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            idle: Mutex::default(),
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends a command over a connection that is kept for the next one; to be called on one runtime alone. Its answer,
    /// whatever it says.
    pub(crate) async fn ask(
        &self,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let kept = self.idle().pop();
        let mut stream = match kept {
            Some(kept) => kept,
            None => TcpStream::connect(("127.0.0.1", self.port)).await?,
        };
        let answer = converse(&mut stream, database, command).await;
        if answer.is_ok() {
            self.idle().push(stream);
        } else {
            // Those that are as old lead to a server that has gone.
            self.idle().clear();
        }
        answer
    }

    /// Whether a connection can be made.
    pub(crate) async fn is_reachable(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a command to the server on `port` over a connection of its own.
pub(crate) async fn ask_once(
    port: u16,
    database: &str,
    command: &RawDocument,
) -> io::Result<RawDocumentBuf> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    converse(&mut stream, database, command).await
}

async fn converse(
    stream: &mut TcpStream,
    database: &str,
    command: &RawDocument,
) -> io::Result<RawDocumentBuf> {
    let mut body = without(command, &["$db"]);
    body.append(cstr!("$db"), database);
    let asked = async {
        stream.set_nodelay(true)?;
        wire::write(stream, None, &body).await?;
        wire::read(stream).await
    };
    let answer = tokio::time::timeout(LIMIT, asked).await??;
    let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
    Ok(answer.ok_or_else(gone)?.body)
}

/// The document without these fields.
pub(crate) fn without(document: &RawDocument, names: &[&str]) -> RawDocumentBuf {
    let mut kept = RawDocumentBuf::new();
    for element in document.iter_elements().map_while(Result::ok) {
        if !names.contains(&element.key().as_str())
            && let Ok(value) = element.value()
        {
            kept.append(element.key(), value);
        }
    }
    kept
}

/// The command under another name.
pub(crate) fn renamed(command: &RawDocument, name: &str) -> RawDocumentBuf {
    let mut renamed = RawDocumentBuf::new();
    for (n, element) in command.iter_elements().map_while(Result::ok).enumerate() {
        let Ok(value) = element.value() else { continue };
        if n == 0 {
            if let Ok(name) = CString::try_from(name) {
                renamed.append(name, value);
            }
        } else {
            renamed.append(element.key(), value);
        }
    }
    renamed
}

/// Whether a server did what it was asked to.
pub(crate) fn is_ok(answer: &RawDocument) -> bool {
    let ok = answer.get("ok").ok().flatten();
    ok.is_some_and(|ok| ok.as_f64() == Some(1.0) || ok.as_i32() == Some(1))
}

/// The code of a refusal; 0 where there is none.
pub(crate) fn code(answer: &RawDocument) -> i32 {
    answer.get_i32("code").unwrap_or_default()
}

/// The documents that a cursor sent first.
pub(crate) fn first_batch(answer: &RawDocument) -> Vec<RawDocumentBuf> {
    let batch = answer
        .get_document("cursor")
        .ok()
        .and_then(|cursor| cursor.get_array("firstBatch").ok());
    let documents = batch.into_iter().flatten().filter_map(Result::ok);
    documents
        .filter_map(|document| document.as_document().map(ToOwned::to_owned))
        .collect()
}
