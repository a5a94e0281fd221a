//! Who is at the other end of a connection.

use std::os::{fd::AsRawFd, unix::net::UnixStream};

use crate::{Error, Result};

/// The process of the monitor. This program has the user of its machine, which no other has.
///
/// # Errors
/// When the peer is another user, or in a place from where it cannot be told.
pub fn check(connection: &UnixStream) -> Result<u64> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: `peer` is what SO_PEERCRED writes, and `length` its size.
    let result = unsafe {
        let value = (&raw mut peer).cast();
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            value,
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(Error::of("cannot tell the peer", std::io::Error::last_os_error()));
    }
    judge(&peer, rustix::process::geteuid().as_raw())
}

fn judge(peer: &libc::ucred, own: libc::uid_t) -> Result<u64> {
    if peer.uid != own {
        return Err(Error(format!("user {} connected, who is not the machine's", peer.uid)));
    }
    // Seen from inside of a pid namespace, a process outside of it is 0.
    match u64::try_from(peer.pid) {
        Ok(process) if process > 0 => Ok(process),
        _ => Err(Error::new("the peer is in no pid namespace that this program sees")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_a_process_of_the_same_user() {
        let judge = |pid, uid| judge(&libc::ucred { pid, uid, gid: 5 }, 1000).ok();
        assert_eq!(judge(7, 1000), Some(7));
        assert_eq!(judge(7, 1001), None);
        assert_eq!(judge(7, 0), None);
        assert_eq!(judge(0, 1000), None);
    }
}
