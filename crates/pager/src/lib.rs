//! `perch-pager`: serves the page faults of one restored virtual machine from the memfiles of a
//! snapshot, by userfaultfd.
//!
//! The monitor connects to a socket and hands over its userfaultfd with the regions of the
//! guest's memory, as Firecracker does ([`handoff`]). From then on one thread waits for faults
//! ([`server`]). For each it looks up in `memfile.header` whose bytes the pages around it are
//! ([`header`], [`chain`]), reads them, and puts them in place ([`window`], [`uffd`]).
//!
//! The monitor is not trusted: whatever it sends is checked and bounded, and taken behind a filter
//! of system calls ([`confinement`]). A fault that cannot be
//! served is an error that ends the program, since a guest that waits for ever looks like an idle
//! one. The host agent ends the machine then.

pub mod chain;
pub mod config;
pub mod confinement;
pub mod handoff;
pub mod header;
pub mod metrics;
pub mod page_set;
pub mod server;
pub mod uffd;
pub mod window;
pub mod working_set;

/// Bytes of a page, and of a block of the header.
pub const PAGE: usize = 4096;

/// The largest memory of a guest: 64 GiB, in pages.
pub const MAX_PAGES: u32 = 1 << 24;

/// Why the program ends other than by the end of its machine: one sentence.
#[derive(Debug)]
pub struct Error(String);

impl Error {
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// Of a failed call: what was done, and how the kernel answered.
    pub fn of(action: &str, cause: impl Into<std::io::Error>) -> Self {
        Self(format!("{action}: {}", cause.into()))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

pub type Result<T> = std::result::Result<T, Error>;
