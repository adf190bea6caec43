//! A standalone MongoDB server. However the tests end, it is killed and its data is deleted.

use std::time::Duration;

use bson::doc;
use tierkeep_core::bson;

use super::super::outage::servers::{Server, free_ports};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_millis(50);

/// The server.
pub struct Standalone {
    port: u16,
    _server: Server,
}

impl Standalone {
    /// Starts an empty one, and waits until it answers.
    pub async fn start() -> Self {
        let [port] = free_ports();
        let mut server = Server::new(port);
        server.start(None);
        let answers = async {
            while server.ask(doc! { "hello": 1 }).await.is_none() {
                tokio::time::sleep(INTERVAL).await;
            }
        };
        let answered = tokio::time::timeout(PATIENCE, answers).await;
        answered.expect("the server does not answer");
        Self {
            port,
            _server: server,
        }
    }

    /// The connection string.
    pub fn url(&self) -> String {
        let port = self.port;
        format!("mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=1000")
    }
}
