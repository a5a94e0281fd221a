//! The hand-off of a monitor, as Firecracker makes it: one message on a unix stream socket, a
//! JSON array of regions, with the userfaultfd as `SCM_RIGHTS`. The monitor keeps the connection
//! open as long as it lives.

mod peer;
mod receive;
mod regions;

use std::{
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    time::{Duration, Instant},
};

pub use regions::{Region, Regions};

use crate::{
    Error, Result,
    metrics::{Metric, Metrics},
    uffd::Userfault,
};

/// How long a monitor may take until it connects, and then to hand over.
const CONNECTS: Duration = Duration::from_secs(60);
const HANDS_OVER: Duration = Duration::from_secs(10);

/// A monitor that has handed over.
pub struct Machine {
    pub uffd: Userfault,
    pub regions: Regions,
    /// Its other end is closed by the end of the monitor.
    pub connection: UnixStream,
}

/// Waits for the monitor. Whoever else connects is sent away.
///
/// @param pages of the memory
/// # Errors
/// When no monitor connects in time, or hands over anything else.
pub fn take(socket: &UnixListener, pages: u32, metrics: &Metrics) -> Result<Machine> {
    let until = Instant::now() + CONNECTS;
    socket.set_nonblocking(true).map_err(|error| Error::of("cannot set the socket up", error))?;
    let connection = loop {
        if !receive::wait(socket, until)? {
            return Err(Error(format!("no monitor connected in {} s", CONNECTS.as_secs())));
        }
        let connection = match socket.accept() {
            Ok((connection, _)) => connection,
            // It went again.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(Error::of("cannot accept the monitor", error)),
        };
        match peer::check(&connection) {
            Ok(process) => {
                metrics.set(Metric::Peer, process);
                break connection;
            }
            Err(error) => eprintln!("perch-pager: {error}"),
        }
    };
    let (descriptor, regions): (OwnedFd, Regions) =
        receive::message(&connection, Instant::now() + HANDS_OVER, pages)?;
    Ok(Machine { uffd: Userfault::new(descriptor)?, regions, connection })
}
