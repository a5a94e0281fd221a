//! TCP connections that a guest was snapshotted with.
//!
//! Their peers are gone, or talk on with the machine that the snapshot was taken of. Nothing
//! answers them any more, so a program that reads from one would hang for as long as its
//! time-outs last. They are reset: the program sees an error and can connect anew.
//!
//! Seen are the connections of the caller's network namespace, whichever process holds them. That
//! is all of the guest's way out: its kernel comes without the devices that would lead there from
//! another namespace.

mod message;
mod socket;

use std::io;
use std::net::SocketAddr;

use message::Entry;
use socket::Diagnostics;

/// The two ends of a connection, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

impl Ends {
    /// A socket for both kinds of addresses writes one of IPv4 in the form of IPv6.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Self { local: plain(local), remote: plain(remote) }
    }

    /// Both ends are in this guest, and were restored together.
    fn is_internal(&self) -> bool {
        self.remote.ip().is_loopback() || self.remote.ip() == self.local.ip()
    }
}

/// Resets every TCP connection that leads out of the machine, `kept` excepted.
///
/// All are listed before the first one is reset: a program that connects anew at once must not
/// lose its new connection too. The list is small beside what the kernel holds for each entry.
pub fn reset(kept: Option<Ends>) -> io::Result<()> {
    let mut diagnostics = Diagnostics::open()?;
    let mut stale = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        diagnostics.list(family as u8, &mut stale)?;
    }
    stale.retain(|entry| is_stale(entry, kept));
    for entry in &stale {
        match diagnostics.destroy(entry) {
            // It ended by itself in the meantime.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => {}
            result => result?,
        }
    }
    Ok(())
}

fn is_stale(entry: &Entry, kept: Option<Ends>) -> bool {
    let ends = entry.ends();
    !entry.is_abandoned() && !ends.is_internal() && kept != Some(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(local: &str, remote: &str) -> Ends {
        Ends::new(local.parse().unwrap(), remote.parse().unwrap())
    }

    #[test]
    fn internal_is_what_has_both_ends_in_the_guest() {
        assert!(ends("127.0.0.1:1", "127.0.0.2:2").is_internal());
        assert!(ends("[::1]:1", "[::1]:2").is_internal());
        assert!(ends("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:2").is_internal());
        assert!(ends("169.254.0.21:1", "169.254.0.21:2").is_internal());
        assert!(!ends("169.254.0.21:1", "169.254.0.22:2").is_internal());
        assert!(!ends("[::ffff:169.254.0.21]:1", "[::ffff:10.0.0.1]:2").is_internal());
    }

    #[test]
    fn both_ways_to_write_an_address_are_one_connection() {
        let mapped = ends("[::ffff:169.254.0.21]:1", "[::ffff:10.0.0.1]:2");
        assert_eq!(mapped, ends("169.254.0.21:1", "10.0.0.1:2"));
    }
}
