//! The userfaultfd of another process.

pub mod abi;
mod message;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    fs::OFlags,
    io::Errno,
    ioctl::{Updater, ioctl},
};

use crate::{Error, PAGE, Result};
pub use message::Message;

/// Messages that are read at once.
const MESSAGES: usize = 16;

/// How far a range was dealt with. Pages that were there already, or whose addresses are not
/// served any more, count as dealt with.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it, with the number of pages that were put in place just now.
    Done { placed: usize },
    /// Not all of it: an event is to be read first, or its process has still to go on.
    Again { placed: usize },
    /// The process has ended.
    Gone,
}

impl Outcome {
    /// Pages that were put in place just now.
    pub fn placed(&self) -> usize {
        match self {
            Self::Done { placed } | Self::Again { placed } => *placed,
            Self::Gone => 0,
        }
    }
}

pub struct Userfault(OwnedFd);

impl Userfault {
    /// # Errors
    /// When the descriptor is anything else.
    pub fn new(descriptor: OwnedFd) -> Result<Self> {
        // Before the first call: the same number may mean something else to another device.
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&descriptor));
        let name = std::fs::read_link(link)
            .map_err(|error| Error::of("cannot tell a descriptor", error))?;
        if name.as_os_str() != "anon_inode:[userfaultfd]" {
            return Err(Error(format!(
                "the descriptor is no userfaultfd but {:.100}",
                name.display().to_string()
            )));
        }
        let made = rustix::fs::fcntl_getfl(&descriptor)
            .and_then(|flags| rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK));
        made.map_err(|error| Error::of("cannot set the userfaultfd up", error))?;
        Ok(Self(descriptor))
    }

    /// Gives messages to `take`, as many as there are and not more than are read at once.
    pub fn read(&self, mut take: impl FnMut(Message)) -> Result<()> {
        let mut bytes = [0; MESSAGES * abi::MESSAGE];
        match rustix::io::read(&self.0, &mut bytes) {
            Ok(length) => {
                for message in bytes[..length].chunks_exact(abi::MESSAGE) {
                    take(Message::parse(message));
                }
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(Error::of("cannot read faults", error)),
        }
    }

    /// Puts a copy of `bytes`, whole pages, at `address` and wakes who waits there.
    pub fn copy(&self, address: u64, bytes: &[u8]) -> Result<Outcome> {
        place(bytes.len(), |at, length| {
            let (dst, src) = (address + at as u64, bytes[at..at + length].as_ptr() as u64);
            let mut copy = abi::Copy { dst, src, len: length as u64, mode: 0, copy: 0 };
            // SAFETY: the struct is that of the call, and the kernel reads `length` bytes of
            // `bytes`. It writes into the other process only.
            let result =
                unsafe { ioctl(&self.0, Updater::<{ abi::UFFDIO_COPY }, _>::new(&mut copy)) };
            (result, copy.copy)
        })
    }

    /// Makes `length` bytes at `address` zeros, without memory of their own, and wakes who waits there.
    pub fn zero(&self, address: u64, length: usize) -> Result<Outcome> {
        place(length, |at, length| {
            let range = abi::Range { start: address + at as u64, len: length as u64 };
            let mut zero = abi::ZeroPage { range, mode: 0, zeropage: 0 };
            // SAFETY: the struct is that of the call. It writes into the other process only.
            let result =
                unsafe { ioctl(&self.0, Updater::<{ abi::UFFDIO_ZEROPAGE }, _>::new(&mut zero)) };
            (result, zero.zeropage)
        })
    }

    /// Has who waits for the page try again.
    pub fn wake(&self, address: u64) -> Result<()> {
        let mut range = abi::Range { start: address, len: PAGE as u64 };
        // SAFETY: the struct is that of the call, which changes no memory.
        let result = unsafe { ioctl(&self.0, Updater::<{ abi::UFFDIO_WAKE }, _>::new(&mut range)) };
        result.map_err(|error| Error::of("cannot wake a thread", error))
    }
}

impl AsFd for Userfault {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Repeats `call` until each page of the range is there.
///
/// @param call deals with `length` bytes from `at` on. Its answer is that of the kernel, and the
/// bytes that were placed before it stopped.
fn place(
    length: usize,
    mut call: impl FnMut(usize, usize) -> (rustix::io::Result<()>, i64),
) -> Result<Outcome> {
    let (mut at, mut placed) = (0, 0);
    // Bytes that are asked for at once.
    let mut most = length;
    while at < length {
        let asked = most.min(length - at);
        let (result, answer) = call(at, asked);
        let done = usize::try_from(answer).unwrap_or(0).min(asked);
        (at, placed) = (at + done, placed + done / PAGE);
        match result {
            Ok(()) => {}
            // It was stopped in the middle. The next call says why.
            Err(Errno::AGAIN) if done > 0 => {}
            Err(Errno::EXIST) => at += PAGE,
            // The range may reach over two areas of memory, or beyond what is served.
            Err(Errno::NOENT) if asked > PAGE => most = PAGE,
            Err(Errno::NOENT) => at += PAGE,
            // No memory now: the kernel ends a process for it, or there is some again.
            Err(Errno::AGAIN | Errno::NOMEM) => return Ok(Outcome::Again { placed }),
            Err(Errno::SRCH) => return Ok(Outcome::Gone),
            Err(error) => return Err(Error::of("cannot place a page", error)),
        }
    }
    Ok(Outcome::Done { placed })
}
