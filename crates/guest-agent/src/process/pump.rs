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
use super::stream::Stream;

/// Longest piece of output, `bytes`.
const PIPE_CHUNK: usize = 64 << 10;
const TERMINAL_CHUNK: usize = 16 << 10;
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
        let chunk = if name == "pty" { TERMINAL_CHUNK } else { PIPE_CHUNK };
        let mut buffer = vec![0; chunk].into_boxed_slice();
        let pump = Pump { name, stream, process };
        let open = pump.deliver(&mut buffer).await && pump.settle(&mut buffer).await;
        // The supervisor waits for it unless the runtime is going away.
        let _ = settled.send(());
        let Pump { stream, process, .. } = pump;
        drop(process);
        if open {
            discard(&stream, &mut buffer).await;
        }
    });
    settling
}

struct Pump {
    name: &'static str,
    stream: Arc<Stream>,
    process: Arc<Process>,
}

impl Pump {
    /// Until the process exits. Whether the pipe is still open.
    async fn deliver(&self, buffer: &mut [u8]) -> bool {
        let mut exited = self.process.exited();
        loop {
            tokio::select! {
                biased;
                () = wait(&mut exited) => return true,
                read = self.stream.read(buffer) => {
                    if !self.publish(read, buffer).await {
                        return false;
                    }
                }
            }
        }
    }

    /// The output that was there at the exit, and all that follows until it is quiet. Whether the pipe is
    /// still open.
    async fn settle(&self, buffer: &mut [u8]) -> bool {
        let mut backlog = self.stream.backlog();
        let deadline = Instant::now() + SETTLE;
        while backlog > 0 || Instant::now() < deadline {
            let Ok(read) = timeout(QUIET, self.stream.read(buffer)).await else { return true };
            backlog = backlog.saturating_sub(*read.as_ref().unwrap_or(&0));
            if !self.publish(read, buffer).await {
                return false;
            }
        }
        true
    }

    /// Whether there may be more.
    async fn publish(&self, read: io::Result<usize>, buffer: &[u8]) -> bool {
        let Ok(count @ 1..) = read else { return false };
        self.process.hub().publish(self.name, &buffer[..count]).await;
        // A process that writes all the time must not keep the thread to itself.
        tokio::task::consume_budget().await;
        true
    }
}

async fn discard(stream: &Stream, buffer: &mut [u8]) {
    while let Ok(1..) = stream.read(buffer).await {
        tokio::task::consume_budget().await;
    }
}

async fn wait(exited: &mut watch::Receiver<bool>) {
    // The sender lives in the process, which the pump holds.
    let _ = exited.wait_for(|exited| *exited).await;
}
