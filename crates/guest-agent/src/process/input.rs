//! Standard input of a process. Writers take turns, and each waits until the process has taken
//! what it sent: that is the backpressure, and it holds up nobody else.

use std::io;
use std::sync::Arc;

use tokio::sync::{Mutex, watch};

use super::stream::Stream;
use crate::rpc::{Code, ConnectError};

pub struct Input {
    stream: Mutex<Option<Arc<Stream>>>,
    terminal: bool,
}

impl Input {
    pub fn new(stream: Option<Arc<Stream>>, terminal: bool) -> Self {
        Self { stream: Mutex::new(stream), terminal }
    }

    /// Fails when the process exits before it has taken everything.
    pub async fn write(
        &self,
        bytes: &[u8],
        mut exited: watch::Receiver<bool>,
    ) -> Result<(), ConnectError> {
        let writing = async {
            let stream = self.stream.lock().await;
            let Some(stream) = stream.as_ref() else { return Err(closed()) };
            stream.write_all(bytes).await.map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => closed(),
                _ => ConnectError::from_io("stdin", &error),
            })
        };
        tokio::select! {
            biased;
            result = writing => result,
            _ = exited.wait_for(|exited| *exited) => {
                Err(ended())
            }
        }
    }

    /// After what was sent before. A terminal's input is ended by its own control character.
    pub async fn close(&self) -> Result<(), ConnectError> {
        if self.terminal {
            let message = "a terminal's input cannot be closed";
            return Err(ConnectError::new(Code::FailedPrecondition, message));
        }
        self.stream.lock().await.take();
        Ok(())
    }

    /// For good: the process has ended.
    pub fn abandon(&self) {
        // When a writer holds it, that writer is about to fail and let go.
        if let Ok(mut stream) = self.stream.try_lock() {
            stream.take();
        }
    }

    pub fn is_open(&self) -> bool {
        // A writer that holds it has it open.
        self.stream.try_lock().map_or(true, |stream| stream.is_some())
    }

    pub fn is_terminal(&self) -> bool {
        self.terminal
    }
}

pub fn ended() -> ConnectError {
    ConnectError::new(Code::NotFound, "the process has ended")
}

fn closed() -> ConnectError {
    ConnectError::new(Code::FailedPrecondition, "stdin is closed")
}
