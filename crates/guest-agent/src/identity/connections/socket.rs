//! A socket to the kernel's list of sockets.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::message::{self, Entry, Progress};

/// The kernel puts no more into one answer.
const ANSWER: usize = 32 << 10;

pub struct Diagnostics {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Diagnostics {
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; ANSWER] })
    }

    /// Opens one to another network namespace, which it stays in.
    pub fn open_in(namespace: &OwnedFd) -> io::Result<Self> {
        // A thread of its own, since it is the thread that moves.
        std::thread::scope(|scope| {
            let opener = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind)?;
                Self::open()
            });
            opener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Adds all connections of an address family to `entries`.
    pub fn list(&mut self, family: u8, entries: &mut Vec<Entry>) -> io::Result<()> {
        self.call(|sequence| message::list(family, sequence), entries)
    }

    pub fn destroy(&mut self, entry: &Entry) -> io::Result<()> {
        self.call(|sequence| message::destroy(entry, sequence), &mut Vec::new())
    }

    /// The kernel answers while it is being asked, so that no receive waits.
    fn call(
        &mut self,
        request: impl FnOnce(u32) -> Vec<u8>,
        entries: &mut Vec<Entry>,
    ) -> io::Result<()> {
        self.sequence += 1;
        send(&self.socket, &request(self.sequence), SendFlags::empty())?;
        loop {
            let (_, length) = recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC)?;
            let answer = self.buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            if length == 0 || message::parse(answer, self.sequence, entries)? == Progress::Done {
                return Ok(());
            }
        }
    }
}
