//! Descriptors that never block, and say when they are ready.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::io::unix::AsyncFd;

pub fn nonblocking(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
    // SAFETY: `AsyncFd` owns the descriptor, which so stays open and itself until it has been
    // taken out of the runtime's poll set again. The safe constructor is deprecated for types
    // that could hand out another descriptor each time; an `OwnedFd` cannot.
    Ok(unsafe { AsyncFd::register(fd)? })
}
