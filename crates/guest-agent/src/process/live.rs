//! A process that has been started.

use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::watch;

use super::brief::Brief;
use super::cgroup::Group;
use super::hub::Hub;
use super::input::{Input, ended};
use super::messages::ProcessConfig;
use super::stream::Stream;
use crate::rpc::ConnectError;

pub struct Process {
    pid: Pid,
    pub config: ProcessConfig,
    pub brief: Arc<Brief>,
    pub tag: Option<String>,
    pub input: Input,
    /// The terminal, to resize it; its input may be busy.
    pub terminal: Option<Arc<Stream>>,
    hub: Arc<Hub>,
    group: Option<Group>,
    exited: watch::Sender<bool>,
}

impl Process {
    pub fn new(
        pid: Pid,
        config: ProcessConfig,
        tag: Option<String>,
        input: Input,
        terminal: Option<Arc<Stream>>,
        group: Option<Group>,
        hub: Arc<Hub>,
    ) -> Self {
        let exited = watch::Sender::new(false);
        let brief = Arc::new(Brief::new(&config));
        Self { pid, config, brief, tag, input, terminal, hub, group, exited }
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub fn exited(&self) -> watch::Receiver<bool> {
        self.exited.subscribe()
    }

    pub fn has_exited(&self) -> bool {
        *self.exited.borrow()
    }

    /// Says that the process has been reaped: from now on its pid may be somebody else's.
    pub fn set_exited(&self) {
        self.exited.send_replace(true);
        self.input.abandon();
    }

    /// Whether the kernel killed something of it for want of memory.
    pub fn ran_out_of_memory(&self) -> bool {
        self.group.as_ref().is_some_and(Group::ran_out_of_memory)
    }

    /// To the whole process group; SIGKILL also to what has left it.
    pub fn signal(&self, signal: Signal) -> Result<(), ConnectError> {
        if self.has_exited() {
            return Err(ended());
        }
        if signal == Signal::KILL {
            if let Some(group) = &self.group {
                // Without it the kill below still reaches all that did not hide.
                let _ = group.kill();
            }
        }
        match kill_process_group(self.pid, signal) {
            // Dead, and reaped in a moment.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(ConnectError::from_io("signal", &error.into())),
        }
    }

    pub fn kill(&self) {
        // The error is a process that is gone already.
        let _ = self.signal(Signal::KILL);
    }
}
