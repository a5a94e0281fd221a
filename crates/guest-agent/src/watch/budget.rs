//! The directories that all watches together may hold: each costs memory of the kernel and of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub const MAX_DIRECTORIES: usize = 32_768;

/// The part of one watch, which it gives back when it goes.
pub struct Budget {
    all: Arc<AtomicUsize>,
    taken: usize,
}

impl Budget {
    pub fn new(all: Arc<AtomicUsize>) -> Self {
        Self { all, taken: 0 }
    }

    /// Whether there was room for one more.
    #[must_use]
    pub fn take(&mut self) -> bool {
        let more = |all| (all < MAX_DIRECTORIES).then_some(all + 1);
        let taken = self.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        self.taken += usize::from(taken);
        taken
    }

    pub fn give_back(&mut self, count: usize) {
        self.all.fetch_sub(count, Ordering::Relaxed);
        self.taken -= count;
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.give_back(self.taken);
    }
}
