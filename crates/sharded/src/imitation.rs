//! A server that says that it is another product: each command goes to a real mongod, and some answers are changed.

use std::io;
use std::sync::Arc;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::rawdoc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::node::{Node, is_ok, without};
use crate::wire;

/// What such a product says of itself.
#[derive(Clone, Debug, Default)]
pub struct Disguise {
    /// Fields of its answer to `hello`, added to those of the server or in place of them.
    pub hello: RawDocumentBuf,
    /// Fields of its answer to `buildInfo`, likewise.
    pub build: RawDocumentBuf,
    /// Fields of the server's answer to `buildInfo` that it does not have.
    pub lacks: &'static [&'static str],
    /// The code with which it refuses `getCmdLineOpts`, if it does.
    pub refuses_with: Option<i32>,
}

/// A listener on loopback that drivers take for such a product; ended when dropped.
#[derive(Debug)]
pub struct Imitation {
    port: u16,
    listening: JoinHandle<()>,
}

impl Imitation {
    /// A proxy in front of the mongod on `port`.
    ///
    /// # Errors
    /// Where the system gives no port.
    pub async fn start(port: u16, disguise: Disguise) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own = listener.local_addr()?.port();
        let shared = Arc::new((Node::new(port), disguise));
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { converse(stream, &shared.0, &shared.1).await.ok() });
            }
        });
        Ok(Self {
            port: own,
            listening,
        })
    }

    /// A connection string that leads there and nowhere else, with `database` in its path.
    pub fn url(&self, database: &str) -> String {
        format!(
            "mongodb://127.0.0.1:{}/{database}?directConnection=true",
            self.port
        )
    }
}

impl Drop for Imitation {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn converse(mut stream: TcpStream, server: &Node, disguise: &Disguise) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some(message) = wire::read(&mut stream).await? {
        let answer = answer(server, disguise, &message.body).await?;
        if message.wants_answer {
            wire::write(&mut stream, Some(&message), &answer).await?;
        }
    }
    Ok(())
}

async fn answer(
    server: &Node,
    disguise: &Disguise,
    command: &RawDocument,
) -> io::Result<RawDocumentBuf> {
    let first = command.iter().next().and_then(Result::ok);
    let name = first
        .map_or("", |(name, _)| name.as_str())
        .to_ascii_lowercase();
    if let ("getcmdlineopts", Some(code)) = (name.as_str(), disguise.refuses_with) {
        let why = "Feature not supported: getCmdLineOpts";
        return Ok(rawdoc! { "ok": 0.0, "errmsg": why, "code": code });
    }
    let database = command.get_str("$db").unwrap_or("admin");
    // Connections to the server are used again, and take a client's description of itself only once.
    let answer = server.ask(database, &without(command, &["client"])).await?;
    if !is_ok(&answer) {
        return Ok(answer);
    }
    Ok(match name.as_str() {
        "hello" | "ismaster" => with(&answer, &disguise.hello),
        "buildinfo" => with(&without(&answer, disguise.lacks), &disguise.build),
        _ => answer,
    })
}

/// The document with these fields, in place of its own of the same names.
fn with(document: &RawDocument, fields: &RawDocument) -> RawDocumentBuf {
    let added = || fields.iter_elements().map_while(Result::ok);
    let names: Vec<&str> = added().map(|field| field.key().as_str()).collect();
    let mut changed = without(document, &names);
    for field in added() {
        if let Ok(value) = field.value() {
            changed.append(field.key(), value);
        }
    }
    changed
}
