//! Our end of a pipe or terminal.

use std::io;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::termios::tcsetwinsize;
use tokio::io::unix::AsyncFd;

use super::size::Size;
use crate::descriptor::nonblocking;

/// It never blocks.
pub struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(nonblocking(fd)?))
    }

    /// Appends what is there, as far as there is room, and returns how much: 0 at the end. A terminal's end is an error
    /// of its own. Nothing is lost when cancelled.
    pub async fn read(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd, spare_capacity(into))?));
            match read {
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    return Ok(0);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => bytes = &bytes[written?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Bytes that could be read at once.
    pub fn backlog(&self) -> usize {
        rustix::io::ioctl_fionread(self.0.get_ref()).map_or(0, |count| count as usize)
    }

    pub fn resize(&self, size: Size) -> io::Result<()> {
        Ok(tcsetwinsize(self.0.get_ref(), size.into())?)
    }
}
