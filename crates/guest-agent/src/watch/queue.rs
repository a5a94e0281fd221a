//! One inotify(7) instance.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::descriptor::nonblocking;

/// Room for one read, `bytes`; for about a hundred events.
const READ: usize = 4096;

/// Number of a watched directory in one instance.
pub type Number = i32;

/// An event of the kernel.
pub struct Raw {
    pub directory: Number,
    pub flags: ReadFlags,
    /// The same in both events of a rename.
    pub cookie: u32,
    /// Of the file in the directory; `None` when the event is about the directory itself.
    pub name: Option<OsString>,
}

/// Both sides of one share it: the one that waits and the one that reads.
#[derive(Clone)]
pub struct Queue(Arc<AsyncFd<OwnedFd>>);

impl Queue {
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self(Arc::new(nonblocking(fd)?)))
    }

    /// Returns when there may be events, once for each time that the kernel says so.
    pub async fn ready(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }

    /// A directory and nothing else. The same one has the same number, by whatever path.
    pub fn add(&self, path: &Path, follow_link: bool) -> io::Result<Number> {
        let mut flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::EXCL_UNLINK
            | WatchFlags::ONLYDIR;
        flags.set(WatchFlags::DONT_FOLLOW, !follow_link);
        Ok(inotify::add_watch(self.0.get_ref(), path, flags)?)
    }

    pub fn remove(&self, directory: Number) {
        // The directory may be gone, and its watch with it.
        let _ = inotify::remove_watch(self.0.get_ref(), directory);
    }

    /// What one read gives; `None` when there is nothing.
    pub fn read(&self) -> io::Result<Option<Vec<Raw>>> {
        let mut buffer = [MaybeUninit::uninit(); READ];
        let mut reader = inotify::Reader::new(self.0.get_ref(), &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => events.push(Raw {
                    directory: event.wd(),
                    flags: event.events(),
                    cookie: event.cookie(),
                    name: event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).into()),
                }),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if reader.is_buffer_empty() {
                return Ok(Some(events));
            }
        }
    }
}
