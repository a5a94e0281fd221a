//! A connection, as the handlers of its requests see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::Request;

/// A connection, and the generation that it belongs to.
#[derive(Clone)]
pub struct Connection {
    generation: Arc<AtomicU64>,
    /// Local and remote.
    ends: Option<(SocketAddr, SocketAddr)>,
}

impl Connection {
    pub fn new(generation: u64, ends: Option<(SocketAddr, SocketAddr)>) -> Self {
        Self { generation: Arc::new(AtomicU64::new(generation)), ends }
    }

    pub fn of(request: &Request) -> Option<Self> {
        request.extensions().get::<Self>().cloned()
    }

    /// `None` when the client was gone before it could be asked.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.ends
    }

    /// Moves the connection to `generation`, so that the change to it does not end the connection.
    pub fn join(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// Waits until the generation has moved on without this connection.
    pub async fn outlived(self, mut generation: watch::Receiver<u64>) {
        while generation.changed().await.is_ok() {
            if *generation.borrow() != self.generation.load(Ordering::Relaxed) {
                return;
            }
        }
        std::future::pending().await
    }
}
