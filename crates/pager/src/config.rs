//! What the host agent gives: a JSON object on standard input, with the numbers of descriptors
//! that the program inherits. So nothing stands in arguments or environment, and no path is opened.
//!
//! ```json
//! {
//!   "header": 3,
//!   "memfiles": { "0123456789abcdef0123456789abcdef": 4 },
//!   "socket": 5,
//!   "metrics": 6,
//!   "window_kib": 64,
//!   "record": 7,
//!   "prefetch": { "from": 8, "limit_mib": 256 }
//! }
//! ```

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::Read,
    os::{
        fd::{FromRawFd, OwnedFd, RawFd},
        unix::net::UnixListener,
    },
};

use rustix::{fs::OFlags, io::Errno};
use serde::Deserialize;

use crate::{
    Error, PAGE, Result,
    chain::Chain,
    header::Header,
    metrics::Metrics,
    server::Options,
    working_set::{Plan, Recorder},
};

/// Most bytes of it: a chain of the most builds takes 200 KiB.
const MOST: u64 = 256 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `memfile.header`, read only.
    header: RawFd,
    /// The memfile of each build that the header names by its id, read only.
    memfiles: HashMap<String, RawFd>,
    /// A unix stream socket that listens.
    socket: RawFd,
    /// A file that can be written, see [`crate::metrics`].
    metrics: RawFd,
    /// How much is put in place around a fault: a power of two from 4 to 256.
    #[serde(default = "default_window")]
    window_kib: u32,
    /// An empty file that can be written: it gets the working set of this restore.
    record: Option<RawFd>,
    prefetch: Option<Prefetch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prefetch {
    /// A working set that an earlier restore recorded, read only.
    from: RawFd,
    /// The most that is put in place ahead.
    limit_mib: u32,
}

/// What a pager works with.
pub struct Parts {
    pub chain: Chain,
    pub socket: UnixListener,
    pub metrics: Metrics,
    pub options: Options,
}

fn default_window() -> u32 {
    64
}

impl Config {
    pub fn read(from: impl Read) -> Result<Self> {
        let mut bytes = Vec::new();
        from.take(MOST + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::of("cannot read the configuration", error))?;
        if bytes.len() as u64 > MOST {
            return Err(Error(format!("the configuration has more than {MOST} bytes")));
        }
        let config: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error(format!("the configuration is wrong: {error}")))?;
        if !config.window_kib.is_power_of_two() || !(4..=256).contains(&config.window_kib) {
            return Err(Error(format!(
                "the window has {} KiB, not a power of two from 4 to 256",
                config.window_kib
            )));
        }
        Ok(config)
    }

    /// Takes the descriptors, which nobody else of this process uses from then on.
    pub fn open(self) -> Result<Parts> {
        let mut taken = Taken::default();
        let header = Header::open(taken.readable(self.header)?)?;
        let mut memfiles = HashMap::new();
        for (build, descriptor) in self.memfiles {
            let id = (build.len() == 32).then(|| u128::from_str_radix(&build, 16).ok()).flatten();
            let id = id.ok_or_else(|| Error(format!("{build:.40} is no build id")))?;
            memfiles.insert(id.to_be_bytes(), taken.readable(descriptor)?);
        }
        let chain = Chain::new(header, memfiles)?;
        let socket = UnixListener::from(taken.one(self.socket)?);
        let metrics = Metrics::open(taken.one(self.metrics)?)?;
        let window_pages = self.window_kib * 1024 / PAGE as u32;
        let mut options = Options { window_pages, ..Options::default() };
        if let Some(descriptor) = self.record {
            options.recorder = Some(Recorder::new(File::from(taken.one(descriptor)?))?);
        }
        if let Some(Prefetch { from, limit_mib }) = self.prefetch {
            let file = taken.readable(from)?;
            options.plan =
                Plan::read(&file, chain.pages(), window_pages, u64::from(limit_mib) << 20)?;
        }
        Ok(Parts { chain, socket, metrics, options })
    }
}

#[derive(Default)]
struct Taken(HashSet<RawFd>);

impl Taken {
    fn readable(&mut self, descriptor: RawFd) -> Result<File> {
        let owned = self.one(descriptor)?;
        let flags = rustix::fs::fcntl_getfl(&owned)
            .map_err(|error| Error::of("cannot look at a file", error))?;
        if flags & OFlags::ACCMODE != OFlags::RDONLY {
            return Err(Error(format!("descriptor {descriptor} can be written to")));
        }
        Ok(File::from(owned))
    }

    fn one(&mut self, descriptor: RawFd) -> Result<OwnedFd> {
        // SAFETY: F_GETFD of any number is harmless.
        let is_open = unsafe { libc::fcntl(descriptor, libc::F_GETFD) } >= 0;
        if descriptor < 3 || !is_open || !self.0.insert(descriptor) {
            return Err(Error::of(&format!("descriptor {descriptor}"), Errno::BADF));
        }
        // SAFETY: it is open, is none of the standard ones, and was taken by nobody: the program
        // has opened nothing before it reads its configuration.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}
