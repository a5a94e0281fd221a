use std::collections::HashSet;
use std::net::SocketAddr;

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
    pub fn is_internal(&self, all: &HashSet<Self>) -> bool {
        self.remote.ip().is_loopback()
            || self.remote.ip() == self.local.ip()
            || all.contains(&self.reversed())
    }
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
