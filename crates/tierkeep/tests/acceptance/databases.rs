//! Databases on a MongoDB server that are dropped after their test, because each costs open files and memory there.

use std::time::Duration;

use futures_util::future::try_join_all;
use mongodb::Client;
use mongodb::options::ClientOptions;

/// How long is waited for a server that may have been ended by the test.
const PATIENCE: Duration = Duration::from_secs(2);

/// Databases with unique names; dropped with this value.
pub struct Databases {
    url: String,
    names: Vec<String>,
}

impl Databases {
    /// Names of databases on the server at `url`; no request is sent.
    pub fn new(url: &str, names: Vec<String>) -> Self {
        Self {
            url: url.to_owned(),
            names,
        }
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Where the server outlives the test, the databases are kept for inspection.
            return;
        }
        let (url, names) = (self.url.clone(), std::mem::take(&mut self.names));
        // On a thread of its own: a test drops this within its runtime, where nothing may wait for another one.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(drop_all(&url, &names)).ok();
        });
        // A server that is gone, or refuses, has nothing left that matters.
        drop(dropped.join());
    }
}

async fn drop_all(url: &str, names: &[String]) -> mongodb::error::Result<()> {
    let mut options = ClientOptions::parse(url).await?;
    options.server_selection_timeout = Some(PATIENCE);
    let client = Client::with_options(options)?;
    // All at once: a server answers each when it has next written its journal.
    let dropped = names
        .iter()
        .map(async |name| client.database(name).drop().await);
    try_join_all(dropped).await?;
    Ok(())
}
