//! The one place that waits for children.
//!
//! As process 1 the agent inherits every orphan of the guest. A status goes to whoever registered
//! the pid, and is dropped otherwise. The table's lock is held from before the start until the pid
//! is registered, so that no child can be reaped before it is known.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::child::Child;
use super::exit::Exit;

type Waiters = HashMap<i32, oneshot::Sender<Exit>>;

#[derive(Default)]
pub struct Reaper {
    waiters: Mutex<Waiters>,
}

impl Reaper {
    /// Starts a child and registers it in one step. The receiver gets the status once it is reaped.
    pub fn start(
        &self,
        start: impl FnOnce() -> io::Result<Child>,
    ) -> io::Result<(Child, oneshot::Receiver<Exit>)> {
        let mut waiters = self.waiters();
        let child = start()?;
        let (sender, receiver) = oneshot::channel();
        waiters.insert(child.pid.as_raw_nonzero().get(), sender);
        Ok((child, receiver))
    }

    /// Collects every child that has ended.
    fn collect(&self) {
        let mut waiters = self.waiters();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let exit = match status.terminating_signal() {
                Some(signal) => Exit::Signal(signal),
                None => Exit::Code(status.exit_status().unwrap_or(-1)),
            };
            if let Some(waiter) = waiters.remove(&pid.as_raw_nonzero().get()) {
                // Nobody may be waiting any more.
                let _ = waiter.send(exit);
            }
        }
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Starts reaping, for as long as the runtime lives.
pub fn reap(reaper: Arc<Reaper>) -> io::Result<()> {
    let mut children = signal(SignalKind::child())?;
    tokio::spawn(async move {
        loop {
            reaper.collect();
            if children.recv().await.is_none() {
                return;
            }
        }
    });
    Ok(())
}
