//! The root disk of a machine that is about to be put aside without its memory: all that programs have
//! written is on it, and its file system is clean.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::machine::Machine;

/// `_IOWR('X', 119, int)` and `_IOWR('X', 120, int)`, from include/uapi/linux/fs.h.
const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;
/// Whoever has it held stops the machine at once. If not, programs that write must not wait for ever.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct RootDisk {
    machine: Machine,
    /// How often it was held or let go of.
    changes: Arc<AtomicU64>,
}

impl RootDisk {
    pub fn new(machine: Machine) -> Self {
        Self { machine, changes: Arc::default() }
    }

    /// Writes out what is only in memory yet.
    pub async fn write_out(&self) -> io::Result<()> {
        self.owned()?;
        blocking(|| {
            rustix::fs::sync();
            Ok(())
        })
        .await
    }

    /// The same, and nothing is written from then on until it is let go of. Safe to repeat.
    pub async fn hold(&self) -> io::Result<()> {
        self.owned()?;
        let changes = Arc::clone(&self.changes);
        blocking(move || {
            // Also file systems that lie in files of this one.
            rustix::fs::sync();
            let held = changes.fetch_add(1, Ordering::SeqCst) + 1;
            // A thread of its own, and there before: a call that writes may hold the others up.
            thread::Builder::new().spawn(move || {
                thread::sleep(PATIENCE);
                if changes.load(Ordering::SeqCst) == held {
                    // Without a hold there is nothing to let go of.
                    let _ = thaw();
                }
            })?;
            match tell(FIFREEZE) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
                result => result,
            }
        })
        .await
    }

    /// Lets programs write again. Safe to repeat.
    pub async fn let_go(&self) -> io::Result<()> {
        self.owned()?;
        self.changes.fetch_add(1, Ordering::SeqCst);
        blocking(thaw).await
    }

    /// The disk of a process that is not the machine's first belongs to somebody else.
    fn owned(&self) -> io::Result<()> {
        match self.machine {
            Machine::Own => Ok(()),
            _ => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "the root disk is not this agent's"))
            }
        }
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn thaw() -> io::Result<()> {
    match tell(FITHAW) {
        // It is not held.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

fn tell(what: libc::c_ulong) -> io::Result<()> {
    let root = File::open("/")?;
    // SAFETY: no wrapper exists for these ioctls, which read and write no memory of ours.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), what as _, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_agent_that_is_not_the_machines_own_touches_no_disk() {
        let disk = RootDisk::new(Machine::Foreign);
        for result in [disk.write_out().await, disk.hold().await, disk.let_go().await] {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::Unsupported);
        }
    }
}
