//! TCP connections that a guest was snapshotted with.
//!
//! Their peers are gone, or talk on with the machine that the snapshot was taken of. Nothing
//! answers them any more, so a program that reads from one would hang for as long as its
//! time-outs last. They are reset: the program sees an error and can connect anew.
//!
//! Seen are the connections of the caller's network namespace, whichever process holds them, and
//! of those that processes of the guest are in beside it.

mod ends;
mod message;
mod namespaces;
mod socket;

use std::collections::HashSet;
use std::io;

pub use ends::Ends;
use message::Entry;
use socket::Diagnostics;

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
