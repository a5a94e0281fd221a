//! One message with one descriptor, in time.

use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg},
};

use super::regions::Regions;
use crate::{Error, Result};

/// Bytes of a message. A region takes some 120.
const MOST: usize = 16 << 10;

/// Whether there is something to read before `until`.
pub fn wait(on: &impl AsFd, until: Instant) -> Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(on, PollFlags::IN)], Some(&left)) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::of("cannot wait", error)),
        }
    }
}

/// The message may come in pieces; it ends where its array does.
pub fn message(connection: &UnixStream, until: Instant, pages: u32) -> Result<(OwnedFd, Regions)> {
    let mut bytes = [0; MOST];
    let mut length = 0;
    let mut descriptor = None;
    loop {
        if !wait(connection, until)? {
            return Err(Error::new("the monitor did not hand over in time"));
        }
        length += piece(connection, &mut bytes[length..], &mut descriptor)?;
        let parsed = Regions::parse(&bytes[..length], pages)?;
        match (parsed, descriptor) {
            (Some(regions), Some(descriptor)) => return Ok((descriptor, regions)),
            (Some(_), None) => return Err(Error::new("the hand-off has no descriptor")),
            (None, _) if length == MOST => {
                return Err(Error(format!("the hand-off has more than {MOST} bytes")));
            }
            (None, found) => descriptor = found,
        }
    }
}

fn piece(
    connection: &UnixStream,
    into: &mut [u8],
    descriptor: &mut Option<OwnedFd>,
) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(connection, &mut [IoSliceMut::new(into)], &mut control, flags)
        .map_err(|error| Error::of("cannot receive the hand-off", error))?;
    // Those that are one too many are closed with the vector.
    let mut found: Vec<OwnedFd> = descriptor.take().into_iter().collect();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            found.extend(descriptors);
        }
    }
    if found.len() > 1 || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Error::new("the hand-off has more than one descriptor"));
    }
    *descriptor = found.pop();
    if received.bytes == 0 {
        return Err(Error::new("the monitor went before it handed over"));
    }
    Ok(received.bytes)
}
