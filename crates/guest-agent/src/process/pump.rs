//! Carries output from a pipe or terminal to the hub.
//!
//! A background child may hold the pipe open long after the process itself has ended. So after
//! the exit a pump delivers what is there, waits briefly for silence, and settles; from then on
//! it only keeps the pipe empty, so that what was left running is not killed by SIGPIPE.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use super::live::Process;
use super::output::Output;
use super::stdio::PIPE_BYTES;
use super::stream::Stream;
use crate::rpc::HEAD;

/// Longest piece of output, `bytes`: a whole pipe, so that who writes to it is not woken for a part.
const PIPE_CHUNK: usize = PIPE_BYTES;
const TERMINAL_CHUNK: usize = 16 << 10;
/// Longest first piece. Most commands say little, and the room for a piece is kept until it is sent.
const FIRST_CHUNK: usize = 4 << 10;
/// Silence after the exit that is taken for the end of output.
const QUIET: Duration = Duration::from_millis(100);
/// Longest wait for that silence, once what was there at the exit is delivered.
const SETTLE: Duration = Duration::from_secs(1);

/// Starts a pump. The receiver resolves when all output that belongs to the process is published.
pub fn start(
    name: &'static str,
    stream: Arc<Stream>,
    process: Arc<Process>,
) -> oneshot::Receiver<()> {
    let (settled, settling) = oneshot::channel();
    tokio::spawn(async move {
        let longest = if name == "pty" { TERMINAL_CHUNK } else { PIPE_CHUNK };
        let mut pump = Pump { name, stream, process, frame: room(FIRST_CHUNK), longest };
        let open = pump.deliver().await && pump.settle().await;
        // The supervisor waits for it unless the runtime is going away.
        let _ = settled.send(());
        let Pump { stream, process, .. } = pump;
        drop(process);
        if open {
            discard(&stream).await;
        }
    });
    settling
}

struct Pump {
    name: &'static str,
    stream: Arc<Stream>,
    process: Arc<Process>,
    /// The next piece, after the room for its head. It gets longer while pieces are full.
    frame: Vec<u8>,
    longest: usize,
}

impl Pump {
    /// Until the process exits. Whether the pipe is still open.
    async fn deliver(&mut self) -> bool {
        let mut exited = self.process.exited();
        loop {
            tokio::select! {
                biased;
                () = wait(&mut exited) => return true,
                read = self.stream.read(&mut self.frame) => {
                    if !self.publish(read).await {
                        return false;
                    }
                }
            }
        }
    }

    /// The output that was there at the exit, and all that follows until it is quiet. Whether the pipe is
    /// still open.
    async fn settle(&mut self) -> bool {
        let mut backlog = self.stream.backlog();
        let deadline = Instant::now() + SETTLE;
        while backlog > 0 || Instant::now() < deadline {
            let reading = self.stream.read(&mut self.frame);
            let Ok(read) = timeout(QUIET, reading).await else { return true };
            backlog = backlog.saturating_sub(*read.as_ref().unwrap_or(&0));
            if !self.publish(read).await {
                return false;
            }
        }
        true
    }

    /// Whether there may be more.
    async fn publish(&mut self, read: io::Result<usize>) -> bool {
        let Ok(length @ 1..) = read else { return false };
        let is_full = self.frame.len() == self.frame.capacity();
        let next = if is_full { length * 4 } else { length };
        let next = room(next.clamp(FIRST_CHUNK, self.longest));
        let output = Output::in_place(self.name, std::mem::replace(&mut self.frame, next));
        self.process.hub().publish(output).await;
        // A process that writes all the time must not keep the thread to itself.
        tokio::task::consume_budget().await;
        true
    }
}

/// An empty piece.
fn room(length: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + length);
    frame.resize(HEAD, 0);
    frame
}

async fn discard(stream: &Stream) {
    let mut bytes = Vec::with_capacity(TERMINAL_CHUNK);
    while let Ok(1..) = stream.read(&mut bytes).await {
        bytes.clear();
        tokio::task::consume_budget().await;
    }
}

async fn wait(exited: &mut watch::Receiver<bool>) {
    // The sender lives in the process, which the pump holds.
    let _ = exited.wait_for(|exited| *exited).await;
}
