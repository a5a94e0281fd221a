//! TCP connections that a guest was snapshotted with.
//!
//! Their peers are gone, or talk on with the machine that the snapshot was taken of. Nothing
//! answers them any more, so a program that reads from one would hang for as long as its
//! time-outs last. They are reset: the program sees an error and can connect anew.
//!
//! Seen are the connections of the caller's network namespace, whichever process holds them, and
//! of those that processes of the guest are in beside it.

mod message;
mod namespaces;
mod socket;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;

use message::Entry;
use socket::Diagnostics;

/// The two ends of a connection, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    /// The same connection, seen from its other end.
    fn reversed(self) -> Self {
        Self { local: self.remote, remote: self.local }
    }

    /// Both ends are in this guest, and were restored together: of `all` connections one is the
    /// other end of this one, or the address says so.
    fn is_internal(&self, all: &HashSet<Self>) -> bool {
        self.remote.ip().is_loopback()
            || self.remote.ip() == self.local.ip()
            || all.contains(&self.reversed())
    }
}

/// Whose connections are reset.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of the caller's network namespace.
    Network,
    /// Those of all processes.
    Machine,
}

/// Resets every TCP connection that leads out of the machine, `kept` excepted.
///
/// All are listed before the first one is reset: a program that connects anew at once must not
/// lose its new connection too. The list is small beside what the kernel holds for each entry.
pub fn reset(scope: Scope, kept: Option<Ends>) -> io::Result<()> {
    let mut networks = vec![Diagnostics::open()?];
    if scope == Scope::Machine {
        for namespace in namespaces::others()? {
            networks.push(Diagnostics::open_in(&namespace)?);
        }
    }
    let mut entries = Vec::with_capacity(networks.len());
    for network in &mut networks {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            network.list(family as u8, &mut found)?;
        }
        entries.push(found);
    }
    let all = entries.iter().flatten().map(Entry::ends).collect();
    for (network, entries) in networks.iter_mut().zip(&entries) {
        for entry in entries.iter().filter(|entry| is_stale(entry, &all, kept)) {
            match network.destroy(entry) {
                // It ended by itself in the meantime.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => {
                }
                result => result?,
            }
        }
    }
    Ok(())
}

fn is_stale(entry: &Entry, all: &HashSet<Ends>, kept: Option<Ends>) -> bool {
    let ends = entry.ends();
    !entry.is_abandoned() && !ends.is_internal(all) && kept != Some(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(local: &str, remote: &str) -> Ends {
        Ends::new(local.parse().unwrap(), remote.parse().unwrap())
    }

    #[test]
    fn internal_is_what_has_both_ends_in_the_guest() {
        let internal = |local, remote| ends(local, remote).is_internal(&HashSet::new());
        assert!(internal("127.0.0.1:1", "127.0.0.2:2"));
        assert!(internal("[::1]:1", "[::1]:2"));
        assert!(internal("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:2"));
        assert!(internal("169.254.0.21:1", "169.254.0.21:2"));
        assert!(!internal("169.254.0.21:1", "169.254.0.22:2"));
        assert!(!internal("[::ffff:169.254.0.21]:1", "[::ffff:10.0.0.1]:2"));
    }

    #[test]
    fn internal_is_what_another_network_of_the_guest_has_the_other_end_of() {
        let container = ends("172.17.0.2:80", "172.17.0.1:5000");
        let all = HashSet::from([container, ends("[::ffff:172.17.0.1]:5000", "172.17.0.2:80")]);
        assert!(container.is_internal(&all));
        assert!(!ends("172.17.0.2:80", "172.17.0.1:5001").is_internal(&all));
        assert!(!container.is_internal(&HashSet::from([container])));
    }

    #[test]
    fn both_ways_to_write_an_address_are_one_connection() {
        let mapped = ends("[::ffff:169.254.0.21]:1", "[::ffff:10.0.0.1]:2");
        assert_eq!(mapped, ends("169.254.0.21:1", "10.0.0.1:2"));
    }
}
