//! A proxy in front of a server: it forwards every connection until it is closed. Then connections end and new
//! ones are refused, as if the server were gone.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Shut when dropped.
#[derive(Debug)]
pub struct Door {
    /// Where it is.
    pub address: SocketAddr,
    server: String,
    open: Option<JoinHandle<()>>,
}

impl Door {
    /// An open door before `server`, a host with its port.
    pub async fn before(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self {
            address: listener.local_addr()?,
            server: server.to_owned(),
            open: Some(tokio::spawn(relay(listener, server.to_owned()))),
        })
    }

    /// Shuts it; answers when every connection has ended.
    pub async fn shut(&mut self) {
        if let Some(open) = self.open.take() {
            open.abort();
            open.await.ok();
        }
    }

    /// Opens it again.
    pub async fn open(&mut self) -> Result<()> {
        self.shut().await;
        let listener = TcpListener::bind(self.address).await?;
        self.open = Some(tokio::spawn(relay(listener, self.server.clone())));
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            open.abort();
        }
    }
}

async fn relay(listener: TcpListener, server: String) {
    // Those inside leave when this is dropped.
    let mut inside = JoinSet::new();
    while let Ok((mut caller, _)) = listener.accept().await {
        let server = server.clone();
        inside.spawn(async move {
            let mut called = TcpStream::connect(server).await?;
            for stream in [&caller, &called] {
                stream.set_nodelay(true)?;
            }
            copy_bidirectional(&mut caller, &mut called).await
        });
        while inside.try_join_next().is_some() {}
    }
}
