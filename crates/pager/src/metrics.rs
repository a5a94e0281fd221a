//! Counters in a file that the host agent gave and reads at any time, also after the end of this
//! program. They are a mapping of that file, so counting is no call, and nothing is ever written
//! but these few bytes.
//!
//! Little-endian u64 each, by their places in [`Metric`]; from [`LATENCY`] on the histogram. Each
//! number is whole by itself, and they are of slightly different moments.

use std::{
    fs::File,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::{Error, Result};

/// The file has as many bytes, all zeros at first.
pub const BYTES: usize = 512;
/// The layout.
const VERSION: u64 = 1;

/// The first of the counts of faults by the time from their message to their end. The n-th counts
/// those that took less than 2^n microseconds and not less than half of that; the last all longer ones.
pub const LATENCY: usize = 32;
const BUCKETS: usize = 24;

#[derive(Clone, Copy, Debug)]
pub enum Metric {
    Version = 0,
    /// See [`State`].
    State = 1,
    /// Process id of the monitor.
    Peer = 2,
    Faults = 3,
    /// Bytes that were copied into the memory, those of a prefetch as well.
    CopiedBytes = 4,
    /// Pages of zeros that were put in place.
    ZeroPages = 5,
    /// Faults that had to be tried again.
    Retries = 6,
    /// Pages that the guest gave back, each time that it did.
    RemovedPages = 7,
    /// Events that are neither a fault nor of pages that are given back.
    OtherEvents = 8,
    /// Windows that were put in place before any fault in them: the hits of the prefetch.
    PrefetchHits = 9,
    /// Windows of the working set that had a fault before their turn came.
    PrefetchLate = 10,
    PrefetchedBytes = 11,
    /// Windows in the record of the working set.
    Recorded = 12,
    /// Faults in a window that had been filled before: given back, or raced for.
    Repeated = 13,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has connected.
    Waiting = 1,
    Serving = 2,
    /// The machine has ended, or the program by an error.
    Ended = 3,
}

pub struct Metrics(&'static [AtomicU64; BYTES / 8]);

impl Metrics {
    /// Of a file with [`BYTES`] bytes that can be written.
    pub fn open(descriptor: OwnedFd) -> Result<Self> {
        let file = File::from(descriptor);
        let metadata =
            file.metadata().map_err(|error| Error::of("cannot look at the metrics", error))?;
        if !metadata.is_file() || metadata.len() < BYTES as u64 {
            return Err(Error(format!("the metrics are no file of {BYTES} bytes")));
        }
        // SAFETY: a new mapping that is never unmapped. Its file is the host agent's, which
        // never makes it shorter; others may read it, and writes are atomic.
        let start = unsafe {
            let prot = ProtFlags::READ | ProtFlags::WRITE;
            mmap(std::ptr::null_mut(), BYTES, prot, MapFlags::SHARED, &file, 0)
        };
        let start = start.map_err(|error| Error::of("cannot map the metrics", error))?;
        // SAFETY: the mapping is as long, aligned to a page, and lives as long as the program.
        let metrics = Self(unsafe { &*start.cast() });
        metrics.set(Metric::Version, VERSION);
        Ok(metrics)
    }

    pub fn add(&self, metric: Metric, count: u64) {
        self.0[metric as usize].fetch_add(count, Ordering::Relaxed);
    }

    pub fn set(&self, metric: Metric, value: u64) {
        self.0[metric as usize].store(value, Ordering::Relaxed);
    }

    pub fn set_state(&self, state: State) {
        self.set(Metric::State, state as u64);
    }

    /// Counts a fault by its time.
    pub fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.0[LATENCY + bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }
}
