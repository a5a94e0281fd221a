//! The guest's network: the same addresses in every slot, so that a snapshot fits all of them.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::report::{report, step};
use crate::identity::write_if_changed;

const INTERFACE: &str = "eth0";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 21);
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 252);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 22);
const RESOLVER_FILE: &str = "/etc/resolv.conf";

pub fn configure() {
    // In place of the link to a resolver's own file that many images have.
    let resolver = format!("nameserver {GATEWAY}\n");
    step(RESOLVER_FILE, write_if_changed(Path::new(RESOLVER_FILE), &resolver, 0o644));
    match Control::open() {
        Ok(control) => {
            step("lo", control.up("lo"));
            step(INTERFACE, control.join());
        }
        Err(error) => report("network", error),
    }
}

/// A socket, through which interfaces are configured.
struct Control(OwnedFd);

impl Control {
    fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        Ok(Self(socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?))
    }

    fn join(&self) -> io::Result<()> {
        self.set(libc::SIOCSIFADDR, ADDRESS)?;
        self.set(libc::SIOCSIFNETMASK, NETMASK)?;
        self.up(INTERFACE)?;
        self.route_everything()
    }

    fn up(&self, interface: &str) -> io::Result<()> {
        let mut request = request(interface);
        self.call(libc::SIOCGIFFLAGS, &raw mut request)?;
        // SAFETY: the call above filled this member of the union in.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
        self.call(libc::SIOCSIFFLAGS, &raw mut request)
    }

    fn set(&self, what: libc::Ioctl, address: Ipv4Addr) -> io::Result<()> {
        let mut request = request(INTERFACE);
        request.ifr_ifru.ifru_addr = socket_address(address);
        self.call(what, &raw mut request)
    }

    fn route_everything(&self) -> io::Result<()> {
        // SAFETY: a route entry is plain data, and zero is "any" or "none" for all of it.
        let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
        route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = socket_address(GATEWAY);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        match self.call(libc::SIOCADDRT, &raw mut route) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            result => result,
        }
    }

    fn call<T>(&self, what: libc::Ioctl, request: *mut T) -> io::Result<()> {
        // SAFETY: no wrapper exists for these ioctls. Every caller passes a live local of the
        // type that `what` takes; the kernel keeps no pointer.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), what as _, request) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn request(interface: &str) -> libc::ifreq {
    // SAFETY: an interface request is plain data, for which all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    // After two bytes of port.
    for (to, from) in data[2..].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_after_the_port() {
        let address = socket_address(ADDRESS);
        assert_eq!(address.sa_data[..6], [0, 0, -87, -2, 0, 21]);
    }
}
